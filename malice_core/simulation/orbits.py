"""Where the satellites are: relative orbits, and under which angles and at what time of day they see a place.

Both are in sun-synchronous orbits, which pass a latitude at nearly the same local mean solar time: Sentinel-2 descends
over the equator at 10:30, Sentinel-1 ascends at 18:00. The rest is spherical geometry from heights and inclinations
of the missions: over Belgium it gives the passes there really are to some minutes, and the view angles within a degree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import time

from malice_core.simulation.noise import generator

#: Radius of the Earth, height of the orbits, kilometres; inclinations, degrees.
EARTH, S2_HEIGHT, S1_HEIGHT = 6371.0, 786.0, 693.0
S2_TILT, S1_TILT = 98.62, 98.18
#: Orbits a cycle of Sentinel-2, which share the equator; half of its swath, kilometres.
S2_TRACKS, S2_REACH = 143, 140.0


@dataclass(frozen=True)
class Orbit:
    """A relative orbit as a place knows it.

    Attributes:
        number: of the orbit. first: day of year of its first pass. at: time of day of the passes (UTC).
        view: for Sentinel-2, zenith angle of the view and azimuth of the satellite, degrees.
        incidence: for Sentinel-1, degrees.
    """

    number: int
    first: int
    at: time
    view: tuple[float, float] = (0.0, 0.0)
    incidence: float = 0.0


#: Neighbouring tracks as over Belgium; two satellites for Sentinel-2, so each track comes every 5 days.
S2_ORBITS, S2_REPEAT = (
    (
        Orbit(51, 2, time(10, 51, 9), view=(7.97, 104.9)),
        Orbit(94, 5, time(11, 1, 17), view=(5.2, 280.8)),
    ),
    5,
)
#: Ascending; one satellite repeats in 12 days, two (asked for many dates) in 6. Incidence as their times tell.
S1_ORBITS, S1_REPEAT = (
    (
        Orbit(59, 6, time(17, 40, 43), incidence=43.5),
        Orbit(161, 1, time(17, 32, 11), incidence=35.0),
    ),
    12,
)


def clock(crosses: float, tilt: float, latitude: float, longitude: float, east: float) -> time:
    """Time of a pass, UTC to the second.

    Args:
        crosses: local mean solar hour at the equator: before noon going south, after noon going north.
        tilt: inclination, degrees. east: kilometres by which the place lies east of the track.
    """
    # A retrograde orbit leans westwards on its way north, to earlier local times, and on its way south as well.
    lean = math.degrees(math.asin(math.tan(math.radians(latitude)) / -math.tan(math.radians(tilt))))
    local = crosses + (lean if crosses < 12 else -lean) / 15
    local += math.degrees(east / EARTH / math.cos(math.radians(latitude))) / 15
    seconds = round((local - longitude / 15) * 3600) % 86400
    return time(seconds // 3600, seconds // 60 % 60, seconds % 60)


def zenith(distance: float, height: float) -> float:
    """Angle on the ground between the vertical and a satellite, degrees, ``distance`` kilometres beside its track."""
    arc = distance / EARTH
    nadir = math.atan2(EARTH * math.sin(arc), EARTH + height - EARTH * math.cos(arc))
    return math.degrees(nadir + arc)


def distance(incidence: float, height: float) -> float:
    """The inverse of :func:`zenith`: kilometres beside the track."""
    angle = math.radians(incidence)
    return EARTH * (angle - math.asin(EARTH * math.sin(angle) / (EARTH + height)))


def s2_drawn(seed: int, latitude: float, longitude: float) -> tuple[Orbit, ...]:
    """One or two orbits of Sentinel-2; where two overlap, one sees the place from the east and one from the west."""
    rng = generator(seed, 61)
    first, number = (int(value) for value in rng.integers(1, [11, 144]))
    share, count = int(rng.integers(0, 1000)) / 1000, int(rng.integers(1, 3))
    flat = math.cos(math.radians(latitude))
    apart = 2 * math.pi * EARTH / S2_TRACKS * flat
    # Kilometres the place lies west of the first track: within both swaths, or on either side of the only track.
    least, most = (max(4.0, apart - S2_REACH), min(S2_REACH, apart - 4.0)) if count == 2 else (-S2_REACH, S2_REACH)
    west = least + share * (most - least)
    lean = math.degrees(math.asin(-math.cos(math.radians(S2_TILT)) / flat))
    orbits = []
    for i, east in enumerate((-west, apart - west)):
        side = 90 + lean + (180 if east > 0 else 0)  # where the satellite stands
        at = clock(10.5, S2_TILT, latitude, longitude, east)
        view = (zenith(abs(east), S2_HEIGHT), side)
        orbits.append(Orbit((number + 43 * i - 1) % S2_TRACKS + 1, first + 3 * i, at, view=view))
    return tuple(orbits[:count])


def s1_drawn(seed: int, latitude: float, longitude: float) -> tuple[Orbit, ...]:
    """One or two ascending orbits of Sentinel-1; where two overlap, one sees the place steeply, one at an angle."""
    rng = generator(seed, 62)
    first, number = (int(value) for value in rng.integers(1, [13, 176]))
    steep, count = 31 + int(rng.integers(0, 56)) / 10, 1 + int(rng.random() < 0.65)
    angles = [steep, steep + 7.5 + int(rng.integers(0, 16)) / 10][:: int(rng.choice([1, -1]))]
    orbits = []
    for i, incidence in enumerate(angles):
        at = clock(18.0, S1_TILT, latitude, longitude, distance(incidence, S1_HEIGHT))
        orbits.append(Orbit((number + 102 * i - 1) % 175 + 1, first + 5 * i, at, incidence=incidence))
    return tuple(orbits[:count])
