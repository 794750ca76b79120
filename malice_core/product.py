"""The output: which bands, in which number type, with which tags; and GeoTIFF files of it, written row by row.

Number types (``--dtype``):

========  ==============================================================================  ==========
float32   the embedding                                                                   nodata NaN
float16   rounded to half precision (``NBITS=16``; GDAL and QGIS read it as float32)      nodata NaN
int16     band scale and offset, from bounds the values cannot leave (model card)         -32768
int8      unsigned bytes, value = (code - 128) · scale, one scale per pixel and modality
          in ``NAME_scale.tif`` (GDAL before 3.7 misreads signed bytes)                   0
========  ==============================================================================  ==========

Other formats hold the same numbers: ``mosaic.py`` (VRT), ``cube.py`` (Zarr, where float16 is itself).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import DTypeLike, NDArray
from rasterio._err import CPLE_BaseError  # GDAL's own errors reach us unwrapped from copies
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from malice_core.cards import Card
from malice_core.errors import OutputError
from malice_core.grid import Block, Lattice, Window
from malice_core.runtime import Backend

#: Loads an array of a finished block: (block index, key) → (bands, height, width) of its core.
Load = Callable[[int, str], NDArray[Any]]

#: Measured, docs/outputs.md: all bands of a pixel are read three times as fast as with tiles of 256, the rest is alike.
TILE = 128
#: Of zstd. Measured: the default, 9, takes four times as long for one percent of size.
LEVEL = 1
#: Bytes of bands held while a row of tiles is put together.
STRIP_BYTES = 32 << 20


@dataclass(frozen=True)
class Layout:
    """Bands and number type of an output of embeddings.

    Attributes:
        sensors: modalities in the order of their bands.
        queries: queries kept, in order.
        dtype: one of ``job.DTYPES``.
        low, high: (bands,) bounds of the values.
    """

    sensors: tuple[str, ...]
    queries: tuple[int, ...]
    width: int
    dtype: str
    low: tuple[float, ...] = field(repr=False)
    high: tuple[float, ...] = field(repr=False)

    @classmethod
    def of(cls, card: Card, sensors: Sequence[str], queries: Sequence[int], dtype: str) -> Layout:
        bounds = [card.modalities[sensor] for sensor in sensors]
        low = tuple(value for m in bounds for _ in queries for value in m.low)
        high = tuple(value for m in bounds for _ in queries for value in m.high)
        return cls(tuple(sensors), tuple(queries), card.width, dtype, low, high)

    @property
    def bands(self) -> int:
        return len(self.low)

    @property
    def names(self) -> list[str]:
        """Band descriptions."""
        return band_names(self.sensors, self.queries, self.width)

    @property
    def storage(self) -> np.dtype[Any]:
        """Type of the numbers in scratch and file (float16 is float32 with NBITS=16 for GDAL)."""
        return np.dtype("uint8" if self.dtype == "int8" else self.dtype)

    @property
    def nodata(self) -> float:
        return {"float32": np.nan, "float16": np.nan, "int16": -32768, "int8": 0}[self.dtype]

    @property
    def steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scale and offset of each band of an int16 output: value = code · scale + offset."""
        low, high = np.asarray(self.low), np.asarray(self.high)
        return (high - low) / 65534, (high + low) / 2

    # As a Product.

    @property
    def block_bytes(self) -> int:
        return self.bands * self.storage.itemsize

    @property
    def keys(self) -> list[str]:
        return ["codes", "counts", *(["scales"] if self.dtype == "int8" else [])]

    @property
    def identity(self) -> list[Any]:
        return [self.sensors, self.queries]

    def beside(self, output: Path) -> dict[str, Path]:
        return companions(self.dtype, output)

    def opened(self, backend: Backend) -> Callable[[int], BlockCodes]:
        return lambda pixels: BlockCodes(self, pixels)

    def rasters(self, output: Path, counts: Path | None, tags: Mapping[str, str]) -> list[Raster]:
        return rasters(self, output, counts, tags)

    def tags(self, output: Path) -> dict[str, str]:
        found = {"MALICE_QUERIES": ",".join(map(str, self.queries)), "MALICE_DTYPE": self.dtype}
        if self.dtype == "int8":
            place = "the array scales" if is_store(output) else scale_path(output).name
            found["MALICE_SCALE"] = f"value = (code - 128) * scale, scale in {place}"
        return found


