"""Reading windows of rasters: open handles, one image's bands on one grid, and mosaics of images.

Pixels are counted from the upper left corner of a grid here, rows downwards; ``resample.py`` brings them to
the lattice of a run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.windows import Window as RasterWindow

from malice_core.errors import StackError
from malice_core.grid import Window
from malice_core.images.opening import beside, open_raster


@lru_cache(maxsize=256)
def crs_name(wkt: str) -> str:
    """``EPSG:n`` where the CRS has a code, else its well-known text: one spelling for equal CRSs.

    Raises:
        StackError: if ``wkt`` is no CRS.
    """
    try:
        crs = CRS.from_user_input(wkt)
        code = crs.to_epsg()
    except CRSError as error:
        raise StackError(f"'{wkt:.60}' is no coordinate reference system: {error}") from error
    return f"EPSG:{code}" if code else str(crs.to_wkt())


def apply(transform: Affine, x: Any, y: Any) -> tuple[Any, Any]:
    """``transform`` of points, numbers or arrays (the operator for it differs between versions of affine)."""
    return (
        transform.a * x + transform.b * y + transform.c,
        transform.d * x + transform.e * y + transform.f,
    )


@dataclass(frozen=True)
class Grid:
    """The pixels of one raster, north up unless the raster is rotated.

    Attributes:
        crs: as :func:`crs_name` writes it.
        transform: pixel (column, row) to CRS coordinates.
        height, width: pixels.
    """

    crs: str
    transform: Affine
    height: int
    width: int

    @property
    def res(self) -> float:
        """Width of a pixel in units of the CRS."""
        return float(np.hypot(self.transform.a, self.transform.d))

    def shift(self, other: Grid) -> tuple[int, int] | None:
        """(rows, columns) of ``other``'s first pixel counted from this one's, None if the pixels do not match."""
        mine, theirs = self.transform, other.transform
        scale = max(abs(mine.a), abs(mine.b))
        parts = ((mine.a, theirs.a), (mine.b, theirs.b), (mine.d, theirs.d), (mine.e, theirs.e))
        # A pixel size that differs by 1e-6 moves the far corner of a 10 980 pixel tile by a hundredth of a pixel.
        if self.crs != other.crs or any(abs(a - b) > 1e-6 * scale for a, b in parts):
            return None
        col, row = apply(~mine, theirs.c, theirs.f)
        if abs(col - round(col)) > 0.02 or abs(row - round(row)) > 0.02:
            return None
        return round(row), round(col)

    def bounds(self) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in the CRS."""
        return self.bounds_of(Window(0, 0, self.height, self.width))

    def bounds_of(self, window: Window) -> tuple[float, float, float, float]:
        """(left, bottom, right, top) in the CRS of a window counted from this grid's corner."""
        xs, ys = apply(
            self.transform,
            np.array([window.col, window.end_col] * 2, float),
            np.repeat(np.array([window.row, window.end_row], float), 2),
        )
        return float(xs.min()), float(ys.min()), float(xs.max()), float(ys.max())


@dataclass(frozen=True)
class Band:
    """One band of one image: where its numbers are and what they mean.

    Attributes:
        position: index in ``Sensor.bands``.
        path: what rasterio opens.
        index: band of that raster, from 1.
        fills: stored values that mean "missing here" in whatever band they occur (nodata other than 0).
        zero: 0 means missing, where all bands of the layer are 0 (in one band it can be a dark pixel).
        mask: the raster carries a mask of its own, which is obeyed.
        gain, bias: value in the sensor's unit = stored * gain + bias.
        flip: the rows of the raster run from south to north.
    """

    position: int
    path: str
    index: int
    fills: tuple[float, ...] = ()
    zero: bool = True
    mask: bool = False
    gain: float = 1.0
    bias: float = 0.0
    flip: bool = False


@dataclass(frozen=True)
class Layer:
    """The bands of one image that share one grid, ordered by position."""

    grid: Grid
    bands: tuple[Band, ...]

    @property
    def positions(self) -> tuple[int, ...]:
        return tuple(band.position for band in self.bands)


