"""The demonstration: simulate a scene, embed it, draw it. ``python -m malice_core.demo --out demo``.

Everything is written below the folder given: ``scene/``, ``embedding.tif``, ``demo.png``. The model is the engine's
choice, as for every user: what is installed, else the one that ships. The picture needs matplotlib and scikit-learn,
which ``make setup`` installs. The embedding is made by the engine's shell, or by QGIS where ``--qgis-process`` names it
(``make demo`` does, with the plugin in a profile).
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from malice_core import bands, models, simulate
from malice_core.cli import Parser, fail
from malice_core.errors import Cancelled, InputError, MaliceError

#: Dates with more cloud are left out, as users of the published networks do.
MAX_CLOUD = 30
#: Every n-th pixel goes into the principal components.
SAMPLE = 7
Floats = NDArray[np.float32]


def run(folder: Path, spec: simulate.Spec, qgis_process: str = "") -> Path:
    """Runs the demonstration and returns the path of the picture.

    Args:
        folder: where everything is written; what an earlier demonstration left there is replaced.
        spec: the scene.
        qgis_process: the program that embeds, with the plugin enabled in its profile; "" for the engine's shell.

    Raises:
        InputError: if packages, the model or the folder are not to be had.
    """
    for package in ("matplotlib", "sklearn"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"the demo's picture needs {package}: run make setup, or pip install 'malice-core[dev]'")
    scene, output, picture = folder / "scene", folder / "embedding.tif", folder / "demo.png"
    print(f"1/4 simulating {spec.width} x {spec.height} pixels into {scene}", flush=True)
    simulate.write(spec, scene)
    card = models.default()
    print(f"2/4 model {card.name}, found in {card.folder}", flush=True)
    print("3/4 embedding", flush=True)
    if qgis_process:
        _in_qgis(qgis_process, scene, output, card.name)
    else:
        images = ["--s2", f"{scene / 'S2'}", "--s1", f"{scene / 'S1'}", "--scl", f"{scene / 'SCL'}"]
        choice = ["--max-cloud", f"{MAX_CLOUD}", "--model", card.name]
        _module(["embed", *images, *choice, "--output", f"{output}", "--overwrite"])
    print("4/4 drawing", flush=True)
    draw(scene, output, picture)
    return picture


def _in_qgis(program: str, scene: Path, output: Path, model: str) -> None:
    """Embeds by ``malice:embed`` of QGIS; it prints its log and what went wrong."""
    folders = [f"FOLDER_{key}={scene / key}" for key in ("S2", "S1", "SCL")]
    choice = [f"MAX_CLOUD={MAX_CLOUD}", f"MODEL={model}", f"OUTPUT={output}"]
    command = [program, "run", "malice:embed", "--", *folders, *choice]
    print("    " + shlex.join([Path(program).name, *command[1:]]), flush=True)
    try:
        code = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise InputError(f"--qgis-process {program} cannot be run: {error.strerror}") from error
    if code:
        raise MaliceError(f"qgis_process ended with code {code}; what went wrong is said above")


def _module(arguments: list[str]) -> None:
    """Runs ``python -m malice_core.…``; it has said itself what went wrong when MaliceError comes back."""
    command = [sys.executable, "-m", f"malice_core.{arguments[0]}", *arguments[1:]]
    code = subprocess.run(command, check=False).returncode
    if code:
        failure: MaliceError = InputError("") if code == InputError.exit_code else MaliceError("")
        if code == Cancelled.exit_code:
            failure = Cancelled("")
        raise failure


def draw(scene: Path, embedding: Path, picture: Path) -> None:
    """Draws one clear date beside the first principal components of each sensor's embedding.

    Args:
        scene: folder of a simulated scene.
        embedding: raster of both sensors, bands named ``S2_…`` and ``S1_…``.
        picture: PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    path, clear = _clearest(scene)
    with rasterio.open(path) as source:
        colours = source.read([source.descriptions.index(name) + 1 for name in ("B04", "B03", "B02")])
    panels = [(f"Sentinel-2, {clear}, true colour (simulated)", _true_colour(colours))]
    for sensor in (bands.S2, bands.S1):
        what, image = _components(embedding, sensor.key.upper() + "_")
        title = f"{sensor.title.split()[0]} embedding{_dates(embedding, sensor)}: principal components 1–3 ({what:.0%})"
        panels.append((title, _stretch(image)))
    height, width = panels[0][1].shape[:2]
    size = (15.0, 5.0 * height / width + 0.45)
    figure, axes = plt.subplots(1, 3, figsize=size, layout="constrained", facecolor="white")
    for axis, (title, image) in zip(axes, panels, strict=True):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    _scale_bar(axes[0], height, width)
    part = picture.with_name(picture.name + ".part")
    figure.savefig(part, dpi=110, format="png", bbox_inches="tight")
    plt.close(figure)
    os.replace(part, picture)


def _scale_bar(axis: Any, height: int, width: int) -> None:
    """A white bar of about a fifth of the width, in round metres (pixels have 10)."""
    metres = max(step for step in (20, 50, 100, 200, 500, 1000, 2000, 5000) if step <= max(20, width * 10 / 3))
    end, y = 0.04 * width + metres / 10, 0.955 * height
    for colour, thick in (("black", 5), ("white", 3)):
        axis.plot([0.04 * width, end], [y, y], color=colour, linewidth=thick, solid_capstyle="butt")
    name = f"{metres} m" if metres < 1000 else f"{metres // 1000} km"
    axis.text((0.04 * width + end) / 2, y - 0.015 * height, name, color="white", fontsize=9, ha="center", va="bottom")


