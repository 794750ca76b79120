"""Weather, terrain and angles of a place, for datasets that MALICE Aux is trained on.

A patch gets the weather of each date as one mean over its ground, as the published MALICE Aux was trained: the
weather's cells that it touches (``surroundings/weather.py``), each by the share of the patch's pixels that lie in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
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


@dataclass(frozen=True)
class Asked:
    """One field an option of ``dataset build``, as of ``embed``."""

    weather: tuple[str, ...] = ()
    weather_gaps: str = "error"
    dem: str | None = None
    dem_nodata: str = "error"
    s2_angles: tuple[str, ...] = ()
    s1_angles: tuple[str, ...] = ()
    angles: str = "error"

    def __bool__(self) -> bool:
        """Whether any of them is wanted."""
        return bool(self.weather or self.dem or self.s2_angles or self.s1_angles or self.angles == "median")

    def require_whole(self, where: str = "") -> None:
        """All of them or none.

        Args:
            where: what the message begins with.

        Raises:
            InputError: naming what lacks.
        """
        median = self.angles == "median"
        have = {
            "--weather": self.weather,
            "--dem": self.dem,
            "--s2-angles": self.s2_angles or median,
            "--s1-angles": self.s1_angles or median,
        }
        lacking = [option for option, given in have.items() if not given]
        if self and lacking:
            cure = " (or --angles median)" if any("angles" in option for option in lacking) else ""
            raise InputError(
                f"{where}no {' and no '.join(lacking)}: datasets for MALICE Aux hold weather, terrain and the angles "
                f"of both sensors; give {' and '.join(lacking)}{cure} too, or none of them"
            )

    def at(self, folder: Path) -> Asked:
        """With what lies in the folder of a place, where nothing is given for all places.

        Raises:
            InputError: if there are several elevation models, or only part of what is needed.
        """
        weather = self.weather or _first(folder, WEATHER)
        dem = self.dem or next(iter(_first(folder, (DEM,))), None)
        if dem is None and (found := sorted(folder.glob(DEMS))):
            if len(found) > 1:
                raise InputError(
                    f"{folder}: has {', '.join(path.name for path in found)}; name the one to use {DEM}, or give --dem"
                )
            dem = f"{found[0]}"
        s2_angles, s1_angles = self.s2_angles or _first(folder, S2_ANGLES), self.s1_angles or _first(folder, S1_ANGLES)
        if not (self or weather or dem):
            # A table of dates is there for many reasons.
            return self
        whole = replace(self, weather=weather, dem=dem, s2_angles=s2_angles, s1_angles=s1_angles)
        whole.require_whole(f"{folder}: ")
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

    asked: Asked
    lattice: Lattice
    weather: Weather
    terrain: Terrain
    angles: dict[str, Angles]
    notes: list[str]
    warnings: list[str]
    dates: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    rows: dict[str, Float] = field(default_factory=dict)

    @classmethod
    def open(cls, asked: Asked, lattice: Lattice) -> Surroundings:
        """Finds files, days and units.

        Raises:
            InputError: whatever is wrong with them, naming the file; or if any of them lacks.
        """
        asked.require_whole()
        angles = {key: Angles.open(key, getattr(asked, f"{key}_angles"), asked.angles) for key in ("s2", "s1")}
        assert asked.dem is not None, "require_whole has seen it"
        weather = Weather.open(asked.weather)
        try:
            terrain = Terrain.open(asked.dem, lattice, asked.dem_nodata)
        except BaseException:
            weather.close()
            raise
        notes = [*weather.describe(), *terrain.notes]
        return cls(asked, lattice, weather, terrain, angles, notes, list(weather.warnings))

    def close(self) -> None:
        """Closes the files."""
        self.weather.close()
        self.terrain.close()

    def thin(self, job: Job, stack: Stack) -> Stack:
        """``selection.thin`` of the dates whose weather can be used.

        Raises:
            InputError: if weather is missing and must not, or no date is left.
        """
        if self.asked.weather_gaps == "drop-date":
            return selection.thin(job, self._with_weather(stack))
        return self._with_weather(selection.thin(job, stack))

    def _with_weather(self, stack: Stack) -> Stack:
        title, dates = stack.sensor.title, [one.date for one in stack.observations]
        try:
            found = self.weather.check(dates, self.asked.weather_gaps)
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
        self.weather.verify(self.lattice, whole, days, self.asked.weather_gaps)
        self.warnings += [line for line in self.weather.warnings if line not in self.warnings]
        self.terrain.check(whole)

    def of(self, window: Window) -> dict[str, NDArray[Any]]:
        """What a dataset holds of one patch: ``s2_weather``, ``s1_weather`` (T, 48), ``terrain`` (4, H, W); float32.

        Raises:
            InputError: if it cannot be read, or is missing there.
        """
        found: dict[str, NDArray[Any]] = {}
        for key, dates in self.dates.items():
            cells = self.weather.values(self.lattice, window, dates, self.asked.weather_gaps)
            found[f"{key}_weather"] = mean(cells, window)
        return found | {"terrain": self.terrain.read(window)}

    def files(self) -> dict[str, list[str]]:
        """Everything the numbers come from."""
        angles = {f"{key}_angles": list(one.files) for key, one in self.angles.items()}
        return {"weather": self.weather.files(), "terrain": list(self.terrain.files)} | angles

    def describe(self) -> dict[str, Any]:
        """What the dataset says of them: options without paths, and the weather's units."""
        choices = {key: value for key, value in asdict(self.asked).items() if key.endswith(("gaps", "nodata"))}
        units = {key: unit.name for key, unit in sorted(self.weather.units.items())}
        return {"units": units, "angles": self.asked.angles, **choices}

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
