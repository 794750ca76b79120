"""Cubic interpolation of a mosaic, point by point: what a point gets does not depend on the points read with it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from malice_core.grid import Window
from malice_core.images.reading import Mosaic, Pool
from malice_core.images.resample import TIE

Double = NDArray[np.float64]
Bool = NDArray[np.bool_]


def cubic(mosaic: Mosaic, pool: Pool, rows: Double, cols: Double) -> tuple[Double, Bool, Bool]:
    """The mosaic's band at fractional pixel positions (0, 0 is the corner of its first pixel).

    Cubic convolution (Keys, doi 10.1109/TASSP.1981.1163711, a = -1/2) of the 4 x 4 pixels around; bilinear, with the
    weights of missing pixels given to the others, where one of them is missing. A point is observed if the pixel it
    lies in is. Computed in float64: rounded to float32, flat ground stays exactly flat.

    Returns:
        (H, W) each: values, 0 where not observed; observed; and covered: inside the mosaic.
    """
    values, observed = np.zeros(rows.shape), np.zeros(rows.shape, bool)
    whole = mosaic.extent
    # Written so that NaN and infinity (outside the projection's domain) count as outside.
    inside = (rows >= whole.row - TIE) & (rows < whole.end_row) & (cols >= whole.col - TIE) & (cols < whole.end_col)
    if not inside.any():
        return values, observed, inside
    r, c = rows[inside], cols[inside]
    source = Window.between(
        math.floor(r.min()) - 2, math.floor(c.min()) - 2, math.floor(r.max()) + 4, math.floor(c.max()) + 4
    )
    planes, seen = mosaic.read(pool, source)
    data, known = planes[0].astype(np.float64).ravel(), seen.ravel()

    def index(row: NDArray[np.int64], col: NDArray[np.int64]) -> NDArray[np.int64]:
        flat: NDArray[np.int64] = (row - source.row) * source.width + col - source.col
        return flat

    own = known[index(np.floor(r + TIE).astype(np.int64), np.floor(c + TIE).astype(np.int64))]
    row, col = np.floor(r - 0.5).astype(np.int64), np.floor(c - 0.5).astype(np.int64)
    down, right = r - 0.5 - row, c - 0.5 - col
    sums, complete = np.zeros(r.size), np.ones(r.size, bool)
    for i, vertical in enumerate(_keys(down), -1):
        for j, horizontal in enumerate(_keys(right), -1):
            at = index(row + i, col + j)
            sums += vertical * horizontal * data[at]
            complete &= known[at]
    broken = own & ~complete
    if broken.any():
        row, col, down, right = row[broken], col[broken], down[broken], right[broken]
        mixed, weights = np.zeros(row.size), np.zeros(row.size)
        for i, vertical in enumerate((1 - down, down)):
            for j, horizontal in enumerate((1 - right, right)):
                at = index(row + i, col + j)
                weight = vertical * horizontal * known[at]
                mixed += weight * data[at]
                weights += weight
        sums[broken] = mixed / weights  # the pixel it lies in is there, and has a quarter of the weight or more
    values[inside] = np.where(own, sums, 0.0)
    observed[inside] = own
    return values, observed, inside


def _keys(t: Double) -> tuple[Double, Double, Double, Double]:
    """Weights of the pixels at -1, 0, 1, 2 for a point at ``t``, 0 … 1."""
    return (
        ((-0.5 * t + 1.0) * t - 0.5) * t,
        (1.5 * t - 2.5) * t * t + 1.0,
        ((-1.5 * t + 2.0) * t + 0.5) * t,
        (0.5 * t - 0.5) * t * t,
    )
