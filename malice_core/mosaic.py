"""The output as a VRT over GeoTIFF tiles (``--format vrt``): one raster for GDAL and QGIS, many files to write.

``NAME.vrt`` refers to ``NAME_tiles/JOB_ROW_COLUMN.tif`` beside it, by relative names: both can be moved together. Every
tile is a *piece*, a GeoTIFF as the whole would be one, written by anybody who sees the finished blocks. JOB, the
beginning of the job's fingerprint, lets the tiles of a new job lie beside those of the one that is replaced until the
VRT is renamed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

import rasterio
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from malice_core.errors import OutputError
from malice_core.geotiff import grow, holds
from malice_core.grid import Block, Lattice, Window
from malice_core.placing import place_file
from malice_core.product import Means, Raster, Steps, owner, unwritten

#: Side of a tile in pixels: a whole Sentinel-2 tile has 36 of them.
SIDE = 2048
NAME = re.compile(r"[0-9a-f]{8}_\d+_\d+\.tif")
#: Of a tile that is being written.
GROWING = ".part"
#: What programs put beside a raster they have opened.
BESIDE = ("", ".aux.xml", ".ovr", ".msk")
#: GDAL's names of number types.
TYPES = {"float32": "Float32", "int16": "Int16", "uint8": "Byte", "uint16": "UInt16"}


def folder_of(output: Path) -> Path:
    """The folder of the tiles of ``output``."""
    return output.with_name(f"{output.stem}_tiles")


def require_ours(output: Path) -> None:
    """Raises:
    OutputError: if something that embed has not written has the name of a tile, which may be replaced or deleted.
    """
    folder = folder_of(output)
    if not folder.exists() and not folder.is_symlink():
        return
    # Other names may lie there: systems put .DS_Store, Thumbs.db and the like into any folder.
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    foreign = [entry for entry in entries if NAME.fullmatch(entry.name) and _foreign(entry)]
    for found in foreign if folder.is_dir() else [folder]:
        raise OutputError(
            f"the tiles of --format vrt go to {folder}, but {found.name} there was not written by embed: rename "
            "it, or give --output another name"
        )


def _foreign(path: Path) -> bool:
    """True if something with a tile's name is none; one that GDAL cannot open is a damaged one, by its name."""
    if not path.is_file():
        return True
    try:
        with rasterio.open(path) as file:
            return "MALICE_JOB" not in file.tags()
    except RasterioError:
        return False


