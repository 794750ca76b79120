"""The output: which bands, in which number type, with which tags.

Number types (``--dtype``):

========  ==============================================================================  ==========
float32   the embedding                                                                   nodata NaN
float16   rounded to half precision (``NBITS=16``; GDAL and QGIS read it as float32)      nodata NaN
int16     band scale and offset, from bounds the values cannot leave (model card)         -32768
int8      unsigned bytes, value = (code - 128) · scale, one scale per pixel and modality
          in ``NAME_scale.tif`` (GDAL before 3.7 misreads signed bytes)                   0
========  ==============================================================================  ==========

Files hold these numbers: ``geotiff.py``, ``mosaic.py`` (VRT), ``cube.py`` (Zarr, where float16 is itself).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from malice_core.cards import Card
from malice_core.errors import OutputError
from malice_core.grid import Window
from malice_core.outputs import Kinds, Numbers
from malice_core.runtime import Backend
from malice_core.spool import Pieces

#: Loads an array of a finished block: (block index, key) → (bands, height, width) of its core.
Load = Callable[[int, str], NDArray[Any] | Pieces]

#: Measured, docs/outputs.md: all bands of a pixel are read three times as fast as with tiles of 256, the rest is alike.
TILE = 128
#: Of zstd. Measured: the default, 9, takes four times as long for one percent of size.
LEVEL = 1


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
        return 0

    @property
    def kinds(self) -> Kinds:
        sensors = len(self.sensors)
        scales = {"scales": (sensors, np.dtype(np.float32))} if self.dtype == "int8" else {}
        return {"codes": (self.bands, self.storage), "counts": (sensors, np.dtype(np.uint16))} | scales

    @property
    def identity(self) -> list[Any]:
        return [self.sensors, self.queries]

    def beside(self, output: Path) -> dict[str, Path]:
        return companions(self.dtype, output)

    def opened(self, backend: Backend) -> Callable[[int, Numbers], BlockCodes]:
        return lambda pixels, into: BlockCodes(self, into)

    def rasters(self, output: Path, counts: Path | None, tags: Mapping[str, str]) -> list[Raster]:
        return rasters(self, output, counts, tags)

    def tags(self, output: Path) -> dict[str, str]:
        found = {"MALICE_QUERIES": ",".join(map(str, self.queries)), "MALICE_DTYPE": self.dtype}
        if self.dtype == "int8":
            place = "the array scales" if is_store(output) else scale_path(output).name
            found["MALICE_SCALE"] = f"value = (code - 128) * scale, scale in {place}"
        return found


class BlockCodes:
    """Makes the numbers of one block as they go into the file, piece by piece, from several threads.

    Args:
        into: takes arrays of ``layout.kinds``: ``codes`` (bands, pixels), ``counts`` (modalities, pixels), and for
            int8 ``scales`` (modalities, pixels).
    """

    def __init__(self, layout: Layout, into: Numbers) -> None:
        self._layout, self._into = layout, into

    def put(self, modality: int, start: int, values: NDArray[np.float32], counts: NDArray[np.uint16]) -> None:
        """Encodes some pixels of one modality.

        Args:
            modality: position in ``layout.sensors``.
            start: first pixel.
            values: (queries·width, p) finite numbers.
            counts: (p) observations; pixels with none become nodata.

        Raises:
            OutputError: if they cannot be kept.
        """
        layout = self._layout
        step = layout.bands // len(layout.sensors)
        missing = counts == 0
        codes: NDArray[Any] = values
        if layout.dtype == "int16":
            bands = slice(modality * step, (modality + 1) * step)
            scale, offset = (numbers[bands, None].astype(np.float32) for numbers in layout.steps)
            # A bound may be passed by a rounding error, never by more.
            codes = np.clip(np.rint((values - offset) / scale), -32767, 32767).astype(layout.storage)
        elif layout.dtype == "int8":
            largest = np.maximum(np.abs(values).max(axis=0), np.finfo(np.float32).tiny * 127)
            scales = largest / np.float32(127)
            codes = (np.rint(values / scales) + 128).astype(layout.storage)
            self._into.put("scales", modality, start, np.where(missing, np.nan, scales)[None])
        elif layout.dtype == "float16" or missing.any():
            codes = values.astype(layout.storage)
        if missing.any():
            codes[:, missing] = layout.nodata
        self._into.put("counts", modality, start, counts[None])
        self._into.put("codes", modality * step, start, codes)


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


@dataclass(frozen=True)
class Means:
    """What those are given who write an output from finished blocks.

    Attributes:
        load: of the blocks.
        threads: tells how many of the processor there are for it now.
        check: raises when the run was cancelled.
        advance: told the share of the work just done.
        computing: True while blocks are computed beside.
        passed: told the key of an array, and the window that nothing more is wanted of.
    """

    load: Load
    threads: Callable[[], int]
    check: Callable[[], None]
    advance: Callable[[float], None]
    computing: Callable[[], bool]
    passed: Callable[[str, Window], None]


#: An output that is being written: it yields the window that it needs next, and is gone on with when the blocks there
#: are finished. One that is closed removes what is half-written.
Steps = Generator[Window, None, None]


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


def tile_side(shape: tuple[int, int]) -> int:
    """Pixels a side of the tiles of a GeoTIFF of (height, width)."""
    return min(TILE, -(-min(shape) // 16) * 16)


def padded(shape: tuple[int, int]) -> int:
    """Pixels in all tiles of a GeoTIFF of (height, width), those beyond its edges as well: what is not compressed."""
    side = tile_side(shape)
    return -(-shape[0] // side) * -(-shape[1] // side) * side**2


def creation(dtype: str, shape: tuple[int, int], threads: int, compressed: bool = True) -> dict[str, Any]:
    """How GeoTIFFs are written: rasterio's options for one of some type and shape.

    One that is not compressed is sparse: it lacks the tiles that hold nothing but nodata.
    """
    tile = tile_side(shape)
    options = {
        "driver": "GTiff",
        "tiled": True,
        "blockxsize": tile,
        "blockysize": tile,
        "interleave": "band",
        "bigtiff": "YES",
    }
    # Neighbouring embeddings are alike: differences compress better than values (3 = floating point, 2 = integer).
    packing = {
        "compress": "zstd",
        "zstd_level": LEVEL,
        "predictor": 3 if dtype == "float32" else 2,
        "num_threads": threads,
    }
    # Whatever is missing when a file is closed GDAL would fill up, in full size, even where a run was cancelled.
    return options | (packing if compressed else {"sparse_ok": True})


def unwritten(path: Path, error: object) -> OutputError:
    """What is said of an output that the disk does not take."""
    return OutputError(
        f"cannot write {path}: {error}; free space or choose another --output, then run again with --resume"
    )
