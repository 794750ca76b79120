"""Angles of sun and view of every date, as MALICE Aux gets them: cosines and sines.

One set of angles holds for all pixels of a date, but where rasters give them a pixel (the local incidence angle of
Sentinel-1). Source: the channels of the published MALICE Aux.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from malice_core.bands import SENSORS, Sensor
from malice_core.errors import InputError
from malice_core.grid import Lattice, Window
from malice_core.images.anglenames import INCIDENCE, QUANTITIES, SUN_ZENITH, Quantity
from malice_core.images.observations import Observation
from malice_core.images.paths import SUFFIXES
from malice_core.images.units import refuse_angles
from malice_core.job import ANGLES
from malice_core.stack import Stack, discover, matching, shortened
from malice_core.store.statistics import AUX, S1_ANGLES, S2_ANGLES
from malice_core.surroundings.anglefiles import (
    Record,
    checked,
    from_granule,
    from_stac,
    from_table,
    mean,
)

Float = NDArray[np.float32]

#: Channels of :meth:`Angles.of`, by sensor key.
CHANNELS = {"s2": S2_ANGLES, "s1": S1_ANGLES}

TABLES, ITEMS = (".csv", ".tsv", ".txt"), (".json", ".geojson")
_CONSTANT = re.compile(r"(?:(\d{1,3})\s*[=:]\s*)?([-+]?\d+(?:\.\d*)?)")


@dataclass(frozen=True)
class Angles:
    """Angles of one sensor's dates.

    Attributes:
        sensor: whose.
        records: in degrees, as the files have them.
        median: missing angles are replaced by the training's median instead of refused.
        files: what was read, absolute paths, sorted.
        warnings: doubts, one line each; :meth:`of` adds to them.
        rasters: angles a pixel; they count before ``records``.
    """

    sensor: Sensor
    records: tuple[Record, ...]
    median: bool
    files: tuple[str, ...]
    warnings: list[str]
    rasters: Stack | None = None

    @classmethod
    def open(
        cls,
        sensor: str,
        paths: Sequence[str | Path | float],
        missing: str = "error",
        lattice: Lattice | None = None,
    ) -> Angles:
        """Reads angles; of rasters, headers and samples.

        Args:
            sensor: ``s2`` or ``s1``.
            paths: CSV tables, STAC items (JSON), ``MTD_TL.xml`` of Sentinel-2, or folders with these, such as products
                (``.SAFE``). For Sentinel-1 also a number of degrees for all dates, or ``ORBIT=DEGREES`` for those of a
                relative orbit.
            missing: ``error``, or ``median`` to use the training's median, with a warning.
            lattice: where rasters of angles a pixel are wanted too; None: they are refused.

        Raises:
            InputError: naming the file, the line or date, and what is wrong: not readable, no angles, impossible ones,
                radians.
            StackError: the same of rasters.
        """
        if sensor not in CHANNELS:
            raise InputError(f"sensor '{sensor}' has no angles, only {', '.join(CHANNELS)}")
        if missing not in ANGLES:
            raise InputError(f"--angles {missing} is none of {', '.join(ANGLES)}")
        kind, records, files, images = SENSORS[sensor], list[Record](), list[str](), list[str]()
        for path in map(str, paths):
            if lattice is not None and _holds_rasters(path, kind):
                images.append(path)
                continue
            constant = _constant(path, kind)
            if constant is not None:
                if any(one.day is None and one.orbit == constant.orbit for one in records):
                    whose = f"relative orbit {constant.orbit}" if constant.orbit else "all dates"
                    raise InputError(
                        f"--{sensor}-angles {path}: there is an angle of {whose} already; give one of them"
                    )
                records.append(constant)
                continue
            for file in _files(Path(path), kind):
                records += _read(file, kind)
                files.append(f"{file.absolute()}")
        if not records and not images and missing == "error":
            raise InputError(
                f"{kind.title}: no angles given; MALICE Aux needs {_listed(QUANTITIES[sensor])} of every date: give "
                f"--{sensor}-angles, or --angles median"
            )
        _refuse_radians(records, kind)
        rasters = discover(f"{sensor}_angles", images).on(lattice) if images and lattice is not None else None
        found = sorted({*files, *(rasters.files() if rasters else ())})
        return cls(kind, tuple(records), missing == "median", tuple(found), [], rasters)

    @property
    def notes(self) -> list[str]:
        """What was found, one line each."""
        count, title = len(self.records), self.sensor.key.upper()
        told = [f"angles: {title}, {count} record{'s' * (count != 1)}"] if count or self.rasters is None else []
        if self.rasters is not None:
            told += [f"angles: {title}, rasters of {len(self.rasters.observations)} dates", *self.rasters.notes]
        return told

    def close(self) -> None:
        """Closes the open rasters; to be called when no thread reads any more."""
        if self.rasters is not None:
            self.rasters.close()

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the numbers :meth:`of` returns, in order."""
        return CHANNELS[self.sensor.key]

    def raster_of(self, observation: Observation) -> int | None:
        """Which of ``rasters``' observations has the angles of an image; None: none."""
        return next(iter(matching(self.rasters, observation)), None) if self.rasters is not None else None

    def files_of(self, observations: Sequence[Observation]) -> set[str]:
        """The rasters that are read for images; what comes from tables is known, see :meth:`of_images`."""
        found = [self.raster_of(one) for one in observations]
        rasters = self.rasters.observations if self.rasters is not None else ()
        return {file for index in found if index is not None for file in rasters[index].files}

    def read(self, observation: Observation, window: Window, whole: Float) -> Float:
        """The angles of one image a pixel, from rasters.

        Args:
            observation: of the images.
            window: in the lattice's pixels.
            whole: (A,) what holds where there is no raster, as of :meth:`of`.

        Returns:
            (A, H, W) float32, cosines and sines; NaN where the raster of that date has none.

        Raises:
            StackError: if a file cannot be read, or holds what is no angle.
        """
        index, rasters = self.raster_of(observation), self.rasters
        out = np.empty((len(self.channels), *window.shape), np.float32)
        if index is None or rasters is None:
            out[:] = whole[:, None, None]
            return out
        out[:] = np.nan
        part = window.intersect(rasters.observations[index].extent)
        if part.pixels:
            degrees, seen = rasters.read(index, part)
            rows = []
            for quantity, given in zip(QUANTITIES[self.sensor.key], degrees, strict=True):
                refuse_angles(quantity, given[seen], f"{self.sensor.title} of {observation.title}, rasters of angles")
                plane = np.radians(given)
                rows += [np.cos(plane), np.sin(plane)] if quantity.circular else [np.cos(plane)]
            out[:, *part.slices_in(window)] = np.where(seen, np.stack(rows), np.float32(np.nan))
        return out

    def of_images(self, observations: Sequence[Observation]) -> Float:
        """:meth:`of` for images, (T, A); NaN for those whose angles come from rasters."""
        without = [one for one in observations if self.raster_of(one) is None]
        found = np.full((len(observations), len(self.channels)), np.nan, np.float32)
        known = self.of([one.date for one in without], [one.orbit for one in without])
        found[[i for i, one in enumerate(observations) if self.raster_of(one) is None]] = known
        return found

    def of(self, dates: Sequence[date], orbits: Sequence[int | None] | None = None) -> Float:
        """The network's angles of some dates, of what is no raster.

        What is known of a date is the mean of its records (tiles, bands), directions as unit vectors; what holds for an
        orbit, or for all dates, counts where there is none.

        Args:
            dates: days of sensing, T of them.
            orbits: relative orbit of each, None where unknown; they tell two images of one day apart.

        Returns:
            float32 (T, 6) of Sentinel-2: cosine of the sun's zenith angle, cosine and sine of its azimuth, the same of
            the view; (T, 1) of Sentinel-1: cosine of the incidence angle. Not normalised.

        Raises:
            InputError: if angles are missing, naming which of which dates, or a day has those of several orbits.
        """
        quantities, title = QUANTITIES[self.sensor.key], self.sensor.title
        known = [None] * len(dates) if orbits is None else list(orbits)
        medians = AUX[self.sensor.key].med[-len(self.channels) :]
        rows: list[list[float]] = []
        lacking: dict[tuple[Quantity, ...], list[str]] = {}
        for day, orbit in zip(dates, known, strict=True):
            degrees = self._degrees(day, orbit)
            row: list[float] = []
            for quantity, value in zip(quantities, degrees, strict=True):
                size = 2 if quantity.circular else 1
                row += medians[len(row) : len(row) + size] if value is None else _channels(quantity, value)
            rows.append(row)
            missing = tuple(q for q, value in zip(quantities, degrees, strict=True) if value is None)
            if missing:
                lacking.setdefault(missing, []).append(f"{day}" + (f" orbit {orbit}" if orbit else ""))
        if lacking:
            what = "; ".join(f"{_listed(group)} of {shortened(days)}" for group, days in lacking.items())
            if not self.median:
                raise InputError(
                    f"{title}: missing {what}; add to --{self.sensor.key}-angles, or take the training's median with "
                    "--angles median"
                )
            warning = f"{title}: missing {what}: the training's median is used"
            if warning not in self.warnings:
                self.warnings.append(warning)
        return np.array(rows, np.float32).reshape(len(rows), len(self.channels))

    def _degrees(self, day: date, orbit: int | None) -> list[float | None]:
        """Angles of one image, in degrees; None where nothing is known."""
        own = [r for r in self.records if r.day == day and (None in (r.orbit, orbit) or r.orbit == orbit)]
        several = sorted({record.orbit for record in own if record.orbit is not None})
        if len(several) > 1:
            raise InputError(
                f"{self.sensor.title}: angles of {day} are of the orbits {', '.join(map(str, several))}, and the image "
                "does not say of which it is; keep those of one, or set the image's tag RELATIVE_ORBIT"
            )
        of_orbit = [record for record in self.records if record.day is None and record.orbit == orbit is not None]
        always = [record for record in self.records if record.day is None and record.orbit is None]
        degrees = []
        for index, quantity in enumerate(QUANTITIES[self.sensor.key]):
            value = None
            for group in (own, of_orbit, always):
                value = mean(quantity, [v for record in group if (v := record.degrees[index]) is not None])
                if value is not None:
                    break
            degrees.append(value)
        return degrees


