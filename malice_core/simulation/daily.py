"""Daily weather out of random numbers: the eight variables AgERA5 has, and how cloudy it is.

A generator in the manner of Richardson (1981, Water Resources Research 17:182): wet and dry days from a two-state
Markov chain with exponential amounts, everything else from first-order autoregressions around a yearly wave, other on
wet days than on dry ones. What hangs together in nature does so here:

- clouds follow rain, season and region; light is what clouds leave of the sun's: 1 - a c^b of a clear day's (form of
  Kasten and Czeplak 1980, Solar Energy 24:177), and wet days lose more;
- the range of temperature follows from the light by the relation of Bristow and Campbell (1984, Agric. For.
  Meteorol. 31:159), turned around;
- the dew point lies near the night's minimum (Allen et al. 1998, FAO-56, ch. 3), lower in dry summers, and gives the
  vapour pressure by the Magnus formula (Sonntag 1990; WMO-No. 8).

Constants were set by the two years of AgERA5 at a Belgian site (``docs/simulator.md`` compares); other climates are
judgement.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass, fields
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from malice_core.simulation.climate import Region
from malice_core.simulation.noise import Floats, generator
from malice_core.simulation.solar import extraterrestrial


@dataclass(frozen=True)
class Daily:
    """Weather of consecutive days, arrays (D,).

    Attributes:
        temperature, least, most: mean and extremes of 24 hours, degrees Celsius. dew: the dew point.
        vapour: pressure, hPa. rain: millimetres. light: solar radiation, J m-2. wind: m s-1 at 10 m.
        cloud: share of the sky, 0-1.
    """

    temperature: Floats
    least: Floats
    most: Floats
    dew: Floats
    vapour: Floats
    rain: Floats
    light: Floats
    wind: Floats
    cloud: Floats


def wave(day: Floats) -> Floats:
    """-1 in mid January to 1 in mid July, of days of the year."""
    return np.asarray(-np.cos(2 * np.pi * (day - 16) / 365.25))


def vapour_pressure(dew: Floats) -> Floats:
    """hPa, of the dew point in degrees Celsius: the Magnus formula over water."""
    return np.asarray(6.112 * np.exp(17.62 * dew / (243.12 + dew)))


def length(year: int) -> int:
    """Days of a calendar year."""
    return 366 if calendar.isleap(year) else 365


def daily(region: Region, seed: int, first: int, last: int) -> Daily:
    """Weather of the calendar years ``first`` to ``last``; a year has the same whatever years are asked for.

    Every year has random numbers of its own. The series begin a year earlier, so that what lasts from day to day has
    forgotten its start, and the months beyond each end are known, so that nothing jumps at New Year.
    """
    years = range(first - 1, last + 2)
    days = [length(year) for year in years]
    day = np.concatenate([np.arange(1.0, count + 1) for count in days])
    draws = [generator(seed, 4, year) for year in years]
    # Of the year: how warm, how wet; of its months: how much warmer than the year.
    warm = [0.7 * rng.standard_normal() + 1.3 * rng.standard_normal(12) for rng in draws]
    wet = np.repeat([float(np.clip(1 + 0.2 * rng.standard_normal(), 0.5, 1.6)) for rng in draws], days)
    normal = np.concatenate([rng.standard_normal((count, 7)) for rng, count in zip(draws, days, strict=True)]).T
    luck = np.concatenate([rng.random((count, 2)) for rng, count in zip(draws, days, strict=True)]).T
    middles = np.concatenate([sum(days[:i]) + (np.arange(12) + 0.5) / 12 * count for i, count in enumerate(days)])
    slow = np.interp(np.arange(len(day)), middles, np.concatenate(warm))

    season = wave(day)
    falls = _rain(region, season, wet / 365.25, luck)
    rainy = falls > 0
    cloud = _cloud(region, season, rainy, _lasting(normal[0], 0.35))
    # Drizzle: AgERA5 has a little on most cloudy days.
    falls = np.where(rainy, falls, np.where(normal[1] + 3 * (cloud - 0.5) > -0.4, 0.15 * np.abs(normal[1]), 0.0))
    clear = 0.70 + 0.02 * season
    through = clear * (1 - 0.8 * cloud**1.5) * (1 - 0.45 * rainy * luck[1]) * np.exp(0.08 * normal[2])
    through = np.clip(through, 0.04, 0.76)
    # Clouds keep summer days cool and winter days warm.
    temperature = region.mean + slow + region.swing * season + 2.6 * _lasting(normal[3], 0.8)
    temperature += 2.0 * (0.6 - cloud) * season
    dry = float(np.clip((820 - region.rain) / 470, -0.3, 1))
    spread = (-np.log(1 - np.minimum(through / 0.79, 0.95)) / (0.0072 * np.exp(-0.7 * dry))) ** (1 / 2.4)
    spread *= np.exp(0.23 * normal[4])
    upper = np.clip(0.515 + 0.07 * normal[1], 0.3, 0.75) * spread
    least = temperature + upper - spread
    dew = least - 0.1 + 0.8 * rainy - (0.9 + 2.0 * max(dry, 0)) * np.maximum(season, 0) + 1.5 * _lasting(normal[5], 0.5)
    dew = np.minimum(dew, temperature - 0.4)
    wind = region.wind * np.exp(-0.18 * season + 0.15 * (rainy - 0.4) + 0.36 * _lasting(normal[6], 0.5))
    whole = Daily(
        temperature, least, temperature + upper, dew, vapour_pressure(dew), falls,
        through * extraterrestrial(region.latitude, day), wind, cloud,
    )  # fmt: skip
    kept = slice(days[0], len(day) - days[-1])
    return Daily(**{one.name: getattr(whole, one.name)[kept] for one in fields(Daily)})


def _lasting(noise: Floats, memory: float) -> Floats:
    """First-order autoregression of unit deviation."""
    out, level, fresh = [], 0.0, (1 - memory**2) ** 0.5
    for value in noise.tolist():
        level = memory * level + fresh * value
        out.append(level)
    return np.array(out)


def _rain(region: Region, season: Floats, share_of_year: Floats, luck: Floats) -> Floats:
    """Millimetres a day, 0 on dry days; ``share_of_year``: of the yearly sum that falls on a mean day."""
    share = np.clip(0.37 * (region.rain / 820) ** 0.5 * (1 + 0.55 * region.summer * season), 0.02, 0.7)
    amount = np.maximum(region.rain * share_of_year * (1 + region.summer * season), 0.02) / share
    raining, wet = False, []
    for chance, drawn in zip(share.tolist(), luck[0].tolist(), strict=True):
        # Spells: a wet day follows a wet day more often; the stationary share is kept.
        raining = drawn < (chance + (1 - chance) * 0.35 if raining else chance * 0.65)
        wet.append(raining)
    return np.asarray(-np.log(1 - luck[1]) * amount * np.array(wet))


def _cloud(region: Region, season: Floats, rainy: NDArray[np.bool_], weather: Floats) -> Floats:
    """Share of the sky under cloud, 0-1: below a half on ``region.clear`` of the days, more in winter and with rain."""
    share = 0.37 * (region.rain / 820) ** 0.5
    middle = -1.15 * NormalDist().inv_cdf(region.clear) - 0.9 * share
    return np.asarray(1 / (1 + np.exp(-1.5 * (middle - 0.6 * season + 0.9 * rainy + weather))))
