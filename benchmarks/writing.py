"""How fast 640 bands are written, and read back as they are used, for the layouts a raster of embeddings could have.

``python benchmarks/writing.py [--size 384] [--dates 5] [--queries 0,1] [--work DIR] [--repeats 3]``: a simulated scene
is embedded with ``malice-sim``; its numbers, as float32 and as int8, are written with every layout below and read
back. One row a layout, and for each type: share of the plain size, seconds of writing, and milliseconds, each with the
file opened anew (it lies in the system's cache: what is measured is the work, not a disk), of

- ``pixel``: all bands of one pixel, as a classifier of points reads them,
- ``band``: one band whole,
- ``glance``: one band at a quarter of its size, as an overview (Zarr has none: every fourth pixel),
- ``pan``: three neighbouring bands of a window of 256 x 256, of 1024 x 1024 in a scene that large, as a map is moved.

What was chosen by it: ``product.TILE`` and ``LEVEL``, ``cube.CHUNK`` and the codec there; docs/outputs.md has a table.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import zarr
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.windows import Window
from zarr.codecs import BloscCodec, ZstdCodec

from malice_core import embed, simulate
from malice_core.product import BlockCodes, Layout
from malice_core.spool import Held

Array = NDArray[Any]


@dataclass(frozen=True)
class GeoTiff:
    """A layout of GDAL's: interleave, tile side, and level of zstd with the predictor or without; or not compressed."""

    interleave: str = "band"
    tile: int = 256
    level: int | None = None
    predictor: bool = True
    overviews: bool = False
    compressed: bool = True
    suffix: str = field(default=".tif", repr=False)

    def __str__(self) -> str:
        kind = "COG " if self.overviews else "GeoTIFF "
        if not self.compressed:
            return f"{kind}{self.interleave}, tile {self.tile}, not compressed"
        level = "no level (9)" if self.level is None else f"level {self.level}"
        return f"{kind}{self.interleave}, tile {self.tile}, {level}{'' if self.predictor else ', no predictor'}"

    def write(self, path: Path, values: Array) -> None:
        options: dict[str, Any] = {
            "tiled": True,
            "blockxsize": self.tile,
            "blockysize": self.tile,
            "interleave": self.interleave,
            "bigtiff": "YES",
            "num_threads": "ALL_CPUS",
        }
        if self.compressed:
            options["compress"] = "zstd"
        if self.compressed and self.predictor:
            options["predictor"] = 3 if values.dtype == np.float32 else 2
        if self.level is not None:
            options["zstd_level"] = self.level
        count, height, width = values.shape
        flat = path.with_name("flat.tif") if self.overviews else path
        profile = {"height": height, "width": width, "count": count, "dtype": values.dtype.name}
        with rasterio.open(flat, "w", "GTiff", **profile, **options) as file:
            for row in range(0, height, self.tile):
                rows = min(self.tile, height - row)
                file.write(values[:, row : row + rows], window=Window(0, row, width, rows))
        if self.overviews:
            with rasterio.Env(ZSTD_LEVEL_OVERVIEW=self.level or 9), rasterio.open(flat, "r+") as file:
                file.build_overviews([2, 4], Resampling.nearest)
            rasterio.shutil.copy(flat, path, driver="GTiff", copy_src_overviews=True, **options)
            flat.unlink()

    def read(self, path: Path, bands: slice, rows: slice, cols: slice, step: int = 1) -> Array:
        with rasterio.open(path) as file:
            stop = file.count if bands.stop is None else bands.stop
            height = (rows.stop or file.height) - (rows.start or 0)
            width = (cols.stop or file.width) - (cols.start or 0)
            window = Window(cols.start or 0, rows.start or 0, width, height)
            indexes = list(range((bands.start or 0) + 1, stop + 1))
            values: Array = file.read(indexes, window=window, out_shape=(len(indexes), height // step, width // step))
            return values


@dataclass(frozen=True)
class Store:
    """A layout of Zarr's: a chunk's bands and side; in shards of 512 x 512 pixels and 16 MB or more, written singly."""

    bands: int
    side: int
    level: int = 1
    shuffle: bool = True
    suffix: str = field(default=".zarr", repr=False)

    def __str__(self) -> str:
        codec = "shuffled" if self.shuffle else "not shuffled"
        return f"Zarr chunk {self.bands} x {self.side} x {self.side}, level {self.level}, {codec}"

    def write(self, path: Path, values: Array) -> None:
        size = values.dtype.itemsize
        codec: Any = ZstdCodec(level=self.level)
        if self.shuffle:
            codec = BloscCodec(
                typesize=size, cname="zstd", clevel=self.level, shuffle="shuffle" if size > 1 else "bitshuffle"
            )
        shard = (
            max(self.bands, 64 // size),
            min(512, -(-values.shape[1] // 128) * 128),
            min(512, -(-values.shape[2] // 128) * 128),
        )
        array = zarr.create_array(
            path,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(self.bands, self.side, self.side),
            shards=shard,
            compressors=codec,
        )
        for start in np.ndindex(*(-(-n // side) for n, side in zip(values.shape, shard, strict=True))):
            place = tuple(slice(i * side, (i + 1) * side) for i, side in zip(start, shard, strict=True))
            array[place] = values[place]

    def read(self, path: Path, bands: slice, rows: slice, cols: slice, step: int = 1) -> Array:
        found: Array = np.asarray(zarr.open_array(path, mode="r")[bands, rows, cols])
        return found[:, ::step, ::step]


def candidates() -> Iterator[GeoTiff | Store]:
    """What is compared."""
    for level in (None, 1, 3):
        yield GeoTiff(level=level)
    yield GeoTiff(level=1, predictor=False)
    yield GeoTiff(tile=128, level=1)
    yield GeoTiff(tile=128, compressed=False)
    yield GeoTiff(tile=512, level=1)
    yield GeoTiff("pixel", 32, 1)
    yield GeoTiff("pixel", 128, 1)
    yield GeoTiff(tile=128, level=1, overviews=True)
    for bands, side in ((64, 16), (64, 32), (16, 32), (16, 64), (8, 64), (4, 128), (1, 128)):
        yield Store(bands, side)
    yield Store(16, 64, level=3)
    yield Store(16, 64, level=9)
    yield Store(16, 64, shuffle=False)


def milliseconds(read: Callable[[], Array], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        read()
        times.append(time.perf_counter() - begun)
    return min(times) * 1e3


def embedding(work: Path, size: int, dates: int, queries: str | None) -> Array:
    """(bands, size, size) float32, of a simulated scene."""
    scene, output = work / "scene", work / "embedding.tif"
    if not output.exists():
        simulate.write(simulate.Spec(height=size, width=size, s2_dates=dates, s1_dates=0), scene)
        given = ["--model", "malice-sim", "--s2", f"{scene / 'S2'}", "--output", f"{output}"]
        if embed.main([*given, *(["--queries", queries] if queries else [])]):
            raise SystemExit(1)
        shutil.rmtree(scene)
    with rasterio.open(output) as file:
        values: Array = file.read()
    return values


def as_int8(values: Array) -> Array:
    """The codes of ``--dtype int8``."""
    bands, height, width = values.shape
    layout = Layout(("s2",), tuple(range(bands // 64)), 64, "int8", (0.0,) * bands, (1.0,) * bands)
    held = Held(height * width, layout.kinds)
    BlockCodes(layout, held).put(0, 0, values.reshape(bands, -1), np.ones(height * width, np.uint16))
    codes: Array = held.arrays["codes"].reshape(values.shape)
    return codes


def row(layout: GeoTiff | Store, values: Array, work: Path, repeats: int) -> str:
    """One layout's numbers; its file is deleted again.

    Raises:
        SystemExit: if what is read back is not what was written.
    """
    path = work / f"candidate{layout.suffix}"
    begun = time.perf_counter()
    layout.write(path, values)
    seconds = time.perf_counter() - begun
    size = sum(file.stat().st_size for file in path.rglob("*")) if path.is_dir() else path.stat().st_size
    _, height, width = values.shape
    side, every = 1024 if min(height, width) >= 1024 else min(256, height, width), slice(None)
    # Off the middle: the window of a map never begins where a tile does.
    first = (min(height, width) - side) // 2 + 5 * (min(height, width) > side + 10)
    part, middle = slice(first, first + side), slice(height // 2 + 3, height // 2 + 4)
    band = slice(len(values) // 2, len(values) // 2 + 1)
    three = slice(band.start, band.start + 3)
    if not np.array_equal(layout.read(path, three, part, part), values[three, part, part]):
        raise SystemExit(f"{layout}: what is read back is not what was written")
    reads = (
        milliseconds(lambda: layout.read(path, every, middle, middle), repeats),
        milliseconds(lambda: layout.read(path, band, every, every), repeats),
        milliseconds(lambda: layout.read(path, band, every, every, 4), repeats),
        milliseconds(lambda: layout.read(path, three, part, part), repeats),
    )
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    numbers = " | ".join(f"{read:.0f}" for read in reads)
    return f"{size / values.nbytes:.2f} | {seconds:.1f} | {numbers}"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--size", type=int, default=384)
    p.add_argument("--dates", type=int, default=5)
    p.add_argument("--queries", metavar="N,N")
    p.add_argument("--work", type=Path, metavar="DIR", help="keep the embedding here, and use it if it is here")
    p.add_argument("--repeats", type=int, default=3)
    p.add_argument("--dtypes", default="float32,int8")
    given = p.parse_args()
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        values = embedding(work, given.size, given.dates, given.queries)
        head, dtypes = ["layout"], given.dtypes.split(",")
        for dtype in dtypes:
            head += [f"{dtype}: size", "write s", "pixel ms", "band", "glance", "pan"]
        print(f"| {' | '.join(head)} |", "|---" * len(head) + "|", sep="\n")
        numbers = [values if dtype == "float32" else as_int8(values) for dtype in dtypes]
        for layout in candidates():
            cells = [row(layout, some, Path(temporary), given.repeats) for some in numbers]
            print(f"| {layout} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