def _channels(quantity: Quantity, degrees: float) -> list[float]:
    angle = math.radians(degrees)
    return [math.cos(angle), math.sin(angle)] if quantity.circular else [math.cos(angle)]


def _listed(quantities: Sequence[Quantity]) -> str:
    return ", ".join(quantity.name for quantity in quantities)


def _constant(path: str, sensor: Sensor) -> Record | None:
    """A number of degrees instead of a path, None if it is a path.

    Raises:
        InputError: if it is impossible, or of Sentinel-2, whose four angles change from date to date.
    """
    match = _CONSTANT.fullmatch(path.strip())
    if match is None or Path(path).exists():
        return None
    if sensor.key != "s1":
        raise InputError(f"--{sensor.key}-angles {path}: one number is only for Sentinel-1; give a table of dates")
    orbit = None if match[1] is None else int(match[1])
    if orbit is not None and not 1 <= orbit <= 175:
        raise InputError(f"--{sensor.key}-angles {path}: relative orbit {orbit} is none of 1 to 175")
    return Record(None, orbit, (checked(INCIDENCE, float(match[2]), None, f"--{sensor.key}-angles {path}"),))


def _holds_rasters(path: str, sensor: Sensor) -> bool:
    """Whether a path is a raster, or a folder with rasters and no other file of angles."""
    local = Path(path)
    if not local.is_dir():
        return local.suffix.lower() in SUFFIXES
    if (sensor.key == "s2" and any(local.rglob("MTD_TL.xml"))) or any(
        file.suffix.lower() in (".csv", *ITEMS) for file in local.iterdir()
    ):
        return False
    return any(file.suffix.lower() in SUFFIXES for file in local.rglob("*"))


