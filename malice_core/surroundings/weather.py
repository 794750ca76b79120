"""The weather of each date: eight daily variables of AgERA5 on the six days d-4 … d+1, for cells of 64 x 64 pixels.

Source: MALICE Aux takes the mean of AgERA5 over its patch. Here a cell's weather is AgERA5 interpolated bilinearly at
the cell's centre, cells being anchored in CRS coordinates (``cells.py``): a field that is constant over a patch gives
the published numbers, and no result depends on tiling. Units are decided once for all files (``agera5.py``).
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from malice_core.errors import InputError
from malice_core.grid import Lattice, Window
from malice_core.images.files import local_files
from malice_core.images.reading import Band, Grid, Pool
from malice_core.images.sources import Findings
from malice_core.job import WEATHER_GAPS
from malice_core.store.statistics import AUX_WEATHER, Statistics
from malice_core.surroundings import cells
from malice_core.surroundings.agera5 import KEYS, VARIABLES, Unit
from malice_core.surroundings.cells import Positions, cells_of, square_window, squares_of
from malice_core.surroundings.consistency import doubts
from malice_core.surroundings.gathering import complete, find, glance, is_table, shortened, units_of
from malice_core.surroundings.weather_files import Entry

Float = NDArray[np.float32]

#: Days of a date, counted from it.
OFFSETS = (-4, -3, -2, -1, 0, 1)
#: Rasters open in each thread: those of a day, one a variable. Squares are kept, so that files are rarely read again.
_HANDLES = 2 * len(KEYS)
#: What is kept of squares of cells, in bytes: those that a block touches, of all days of five years.
KEPT = 32 << 20


class Usable(NamedTuple):
    """The dates whose weather is there.

    Attributes:
        dates: in the order given, without those dropped.
        summary: one line.
        report: one line a date whose weather is not complete: which days lack, and what becomes of it.
    """

    dates: tuple[date, ...]
    summary: str
    report: tuple[str, ...]


class Cells(NamedTuple):
    """Weather of the cells that touch a window.

    Attributes:
        values: float32 (rows, cols, T, 48) in the network's units, variable by variable, six days each; not normalised.
        row, col: index of the first cell: it has the pixels from (64 row, 64 col) of the lattice's global indices.
    """

    values: Float
    row: int
    col: int


def normalised(values: Float, statistics: Statistics = AUX_WEATHER) -> Float:
    """What the network gets: clip to [qmin, qmax], minus med, over (qmax - qmin); NaN to 0.

    Args:
        values: (…, 48), as :class:`Cells` has them.
        statistics: one number a variable.

    Returns:
        (…, 48) float32, the same shape.
    """
    low, high, med = (
        np.repeat(np.asarray(numbers, np.float32), len(OFFSETS))
        for numbers in (statistics.qmin, statistics.qmax, statistics.med)
    )
    out = np.clip(np.asarray(values, np.float32), low, high)
    out -= med
    out /= high - low
    return np.nan_to_num(out, copy=False, nan=0.0)


def days_of(day: date) -> tuple[date, ...]:
    """The six days whose weather belongs to an acquisition of ``day``."""
    return tuple(day + timedelta(days=offset) for offset in OFFSETS)


class Weather:
    """All weather of a run. Reading is thread-safe.

    Attributes:
        days: on which all eight variables are there, in order.
        units: of each variable, by key: what the files have.
        notes, warnings: what was found, and doubts; one line each.
    """

    def __init__(self, entries: dict[date, dict[str, Entry]], units: dict[str, Unit], pool: Pool, found: Findings):
        self.days = tuple(sorted(entries))
        self.units = units
        self.notes, self.warnings = found.notes, found.warnings
        self._entries, self._pool = entries, pool
        self._lock = threading.Lock()
        self._squares: OrderedDict[object, NDArray[np.float64]] = OrderedDict()
        self._positions: OrderedDict[object, Positions] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        # What is kept is read again in another process.
        return Weather, (self._entries, self.units, self._pool, Findings(self.notes, self.warnings))

    @classmethod
    def open(cls, paths: Sequence[str | Path]) -> Weather:
        """Finds variables, days and units; headers and tables are read, and a few values of rasters.

        Args:
            paths: rasters, netCDF files, tables, folders of them, or text lists of paths.

        Raises:
            InputError: naming the file and what is wrong with it: missing, damaged, without a day, variable or place,
                a day twice, a unit that cannot be.
        """
        findings, pool = Findings(), Pool(_HANDLES)
        try:
            entries = complete(find(paths, findings), findings)
            units = units_of(entries, pool, findings)
        except BaseException:
            pool.close()
            raise
        return cls(entries, units, pool, findings)

    @property
    def uniform(self) -> bool:
        """Whether it is the same everywhere because all of it comes from tables."""
        return all(entry.band is None for variables in self._entries.values() for entry in variables.values())

    def close(self) -> None:
        """Closes the open rasters."""
        self._pool.close()

    def files(self, days: Collection[date] | None = None) -> list[str]:
        """What there is, sorted, absolute paths of local files.

        Args:
            days: those that hold the weather of these days; None: all.
        """
        chosen = self._entries if days is None else days
        found = {entry.file for day in chosen for entry in self._entries[day].values()}
        for file in found - self._local.keys():  # each raster is opened for it
            self._local[file] = (os.path.abspath(file),) if is_table(file) else local_files(file)
        return sorted({name for file in found for name in self._local[file]})

    @cached_property
    def _local(self) -> dict[str, tuple[str, ...]]:
        return {}

    def describe(self) -> list[str]:
        """What the plan prints: days, layouts and units, one line each."""
        return list(self.notes)

    def check(self, dates: Collection[date], gaps: str = "error") -> Usable:
        """Which acquisition dates can be used.

        Args:
            dates: of the images.
            gaps: where one of a date's six days is missing: ``error``, ``nearest`` (the nearest day that is there, the
                earlier of two) or ``drop-date``.

        Raises:
            InputError: if days are missing and ``gaps`` is ``error``, or no date is left.
        """
        if gaps not in WEATHER_GAPS:
            raise InputError(f"--weather-gaps {gaps} is none of {', '.join(WEATHER_GAPS)}")
        lacking = {day: lack for day in dates if (lack := [one for one in days_of(day) if one not in self._entries])}
        if not lacking:
            return Usable(tuple(dates), f"weather: all six days of all {len(dates)} dates are there", ())
        days = sorted({one for lack in lacking.values() for one in lack})
        shown = shortened(days)
        what = f"{len(days)} day{'s are' if len(days) > 1 else ' is'} missing ({shown}), which {len(lacking)} of "
        what += f"{len(dates)} dates need{'s' if len(lacking) == 1 else ''}"
        if gaps == "error":
            raise InputError(
                f"weather: {what}; there is weather of {self.days[0]} to {self.days[-1]}: add the missing days, "
                "or choose --weather-gaps nearest or drop-date"
            )
        if gaps == "drop-date":
            kept = tuple(day for day in dates if day not in lacking)
            if not kept:
                raise InputError(
                    f"weather: {what}, so that --weather-gaps drop-date leaves none; the weather there is covers "
                    f"{self.days[0]} to {self.days[-1]}: add the missing days"
                )
            report = tuple(f"{day}: left out, no weather on {shortened(lack)}" for day, lack in lacking.items())
            return Usable(kept, f"weather: {what}; these dates are left out", report)
        report = tuple(
            f"{day}: " + ", ".join(f"{one} has the weather of {self._nearest(one)}" for one in lack)
            for day, lack in lacking.items()
        )
        farthest = max(abs((self._nearest(one) - one).days) for one in days)
        summary = f"weather: {what}; the nearest day is taken, at most {farthest} day{'s' * (farthest > 1)} away"
        return Usable(tuple(dates), summary, report)

    def days_read(self, dates: Collection[date], gaps: str = "error") -> set[date]:
        """The days whose weather is read for dates of acquisition. Raises InputError as :meth:`values`."""
        return set(self._needed(dates, gaps).values())

    def _nearest(self, day: date) -> date:
        at = bisect_left(self.days, day)
        around = self.days[max(at - 1, 0) : at + 1]
        return min(around, key=lambda one: (abs((one - day).days), one))

    def values(self, lattice: Lattice, window: Window, dates: Sequence[date], gaps: str = "error") -> Cells:
        """The weather of ``dates`` in the cells that touch ``window``.

        Args:
            lattice: the run's grid.
            window: in its global pixels, not empty.
            dates: T dates of acquisition.
            gaps: ``nearest``: a missing day is replaced by the nearest one; else it is an error (``drop-date`` has
                left such dates out before, see :meth:`check`).

        Raises:
            InputError: if a day is missing, a cell is not covered or has only nodata around it, or a value is
                impossible in its file's unit.
            ValueError: if ``window`` is empty.
        """
        needed = self._needed(dates, gaps)
        wanted = cells_of(window)
        self._refuse_uncovered(lattice, wanted, set(needed.values()))
        daily = {day: self._day(lattice, wanted, day) for day in sorted(set(needed.values()))}
        out = np.empty((*wanted.shape, len(dates), len(KEYS), len(OFFSETS)), np.float32)
        for t, acquisition in enumerate(dates):
            for k, day in enumerate(days_of(acquisition)):
                out[:, :, t, :, k] = daily[needed[day]]
        return Cells(out.reshape(*wanted.shape, len(dates), len(KEYS) * len(OFFSETS)), wanted.row, wanted.col)

    def _day(self, lattice: Lattice, wanted: Window, day: date) -> Float:
        """(rows, cols, 8) float32 in the network's units."""
        out = np.empty((*wanted.shape, len(KEYS)), np.float32)
        for i, j in squares_of(wanted):
            part = square_window(i, j).intersect(wanted)
            out[part.slices_in(wanted)] = self._square(lattice, day, i, j)[part.slices_in(square_window(i, j))]
        holes = np.argwhere(np.isnan(out))
        if len(holes):
            row, col, at = (int(number) for number in holes[0])
            centre = lattice.bounds(
                Window((wanted.row + row) * cells.CELL, (wanted.col + col) * cells.CELL, cells.CELL, cells.CELL)
            )
            file = self._entries[day][KEYS[at]].file
            raise InputError(
                f"weather: {VARIABLES[at].title} of {day} is missing around x {sum(centre[::2]) / 2:.0f}, y "
                f"{sum(centre[1::2]) / 2:.0f} and in {np.isnan(out).any(axis=-1).mean():.0%} of the cells (nodata in "
                f"{file}; AgERA5 has none over the sea); fill it with gdal_fillnodata, give a smaller --aoi, or, if "
                "other days have values there, take that day's file out and choose --weather-gaps nearest"
            )
        return out

    def _square(self, lattice: Lattice, day: date, i: int, j: int) -> NDArray[np.float64]:
        """(16, 16, 8) float64 in the network's units, NaN where there is nothing."""
        key = (lattice, day, i, j)
        with self._lock:
            if key in self._squares:
                self._squares.move_to_end(key)
                return self._squares[key]
        out = np.empty((cells.SQUARE, cells.SQUARE, len(KEYS)))
        for at, stored in self._stored(lattice, day, i, j):
            entry, unit = self._entries[day][KEYS[at]], self.units[KEYS[at]]
            seen = stored[np.isfinite(stored)]
            wrong = seen[(seen < unit.low) | (seen > unit.high)]
            if wrong.size:
                raise InputError(
                    f"{entry.file}: {VARIABLES[at].title} of {day} is {wrong[0]:g}, impossible in {unit.name}, the "
                    "unit of the other days; convert it, or declare the value as nodata (gdal_edit -a_nodata)"
                )
            out[..., at] = unit.apply(stored)
        with self._lock:
            self._squares[key] = out
            while len(self._squares) * out.nbytes > KEPT:
                self._squares.popitem(last=False)
        return out

    def _stored(self, lattice: Lattice, day: date, i: int, j: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Positions of variables in ``KEYS``, and (16, 16) of each in its file's unit."""
        shape = (cells.SQUARE, cells.SQUARE)
        # Variables of one grid are read and interpolated together: most of the time goes with calls, not with numbers.
        rasters: dict[Grid, list[tuple[int, Band]]] = {}
        for at, name in enumerate(KEYS):
            entry = self._entries[day][name]
            if entry.band is None:
                yield at, np.full(shape, entry.value, np.float64)
            elif entry.grid is None:  # one pixel for the whole area
                held = glance(self._pool, entry)
                yield at, np.full(shape, held[0] if held.size else np.nan)
            else:
                rasters.setdefault(entry.grid, []).append((at, entry.band))
        for grid, named in rasters.items():
            found = cells.sample(self._pool, grid, [band for _, band in named], self._where(lattice, grid, i, j))
            yield from zip((at for at, _ in named), found, strict=True)

    def _where(self, lattice: Lattice, grid: Grid, i: int, j: int) -> Positions:
        key = (lattice, grid, i, j)
        with self._lock:
            if key in self._positions:
                self._positions.move_to_end(key)
                return self._positions[key]
        found = cells.locate(lattice, grid, i, j)
        with self._lock:
            self._positions[key] = found
            while len(self._positions) > 1024:
                self._positions.popitem(last=False)
        return found

    def verify(self, lattice: Lattice, window: Window, dates: Sequence[date], gaps: str = "error") -> None:
        """Reads all that :meth:`values` will be asked for, so that a run fails when it is planned.

        Args:
            window: all pixels whose weather is needed; a part of it for weather that is :attr:`uniform`.
            dates, gaps: as of :meth:`values`.

        Raises:
            InputError: as :meth:`values`; of an area that is not covered it says how much; or if days of one variable
                are in different units.
        """
        wanted = cells_of(window)
        needed = sorted(set(self._needed(dates, gaps).values()))
        self._refuse_uncovered(lattice, wanted, set(needed))
        medians = {day: np.median(self._day(lattice, wanted, day), axis=(0, 1)) for day in needed}
        self.warnings.extend(line for line in doubts(medians) if line not in self.warnings)

    def _needed(self, dates: Collection[date], gaps: str) -> dict[date, date]:
        """The days that belong to ``dates``, and the one whose weather each has.

        Raises:
            InputError: if one is missing and must not be.
        """
        needed: dict[date, date] = {}
        for day in (one for acquisition in dates for one in days_of(acquisition)):
            if day not in needed:
                needed[day] = self._nearest(day) if gaps == "nearest" else day
        if any(day not in self._entries for day in needed.values()):
            self.check(dates)  # raises, and says what is missing
        return needed

    def _refuse_uncovered(self, lattice: Lattice, wanted: Window, days: set[date]) -> None:
        grids: dict[Grid, str] = {}
        for day in sorted(days):
            for entry in self._entries[day].values():
                if entry.grid is not None:
                    grids.setdefault(entry.grid, entry.file)
        for grid, file in grids.items():
            out = 0
            for i, j in squares_of(wanted):
                square = square_window(i, j)
                part = square.intersect(wanted).slices_in(square)
                out += int((~self._where(lattice, grid, i, j).covered[part]).sum())
            if out:
                raise InputError(
                    f"{file}: {max(out / wanted.pixels, 0.01):.0%} of the area is not covered ({out} of "
                    f"{wanted.pixels} cells of {cells.CELL * lattice.res:g} m lie beyond it); give weather for all of "
                    "it, or a smaller --aoi"
                )
