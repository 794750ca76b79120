"""The cells weather is given for: 64 x 64 pixels, anchored in CRS coordinates, and rasters sampled at their centres.

Cell (i, j) has the pixels [64 i, 64 i + 64) x [64 j, 64 j + 64) of the lattice's global indices, so it is the same in
any area and any block. Cells are always worked on in the same squares of 16 x 16: PROJ may choose between
transformations by the points it is given together, and a cell's numbers must not depend on the window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rasterio._err import CPLE_BaseError  # GDAL's own errors reach us unwrapped from warp
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points

from malice_core.errors import InputError
from malice_core.grid import Lattice, Window
from malice_core.images.reading import Band, Grid, Pool, apply, crs_name, read_each

#: Pixels along a cell's side (the definition of MALICE Aux here), and cells along a square's.
CELL, SQUARE = 64, 16


def cells_of(window: Window) -> Window:
    """The cells that touch ``window``: a window of cell indices.

    Raises:
        ValueError: if ``window`` is empty.
    """
    if not window.pixels:
        raise ValueError(f"{window} holds no pixel")
    return Window.between(
        window.row // CELL, window.col // CELL, -(-window.end_row // CELL), -(-window.end_col // CELL)
    )


def touched(pixels: int) -> int:
    """Most cells that a line of ``pixels`` touches, wherever it begins."""
    return (pixels + CELL - 2) // CELL + 1


@dataclass(frozen=True)
class Positions:
    """Where the centres of a square of cells lie on a raster.

    Attributes:
        rows, cols: (SQUARE, SQUARE) float64, 0 at the centre of the first pixel, moved to the outermost centres
            where they lie beyond.
        covered: (SQUARE, SQUARE) bool, False where they lie so far beyond that the raster says nothing about them.
        around: the raster goes round the Earth: its first column follows its last, and no column lies beyond.
    """

    rows: np.ndarray
    cols: np.ndarray
    covered: np.ndarray
    around: bool = False


def locate(lattice: Lattice, grid: Grid, i: int, j: int) -> Positions:
    """Where the cells of square (i, j) lie on ``grid``.

    Raises:
        InputError: if coordinates cannot be brought from one CRS to the other.
    """
    half = CELL * lattice.res / 2
    rows, cols = np.arange(i * SQUARE, (i + 1) * SQUARE), np.arange(j * SQUARE, (j + 1) * SQUARE)
    x, y = np.meshgrid(lattice.x0 + 2 * half * cols + half, lattice.y0 - 2 * half * rows - half)
    if crs_name(lattice.crs) != grid.crs:
        try:
            east, north = transform_points(lattice.crs, grid.crs, x.ravel().tolist(), y.ravel().tolist())
        except (RasterioError, CPLE_BaseError) as error:
            raise InputError(
                f"weather: coordinates cannot be brought from {lattice.crs:.60} to {grid.crs:.60}: {error}; reproject "
                "the weather with gdalwarp"
            ) from error
        x, y = np.array(east).reshape(x.shape), np.array(north).reshape(y.shape)
    turn = _turn(grid)
    with np.errstate(invalid="ignore"):  # infinite outside the domain of the projection
        at_cols, at_rows = apply(~grid.transform, x, y)
        if turn:
            # Longitudes may run from -180 to 180 or from 0 to 360, and a place has both; what is beyond the raster's
            # end is put half as far as the raster's ends are apart to either side.
            spare = max(turn - grid.width, 0.0) / 2
            at_cols = (at_cols + spare) % turn - spare
    at_rows, at_cols = at_rows - 0.5, at_cols - 0.5
    covered = np.ones(x.shape, bool)
    for axis, (at, count) in enumerate(((at_rows, grid.height), (at_cols, grid.width))):
        # Half a pixel; of rasters finer than cells half a cell, for the centre of a cell on the edge of an area may
        # lie that far outside it.
        with np.errstate(invalid="ignore"):
            steps = np.abs(np.diff(at, axis=axis))
        side = float(np.median(steps[np.isfinite(steps)])) if np.isfinite(steps).any() else 0.0
        slack = 0.5 + max(0.5, side / 2)
        covered &= (at >= -slack - 1e-9) & (at <= count - 1 + slack + 1e-9)  # False where infinite
    at_rows = np.clip(np.where(covered, at_rows, 0), 0, grid.height - 1)
    around = bool(turn) and abs(turn - grid.width) < 0.01
    at_cols = np.where(covered, at_cols, 0)
    return Positions(at_rows, at_cols if around else np.clip(at_cols, 0, grid.width - 1), covered, around)


def _turn(grid: Grid) -> float:
    """Columns that make 360 degrees; 0 for a raster that is not in degrees, or rotated."""
    if grid.transform.b or grid.transform.d or not CRS.from_user_input(grid.crs).is_geographic:
        return 0.0
    return float(360 / abs(grid.transform.a))


def sample(pool: Pool, grid: Grid, bands: Sequence[Band], positions: Positions) -> np.ndarray:
    """``bands`` at ``positions``, bilinear between the centres of pixels; missing neighbours are left out, and the
    others' weights scaled up.

    Returns:
        (bands, SQUARE, SQUARE) float64; NaN where not covered or no neighbour holds a value.

    Raises:
        StackError: if the file cannot be read.
    """
    out = np.full((len(bands), *positions.rows.shape), np.nan)
    inside = positions.covered
    if not inside.any():
        return out
    rows, cols = positions.rows[inside], positions.cols[inside]
    # The last pixel's centre belongs to the pair before it, so that no neighbour lies outside.
    first_row = np.minimum(np.floor(rows), max(grid.height - 2, 0)).astype(np.int64)
    start_col = np.floor(cols) if positions.around else np.minimum(np.floor(cols), max(grid.width - 2, 0))
    first_col = start_col.astype(np.int64) % grid.width
    last_row = np.minimum(first_row + 1, grid.height - 1)
    last_col = (first_col + 1) % grid.width if positions.around else np.minimum(first_col + 1, grid.width - 1)
    window = Window.between(
        int(first_row.min()),
        int(min(first_col.min(), last_col.min())),
        int(last_row.max()) + 1,
        int(max(first_col.max(), last_col.max())) + 1,
    )
    values, seen = read_each(pool, bands, grid, window)
    down, right = rows - first_row, cols - start_col
    total, mean = np.zeros((len(bands), rows.size)), np.zeros((len(bands), rows.size))
    reference = np.full(total.shape, np.nan)
    corners = (
        (first_row, first_col, (1 - down) * (1 - right)),
        (first_row, last_col, (1 - down) * right),
        (last_row, first_col, down * (1 - right)),
        (last_row, last_col, down * right),
    )
    for row, col, weight in corners:
        at = slice(None), row - window.row, col - window.col
        value, weight = values[at].astype(np.float64), weight * seen[at]
        # Differences from one neighbour, so that a constant field comes out constant to the last bit.
        reference = np.where(np.isnan(reference) & (weight > 0), value, reference)
        total += weight
        mean += np.where(weight > 0, weight * (value - reference), 0.0)
    with np.errstate(invalid="ignore"):
        out[:, inside] = np.where(total > 0, reference + mean / total, np.nan)
    return out


def squares_of(cells: Window) -> list[tuple[int, int]]:
    """(i, j) of the squares that ``cells`` touch, row by row."""
    down = range(cells.row // SQUARE, math.ceil(cells.end_row / SQUARE))
    right = range(cells.col // SQUARE, math.ceil(cells.end_col / SQUARE))
    return [(i, j) for i in down for j in right]


def square_window(i: int, j: int) -> Window:
    """The cells of square (i, j)."""
    return Window(i * SQUARE, j * SQUARE, SQUARE, SQUARE)