def _dates(embedding: Path, sensor: bands.Sensor) -> str:
    """How many dates went into the embedding, as its tags say; nothing where they do not."""
    with rasterio.open(embedding) as source:
        days = source.tags().get(f"MALICE_DATES_{sensor.key.upper()}", "")
    return f" of {days.count(',') + 1} dates" if days else ""


def _clearest(scene: Path) -> tuple[Path, str]:
    """The image with the fewest clouds and gaps, and of those the nearest to June; with its date."""
    ranks = []
    for path in sorted((scene / "SCL").glob("SCL_*.tif")):
        with rasterio.open(path) as source:
            classes = source.read(1)
            stamp = source.tags()["ACQUISITION_UTC"][:10]
        bad = round(float(np.isin(classes, (0, *bands.CLOUD_CLASSES)).mean()), 2)
        ranks.append((bad, abs(int(stamp[5:7]) * 30 + int(stamp[8:]) - 195), path, stamp))
    if not ranks:
        raise InputError(f"{scene} holds no date of Sentinel-2 to draw: simulate at least one")
    _, _, path, stamp = min(ranks)
    return scene / "S2" / path.name.replace("SCL_", "S2_"), stamp


def _components(embedding: Path, prefix: str) -> tuple[float, Floats]:
    """First three principal components of the bands whose name starts with ``prefix``.

    Returns:
        The share of variance they hold (0-1), and (3, H, W) values, NaN where there is none.
    """
    from sklearn.decomposition import PCA

    with rasterio.open(embedding) as source:
        indexes = [i + 1 for i, name in enumerate(source.descriptions) if (name or "").startswith(prefix)]
        if not indexes:
            raise InputError(f"{embedding} has no bands named {prefix}…: it is no embedding of this sensor")
        # Two passes in strips, so that memory holds a strip of bands and not the raster.
        sample = np.concatenate([values[:, ::SAMPLE] for _, values in _strips(source, indexes)], axis=1)
        sample = sample[:, np.isfinite(sample).all(axis=0)]
        if sample.shape[1] < 3:
            raise InputError(f"{embedding} has fewer than three pixels with values to draw")
        analysis = PCA(n_components=3, svd_solver="covariance_eigh").fit(sample.T)
        image = np.full((3, source.height * source.width), np.nan, np.float32)
        for pixels, values in _strips(source, indexes):
            good = np.isfinite(values).all(axis=0)
            strip = np.full((3, values.shape[1]), np.nan, np.float32)
            strip[:, good] = analysis.transform(values[:, good].T).T
            image[:, pixels] = strip
        return float(analysis.explained_variance_ratio_.sum()), image.reshape(3, source.height, source.width)


def _strips(source: Any, indexes: list[int]) -> Iterator[tuple[slice, Floats]]:
    """Bands of a raster in strips of rows: which pixels (row by row), and (C, pixels) values with NaN for nodata."""
    step = max(source.block_shapes[0][0], 64)
    for row in range(0, source.height, step):
        rows = min(step, source.height - row)
        raw = source.read(indexes, window=Window(0, row, source.width, rows), masked=True)
        scale = np.array([source.scales[i - 1] for i in indexes], np.float32)[:, None, None]
        offset = np.array([source.offsets[i - 1] for i in indexes], np.float32)[:, None, None]
        values = (raw.astype(np.float32) * scale + offset).filled(np.nan)
        yield slice(row * source.width, (row + rows) * source.width), values.reshape(len(indexes), -1)


def _true_colour(image: NDArray[np.uint16]) -> Floats:
    """(3, H, W) reflectance x 10000 to (H, W, 3) in 0-1, one stretch for all bands; white where nothing is."""
    seen = image[:, (image > 0).all(axis=0)]
    low, high = np.percentile(seen, (1, 99)) if seen.size else (0.0, 1.0)
    out = np.clip((image.astype(np.float32) - low) / max(high - low, 1.0), 0, 1) ** 0.75
    return np.where(image > 0, out, np.float32(1)).transpose(1, 2, 0)


def _stretch(image: Floats) -> Floats:
    """(3, H, W) to (H, W, 3) in 0-1: each channel between its 2 % and 98 % quantiles; white where it is NaN."""
    out = np.ones((*image.shape[1:], 3), np.float32)
    for i, channel in enumerate(image):
        low, high = np.nanpercentile(channel, (2, 98))
        out[..., i] = np.clip((channel - low) / max(high - low, 1e-12), 0, 1)
    return np.where(np.isfinite(out), out, np.float32(1))


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 2 bad input, 3 cancelled, 1 anything else)."""
    parser = Parser(prog="python -m malice_core.demo", description="Simulates, embeds and draws a scene.")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="FOLDER")
    parser.add_argument("--size", type=int, default=400, metavar="PIXELS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--s2-dates", type=int, default=24, metavar="N")
    parser.add_argument("--s1-dates", type=int, default=30, metavar="N")
    parser.add_argument("--qgis-process", default="", metavar="PROGRAM", help="embed by this qgis_process")
    try:
        given = parser.parse_args(arguments)
        spec = simulate.Spec(given.size, given.size, 2024, given.seed, given.s2_dates, given.s1_dates)
        picture = run(given.out, spec, given.qgis_process)
    except MaliceError as error:
        return fail(error)
    except KeyboardInterrupt:
        return Cancelled.exit_code
    print(f"scene:     {given.out / 'scene'}\nembedding: {given.out / 'embedding.tif'}\npicture:   {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
