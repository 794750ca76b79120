"""Running the engine in tests, small image series, and computations to compare with that share no code with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import rasterio
from affine import Affine

from malice_core import embed
from malice_core.cancelling import Cancel

Array = npt.NDArray[Any]
S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


class Recorder:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.plans: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.shares: list[float] = []
        self.files: list[str] = []

    def plan(self, plan: dict[str, Any], text: str) -> None:
        self.plans.append(plan | {"text": text})

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warning(self, message: str) -> None:
        self.warnings.append(message)

    def progress(self, done: int, total: int, step: str) -> None:
        self.shares.append(done / total)

    def done(self, files: list[str], seconds: float) -> None:
        self.files = files

    def error(self, code: int, message: str) -> None:
        raise AssertionError(message)


def run(*arguments: object, dry_run: bool = False) -> Recorder:
    """Runs the job of a command line in this process; errors are raised as they are."""
    recorder = Recorder()
    options = embed.parser().parse_args([str(argument) for argument in arguments])
    embed.execute(embed.job_of(options), recorder, Cancel(), dry_run)
    return recorder


def embedded(output: Path, *arguments: object) -> Array:
    """Runs a job and returns the bands of its output, (bands, H, W)."""
    run("--output", output, *arguments)
    with rasterio.open(output) as file:
        values: Array = file.read()
    return values


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command line as users do, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "malice_core.embed", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def write_series(
    folder: Path,
    shape: tuple[int, int],
    count: int,
    *,
    sensor: str = "s2",
    origin: tuple[float, float] = (500000.0, 5600000.0),
    crs: str = "EPSG:32631",
    seed: int = 0,
    missing: float = 0.0,
    first: date = date(2018, 1, 5),
) -> Path:
    """A folder of images, smooth in space and different by date: ``count`` GeoTIFFs, ten days apart.

    Args:
        missing: share of pixels with nodata 0 in all bands.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    bands = S2_BANDS if sensor == "s2" else ("VV", "VH")
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    for index in range(count):
        day = first + timedelta(days=10 * index)
        waves = rng.uniform(0.02, 0.3, (len(bands), 2))
        texture = np.sin(waves[:, :1, None] * rows + waves[:, 1:, None] * cols + index) + rng.normal(
            0, 0.3, (len(bands), *shape)
        )
        values = (1500 + 600 * texture).clip(50, 8000) if sensor == "s2" else np.exp(-2.5 + 0.4 * texture)
        values[:, rng.random(shape) < missing] = 0
        write_image(folder / f"{sensor.upper()}_{day:%Y%m%d}.tif", values, bands, origin, crs, sensor == "s2")
    return folder


def write_image(
    path: Path,
    values: Array,
    bands: Sequence[str],
    origin: tuple[float, float],
    crs: str,
    integer: bool,
    res: float = 10.0,
) -> None:
    """One GeoTIFF with described bands and nodata 0."""
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=values.shape[1],
        width=values.shape[2],
        count=len(bands),
        dtype="uint16" if integer else "float32",
        nodata=0,
        crs=crs,
        transform=Affine(res, 0, origin[0], 0, -res, origin[1]),
    ) as file:
        file.write(np.rint(values).astype(np.uint16) if integer else values.astype(np.float32))
        file.descriptions = bands


def split(folder: Path, target: Path, col: int) -> Path:
    """The same series as two files a date, left and right of ``col``."""
    target.mkdir()
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as file:
            values, transform = file.read(), file.transform
            for name, part, shift in (("left", values[..., :col], 0), ("right", values[..., col:], col)):
                write_image(
                    target / f"{path.stem}_{name}.tif",
                    part,
                    file.descriptions,
                    (transform.c + shift * transform.a, transform.f),
                    file.crs.to_string(),
                    file.dtypes[0] == "uint16",
                    transform.a,
                )
    return target


def link(files: Sequence[Path], folder: Path, rename: Any = None) -> Path:
    """A folder with links to some files, under names changed by ``rename``."""
    folder.mkdir(parents=True)
    for path in files:
        name = rename(path.name) if rename else path.name
        os.symlink(path, folder / name)
    return folder


def years_later(name: str, years: int) -> str:
    """``S2_20180511.tif`` → ``S2_20260511.tif``."""
    stem, day = name[:-4].split("_")
    moved = date(int(day[:4]) + years, int(day[4:6]), int(day[6:]))
    return f"{stem}_{moved:%Y%m%d}.tif"


def normalised(files: Sequence[Path], sensor: str, stats: dict[str, Any]) -> Array:
    """Network input by the formula of the inputs' specification, (T, C, H, W) float32."""
    column = (-1, 1, 1)
    result = []
    for path in files:
        with rasterio.open(path) as file:
            values = file.read().astype(np.float64)
        missing = (values == 0).all(axis=0) | np.isnan(values).any(axis=0)
        if sensor == "s1":
            vv, vh = values
            with np.errstate(all="ignore"):
                values = np.log(np.stack([vh, vv, vh / vv]))
        low, high, med = (np.asarray(stats[sensor][key]).reshape(column) for key in ("qmin", "qmax", "med"))
        out = (np.clip(values, low, high) - med) / (high - low)
        out[:, missing] = 0
        result.append(np.nan_to_num(out, nan=0.0))
    return np.stack(result).astype(np.float32)


def published(testdata: Path, sensor: str, files: Sequence[Path], days: Sequence[date]) -> Array:
    """The published graph on whole rasters, (640, H, W)."""
    stats = json.loads((testdata / "spec" / "stats.json").read_text())["malice"]
    images = normalised(files, sensor, stats)
    since = np.array([(day - date(2014, 3, 3)).days for day in days], np.float32)
    session = onnxruntime.InferenceSession(testdata / "models" / f"malice_{sensor}.onnx")
    feeds = {"sits": images[None], "tpe": since[None], "padd_mask": np.zeros((1, len(since)), bool)}
    output: Array = session.run(None, feeds)[0]
    return output[0].reshape(-1, *images.shape[2:])


def day_of(path: Path) -> date:
    """The date in ``S2_20180511.tif``."""
    text = path.stem.split("_")[1]
    return date(int(text[:4]), int(text[4:6]), int(text[6:8]))


def import_published(testdata: Path, store: Path) -> None:
    """Imports the published encoders as ``malice`` into ``store``, in a process of its own."""
    subprocess.run(
        [
            *(sys.executable, "-m", "malice_core.models", "import"),
            *(testdata / "models" / name for name in ("malice_s2.onnx", "malice_s1.onnx")),
            *("--name", "malice"),
        ],
        env=os.environ | {"MALICE_MODELS": str(store)},
        check=True,
        capture_output=True,
    )


def free_names(folder: Path) -> list[str]:
    """What is in a folder, hidden files too, for 'nothing was left behind'."""
    return sorted(entry.name for entry in folder.iterdir())


def copy_tree(source: Path, target: Path) -> Path:
    """A private copy that a test may damage."""
    shutil.copytree(source, target)
    return target
