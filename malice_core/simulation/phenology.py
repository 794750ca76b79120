"""State of every parcel on a day: leaves, dry matter, flowers, plant mass, tillage, flooding.

The state is what both sensors see; they share nothing else. Calendars (``crops.py``) run on the thermal clock
of the weather. Between a harvest and the next sowing lie stubble, volunteers, tillage and perhaps a catch crop.
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malice_core.simulation.crops import BY_CODE, RICE, Cover
from malice_core.simulation.noise import Floats
from malice_core.simulation.scene import SEASONS, Landscape, watered


@dataclass(frozen=True)
class State:
    """State of every parcel on a day, arrays (P,).

    Attributes:
        code: cover whose calendar is followed (the crop that stands or stood last).
        lai: green area index, m2/m2. dry, flower: covers 0-1 with a sum of at most 0.97.
        mass: plant mass relative to the cover's own maximum, 0-1.
        yellow: 0 green leaves to 1 pale ones. stress: lack of water 0-1.
        tilled: 1 just tilled, falling to 0 over weeks. flood: 1 under water.
    """

    code: NDArray[np.uint8]
    lai: Floats
    dry: Floats
    flower: Floats
    mass: Floats
    yellow: Floats
    stress: Floats
    tilled: Floats
    flood: Floats


def state(land: Landscape, day: int) -> State:
    """State on a day.

    Args:
        day: 1 is 1 January of the landscape's year; up to the end of the year after.
    """
    parcels, weather = land.parcels, land.weather
    length = 366 if calendar.isleap(land.year) else 365
    season, local = (SEASONS.index(0), day) if day <= length else (SEASONS.index(1), day - length)
    annual, lasting = weather.at(weather.annual, day), weather.at(weather.lasting, day)
    thirst = weather.at(weather.stress, day)
    # Autumn work for the next harvest is the later the warmer the place.
    coming = local - 365.0 - float(np.clip(1.8 * (land.region.mean - 10.5), -14, 14))
    before, now, after = (parcels.code[season + step] for step in (-1, 0, 1))
    out = np.zeros((6, len(now)))  # lai, dry, flower, mass, tilled, age after the peak
    code = now.copy()
    for value in np.unique(now):
        cover, mine = BY_CODE[int(value)], now == value
        if not cover.annual:
            out[:4, mine] = _standing(cover, lasting - parcels.shift[season, mine], parcels.mix[mine])
            continue
        q = annual - parcels.shift[season, mine]
        stands = (q >= cover.keys[0][0]) & (q <= cover.keys[-1][0])
        out[:4, mine] = np.where(stands, _standing(cover, q, parcels.mix[mine]), 0)
        out[4, mine] = np.where(stands, np.clip(1 - (q - cover.keys[0][0]) / 50, 0, 1), 0)
    start, end = _limits(now)
    fields = np.array([BY_CODE[int(value)].annual for value in range(1, max(BY_CODE) + 1)])[now - 1]
    q = annual - parcels.shift[season]
    # Before this season's crop: what the last one left.
    early = fields & (q < start)
    if early.any():
        since = annual + 365 - parcels.shift[season - 1] - _limits(before)[1]
        out[:5, early] = _between(land, season - 1, before, since, start - q)[:, early]
    late = fields & (q > end)
    if late.any():
        q_next = coming - parcels.shift[season + 1]
        sown = late & (q_next >= _limits(after)[0])
        for value in np.unique(after[sown]):
            cover, mine = BY_CODE[int(value)], sown & (after == value)
            if cover.annual:
                out[:4, mine] = _standing(cover, q_next[mine], parcels.mix[mine])
                out[4, mine] = np.clip(1 - (q_next[mine] - cover.keys[0][0]) / 50, 0, 1)
        code[sown] = after[sown]
        rest = late & ~sown
        out[:5, rest] = _between(land, season, now, q - end, _limits(after)[0] - q_next)[:, rest]
    lai, dry, flower, mass, tilled, _ = out
    # Winters: where they are mild, grass and green manure stay green; elsewhere they turn brown.
    hardy = np.array([BY_CODE[int(one)].hardy for one in code])
    lost = (
        (1 - hardy)
        * (1 - _mild(land))
        * float(
            np.interp(local, [300, 350, 366], [0, 1, 1]) if local > 200 else np.interp(local, [1, 60, 110], [1, 1, 0])
        )
    )
    dry = dry + 0.4 * lost * (1 - np.exp(-0.6 * lai)) * (1 - dry)
    lai = lai * (1 - lost)
    vigour = np.where(code == now, parcels.vigour[season], parcels.vigour[season + 1])
    vigour = np.where(fields, vigour, 0.5 + 0.5 * vigour)
    suffers = np.array([BY_CODE[int(one)].thirst for one in code]) * thirst * (0.7 + 0.6 * parcels.other)
    suffers = np.clip(np.where(watered(parcels, code), 0.15 * suffers, suffers), 0, 0.9)
    dry = dry + 0.45 * suffers * (1 - np.exp(-0.5 * lai)) * (1 - dry)
    lai, mass = lai * vigour * (1 - suffers), mass * (0.6 + 0.4 * vigour) * (1 - 0.3 * suffers)
    total = np.maximum((dry + flower) / 0.97, 1.0)
    yellow = np.clip(dry * (lai < 3) * 0.8 + 0.4 * suffers, 0, 0.8)
    flood = ((code == RICE) & (q > 112) & (q < 245) & fields).astype(np.float64)
    return State(code, lai, dry / total, flower / total, np.clip(mass, 0, 1.1), yellow, suffers, tilled, flood)


def _mild(land: Landscape) -> float:
    """1 where winters are mild to 0 where they are hard, by the mean of January."""
    return float(np.clip((land.region.mean - land.region.swing + 3) / 5.5, 0, 1))


def _limits(code: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """First and last day of each crop's calendar, (P,) each."""
    first, last = np.zeros(256), np.zeros(256)
    for cover in BY_CODE.values():
        first[cover.code], last[cover.code] = cover.keys[0][0], cover.keys[-1][0]
    return first[code], last[code]