def _files(path: Path, sensor: Sensor) -> list[Path]:
    """The files with angles behind a path: of a folder the ``MTD_TL.xml`` at any depth, else its tables and items."""
    if not path.is_dir():
        return [path]
    granules = sorted(path.rglob("MTD_TL.xml")) if sensor.key == "s2" else []
    found = granules or sorted(file for file in path.iterdir() if file.suffix.lower() in (".csv", *ITEMS))
    if not found:
        raise InputError(f"{path}: no angles in this folder; give MTD_TL.xml, STAC items (.json) or a table (.csv)")
    return found


def _read(path: Path, sensor: Sensor) -> list[Record]:
    suffix = path.suffix.lower()
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path of the angles")
    if suffix in TABLES:
        return from_table(path, sensor.key)
    if suffix in ITEMS:
        return from_stac(path, sensor.key)
    if suffix == ".xml" and sensor.key == "s2":
        return [from_granule(path)]
    if suffix in SUFFIXES:
        raise InputError(f"{path}: angles a pixel, in bands of rasters, cannot be used; give one value a date in a CSV")
    raise InputError(f"{path}: no kind of file with angles; give a CSV, STAC items (.json), or Sentinel-2's MTD_TL.xml")


def _refuse_radians(records: Sequence[Record], sensor: Sensor) -> None:
    """Neither the sun at the time of passes nor a radar is ever within 1.6 degrees of the zenith on all dates."""
    reference = SUN_ZENITH if sensor.key == "s2" else INCIDENCE
    index = QUANTITIES[sensor.key].index(reference)
    values = [value for record in records if (value := record.degrees[index]) is not None]
    if values and max(values) <= 1.6:
        raise InputError(
            f"{sensor.title}: {reference.name} is at most {max(values):g} on all dates: radians or cosines? give "
            "degrees"
        )
