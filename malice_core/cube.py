"""The output as a Zarr store (``--format zarr``): format 3, in shards, each a file that is written once.

::

    NAME.zarr/zarr.json     attributes: the tags of the run; and all arrays' descriptions, once more ("consolidated")
    embedding               (band, y, x), numbers of ``--dtype``; float16 is itself here
    counts                  (sensor, y, x) uint16, valid dates, with ``--counts NAME.zarr``
    scales                  (sensor, y, x) float32, of int8: value = (embedding - 128) · scales
    band, sensor, y, x      names, and CRS coordinates of the centres of pixels
    scale, offset           (band) float64, of int16: value = embedding · scale + offset. CF's ``scale_factor`` is one
                            number for an array, so that it cannot be used
    spatial_ref             CRS and geotransform, as rioxarray and GDAL look for them

Arrays have ``_FillValue`` as xarray writes it. A *piece* is the part of all arrays in one square of ``SHARD`` pixels:
whole shards, so that pieces can be written at the same time by anybody who sees the finished blocks.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.crs import CRS

from malice_core.errors import InputError, OutputError
from malice_core.geotiff import gather, same
from malice_core.grid import Block, Lattice, Window
from malice_core.placing import flush, flush_names, place_folder
from malice_core.product import LEVEL, Means, Raster, Steps, owner, unwritten

#: Bands and side of a chunk, what is read at once. Measured, docs/outputs.md: all bands of a pixel, a whole band and a
#: map's window are all read within a tenth of a second; other shapes are slow in one of them.
CHUNK = (16, 64)
#: Side of a shard, what is written at once; a multiple of a chunk's. And bytes of it, which decide its bands.
SHARD, SHARD_BYTES = 512, 16 << 20
#: Memory that writing a piece takes, measured: zarr has a shard several times, and decodes it to compare.
PIECE_BYTES = 8 * SHARD_BYTES
#: Arrays by key of a finished block.
ARRAYS = {"codes": "embedding", "counts": "counts", "scales": "scales"}


def require(what: str = "--format zarr") -> None:
    """Raises:
    InputError: if the package is not installed, which ``what`` needs.
    """
    if importlib.util.find_spec("zarr") is None:
        raise InputError(f"{what} needs the package zarr: pip install 'malice-core[zarr]'")


def whole(path: Path, rasters: Sequence[Raster]) -> bool:
    """True if a store, which is put in place whole, has the arrays of these rasters."""
    return all((path / ARRAYS[raster.key] / "zarr.json").is_file() for raster in rasters)


@dataclass(frozen=True)
class Store:
    """A Zarr store that grows, an ``assembling.Output``.

    Attributes:
        rasters: what is in it; the embedding is the last.
        sensors: modalities.
        path: where it goes.
        folder: where it grows, on the same file system.
        aside: where a store under that name is put until this one is there.
    """

    rasters: tuple[Raster, ...]
    sensors: tuple[str, ...]
    blocks: Sequence[Block]
    area: Window
    lattice: Lattice
    path: Path
    folder: Path
    aside: Path

    @cached_property
    def pieces(self) -> list[Window]:
        """The square of every piece, row by row."""
        return self.area.tiles(SHARD)

    def begin(self) -> None:
        """Makes the store without its numbers; keeps one that is there already, with the shards in it.

        Raises:
            OutputError: if the disk does not take it.
        """
        fresh = self.folder.with_name(self.folder.name + ".new")
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            self._describe(fresh)
            if all(_same_file(file, self.folder / file.relative_to(fresh)) for file in fresh.rglob("*")):
                shutil.rmtree(fresh)
                for left in self.folder.rglob("*.partial"):  # zarr's, of a write that was killed
                    left.unlink()
            else:
                if self.folder.exists():
                    shutil.rmtree(self.folder)
                for file in fresh.rglob("*"):
                    if file.is_file():
                        flush(file)
                os.replace(fresh, self.folder)
        except OSError as error:
            raise unwritten(self.path, error.strerror or error) from error

    def write(self, piece: int, means: Means) -> Steps:
        """Writes one piece, unless it is there already, and reads it back; see ``assembling.Output``.

        Raises:
            OutputError: if the disk does not take it.
        """
        window = self.pieces[piece]
        touched = [block for block in self.blocks if block.core.intersect(window).pixels]
        rows, cols = window.slices_in(self.area)
        yield window
        for raster in self.rasters:
            array = _open(self.folder / ARRAYS[raster.key])
            step, total = array.shards[0], array.shape[0]
            for first in range(0, total, step):
                means.check()
                bands = slice(first, min(first + step, total))
                values = gather(raster.key, _type(raster), bands, window, touched, means.load)
                place = (bands, rows, cols)
                shard = (first // step, rows.start // array.shards[1], cols.start // array.shards[2])
                file = self.folder.joinpath(ARRAYS[raster.key], "c", *map(str, shard))
                try:
                    if not _holds(array, place, values):
                        # At the area's edge, where it is larger than the area, zarr would first read it.
                        file.unlink(missing_ok=True)
                        array[place] = values
                        if file.exists():  # one that holds nothing but nodata does not
                            flush(file)
                        means.check()
                        if not _holds(array, place, values):
                            raise OSError("what was written cannot be read back, the disk may be full")
                except OSError as error:
                    raise unwritten(self.path, error.strerror or error) from error
                if raster is self.rasters[-1]:
                    means.advance(values.size / (total * self.area.pixels))

    def place(self) -> None:
        """Renames the whole store; an older one under its name stays until then, and comes back if that fails.

        Raises:
            OutputError: if that fails, or if somebody else's folder is there.
        """
        if self.path.exists() and owner(self.path) is None:
            raise OutputError(f"{self.path} is there and was not written by embed; choose another --output")
        try:
            for folder in (self.folder, *self.folder.rglob("*")):
                if folder.is_dir():
                    flush_names(folder)
        except OSError as error:
            raise unwritten(self.path, error.strerror or error) from error
        place_folder(self.folder, self.path, self.aside)

    def _describe(self, folder: Path) -> None:
        """All of the store but the numbers of embeddings, counts and scales."""
        import zarr

        main, transform = self.rasters[-1], self.lattice.transform(self.area)
        height, width = self.area.shape
        wkt = CRS.from_user_input(self.lattice.crs).to_wkt()
        tags = {key: text for key, text in main.tags.items() if not key.startswith("TIFFTAG_")}
        group = zarr.create_group(folder, zarr_format=3, attributes={"Conventions": "CF-1.11"} | tags)

        def add(name: str, values: NDArray[Any], attributes: Mapping[str, Any]) -> None:
            dimensions = {"scale": "band", "offset": "band"}.get(name, name)
            names = (dimensions,) if values.ndim else ()
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=str if values.dtype == object else values.dtype,
                chunks=values.shape or "auto",
                dimension_names=names,
                attributes=dict(attributes),
            )
            array[...] = values

        add("band", np.array(main.bands, object), {"long_name": "query and feature, with the sensor if there are two"})
        axis = {"units": "m", "long_name": "centre of the pixel"}
        x, y = (
            transform.c + transform.a * (np.arange(width) + 0.5),
            transform.f + transform.e * (np.arange(height) + 0.5),
        )
        add("x", x, {"standard_name": "projection_x_coordinate", "axis": "X"} | axis)
        add("y", y, {"standard_name": "projection_y_coordinate", "axis": "Y"} | axis)
        place = " ".join(repr(number) for number in transform.to_gdal())
        add("spatial_ref", np.array(0), {"crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": place})
        if len(self.rasters) > 1:
            add("sensor", np.array([sensor.upper() for sensor in self.sensors], object), {})
        if main.scales is not None and main.offsets is not None:
            add("scale", np.array(main.scales), {"long_name": "value = embedding * scale + offset"})
            add("offset", np.array(main.offsets), {"long_name": "value = embedding * scale + offset"})
        for raster in self.rasters:
            self._create(group, raster)
        with warnings.catch_warnings():
            # Not in the specification, says zarr; but xarray warns of stores without it.
            warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
            zarr.consolidate_metadata(folder)

    def _create(self, group: Any, raster: Raster) -> None:
        """One of the large arrays, without numbers."""
        from zarr.codecs import BloscCodec

        dtype, bands = _type(raster), len(raster.bands)
        chunk = (min(CHUNK[0], bands), CHUNK[1], CHUNK[1])
        # Small areas have small shards: what is outside of the area takes time, too.
        sides = [min(SHARD, -(-side // chunk[1]) * chunk[1]) for side in self.area.shape]
        most = SHARD_BYTES // (SHARD * SHARD * dtype.itemsize)
        shard = (min(max(1, most // chunk[0]), -(-bands // chunk[0])) * chunk[0], *sides)
        meaning = {
            "codes": "embedding",
            "counts": "valid dates",
            "scales": "value = (embedding - 128) * scales",
        }[raster.key]
        coordinates = "spatial_ref scale offset" if raster.scales is not None else "spatial_ref"
        attributes: dict[str, Any] = {"long_name": meaning, "grid_mapping": "spatial_ref", "coordinates": coordinates}
        if raster.nodata is not None:
            attributes["_FillValue"] = _fill_attribute(raster.nodata, dtype)
        group.create_array(
            ARRAYS[raster.key],
            shape=(bands, *self.area.shape),
            dtype=dtype,
            chunks=chunk,
            shards=shard,
            compressors=BloscCodec(
                typesize=dtype.itemsize,
                cname="zstd",
                clevel=LEVEL,
                shuffle="shuffle" if dtype.itemsize > 1 else "bitshuffle",
            ),
            fill_value=0 if raster.nodata is None else raster.nodata,
            dimension_names=("band" if raster.key == "codes" else "sensor", "y", "x"),
            attributes=attributes,
        )


def _type(raster: Raster) -> np.dtype[Any]:
    """Of the numbers in the store, and in scratch."""
    return np.dtype(np.float16 if raster.nbits == 16 else raster.dtype)


def _fill_attribute(nodata: float, dtype: np.dtype[Any]) -> int | str:
    """``_FillValue`` as xarray writes it in Zarr's format 3, where JSON has no NaN."""
    if dtype.kind == "f":
        return base64.standard_b64encode(struct.pack("<d", nodata)).decode()
    return int(nodata)


def _open(path: Path) -> Any:
    import zarr

    return zarr.open_array(path, mode="r+")


def _holds(array: Any, place: tuple[slice, ...], values: NDArray[Any]) -> bool:
    """True if the array has these numbers there, bit for bit."""
    try:
        read = np.asarray(array[place])
    except Exception:  # noqa: BLE001  zarr raises many kinds for a shard that is damaged: it is written anew
        return False
    return same(read, values)


def _same_file(one: Path, other: Path) -> bool:
    """True if both are folders, or files with the same bytes."""
    if one.is_dir():
        return other.is_dir()
    return other.is_file() and one.read_bytes() == other.read_bytes()