def _standing(cover: Cover, day: Floats | float, mix: Floats) -> Floats:
    """(4, P): green area, dry and flower cover, mass of a cover on phenological days (P,)."""
    keys = np.array(cover.keys)
    values = np.stack([np.interp(day, keys[:, 0], keys[:, i]) for i in range(1, 5)])
    values = values.reshape(4, -1) * np.ones(len(mix))
    for cut in cover.mown:
        # Parcels are cut on different days, and not at every date; they grow again within a month.
        since = day - cut - 14 * (mix - 0.5)
        takes_part = np.mod(mix * 7.31 + cut * 0.137, 1.0) < 0.75
        again = np.where((since >= 0) & takes_part, np.clip(since / 30, 0, 1), 1.0)
        values[1] += 0.30 * (1 - again) * (1 - values[1])
        values[0] *= 0.3 + 0.7 * again
        values[3] *= 0.35 + 0.65 * again
    return values


def _between(land: Landscape, season: int, crop: NDArray[np.uint8], since: Floats, until: Floats) -> Floats:
    """(5, P): green area, dry and flower cover, mass and tillage between a harvest and the next sowing.

    Args:
        crop: (P,) what was harvested. since, until: (P,) days after the harvest and to the next sowing.
    """
    parcels = land.parcels
    end = _limits(crop)[1]
    since, until = np.maximum(since, 0), np.maximum(until, 0)
    straw = np.array([0.62 * BY_CODE[int(one)].keys[-1][2] + 0.08 for one in crop])
    till = 6 + 55 * parcels.mix**1.5  # days to the first tillage
    second = until < 25 + 20 * parcels.other  # ploughed before sowing
    worked = since >= till
    dry = straw * np.exp(-since / 90) * np.where(worked, 0.3, 1.0) * np.where(second, 0.25, 1.0)
    autumn = np.clip((290 - end) / 60, 0, 1)  # after a late harvest nothing grows before spring
    harvest = 365 * (season - SEASONS.index(0)) + int(end.mean())
    dampness = 1 - 0.8 * land.weather.at(land.weather.stress, harvest + 30)
    volunteers = 0.6 * parcels.other * np.clip((since - 12) / 35, 0, 1) * ~worked
    volunteers += 0.4 * parcels.mix * np.clip((since - till - 18) / 60, 0, 1) * ~second
    gap = parcels.catch[season] & (since + until > 110)
    sown = since - np.minimum(till, 30)
    frost = np.clip((end + since - 335) / 60, 0, 1) * np.where(parcels.mix > 0.5, 0.9, 0.7 - 0.6 * _mild(land))
    cover = 3.6 * (0.5 + 0.5 * parcels.other) * np.clip((sown - 10) / 45, 0, 1) * (1 - frost)
    # Hardy ones (rye-grass) grow on to spring, mustard and its like freeze.
    cover *= np.clip((until - 12) / 12, 0, 1)
    lai = np.where(gap, cover, volunteers) * autumn * dampness
    dry = np.where(gap, dry * 0.7 + 0.45 * frost * (cover > 0), dry)
    flower = np.where(gap & (parcels.mix > 0.6), 0.15 * np.clip((sown - 50) / 12, 0, 1) * (frost < 0.2), 0) * autumn
    mass = np.where(gap, 0.13 * lai, 0.05 * lai)
    tilled = np.maximum(np.where(worked, np.clip(1 - (since - till) / 60, 0, 1), 0), 1.0 * second)
    return np.stack([lai, dry, flower, mass, tilled * ~(gap & (lai > 0.5))])
