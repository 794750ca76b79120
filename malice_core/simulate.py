"""Simulated Sentinel-2 and Sentinel-1 over a year, as GeoTIFFs a date, or many such scenes for training.

For the demonstration, for tests and benchmarks, and for training. ``simulation/`` says what is on the ground and what
a satellite sees of it on a date; this file writes:

    OUT/S2/S2_YYYYMMDD.tif        10 bands, reflectance x 10000 without the offset of newer baselines, 0 = nodata
    OUT/SCL/SCL_YYYYMMDD.tif      scene classes as of sen2cor, 0 = nodata
    OUT/S1/S1_YYYYMMDD_RNNN.tif   VV, VH, linear gamma0, NaN = nodata; ascending orbits
    OUT/AGERA5.csv                weather of every day, as AgERA5 has it
    OUT/DEM.tif                   elevation, metres, on the images' grid and 64 pixels beyond it
    OUT/S2_angles.csv, S1_angles.csv    sun, view and incidence of every date, degrees
    OUT/labels.tif, labels.csv    what grew there;  OUT/README.txt  that all this is simulated, and how

The same arguments give the same pixels: every image has its own stream of random numbers, named by seed and
date. Run as ``python -m malice_core.simulate OUT``, or ``--scenes N --out DIR`` for N scenes of N places, years and
climates, each in its own folder with ``LABELS.tif``. In memory: :class:`Series`. ``docs/simulator.md`` says what of
it is plausible and what is invented.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from malice_core import __version__, bands
from malice_core.errors import InputError, MaliceError, OutputError
from malice_core.simulation import radar, tables
from malice_core.simulation.crops import COVERS
from malice_core.simulation.orbits import S1_ORBITS, S2_ORBITS, Orbit
from malice_core.simulation.passes import MAX_SIDE, MIN_SIDE, REGIONS, Pass, Spec, s1_passes, s2_passes
from malice_core.simulation.relief import MARGIN, PIXEL
from malice_core.simulation.series import CLASSES, Series

__all__ = [
    "CLASSES",
    "S1_ORBITS",
    "S2_ORBITS",
    "Orbit",
    "Pass",
    "Series",
    "Spec",
    "is_scene",
    "s1_passes",
    "s2_passes",
    "write",
    "write_many",
]

#: First line of README.txt; a folder that has it was written here and may be written again.
MARK = "Simulated Sentinel scene, written by malice_core.simulate. No pixel was ever observed."
#: Files of an earlier scene that a new one replaces; nothing else in the folder is touched.
OURS = re.compile(r"(S2|SCL)_\d{8}\.tif|S1_\d{8}_R\d{3}\.tif")
#: Files beside the images that say what surrounds them.
AROUND = ("AGERA5.csv", "DEM.tif", "S2_angles.csv", "S1_angles.csv")


def write(
    spec: Spec, folder: Path, tell: Callable[[str], None] = lambda text: None, labels: str = "labels.tif"
) -> list[Path]:
    """Simulates ``spec`` and writes it, date by date, so that memory holds only one image.

    Every file appears under its name only when it is whole. README.txt says "being written" until all are.

    Args:
        folder: created where missing; must be empty or hold a scene written by this function, which is replaced.
        tell: is given a line for each image.
        labels: file name of the label raster.

    Returns:
        The images written.

    Raises:
        InputError: for what cannot be simulated.
        OutputError: if the folder holds anything else or cannot be written.
    """
    spec.check()
    try:
        _clear(folder)
        _readme(spec, folder, "being written")
        series = Series(spec)
        _labels(spec, folder / labels, series.labels)
        _around(series, folder)
        written = []
        for number, taken in enumerate(series.s2):
            name = f"{taken.when:%Y%m%d}.tif"
            dn, scl = series.sentinel2(number)
            tags = {"SENSOR": "simulated Sentinel-2 L2A", "RELATIVE_ORBIT": f"{taken.orbit}", "CLOUD": f"{taken.cloud}"}
            scale = "surface reflectance x 10000, no offset (as processing baselines before 04.00)"
            written.append(folder / "S2" / f"S2_{name}")
            _save(spec, written[-1], dn, bands.S2.bands, 0, taken, tags | {"UNITS": scale, "BOA_ADD_OFFSET": "0"})
            tags["UNITS"] = "scene classes of sen2cor"
            written.append(folder / "SCL" / f"SCL_{name}")
            _save(spec, written[-1], scl[None], ("SCL",), 0, taken, tags)
            tell(f"S2 {number + 1}/{spec.s2_dates} {taken.when:%Y-%m-%d} cloud {taken.cloud:.0%}")
        for number, taken in enumerate(series.s1):
            power = series.sentinel1(number)
            tags = {
                "SENSOR": "simulated Sentinel-1 IW GRD",
                "ORBIT_DIRECTION": "ASCENDING",
                "RELATIVE_ORBIT": f"{taken.orbit}",
                "UNITS": "gamma0, linear power",
            }
            written.append(folder / "S1" / f"S1_{taken.when:%Y%m%d}_R{taken.orbit:03d}.tif")
            _save(spec, written[-1], power, bands.S1.bands, math.nan, taken, tags)
            tell(f"S1 {number + 1}/{spec.s1_dates} {taken.when:%Y-%m-%d} orbit {taken.orbit}")
        _readme(spec, folder, "complete")
    except OSError as error:
        raise OutputError(f"cannot write the scene into {folder}: {error.strerror or error}") from error
    return written


def is_scene(folder: Path, status: str = "") -> bool:
    """True if ``folder`` holds a scene written here (with ``status`` "complete": wholly written)."""
    try:
        lines = (folder / "README.txt").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return lines[:1] == [MARK] and (not status or f"status: {status}" in lines)


def _clear(folder: Path) -> None:
    """Makes ``folder`` ready: empty of an earlier scene, refused with anything else in it."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: name a folder for the scene")
    if folder.is_dir() and any(folder.iterdir()) and not is_scene(folder):
        raise OutputError(f"{folder} is not empty and holds no simulated scene: name a new folder")
    for name in ("S2", "SCL", "S1"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for path in (folder / name).iterdir():
            if OURS.fullmatch(path.name.removesuffix(".part")):
                path.unlink()
    for name in AROUND:
        (folder / name).unlink(missing_ok=True)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside ``path``, renamed to it at the end and removed after a failure."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _save(
    spec: Spec,
    path: Path,
    image: NDArray[Any],
    names: tuple[str, ...],
    nodata: float | None,
    taken: Pass | None,
    tags: dict[str, str],
    colours: dict[int, tuple[int, int, int]] | None = None,
    margin: int = 0,
) -> None:
    """Writes ``image`` (C, H, W) as a tiled GeoTIFF, with one band description a name; ``margin``: pixels by which it
    reaches beyond the scene."""
    left, top = spec.origin[0] - PIXEL * margin, spec.origin[1] + PIXEL * margin
    profile = {
        "driver": "GTiff",
        "dtype": image.dtype.name,
        "count": image.shape[0],
        "height": image.shape[1],
        "width": image.shape[2],
        "crs": spec.crs,
        "transform": Affine(PIXEL, 0, left, 0, -PIXEL, top),
        "nodata": nodata,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "predictor": 3 if image.dtype.kind == "f" else 2,
        "zlevel": 6,
        "interleave": "band",
    }
    if image.dtype == np.uint8:
        profile["predictor"] = 1  # classes: neighbours are equal or unrelated
    with _whole(path) as part:
        try:
            with rasterio.open(part, "w", **profile) as target:
                target.write(image)
                target.descriptions = names
                if taken:
                    tags = tags | {
                        "TIFFTAG_DATETIME": f"{taken.when:%Y:%m:%d %H:%M:%S}",
                        "ACQUISITION_UTC": f"{taken.when:%Y-%m-%dT%H:%M:%SZ}",
                    }
                target.update_tags(SIMULATED="yes", SEED=f"{spec.seed}", **tags)
                if colours:
                    target.write_colormap(1, colours)
        except rasterio.errors.RasterioError as error:
            raise OutputError(f"cannot write {path}: {error}; is the disk full?") from error


