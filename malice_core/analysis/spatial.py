"""Spatial folds of labelled places: what is tested on lies elsewhere than what is trained on.

The plane is cut into squares that are anchored in the CRS' coordinates. A place belongs, whole, to the square its
middle lies in, and squares are dealt out to folds, each label as evenly as some hundred random deals allow. Pixels
drawn at random would be tested on their own neighbours, which look alike, and score far too well (Roberts et al. 2017,
Ecography, doi 10.1111/ecog.02881; Ploton et al. 2020, Nature Communications, doi 10.1038/s41467-020-18321-y).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from malice_core.errors import InputError
from malice_core.evaluation.folds import deal
from malice_core.evaluation.rasters import Place

#: Squares a fold that a side which is not given leaves at least, and sides of fewer pixels are not tried.
SQUARES, LEAST = 4, 5
#: Pixels that the network sees around one (``grid.py``: the halo of blocks).
REACH = 48
#: A degree of latitude in metres, for grids in degrees.
DEGREE = 111_320.0
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """Which places are tested on in which fold.

    Attributes:
        fold: (places,) number of the fold that tests a place.
        count: of folds.
        metres: side of the squares.
        reach: metres that the network sees around a pixel.
        side: the same in units of the CRS.
        squares: (squares, 2) number of each along x and y.
        square_fold: (squares,) the fold of each.
    """

    fold: Indices
    count: int
    metres: float
    reach: float
    side: float
    squares: Indices
    square_fold: Indices


def unit(crs: CRS | None) -> float:
    """Metres of a unit of a CRS."""
    if crs is None:
        return 1.0
    if crs.is_geographic:
        return DEGREE
    return float(crs.linear_units_factor[1])


def make(
    centres: NDArray[np.float64],
    labels: Indices,
    grid: Place,
    count: int,
    metres: float | None,
    seed: int,
) -> Folds:
    """Deals places out to folds.

    Args:
        centres: (places, 2) x and y.
        labels: (places,) of each, or -1 of one without a pixel; it has no part in this.
        grid: of the raster.
        count: of folds.
        metres: side of the squares; None: as wide as leaves :data:`SQUARES` squares a fold, and every label in so many
            squares as there are folds if it can.
        seed: of the deal.

    Raises:
        InputError: if there are fewer squares than folds.
    """
    there = np.flatnonzero(labels >= 0)
    factor = unit(grid.crs)
    pixel = abs(grid.pixel[0]) * factor
    least = LEAST * pixel
    if metres is None:
        metres = _chosen(centres[there], labels[there], count, least, factor)
    squares, square_of = np.unique(_squares(centres[there], metres / factor), axis=0, return_inverse=True)
    square_of = square_of.reshape(-1)
    if len(squares) < count:
        more = "" if metres <= least else ", or a smaller --fold-size"
        raise InputError(
            f"labels lie in {len(squares)} squares of {metres:g} m, fewer than --folds {count}: give fewer --folds"
            f"{more}, label more places, or --folds 0 for no test"
        )
    table = np.zeros((len(squares), int(labels.max()) + 1))
    np.add.at(table, (square_of, labels[there]), 1)
    table = table[:, table.any(axis=0)]
    square_fold = deal(table / table.sum(axis=0), count, np.random.default_rng(seed)).astype(np.int64)
    fold = np.full(len(labels), -1, np.int64)
    fold[there] = square_fold[square_of]
    return Folds(fold, count, metres, REACH * pixel, metres / factor, squares, square_fold)


def _squares(centres: NDArray[np.float64], side: float) -> Indices:
    return np.floor(centres / side).astype(np.int64)


def _chosen(centres: NDArray[np.float64], labels: Indices, count: int, least: float, factor: float) -> float:
    """The widest of 1, 2, 5, 10 … metres that leaves enough squares, of each label too; the narrowest if none does."""
    extent = float(np.ptp(centres, axis=0).max()) * factor
    tried = [float(digit * 10**power) for power in range(7) for digit in (1, 2, 5)]
    sides = [side for side in tried if least <= side <= max(extent, least)] or [least]
    narrow = _spread(centres, labels, sides[0] / factor)
    wanted = {label: min(number, count) for label, number in narrow.items()}
    for side in reversed(sides):
        if len(np.unique(_squares(centres, side / factor), axis=0)) < SQUARES * count:
            continue
        found = _spread(centres, labels, side / factor)
        if all(found[label] >= number for label, number in wanted.items()):
            return side
    return sides[0]


def _spread(centres: NDArray[np.float64], labels: Indices, side: float) -> dict[int, int]:
    """Squares that places of each label lie in."""
    pairs = np.unique(np.column_stack([labels, _squares(centres, side)]), axis=0)
    found, numbers = np.unique(pairs[:, 0], return_counts=True)
    return dict(zip(found.tolist(), numbers.tolist(), strict=True))