class BlockCodes:
    """The numbers of one block as they go into the file, filled piece by piece from several threads.

    Attributes:
        arrays: ``codes`` (bands, pixels) of type ``layout.storage``, ``counts`` (modalities, pixels) uint16, and
            for int8 ``scales`` (modalities, pixels) float32.
    """

    def __init__(self, layout: Layout, pixels: int) -> None:
        self._layout = layout
        sensors = len(layout.sensors)
        self.arrays: dict[str, NDArray[Any]] = {
            "codes": np.empty((layout.bands, pixels), layout.storage),
            "counts": np.empty((sensors, pixels), np.uint16),
        }
        if layout.dtype == "int8":
            self.arrays["scales"] = np.empty((sensors, pixels), np.float32)

    def put(self, modality: int, start: int, values: NDArray[np.float32], counts: NDArray[np.uint16]) -> None:
        """Encodes some pixels of one modality.

        Args:
            modality: position in ``layout.sensors``.
            start: first pixel.
            values: (queries·width, p) finite numbers.
            counts: (p) observations; pixels with none become nodata.
        """
        layout = self._layout
        step = layout.bands // len(layout.sensors)
        bands, pixels = slice(modality * step, (modality + 1) * step), slice(start, start + counts.size)
        codes = self.arrays["codes"][bands, pixels]
        missing = counts == 0
        if layout.dtype == "int16":
            scale, offset = (numbers[bands, None].astype(np.float32) for numbers in layout.steps)
            # A bound may be passed by a rounding error, never by more.
            codes[...] = np.clip(np.rint((values - offset) / scale), -32767, 32767)
        elif layout.dtype == "int8":
            largest = np.maximum(np.abs(values).max(axis=0), np.finfo(np.float32).tiny * 127)
            scales = largest / np.float32(127)
            codes[...] = np.rint(values / scales) + 128
            self.arrays["scales"][modality, pixels] = np.where(missing, np.nan, scales)
        else:
            codes[...] = values
        codes[:, missing] = layout.nodata
        self.arrays["counts"][modality, pixels] = counts


def band_names(sensors: Sequence[str], queries: Sequence[int], width: int) -> list[str]:
    """Of an embedding: ``Q00F00`` …, with ``S2_``, ``S1_`` before them when there are both."""
    prefixes = [sensor.upper() + "_" for sensor in sensors] if len(sensors) > 1 else [""]
    return [f"{p}Q{q:02d}F{f:02d}" for p in prefixes for q in queries for f in range(width)]


def is_store(output: Path) -> bool:
    """True for the name of a Zarr store, which holds everything in itself."""
    return output.suffix.lower() == ".zarr"


def scale_path(output: Path) -> Path:
    """Where the int8 scales of ``output`` are: a raster beside it, or the store itself."""
    return output if is_store(output) else output.with_name(f"{output.stem}_scale.tif")


def owner(path: Path) -> str | None:
    """The fingerprint of the job that wrote a raster or a Zarr store; None if it is none of ours."""
    try:
        if path.is_dir():
            fingerprint = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]["MALICE_JOB"]
            return str(fingerprint)
        with rasterio.open(path) as file:
            found: str | None = file.tags().get("MALICE_JOB")
            return found
    except (RasterioError, OSError, ValueError, KeyError, TypeError):
        return None


def companions(dtype: str, output: Path) -> dict[str, Path]:
    """Files that come with an output of embeddings, by what asks for them."""
    return {"the scales of --dtype int8": scale_path(output)} if dtype == "int8" and not is_store(output) else {}


@dataclass(frozen=True)
class Raster:
    """One raster to put together from the blocks: which numbers, under which names."""

    key: str
    path: Path
    dtype: str
    bands: list[str]
    nodata: float | None
    tags: Mapping[str, str]
    scales: Sequence[float] | None = None
    offsets: Sequence[float] | None = None
    nbits: int | None = None
    #: Of classes: red, green, blue, alpha by value.
    colours: Mapping[int, tuple[int, int, int, int]] | None = None


def rasters(layout: Layout, output: Path, counts: Path | None, tags: Mapping[str, str]) -> list[Raster]:
    """The rasters of a run; the output itself comes last, so that it only appears when all others are there."""
    result = []
    prefix = [f"{sensor.upper()}_" for sensor in layout.sensors]
    if counts is not None:
        names = [p + "dates" for p in prefix]
        result.append(Raster("counts", counts, "uint16", names, None, tags))
    if layout.dtype == "int8":
        names = [p + "scale" for p in prefix]
        result.append(Raster("scales", scale_path(output), "float32", names, np.nan, tags))
    scale, offset = layout.steps if layout.dtype == "int16" else (None, None)
    result.append(
        Raster(
            "codes",
            output,
            "float32" if layout.dtype == "float16" else layout.storage.name,
            layout.names,
            layout.nodata,
            tags,
            scale.tolist() if scale is not None else None,
            offset.tolist() if offset is not None else None,
            16 if layout.dtype == "float16" else None,
        )
    )
    return result


