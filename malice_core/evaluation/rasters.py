"""Features and labels out of rasters on one grid, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window

from malice_core.errors import InputError
from malice_core.grid import Window as Block
from malice_core.product import scale_path

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

#: Bytes of bands that are read at once.
STRIP_BYTES = 64 << 20


@dataclass(frozen=True)
class Place:
    """The pixel grid of a raster: upper left corner and pixel size in units of its CRS, and shape (rows, columns)."""

    crs: CRS | None
    left: float
    top: float
    pixel: tuple[float, float]
    shape: tuple[int, int]

    @classmethod
    def of(cls, path: Path, crs: CRS | None, transform: Affine, shape: tuple[int, int]) -> Place:
        """The grid of the raster at ``path``.

        Raises:
            InputError: if it is rotated.
        """
        if transform.b or transform.d:
            raise InputError(f"{path} is rotated: warp it to a north-up grid first")
        return cls(crs, transform.c, transform.f, (transform.a, transform.e), (shape[0], shape[1]))

    @property
    def transform(self) -> Affine:
        """From (column, row) to coordinates."""
        return Affine(self.pixel[0], 0.0, self.left, 0.0, self.pixel[1], self.top)

    def part(self, window: Block) -> Place:
        """The grid of a window, which counts from this grid's first pixel."""
        left, top = self.left + window.col * self.pixel[0], self.top + window.row * self.pixel[1]
        return Place(self.crs, left, top, self.pixel, window.shape)

    @property
    def extent(self) -> str:
        """The grid with its size, for messages."""
        return f"{self}, {self.shape[1]} x {self.shape[0]}"

    def __str__(self) -> str:
        return f"{self.crs}, {self.left:.12g} {self.top:.12g}, pixels of {self.pixel[0]:g} x {self.pixel[1]:g}"

    def offset(self, other: Place) -> tuple[int, int] | None:
        """Rows and columns from this grid's first pixel to the other's; None where the grids do not fit."""
        if self.crs != other.crs or not np.allclose(self.pixel, other.pixel, rtol=1e-6):
            return None
        row, col = (other.top - self.top) / self.pixel[1], (other.left - self.left) / self.pixel[0]
        if max(abs(row - round(row)), abs(col - round(col))) > 0.01:
            return None
        return round(row), round(col)


def rasters(path: Path) -> list[Path]:
    """The rasters a path stands for: itself, the ``.tif`` of a folder by name, or those a ``.txt`` lists.

    Raises:
        InputError: if there are none.
    """
    if path.is_dir():
        found = sorted(path.glob("*.tif"))
    elif path.suffix == ".txt":
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the list {path}: {error}") from error
        found = [path.parent / line.strip() for line in lines if line.strip()]
    else:
        found = [path]
    if not found:
        raise InputError(f"{path} holds no rasters (.tif)")
    return found


def place_of(path: Path) -> Place:
    """The grid of a raster.

    Raises:
        InputError: if it cannot be opened, or is rotated.
    """
    with _opened(path) as file:
        return Place.of(path, file.crs, file.transform, file.shape)


def labels(path: Path, band: int, place: Place) -> npt.NDArray[np.int64]:
    """Classes of every pixel of a grid: (H, W), 0 where the raster says nothing.

    Args:
        path: raster of whole numbers, on the same pixels as ``place``, whatever part of it it covers.
        band: from 1.

    Raises:
        InputError: if it cannot be read, has no such band, lies elsewhere or on another grid.
    """
    own = place_of(path)
    offset = own.offset(place)
    if offset is None:
        raise InputError(f"{path} ({own}) is not on the pixels of the features ({place}): warp it to them, nearest")
    with _opened(path) as file:
        if not 1 <= band <= file.count:
            raise InputError(f"--band {band}: {path} has bands 1 to {file.count}")
        if not np.issubdtype(np.dtype(file.dtypes[band - 1]), np.integer):
            raise InputError(f"{path}: band {band} is {file.dtypes[band - 1]}, classes are whole numbers")
        begin = [max(0, o) for o in offset]
        end = [min(o + n, m) for o, n, m in zip(offset, place.shape, own.shape, strict=True)]
        result = np.zeros(place.shape, np.int64)
        if begin[0] >= end[0] or begin[1] >= end[1]:
            raise InputError(f"{path} ({own}) does not overlap the features ({place})")
        window = Window(begin[1], begin[0], end[1] - begin[1], end[0] - begin[0])
        content = _read(file, path, [band], window)[0].astype(np.int64)
        if file.nodatavals[band - 1] is not None:
            content[content == file.nodatavals[band - 1]] = 0
        rows, cols = (slice(b - o, e - o) for b, e, o in zip(begin, end, offset, strict=True))
        result[rows, cols] = content
    return result


def features(paths: Sequence[Path], place: Place, rows: Indices, cols: Indices) -> Floats:
    """All bands of some rasters side by side, at some pixels of a grid: (N, F), NaN where there is no data.

    Band scales and offsets apply, and for int8 embeddings the raster of scales beside them.

    Args:
        paths: rasters on exactly this grid.
        place: the grid.
        rows, cols: (N,) pixels, rows ascending.

    Raises:
        InputError: if a raster cannot be read or is on another grid.
    """
    parts = []
    for path in paths:
        other = place_of(path)
        if place.offset(other) != (0, 0) or other.shape != place.shape:
            raise InputError(
                f"{path} ({other.extent}) is not on the grid of the others ({place.extent}): compare embeddings of one "
                "area"
            )
        with _opened(path) as file:
            parts.append(_pixels(file, path, rows, cols))
            if file.dtypes[0] == "uint8" and scale_path(path).is_file():
                with _opened(scale_path(path)) as scales:
                    factor = _pixels(scales, scale_path(path), rows, cols)
                # Codes are value / scale + 128, one scale for all bands of a modality.
                parts[-1] = (parts[-1] - 128) * np.repeat(factor, file.count // scales.count, axis=1)
    return np.concatenate(parts, axis=1)


def _pixels(file: rasterio.DatasetReader, path: Path, rows: Indices, cols: Indices) -> Floats:
    """(N, bands) of one raster, read in strips of rows."""
    result = np.empty((len(rows), file.count), np.float32)
    height = max(1, STRIP_BYTES // (8 * file.count * file.width))
    scale, offset = np.array(file.scales, np.float32), np.array(file.offsets, np.float32)
    missing = [np.nan if value is None else value for value in file.nodatavals]
    for begin in range(0, file.height, height):
        first, last = np.searchsorted(rows, (begin, begin + height))
        if first == last:
            continue
        strip = _read(file, path, None, Window(0, begin, file.width, min(height, file.height - begin)))
        values = strip[:, rows[first:last] - begin, cols[first:last]].T.astype(np.float32)
        result[first:last] = np.where(values == np.array(missing, np.float32), np.nan, values * scale + offset)
    return result


def _opened(path: Path) -> rasterio.DatasetReader:
    try:
        return rasterio.open(path)
    except (RasterioError, OSError) as error:
        raise InputError(f"cannot open {path}: {error}") from error


def _read(file: rasterio.DatasetReader, path: Path, bands: list[int] | None, window: Window) -> npt.NDArray[np.generic]:
    try:
        return file.read(bands, window=window)  # type: ignore[no-any-return]
    except (RasterioError, OSError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
