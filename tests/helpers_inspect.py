"""A small series with clouds, and the report on it in this process."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from helpers_embed import Recorder, write_series
from helpers_stack import backscatter, write, write_s1

from malice_core import embed, inspect
from malice_core.cancelling import Cancel
from malice_core.inspection import survey

SHAPE = (40, 48)
FIRST = date(2018, 1, 5)
DAYS = [FIRST + timedelta(days=10 * i) for i in range(9)]


def squares(count: int) -> np.ndarray:
    """Scene classes (count, 20, 24) at 20 m: a cloud that grows date by date, and a corner that is not classified."""
    found = np.full((count, SHAPE[0] // 2, SHAPE[1] // 2), 4, np.uint8)
    for i in range(count):
        found[i, : 2 * i + 1, : 3 * i] = 9
        found[i, -2:, -2:] = 0
    return found


def write_stack_with_clouds(folder: Path) -> Path:
    """``S2`` (9 dates) with ``SCL`` of the first 8, whose clouds grow, and ``S1`` (6 dates of two orbits)."""
    write_series(folder / "S2", SHAPE, 9, missing=0.1)
    for day, plane in zip(DAYS, squares(8), strict=False):
        write(folder / "SCL" / f"SCL_{day:%Y%m%d}.tif", plane[None], names=("SCL",), res=20)
    for i, day in enumerate(DAYS[:6]):
        tags = {"RELATIVE_ORBIT": str((59, 88)[i % 2])}
        write_s1(folder / "S1" / f"S1_{day + timedelta(days=3):%Y%m%d}.tif", backscatter(*SHAPE, i), tags=tags)
    return folder


def looked(*arguments: object, exact: bool = False) -> survey.Survey:
    """The survey of a command line."""
    options = inspect.parser().parse_args([*map(str, arguments), "--output", "/nowhere/e.tif"])
    return survey.make(embed.job_of(options), exact, Recorder(), Cancel())


def run(*arguments: object) -> dict[str, Any]:
    """The json of a command line, in this process; without a trial."""
    recorder = Recorder()
    options = inspect.parser().parse_args([*map(str, arguments), "--no-trial"])
    inspect._start(options, recorder, Cancel())
    return recorder.plans[-1] if recorder.plans else {}
