"""Chunks of openEO's cubes, which lie in memory: dated observations on the lattice, as ``stack.py`` has them of files.

A chunk knows neither its CRS nor where numbers come from. What it does know is read by the engine's rules: bands by
name, nodata, days, scene classes. Nothing is concluded from what the pixels of one chunk are, because the next one
would conclude something else; numbers that cannot be right are refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray

from malice_core.bands import SCL, TRAINED_MAX_DATES, Sensor
from malice_core.errors import InputError
from malice_core.grid import Lattice, Window
from malice_core.images import units
from malice_core.images.bandnames import named
from malice_core.images.reading import Band, decode
from malice_core.images.sources import Findings, Stored, missing_values, says_sigma0
from malice_core.stack import TRAINED_RES

DIMENSIONS = ("t", "bands", "y", "x")
#: Rows and columns of a date that are looked at as a sample, and how many observed numbers make one.
SAMPLE, ENOUGH = 64, 100
#: Shortest time between two of a month's composites, in days.
MONTH = 28


@dataclass(frozen=True)
class Chunk:
    """A cube, or a part of one, in memory.

    Attributes:
        array: (t, bands, y, x) north up; a view of what came in.
        names: of the bands.
        days: of the labels along t.
        lattice: the grid; its CRS is not known.
        window: global pixels of the array.
        southward: False if rows came in from south to north.
    """

    array: NDArray[Any]
    names: tuple[str, ...]
    days: tuple[date, ...]
    lattice: Lattice
    window: Window
    southward: bool

    @classmethod
    def of(cls, cube: xarray.DataArray) -> Chunk:
        """What openEO's ``apply_datacube`` is given.

        Raises:
            InputError: if a dimension or its labels are missing, or the pixels are not square.
        """
        if set(cube.dims) != set(DIMENSIONS):
            raise InputError(
                f"the cube has the dimensions {', '.join(map(str, cube.dims))}; wanted are t, bands, y and x: a time "
                "series, not a composite of it"
            )
        for name in DIMENSIONS:
            if name not in cube.coords:
                raise InputError(
                    f"the cube has no labels along {name}; they say which dates, bands and pixels these are"
                )
        x, y = _Axis.of("x", cube.coords["x"].values), _Axis.of("y", cube.coords["y"].values)
        if x.step < 0:
            raise InputError(f"x runs from {x.first:g} to smaller numbers; wanted are columns from west to east")
        res = x.size
        if abs(y.size - res) > 1e-3 * res + x.slack + y.slack:
            raise InputError(f"the pixels are {res:g} x {y.size:g} m, not square; use resample_spatial(resolution=10)")
        if res < 0.1:
            raise InputError(
                f"the pixels are of {res:g} units, so degrees: use resample_spatial(projection=EPSG of UTM)"
            )
        left = _snapped(x.first - res / 2, res, x.slack)
        top = _snapped(max(y.first, y.first + y.step * (y.count - 1)) + res / 2, res, y.slack)
        lattice = Lattice.anchored("", res, left, top)
        window = Window(
            round((lattice.y0 - top) / res), round((left - lattice.x0) / res), y.count, x.count
        )  # fmt: skip
        array = cube.transpose(*DIMENSIONS).values
        return cls(
            array if y.step < 0 else array[:, :, ::-1],
            tuple(str(name) for name in cube.coords["bands"].values),
            tuple(_day(label) for label in np.atleast_1d(cube.coords["t"].values)),
            lattice,
            window,
            y.step < 0,
        )

    def has(self, sensor: Sensor) -> bool:
        """Whether any of its bands is of ``sensor``."""
        return not set(named(self.names, sensor)).isdisjoint(sensor.bands)

    def series(self, sensor: Sensor, extent: Window, offset: float = 0.0, clouds: Sequence[int] = ()) -> Series:
        """The observations of one sensor.

        Args:
            extent: where the cube has pixels, inside :attr:`window`.
            offset: added to reflectance.
            clouds: scene classes that are missing observations; none: no mask.

        Raises:
            InputError: naming the bands that are missing or there twice.
        """
        found = named(self.names, sensor)
        missing = [band for band in sensor.bands if band not in found]
        if missing:
            raise InputError(
                f"the cube has no band {', '.join(missing)} of {sensor.title}; it has {', '.join(self.names)}; all of "
                f"{' '.join(sensor.bands)} are needed: name them in load_collection, or choose another sensor"
            )
        for band in sensor.bands:
            if found.count(band) > 1:
                twins = ", ".join(name for name, of in zip(self.names, found, strict=True) if of == band)
                raise InputError(f"the bands {twins} are all {band} of {sensor.title}; keep one with filter_bands")
        # In openEO's cubes whole numbers often arrive as floats, nodata among them.
        dtype = self.array.dtype
        fills, zero = missing_values(sensor, None, "uint16" if dtype.kind == "f" else dtype.name)
        bands = [
            Band(position, "the cube", found.index(band), fills, zero, bias=offset)
            for position, band in enumerate(sensor.bands)
        ]
        classes = named(self.names, SCL)
        if clouds and "SCL" not in classes:
            raise InputError("mask_clouds: the cube has no band SCL; add it in load_collection, or drop mask_clouds")
        return Series(self, sensor, extent, tuple(bands), classes.index("SCL") if clouds else None, tuple(clouds))


@dataclass(frozen=True)
class Series:
    """The observations of one sensor in a chunk: what :class:`malice_core.stack.Stack` is for files.

    Attributes:
        extent: global pixels that it has.
        bands: what the numbers mean, in the order of the sensor's bands; ``index`` counts bands of the array from 0.
        classified: index of the scene classification; None: clouds are not masked.
        clouds: scene classes that are missing observations.
    """

    chunk: Chunk
    sensor: Sensor
    extent: Window
    bands: tuple[Band, ...]
    classified: int | None
    clouds: tuple[int, ...]

    @cached_property
    def days(self) -> list[date]:
        """One an observation, in order; labels of one day are one observation."""
        return sorted(set(self.chunk.days))

    def read(self, index: int, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """As :meth:`malice_core.stack.Stack.read`; of several labels of a day the first that saw a pixel."""
        rows, cols = window.slices_in(self.chunk.window)
        values = np.zeros((len(self.bands), *window.shape), np.float32)
        observed = np.zeros(window.shape, bool)
        for label in (i for i, day in enumerate(self.chunk.days) if day == self.days[index]):
            data, seen = self._label(label, rows, cols)
            np.copyto(values, data, where=seen & ~observed)
            observed |= seen
        return values, observed

    def _label(self, label: int, rows: slice, cols: slice) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        planes = self.chunk.array[label, :, rows, cols]
        values = np.empty((len(self.bands), *planes.shape[1:]), np.float32)
        observed, dark = np.ones(planes.shape[1:], bool), np.ones(planes.shape[1:], bool)
        for band, out in zip(self.bands, values, strict=True):
            zero = decode(band, planes[band.index], out, observed)
            dark &= zero if band.zero else False
        observed &= ~dark
        if self.classified is not None:
            observed &= ~np.isin(planes[self.classified], self.clouds)
        values[:, ~observed] = 0.0
        return values, observed

    def check(self, findings: Findings) -> None:
        """Refuses numbers in another unit, and warns of doubts.

        Raises:
            InputError: saying what the numbers look like and how to convert them.
        """
        sample = self._sample()
        names = tuple(self.chunk.names[band.index] for band in self.bands)
        if self.sensor.key == "s1" and says_sigma0(*names):
            findings.warn(f"Sentinel-1 GRD: {' and '.join(names)} are {units.SIGMA0}")
        # Of a few pixels nothing can be said.
        if sample.shape[1] < ENOUGH:
            return
        whole = bool((sample == np.rint(sample)).all())
        stored = Stored("uint16" if whole else "float32", 1.0, 0.0)
        file = f"the cube ({', '.join(names[:2])}{', …' if len(names) > 2 else ''})"
        if self.sensor.key == "s1":
            units.check_s1(sample, stored, file, findings)
            return
        if units.s2_factor(sample, stored, file, Findings()) != 1:
            raise InputError(
                f"{file} holds reflectance 0-1; wanted is reflectance x 10000: multiply it in the process graph"
            )
        if self.bands[0].bias == 0 and self.days[-1] >= units.OFFSET_DATE and units.offset_left(sample):
            findings.warn(
                f"{file}: no band has values below 1000: the offset of processing baseline 04.00 seems to be in the "
                'data; if so, give "s2_offset": -1000'
            )

    def _sample(self) -> NDArray[np.float32]:
        """(bands, n) observed numbers as they are stored, clouds too, of some rows and columns of all dates."""
        rows, cols = self.extent.slices_in(self.chunk.window)
        down, right = (max(1, side // SAMPLE) for side in self.extent.shape)
        array = self.chunk.array[:, :, rows.start : rows.stop : down, cols.start : cols.stop : right]
        window = Window(0, 0, *array.shape[2:])
        thinned = Series(
            replace(self.chunk, array=array, window=window),
            self.sensor,
            window,
            tuple(replace(band, bias=0.0) for band in self.bands),
            None,
            (),
        )
        parts = (thinned.read(index, window) for index in range(len(self.days)))
        return np.concatenate([values[:, observed] for values, observed in parts], axis=1)

    def doubts(self, alone: bool, findings: Findings) -> None:
        """Warns of a series unlike those the networks were trained on.

        Args:
            alone: all labels are of this sensor's images.
        """
        title, days = self.sensor.key.upper(), self.days
        if abs(self.chunk.lattice.res - TRAINED_RES) > 1e-3:
            findings.warn(
                f"pixels of {self.chunk.lattice.res:g} m: the networks were trained on images of {TRAINED_RES:g} m; "
                "use resample_spatial(resolution=10)"
            )
        gaps = [(later - earlier).days for earlier, later in itertools.pairwise(days)]
        if len(days) > 2 and len({day.day for day in days}) == 1 and min(gaps) >= MONTH:
            findings.warn(
                f"{title}: all dates are the {days[0].day}. of a month, so composites; the networks were trained on "
                "single acquisitions: embed the cube before it is aggregated"
            )
        if not alone:
            return
        if len(days) > TRAINED_MAX_DATES:
            findings.warn(
                f"{title}: {len(days)} dates, the networks were trained on at most {TRAINED_MAX_DATES}; choose among "
                "them by cloud cover or relative orbit in load_collection"
            )
        if not 150 <= (days[-1] - days[0]).days <= 560:
            findings.warn(f"{title}: the dates span {(days[-1] - days[0]).days} days; 6 to 18 months are recommended")


@dataclass(frozen=True)
class _Axis:
    """Evenly spaced coordinates of pixels' centres.

    Attributes:
        first: the first one, cleared of rounding.
        step: from one to the next, negative if they fall.
        slack: what the type of the coordinates rounds by: openEO's Spark service gives float32, half a metre in UTM.
    """

    first: float
    step: float
    count: int
    slack: float

    @property
    def size(self) -> float:
        return abs(self.step)

    @classmethod
    def of(cls, name: str, labels: NDArray[Any]) -> _Axis:
        if labels.ndim != 1 or len(labels) < 2 or labels.dtype.kind not in "fiu" or not np.isfinite(labels).all():
            raise InputError(
                f"{name} of the cube are no coordinates of at least 2 pixels; they say where the grid lies"
            )
        slack = float(np.spacing(np.abs(labels).max())) if labels.dtype.kind == "f" else 0.0
        places = labels.astype(np.float64)
        count, step = len(places), float(places[-1] - places[0]) / (len(places) - 1)
        if abs(step - round(step)) <= slack / (count - 1) and round(step):
            step = float(round(step))
        rest = places - step * np.arange(count)
        if not step or float(np.ptp(rest)) > 2 * slack + 1e-3 * abs(step):
            raise InputError(f"{name} of the cube are not evenly spaced ({places[0]:.10g}, {places[1]:.10g} …)")
        return cls(float(rest.mean()), step, count, slack)


def _snapped(edge: float, res: float, slack: float) -> float:
    """``edge``, or the whole number of pixels that it is but for rounding."""
    whole = round(edge / res) * res
    return whole if abs(edge - whole) <= max(slack, 1e-3 * res) else edge


def _day(label: Any) -> date:
    """The UTC day of a label along t."""
    try:
        return date.fromisoformat(str(label)[:10])
    except ValueError as error:
        raise InputError(f"the label '{label}' along t is no date; wanted are such as 2024-05-11") from error
