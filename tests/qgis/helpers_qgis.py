"""A scene made by the engine, a deployed plugin, and runs of qgis_process for the QGIS tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from osgeo import gdal, osr
from qgis.core import QgsProcessingFeedback

ROOT = Path(__file__).resolve().parents[2]
#: Proxies behind which there is nothing, for whatever asks the network all the same.
OFFLINE = dict.fromkeys(("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY"), "http://127.0.0.1:9")
S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
#: Run by the engine: models of random weights, with the helper of the engine's own tests.
MODELS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from helpers_models import write_random_model
folder = Path(sys.argv[1])
write_random_model(folder / "models")
write_random_model(folder / "more", "aux", auxiliary=True)
"""


def make_scene(folder: Path, python: str) -> Path:
    """Writes ``models`` (tiny), ``more`` (aux) and the series; ``undated`` is S2 without dates in names."""
    command = [python, "-I", "-c", MODELS, str(folder), str(ROOT / "tests")]
    subprocess.run(command, check=True, timeout=300)
    write_series(folder / "S2", 4, S2_BANDS)
    write_series(folder / "S1", 3, ("VV", "VH"))
    write_series(folder / "big", 6, S2_BANDS, 600, 600)
    write_series(folder / "mid", 3, S2_BANDS, 256, 256)
    (folder / "undated").mkdir()
    for number, path in enumerate(sorted((folder / "S2").glob("*.tif"))):
        shutil.copy(path, folder / "undated" / f"image {'abcdef'[number]}.tif")
    return folder