def _labels(spec: Spec, path: Path, labels: NDArray[np.uint8]) -> None:
    tags = {f"CLASS_{cover.code}": cover.name for cover in COVERS}
    colours = {cover.code: cover.colour for cover in COVERS}
    _save(spec, path, labels[None], ("land cover",), 0, None, tags, colours)
    with _whole(path.with_name("labels.csv")) as part:
        rows = [f"{cover.code},{cover.name}\n" for cover in COVERS]
        part.write_text("code,name\n" + "".join(rows), encoding="utf-8")


def _around(series: Series, folder: Path) -> None:
    """Weather, terrain and angles; a sensor without dates has no angles."""
    spec, elevation = series.spec, series.land.relief.elevation
    tags = {"UNITS": "metres above sea level", "SENSOR": "simulated elevation model"}
    _save(spec, folder / "DEM.tif", elevation[None], ("elevation",), None, None, tags, margin=MARGIN)
    texts = {"AGERA5.csv": tables.weather_table(spec, series.land.weather)}
    if series.s2:
        texts["S2_angles.csv"] = tables.s2_angles_table(series.s2)
    if series.s1:
        texts["S1_angles.csv"] = tables.s1_angles_table(series.s1)
    for name, text in texts.items():
        with _whole(folder / name) as part:
            part.write_text(text, encoding="utf-8", newline="\n")


