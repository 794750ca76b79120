"""Finished blocks as tests want them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from malice_core.scratch import Blocks, folder_of
from malice_core.spool import Spool


def put(numbers: Spool, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Puts arrays (bands, height, width), in pieces, the last one first."""
    for key, array in arrays.items():
        flat = array.reshape(len(array), -1)
        piece = min(256, flat.shape[1])
        for start in reversed(range(0, flat.shape[1], piece)):
            numbers.put(key, 0, start, flat[:, start : start + piece])


def begun(scratch: Blocks, block: int, arrays: Mapping[str, npt.NDArray[Any]]) -> Spool:
    """A block with all its numbers, not finished yet."""
    kinds = {key: (len(array), array.dtype) for key, array in arrays.items()}
    first = next(iter(arrays.values()))
    numbers = scratch.begin(block, (first.shape[1], first.shape[2]), kinds)
    put(numbers, arrays)
    return numbers


def save(scratch: Blocks, block: int, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Finishes a block of arrays (bands, height, width)."""
    begun(scratch, block, arrays).finish()


def finished(output: Path) -> list[Path]:
    """The files of finished blocks beside an output."""
    return sorted(folder_of(output).glob("block_*.block"))


def indices(output: Path) -> set[int]:
    """Which blocks are finished."""
    return {int(path.name[6:12]) for path in finished(output)}
