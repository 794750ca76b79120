"""Options that command lines share: the images, the choice among them, and the types of arguments."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

from malice_core import job
from malice_core.errors import InputError


def add_images(parser: argparse.ArgumentParser) -> None:
    """``--s2 --s1 --scl --s2-offset``"""
    group = parser.add_argument_group("images")
    titles = {"s2": "Sentinel-2 L2A images", "s1": "Sentinel-1 GRD, linear gamma0", "scl": "scene classification (SCL)"}
    for name, title in titles.items():
        group.add_argument(f"--{name}", nargs="+", type=path, action="extend", default=[], metavar="PATH", help=title)
    group.add_argument(
        "--s2-offset", default="auto", choices=("auto", "0", "-1000"), help="offset to add to Sentinel-2 DN"
    )


def add_surroundings(parser: argparse.ArgumentParser) -> None:
    """``--weather --weather-gaps --dem --dem-nodata --s2-angles --s1-angles --angles``"""
    group = parser.add_argument_group("surroundings, for MALICE Aux")
    many: dict[str, Any] = {"nargs": "+", "type": path, "action": "extend", "default": [], "metavar": "PATH"}
    group.add_argument("--weather", **many, help="AgERA5: rasters, a folder, netCDF or a CSV")
    group.add_argument(
        "--weather-gaps", choices=job.WEATHER_GAPS, default="error", help="where a date lacks a day of weather"
    )
    group.add_argument("--dem", type=path, metavar="PATH", help="elevation in metres")
    group.add_argument(
        "--dem-nodata", choices=job.DEM_NODATA, default="error", help="fill: close its holes from their edges"
    )
    group.add_argument("--s2-angles", **many, help="CSV, STAC items, MTD_TL.xml or a folder of products")
    group.add_argument("--s1-angles", **many, help="CSV, STAC items, or degrees: 38.5, or 161=38.5 for an orbit")
    group.add_argument(
        "--angles", choices=job.ANGLES, default="error", help="where a date has none: median of training"
    )


def add_choice(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Which dates and which area, and the grid; the group, for what a command adds."""
    group = parser.add_argument_group("choice of data")
    group.add_argument("--dates", metavar="START/END|@FILE", help="dates to use, both ends included, or a list")
    group.add_argument("--max-dates", type=count, metavar="N", help="thin each sensor evenly to N dates (default: all)")
    group.add_argument("--max-cloud", type=percent, metavar="PERCENT", help="drop dates with more cloud (needs --scl)")
    group.add_argument("--cloud-classes", type=classes, metavar="N,N", help="default 3,8,9,10")
    group.add_argument("--s1-orbit", type=orbit, metavar="N", help="use this relative orbit of Sentinel-1 only")
    group.add_argument("--aoi", nargs=4, type=float, metavar=("MINX", "MINY", "MAXX", "MAXY"), help="area of interest")
    group.add_argument("--aoi-crs", metavar="EPSG:N", help="CRS of --aoi (default: the grid's)")
    group.add_argument("--resolution", type=resolution, metavar="METRES", help="pixel size (default 10 m)")
    return group


def number(text: str, kind: type, low: float, high: float, what: str) -> Any:
    """A number within limits.

    Raises:
        argparse.ArgumentTypeError: saying that the text is not ``what``.
    """
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")
    return value


def whole(low: int, high: int = 1 << 20) -> Callable[[str], int]:
    """The type of whole numbers from ``low`` on; beyond ``high`` is beyond reason."""
    return lambda text: int(number(text, int, low, high, f"a whole number from {low} to {high}"))


count = whole(1)


def block(text: str) -> tuple[int, int]:
    """(height, width) of blocks: ``256``, or ``256x512``."""
    sides = text.lower().split("x")
    what = "a block: N, or HEIGHTxWIDTH, whole numbers of at least 1"
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    height, width = (int(number(side, int, 1, 1 << 20, what)) for side in (sides[0], sides[-1]))
    return height, width


def orbit(text: str) -> int:
    """A relative orbit of Sentinel-1."""
    return int(number(text, int, 1, 175, "a relative orbit of Sentinel-1, 1 to 175"))


def percent(text: str) -> float:
    """0 to 100."""
    return float(number(text, float, 0, 100, "a percentage, 0 to 100"))


def resolution(text: str) -> float:
    """A pixel size in metres."""
    # The networks know pixels of 10 m; a hundred times that is a mistake, and would average for hours.
    return float(number(text, float, 0.5, 200, "a pixel size of 0.5 to 200 metres"))


def path(text: str) -> str:
    """A path that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path (an unset variable?)")
    return text


def dask(text: str) -> str:
    """Where blocks are computed: ``local``, ``local:N``, an address, or a scheduler file."""
    kind, colon, number_of = path(text).partition(":")
    if kind == "local" and colon:
        number(number_of, int, 1, 1024, "a number of processes, as in local:4")
    return text


def integers(text: str, low: int, high: int, what: str) -> tuple[int, ...]:
    """Whole numbers with commas between."""
    return tuple(int(number(part, int, low, high, what)) for part in text.split(","))


def classes(text: str) -> tuple[int, ...]:
    """Scene classes."""
    return integers(text, 1, 255, "a list of classes such as 3,8,9,10")


def queries(text: str) -> tuple[int, ...]:
    """Queries of a model, from 0."""
    return integers(text, 0, 65535, "a list of queries such as 0,3")


def size(text: str, option: str = "--memory") -> int:
    """``2GB``, ``500MB``, ``1.5G``, ``2GiB`` or plain bytes → bytes.

    Raises:
        InputError: if it is no size; names ``option``.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(I?)B?\s*", text.upper())
    if not match:
        raise InputError(f"{option} {text}: write a size such as 2GB or 800MB")
    amount, unit, binary = match.groups()
    return int(float(amount) * (1024 if binary else 1000) ** ("KMGT".index(unit) + 1 if unit else 0))
