"""Angles of sun and view of every date, as MALICE Aux gets them: cosines and sines.

One set of angles holds for all pixels of a date. Source: the channels of the published MALICE Aux.
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
from malice_core.images.paths import SUFFIXES
from malice_core.job import ANGLES
from malice_core.stack import shortened
from malice_core.store.statistics import AUX, S1_ANGLES, S2_ANGLES
from malice_core.surroundings.anglefiles import (
    INCIDENCE,
    QUANTITIES,
    SUN_ZENITH,
    Quantity,
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
    """

    sensor: Sensor
    records: tuple[Record, ...]
    median: bool
    files: tuple[str, ...]
    warnings: list[str]

    @classmethod
    def open(cls, sensor: str, paths: Sequence[str | Path | float], missing: str = "error") -> Angles:
        """Reads angles.

        Args:
            sensor: ``s2`` or ``s1``.
            paths: CSV tables, STAC items (JSON), ``MTD_TL.xml`` of Sentinel-2, or folders with these, such as products
                (``.SAFE``). For Sentinel-1 also a number of degrees for all dates, or ``ORBIT=DEGREES`` for those of a
                relative orbit.
            missing: ``error``, or ``median`` to use the training's median, with a warning.

        Raises:
            InputError: naming the file, the line or date, and what is wrong: not readable, no angles, impossible ones,
                radians.
        """
        if sensor not in CHANNELS:
            raise InputError(f"sensor '{sensor}' has no angles, only {', '.join(CHANNELS)}")
        if missing not in ANGLES:
            raise InputError(f"--angles {missing} is none of {', '.join(ANGLES)}")
        kind, records, files = SENSORS[sensor], list[Record](), list[str]()
        for path in map(str, paths):
            constant = _constant(path, kind)
            if constant is not None:
                records.append(constant)
                continue
            for file in _files(Path(path), kind):
                records += _read(file, kind)
                files.append(f"{file.absolute()}")
        if not records and missing == "error":
            raise InputError(
                f"{kind.title}: no angles given; MALICE Aux needs {_listed(QUANTITIES[sensor])} of every date: give "
                f"--{sensor}-angles, or --angles median"
            )
        _refuse_radians(records, kind)
        return cls(kind, tuple(records), missing == "median", tuple(sorted(set(files))), [])

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the numbers :meth:`of` returns, in order."""
        return CHANNELS[self.sensor.key]

    def of(self, dates: Sequence[date], orbits: Sequence[int | None] | None = None) -> Float:
        """The network's angles of some dates.

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