def tile_names(fingerprint: str, area: Window) -> list[str]:
    """Of the files of a job, by piece."""
    rows, cols = (-(-side // SIDE) for side in area.shape)
    return [f"{fingerprint[:8]}_{row:03d}_{col:03d}.tif" for row in range(rows) for col in range(cols)]


def whole(output: Path, fingerprint: str, area: Window) -> bool:
    """True if all tiles of a job are there."""
    return all((folder_of(output) / name).is_file() for name in tile_names(fingerprint, area))


def others(output: Path, fingerprint: str) -> list[Path]:
    """Tiles of other jobs."""
    found = sorted(folder_of(output).glob("*.tif"))
    return [path for path in found if NAME.fullmatch(path.name) and not path.name.startswith(fingerprint[:8])]


def tidy(output: Path, fingerprint: str) -> None:
    """Deletes the tiles of other jobs, when no VRT refers to them any more.

    Raises:
        OutputError: if that fails.
    """
    try:
        for path in others(output, fingerprint):
            for suffix in BESIDE:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot delete an old tile of {output}: {error.strerror}; delete it yourself") from error


@dataclass(frozen=True)
class Mosaic:
    """Tiles and their VRT, an ``assembling.Output``.

    Attributes:
        path: of the VRT.
        folder: where the tiles grow, on the same file system.
    """

    raster: Raster
    fingerprint: str
    blocks: Sequence[Block]
    area: Window
    lattice: Lattice
    path: Path
    folder: Path

    @cached_property
    def pieces(self) -> list[Window]:
        """What every tile covers, row by row."""
        return self.area.tiles(SIDE)

    @cached_property
    def names(self) -> list[str]:
        return tile_names(self.fingerprint, self.area)

    def begin(self) -> None:
        """Raises:
        OutputError: if the folder of the tiles cannot be made.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            for left in self.folder.glob(f"*{GROWING}"):
                left.unlink()
        except OSError as error:
            raise unwritten(self.path, error.strerror) from error

    def write(self, piece: int, means: Means) -> Steps:
        """Writes one tile, unless it is there already, and reads it back; see ``assembling.Output``."""
        window, target = self.pieces[piece], self.folder / self.names[piece]
        touched = [block for block in self.blocks if block.core.intersect(window).pixels]
        share, advance = window.pixels / self.area.pixels, means.advance
        if target.exists():
            yield window
            means.check()
            if self._there(target, touched, window, means):
                advance(share)
                return
            try:
                target.unlink()
            except OSError as error:
                raise unwritten(self.path, f"{target}: {error.strerror}") from error
        means.check()
        growing = target.with_name(target.name + GROWING)
        part = replace(means, advance=lambda done: advance(done * share))
        yield from grow(self.raster, growing, touched, window, self.lattice, False, part)
        place_file(growing, target)

    def _there(self, target: Path, blocks: Sequence[Block], window: Window, means: Means) -> bool:
        """True if an earlier run has written the tile."""
        silent = replace(means, advance=lambda share: None)
        try:
            # Numbers are compared, tags by the job that they name.
            return owner(target) == self.fingerprint and holds(self.raster, target, blocks, window, silent)
        except RasterioError:
            return False

    def place(self) -> None:
        """Puts the tiles in place, then the VRT, which replaces an old one in one step; then the old one's tiles go.

        Raises:
            OutputError: if that fails, or if somebody else's files are where the tiles go.
        """
        require_ours(self.path)
        tiles, ready = folder_of(self.path), self.folder.with_name(self.path.name)
        try:
            content = self._vrt(self.folder)
            tiles.mkdir(exist_ok=True)
            with open(ready, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RasterioError) as error:
            raise unwritten(self.path, error) from error
        for name in self.names:
            place_file(self.folder / name, tiles / name)
        place_file(ready, self.path)
        tidy(self.path, self.fingerprint)

    def _vrt(self, tiles: Path) -> bytes:
        """The VRT's text; tags and colours are those of the first tile."""
        height, width = self.area.shape
        with rasterio.open(tiles / self.names[0]) as file:
            tags, colours = file.tags(), file.colorinterp
            block = {"BlockXSize": f"{file.block_shapes[0][1]}", "BlockYSize": f"{file.block_shapes[0][0]}"}
        root = ElementTree.Element("VRTDataset", rasterXSize=f"{width}", rasterYSize=f"{height}")
        crs = ElementTree.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2")
        crs.text = CRS.from_user_input(self.lattice.crs).to_wkt()
        numbers = self.lattice.transform(self.area).to_gdal()
        ElementTree.SubElement(root, "GeoTransform").text = ", ".join(repr(number) for number in numbers)
        metadata = ElementTree.SubElement(root, "Metadata")
        for key, text in tags.items():
            ElementTree.SubElement(metadata, "MDI", key=key).text = text
        number_type = TYPES[self.raster.dtype]
        for index, name in enumerate(self.raster.bands):
            band = ElementTree.SubElement(root, "VRTRasterBand", dataType=number_type, band=f"{index + 1}")
            texts = {"Description": name, "ColorInterp": colours[index].name.capitalize()}
            if self.raster.nodata is not None:
                texts["NoDataValue"] = repr(self.raster.nodata)
            if self.raster.scales is not None and self.raster.offsets is not None:
                texts |= {"Offset": repr(self.raster.offsets[index]), "Scale": repr(self.raster.scales[index])}
            for key, text in texts.items():
                ElementTree.SubElement(band, key).text = text
            for window, tile in zip(self.pieces, self.names, strict=True):
                source = ElementTree.SubElement(band, "SimpleSource")
                file_name = ElementTree.SubElement(source, "SourceFilename", relativeToVRT="1")
                file_name.text = f"{folder_of(self.path).name}/{tile}"
                ElementTree.SubElement(source, "SourceBand").text = f"{index + 1}"
                size = {"RasterXSize": f"{window.width}", "RasterYSize": f"{window.height}"}
                ElementTree.SubElement(source, "SourceProperties", size | {"DataType": number_type} | block)
                extent = {"xSize": f"{window.width}", "ySize": f"{window.height}"}
                rows, cols = window.slices_in(self.area)
                ElementTree.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0"} | extent)
                ElementTree.SubElement(source, "DstRect", {"xOff": f"{cols.start}", "yOff": f"{rows.start}"} | extent)
        content: bytes = ElementTree.tostring(root, encoding="utf-8")
        return content