def _again(spec: Spec) -> str:
    """The line of README.txt that tells how to make the same scene again."""
    words = (
        f"again with: python -m malice_core.simulate OUT --size {spec.height}x{spec.width} --year {spec.year} "
        f"--seed {spec.seed} --s2-dates {spec.s2_dates} --s1-dates {spec.s1_dates} --crs {spec.crs} "
        f"--origin {spec.origin[0]:.12g} {spec.origin[1]:.12g}"
    )
    more = f" --region {spec.region} --start {spec.start} --max-cloud {spec.max_cloud:g}"
    return words + more if more != " --region flanders --start 1 --max-cloud 1" else words


def _readme(spec: Spec, folder: Path, status: str) -> None:
    orbits = " and ".join(str(number) for number in sorted({taken.orbit for taken in s1_passes(spec)})) or "none"
    lines = [
        MARK,
        f"status: {status}",
        f"version: {__version__}",
        _again(spec),
        "",
        "S2:  reflectance x 10000, no offset, 0 = nodata; 20 m bands repeated or interpolated to 10 m",
        "SCL: 2 dark, 3 shadow, 4 vegetation, 5 bare, 6 water, 7 unclassified, 8 and 9 cloud, 10 cirrus, 11 snow; "
        "0 = nodata",
        f"S1:  gamma0, linear; speckle of {radar.LOOKS} looks; NaN = nodata; ascending orbits {orbits}",
        "label raster: land cover, codes in labels.csv",
        "AGERA5.csv: weather, a row a day, columns and units of AgERA5; it drove growth, soil, snow and clouds",
        f"DEM.tif: elevation, metres, the images' grid and {MARGIN} pixels more on each side",
        "S2_angles.csv, S1_angles.csv: degrees, a row a date",
        "",
        "The place given by the coordinates is not what is simulated. Spectra, calendars and backscatter are",
        "judgement, fitted to the range of real images; do not use them to test a scientific claim.",
    ]
    with _whole(folder / "README.txt") as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_many(
    count: int,
    folder: Path,
    seed: int = 1,
    size: tuple[int, int] = (128, 128),
    year: int | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Writes ``count`` scenes, of the seeds from ``seed`` on, into ``folder/scene_SEED``; done ones are kept.

    Args:
        size: (H, W) pixels.
        year: of all scenes; without it one of 2016-2026 for each, by its seed.
        tell: is given a line for each scene.

    Returns:
        The folders of the scenes.

    Raises:
        InputError, OutputError: as :func:`write`.
    """
    if not 1 <= count <= 1_000_000:
        raise InputError(f"--scenes {count} is not between 1 and 1000000")
    if not 0 <= seed < 2**63 - count:
        raise InputError(f"--seed {seed} is not between 0 and 2^63 - 1")
    for side in size:  # before any folder is made, and before the passes are counted
        if not MIN_SIDE <= side <= MAX_SIDE:
            raise InputError(f"--size: {side} pixels is not between {MIN_SIDE} and {MAX_SIDE}")
    folders = []
    for number, one in enumerate(range(seed, seed + count)):
        spec = Spec.draw(one, *size, year=year)
        folders.append(folder / f"scene_{one:06d}")
        # A scene of before there was weather lacks some of it.
        done = is_scene(folders[-1], "complete") and all((folders[-1] / name).exists() for name in AROUND)
        if not (done and _again(spec) in (folders[-1] / "README.txt").read_text(encoding="utf-8").splitlines()):
            write(spec, folders[-1], labels="LABELS.tif")
        what = f"{spec.year}-{spec.start:02d}, {spec.s2_dates} S2 and {spec.s1_dates} S1 dates"
        tell(f"{number + 1}/{count} {folders[-1].name}: {what}{' (was there)' if done else ''}")
    return folders


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse prints its usage first; a failure here is one line.
        raise InputError(f"{message}; see python -m malice_core.simulate --help")


def _size(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"-?\d{1,9}(x\d{1,9})?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a side in pixels, as 400, nor HEIGHTxWIDTH, as 300x400")
    sides = [int(part) for part in text.split("x")]
    return sides[0], sides[-1]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 2 bad input, 3 cancelled, 1 anything else)."""
    parser = _Parser(prog="python -m malice_core.simulate", description="Writes a simulated scene.", allow_abbrev=False)
    default = Spec()
    parser.add_argument(
        "folder", metavar="OUT_FOLDER", type=Path, nargs="?", help="new folder, or one written by this command"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the same, by name")
    many = "N training scenes of seeds SEED, SEED + 1, ...: each has its own place, climate, year and number of dates"
    parser.add_argument("--scenes", type=int, metavar="N", help=many)
    parser.add_argument("--size", type=_size, metavar="N|HxW", help="pixels of 10 m; 400, with --scenes 128")
    parser.add_argument("--year", type=int, help=f"{default.year}, with --scenes by seed")
    parser.add_argument("--seed", type=int, default=default.seed)
    single = parser.add_argument_group("for one scene")
    single.add_argument("--s2-dates", type=int, metavar="N", help=f"{default.s2_dates}")
    single.add_argument("--s1-dates", type=int, metavar="N", help=f"{default.s1_dates}")
    single.add_argument("--crs", help=f"projected, in metres; {default.crs}")
    single.add_argument("--origin", type=float, nargs=2, metavar=("X", "Y"))
    single.add_argument("--region", choices=REGIONS, help=f"climate and land; {default.region}")
    single.add_argument("--start", type=int, metavar="MONTH", help="first month of the year of images; 1")
    single.add_argument("--max-cloud", type=float, metavar="SHARE", help="take no Sentinel-2 date with more; 1")
    parser.add_argument("--quiet", action="store_true")
    try:
        given = parser.parse_args(arguments)
        tell: Callable[[str], None] = (lambda text: None) if given.quiet else (lambda text: print(text, flush=True))
        folder = given.folder or given.out
        if folder is None or (given.folder and given.out):
            raise InputError("name one folder to write to: python -m malice_core.simulate OUT")
        names = ("s2_dates", "s1_dates", "crs", "origin", "region", "start", "max_cloud")
        own = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
        if given.scenes is not None:
            if own:
                raise InputError(
                    f"--{next(iter(own)).replace('_', '-')} is for one scene: with --scenes the seed decides"
                )
            write_many(given.scenes, folder, given.seed, given.size or (128, 128), given.year, tell)
        else:
            if "origin" in own:
                own["origin"] = tuple(own["origin"])
            height, width = given.size or (default.height, default.width)
            year = default.year if given.year is None else given.year
            write(Spec(height=height, width=width, year=year, seed=given.seed, **own), folder, tell)
        tell(f"wrote {folder}")
    except MaliceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: stopped; run the command again to start over", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
