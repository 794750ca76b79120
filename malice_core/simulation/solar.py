"""Where the sun stands, and how much of its light arrives above the air.

The sun's position is that of the Astronomical Almanac for 1950 to 2050 (Michalsky 1988, Solar Energy 40:227), within
0.01 degrees, without refraction; the day's light is its integral from sunrise to sunset (Allen et al. 1998, FAO-56, eq.
21).
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import numpy as np

from malice_core.simulation.noise import Floats


class Sun(NamedTuple):
    """Direction to the sun: zenith angle, and azimuth clockwise from north; degrees."""

    zenith: float
    azimuth: float


#: Of the sun outside the air at its mean distance, W m-2 (Kopp and Lean 2011).
CONSTANT = 1361.0


def _orbit(days: Floats) -> tuple[Floats, Floats, Floats]:
    """Right ascension and declination (radians), relative distance; ``days`` since noon of 1 January 2000."""
    anomaly = np.radians(357.528 + 0.9856003 * days)
    ecliptic = np.radians(280.46 + 0.9856474 * days + 1.915 * np.sin(anomaly) + 0.02 * np.sin(2 * anomaly))
    tilt = np.radians(23.439 - 4e-7 * days)
    ascension = np.arctan2(np.cos(tilt) * np.sin(ecliptic), np.cos(ecliptic))
    away = 1.00014 - 0.01671 * np.cos(anomaly) - 0.00014 * np.cos(2 * anomaly)
    return ascension, np.arcsin(np.sin(tilt) * np.sin(ecliptic)), away


def position(latitude: float, longitude: float, when: datetime) -> Sun:
    """The sun at a place (degrees north and east) and a time in UTC."""
    days = (when - datetime(2000, 1, 1, 12)).total_seconds() / 86400
    hours = when.hour + when.minute / 60 + when.second / 3600
    ascension, declination, _ = (float(part) for part in _orbit(np.array(days)))
    sidereal = 6.697375 + 0.0657098242 * days + hours  # of Greenwich, hours
    angle, north = np.radians(15 * sidereal + longitude) - ascension, np.radians(latitude)
    up = np.sin(north) * np.sin(declination) + np.cos(north) * np.cos(declination) * np.cos(angle)
    east = -np.cos(declination) * np.sin(angle)
    to_north = np.cos(north) * np.sin(declination) - np.sin(north) * np.cos(declination) * np.cos(angle)
    azimuth = float(np.degrees(np.arctan2(east, to_north))) % 360
    return Sun(float(np.degrees(np.arccos(np.clip(up, -1, 1)))), azimuth)


def extraterrestrial(latitude: float, day: Floats) -> Floats:
    """Light of a whole day on level ground without air, J m-2.

    Args:
        latitude: degrees north. day: of the year, any shape; years differ by less than half a percent.
    """
    _, declination, away = _orbit(np.asarray(day, np.float64) + 730)  # as in 2002
    north = np.radians(latitude)
    sunset = np.arccos(np.clip(-np.tan(north) * np.tan(declination), -1, 1))
    daily = sunset * np.sin(north) * np.sin(declination) + np.cos(north) * np.cos(declination) * np.sin(sunset)
    return np.asarray(86400 / np.pi * CONSTANT / away**2 * daily)
