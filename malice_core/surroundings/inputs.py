"""What a run of MALICE Aux reads besides images: opened, checked and decided once, before the first pixel."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from malice_core.cards import Card
from malice_core.errors import InputError
from malice_core.features import mirror_source, mirrored
from malice_core.grid import Lattice, Window
from malice_core.images.reading import crs_name
from malice_core.stack import Stack
from malice_core.surroundings import terrain, weather
from malice_core.surroundings.angles import Angles
from malice_core.surroundings.cells import CELL
from malice_core.surroundings.terrain import Terrain, squares
from malice_core.surroundings.weather import Weather

if TYPE_CHECKING:
    from malice_core.job import Job

Float = NDArray[np.float32]


@dataclass(frozen=True)
class CellWeather:
    """The weather of one date in the cells of an image.

    Attributes:
        values: (h, w, 48) float32, normalised.
        rows, cols: (H,), (W,) which of the cells each row and column of the image lies in.
    """

    values: Float
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]


@dataclass
class Inputs:
    """Weather, terrain and angles of a run. Reading is thread-safe.

    Attributes:
        weather, terrain: where they come from.
        angles: (T, A) float32 by sensor, cosines and sines of its dates, NaN where rasters have them; once
            :meth:`settle` was called.
        uniform: the weather is the same all over the area, by its kind (a table), not by its values.
        notes, warnings: what was found and decided, and doubts; one line each.
    """

    card: Card
    weather: Weather
    terrain: Terrain
    sources: Mapping[str, Angles]
    gaps: str
    angles: dict[str, Float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    needed: dict[str, Window] = field(default_factory=dict)

    @classmethod
    def open(cls, job: Job, card: Card, lattice: Lattice, sensors: Sequence[str]) -> Inputs:
        """Opens what the options name.

        Raises:
            InputError: if something is missing or cannot be used, saying what, and what to do.
        """
        lacking = [f"--{option}" for option, given in (("weather", job.weather), ("dem", job.dem)) if not given]
        # Without --angles median these are checked when they are opened, which says which angles are meant.
        if lacking:
            raise InputError(
                f"model {card.name} is MALICE Aux and needs weather (AgERA5) and terrain too: give "
                f"{' and '.join(lacking)}"
            )
        assert job.dem is not None
        with ExitStack() as opened:
            sources = {}
            for sensor in sensors:
                sources[sensor] = Angles.open(sensor, getattr(job, f"{sensor}_angles"), job.angles, lattice)
                opened.callback(sources[sensor].close)
            terrain = Terrain.open(job.dem, lattice, nodata=job.dem_nodata)
            opened.callback(terrain.close)
            found = cls(card, Weather.open(job.weather), terrain, sources, job.weather_gaps)
            opened.pop_all()
        return found

    @property
    def uniform(self) -> bool:
        return self.weather.uniform

    def usable(self, stacks: Mapping[str, Stack]) -> dict[str, Stack]:
        """The stacks without the dates that ``--weather-gaps drop-date`` leaves out.

        Raises:
            InputError: if days of weather are missing and must not be, or a sensor has no date left.
        """
        dates = sorted({item.date for stack in stacks.values() for item in stack.observations})
        found = self.weather.check(dates, self.gaps)
        self.notes.append(found.summary)
        self.notes.extend(found.report)
        if found.report:
            self.warnings.append(found.summary)
        if len(found.dates) == len(dates):
            return dict(stacks)
        kept = set(found.dates)
        return {sensor: _kept(stack, kept, sensor) for sensor, stack in stacks.items()}

    def settle(self, stacks: Mapping[str, Stack], area: Window, edge: str) -> None:
        """Decides everything that follows of the dates and the area.

        Args:
            stacks: with the dates of the run.
            area: of the run.
            edge: ``mirror``: what the networks reach around the area is needed as far as there are images;
                ``published``: the area alone.

        Raises:
            InputError: if weather or terrain do not cover what is needed, or are impossible, or angles are missing.
            StackError: if terrain or angles cannot be read.
        """
        for sensor, stack in stacks.items():
            self.angles[sensor] = self.sources[sensor].of_images(stack.observations)
            reach = area.snap(self.card.stride).expand(self.card.halo).intersect(stack.extent)
            self.needed[sensor] = area if edge == "published" else reach
        lattice, dates = self.terrain.lattice, dict[Window, set[date]]()
        for sensor, stack in stacks.items():
            dates.setdefault(self.needed[sensor], set()).update(item.date for item in stack.observations)
        for window, days in dates.items():
            for check in (partial(self._verify, sorted(days)), self.terrain.check):
                _check(check, window, area, lattice, self.card.halo)
        for sensor, stack in stacks.items():
            self._check_rasters(sensor, stack)
        self.notes[:0] = [*self.weather.notes, *self.terrain.notes]
        for source in self.sources.values():
            self.notes.extend(source.notes)
        self.warnings.extend(self.weather.warnings)
        for source in self.sources.values():
            self.warnings.extend(source.warnings)

    def _verify(self, days: list[date], window: Window) -> None:
        part = Window(window.row, window.col, 1, 1) if self.uniform else window
        self.weather.verify(self.terrain.lattice, part, days, self.gaps)

    def _check_rasters(self, sensor: str, stack: Stack) -> None:
        """Reads the rasters of angles once, and the images where they lack some.

        Raises:
            InputError: if a raster lacks angles where there is an image, and the median is not asked for.
            StackError: if a file cannot be read, or holds what is no angle.
        """
        source, lacking = self.sources[sensor], dict[str, int]()
        for index, observation in enumerate(stack.observations):
            if source.raster_of(observation) is None:
                continue
            for square in squares(self.needed[sensor].intersect(stack.extent)):
                missing = np.isnan(source.read(observation, square, self.angles[sensor][index])).any(axis=0)
                if missing.any() and (count := int((missing & stack.read(index, square)[1]).sum())):
                    lacking[observation.title] = lacking.get(observation.title, 0) + count
        if not lacking:
            return
        worst = max(lacking, key=lambda title: lacking[title])
        text = (
            f"{source.sensor.title}: rasters of angles have none at pixels of {len(lacking)} of "
            f"{len(stack.observations)} images, such as {lacking[worst]} pixels of {worst}"
        )
        if not source.median:
            raise InputError(f"{text}; complete them, or take the training's median with --angles median")
        source.warnings.append(f"{text}: the training's median is used there")

    def weather_of(self, sensor: str, day: date, window: Window) -> CellWeather:
        """The weather of one date in ``window``, as an image of it is read: beyond what is needed it is mirrored.

        Raises:
            InputError: if it has nodata where it is needed.
        """
        statistics = self.card.surroundings
        assert statistics is not None
        known = self.needed[sensor]
        if self.uniform:
            known = Window(known.row, known.col, 1, 1)
        source, rows, cols = mirror_source(window, known)
        found = self.weather.values(self.terrain.lattice, source, [day], self.gaps)
        return CellWeather(
            weather.normalised(found.values[:, :, 0], statistics.weather),
            (source.row + rows) // CELL - found.row,
            (source.col + cols) // CELL - found.col,
        )

    def angles_of(self, sensor: str, stack: Stack, index: int, window: Window) -> Float:
        """The angles of one date in ``window``, as an image of it is read: (A,), or (A, H, W) from rasters; NaN, which
        becomes the median when it is normalised, where a raster has none.

        Raises:
            StackError: if a raster cannot be read.
        """
        whole: Float = self.angles[sensor][index]
        if not np.isnan(whole).any():
            return whole
        read, rows, cols = mirror_source(window, self.needed[sensor])
        planes: Float = self.sources[sensor].read(stack.observations[index], read, whole)
        return mirrored(planes, rows, cols)

    def terrain_of(self, sensor: str, window: Window) -> Float:
        """The terrain in ``window``, mirrored like the images: float32 (4, H, W), normalised.

        Raises:
            StackError: if the file cannot be read.
        """
        statistics = self.card.surroundings
        assert statistics is not None
        source, rows, cols = mirror_source(window, self.needed[sensor])
        planes = terrain.normalised(self.terrain.read(source), statistics.terrain)
        return mirrored(planes, rows, cols)

    def files(self) -> list[str]:
        """All files that were found, sorted, absolute paths of local files."""
        angles = (file for source in self.sources.values() for file in source.files)
        return sorted({*self.weather.files(), *map(os.path.abspath, self.terrain.files), *angles})

    def identity(self, stacks: Mapping[str, Stack]) -> dict[str, Any]:
        """What the numbers of a run come from: the files that are read for its dates, and what was taken out of others.

        Files of other days, such as those of another year in the same folder, change nothing.
        """
        days = {item.date for stack in stacks.values() for item in stack.observations}
        files = {*self.weather.files(self.weather.days_read(days, self.gaps))}
        files.update(map(os.path.abspath, self.terrain.files))
        for sensor, stack in stacks.items():
            files.update(self.sources[sensor].files_of(stack.observations))
        units = {key: unit.name for key, unit in sorted(self.weather.units.items())}
        angles = {sensor: rows.astype(float).tolist() for sensor, rows in sorted(self.angles.items())}
        return {"files": sorted(files), "units": units, "angles": angles}

    def close(self) -> None:
        """Closes the open rasters; to be called when no thread reads any more."""
        for part in (self.weather, self.terrain):
            part.close()
        for source in self.sources.values():
            source.close()


def refuse(job: Job, card: Card, sensors: Sequence[str]) -> None:
    """Refuses options that name what is not used.

    Raises:
        InputError: if the model sees images alone, or angles are of a sensor that is not embedded.
    """
    angles = {f"--{sensor}-angles": getattr(job, f"{sensor}_angles") for sensor in ("s2", "s1")}
    options = {"--weather": job.weather, "--dem": job.dem, **angles}
    named = [option for option, given in options.items() if given]
    if card.surroundings is None and named:
        raise InputError(
            f"model {card.name} sees images alone, it takes no {', '.join(named)}: drop that, or choose a model of "
            "MALICE Aux with --model"
        )
    for sensor in ("s2", "s1"):
        if sensor not in sensors and angles[f"--{sensor}-angles"]:
            raise InputError(f"--{sensor}-angles without {sensor.upper()} images: give --{sensor} too, or drop them")


def _check(check: Callable[[Window], None], needed: Window, area: Window, lattice: Lattice, halo: int) -> None:
    """Does ``check`` of what is needed; what is wrong within the area itself is told of the area alone.

    Raises:
        InputError: of ``check``, and where to look if it is something around the area.
    """
    try:
        check(needed)
    except InputError as error:
        inner = needed.intersect(area)
        if not inner.pixels or inner == needed:
            raise
        check(inner)
        bounds = " ".join(f"{value:.10g}" for value in lattice.bounds(needed))
        raise InputError(
            f"{error}. It is needed of {bounds} ({crs_name(lattice.crs):.60}): of the area, where all is well, and as "
            f"far as there are images of the {halo * lattice.res:g} m around it, which the network sees too (not with "
            "--edge published)"
        ) from error


def _kept(stack: Stack, dates: set[date], sensor: str) -> Stack:
    left = tuple(item for item in stack.observations if item.date in dates)
    if not left:
        raise InputError(
            f"weather: --weather-gaps drop-date leaves no {sensor.upper()} date: add the missing days, or drop "
            f"--{sensor}"
        )
    return replace(stack, observations=left)
