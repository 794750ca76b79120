"""Which labelled pixels train, validate and test: by location, each class as evenly as can be.

Labels of a raster are dealt out by blocks of pixels, polygons whole: those of a class that touch stay together, and so
do all whose middle lies in one block. The last fold tests, the one before validates, the others train, but for a guard
around the two. The split depends on labels and seed only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malice_core.errors import InputError
from malice_core.evaluation.folds import deal as dealt
from malice_core.evaluation.folds import grown
from malice_core.training.finetuning.labels import IGNORED, Labelled, strips
from malice_core.training.finetuning.places import TEST, TRAIN, VAL
from malice_core.weights import HALO

#: Guards that are tried where none is given, widest first: beyond the first one the network sees nothing.
GUARDS = (HALO, 24, 12, 6, 3)
#: The guard where even the smallest of these takes too much.
LEAST = 2
#: Share of the pixels of training, and of validation, that a guard must leave.
KEPT = 0.5


@dataclass(frozen=True)
class Split:
    """The parts of labelled pixels.

    Attributes:
        parts: (H, W) ``TRAIN``, ``VAL``, ``TEST``, -1 for pixels of none.
        guard: pixels around what validates and tests that are not trained on.
    """

    parts: NDArray[np.int8]
    guard: int


def deal(
    found: Labelled, names: Mapping[int, str], *, folds: int, block: int, guard: int | None = None, seed: int = 0
) -> Split:
    """Splits labelled pixels.

    Args:
        found: labels.
        names: by label, for messages.
        folds: how many; 3 or more.
        block: side of the blocks, pixels.
        guard: pixels; None: the widest of :data:`GUARDS` that leaves half of the pixels and every class.
        seed: of the random deals that are compared.

    Raises:
        InputError: if there is one class only, or labels lie in fewer blocks than folds.
    """
    if len(found.values) < 2:
        one = names.get(found.values[0], f"{found.values[0]}")
        raise InputError(f"data.labels: the only class where there are images is {one}, two are needed")
    across = -(-found.window.width // block)
    lookup, table = _blocks(found, block, across) if found.pieces is None else _pieces(found, block, across)
    if folds > len(table):
        what = "blocks" if found.pieces is None else "groups of polygons"
        raise InputError(
            f"data.folds={folds}: there are {len(table)} {what} with labels: give fewer folds, a smaller data.block "
            f"(now {block}), or label more places"
        )
    hands = dealt(table / table.sum(axis=0), folds, np.random.default_rng(seed))
    fold_of = np.where(lookup < 0, -1, hands[lookup]).astype(np.int16)
    # Pixels of training and of validation by class, without a guard.
    held = [hands < folds - 2, hands == folds - 2]
    most = np.stack([table[part].sum(axis=0) for part in held])
    for width in GUARDS if guard is None else ():
        parts = _parts(found, fold_of, folds, block, width)
        left = np.stack([_pixels(found, parts, part) for part in (TRAIN, VAL)])
        if (left.sum(axis=1) >= KEPT * most.sum(axis=1)).all() and ((left > 0) == (most > 0)).all():
            return Split(parts, width)
    width = LEAST if guard is None else guard
    return Split(_parts(found, fold_of, folds, block, width), width)


def _blocks(found: Labelled, block: int, across: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of every block, -1 of those without labels; and (blocks, classes) the pixels of the others."""
    classes, rows = len(found.values), []
    for row in range(0, found.window.height, block):
        index = found.index[row : row + block]
        _, cols = np.nonzero(index != IGNORED)
        keys = cols // block * classes + index[index != IGNORED]
        rows.append(np.bincount(keys, minlength=across * classes).reshape(across, classes))
    table = np.concatenate(rows)
    labelled = table.any(axis=1)
    return np.where(labelled, np.cumsum(labelled) - 1, -1), table[labelled]


def _pieces(found: Labelled, block: int, across: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As :func:`_blocks`, of polygons by the block in which their middle lies; the last number is of none."""
    assert found.pieces is not None
    count = int(found.pieces.max()) + 1
    # Pixels, and sums of their rows and columns; every piece is of one class.
    sums, place = np.zeros((3, count)), np.zeros(count, np.int64)
    for strip in strips(found.window.shape):
        pieces, index = found.pieces[strip], found.index[strip]
        rows, cols = np.nonzero(index != IGNORED)
        here = pieces[rows, cols]
        place[here] = index[rows, cols]
        for number, values in enumerate((None, rows + strip.start, cols)):
            sums[number] += np.bincount(here, values, count)
    there = np.flatnonzero(sums[0])
    middle = (sums[1:, there] / sums[0, there] // block).astype(np.int64)
    blocks, group = np.unique(middle[0] * across + middle[1], return_inverse=True)
    lookup = np.full(count + 1, -1, np.int64)
    lookup[there] = group
    table = np.zeros((len(blocks), len(found.values)), np.int64)
    np.add.at(table, (group, place[there]), sums[0, there].astype(np.int64))
    return lookup, table


def _parts(found: Labelled, fold_of: NDArray[np.int16], folds: int, block: int, guard: int) -> NDArray[np.int8]:
    """(H, W) part of every pixel, strip by strip; ``fold_of`` blocks or pieces."""
    height, width = found.window.shape
    across = -(-width // block)
    parts = np.full((height, width), -1, np.int8)
    for strip in strips((height, width), max(1, 2 * guard)):
        begin, end = max(0, strip.start - guard), min(height, strip.stop + guard)
        if found.pieces is None:
            rows = np.arange(begin, end)[:, None] // block
            fold = fold_of[rows * across + np.arange(width) // block]
        else:
            fold = fold_of[found.pieces[begin:end]]
        fold[found.index[begin:end] == IGNORED] = -1
        test, val = fold == folds - 1, fold == folds - 2
        inside = slice(strip.start - begin, strip.stop - begin)
        # What validates stays away from what tests, too.
        away = ~grown(test, guard)[inside]
        part = parts[strip]
        part[(fold[inside] >= 0) & away & ~grown(val, guard)[inside]] = TRAIN
        part[val[inside] & away] = VAL
        part[test[inside]] = TEST
    return parts


def _pixels(found: Labelled, parts: NDArray[np.int8], part: int) -> NDArray[np.int64]:
    """(classes,) pixels of a part."""
    counts = np.zeros(len(found.values), np.int64)
    for strip in strips(found.window.shape):
        counts += np.bincount(found.index[strip][parts[strip] == part], minlength=len(counts))
    return counts
