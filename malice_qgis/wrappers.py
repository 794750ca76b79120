"""Small VRTs around images whose date only QGIS knows (a layer's temporal range); the engine reads the date from them.

They lie in the profile, a folder for each output, so that a run that is gone on with finds the same inputs.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Sequence

from osgeo import gdal
from qgis.core import QgsApplication

from .layers import LayerError, Source
from .rasters import open_raster
from .texts import tr

#: Suffix of the engine's scratch beside an output.
SCRATCH = ".malice"
#: File in the folder of an output's wrappers that names the output.
OWNER = "output.txt"
#: Seconds after which wrappers nobody can go on with are removed; a run that has just begun has no scratch yet.
OLD = 24 * 3600.0


def _root() -> str:
    return os.path.join(QgsApplication.qgisSettingsDirPath(), "malice", "wrapped")


class Wrappers:
    """The wrappers of one output's images, and lists of images; the same place for a run that goes on with it."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._folder = os.path.join(_root(), hashlib.sha256(output.encode()).hexdigest()[:16])

    def path(self, *names: str) -> str:
        """A path in the folder, which is made.

        Raises:
            LayerError: if the profile cannot be written to.
        """
        path, owner = os.path.join(self._folder, *names), os.path.join(self._folder, OWNER)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if not os.path.exists(owner):
                with open(owner, "w", encoding="utf-8") as file:
                    file.write(self._output)
            # In use: another run must not take it for old.
            os.utime(self._folder)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        return path

    def list(self, name: str, paths: Sequence[str]) -> str:
        """A text file that names paths, one a line, for the engine.

        Raises:
            LayerError: if the profile cannot be written to, or a path cannot stand in a line.
        """
        for path in paths:
            if path != path.strip().strip('"') or path.startswith("#") or "\n" in path:
                raise LayerError(tr("{} cannot be written into a list of many images: rename it.").format(repr(path)))
        listed = self.path(f"{name}.txt")
        try:
            with open(listed, "w", encoding="utf-8") as file:
                file.write("\n".join(paths))
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        return listed

    def give(self, chosen: list[Source], kind: str) -> list[str]:
        """Paths for the engine, of wrappers where a source needs one.

        Args:
            kind: of images, such as ``s2``; each has a folder of its own.

        Raises:
            LayerError: if a source cannot be wrapped.
        """
        paths, owners = [], {}
        for source in chosen:
            path = source.path if source.day is None else self._wrap(source, kind)
            if owners.setdefault(path, source.path) != source.path:
                raise LayerError(
                    tr("Layers of {0} and {1} have the same name and date: rename one of the files.").format(
                        owners[path], source.path
                    )
                )
            paths.append(path)
        return paths

    def remove(self) -> None:
        """Removes the folder, if there is one."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wrap(self, source: Source, kind: str) -> str:
        """Writes the VRT of a source; one that is there with the same content is left alone, so runs can resume."""
        # Files of one folder that are bands of one image share the wrapper's folder; other folders have another,
        # and so have containers such as GeoPackages, whose rasters may have the same names.
        container = re.fullmatch(r"[A-Z]+:(.+):[^:]+", source.path, re.IGNORECASE)
        owner = container[1] if container else os.path.dirname(source.path)
        place = hashlib.sha256(owner.encode()).hexdigest()[:12]
        target = self.path(kind, place, f"{source.stem}.vrt")
        dataset = open_raster(source.path)
        if dataset is None:
            raise LayerError(tr("Layer '{0}' cannot be opened: {1}.").format(source.name, source.path))
        partial = target + ".tmp.vrt"
        try:
            wrapper = gdal.GetDriverByName("VRT").CreateCopy(partial, dataset)
        except RuntimeError:
            wrapper = None  # as without gdal.UseExceptions()
        if wrapper is None:
            raise LayerError(tr("Layer '{0}': cannot write {1}; free disk space.").format(source.name, target))
        wrapper.SetMetadataItem("TIFFTAG_DATETIME", f"{source.day:%Y:%m:%d} 00:00:00")
        if os.path.isfile(source.path):
            status = os.stat(source.path)
            wrapper.SetMetadataItem("MALICE_SOURCE", f"{status.st_size} {status.st_mtime_ns}")
        try:
            wrapper.FlushCache()
            del wrapper
            with open(partial, "rb") as new:
                content = new.read()
            if os.path.exists(target):
                with open(target, "rb") as old:
                    if old.read() == content:
                        return target
            os.replace(partial, target)
        except (OSError, RuntimeError) as error:
            raise _unwritable(self._folder, error) from error
        finally:
            if os.path.exists(partial):
                os.remove(partial)
        return target


def _unwritable(folder: str, error: Exception) -> LayerError:
    return LayerError(
        tr(
            "The profile cannot be written to ({0}: {1}): make room or set its permissions, or give a folder of images "
            "in place of layers."
        ).format(folder, getattr(error, "strerror", None) or error)
    )


def tidy() -> None:
    """Removes the folders of runs that were cancelled and cannot be gone on with, because their scratch is gone."""
    if not os.path.isdir(_root()):
        return
    for name in os.listdir(_root()):
        folder = os.path.join(_root(), name)
        owner = os.path.join(folder, OWNER)
        try:
            if time.time() - os.path.getmtime(folder) < OLD:
                continue
            with open(owner, encoding="utf-8") as file:
                output = file.read()
        except FileNotFoundError:
            output = ""  # removed by another QGIS, or never finished
        if not output or not os.path.exists(output + SCRATCH):
            shutil.rmtree(folder, ignore_errors=True)