class Pool:
    """Open rasters, at most ``limit`` per thread, the least recently used closed first.

    GDAL's handles must not be shared between threads; each thread gets its own.
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: list[OrderedDict[str, rasterio.DatasetReader]] = []

    def __reduce__(self) -> tuple[type[Pool], tuple[int]]:
        # In another process rasters are opened anew.
        return Pool, (self.limit,)

    def open(self, path: str) -> rasterio.DatasetReader:
        """This thread's handle of ``path``.

        Raises:
            StackError: if it cannot be opened.
        """
        handles: OrderedDict[str, rasterio.DatasetReader] | None = getattr(self._local, "handles", None)
        if handles is None:
            handles = self._local.handles = OrderedDict()
            with self._lock:
                self._all.append(handles)
        if path in handles:
            handles.move_to_end(path)
            return handles[path]
        handles[path] = open_raster(path)
        while len(handles) > self.limit:
            handles.popitem(last=False)[1].close()
        return handles[path]

    def close(self) -> None:
        """Closes all handles; to be called when no thread reads any more."""
        with self._lock:
            for handles in self._all:
                while handles:
                    handles.popitem()[1].close()


#: Rows of an overview, or of a raster, that are read at once where few of them are taken: those of a tile.
STRIP_ROWS = 512


def read_layer(pool: Pool, layer: Layer, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of ``window`` (inside the layer's grid, counted from its corner).

    Returns:
        values float32 (bands of the layer, H, W) in the sensor's unit, 0 where not observed, and observed
        bool (H, W).

    Raises:
        StackError: if the file cannot be read (a truncated file opens, and fails here).
    """
    values = np.empty((len(layer.bands), *window.shape), np.float32)
    observed = np.ones(window.shape, bool)
    all_zero = np.ones(window.shape, bool)
    masked: set[str] = set()
    for begin, end in _runs(layer.bands):
        bands = layer.bands[begin:end]
        stored = _read_bands(pool, bands, layer.grid, window)
        for at, (band, plane) in enumerate(zip(bands, stored, strict=True), begin):
            dark = decode(band, plane, values[at], observed)
            all_zero &= dark if band.zero else False
            if band.mask and band.path not in masked:
                masked.add(band.path)
                observed &= _read(pool, band, [band.index], layer.grid, window, masks=True)[0] != 0
    observed &= ~all_zero
    values[:, ~observed] = 0.0
    return values, observed


