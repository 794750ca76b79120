"""Weather, terrain and angles of a place, for datasets that MALICE Aux is trained on.

A patch gets the weather of each date as one mean over its ground, as the published MALICE Aux was trained: the
weather's cells that it touches (``surroundings/weather.py``), each by the share of the patch's pixels that lie in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core import selection
from malice_core.errors import InputError
from malice_core.grid import Lattice, Window
from malice_core.job import Job
from malice_core.stack import Stack
from malice_core.surroundings.angles import Angles
from malice_core.surroundings.cells import CELL
from malice_core.surroundings.terrain import Terrain
from malice_core.surroundings.weather import Cells, Weather

Float = NDArray[np.float32]

#: Where a folder of ``--places`` has them: the first name that is there.
WEATHER = ("AGERA5.csv", "AGERA5_daily.csv", "AGERA5")
DEM, DEMS = "DEM.tif", "DEM_*.tif"
S2_ANGLES, S1_ANGLES = ("S2_angles.csv", "S2_dates.csv"), ("S1_angles.csv",)


def wanted(job: Job) -> bool:
    """Whether the options ask for any of them."""
    return bool(job.weather or job.dem or job.s2_angles or job.s1_angles or job.angles == "median")


def require_whole(job: Job, where: str = "") -> None:
    """All of them or none.

    Args:
        where: what the message begins with.

    Raises:
        InputError: naming what lacks.
    """
    median = job.angles == "median"
    have = {
        "--weather": job.weather,
        "--dem": job.dem,
        "--s2-angles": job.s2_angles or median,
        "--s1-angles": job.s1_angles or median,
    }
    lacking = [option for option, given in have.items() if not given]
    if wanted(job) and lacking:
        cure = " (or --angles median)" if any("angles" in option for option in lacking) else ""
        raise InputError(
            f"{where}no {' and no '.join(lacking)}: datasets for MALICE Aux hold weather, terrain and the angles "
            f"of both sensors; give {' and '.join(lacking)}{cure} too, or none of them"
        )


def at(job: Job, folder: Path) -> Job:
    """With what lies in the folder of a place, where nothing is given for all places.

    Raises:
        InputError: if there are several elevation models, or only part of what is needed.
    """
    weather = job.weather or _first(folder, WEATHER)
    dem = job.dem or next(iter(_first(folder, (DEM,))), None)
    if dem is None and (found := sorted(folder.glob(DEMS))):
        if len(found) > 1:
            raise InputError(
                f"{folder}: has {', '.join(path.name for path in found)}; name the one to use {DEM}, or give --dem"
            )
        dem = f"{found[0]}"
    s2_angles, s1_angles = job.s2_angles or _first(folder, S2_ANGLES), job.s1_angles or _first(folder, S1_ANGLES)
    if not (wanted(job) or weather or dem):
        # A table of dates is there for many reasons.
        return job
    whole = replace(job, weather=weather, dem=dem, s2_angles=s2_angles, s1_angles=s1_angles)
    require_whole(whole, f"{folder}: ")
    return whole


def _first(folder: Path, names: Iterable[str]) -> tuple[str, ...]:
    return next(((f"{folder / name}",) for name in names if (folder / name).exists()), ())


@dataclass
class Surroundings:
    """Weather, terrain and angles of one place, open.

    Attributes:
        angles: by sensor key.
        dates: days of sensing by sensor key.
        rows: their angles by sensor key, float32 (T, 6), (T, 1); as ``dates`` empty before :meth:`settle`.
        notes, warnings: what was found, and doubts; one line each.
    """

    job: Job
    lattice: Lattice
    weather: Weather
    terrain: Terrain
    angles: dict[str, Angles]
    notes: list[str]
    warnings: list[str]
    dates: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    rows: dict[str, Float] = field(default_factory=dict)

    @classmethod
    def open(cls, job: Job, lattice: Lattice) -> Surroundings:
        """Finds files, days and units.

        Raises:
            InputError: whatever is wrong with them, naming the file; or if any of them lacks.
        """
        require_whole(job)
        angles = {key: Angles.open(key, getattr(job, f"{key}_angles"), job.angles) for key in ("s2", "s1")}
        assert job.dem is not None, "require_whole has seen it"
        weather = Weather.open(job.weather)
        try:
            terrain = Terrain.open(job.dem, lattice, job.dem_nodata)
        except BaseException:
            weather.close()
            raise
        notes = [*weather.describe(), *terrain.notes]
        return cls(job, lattice, weather, terrain, angles, notes, list(weather.warnings))

    def close(self) -> None:
        """Closes the files."""
        self.weather.close()
        self.terrain.close()

    def thin(self, job: Job, stack: Stack) -> Stack:
        """``selection.thin`` of the dates whose weather can be used.

        Raises:
            InputError: if weather is missing and must not, or no date is left.
        """
        if self.job.weather_gaps == "drop-date":
            return selection.thin(job, self._with_weather(stack))
        return self._with_weather(selection.thin(job, stack))

    def _with_weather(self, stack: Stack) -> Stack:
        title, dates = stack.sensor.title, [one.date for one in stack.observations]
        try:
            found = self.weather.check(dates, self.job.weather_gaps)
        except InputError as error:
            raise InputError(f"{title}: {error}") from error
        (self.warnings if found.report else self.notes).append(f"{title}: {found.summary}")
        self.notes += [f"{title}: {line}" for line in found.report]
        kept = set(found.dates)
        if len(kept) == len(set(dates)):
            return stack
        return replace(stack, observations=tuple(one for one in stack.observations if one.date in kept))

    def settle(self, stacks: dict[str, Stack], windows: Sequence[Window]) -> None:
        """Takes up the dates, and refuses what would end the build later.

        Raises:
            InputError: if angles lack, or weather or terrain do not cover the patches.
        """
        for key, stack in stacks.items():
            self.dates[key] = tuple(one.date for one in stack.observations)
            self.rows[key] = self.angles[key].of(self.dates[key], [one.orbit for one in stack.observations])
            self.warnings += self.angles[key].warnings
        whole = windows[0]
        for window in windows[1:]:
            whole = whole.union(window)
        days = sorted({day for dates in self.dates.values() for day in dates})
        self.weather.verify(self.lattice, whole, days, self.job.weather_gaps)
        self.warnings += [line for line in self.weather.warnings if line not in self.warnings]
        self.terrain.check(whole)

    def of(self, window: Window) -> dict[str, NDArray[Any]]:
        """What a dataset holds of one patch: ``s2_weather``, ``s1_weather`` (T, 48), ``terrain`` (4, H, W); float32.

        Raises:
            InputError: if it cannot be read, or is missing there.
        """
        found: dict[str, NDArray[Any]] = {}
        for key, dates in self.dates.items():
            cells = self.weather.values(self.lattice, window, dates, self.job.weather_gaps)
            found[f"{key}_weather"] = mean(cells, window)
        return found | {"terrain": self.terrain.read(window)}

    def files(self) -> dict[str, list[str]]:
        """What is read for the dates; the angles of tables are known, see :meth:`degrees`."""
        dates = {day for days in self.dates.values() for day in days}
        read = self.weather.days_read(dates, self.job.weather_gaps)
        return {"weather": self.weather.files(read), "terrain": list(self.terrain.files)}

    def describe(self) -> dict[str, Any]:
        """What the dataset says of them: options without paths, and the weather's units."""
        choices = {"weather_gaps": self.job.weather_gaps, "dem_nodata": self.job.dem_nodata}
        units = {key: unit.name for key, unit in sorted(self.weather.units.items())}
        return {"units": units, "angles": self.job.angles, **choices}

    def degrees(self, key: str) -> list[list[float]]:
        """Cosines and sines of every date of a sensor, as plain numbers that are exactly the float32 ones."""
        rows: list[list[float]] = self.rows[key].astype(np.float64).tolist()
        return rows


def mean(cells: Cells, window: Window) -> Float:
    """Mean of the weather over a window: each cell by its share of the window's pixels. (T, 48) float32."""
    shares = []
    for first, count, begin, end in (
        (cells.row, cells.values.shape[0], window.row, window.end_row),
        (cells.col, cells.values.shape[1], window.col, window.end_col),
    ):
        edges = CELL * np.arange(first, first + count + 1)
        shares.append(np.diff(np.clip(edges, begin, end)) / (end - begin))
    # Differences from one cell, so that weather that is the same everywhere comes out the same to the last bit.
    reference = cells.values[0, 0].astype(np.float64)
    found: Float = (reference + np.einsum("i,j,ijtc->tc", *shares, cells.values - reference)).astype(np.float32)
    return found
