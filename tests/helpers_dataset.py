"""Small stacks and the datasets made of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from helpers_stack import LEFT, TOP, backscatter, reflectance, write, write_s1

from malice_core import cli, dataset
from malice_core.cancelling import Cancel
from malice_core.patches.store import Dataset

S2_DAYS, S1_DAYS = 6, 5
FIRST = date(2023, 3, 1)


def write_stack(folder: Path, height: int = 48, width: int = 64, seed: int = 0, shift: int = 0) -> Path:
    """Six dates of Sentinel-2, four of them classified, five of Sentinel-1; ``shift`` pixels to the right and down.

    On the second date the left half is missing, on the third everything is; a corner of Sentinel-1 is.
    """
    place = {"left": LEFT + 10.0 * shift, "top": TOP - 10.0 * shift}
    rng = np.random.default_rng(seed)
    for i in range(S2_DAYS):
        day = FIRST + timedelta(days=10 * i)
        values = reflectance(height, width, seed=100 * seed + i)
        if i in (1, 2):
            values[:, :, : width // 2 if i == 1 else width] = 0
        write(folder / "S2" / f"S2_{day:%Y%m%d}.tif", values, **place)
        if i < 4:
            classes = rng.choice([4, 4, 5, 8, 9, 3], (1, height, width)).astype(np.uint8)
            write(folder / "SCL" / f"SCL_{day:%Y%m%d}.tif", classes, names=("SCL",), **place)
    for i in range(S1_DAYS):
        power = backscatter(height, width, seed=100 * seed + 50 + i)
        power[:, :5, :7] = np.nan
        day = FIRST + timedelta(days=12 * i + 3)
        write_s1(folder / "S1" / f"S1_{day:%Y%m%d}.tif", power, tags={"RELATIVE_ORBIT": "59"}, **place)
    return folder


def options(stack: Path, output: Path, *more: object) -> list[str]:
    """Arguments of ``dataset build`` for a stack of ``write_stack``."""
    images = [text for name in ("s2", "s1", "scl") for text in (f"--{name}", f"{stack / name.upper()}")]
    return ["build", *images, "--output", f"{output}", *map(str, more)]


def run(arguments: Sequence[str]) -> int:
    """The command line in this process, without its signal handlers."""
    return cli.run_command(dataset.parser(Cancel()), arguments)


def built(stack: Path, output: Path, *more: object) -> Dataset:
    """A dataset of a stack, patches of 16 pixels."""
    assert run(options(stack, output, "--patch", 16, *more)) == 0
    return Dataset(output)


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
