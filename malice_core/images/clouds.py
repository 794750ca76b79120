"""Cloud shares and cloud masks of Sentinel-2 dates, from the scene classification (SCL).

The share is decided once per run over the whole area, so the dates that are kept are part of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from malice_core.errors import InputError, StackError
from malice_core.grid import Window
from malice_core.images.observations import Observation
from malice_core.stack import CloudMask, Stack, matching, shortened

#: Pixels read at a time when shares are counted.
STRIP = 1 << 22


def checked(classes: Sequence[int], option: str = "--cloud-classes") -> tuple[int, ...]:
    """The scene classes in order, each once.

    Raises:
        InputError: if there is none, or one that sen2cor has not; names ``option``.
    """
    wrong = [value for value in classes if not 1 <= value <= 11]
    if wrong or not classes:
        raise InputError(f"{option} {','.join(map(str, classes))}: wanted are scene classes 1 to 11, such as 3,8,9,10")
    return tuple(sorted(set(classes)))


#: Of a classification, the observation of an index, an area and classes: (cloudy, classified) pixels.
Count = Callable[["Stack", int, Window, tuple[int, ...]], tuple[int, int]]


def count(scl: Stack, index: int, area: Window, classes: tuple[int, ...]) -> tuple[int, int]:
    """(cloudy, classified) pixels of one observation in ``area``, read in strips."""
    part = area.intersect(scl.observations[index].extent)
    if not part.pixels:
        return 0, 0
    cloudy = seen = 0
    height = max(1, STRIP // part.width)
    for row in range(part.row, part.end_row, height):
        strip = Window(row, part.col, min(height, part.end_row - row), part.width)
        values, observed = scl.read(index, strip)
        cloudy += int(np.isin(values[0].astype(np.int16), classes).sum(where=observed))
        seen += int(observed.sum())
    return cloudy, seen


def _share(scl: Stack, observation: Observation, counts: Sequence[tuple[int, int]]) -> float | None:
    """Cloud share of one Sentinel-2 observation from the counts of the SCL observations that match it."""
    indices = matching(scl, observation)
    seen = sum(counts[i][1] for i in indices)
    return 100.0 * sum(counts[i][0] for i in indices) / seen if seen else None


def with_clouds(
    s2: Stack, scl: Stack, area: Window, *, max_cloud: float | None, classes: Sequence[int], mask: bool
) -> Stack:
    """``s2`` with the cloud share of every date, without dates above ``max_cloud``, and masked if asked.

    Args:
        s2, scl, area, classes: as of :func:`with_shares`.
        max_cloud: percent; None keeps all dates.
        mask: pixels of these classes become missing observations.

    Raises:
        InputError, StackError: as of :func:`with_shares` and :func:`clear_enough`.
    """
    stack = with_shares(s2, scl, area, classes)
    if max_cloud is not None:
        stack = clear_enough(stack, max_cloud, classes)
    if not mask:
        return stack
    wanted = checked(classes)
    note = f"{s2.sensor.title}: pixels of the scene classes {','.join(map(str, wanted))} are missing observations"
    return replace(stack, notes=[*stack.notes, note], clouds=CloudMask(scl, wanted))


def with_shares(s2: Stack, scl: Stack, area: Window, classes: Sequence[int], counted: Count = count) -> Stack:
    """``s2`` with the cloud share of every date.

    A date without classification in the area keeps its place, with a warning: nothing says it is cloudy.

    Args:
        s2: on the run's lattice.
        scl: scene classification on the same lattice.
        area: the run's area, global pixels.
        classes: SCL classes taken as cloud.
        counted: how pixels are counted.

    Raises:
        InputError: if a class is not within 1 … 11.
        StackError: if no date is classified.
    """
    wanted = checked(classes)
    if s2.lattice != scl.lattice:
        raise ValueError(f"the classification is on {scl.lattice}, the images on {s2.lattice}")
    needed = {i for observation in s2.observations for i in matching(scl, observation)}
    counts = [counted(scl, i, area, wanted) if i in needed else (0, 0) for i in range(len(scl.observations))]
    observations = [replace(o, cloud_percent=_share(scl, o, counts)) for o in s2.observations]
    unknown = [observation.title for observation in observations if observation.cloud_percent is None]
    notes, warnings = list(s2.notes), list(s2.warnings)
    notes += [note for note in scl.notes if note not in notes]
    warnings += [warning for warning in scl.warnings if warning not in warnings]
    title = s2.sensor.title
    if len(unknown) == len(observations):
        raise StackError(
            f"--scl: no date of {title} ({observations[0].date} to {observations[-1].date}) is classified in the area; "
            f"the classification has {scl.observations[0].date} to {scl.observations[-1].date}"
        )
    if unknown:
        warnings.append(
            f"{title}: no scene classification in the area on {shortened(unknown)}: kept, without cloud share or mask"
        )
    return replace(s2, observations=tuple(observations), notes=notes, warnings=warnings)


def clear_enough(s2: Stack, max_cloud: float, classes: Sequence[int]) -> Stack:
    """``s2``, whose cloud shares are known, without the dates above ``max_cloud`` percent.

    Raises:
        InputError: if ``max_cloud`` is not within 0 … 100.
        StackError: if no date is clear enough.
    """
    if not 0 <= max_cloud <= 100:
        raise InputError(f"--max-cloud {max_cloud:g} is not between 0 and 100 percent")
    title, shown = s2.sensor.title, ",".join(map(str, checked(classes)))
    cloudy = [o for o in s2.observations if o.cloud_percent is not None and o.cloud_percent > max_cloud]
    clear = [o for o in s2.observations if o.cloud_percent is None or o.cloud_percent <= max_cloud]
    if not clear:
        best = min(cloudy, key=lambda o: o.cloud_percent or 0.0)
        raise StackError(
            f"{title}: all {len(cloudy)} dates are cloudier than --max-cloud {max_cloud:g} (the clearest, "
            f"{best.title}, {best.cloud_percent:.1f} %); allow more"
        )
    dropped = ", ".join(f"{o.title} ({o.cloud_percent:.0f} %)" for o in cloudy) or "none"
    note = (
        f"{title}: {len(cloudy)} of {len(s2.observations)} dates left out, cloudier than {max_cloud:g} % of the "
        f"area (classes {shown}): {dropped}"
    )
    return replace(s2, observations=tuple(clear), notes=[*s2.notes, note])
