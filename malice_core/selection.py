"""Which dates and which area a run covers: decided once, from the options and the images' headers."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform_bounds

from malice_core import bands
from malice_core.errors import InputError, OutputError
from malice_core.grid import Lattice, Window
from malice_core.images import clouds
from malice_core.product import scale_path
from malice_core.stack import Stack, discover

if TYPE_CHECKING:
    from malice_core.job import Job


#: An area of 3,000 x 3,000 km at 10 m: what is larger is a mistake in the numbers.
MAX_PIXELS = 10**11

#: A date, and the relative orbit that is meant (None: whatever orbit).
Listed = tuple[date, int | None]


def parse_dates(text: str) -> tuple[date | None, date | None, dict[str, set[Listed]] | None]:
    """``START/END`` (either may be empty) or ``@FILE``.

    Lines of FILE are as the plan prints them: ``2018-05-11`` for all modalities or ``S2 2018-05-11`` for one, with
    ``orbit 59`` behind it where one of several orbits is meant; what follows ``#`` is a comment.

    Returns:
        First date, last date (both included), and dates by sensor key (``""`` for all modalities).

    Raises:
        InputError: naming what is no date.
    """
    if text.startswith("@"):
        return None, None, _dates_of_file(Path(text[1:]))
    start, slash, end = text.partition("/")
    if not slash:
        raise InputError(f"--dates {text}: give START/END, for example 2018-01-01/2018-12-31, or @FILE")
    first, last = (_iso(part, "--dates") if part else None for part in (start, end))
    if first and last and first > last:
        raise InputError(f"--dates {text}: {first} is after {last}; swap them")
    return first, last, None


def _iso(text: str, origin: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise InputError(f"{origin}: '{text.strip()}' is no date; write it YYYY-MM-DD") from error


def _dates_of_file(path: Path) -> dict[str, set[Listed]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--dates @{path}: cannot be read ({error}); give a text file with one date a line") from error
    result: dict[str, set[Listed]] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        sensor = words.pop(0).lower() if words[0].upper() in ("S1", "S2") else ""
        orbit = None
        if len(words) == 3 and words[1].lower() == "orbit" and words[2].isdigit():
            orbit = int(words[2])
            del words[1:]
        if len(words) != 1:
            raise InputError(
                f"--dates @{path}, line {number}: '{line.strip()}' is not one date; write YYYY-MM-DD, or "
                "S1 YYYY-MM-DD orbit 59"
            )
        result.setdefault(sensor, set()).add((_iso(words[0], f"--dates @{path}, line {number}"), orbit))
    if not result:
        raise InputError(f"--dates @{path} lists no date; write one a line, YYYY-MM-DD")
    return result


def choose_dates(job: Job, stack: Stack, sensor: str) -> Stack:
    """The observations ``--dates`` asks for.

    Raises:
        InputError: if a date listed for this sensor is not there, or none is left.
    """
    if job.dates is None:
        return stack
    start, end, listed = parse_dates(job.dates)
    if listed is None:
        return stack.select(start=start, end=end)
    # Dates without a sensor may belong to the other modality; those of this one must be there.
    there = {(item.date, item.orbit) for item in stack.observations} | {
        (item.date, None) for item in stack.observations
    }
    if missing := sorted(listed.get(sensor, set()) - there, key=str):
        day, orbit = missing[0]
        which = f"{day}" if orbit is None else f"{day} orbit {orbit}"
        raise InputError(
            f"{job.dates}: there is no {sensor.upper()} image of {which}; remove the line or add the image"
        )
    return stack.select(dates=listed.get(sensor, set()) | listed.get("", set()))


def refuse_inputs(job: Job, files: list[str], beside: Collection[Path] = ()) -> None:
    """Raises:
    OutputError: if an output, or one of the files ``beside`` it, is one of the ``files`` that are read.
    """
    outputs = [job.output, *([job.counts] if job.counts else []), scale_path(job.output), *beside]
    inputs = {Path(name).resolve() for name in files}
    for path in outputs:
        if path.resolve() in inputs:
            raise OutputError(f"{path} is both an input and an output: give another name")


def apply_clouds(job: Job, lattice: Lattice, s2: Stack, area: Window) -> Stack:
    """``s2`` with cloud shares, without the dates that are too cloudy, and masked if asked.

    The classification stays open when it masks (the stack that is returned closes it).
    """
    scl = discover("scl", job.scl).on(lattice)
    kept = False
    try:
        refuse_inputs(job, scl.files())
        stack = clouds.with_clouds(
            s2,
            scl,
            area,
            max_cloud=job.max_cloud,
            classes=job.cloud_classes or bands.CLOUD_CLASSES,
            mask=job.mask_clouds,
        )
        kept = job.mask_clouds
    finally:
        if not kept:
            scl.close()
    return stack


def thin(job: Job, stack: Stack) -> Stack:
    """At most ``--max-dates`` observations, evenly spread in time."""
    return stack if job.max_dates is None else stack.select(max_dates=job.max_dates)


def warn_about_series(sensor: str, stack: Stack, warnings: list[str]) -> None:
    """Adds warnings about a series unlike those the networks were trained on: one date, too many, too short or long."""
    count = len(stack.observations)
    title = sensor.upper()
    if count == 1:
        warnings.append(
            f"{title}: one date only ({stack.observations[0].date}); the networks describe a year, give 6 to 18 months"
        )
    if count > bands.TRAINED_MAX_DATES:
        cure = "--s1-orbit or --max-dates" if sensor == "s1" else "--max-cloud or --max-dates"
        warnings.append(
            f"{title}: {count} dates, the networks were trained on at most {bands.TRAINED_MAX_DATES}; consider {cure}"
        )
    span = (stack.observations[-1].date - stack.observations[0].date).days
    if count > 1 and not 150 <= span <= 560:
        warnings.append(f"{title}: the dates span {span} days; 6 to 18 months are recommended")


def area_of(job: Job, lattice: Lattice, reference: Stack, warnings: list[str]) -> Window:
    """What the run delivers: ``--aoi`` on the lattice, else the union of the images.

    Raises:
        InputError: if the area is empty, lies outside the images, or its CRS cannot be used.
    """
    if job.aoi is None:
        if job.aoi_crs:
            raise InputError(f"--aoi-crs {job.aoi_crs} without --aoi; give --aoi MINX MINY MAXX MAXY")
        return reference.area()
    box = job.aoi
    if job.aoi_crs:
        try:
            source = CRS.from_user_input(job.aoi_crs)
            lattice.window(*box)  # an empty box gets its own message, not the projection's
            box = transform_bounds(source, CRS.from_user_input(lattice.crs), *box, densify_pts=21)
        except (CRSError, RasterioError, ValueError) as error:
            raise InputError(
                f"--aoi-crs {job.aoi_crs}: cannot bring the area into {crs_name(lattice)}: {error}"
            ) from error
        if not all(map(math.isfinite, box)):
            raise InputError(
                f"--aoi-crs {job.aoi_crs}: the area cannot be brought into {crs_name(lattice)}: it lies where one of "
                "the two is not defined, or this CRS is none of places on the ground; check --aoi and --aoi-crs"
            )
    area = lattice.window(*box)
    if area.pixels > MAX_PIXELS:
        raise InputError(
            f"--aoi {' '.join(f'{value:g}' for value in job.aoi)}: {area.width} x {area.height} pixels are too large "
            "for one run; check its numbers and --aoi-crs"
        )
    require_overlap(lattice, area, reference, "images")
    if not reference.extent.contains(area):
        warnings.append("the area of interest reaches beyond the images; what they do not cover becomes nodata")
    return area


def require_overlap(lattice: Lattice, area: Window, stack: Stack, images: str) -> None:
    """Raises:
    InputError: if the area and the images have no pixel in common.
    """
    if not stack.extent.intersect(area).pixels:
        raise InputError(
            f"the area {bounds_text(lattice, area)} lies outside the {images}, which cover "
            f"{bounds_text(lattice, stack.extent)} ({crs_name(lattice)}): choose another --aoi, or check --aoi-crs"
        )


def bounds_text(lattice: Lattice, window: Window) -> str:
    return " ".join(f"{value:.10g}" for value in lattice.bounds(window))


def crs_name(lattice: Lattice) -> str:
    crs = CRS.from_user_input(lattice.crs)
    epsg = crs.to_epsg()
    if epsg:
        return f"EPSG:{epsg}"
    match = re.search(r'"([^"]+)"', crs.to_wkt())
    return match.group(1) if match else "unnamed CRS"
