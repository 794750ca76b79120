"""Whether the eight variables of weather belong together: a range of values cannot tell kPa from hPa on one day, or
the highest temperature from the lowest, but their neighbours can."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import numpy as np

from malice_core.errors import InputError
from malice_core.surroundings.agera5 import KEYS, VARIABLES, saturation

#: Degrees by which daily statistics may disagree: they are rounded, and interpolated.
_SLACK = 1.0
#: A day's vapour pressure, over that of its dew point, may differ from the series' by this factor; units differ by 10.
_FACTOR = 4.0
#: Below, in hPa (dew points of -20 °C), vapour pressures are rounded too coarsely to be compared.
_LEAST = 1.2
#: A series of so many days without a day of so much rain (mm) is a desert's, or in metres.
_DRY_DAYS, _DRY = 60, 0.2


def doubts(days: Mapping[date, np.ndarray]) -> list[str]:
    """What cannot be, one line each.

    Args:
        days: the eight variables of each day in the network's units, medians over the area, (8,).

    Raises:
        InputError: if the vapour pressure of some days is in another unit than that of the others.
    """
    order, values = list(days), np.array([days[day] for day in days], np.float64)
    dew, rain, low, mean, high, vapour = (
        values[:, KEYS.index(key)] / factor
        for key, factor in (
            *(("dew_temp", 100), ("prec", 100), ("temp_min", 100), ("temp_mean", 100), ("temp_max", 100)),
            ("vap_press", 1000),
        )
    )
    expected = saturation(dew)
    damp = expected > _LEAST
    if damp.any():
        ratio = np.log(np.maximum(vapour[damp], 1e-3) / expected[damp])
        odd = np.abs(ratio - np.median(ratio)) > np.log(_FACTOR)
        if odd.any():
            at = int(np.flatnonzero(damp)[np.argmax(odd)])
            raise InputError(
                f"weather: the vapour pressure of {order[at]} is {vapour[at]:.3g} hPa, but {expected[at]:.3g} hPa "
                f"belong to its dew point, and so it is on {odd.sum()} of {len(order)} days: is it in another unit "
                "there? give all days in one unit"
            )
    found = []
    titles = {variable.key: variable.title for variable in VARIABLES}
    for above, below, wrong in (
        ("temp_mean", "temp_max", mean > high + _SLACK),
        ("temp_min", "temp_mean", low > mean + _SLACK),
        ("dew_temp", "temp_max", dew > high + _SLACK),
    ):
        if 2 * wrong.sum() > len(order):  # what is exchanged is so on all days
            found.append(
                f"weather: {titles[above]} is above {titles[below]} on {wrong.sum()} of {len(order)} days, such as "
                f"{order[int(np.argmax(wrong))]}: are names exchanged?"
            )
    if len(order) >= _DRY_DAYS and rain.max() < _DRY:
        found.append(
            f"weather: precipitation is at most {rain.max():.2g} mm on all of {len(order)} days; if this is no desert, "
            "it is in metres: convert it to mm"
        )
    return found
