"""A simulated year of Sentinel-2 and Sentinel-1 over a landscape, as GeoTIFFs a date.

For the demonstration, for tests and benchmarks, and as a start for training scenes. ``scene.py`` says what is
on the ground, ``sensors.py`` what a satellite sees of it on a date, this file chooses the dates and writes:

    OUT/S2/S2_YYYYMMDD.tif        10 bands, reflectance x 10000 without the offset of newer baselines, 0 = nodata
    OUT/SCL/SCL_YYYYMMDD.tif      scene classes as of sen2cor, 0 = nodata
    OUT/S1/S1_YYYYMMDD_RNNN.tif   VV, VH, linear gamma0, NaN = nodata; two relative orbits
    OUT/labels.tif, labels.csv    what grew there;  OUT/README.txt  that all this is simulated, and how

The same arguments give the same pixels: every image has its own stream of random numbers, named by seed and
date. Run as ``python -m malice_core.simulate OUT``.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from malice_core import __version__, bands
from malice_core.errors import InputError, MaliceError, OutputError
from malice_core.simulation import sensors
from malice_core.simulation.scene import COVERS, Landscape, generator, landscape

#: First line of README.txt; a folder that has it was written here and may be written again.
MARK = "Simulated Sentinel scene, written by malice_core.simulate. No pixel was ever observed."
#: Files of an earlier scene that a new one replaces; nothing else in the folder is touched.
OURS = re.compile(r"(S2|SCL)_\d{8}\.tif|S1_\d{8}_R\d{3}\.tif")
MIN_SIDE, MAX_SIDE = 8, 4096


@dataclass(frozen=True)
class Orbit:
    """A relative orbit: its number, day of year of its first pass, time of day of the passes (UTC)."""

    number: int
    first: int
    at: time


#: Neighbouring tracks as over Belgium; two satellites for Sentinel-2, so each track comes every 5 days.
S2_ORBITS, S2_REPEAT = (Orbit(51, 2, time(10, 51, 9)), Orbit(94, 5, time(11, 1, 17))), 5
#: Ascending; one satellite repeats in 12 days, two (asked for many dates) in 6.
S1_ORBITS, S1_REPEAT = (Orbit(59, 6, time(17, 40, 43)), Orbit(161, 1, time(17, 32, 11))), 12


@dataclass(frozen=True)
class Spec:
    """What to simulate.

    Attributes:
        height, width: pixels of 10 m, 8 to 4096.
        year: calendar year of all images.
        seed: of everything random.
        s2_dates, s1_dates: number of images.
        crs: a projected CRS in metres, anything rasterio reads.
        origin: (x, y) of the upper left corner in it.
    """

    height: int = 400
    width: int = 400
    year: int = 2024
    seed: int = 1
    s2_dates: int = 24
    s1_dates: int = 30
    crs: str = "EPSG:32631"
    origin: tuple[float, float] = (500000.0, 5640000.0)

    def check(self) -> None:
        """Raises InputError naming the value that cannot be simulated."""
        for name, value in (("height", self.height), ("width", self.width)):
            if not MIN_SIDE <= value <= MAX_SIDE:
                raise InputError(f"--size: a {name} of {value} pixels is not between {MIN_SIDE} and {MAX_SIDE}")
        if not bands.DATE_ORIGIN.year < self.year <= 9998:
            raise InputError(f"--year {self.year} is not after {bands.DATE_ORIGIN.year}, the launch of Sentinel-1")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"--seed {self.seed} is not between 0 and 2^63 - 1")
        for name, value, most in (
            ("s2", self.s2_dates, len(_passes(self.year, S2_ORBITS, S2_REPEAT))),
            ("s1", self.s1_dates, len(_passes(self.year, S1_ORBITS, S1_REPEAT // 2))),
        ):
            if not 0 <= value <= most:
                raise InputError(f"--{name}-dates {value} is not between 0 and {most}, the passes of a year")
        try:
            crs = CRS.from_user_input(self.crs)
        except CRSError as error:
            raise InputError(f"--crs {self.crs!r} is not known: give one as EPSG:32631") from error
        if not crs.is_projected or crs.linear_units_factor[1] != 1:
            raise InputError(f"--crs {self.crs} is not projected in metres: give a UTM zone, as EPSG:32631")
        if not all(math.isfinite(value) and abs(value) < 1e8 for value in self.origin):
            raise InputError(f"--origin {self.origin[0]:g} {self.origin[1]:g} is no place in metres")


@dataclass(frozen=True)
class Pass:
    """One image to take: when (UTC), from which relative orbit, and for Sentinel-2 how much cloud (0-1)."""

    when: datetime
    orbit: int
    cloud: float = 0.0

    @property
    def day(self) -> int:
        """Day of the year, 1-366."""
        return self.when.timetuple().tm_yday


def _passes(year: int, orbits: tuple[Orbit, ...], repeat: int) -> list[Pass]:
    days = (date(year + 1, 1, 1) - date(year, 1, 1)).days
    start = datetime(year, 1, 1)
    found = [
        Pass(datetime.combine(start + timedelta(days=day - 1), orbit.at), orbit.number)
        for orbit in orbits
        for day in range(orbit.first % repeat or repeat, days + 1, repeat)
    ]
    return sorted(found, key=lambda item: item.when)


def _choose(rng: np.random.Generator, passes: list[Pass], count: int) -> list[Pass]:
    """``count`` of the passes at irregular distances over the whole year, from all orbits in turn at random."""
    # One pass at random out of each of ``count`` equal stretches: gaps between none and twice the mean.
    edges = np.linspace(0, len(passes), count + 1).astype(int)
    return [passes[int(rng.integers(a, b))] for a, b in pairwise(edges)]


def s2_passes(spec: Spec) -> list[Pass]:
    """The Sentinel-2 images of ``spec`` by date, with their cloud shares.

    The shares follow a fixed distribution, dealt out at random: about half of any number of dates are clear.
    """
    rng = generator(spec.seed, 10, spec.year)
    chosen = _choose(rng, _passes(spec.year, S2_ORBITS, S2_REPEAT), spec.s2_dates)
    rank = (rng.permutation(len(chosen)) + 0.5) / max(len(chosen), 1)
    # Of the 118 Belgian dates this was compared with, 46 % are clear and a third overcast.
    share = np.interp(rank, [0, 0.38, 0.48, 0.70, 0.85, 1], [0, 0, 0.08, 0.45, 0.92, 1])
    return [Pass(one.when, one.orbit, float(cloud)) for one, cloud in zip(chosen, share, strict=True)]


def s1_passes(spec: Spec) -> list[Pass]:
    """The Sentinel-1 images of ``spec`` by date, from both orbits."""
    passes = _passes(spec.year, S1_ORBITS, S1_REPEAT)
    if spec.s1_dates > len(passes):
        passes = _passes(spec.year, S1_ORBITS, S1_REPEAT // 2)
    return _choose(generator(spec.seed, 11, spec.year), passes, spec.s1_dates)


def write(spec: Spec, folder: Path, tell: Callable[[str], None] = lambda text: None) -> list[Path]:
    """Simulates ``spec`` and writes it, date by date, so that memory holds only one image.

    Every file appears under its name only when it is whole. README.txt says "being written" until all are.

    Args:
        folder: created where missing; must be empty or hold a scene written by this function, which is replaced.
        tell: is given a line for each image.

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
        land = landscape((spec.height, spec.width), spec.seed, spec.year)
        _labels(spec, folder, land)
        written = []
        for number, taken in enumerate(s2_passes(spec)):
            name = f"{taken.when:%Y%m%d}.tif"
            dn, scl = sensors.sentinel2(land, taken.day, taken.orbit == S2_ORBITS[1].number, taken.cloud)
            tags = {"SENSOR": "simulated Sentinel-2 L2A", "RELATIVE_ORBIT": f"{taken.orbit}", "CLOUD": f"{taken.cloud}"}
            scale = "surface reflectance x 10000, no offset (as processing baselines before 04.00)"
            written.append(folder / "S2" / f"S2_{name}")
            _save(spec, written[-1], dn, bands.S2.bands, 0, taken, tags | {"UNITS": scale, "BOA_ADD_OFFSET": "0"})
            tags["UNITS"] = "scene classes of sen2cor"
            written.append(folder / "SCL" / f"SCL_{name}")
            _save(spec, written[-1], scl[None], ("SCL",), 0, taken, tags)
            tell(f"S2 {number + 1}/{spec.s2_dates} {taken.when:%Y-%m-%d} cloud {taken.cloud:.0%}")
        for number, taken in enumerate(s1_passes(spec)):
            power = sensors.sentinel1(land, taken.day, taken.orbit == S1_ORBITS[1].number)
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
) -> None:
    """Writes ``image`` (C, H, W) as a tiled GeoTIFF, with one band description a name."""
    left, top = spec.origin
    profile = {
        "driver": "GTiff",
        "dtype": image.dtype.name,
        "count": image.shape[0],
        "height": image.shape[1],
        "width": image.shape[2],
        "crs": spec.crs,
        "transform": Affine(10, 0, left, 0, -10, top),
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


def _labels(spec: Spec, folder: Path, land: Landscape) -> None:
    tags = {f"CLASS_{cover.code}": cover.name for cover in COVERS}
    colours = {cover.code: cover.colour for cover in COVERS}
    _save(spec, folder / "labels.tif", land.labels[None], ("land cover",), 0, None, tags, colours)
    with _whole(folder / "labels.csv") as part:
        rows = [f"{cover.code},{cover.name}\n" for cover in COVERS]
        part.write_text("code,name\n" + "".join(rows), encoding="utf-8")


def _readme(spec: Spec, folder: Path, status: str) -> None:
    size = f"{spec.height}x{spec.width}"
    lines = [
        MARK,
        f"status: {status}",
        f"version: {__version__}",
        f"again with: python -m malice_core.simulate OUT --size {size} --year {spec.year} --seed {spec.seed} "
        f"--s2-dates {spec.s2_dates} --s1-dates {spec.s1_dates} --crs {spec.crs} "
        f"--origin {spec.origin[0]:.12g} {spec.origin[1]:.12g}",
        "",
        "S2:  reflectance x 10000, no offset, 0 = nodata; 20 m bands repeated to 10 m",
        "SCL: scene classes 3 shadow, 4 vegetation, 5 bare, 6 water, 8 and 9 cloud, 10 cirrus; 0 = nodata",
        f"S1:  gamma0, linear; speckle of {sensors.LOOKS} looks; NaN = nodata; ascending orbits 59 and 161",
        "labels.tif: land cover, codes in labels.csv",
        "",
        "The place given by the coordinates is not what is simulated. Spectra, calendars and backscatter are",
        "judgement, fitted to the range of real images; do not use them to test a scientific claim.",
    ]
    with _whole(folder / "README.txt") as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


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
    parser.add_argument("folder", metavar="OUT_FOLDER", type=Path, help="new folder, or one written by this command")
    parser.add_argument("--size", type=_size, default=(default.height, default.width), metavar="N|HxW")
    parser.add_argument("--year", type=int, default=default.year)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--s2-dates", type=int, default=default.s2_dates, metavar="N")
    parser.add_argument("--s1-dates", type=int, default=default.s1_dates, metavar="N")
    parser.add_argument("--crs", default=default.crs, help="projected, in metres")
    parser.add_argument("--origin", type=float, nargs=2, default=default.origin, metavar=("X", "Y"))
    parser.add_argument("--quiet", action="store_true")
    try:
        given = parser.parse_args(arguments)
        tell: Callable[[str], None] = (lambda text: None) if given.quiet else (lambda text: print(text, flush=True))
        height, width = given.size
        spec = Spec(
            height=height,
            width=width,
            year=given.year,
            seed=given.seed,
            s2_dates=given.s2_dates,
            s1_dates=given.s1_dates,
            crs=given.crs,
            origin=tuple(given.origin),
        )
        write(spec, given.folder, tell)
        tell(f"wrote {given.folder}")
    except MaliceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: stopped; run the command again to start over", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
