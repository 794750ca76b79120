"""From a mosaic's own pixels to the lattice of a run.

Resampling is done here and not by GDAL's warper because results must not depend on the window read: every
step below looks at one pixel of the lattice at a time, so any window gives the same bits. And a mosaic is put
together *before* it is resampled, so that seams between files do not show.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_points
from rasterio.warp import transform_bounds

from malice_core.errors import StackError
from malice_core.grid import Lattice, Window
from malice_core.images.reading import Grid, Mosaic, Pool, apply, crs_name

#: Coordinates are transformed exactly at every NODE-th corner of the lattice (counted from its origin) and
#: interpolated between. Over 160 m a map projection bends by less than 1e-4 of a pixel.
NODE = 16

#: Pixels resampled at a time: what a reading thread needs besides its result stays below about 30 MB.
STRIP = 1 << 17

#: A pixel centre this close (in pixels) to the border of two source pixels belongs to the later one.
TIE = 1e-6


@dataclass(frozen=True)
class Placement:
    """A mosaic on a lattice.

    Attributes:
        mosaic: what is read.
        lattice: the run's grid.
        nearest: take the pixel under the centre (classes) instead of interpolating.
        offset: (row, column) on the lattice of the mosaic's first pixel if the pixels match, else None.
        extent: the lattice's pixels the mosaic covers (when warped: its bounding box).
    """

    mosaic: Mosaic
    lattice: Lattice
    nearest: bool
    offset: tuple[int, int] | None
    extent: Window

    @classmethod
    def of(cls, mosaic: Mosaic, lattice: Lattice, nearest: bool) -> Placement:
        """Finds out whether ``mosaic`` lies on ``lattice``.

        Raises:
            StackError: if its coordinates cannot be brought to the lattice's CRS.
        """
        grid, crs = mosaic.grid, crs_name(lattice.crs)
        if grid.crs == crs and lattice.holds(grid.transform):
            row = round((lattice.y0 - grid.transform.f) / lattice.res)
            col = round((grid.transform.c - lattice.x0) / lattice.res)
            whole = mosaic.extent
            return cls(mosaic, lattice, nearest, (row, col), Window(row + whole.row, col + whole.col, *whole.shape))
        whole = mosaic.extent
        bounds = grid.bounds_of(whole)
        if grid.crs != crs:
            try:
                bounds = transform_bounds(grid.crs, crs, *bounds, densify_pts=101)
            except RasterioError as error:
                raise StackError(
                    f"{mosaic.layers[0][0].bands[0].path}: its coordinates cannot be brought to {lattice.crs}: {error}"
                ) from error
        left, bottom, right, top = bounds
        if not (np.isfinite(bounds).all() and left < right and bottom < top):
            raise StackError(
                f"{mosaic.layers[0][0].bands[0].path}: lies outside the area where {crs} can be used; leave it out"
            )
        return cls(mosaic, lattice, nearest, None, lattice.window(*bounds))

    def read(self, pool: Pool, coordinates: Coordinates, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values float32 (bands, H, W), 0 where not observed, and observed bool (H, W) of ``window``."""
        if self.offset is not None:
            row, col = self.offset
            return self.mosaic.read(pool, Window(window.row - row, window.col - col, *window.shape))
        values = np.zeros((len(self.mosaic.positions), *window.shape), np.float32)
        observed = np.zeros(window.shape, bool)
        part = window.intersect(self.extent)
        if not part.pixels:
            return values, observed
        height = max(1, STRIP // part.width)
        for row in range(part.row, part.end_row, height):
            strip = Window(row, part.col, min(height, part.end_row - row), part.width)
            rows, cols = strip.slices_in(window)
            values[:, rows, cols], observed[rows, cols] = self._strip(pool, coordinates, strip)
        return values, observed

    def _strip(self, pool: Pool, coordinates: Coordinates, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`read`, resampled, at once."""
        # Coarser pixels than the source's: the mean of samples spread over the pixel, so that all of it counts.
        steps = 1 if self.nearest else max(1, round(coordinates.ratio(self.lattice, self.mosaic.grid)))
        if steps == 1:
            rows, cols = coordinates.of(self.lattice, window, self.mosaic.grid, 0.5, 0.5)
            return _sample(self.mosaic, pool, rows, cols, self.nearest)
        total = np.zeros((len(self.mosaic.positions), *window.shape), np.float64)
        count = np.zeros(window.shape, np.int32)
        for i in range(steps * steps):
            down, right = (i // steps + 0.5) / steps, (i % steps + 0.5) / steps
            rows, cols = coordinates.of(self.lattice, window, self.mosaic.grid, down, right)
            values, observed = _sample(self.mosaic, pool, rows, cols, nearest=False)
            total += values
            count += observed
        seen = 2 * count >= steps * steps
        mean = (total / np.maximum(count, 1)).astype(np.float32)
        mean[:, ~seen] = 0.0
        return mean, seen


def _sample(
    mosaic: Mosaic, pool: Pool, rows: np.ndarray, cols: np.ndarray, nearest: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The mosaic at fractional pixel positions (0, 0 is the corner of its first pixel), float64 (H, W).

    Bilinear between pixel centres; missing neighbours are left out and the others' weights scaled up. A
    point is observed if the source pixel it lies in is.
    """
    shape = rows.shape
    values = np.zeros((len(mosaic.positions), *shape), np.float32)
    whole = mosaic.extent
    # Written so that NaN and infinity (outside the projection's domain) count as outside.
    inside = (rows >= whole.row - TIE) & (rows < whole.end_row) & (cols >= whole.col - TIE) & (cols < whole.end_col)
    if not inside.any():
        return values, inside
    r, c = rows[inside] + TIE, cols[inside] + TIE
    source = Window.between(
        int(np.floor(r.min())) - 1, int(np.floor(c.min())) - 1, int(np.floor(r.max())) + 2, int(np.floor(c.max())) + 2
    )
    data, seen = mosaic.read(pool, source)
    data, seen = data.reshape(len(data), -1), seen.reshape(-1)
    at = (np.floor(r).astype(np.int64) - source.row) * source.width + np.floor(c).astype(np.int64) - source.col
    observed = np.zeros(shape, bool)
    observed[inside] = seen[at]
    if nearest:
        values[:, inside] = np.where(seen[at], data[:, at], 0.0)
        return values, observed
    r, c = rows[inside] - 0.5, cols[inside] - 0.5
    row, col = np.floor(r), np.floor(c)
    down, right = (r - row).astype(np.float32), (c - col).astype(np.float32)
    first = (row.astype(np.int64) - source.row) * source.width + col.astype(np.int64) - source.col
    corners = [
        (first, (1 - down) * (1 - right)),
        (first + 1, (1 - down) * right),
        (first + source.width, down * (1 - right)),
        (first + source.width + 1, down * right),
    ]
    corners = [(index, weight * seen[index]) for index, weight in corners]
    total = sum((weight for _, weight in corners), np.zeros(r.size, np.float32))
    keep = seen[at] & (total > 0)
    scale = keep / np.where(keep, total, np.float32(1))
    for band, plane in enumerate(data):  # band by band: a tenth of the memory
        mixed = np.zeros(r.size, np.float32)
        for index, weight in corners:
            mixed += weight * plane[index]
        values[band, inside] = mixed * scale
    observed[inside] = keep
    return values, observed


class Coordinates:
    """Where the pixels of a lattice lie on other grids. Thread-safe; the last few answers are kept,
    because all dates of a block ask the same."""

    def __init__(self, limit: int = 64 << 20) -> None:
        self.limit = limit  # bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._ratios: dict[object, float] = {}

    def __reduce__(self) -> tuple[type[Coordinates], tuple[int]]:
        # What is kept is found again in another process.
        return Coordinates, (self.limit,)

    def of(
        self, lattice: Lattice, window: Window, grid: Grid, down: float, right: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns on ``grid``, float64 (H, W), of the points (``down``, ``right``) inside the pixels
        of ``window``; infinite outside the domain of the projection."""
        key = (lattice, window, grid.crs, grid.transform, down, right)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        answer = _locate(lattice, window, grid, down, right)
        with self._lock:
            self._kept[key] = answer
            while len(self._kept) > 1 and sum(2 * rows.nbytes for rows, _ in self._kept.values()) > self.limit:
                self._kept.popitem(last=False)
        return answer

    def ratio(self, lattice: Lattice, grid: Grid) -> float:
        """Length of a lattice pixel in pixels of ``grid``, at the grid's centre."""
        key = (lattice, grid)
        if key not in self._ratios:
            x, y = apply(grid.transform, grid.width / 2, grid.height / 2)
            xs, ys = _transform(grid.crs, lattice.crs, np.array([x]), np.array([y]))
            xs, ys = np.array([xs[0], xs[0] + lattice.res]), np.array([ys[0], ys[0]])
            xs, ys = _transform(lattice.crs, grid.crs, xs, ys)
            cols, rows = apply(~grid.transform, xs, ys)
            length = float(np.hypot(cols[1] - cols[0], rows[1] - rows[0]))
            self._ratios[key] = length if np.isfinite(length) else 1.0
        return self._ratios[key]


def _transform(from_crs: str, to_crs: str, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if crs_name(from_crs) == crs_name(to_crs):
        return xs, ys
    east, north = transform_points(from_crs, to_crs, xs.ravel().tolist(), ys.ravel().tolist())
    return np.array(east).reshape(xs.shape), np.array(north).reshape(ys.shape)


def _nodes(lattice: Lattice, crs: str, rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in ``crs`` of the nodes in these (consecutive) rows and columns of nodes.

    PROJ may choose between transformations by the points it is given together. They are always given in the
    same squares of nodes, so that a node's coordinates do not depend on the window.
    """
    down = range(rows[0] // NODE, rows[-1] // NODE + 1)
    right = range(cols[0] // NODE, cols[-1] // NODE + 1)
    tiles = [[_node_square(lattice, crs, i, j) for j in right] for i in down]
    part = np.ix_(rows - down[0] * NODE, cols - right[0] * NODE)
    x, y = (np.block([[tile[axis] for tile in line] for line in tiles])[part] for axis in (0, 1))
    return x, y


@lru_cache(maxsize=4096)
def _node_square(lattice: Lattice, crs: str, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in ``crs`` of NODE x NODE nodes."""
    rows, cols = (np.arange(i * NODE, (i + 1) * NODE) * NODE, np.arange(j * NODE, (j + 1) * NODE) * NODE)
    x, y = np.meshgrid(lattice.x0 + cols * lattice.res, lattice.y0 - rows * lattice.res)
    return _transform(lattice.crs, crs, x, y)


def _locate(lattice: Lattice, window: Window, grid: Grid, down: float, right: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns on ``grid``; see :meth:`Coordinates.of`."""
    rows = np.arange(window.row, window.end_row) + down
    cols = np.arange(window.col, window.end_col) + right
    inverse = ~grid.transform
    if grid.crs == crs_name(lattice.crs):
        x, y = np.meshgrid(lattice.x0 + cols * lattice.res, lattice.y0 - rows * lattice.res)
        at_cols, at_rows = apply(inverse, x, y)
        return at_rows, at_cols
    whole = window.snap(NODE)
    node_rows = np.arange(whole.row, whole.end_row + 1, NODE)
    node_cols = np.arange(whole.col, whole.end_col + 1, NODE)
    node_at_cols, node_at_rows = apply(inverse, *_nodes(lattice, grid.crs, node_rows // NODE, node_cols // NODE))
    i, j = (rows // NODE).astype(int), (cols // NODE).astype(int)
    v, u = (rows / NODE - i)[:, None], (cols / NODE - j)[None, :]
    i, j = i - whole.row // NODE, j - whole.col // NODE

    def between(nodes: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # inf - inf outside the projection's domain
            top = nodes[i][:, j] * (1 - u) + nodes[i][:, j + 1] * u
            bottom = nodes[i + 1][:, j] * (1 - u) + nodes[i + 1][:, j + 1] * u
            mixed: np.ndarray = top * (1 - v) + bottom * v
        return mixed

    return between(node_at_rows), between(node_at_cols)