def creation(dtype: str, shape: tuple[int, int], threads: int) -> dict[str, Any]:
    """How GeoTIFFs are written: rasterio's options for one of some type and shape."""
    tile = min(TILE, -(-min(shape) // 16) * 16)
    # Neighbouring embeddings are alike: differences compress better than values (3 = floating point, 2 = integer).
    return {
        "driver": "GTiff",
        "tiled": True,
        "blockxsize": tile,
        "blockysize": tile,
        "compress": "zstd",
        "zstd_level": LEVEL,
        "predictor": 3 if dtype == "float32" else 2,
        "interleave": "band",
        "bigtiff": "YES",
        "num_threads": threads,
    }


def assemble(
    raster: Raster,
    target: Path,
    blocks: Sequence[Block],
    load: Load,
    area: Window,
    lattice: Lattice,
    cog: bool,
    threads: int,
    check: Callable[[], None],
    advance: Callable[[float], None],
) -> None:
    """Writes one raster from finished blocks to ``target`` and reads it back.

    Args:
        load: of the blocks.
        area: what the raster covers, all of it covered by ``blocks``.
        cog: lay the file out as a cloud-optimised GeoTIFF, with overviews.
        check: raises when the run was cancelled.
        advance: told the share of the work just done.

    Raises:
        OutputError: if the file cannot be written.
    """
    height, width = area.shape
    options = creation(raster.dtype, area.shape, threads)
    tile = options["blockysize"]
    if raster.nbits:
        options["nbits"] = raster.nbits
    flat = target.with_name(target.name + ".flat.tif") if cog else target
    half = 1 / (2 * len(raster.bands) * area.pixels)
    try:
        with rasterio.open(
            flat,
            "w",
            height=height,
            width=width,
            count=len(raster.bands),
            dtype=raster.dtype,
            nodata=raster.nodata,
            crs=lattice.crs,
            transform=lattice.transform(area),
            **options,
        ) as file:
            file.update_tags(**raster.tags)
            file.descriptions = raster.bands
            if raster.colours is not None:
                file.write_colormap(1, dict(raster.colours))
            if raster.scales is not None and raster.offsets is not None:
                file.scales, file.offsets = raster.scales, raster.offsets
            for window, bands, values in _strips(raster, blocks, load, area, tile):
                check()
                file.write(values, indexes=bands, window=window)
                advance(values.size * half)
        if cog:
            check()
            _lay_out_cog(flat, target, options, raster)
            flat.unlink()
        # GDAL writes late, also in close(), where an error (a full disk) is not raised: the file is read back.
        if not holds(raster, target, blocks, load, area, threads, check, lambda size: advance(size * half)):
            raise OSError("what was written cannot be read back, the disk may be full")
    except (RasterioError, CPLE_BaseError, OSError) as error:
        raise unwritten(raster.path, error) from error


def unwritten(path: Path, error: object) -> OutputError:
    """What is said of an output that the disk does not take."""
    return OutputError(
        f"cannot write {path}: {error}; free space or choose another --output, then run again with --resume"
    )


def holds(
    raster: Raster,
    target: Path,
    blocks: Sequence[Block],
    load: Load,
    area: Window,
    threads: int,
    check: Callable[[], None],
    advance: Callable[[int], None],
) -> bool:
    """True if a file has the raster's numbers, bit for bit, so that nodata NaN is equal to itself.

    Args:
        threads: that unpack tiles.
        advance: told how many numbers were compared.

    Raises:
        RasterioError: if it cannot be read.
    """
    with rasterio.open(target, num_threads=threads) as file:
        if (file.count, file.shape) != (len(raster.bands), area.shape):
            return False
        for window, bands, values in _strips(raster, blocks, load, area, file.block_shapes[0][0]):
            check()
            if not same(file.read(bands, window=window), values):
                return False
            advance(values.size)
    return True


def same(read: NDArray[Any], wanted: NDArray[Any]) -> bool:
    """True if two arrays are of one type and equal bit for bit."""
    bits = f"u{wanted.itemsize}"
    return read.dtype == wanted.dtype and np.array_equal(read.view(bits), wanted.view(bits))


def gather(
    key: str, dtype: DTypeLike, bands: slice, window: Window, blocks: Sequence[Block], load: Load
) -> NDArray[Any]:
    """Some bands of what the blocks hold of ``window``, (bands, height, width)."""
    values = np.empty((bands.stop - bands.start, *window.shape), dtype)
    for block in blocks:
        part = block.core.intersect(window)
        if part.pixels:
            rows, cols = part.slices_in(block.core)
            into = part.slices_in(window)
            values[:, into[0], into[1]] = load(block.index, key)[bands, rows, cols]
    return values


def _strips(
    raster: Raster, blocks: Sequence[Block], load: Load, area: Window, tile: int
) -> Iterator[tuple[RasterWindow, list[int], NDArray[Any]]]:
    """Whole rows of tiles, some bands at a time: every tile of the file is compressed once."""
    itemsize = np.dtype(raster.dtype).itemsize
    group = max(1, STRIP_BYTES // (tile * area.width * itemsize))
    for row in range(area.row, area.end_row, tile):
        strip = Window(row, area.col, min(tile, area.end_row - row), area.width)
        touched = [block for block in blocks if block.core.intersect(strip).pixels]
        window = RasterWindow(0, row - area.row, area.width, strip.height)
        for first in range(0, len(raster.bands), group):
            bands = slice(first, min(first + group, len(raster.bands)))
            values = gather(raster.key, raster.dtype, bands, strip, touched, load)
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
