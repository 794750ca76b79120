"""Spatial folds: blocks of labelled pixels, with a guard between what is trained on and what is tested on.

Neighbouring pixels look alike, so pixels drawn at random would be tested on their own neighbours. Here whole blocks are
held out, and pixels near them are not trained on. The folds depend on labels and seed only, never on features, so
scores of different features are of the same pixels and can be compared fold by fold. (Roberts et al. 2017, Ecography,
doi 10.1111/ecog.02881.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from malice_core.errors import InputError

Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]

#: Classes of fewer labelled pixels do not count: their score would be chance.
MIN_PIXELS = 60
#: Sides of blocks and width of the guard, pixels.
BLOCK, GUARD = 8, 2
#: Random assignments of blocks to folds that are tried.
TRIES = 500


@dataclass(frozen=True, eq=False)
class Folds:
    """Which pixels are tested on in which fold.

    Attributes:
        labels: (H, W) class of every pixel.
        fold: (H, W) number of the fold that tests on a pixel, -1 where the pixel does not count.
        classes: the classes that count, ascending.
        count: of folds.
        guard: pixels up to this distance (rows or columns) from a tested one are not trained on.
    """

    labels: Labels
    fold: npt.NDArray[np.int16]
    classes: tuple[int, ...]
    count: int
    guard: int

    @property
    def counted(self) -> Mask:
        """(H, W) True where a pixel is tested on in some fold."""
        return self.fold >= 0

    @property
    def ratio(self) -> float:
        """Pixels tested on for each that is trained on, mean over folds."""
        splits = [self.split(number) for number in range(self.count)]
        return float(np.mean([test.sum() / max(1, train.sum()) for train, test in splits]))

    def split(self, number: int) -> tuple[Mask, Mask]:
        """(H, W) masks of the pixels to train on and of those to test on, of one fold."""
        test = self.fold == number
        return self.counted & ~grown(test, self.guard), test


def spatial_folds(
    labels: Labels,
    count: int = 5,
    *,
    ignore: int = 0,
    block: int = BLOCK,
    guard: int = GUARD,
    min_pixels: int = MIN_PIXELS,
    seed: int = 0,
) -> Folds:
    """Deals the blocks of a labelled raster out to folds, each class as evenly as some hundred random deals allow.

    Args:
        labels: (H, W) whole numbers.
        count: of folds.
        ignore: label of pixels without a class.
        block: side of the blocks, pixels.
        guard: see :class:`Folds`.
        min_pixels: classes of this many pixels or fewer do not count.
        seed: of the random deals.

    Raises:
        InputError: if fewer than two classes count, or their pixels lie in fewer blocks than folds.
    """
    present, numbers = np.unique(labels[labels != ignore], return_counts=True)
    classes = present[numbers > min_pixels]
    if len(classes) < 2:
        found = ", ".join(f"{c}: {n}" for c, n in zip(present[:10], numbers[:10], strict=True)) or "none"
        raise InputError(
            f"{len(classes)} classes of more than {min_pixels} labelled pixels, two are needed (found {found}): is "
            "this the band with the classes?"
        )
    rows, cols = np.nonzero(np.isin(labels, classes))
    across = -(-labels.shape[1] // block)
    _, blocks = np.unique(rows // block * across + cols // block, return_inverse=True)
    # (blocks, classes) pixels
    table = np.zeros((blocks.max() + 1, len(classes)))
    np.add.at(table, (blocks, np.searchsorted(classes, labels[rows, cols])), 1)
    if not 2 <= count <= len(table):
        raise InputError(f"{count} folds of {len(table)} blocks with labels: give 2 to {len(table)} --folds")
    fold = np.full(labels.shape, -1, np.int16)
    fold[rows, cols] = deal(table / table.sum(axis=0), count, np.random.default_rng(seed))[blocks]
    return Folds(labels, fold, tuple(map(int, classes)), count, guard)


def deal(shares: npt.NDArray[np.float64], count: int, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """(blocks,) fold of each block: of random deals the one whose poorest fold has most of its poorest class."""
    hands = np.arange(len(shares), dtype=np.int16) % count
    best, chosen = (-1.0, -np.inf), hands
    for _ in range(TRIES):
        dealt = rng.permutation(hands)
        held = np.stack([np.bincount(dealt, column, count) for column in shares.T])
        # The poorest first; among equals (a class may lie in few blocks) the most even one.
        value = (float(held.min()), -float(held.std()))
        if value > best:
            best, chosen = value, dealt
    return chosen


def grown(mask: Mask, by: int) -> Mask:
    """A mask and all pixels up to ``by`` rows and columns away."""
    for axis in (0, 1):
        length = mask.shape[axis]
        at = np.arange(length)
        # How many True there are before each row or column: more at the end of a neighbourhood than at its begin?
        before = np.insert(np.cumsum(mask, axis, dtype=np.int32), 0, 0, axis)
        ends, begins = np.minimum(at + by + 1, length), np.maximum(at - by, 0)
        mask = np.take(before, ends, axis) > np.take(before, begins, axis)
    return mask