def read_each(pool: Pool, bands: Sequence[Band], grid: Grid, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`read_layer` of each band by itself, but bands of one raster are read together.

    Returns:
        values float32 and observed bool, both (bands, H, W).

    Raises:
        StackError: as of :func:`read_layer`.
    """
    values = np.empty((len(bands), *window.shape), np.float32)
    observed = np.ones(values.shape, bool)
    for begin, end in _runs(bands):
        stored = _read_bands(pool, bands[begin:end], grid, window)
        for at, (band, plane) in enumerate(zip(bands[begin:end], stored, strict=True), begin):
            dark = decode(band, plane, values[at], observed[at])
            if band.zero:
                observed[at] &= ~dark
            if band.mask:
                observed[at] &= _read(pool, band, [band.index], grid, window, masks=True)[0] != 0
    values[~observed] = 0.0
    return values, observed


def read_coarse(pool: Pool, band: Band, grid: Grid, window: Window, step: int) -> tuple[np.ndarray, np.ndarray, int]:
    """About every ``step``-th pixel of a window in rows and columns, from the raster's overviews where it has them.

    Args:
        band: of a layer with the grid ``grid``.
        window: inside the grid, counted from its corner.

    Returns:
        values float32 and observed bool, both (h, w): those of one band, so that a 0 where other bands have values
        counts as missing too; and how many pixels lie between two of them, at most ``step``.

    Raises:
        StackError: as of :func:`read_layer`.
    """
    # Asked for fewer pixels than a raster or an overview has, GDAL decodes a tile once for each row it takes of it.
    factor = max((one for one in pool.open(band.path).overviews(band.index) if one <= step), default=1)
    every = step // factor
    values, observed = [], []
    rows = factor * every * max(1, STRIP_ROWS // every)
    for row in range(window.row, window.end_row, rows):
        strip = Window(row, window.col, min(rows, window.end_row - row), window.width)
        shape = -(-strip.height // factor), -(-strip.width // factor)
        plane = _read(pool, band, [band.index], grid, strip, shape=shape)[0, ::every, ::every]
        values.append(np.empty(plane.shape, np.float32))
        observed.append(np.ones(plane.shape, bool))
        dark = decode(band, plane, values[-1], observed[-1])
        if band.zero:
            observed[-1] &= ~dark
        if band.mask:
            there = _read(pool, band, [band.index], grid, strip, masks=True, shape=shape)[0, ::every, ::every]
            observed[-1] &= there != 0
    return np.concatenate(values), np.concatenate(observed), factor * every


def decode(band: Band, plane: np.ndarray, values: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Puts the values of stored numbers (H, W) into ``values``, and False into ``observed`` where they are no values.

    Args:
        band: what the numbers mean.
        plane: as stored.
        values, observed: (H, W), float32 and bool.

    Returns:
        (H, W) where 0 is stored.
    """
    for fill in band.fills:
        observed &= plane != np.float64(fill).astype(plane.dtype)
    if plane.dtype.kind == "f":
        observed &= np.isfinite(plane)
    dark: np.ndarray = plane == 0
    if band.gain == 1.0:
        # Float32 holds every 16 bit number: what was stored comes out unchanged.
        values[...] = plane
    else:
        values[...] = plane * band.gain
    if band.bias:
        # A zero among other values is a band without data there, and stays 0.
        values += np.where(dark, 0.0, band.bias) if band.zero else band.bias
    return dark


def _runs(bands: Sequence[Band]) -> list[tuple[int, int]]:
    """Cuts bands into runs that one read of one raster delivers."""
    cuts = [0, *(i for i in range(1, len(bands)) if bands[i].path != bands[i - 1].path), len(bands)]
    return list(pairwise(cuts))


def _read_bands(pool: Pool, bands: Sequence[Band], grid: Grid, window: Window) -> np.ndarray:
    return _read(pool, bands[0], [band.index for band in bands], grid, window)


def _read(
    pool: Pool,
    band: Band,
    indexes: list[int],
    grid: Grid,
    window: Window,
    masks: bool = False,
    shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Stored numbers (or the mask) of ``indexes``, (bands, H, W), rows from north to south; of ``shape`` if given: then
    the nearest pixels."""
    row = grid.height - window.end_row if band.flip else window.row
    part = RasterWindow(window.col, row, window.width, window.height)
    dataset = pool.open(band.path)
    # A VRT opens its sources when it is read; a mask beside a raster is opened on first use.
    late = masks or dataset.driver == "VRT"
    try:
        with beside(band.path) if late else nullcontext():
            read = dataset.read_masks if masks else dataset.read
            data: np.ndarray = read(indexes, window=part, out_shape=shape and (len(indexes), *shape))
    except RasterioError as error:
        cause = error.__cause__ or error
        raise StackError(
            f"cannot read {band.path}: {cause}; the file is damaged or incomplete: copy it again"
        ) from error
    return data[:, ::-1] if band.flip else data


@dataclass(frozen=True)
class Mosaic:
    """Layers with the same bands whose pixels match, in order of priority.

    Attributes:
        layers: each with the (row, column) of its first pixel, counted from the first layer's.
    """

    layers: tuple[tuple[Layer, int, int], ...]

    @property
    def grid(self) -> Grid:
        return self.layers[0][0].grid

    @property
    def positions(self) -> tuple[int, ...]:
        return self.layers[0][0].positions

    @property
    def extent(self) -> Window:
        """All pixels of all layers, counted from the first layer's corner."""
        whole: Window | None = None
        for layer, row, col in self.layers:
            window = Window(row, col, layer.grid.height, layer.grid.width)
            whole = window if whole is None else whole.union(window)
        assert whole is not None
        return whole

    def read(self, pool: Pool, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """As :func:`read_layer`, for any window: a pixel is the first layer's that observed it.

        Outside all layers pixels are not observed.
        """
        values: np.ndarray | None = None
        observed = np.zeros(window.shape, bool)
        for layer, row, col in self.layers:
            part = window.intersect(Window(row, col, layer.grid.height, layer.grid.width))
            if not part.pixels or observed[part.slices_in(window)].all():
                continue
            data, seen = read_layer(pool, layer, Window(part.row - row, part.col - col, *part.shape))
            if values is None and part == window:
                values, observed = data, seen
                continue
            if values is None:
                values = np.zeros((len(self.positions), *window.shape), np.float32)
            rows, cols = part.slices_in(window)
            take = seen & ~observed[rows, cols]
            np.copyto(values[:, rows, cols], data, where=take)
            observed[rows, cols] |= seen
        if values is None:
            values = np.zeros((len(self.positions), *window.shape), np.float32)
        return values, observed
