"""What the weather does to the land: soil moisture, drought, snow, frost, the plants' clock.

Two soil buckets, with the evaporation of Makkink (1957, J. Inst. Water Eng. 11:277; de Bruin 1987): 0.65 of what the
sun's light could evaporate; snow by degree-days; plants by sums of temperature. Everything is driven by the daily
weather of ``daily.py``, the same that is written as ``AGERA5.csv``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from malice_core.simulation.climate import FLANDERS, Region
from malice_core.simulation.daily import Daily, daily, length, vapour_pressure, wave
from malice_core.simulation.noise import Floats


@dataclass(frozen=True)
class Weather:
    """Daily weather of three years and what it does; read a series at a day with :meth:`at`.

    Attributes:
        before: days in the year before the scene's, which the series begin with.
        air: the weather itself.
        top: moisture of the uppermost centimetres, 0 dry to 1 saturated. root: of the root zone.
        stress: 0 none to 1, how much plants lack water (two weeks' memory). snow: millimetres of water.
        frozen: 0 or 1, the soil's surface.
        annual, lasting: phenological clock (day of year of the reference climate at which plants are) of annual crops
            and of what lasts for years.
    """

    before: int
    air: Daily
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


@lru_cache(maxsize=16)
def weather(region: Region, seed: int, year: int) -> Weather:
    """Weather of the years before, of and after ``year``; a calendar year has the same in every scene of the seed."""
    return respond(daily(region, seed, year - 1, year + 1), region, year)


def respond(air: Daily, region: Region, year: int) -> Weather:
    """What ``air``, of the three years around ``year``, does to soil, snow and plants."""
    lengths = [length(one) for one in (year - 1, year, year + 1)]
    top, root, stress, snow, frozen = (np.zeros(sum(lengths)) for _ in range(5))
    a, b, thirst, swe, frost = 0.6, 0.9, 0.0, 0.0, 0.0
    dries = evaporation(air).tolist()
    for i, (mean, rain, dry) in enumerate(zip(air.temperature.tolist(), air.rain.tolist(), dries, strict=True)):
        falls = rain if mean < 0.5 else 0.0
        melt = min(swe, 4.0 * max(mean, 0.0))
        swe += falls - melt
        water = rain - falls + melt
        # Top: about 28 mm deep, dries in two weeks in winter and in five days in summer.
        a = min(1.0, a * (1 - 0.07 - 0.037 * min(dry, 7.0)) + water / 28)
        # Root zone: 130 mm; plants take less when it is dry.
        b = min(1.0, max(0.0, b + (water - 0.97 * dry * min(1.0, 0.15 + 1.4 * b)) / 130))
        thirst += (min(max((0.42 - b) / 0.42, 0.0), 1.0) - thirst) / 14
        frost = 0.8 * frost + 0.2 * mean
        top[i], root[i], stress[i], snow[i], frozen[i] = a, b, thirst, swe, float(frost < -0.5)
    ends = np.cumsum(lengths)
    clocks = [_clock(part, region) for part in np.split(air.temperature, ends[:2])]
    return Weather(
        lengths[0], air, top, root, stress, snow, frozen,
        np.concatenate([clock[0] for clock in clocks]), np.concatenate([clock[1] for clock in clocks]),
    )  # fmt: skip


def evaporation(air: Daily) -> Floats:
    """Millimetres a day from moist, overgrown land by Makkink: 0.65 s / (s + gamma) light / latent heat."""
    t = air.temperature
    slope = vapour_pressure(t) * 17.62 * 243.12 / (243.12 + t) ** 2  # hPa per kelvin
    return np.asarray(0.65 * slope / (slope + 0.66) * air.light / 2.45e6)


def _clock(temperature: Floats, region: Region) -> tuple[Floats, Floats]:
    """Phenological days of one year for annual crops and for lasting plants, (days,) each.

    Development follows the sum of temperatures above 0 degrees from 1 January (as in McMaster and Wilhelm 1997, Agric.
    For. Meteorol. 87:291), here against the same sum in the reference climate. Varieties are chosen for a place, so
    that only 65 % of the difference shows, at most 45 days.
    """
    days = len(temperature)
    day = np.arange(1, days + 1, dtype=np.float64)
    reference = np.cumsum(np.maximum(FLANDERS.mean + FLANDERS.swing * wave(day), 0) + 0.8)
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
