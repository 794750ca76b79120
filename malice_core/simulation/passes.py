"""What is asked for (:class:`Spec`) and when the satellites pass.

Sentinel-2 repeats a track in 5 days with two satellites (10 before Sentinel-2B, mid 2017), and many places lie in two
tracks, which gives gaps of 2, 3 and 5 days. Sentinel-1 repeats in 6 days with two satellites, in 12 with one
(before October 2016, and from 2022 to the end of 2024). Which of the passes become images is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise

import numpy as np
from rasterio._err import CPLE_BaseError  # GDAL's own errors reach us unwrapped from warp
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform

from malice_core import bands
from malice_core.errors import InputError
from malice_core.simulation import climate
from malice_core.simulation.noise import Floats, generator
from malice_core.simulation.orbits import S1_ORBITS, S1_REPEAT, S2_ORBITS, S2_REPEAT, Orbit, s1_drawn, s2_drawn
from malice_core.simulation.solar import Sun, position
from malice_core.simulation.weather import weather

MIN_SIDE, MAX_SIDE = 8, 4096
REGIONS = ("flanders", "drawn")
#: Longitude of the demonstration's Flanders, degrees.
FLANDERS_EAST = 3.02


@dataclass(frozen=True)
class Spec:
    """What to simulate.

    Attributes:
        height, width: pixels of 10 m, 8 to 4096.
        year: calendar year of the first image.
        seed: of everything random.
        s2_dates, s1_dates: number of images.
        crs: a projected CRS in metres, anything rasterio reads.
        origin: (x, y) of the upper left corner in it.
        region: "flanders", or "drawn": climate, land and orbits by the seed.
        start: month the year of images begins with, 1-12.
        max_cloud: Sentinel-2 dates with a larger share of cloud are not taken, 0-1.
    """

    height: int = 400
    width: int = 400
    year: int = 2024
    seed: int = 1
    s2_dates: int = 24
    s1_dates: int = 30
    crs: str = "EPSG:32631"
    origin: tuple[float, float] = (500000.0, 5640000.0)
    region: str = "flanders"
    start: int = 1
    max_cloud: float = 1.0

    @classmethod
    def draw(cls, seed: int, height: int = 128, width: int = 128, year: int | None = None) -> Spec:
        """A training scene: region, place, year 2016-2026, first month, number of dates and cloud all from the seed."""
        rng = generator(seed, 60)
        latitude = climate.drawn(seed).latitude
        zone = int(rng.integers(29, 36))
        y = 111132 * latitude - 16036 * math.sin(2 * math.radians(latitude))
        when = int(rng.integers(2016, 2027))
        start = int(rng.choice([1, 1, 1, *range(2, 13)]))
        when -= when == 2026 and start > 1  # the last image is of 2026
        spec = cls(
            height=height,
            width=width,
            year=when if year is None else year,
            seed=seed,
            s2_dates=0,
            s1_dates=0,
            crs=f"EPSG:326{zone}",
            origin=(float(round(rng.uniform(300000, 690000), -1)), float(round(y, -1))),
            region="drawn",
            start=start,
            max_cloud=float(rng.choice([0.3, 0.3, 0.6, 1.0])),
        )
        share = rng.uniform(0.55, 0.95, 2)
        s2 = min(int(share[0] * len(_s2_all(spec))), int(rng.integers(45, 90)))
        s1 = min(int(share[1] * len(_s1_all(spec, 1000))), int(rng.integers(45, 90)))
        return cls(**(spec.__dict__ | {"s2_dates": s2, "s1_dates": s1}))

    @property
    def land(self) -> climate.Region:
        """The region simulated."""
        return climate.drawn(self.seed) if self.region == "drawn" else climate.FLANDERS

    @property
    def longitude(self) -> float:
        """Degrees east, by which local and universal time differ: of the origin, or of Flanders."""
        return _longitude(self.crs, self.origin) if self.region == "drawn" else FLANDERS_EAST

    def check(self) -> None:
        """Raises InputError naming the value that cannot be simulated."""
        for name, value in (("height", self.height), ("width", self.width)):
            if not MIN_SIDE <= value <= MAX_SIDE:
                raise InputError(f"--size: a {name} of {value} pixels is not between {MIN_SIDE} and {MAX_SIDE}")
        if not bands.DATE_ORIGIN.year < self.year <= 9997:
            raise InputError(f"--year {self.year} is not after {bands.DATE_ORIGIN.year}, the launch of Sentinel-1")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"--seed {self.seed} is not between 0 and 2^63 - 1")
        if self.region not in REGIONS:
            raise InputError(f"--region {self.region!r} is none of {', '.join(REGIONS)}")
        if not 1 <= self.start <= 12:
            raise InputError(f"--start {self.start} is no month, 1 to 12")
        if not 0 <= self.max_cloud <= 1:
            raise InputError(f"--max-cloud {self.max_cloud:g} is not a share between 0 and 1")
        try:
            crs = CRS.from_user_input(self.crs)
        except CRSError as error:
            raise InputError(f"--crs {self.crs!r} is not known: give one as EPSG:32631") from error
        if not crs.is_projected or crs.linear_units_factor[1] != 1:
            raise InputError(f"--crs {self.crs} is not projected in metres: give a UTM zone, as EPSG:32631")
        if not all(math.isfinite(value) and abs(value) < 1e8 for value in self.origin):
            raise InputError(f"--origin {self.origin[0]:g} {self.origin[1]:g} is no place in metres")
        for name, value, most in (
            ("s2", self.s2_dates, len(_s2_all(self))),
            ("s1", self.s1_dates, len(_s1_all(self, 1000))),
        ):
            if not 0 <= value <= most:
                raise InputError(f"--{name}-dates {value} is not between 0 and {most}, the passes of a year")


@lru_cache(maxsize=256)
def _longitude(crs: str, origin: tuple[float, float]) -> float:
    """Degrees east of a point; InputError if it is none on Earth."""
    try:
        degrees = float(transform(crs, "EPSG:4326", [origin[0]], [origin[1]])[0][0])
    except (RasterioError, CPLE_BaseError):
        degrees = math.inf
    if not math.isfinite(degrees):
        raise InputError(f"--origin {origin[0]:g} {origin[1]:g} is no place in {crs}: give one within its zone")
    return degrees


@dataclass(frozen=True)
class Pass:
    """One image to take.

    Attributes:
        when: UTC. orbit: its relative orbit's number.
        second: whether it is the second of the place's orbits.
        cloud: for Sentinel-2, how much cloud (0-1). view, sun: zenith angle and azimuth of satellite and sun, degrees.
        incidence: for Sentinel-1, the angle at the scene, degrees.
    """

    when: datetime
    orbit: int
    second: bool = False
    cloud: float = 0.0
    view: tuple[float, float] = (0.0, 0.0)
    sun: Sun = Sun(zenith=0.0, azimuth=180.0)  # noqa: RUF009 - immutable
    incidence: float = 0.0

    def day(self, year: int) -> int:
        """Days since the last of December before ``year``: 1 is 1 January."""
        return (self.when.date() - date(year, 1, 1)).days + 1

    @property
    def side(self) -> float:
        """For Sentinel-2, how much the sun is behind the satellite (1, as in the west of a swath) or before it."""
        apart = math.radians(self.view[1] - self.sun.azimuth)
        return math.sin(math.radians(self.view[0])) * math.cos(apart) / math.sin(math.radians(8.0))


def span(spec: Spec) -> tuple[date, date]:
    """First day of the year of images, and the first day after it."""
    return date(spec.year, spec.start, 1), date(spec.year + 1, spec.start, 1)


def _s2_orbits(spec: Spec) -> tuple[tuple[Orbit, ...], int]:
    if spec.region != "drawn":
        return S2_ORBITS, S2_REPEAT
    early = spec.year < 2017 or (spec.year == 2017 and spec.start <= 3)
    return s2_drawn(spec.seed, spec.land.latitude, spec.longitude), 10 if early else 5


def _passes(spec: Spec, orbits: tuple[Orbit, ...], repeat: int) -> list[Pass]:
    """All passes within a year of the first of the month the series begins with."""
    start = datetime(spec.year, 1, 1)
    begin, end = ((day - start.date()).days + 1 for day in span(spec))
    days = range(begin, end)
    found = [
        Pass(
            datetime.combine(start + timedelta(days=day - 1), orbit.at), orbit.number,
            second=i > 0, view=orbit.view, incidence=orbit.incidence,
        )
        for i, orbit in enumerate(orbits)
        for day in range(orbit.first % repeat or repeat, days.stop, repeat)
        if day in days
    ]  # fmt: skip
    return sorted(found, key=lambda item: item.when)


def _s2_all(spec: Spec) -> list[Pass]:
    return _passes(spec, *_s2_orbits(spec))


def _s1_all(spec: Spec, wanted: int) -> list[Pass]:
    if spec.region == "drawn":
        both = spec.year not in (2016, 2022, 2023, 2024)
        orbits = s1_drawn(spec.seed, spec.land.latitude, spec.longitude)
        return _passes(spec, orbits, S1_REPEAT // 2 if both else S1_REPEAT)
    passes = _passes(spec, S1_ORBITS, S1_REPEAT)
    return passes if wanted <= len(passes) else _passes(spec, S1_ORBITS, S1_REPEAT // 2)


def _choose(rng: np.random.Generator, count: int, among: int, dark: Floats | None = None) -> list[int]:
    """``count`` of so many passes at irregular distances over the whole year, from all orbits in turn at random.

    Args:
        dark: (among,) of two drawn the one with less of this is taken.
    """
    # One pass at random out of each of ``count`` equal stretches: gaps between none and twice the mean.
    edges = np.linspace(0, among, count + 1).astype(int)
    chosen = [int(rng.integers(a, b)) for a, b in pairwise(edges)]
    if dark is None:
        return chosen
    return [
        min(one, int(rng.integers(a, b)), key=lambda i: dark[i])
        for one, (a, b) in zip(chosen, pairwise(edges), strict=True)
    ]


def s2_passes(spec: Spec) -> list[Pass]:
    """The Sentinel-2 images of ``spec`` by date, with their cloud shares.

    The shares follow the region's distribution (in Flanders about half of any number of dates are clear: of the 118
    Belgian dates this was compared with, 46 % are, and a third overcast). Which date gets which share follows the
    weather of its day, as far as a minute's sky follows the day's: those on dark days get the large ones.
    """
    rng = generator(spec.seed, 10, spec.year)
    passes = _s2_all(spec)
    sky = weather(spec.land, spec.seed, spec.year)
    dark = np.array([sky.at(sky.air.cloud, one.day(spec.year)) for one in passes])
    dark += 0.22 * generator(spec.seed, 12, spec.year).standard_normal(len(passes))
    # Who wants no clouds looks for clear days.
    chosen = _choose(rng, spec.s2_dates, len(passes), dark if spec.max_cloud < 1 else None)
    clear = spec.land.clear
    ranks = [0, 0.8 * clear, clear, clear + 0.42 * (1 - clear), clear + 0.71 * (1 - clear), 1]
    shares = [0, 0, 0.08, 0.45, 0.92, 1]
    most = float(np.interp(spec.max_cloud, shares[1:], ranks[1:]))
    rank = (np.argsort(np.argsort(dark[chosen])) + 0.5) / max(len(chosen), 1) * most
    place = (spec.land.latitude, spec.longitude)
    return [
        replace(passes[i], cloud=float(cloud), sun=position(*place, passes[i].when))
        for i, cloud in zip(chosen, np.interp(rank, ranks, shares), strict=True)
    ]


def s1_passes(spec: Spec) -> list[Pass]:
    """The Sentinel-1 images of ``spec`` by date, from all its orbits."""
    passes = _s1_all(spec, spec.s1_dates)
    return [passes[i] for i in _choose(generator(spec.seed, 11, spec.year), spec.s1_dates, len(passes))]
