"""Where the scene lies and what weather its year has: temperature, rain, soil moisture, snow, the plants' clock.

A region is a climate and a style of land. ``FLANDERS`` is the one of the demonstration; ``drawn`` takes one for
Europe between 37 and 58 degrees north. Weather is a generator, not a reanalysis: a yearly wave of temperature
with autocorrelated anomalies, rain from a two-state Markov chain with exponential amounts (Richardson 1981,
Water Resources Research 17:182), two soil buckets with an evaporation that follows temperature, snow by
degree-days. Parameters are judgement, near European climate normals.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass

import numpy as np

from malice_core.simulation.noise import Floats, generator


@dataclass(frozen=True)
class Region:
    """Climate and style of a place.

    Attributes:
        latitude: degrees north.
        mean, swing: yearly mean of temperature and half its seasonal range, degrees Celsius.
        rain: millimetres a year. summer: relative surplus (or deficit, negative) of rain in July against January.
        clear: share of Sentinel-2 dates with little cloud.
        haze: mean of the aerosol that atmospheric correction leaves, 1 = a hazy day.
        field: median size of a field, pixels; spread: standard deviation of its logarithm; strips: how many times
            longer than wide fields may be.
        woods, lakes, heath: shares of the land; hedges: chance of a hedge at a border; towns: built-up places in 16
            square kilometres; grass: share of fields that are permanent grass; orchards: of orchards, vines, olives.
        stream: whether a stream runs through.
        conifers: -1 none to 1 only. irrigated: share of summer crops that never thirst.
        soils: weights of the soils in ``spectra.SOILS``. varied: how much crops' shares vary between scenes.
    """

    latitude: float
    mean: float
    swing: float
    rain: float
    summer: float
    clear: float
    haze: float
    field: float
    spread: float
    strips: float
    woods: float
    lakes: float
    heath: float
    hedges: float
    towns: float
    grass: float
    orchards: float
    stream: bool
    conifers: float
    irrigated: float
    soils: tuple[float, ...]
    varied: float


#: Mild, moist, small fields on loess: the landscape of the demonstration.
FLANDERS = Region(
    latitude=50.8, mean=10.5, swing=7.5, rain=820, summer=0.0, clear=0.48, haze=0.1, field=330, spread=0.6, strips=1.0,
    woods=0.13, lakes=0.003, heath=0.0, hedges=0.10, towns=1.0, grass=0.16, orchards=0.02, stream=True, conifers=0.35,
    irrigated=0.1, soils=(1, 0, 0, 0, 0, 0), varied=0.15,
)  # fmt: skip


def drawn(seed: int) -> Region:
    """The region of ``seed``."""
    rng = generator(seed, 50)
    latitude = float(rng.uniform(37, 58))
    inland = float(rng.random())
    south = float(np.clip((46 - latitude) / 8, 0, 1))
    mean = 10.5 + 0.52 * (50.8 - latitude) - 1.5 * inland + float(rng.normal(0, 0.8))
    rain = float(np.clip(rng.normal(820 - 200 * inland - 170 * south, 130), 350, 1400))
    return Region(
        latitude=latitude,
        mean=float(np.clip(mean, 4.5, 18)),
        swing=7.0 + 4.5 * inland + float(rng.normal(0, 0.5)),
        rain=rain,
        summer=float(0.5 * inland - 0.85 * south + rng.normal(0, 0.1)),
        clear=float(np.clip(0.42 + 0.28 * south + 0.1 * inland + rng.normal(0, 0.06), 0.3, 0.85)),
        haze=float(rng.uniform(0.02, 0.2)),
        field=float(np.exp(rng.normal(5.6, 0.7))),
        spread=float(rng.uniform(0.3, 0.95)),
        strips=float(rng.choice([1.0, 1.0, 1.6, 2.5, 4.0])),
        woods=float(np.clip(rng.beta(1.0, 5.0), 0.0, 0.7)),
        lakes=float(rng.choice([0, 0, 0, 0.004, 0.03])),
        heath=float(rng.choice([0, 0, 0.02, 0.08])),
        hedges=float(rng.choice([0.0, 0.05, 0.12, 0.4])),
        towns=float(rng.choice([0.3, 1.0, 2.5, 8.0])),
        grass=float(rng.beta(1.2, 5.0)),
        orchards=float(rng.choice([0.0, 0.02, 0.06, 0.25], p=[0.4, 0.3, 0.2, 0.1])),
        stream=bool(rng.random() < 0.4),
        conifers=float(rng.uniform(-1, 1)),
        irrigated=float(np.clip(rng.uniform(0, 0.3) + 0.5 * south, 0, 0.8)),
        soils=tuple(float(weight) for weight in rng.dirichlet([0.7, 0.4, 0.35, 0.3, 0.25, 0.15])),
        varied=1.0,
    )


@dataclass(frozen=True)
class Weather:
    """Daily weather of three years; read a series at a day with :meth:`at`.

    Attributes:
        before: days in the year before the scene's, which the series begin with.
        temperature: daily mean, degrees Celsius. rain: millimetres.
        top: moisture of the uppermost centimetres, 0 dry to 1 saturated. root: of the root zone.
        stress: 0 none to 1, how much plants lack water (two weeks' memory). snow: millimetres of water.
        frozen: 0 or 1, the soil's surface.
        annual, lasting: phenological clock (day of year of the reference climate at which plants are) of annual crops
            and of what lasts for years.
    """

    before: int
    temperature: Floats
    rain: Floats
    top: Floats
    root: Floats
    stress: Floats
    snow: Floats
    frozen: Floats
    annual: Floats
    lasting: Floats

    def at(self, series: Floats, day: int) -> float:
        """Value of one of the series on a day; 1 is 1 January of the scene's year."""
        return float(series[min(max(day - 1 + self.before, 0), len(series) - 1)])


def weather(region: Region, seed: int, year: int) -> Weather:
    """Weather of the years before, of and after ``year``; a calendar year has the same in every scene of the seed."""
    lengths = [366 if calendar.isleap(one) else 365 for one in (year - 1, year, year + 1)]
    parts = [_sky(generator(seed, 4, one), region, days) for one, days in zip(range(year - 1, year + 2), lengths)]  # noqa: B905
    temperature = np.concatenate([part[0] for part in parts])
    rain = np.concatenate([part[1] for part in parts])
    total = len(rain)
    top, root, stress, snow, frozen = (np.zeros(total) for _ in range(5))
    a, b, thirst, swe, frost = 0.6, 0.9, 0.0, 0.0, 0.0
    for i in range(total):
        warm = max(temperature[i], 0.0)
        falls = rain[i] if temperature[i] < 0.5 else 0.0
        melt = min(swe, 4.0 * warm)
        swe += falls - melt
        water = rain[i] - falls + melt
        # Top: about 28 mm deep, dries in two weeks in winter and in five days in summer.
        a = min(1.0, a * (1 - 0.07 - 0.0065 * warm) + water / 28)
        # Root zone: 130 mm; evaporation of 0.4-3.8 mm a day, less when dry.
        b = min(1.0, max(0.0, b + (water - (0.4 + 0.17 * warm) * min(1.0, 0.15 + 1.4 * b)) / 130))
        thirst += (np.clip((0.42 - b) / 0.42, 0, 1) - thirst) / 14
        frost = 0.8 * frost + 0.2 * temperature[i]
        top[i], root[i], stress[i], snow[i], frozen[i] = a, b, thirst, swe, float(frost < -0.5)
    clocks = [_clock(part[0], region) for part in parts]
    return Weather(
        lengths[0], temperature, rain, top, root, stress, snow, frozen,
        np.concatenate([clock[0] for clock in clocks]), np.concatenate([clock[1] for clock in clocks]),
    )  # fmt: skip


def _wave(day: Floats) -> Floats:
    """-1 in mid January to 1 in mid July."""
    return np.asarray(-np.cos(2 * np.pi * (day - 16) / 365.25))


def _sky(rng: np.random.Generator, region: Region, days: int) -> tuple[Floats, Floats]:
    """Temperature and rain of a year, (days,) each."""
    day = np.arange(1, days + 1, dtype=np.float64)
    warm = rng.normal(0, 0.7)  # the year's own anomaly
    wet = float(np.clip(rng.normal(1.0, 0.2), 0.5, 1.6))
    slow = np.interp(day, np.linspace(1, days, 13), rng.normal(0, 1.4, 13))  # months
    anomaly, falls, raining = 0.0, np.zeros(days), False
    quick = np.zeros(days)
    wave = _wave(day)
    share = np.clip(0.37 * (region.rain / 820) ** 0.5 * (1 + 0.55 * region.summer * wave), 0.02, 0.7)
    daily = region.rain * wet / days * (1 + region.summer * wave)
    for i in range(days):
        anomaly = 0.78 * anomaly + rng.normal(0, 1.7)
        quick[i] = anomaly
        # Spells: a wet day follows a wet day more often; the stationary share is kept.
        chance = share[i] + (1 - share[i]) * 0.35 if raining else share[i] * 0.65
        raining = bool(rng.random() < chance)
        falls[i] = rng.exponential(max(daily[i], 0.02) / share[i]) * raining
    temperature = region.mean + warm + region.swing * wave + slow + quick
    return temperature, falls


def _clock(temperature: Floats, region: Region) -> tuple[Floats, Floats]:
    """Phenological days of one year for annual crops and for lasting plants, (days,) each.

    Development follows the sum of temperatures above 0 degrees from 1 January (as in McMaster and Wilhelm 1997, Agric.
    For. Meteorol. 87:291), here against the same sum in the reference climate. Varieties are chosen for a place, so
    that only 65 % of the difference shows, at most 45 days.
    """
    days = len(temperature)
    day = np.arange(1, days + 1, dtype=np.float64)
    reference = np.cumsum(np.maximum(FLANDERS.mean + FLANDERS.swing * _wave(day), 0) + 0.8)
    own = np.interp(np.cumsum(np.maximum(temperature, 0) + 0.8), reference, day)
    ahead = np.clip(0.65 * (own - day), -45, 45)
    # Autumn work and autumn leaves are the later the warmer the place is.
    late = float(np.clip(1.8 * (region.mean - FLANDERS.mean), -14, 14))
    enter = np.clip(day / 70, 0, 1)
    ahead = enter * ahead + (1 - enter) * -late
    held = np.where(day > 205, ahead[min(204, days - 1)], ahead)
    annual = day + held * np.interp(day, [205, 320], [1, 0])
    leaves = day + held * np.interp(day, [170, 235], [1, 0]) - 1.6 * late * np.interp(day, [225, 275], [0, 1])
    return annual, leaves
