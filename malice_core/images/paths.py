"""From what the user gives to rasters: folders are searched, text lists are followed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from malice_core.bands import Sensor
from malice_core.errors import StackError
from malice_core.images.bandnames import band_of_file, is_other
from malice_core.images.dates import from_product
from malice_core.images.opening import is_remote
from malice_core.job import SCRATCH_SUFFIX

SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".nc", ".nc4", ".img")
LIST_SUFFIXES = (".txt", ".lst", ".list")


def is_gdal_name(path: str) -> bool:
    """True for names GDAL understands that are no local path: /vsi…, DRIVER:…, URLs, VRT text."""
    return path.startswith(("/vsi", "<VRTDataset")) or re.match(r"[A-Za-z][A-Za-z0-9_+]+:", path) is not None


def absolute(path: str) -> str:
    """A file or folder as another process names it; what is none (a URL, a number) stays as it is."""
    return os.path.abspath(path) if os.path.exists(path) else path


def expand(path: str, sensor: Sensor) -> list[tuple[str, str]]:
    """(raster, the path the user gave for it) for all rasters behind one path, in order of name.

    Raises:
        StackError: if there is no such path, or no raster in it.
    """
    if is_remote(path) and path.endswith("/"):
        raise StackError(
            f"{path}: a folder on a server cannot be listed; give its files, or a text file of their names, one a line"
        )
    if is_remote(path) and path.lower().endswith(LIST_SUFFIXES):
        raise StackError(f"{path}: a list of paths must be a file of this machine; download it, and give that")
    if path.startswith(("<", "/vsi")):
        return [(path, path)]
    local = Path(path)
    if is_gdal_name(path) and not local.exists():
        return [(path, path)]
    if local.is_dir():
        return [(str(file), path) for file in _in_folder(local, sensor)]
    if not local.exists():
        raise StackError(
            f"{path}: no such file or folder; check the path, put it in quotes if it has spaces, or give the folder "
            "with the images"
        )
    if local.suffix.lower() in LIST_SUFFIXES:
        found: list[tuple[str, str]] = []
        try:
            lines = local.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise StackError(f"{path}: cannot be read as a list of paths: {error}") from error
        for line in (line.strip().strip('"') for line in lines):
            if line and not line.startswith("#"):
                entry = line if is_gdal_name(line) else str(local.parent / Path(line).expanduser())
                if Path(entry).resolve() == local.resolve():
                    raise StackError(f"{path}: lists itself")
                found += expand(entry, sensor)
        if not found:
            raise StackError(f"{path}: lists no path; write one raster or folder a line")
        return found
    return [(path, path)]


def _in_folder(folder: Path, sensor: Sensor) -> list[Path]:
    """Rasters of a folder. If it holds rasters itself, only those and product folders below it count."""

    def rasters(paths: Iterator[Path]) -> list[Path]:
        return sorted(p for p in paths if p.suffix.lower() in SUFFIXES and not _hidden(p, folder) and p.is_file())

    direct = rasters(folder.iterdir())
    if direct:
        products = [p for p in sorted(folder.iterdir()) if p.is_dir() and (_is_product(p.name))]
        every = direct + [file for product in products for file in rasters(product.rglob("*"))]
    else:
        every = rasters(folder.rglob("*"))
    if not every:
        raise StackError(f"{folder}: no raster ({' '.join(SUFFIXES)}) in this folder")
    wanted = [file for file in every if not is_other(file.stem, sensor) and not _unused_band(file, sensor)]
    if sensor.key == "scl" or sensor.angles:
        # They often lie beside the bands: if some files are called so, the others are something else.
        wanted = [file for file in wanted if band_of_file(file.stem, sensor)] or wanted
    if not wanted:
        raise StackError(
            f"{folder}: none of its {len(every)} rasters (such as {every[0].name}) looks like {sensor.title}"
        )
    return wanted


def _hidden(path: Path, folder: Path) -> bool:
    """True for hidden files and for what lies in the scratch folder of an output beside the images."""
    return any(part.startswith(".") or part.endswith(SCRATCH_SUFFIX) for part in path.relative_to(folder).parts)


def _is_product(name: str) -> bool:
    return name.upper().endswith(".SAFE") or from_product(name) is not None


def _unused_band(file: Path, sensor: Sensor) -> bool:
    band = band_of_file(file.stem, sensor)
    # netCDF files can be named after one of their bands and hold more.
    return band is not None and band not in sensor.bands and file.suffix.lower() not in (".nc", ".nc4")