def write_series(
    folder: Path,
    count: int,
    bands: tuple[str, ...],
    width: int = 48,
    height: int = 40,
    epsg: int = 32631,
    transform: tuple[float, ...] = (500000, 10, 0, 5600000, 0, -10),
) -> None:
    """``S2_20180105.tif`` …, ten days apart, described bands, nodata 0 in the corner."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    grid = osr.SpatialReference()
    grid.ImportFromEPSG(epsg)
    for number in range(count):
        day = date(2018, 1, 5) + timedelta(days=10 * number)
        values = 0.2 + 0.05 * rng.standard_normal((len(bands), height, width))
        values += 0.1 * np.sin(np.arange(width) / 5 + number)
        values[:, :3, :3] = 0
        optical = len(bands) > 2
        kind, values = (gdal.GDT_UInt16, values.clip(0) * 10000) if optical else (gdal.GDT_Float32, values.clip(0))
        mission = "S2" if optical else "S1"
        path = str(folder / f"{mission}_{day:%Y%m%d}.tif")
        target = gdal.GetDriverByName("GTiff").Create(path, width, height, len(bands), kind)
        target.SetGeoTransform(transform)
        target.SetProjection(grid.ExportToWkt())
        for index, band in enumerate(bands):
            raster = target.GetRasterBand(index + 1)
            raster.SetDescription(band)
            raster.SetNoDataValue(0)
            raster.WriteRaster(0, 0, width, height, values[index].astype("u2" if optical else "f4").tobytes())
        target.FlushCache()
        del target, raster


def deploy(folder: Path) -> Path:
    """A profile whose plugin folder holds the plugin as it is shipped."""
    target = folder / "profiles" / "default" / "python" / "plugins" / "malice_qgis"
    shutil.copytree(ROOT / "malice_qgis", target, ignore=shutil.ignore_patterns("__pycache__", "ruff.toml"))
    shutil.copy(ROOT / "metadata.txt", target)
    settings = folder / "profiles" / "default" / "QGIS" / "QGIS3.ini"
    settings.parent.mkdir(parents=True)
    settings.write_text("[PythonPlugins]\nmalice_qgis=true\n", encoding="utf-8")
    return folder


def untouched(profile: Path, settings: str) -> Shell:
    """``qgis_process`` in a new profile with these settings, and with data of its own; it is told of no engine."""
    target = profile / "profiles" / "default" / "QGIS" / "QGIS3.ini"
    target.parent.mkdir(parents=True)
    target.write_text(settings, encoding="utf-8")
    shell = Shell(profile, {"XDG_DATA_HOME": str(profile / "data")})
    for name in ("MALICE_ENGINE_PYTHON", "MALICE_MODELS"):
        shell.environment.pop(name, None)
    return shell


class Shell:
    """``qgis_process`` in an isolated profile."""

    def __init__(self, profile: Path, environment: dict[str, str]) -> None:
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("VIRTUAL_ENV")},
            # QGIS' embedded Python is the one that python3 on the path belongs to.
            "PATH": os.pathsep.join(["/usr/bin", os.environ.get("PATH", "")]),
            "QT_QPA_PLATFORM": "offscreen",
            "QGIS_CUSTOM_CONFIG_PATH": str(profile),
            # QGIS keeps statistics of layers it opens beside them; the images of tests stay as they are.
            "GDAL_PAM_ENABLED": "NO",
            **environment,
        }

    def start(self, *arguments: object, stdin: int = subprocess.DEVNULL, **extra: str) -> subprocess.Popen[str]:
        """Starts qgis_process and returns it."""
        # The wrapper of Debian 12 always fails (its defaults hold options of the desktop); the binary works.
        program = shutil.which("qgis_process.bin") or "qgis_process"
        return subprocess.Popen(
            [program, *map(str, arguments)],
            env={**self.environment, **extra},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: object, **extra: str) -> subprocess.CompletedProcess[str]:
        """Runs qgis_process to its end."""
        process = self.start(*arguments, **extra)
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def json(self, inputs: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        """Runs ``malice:embed`` with parameters as json on stdin (QGIS 3.24 and later)."""
        process = self.start("run", "malice:embed", "-", stdin=subprocess.PIPE)
        out, err = process.communicate(json.dumps({"inputs": inputs}), timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def embed(self, *parameters: object, **extra: str) -> subprocess.CompletedProcess[str]:
        """Runs ``malice:embed`` with ``NAME=value`` parameters, and the model ``tiny`` unless another is given."""
        model = () if any(str(one).startswith("MODEL=") for one in parameters) else ("MODEL=tiny",)
        return self("run", "malice:embed", "--", *model, *parameters, **extra)


def command_line(python: str, scene: Path, *arguments: object) -> None:
    """Runs the engine from the shell, for comparison; with the model ``tiny`` unless another is given."""
    model = () if "--model" in arguments else ("--model", "tiny")
    subprocess.run(
        [python, "-I", "-m", "malice_core.embed", *model, *map(str, arguments)],
        env={**os.environ, "MALICE_MODELS": str(scene / "models")},
        check=True,
        capture_output=True,
        timeout=300,
    )


def refusal(python: str, models: Path, *arguments: object) -> str:
    """The engine's own sentence on a job that it must refuse, from the shell."""
    done = subprocess.run(
        [python, "-I", "-m", "malice_core.embed", *map(str, arguments)],
        env={**os.environ, "MALICE_MODELS": str(models)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line[len("error: ") :]


def one_line(text: str) -> str:
    """The line that says what is wrong, without what QGIS prints of itself."""
    own = ("QStandardPaths", "<string>", "setapi", "Warning", "--", "There was an error", "The following")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(own)]
    return lines[-1] if lines else ""


def fake_engine(folder: Path, body: str) -> str:
    """An executable that answers in the engine's place."""
    path = folder / "python"
    path.write_text("#!/bin/sh\n" + body, encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def pixels(path: Path) -> bytes:
    """All bands as they are stored, and their names."""
    dataset = gdal.Open(str(path))
    assert dataset is not None, path
    names = [dataset.GetRasterBand(i).GetDescription() for i in range(1, dataset.RasterCount + 1)]
    return dataset.ReadRaster() + " ".join(names).encode()


def engines(output: Path) -> list[int]:
    """Ids of the processes of the engine that write ``output`` (zombies do not count)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            line = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"malice_core.embed" in line and str(output).encode() in line:
            found.append(int(entry.name))
    return found


def wait_until(condition: Any, seconds: float) -> float:
    """Waits for a condition; returns how long it took, fails after ``seconds``."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - begun


class Log(QgsProcessingFeedback):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        super().__init__(False)
        self.texts: list[str] = []
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.steps: list[float] = []
        self.progressChanged.connect(self.steps.append)

    def pushInfo(self, info: str) -> None:
        self.texts.append(info)

    def setProgressText(self, text: str) -> None:
        self.texts.append(text)

    def pushWarning(self, warning: str) -> None:
        self.warnings.append(warning)

    def reportError(self, error: str, fatalError: bool = False) -> None:
        self.errors.append(error)
