"""Where a series has nothing to offer: the longest time without a usable observation, and months without any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from malice_core.bands import SENSORS
from malice_core.inspection.rows import Row
from malice_core.inspection.survey import Survey

#: Days after which a gap is told as a warning: a crop grows and is cut in less.
LONG = 60


@dataclass(frozen=True)
class Gaps:
    """Of one sensor.

    Attributes:
        longest: (day before it, day after it) between two usable observations; None with fewer than two.
        empty: months of the period without a usable observation, as ``2018-03``.
    """

    longest: tuple[date, date] | None
    empty: tuple[str, ...]

    @property
    def days(self) -> int:
        return 0 if self.longest is None else (self.longest[1] - self.longest[0]).days


def months(first: date, last: date) -> Iterator[tuple[int, int]]:
    """(year, month) from the month of one day to that of another."""
    for number in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
        yield number // 12, number % 12 + 1


def find(rows: Sequence[Row], period: tuple[date, date]) -> Gaps:
    """Args:
    rows: of one sensor, by date.
    period: first and last day.
    """
    used = sorted({row.date for row in rows if row.used})
    longest = max(pairwise(used), key=lambda pair: pair[1] - pair[0], default=None)
    seen = {(day.year, day.month) for day in used}
    return Gaps(longest, tuple(f"{year}-{month:02d}" for year, month in months(*period) if (year, month) not in seen))


def of(survey: Survey) -> dict[str, Gaps]:
    """By sensor."""
    return {sensor: find(survey.of(sensor), survey.period) for sensor in survey.sensors}


def warnings(found: dict[str, Gaps]) -> list[str]:
    """One line for each sensor with a long gap."""
    return [
        f"{SENSORS[sensor].title}: no usable observation between {gaps.longest[0]} and {gaps.longest[1]} ({gaps.days} "
        "days): what happened there is not seen"
        for sensor, gaps in found.items()
        if gaps.longest is not None and gaps.days > LONG
    ]
