"""GeoTIFF files that grow with the blocks they are made of: one row of tiles after the other, each read back."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import DTypeLike, NDArray
from rasterio._err import CPLE_BaseError  # GDAL's own errors reach us unwrapped from copies
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from malice_core.errors import OutputError
from malice_core.grid import Block, Lattice, Window
from malice_core.placing import flush
from malice_core.product import LEVEL, TILE, Load, Means, Raster, Steps, creation, padded, unwritten

#: Bytes of bands held while a row of tiles is put together.
STRIP_BYTES = 8 << 20
#: Bytes of bands taken out of a block at once.
GATHERED = 1 << 20
#: Seconds to wait before a tile is read back once more, that another thread may be about to write.
PAUSES = (0, 0.01, 0.1, *[0.5] * 20)


def memory(bands: int, width: int, area: Window) -> int:
    """Bytes that growing files take: bands as they are in scratch, gathered, written, and read back; which tiles there
    are, and where.

    Args:
        bands: of four bytes a pixel at most.
        width: of one file.
        area: of all that are open.
    """
    tiles = -(-area.height // TILE) * -(-area.width // TILE)
    return 4 * max(STRIP_BYTES, TILE * width * 4) + 17 * bands * tiles


def grow(
    raster: Raster, target: Path, blocks: Sequence[Block], area: Window, lattice: Lattice, cog: bool, means: Means
) -> Steps:
    """Writes one raster from finished blocks to ``target``, and reads it back.

    Args:
        area: what the raster covers, all of it covered by ``blocks``.
        cog: lay the file out as a cloud-optimised GeoTIFF, with overviews.
        means: what to do it with. While blocks are computed, a row is read back as soon as it is written; the rest
            afterwards, by several threads.

    Raises:
        OutputError: if the file cannot be written.
    """
    nbits = {"nbits": raster.nbits} if raster.nbits else {}
    # Of float32 compressing takes a tenth of a run's time and saves a fifth of the disk (docs/outputs.md): that is for
    # files that travel.
    compressed = raster.dtype != "float32" or bool(nbits)
    options = creation(raster.dtype, area.shape, means.threads(), compressed) | nbits
    flat = target.with_name(target.name + ".flat.tif") if cog else target
    half = 1 / (2 * len(raster.bands) * area.pixels)
    rows = _rows(area, options["blockysize"])
    # GDAL's cache keeps the tile that was written last (blocks.environment): a strip of a single one would be read from
    # there. A cloud-optimised file is another one in the end.
    at_once = not cog and (len(raster.bands) > 1 or area.width > options["blockxsize"])
    unread: list[Window] = []
    tile = options["blockxsize"]
    #: Bands, rows and columns of tiles: those that the file must have.
    wanted = np.ones((len(raster.bands), len(rows), -(-area.width // tile)), np.bool_)
    whole = False
    try:
        yield rows[0]
        with rasterio.open(
            flat,
            "w+",
            height=area.height,
            width=area.width,
            count=len(raster.bands),
            dtype=raster.dtype,
            nodata=raster.nodata,
            crs=lattice.crs,
            transform=lattice.transform(area),
            **options,
        ) as file:
            _describe(file, raster)
            for row in rows:
                if row is not rows[0]:
                    yield row
                reading = at_once and means.computing()
                for window, bands, values in _strips(raster, blocks, means.load, area, row):
                    means.check()
                    _require_space(flat.parent, len(bands) * padded((tile, area.width)) * values.itemsize)
                    if not (compressed or cog):
                        number = (row.row - area.row) // options["blockysize"]
                        wanted[bands[0] - 1 : bands[-1], number] = _not_empty(values, tile, raster.nodata)
                    file.write(values, indexes=bands, window=window)
                    means.advance(values.size * half)
                    if reading:
                        _require(_reads_back(file, bands, window, values, means.check))
                        means.advance(values.size * half)
                if reading:
                    means.passed(raster.key, row)
                else:
                    unread.append(row)
                if not cog and means.computing():
                    # What the disk takes meanwhile it need not take in the end.
                    flush(flat)
        if cog:
            means.check()
            # Overviews take a third of it, and all of that is copied.
            _require_space(flat.parent, 5 * flat.stat().st_size // 3)
            _lay_out_cog(flat, target, creation(raster.dtype, area.shape, means.threads()) | nbits, raster)
            flat.unlink()
        # GDAL writes late, also in close(), where an error (a full disk) is not raised.
        _require(_all_tiles(target, wanted))
        _require(holds(raster, target, blocks, area, means, unread))
        # The blocks it is made of are deleted soon.
        flush(target)
        whole = True
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise unwritten(raster.path, error) from error
    finally:
        if not whole:
            with contextlib.suppress(OSError):
                flat.unlink(missing_ok=True)
                target.unlink(missing_ok=True)


def holds(
    raster: Raster,
    target: Path,
    blocks: Sequence[Block],
    area: Window,
    means: Means,
    rows: Sequence[Window] | None = None,
) -> bool:
    """True if a file has the raster's numbers, bit for bit, so that nodata NaN is equal to itself.

    Args:
        means: ``advance`` is told of numbers that are read, as half of the work.
        rows: where; None: everywhere.

    Raises:
        RasterioError: if it cannot be read.
    """
    half = 1 / (2 * len(raster.bands) * area.pixels)
    with rasterio.open(target, num_threads=means.threads()) as file:
        if (file.count, file.shape) != (len(raster.bands), area.shape):
            return False
        for row in _rows(area, file.block_shapes[0][0]) if rows is None else rows:
            for window, bands, values in _strips(raster, blocks, means.load, area, row):
                means.check()
                if not same(file.read(bands, window=window), values):
                    return False
                means.advance(values.size * half)
    return True


def has_overviews(path: Path) -> bool:
    """True if a file has the overviews that a cloud-optimised one of its size has.

    Raises:
        RasterioError: if it cannot be read.
    """
    with rasterio.open(path) as file:
        return bool(file.overviews(1)) or max(file.shape) <= file.block_shapes[0][0]


def same(read: NDArray[Any], wanted: NDArray[Any]) -> bool:
    """True if two arrays are of one type and equal bit for bit."""
    bits = f"u{wanted.itemsize}"
    return read.dtype == wanted.dtype and np.array_equal(read.view(bits), wanted.view(bits))


def _reads_back(
    file: Any, bands: list[int], window: RasterWindow, values: NDArray[Any], check: Callable[[], None]
) -> bool:
    """True if an open file has what was written to it last.

    GDAL has one cache for all threads. One that reads an image may have taken the last tile out of it, and be about to
    write it to this file: until it has, what was there before is read, and what is there is asked for once more
    (GDAL, gcore/gdalrasterblock.cpp, Internalize, calls it a weakness of the cache's design).
    """
    for pause in PAUSES:
        check()
        time.sleep(pause)
        if same(file.read(bands, window=window), values):
            return True
    return False


def gather(
    key: str, dtype: DTypeLike, bands: slice, window: Window, blocks: Sequence[Block], load: Load
) -> NDArray[Any]:
    """Some bands of what the blocks hold of ``window``, (bands, height, width).

    Raises:
        OutputError: if a block holds something else than it was saved with.
    """
    values = np.empty((bands.stop - bands.start, *window.shape), dtype)
    for block in blocks:
        part = block.core.intersect(window)
        if part.pixels:
            rows, cols = part.slices_in(block.core)
            into = part.slices_in(window)
            found = load(block.index, key)
            if found.shape[1:] != block.core.shape or len(found) < bands.stop or not np.can_cast(found.dtype, dtype):
                raise OutputError(
                    f"the {key} of the finished block {block.index} are damaged: {found.dtype.name} of the shape "
                    f"{found.shape}; run without --resume to start anew"
                )
            # As many rows at once as a processor's cache has room for, twice.
            step = max(1, GATHERED // (len(values) * block.core.width * found.dtype.itemsize))
            for first in range(0, part.height, step):
                some = slice(rows.start + first, min(rows.start + first + step, rows.stop))
                at = into[0].start + first
                values[:, at : at + some.stop - some.start, into[1]] = found[bands, some, cols]
    return values


def _require(good: bool) -> None:
    """Raises:
    OSError: if what was read back was not good.
    """
    if not good:
        raise OSError("what was written cannot be read back, the disk may be full")


def _require_space(folder: Path, size: int) -> None:
    """Where a disk is full, libtiff says so on stderr, in lines of its own: it is not brought to that.

    Raises:
        OSError: if there is less than ``size`` bytes.
    """
    if shutil.disk_usage(folder).free < size:
        raise OSError("the disk is full")


def _describe(file: Any, raster: Raster) -> None:
    """Writes what is said of a raster, which is put before the first tile."""
    file.update_tags(**raster.tags)
    file.descriptions = raster.bands
    if raster.colours is not None:
        file.write_colormap(1, dict(raster.colours))
    if raster.scales is not None and raster.offsets is not None:
        file.scales, file.offsets = raster.scales, raster.offsets


def _not_empty(values: NDArray[Any], tile: int, nodata: float | None) -> NDArray[np.bool_]:
    """(bands, columns) of the tiles in a row of them, (bands, height, width): True where there is more than nodata."""
    starts = range(0, values.shape[-1], tile)
    if nodata is None:
        return np.ones((len(values), len(starts)), np.bool_)

    def empty(some: NDArray[Any]) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = np.isnan(some) if np.isnan(nodata) else some == nodata
        return found

    # Most tiles begin with a number, and are looked at no further.
    result = ~empty(values[:, 0, ::tile])
    for band, col in zip(*np.nonzero(~result), strict=True):
        result[band, col] = not empty(values[band, :, starts[col] : starts[col] + tile]).all()
    return result


def _all_tiles(path: Path, wanted: NDArray[np.bool_]) -> bool:
    """True if a file knows where its tiles are, and has something there. They are listed when it is closed.

    Args:
        wanted: (bands, rows, columns) of tiles, True for those that must be there.

    Raises:
        RasterioError: if it cannot be read.
    """
    end = path.stat().st_size
    with rasterio.open(path) as file:
        for band, tiles in enumerate(wanted, 1):
            for row, col in zip(*np.nonzero(tiles), strict=True):
                place, size = (
                    int(file.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band) or 0)
                    for what in ("OFFSET", "SIZE")
                )
                if not place or not size or place + size > end:
                    return False
    return True


def _rows(area: Window, tile: int) -> list[Window]:
    """Its rows of tiles."""
    starts = range(area.row, area.end_row, tile)
    return [Window(row, area.col, min(tile, area.end_row - row), area.width) for row in starts]


def _strips(
    raster: Raster, blocks: Sequence[Block], load: Load, area: Window, row: Window
) -> Iterator[tuple[RasterWindow, list[int], NDArray[Any]]]:
    """A row of tiles, some bands at a time: every tile of the file is compressed once."""
    group = max(1, STRIP_BYTES // (row.pixels * np.dtype(raster.dtype).itemsize))
    touched = [block for block in blocks if block.core.intersect(row).pixels]
    window = RasterWindow(0, row.row - area.row, area.width, row.height)
    for first in range(0, len(raster.bands), group):
        bands = slice(first, min(first + group, len(raster.bands)))
        values = gather(raster.key, raster.dtype, bands, row, touched, load)
        yield window, list(range(first + 1, bands.stop + 1)), values


def _lay_out_cog(source: Path, target: Path, options: Mapping[str, Any], raster: Raster) -> None:
    """Adds overviews and rewrites the file with its index and overviews first.

    The GTiff driver does it, not the COG driver, which interleaves by pixel before GDAL 3.11: a tile of
    640 float bands would be 168 MB.
    """
    # int8 codes mean nothing without their pixel's scale, and counts are whole: neither can be averaged.
    method = rasterio.enums.Resampling.nearest if raster.dtype.startswith("u") else rasterio.enums.Resampling.average
    # GDAL gives overviews a level of their own.
    with rasterio.Env(ZSTD_LEVEL_OVERVIEW=LEVEL), rasterio.open(source, "r+") as file:
        factors: list[int] = []
        size = max(file.shape)
        while size / 2 ** len(factors) > file.block_shapes[0][0]:
            factors.append(2 ** (len(factors) + 1))
        if factors:
            file.build_overviews(factors, method)
    creation = {key: value for key, value in options.items() if key != "driver"}
    rasterio.shutil.copy(source, target, driver="GTiff", copy_src_overviews=True, **creation)
