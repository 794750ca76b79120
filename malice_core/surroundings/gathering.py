"""From paths to whole days of weather, and the units the files have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from malice_core.errors import InputError
from malice_core.images.opening import beside
from malice_core.images.reading import Grid, Pool
from malice_core.images.sources import Findings
from malice_core.surroundings.agera5 import KEYS, VARIABLES, Unit, decide
from malice_core.surroundings.weather_files import TABLE_SUFFIXES, Entry, expand, missing_variables, read_header
from malice_core.surroundings.weather_tables import read_table

#: Days whose values tell the units, spread over the series, and pixels looked at along each side of a raster.
_GLANCES, _GLANCE_SIDE = 12, 64


def shortened(days: Sequence[date]) -> str:
    """The first five, and how many more."""
    return ", ".join(map(str, days[:5])) + (f" and {len(days) - 5} more" if len(days) > 5 else "")


def is_table(file: str) -> bool:
    """True for a CSV; everything else is opened with GDAL."""
    return file.lower().endswith(TABLE_SUFFIXES)


def find(paths: Sequence[str | Path], findings: Findings) -> dict[date, dict[str, Entry]]:
    """All that is behind ``paths``, by day and key of the variable.

    Raises:
        InputError: naming the file and what is wrong with it, or the variables that are in none.
    """
    files: dict[str, bool] = {}
    for path in paths:
        for file, named in expand(str(path)):
            files[file] = files.get(file, False) or named
    if not files:
        raise InputError("no path given for the weather; give rasters, a folder, a netCDF file or a CSV")
    entries: dict[date, dict[str, Entry]] = {}
    layouts: dict[str, int] = {}
    names: list[str] = []
    others: list[str] = []
    grids: dict[Grid, Grid] = {}
    for file, named in files.items():
        found = read_table(file) if is_table(file) else read_header(file, findings)
        names += found.names
        if not found.entries:
            if named:
                missing_variables(set(), found.names, file)
            others.append(file)
            continue
        layouts[found.layout] = layouts.get(found.layout, 0) + 1
        for day, key, entry in found.entries:
            there = entries.setdefault(day, {})
            if key in there:
                twice = there[key].file
                title = VARIABLES[KEYS.index(key)].title
                raise InputError(
                    f"{file}: {title} of {day} is there twice"
                    + (
                        ", one value a day is wanted: make daily values of it"
                        if twice == file
                        else f", also in {twice}; "
                    )
                    + ("" if twice == file else "leave one of them out")
                )
            if entry.grid is not None:  # hundreds of files share a grid: one object
                entry = Entry(entry.file, None, entry.band, grids.setdefault(entry.grid, entry.grid), entry.unit)
            there[key] = entry
    where = str(paths[0]) + (f" and {len(paths) - 1} more paths" if len(paths) > 1 else "")
    missing_variables({key for there in entries.values() for key in there}, names, where)
    for layout, count in layouts.items():
        findings.note(f"weather: {layout} ({count} file{'s' * (count > 1)})")
    if others:
        findings.warn(
            f"weather: {len(others)} file{'s' * (len(others) > 1)} left out, with none of the eight variables, such as "
            f"{others[0]}"
        )
    return entries


def complete(entries: dict[date, dict[str, Entry]], findings: Findings) -> dict[date, dict[str, Entry]]:
    """The days with all eight variables, in order.

    Raises:
        InputError: if there is none.
    """
    whole = {day: there for day, there in sorted(entries.items()) if len(there) == len(KEYS)}
    partly = [day for day in sorted(entries) if day not in whole]
    if partly:
        lack = {key for day in partly for key in KEYS if key not in entries[day]}
        titles = ", ".join(variable.title for variable in VARIABLES if variable.key in lack)
        text = f"weather: {len(partly)} day{'s lack' if len(partly) > 1 else ' lacks'} {titles}: {shortened(partly)}"
        if not whole:
            raise InputError(f"{text}; no day has all eight variables: give files of the same days for all of them")
        findings.warn(f"{text}; taken as missing")
    days = list(whole)
    span = (days[-1] - days[0]).days + 1
    gaps = "without a gap" if span == len(days) else f"{span - len(days)} missing between"
    findings.notes.insert(0, f"weather: {len(days)} day{'s' * (len(days) > 1)}, {days[0]} to {days[-1]}, {gaps}")
    return whole


def units_of(entries: dict[date, dict[str, Entry]], pool: Pool, findings: Findings) -> dict[str, Unit]:
    """The unit of each variable, by key, from a dozen days spread over the series.

    Raises:
        InputError: if a file cannot be read, or values fit no unit.
    """
    days = list(entries)
    step = max(1, -(-len(days) // _GLANCES))
    looked = [*days[::step], days[-1]]
    samples, declared = {}, {}
    for key in KEYS:
        # Tables are in memory: all of their values are looked at.
        table = [entry.value for day in days if (entry := entries[day][key]).value is not None]
        glances = [glance(pool, entry) for day in looked if (entry := entries[day][key]).band is not None]
        samples[key] = np.concatenate([np.asarray(table, np.float64), *glances])
        declared[key] = frozenset(entries[day][key].unit for day in days)
    return decide(samples, declared, findings)


def glance(pool: Pool, entry: Entry) -> NDArray[np.float64]:
    """Values of a raster's band, at most 64 x 64 pixels spread over it, in the file's unit; (n,) without nodata.

    Raises:
        InputError: if the file cannot be read.
    """
    band = entry.band
    assert band is not None, "tables are not read again"
    dataset = pool.open(band.path)
    shape = (min(dataset.height, _GLANCE_SIDE), min(dataset.width, _GLANCE_SIDE))
    try:
        with beside(band.path):
            stored = dataset.read(band.index, out_shape=shape)
            mask = dataset.read_masks(band.index, out_shape=shape) if band.mask else np.ones(shape, np.uint8)
    except RasterioError as error:
        raise InputError(
            f"cannot read {entry.file}: {error.__cause__ or error}; the file is damaged or incomplete: copy it again"
        ) from error
    seen = (mask != 0) & np.isfinite(stored)
    for fill in band.fills:
        seen &= stored != np.float64(fill).astype(stored.dtype)
    values: NDArray[np.float64] = stored[seen].astype(np.float64) * band.gain + band.bias
    return values
