"""Real Sentinel-2 images of any size: a small site mirrored out.

The images of ``site_a`` in MALICE_TESTDATA have 64 x 64 pixels. Continued by reflection they repeat every 128 pixels,
so that all tiles of 512 x 512 pixels are alike: a file holds each band's once, and its index names it for every place.
To whoever reads it, it is an ordinary tiled GeoTIFF, each tile of which is decoded; a whole Sentinel-2 tile takes half
a megabyte of disk a date.
"""

from __future__ import annotations

import struct
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from measuring import BenchmarkError
from rasterio.windows import Window

#: Side of the tiles in pixels, as cloud-optimised Sentinel-2 images have it.
TILE = 512
#: Numbers of the TIFF fields that say where tiles lie and how long they are, and the struct codes of field types.
TILE_OFFSETS, TILE_LENGTHS = 324, 325
CODES = {3: "H", 4: "I", 16: "Q"}


def evenly(site: Path, count: int) -> list[Path]:
    """``count`` of the images of a site, evenly spread over its dates, the first and the last among them.

    Raises:
        BenchmarkError: if there are not so many.
    """
    files = sorted((site / "S2").glob("S2_*.tif"))
    if not 1 <= count <= len(files):
        raise BenchmarkError(f"{count} dates: {site / 'S2'} has {len(files)} images; ask for 1 to {len(files)} dates")
    return [files[i] for i in np.linspace(0, len(files) - 1, count).round().astype(int)]


def mirror(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(bands, side, side) continued by reflection, the edge pixel repeated, to (bands, 512, 512)."""
    side = values.shape[-1]
    if values.shape[-2] != side or TILE % (2 * side):
        raise BenchmarkError(f"images of {values.shape[-2]} x {side} pixels do not repeat every {TILE} pixels mirrored")
    return np.pad(values, ((0, 0), (0, TILE - side), (0, TILE - side)), mode="symmetric")


def write(folder: Path, site: Path, size: int, dates: int) -> list[Path]:
    """Writes ``S2_YYYYMMDD.tif`` of size x size pixels, deflated, on the grid of the site.

    Args:
        folder: is created.
        site: holds ``S2/S2_YYYYMMDD.tif``.
        size: pixels a side.
        dates: how many, evenly chosen.

    Returns:
        The files, oldest first.
    """
    folder.mkdir(parents=True)
    written = []
    for source in evenly(site, dates):
        with rasterio.open(source) as file:
            values, profile, names = file.read(), file.profile, file.descriptions
        written.append(folder / source.name)
        create(written[-1], size, profile, names, mirror(values))
    return written


def sparse(folder: Path, site: Path, size: int, dates: int) -> None:
    """Writes images without a single tile, every third day, for planning alone, which reads headers."""
    folder.mkdir(parents=True)
    with rasterio.open(evenly(site, 1)[0]) as file:
        profile, names = file.profile, file.descriptions
    first = date(2018, 1, 1).toordinal()
    for index in range(dates):
        create(folder / f"S2_{date.fromordinal(first + 3 * index):%Y%m%d}.tif", size, profile, names, None)


def create(
    path: Path, size: int, profile: dict[str, Any], names: tuple[str, ...], tile: npt.NDArray[Any] | None
) -> None:
    """Writes one image, all of whose tiles are ``tile`` (bands, 512, 512); None: none is there."""
    layout = {"height": size, "width": size, "tiled": True, "blockxsize": TILE, "blockysize": TILE, "sparse_ok": True}
    packed = {"compress": "deflate", "predictor": 2, "interleave": "band", "bigtiff": "NO"}
    with rasterio.open(path, "w", **profile | layout | packed) as file:
        file.descriptions = names
        if tile is not None:
            side = min(TILE, size)
            file.write(tile[:, :side, :side], window=Window(0, 0, side, side))
    if tile is not None and size > TILE:
        repeat(path, profile["count"])


def repeat(path: Path, bands: int) -> None:
    """Names the first tile of each band for all places of that band, in the index of a little-endian classic TIFF."""
    with open(path, "r+b") as file:
        mark, directory = struct.unpack("<4sI", file.read(8))
        if mark != b"II*\0":
            raise BenchmarkError(f"{path} is no little-endian classic TIFF (it begins with {mark!r})")
        file.seek(directory)
        (entries,) = struct.unpack("<H", file.read(2))
        fields = [struct.unpack("<HHII", file.read(12)) for _ in range(entries)]
        for number, kind, count, place in fields:
            if number not in (TILE_OFFSETS, TILE_LENGTHS):
                continue
            code = f"<{count}{CODES[kind]}"
            file.seek(place)
            index = np.array(struct.unpack(code, file.read(struct.calcsize(code)))).reshape(bands, -1)
            index[:] = index[:, :1]
            file.seek(place)
            file.write(struct.pack(code, *index.ravel().tolist()))
