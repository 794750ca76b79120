"""What a run of MALICE Aux reads besides images: opened, checked and decided once, before the first pixel."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from malice_core.cards import Card
from malice_core.errors import InputError
from malice_core.features import mirror_source
from malice_core.grid import Lattice, Window
from malice_core.stack import Stack
from malice_core.surroundings import terrain, weather
from malice_core.surroundings.angles import Angles
from malice_core.surroundings.cells import CELL
from malice_core.surroundings.terrain import Terrain
from malice_core.surroundings.weather import Weather

if TYPE_CHECKING:
    from malice_core.job import Job

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]


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
            InputError: if weather or terrain do not cover what is needed, or angles are missing.
            StackError: if the terrain cannot be read.
        """
        for sensor, stack in stacks.items():
            self.angles[sensor] = self.sources[sensor].of_images(stack.observations)
            reach = area.snap(self.card.stride).expand(self.card.halo).intersect(stack.extent)
            self.needed[sensor] = area if edge == "published" else reach
        for window in set(self.needed.values()):
            self.weather.cover(self.terrain.lattice, window)
            self.terrain.check(window)
        self.notes[:0] = [*self.weather.notes, *self.terrain.notes]
        for source in self.sources.values():
            self.notes.extend(source.notes)
        self.warnings.extend(self.weather.warnings)
        for source in self.sources.values():
            self.warnings.extend(source.warnings)

    def weather_of(self, sensor: str, day: date, window: Window) -> CellWeather:
        """The weather of one date in ``window``, as an image of it is read: beyond what is needed it is mirrored.

        Raises:
            InputError: if it has nodata where it is needed.
        """
        statistics = self.card.surroundings
        assert statistics is not None
        if self.uniform:
            window = Window(self.needed[sensor].row, self.needed[sensor].col, 1, 1)
        source, rows, cols = mirror_source(window, self.needed[sensor])
        found = self.weather.values(self.terrain.lattice, source, [day], self.gaps)
        return CellWeather(
            weather.normalised(found.values[:, :, 0], statistics.weather),
            (source.row + rows) // CELL - found.row,
            (source.col + cols) // CELL - found.col,
        )

    def angles_of(self, sensor: str, stack: Stack, index: int, window: Window, observed: Bool) -> Float:
        """The angles of one date in ``window``, as an image of it is read: (A,), or (A, H, W) from rasters.

        Args:
            observed: (H, W) where there is an image.

        Raises:
            InputError: if a raster lacks angles where there is an image, and the median is not asked for.
            StackError: if a raster cannot be read.
        """
        source = self.sources[sensor]
        whole: Float = self.angles[sensor][index]
        if not np.isnan(whole).any():
            return whole
        observation = stack.observations[index]
        read, rows, cols = mirror_source(window, self.needed[sensor])
        planes = source.read(observation, read, whole)
        angles: Float = planes[:, rows[:, None], cols]
        lacking = observed & np.isnan(angles).any(axis=0)
        if lacking.any() and not source.median:
            raise InputError(
                f"{source.sensor.title}: the rasters of angles lack those of {observation.title} at {lacking.sum()} of "
                f"{observed.sum()} pixels of a block; complete them, or take the training's median with --angles median"
            )
        # NaN becomes the median when it is normalised.
        return angles

    def terrain_of(self, sensor: str, window: Window) -> Float:
        """The terrain in ``window``, mirrored like the images: float32 (4, H, W), normalised.

        Raises:
            StackError: if the file cannot be read.
        """
        statistics = self.card.surroundings
        assert statistics is not None
        source, rows, cols = mirror_source(window, self.needed[sensor])
        planes = terrain.normalised(self.terrain.read(source), statistics.terrain)
        mirrored: Float = planes[:, rows[:, None], cols]
        return mirrored

    def files(self) -> list[str]:
        """Everything the numbers come from, sorted, absolute paths of local files."""
        angles = (file for source in self.sources.values() for file in source.files)
        return sorted({*self.weather.files(), *map(os.path.abspath, self.terrain.files), *angles})

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


def _kept(stack: Stack, dates: set[date], sensor: str) -> Stack:
    left = tuple(item for item in stack.observations if item.date in dates)
    if not left:
        raise InputError(
            f"weather: --weather-gaps drop-date leaves no {sensor.upper()} date: add the missing days, or drop "
            f"--{sensor}"
        )
    return replace(stack, observations=left)
