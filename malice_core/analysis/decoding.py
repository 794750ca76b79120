"""Numbers of an embedding on disk, decoded: a scale and offset a band of int16, a scale a pixel and sensor of int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from malice_core import cube
from malice_core.errors import InputError
from malice_core.grid import Window

#: (features, pixels) numbers, NaN where a sensor has no data; and (pixels,) True where all have.
Decoded = tuple[NDArray[np.float32], NDArray[np.bool_]]


class Stored(Protocol):
    """An open file or store; read by one thread at a time."""

    def read(self, window: Window) -> Decoded:
        """Pixels of a window, row by row.

        Raises:
            InputError: if the file is damaged or gone.
        """


def opened(path: Path, threads: int = 1) -> rasterio.DatasetReader:
    """A raster; ``threads`` unpack its tiles.

    Raises:
        InputError: if it cannot be opened.
    """
    try:
        return rasterio.open(path, num_threads=threads)
    except (RasterioError, OSError) as error:
        raise InputError(f"cannot open {path}: {error}") from error


def group(path: Path) -> Any:
    """A Zarr store.

    Raises:
        InputError: if it cannot be opened, or zarr is not there.
    """
    cube.require(f"to read {path}, a Zarr store,")
    import zarr

    if not path.exists():
        raise InputError(f"{path} is not there: give an embedding that malice_core.embed wrote")
    try:
        return zarr.open_group(path, mode="r")
    except Exception as error:  # zarr raises many kinds
        raise InputError(f"cannot open {path}: {error}") from error


class Raster:
    """What GDAL reads.

    Args:
        path: for messages.
        dtype: as of ``--dtype``.
        file: the embedding.
        scales: of int8.
    """

    def __init__(
        self, path: Path, dtype: str, file: rasterio.DatasetReader, scales: rasterio.DatasetReader | None
    ) -> None:
        self._path, self._dtype, self._file, self._scales = path, dtype, file, scales
        self._steps = np.array([file.scales, file.offsets], np.float32)[:, :, None]

    def read(self, window: Window) -> Decoded:
        inside = RasterWindow(window.col, window.row, window.width, window.height)
        try:
            codes = self._file.read(window=inside)
            scales = None if self._scales is None else self._scales.read(window=inside)
        except (RasterioError, OSError) as error:
            raise _damaged(self._path, error) from error
        return _decoded(codes, self._dtype, self._steps, scales)


class Store:
    """A Zarr store; arguments as of :class:`Raster`."""

    def __init__(self, path: Path, dtype: str) -> None:
        self._path, self._dtype, arrays = path, dtype, group(path)
        self._codes = arrays["embedding"]
        self._scales = arrays["scales"] if dtype == "int8" else None
        self._steps = np.empty((2, 0, 1), np.float32)
        if dtype == "int16":
            self._steps = np.array([arrays["scale"][...], arrays["offset"][...]], np.float32)[:, :, None]

    def read(self, window: Window) -> Decoded:
        rows, cols = slice(window.row, window.end_row), slice(window.col, window.end_col)
        try:
            codes = np.asarray(self._codes[:, rows, cols])
            scales = None if self._scales is None else np.asarray(self._scales[:, rows, cols])
        except Exception as error:  # zarr raises many kinds for a shard that is damaged
            raise _damaged(self._path, error) from error
        return _decoded(codes, self._dtype, self._steps, scales)


def _damaged(path: Path, error: object) -> InputError:
    return InputError(f"cannot read {path}: {error}; it may be damaged")


def _decoded(codes: NDArray[Any], dtype: str, steps: NDArray[np.float32], scales: NDArray[Any] | None) -> Decoded:
    """Numbers of codes (bands, rows, columns).

    Args:
        dtype: as of ``--dtype``.
        steps: (2, bands, 1) scale and offset, of int16.
        scales: (sensors, rows, columns), of int8.
    """
    codes = codes.reshape(len(codes), -1)
    if dtype == "int16":
        there = (codes != -32768).all(axis=0)
        values = codes.astype(np.float32)
        values *= steps[0]
        values += steps[1]
    elif scales is not None:
        factors = scales.reshape(len(scales), -1).astype(np.float32)
        there = (codes != 0).all(axis=0) & np.isfinite(factors).all(axis=0)
        values = codes.astype(np.float32)
        values -= 128
        step = len(codes) // len(factors)
        for index, factor in enumerate(factors):
            values[index * step : (index + 1) * step] *= factor
    else:
        values = codes.astype(np.float32, copy=False)
        there = np.isfinite(values).all(axis=0)
    if not there.all():
        values[:, ~there] = np.nan
    return values, there
