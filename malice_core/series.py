"""What the images of one sensor were by date and choice: a classifier keeps it of training, prediction compares.

Dates are settled for each area anew: ``--max-cloud`` takes cloud shares of the area, so equal options can give other
dates. A classifier that knows ten dates of a year may be wrong with two of them, and nothing in the raster would tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from malice_core.job import Job
    from malice_core.stack import Stack

#: Numbers of dates, and spans, that differ by no more than this factor are alike.
ALIKE = 4 / 3
#: Spans that differ by no more days are alike; series of at least ``YEAR`` days have no season.
DAYS, SEASON, YEAR = 30, 45, 300


@dataclass(frozen=True)
class Series:
    """Images of one sensor.

    Attributes:
        least, most: dates of a place; equal but where every place has its own.
        first, last: date.
        orbits: relative orbits as far as they are known, ascending.
        masked: scene classes whose pixels were missing; empty for none.
        dates: all of them; empty where every place has its own.
        options: which the user gave, for people: texts, numbers and None.
    """

    least: int
    most: int
    first: date
    last: date
    orbits: tuple[int, ...] = ()
    masked: tuple[int, ...] = ()
    dates: tuple[date, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stack: Stack, job: Job) -> Series:
        """That of the images a job reads."""
        dates = tuple(one.date for one in stack.observations)
        names = ("max_cloud", "max_dates", "s2_offset") if stack.sensor.key == "s2" else ("max_dates", "s1_orbit")
        return cls(
            least=len(dates),
            most=len(dates),
            first=min(dates),
            last=max(dates),
            orbits=tuple(sorted({one.orbit for one in stack.observations if one.orbit is not None})),
            masked=tuple(stack.clouds.classes) if stack.clouds is not None else (),
            dates=dates,
            options={name: getattr(job, name) for name in names} | {"dates": _without_folder(job.dates)},
        )

    @property
    def span(self) -> int:
        """Days from the first date to the last."""
        return (self.last - self.first).days

    def plain(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "least": self.least,
            "most": self.most,
            "first": f"{self.first}",
            "last": f"{self.last}",
            "orbits": list(self.orbits),
            "masked": list(self.masked),
            "dates": [f"{day}" for day in self.dates],
            "options": dict(self.options),
        }

    @classmethod
    def read(cls, given: Any) -> Series:
        """Of plain values.

        Raises:
            ValueError: saying what is wrong.
        """
        if not isinstance(given, dict):
            raise ValueError(f"{given!r:.60} is no table")
        try:
            numbers = {name: given[name] for name in ("least", "most")}
            lists = {name: given[name] for name in ("orbits", "masked")}
            whole = [*numbers.values(), *(one for values in lists.values() for one in values)]
            if not all(type(one) is int and one >= 0 for one in whole) or not isinstance(given["options"], dict):
                raise ValueError(f"{given!r:.60} holds a number that is none")
            return cls(
                **numbers,
                first=date.fromisoformat(given["first"]),
                last=date.fromisoformat(given["last"]),
                orbits=tuple(lists["orbits"]),
                masked=tuple(lists["masked"]),
                dates=tuple(date.fromisoformat(one) for one in given["dates"]),
                options=dict(given["options"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{given!r:.60} lacks a field, or holds another type ({error!r:.40})") from error

    def unlike(self, trained: Series) -> list[str]:
        """What differs notably from the images of training, in some words each."""
        found = []
        if self.most * ALIKE < trained.least or self.least > trained.most * ALIKE:
            several = f"{trained.least}" if trained.least == trained.most else f"{trained.least} to {trained.most}"
            found.append(f"{self.most} date{'s' * (self.most > 1)} for {several}")
        short, long = sorted((self.span, trained.span))
        if long - short > DAYS and long > short * ALIKE:
            found.append(f"{self.span} days from first to last for {trained.span}")
        elif long < YEAR and _apart(self.first, trained.first) > SEASON:
            found.append(f"{self.first:%m-%d} to {self.last:%m-%d} for {trained.first:%m-%d} to {trained.last:%m-%d}")
        if self.orbits and trained.orbits and not set(self.orbits) <= set(trained.orbits):
            found.append(f"orbit {_listed(self.orbits)} for {_listed(trained.orbits)}")
        if self.masked != trained.masked:
            here, there = (f"scene classes {_listed(m)}" if m else "none" for m in (self.masked, trained.masked))
            found.append(f"{here} masked for {there}")
        return found


def compared(given: Mapping[str, Series], trained: Mapping[str, Series]) -> str | None:
    """One line about images that are notably unlike those of training; None if they are alike, or nothing is known.

    Args:
        given, trained: by sensor.
    """
    told = []
    for sensor, one in given.items():
        if sensor in trained and (unlike := one.unlike(trained[sensor])):
            told.append(f"{sensor.upper()} {', '.join(unlike)}")
    if not told:
        return None
    return (
        f"the images are unlike those of training ({'; '.join(told)}), classes may be wrong: choose dates, orbit and "
        "cloud mask as in training; classifier.json lists them"
    )


def _without_folder(dates: str | None) -> str | None:
    """``@FILE`` without its folder: a classifier is shared, and where a list lay is nobody's business."""
    return f"@{Path(dates[1:]).name}" if dates is not None and dates.startswith("@") else dates


def _apart(one: date, other: date) -> int:
    """Days between two days of whatever years."""
    days = abs(one.timetuple().tm_yday - other.timetuple().tm_yday)
    return min(days, 365 - days)


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
