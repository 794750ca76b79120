"""From what a user chose (layers of the project, files) to names the engine's GDAL opens. Pixels never travel.

The engine reads dates from time axes, names and tags. Where a source has none, the date of the layer's temporal
range is handed on in a small VRT around the source, which carries it in its name and as a tag.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from qgis.core import (
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingUtils,
    QgsProperty,
    QgsRasterLayer,
)

from . import dating
from .rasters import open_raster
from .texts import UserError, tr

#: Sources that live in the memory of QGIS only.
_INTERNAL = ("/vsimem/", "MEM:::", "<VRTDataset")
#: Sources with a time axis of their own; what lacks one is for the engine to say.
_CUBES = ("NETCDF:", "HDF5:", "ZARR:")
#: File systems of GDAL that reach over the network.
_NETWORK = re.compile(r"/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)")


class LayerError(UserError):
    """A layer that cannot be used; the text names it and says what to do."""


@dataclass(frozen=True)
class Source:
    """One image as it is given to the engine.

    Attributes:
        name: of the layer, or the path, for messages.
        path: what GDAL opens.
        stem: for a wrapper: its name without the ending, which carries the date; "" to give ``path`` as it is.
        day: for a wrapper: the date.
        bands: the layer's bands by description ("" without one), None where the source is no layer of the project.
    """

    name: str
    path: str
    stem: str = ""
    day: date | None = None
    bands: tuple[str, ...] | None = None


def sources(value: Any, context: QgsProcessingContext, dated: bool = True) -> list[Source]:
    """The sources behind the value of a parameter of layers or files. Call it in the thread of the layers.

    Args:
        dated: they are images of a day each; else their days are the engine's to find, or mean nothing.

    Raises:
        LayerError: naming the layer that cannot be read outside QGIS, or whose date is not known.
    """
    return [_of_item(item, context, dated) for item in items(value, context)]


def items(value: Any, context: QgsProcessingContext) -> list[Any]:
    """What a parameter of one or several values holds, without lists in lists and empty texts.

    Raises:
        LayerError: if an expression among them has no value.
    """
    if isinstance(value, QgsProperty):
        value, known = value.value(context.expressionContext())
        if not known:
            raise LayerError(tr("An expression among layers or files has no value: check it, or choose them."))
    if value is None or value == "":
        return []
    if isinstance(value, (list, tuple)):
        return [one for item in value for one in items(item, context)]
    return [value]


def _of_item(item: Any, context: QgsProcessingContext, dated: bool) -> Source:
    if not isinstance(item, QgsMapLayer):
        text = str(item)
        layer = QgsProcessingUtils.mapLayerFromString(text, context, False)
        if layer is None or (os.path.exists(text) and not isinstance(layer, QgsRasterLayer)):
            # A file that is not in the project, or that QGIS took for something else (a netCDF for a mesh): the
            # engine says best what is wrong with it.
            return Source(text, absolute(text))
        item = layer
    if not isinstance(item, QgsRasterLayer):
        raise LayerError(tr("Layer '{}' is no raster layer; choose raster layers.").format(item.name()))
    return _of_layer(item, dated)


def absolute(path: str) -> str:
    """Absolute if it is the path of something local; the engine has the same working folder, but a name that
    starts with a dash must not look like an option."""
    return os.path.abspath(path) if os.path.exists(path) or path.startswith("-") else path


def _of_layer(layer: QgsRasterLayer, dated: bool) -> Source:
    provider = layer.providerType()
    if provider != "gdal":
        raise LayerError(
            tr(
                "Layer '{0}' ({1}) can be read by QGIS only: export it (Layer > Save As...) to GeoTIFF files and "
                "choose those."
            ).format(layer.name(), provider)
        )
    # What follows a bar are options of QGIS, but a bar may be part of a name as well.
    source = layer.source()
    path = source if os.path.exists(source) else source.rsplit("|option:", 1)[0]
    path = path if os.path.exists(path) else path.split("|", 1)[0]
    if path.startswith(_INTERNAL):
        raise LayerError(
            tr("Layer '{}' is in the memory of QGIS only: export it (Layer > Save As...) to a file first.").format(
                layer.name()
            )
        )
    if "authcfg=" in layer.source():
        raise LayerError(
            tr("Layer '{}' needs a login kept by QGIS, which the engine does not have: download it first.").format(
                layer.name()
            )
        )
    if not layer.isValid():
        raise LayerError(
            tr("Layer '{0}' cannot be opened ({1}): repair its source or leave it out.").format(layer.name(), path)
        )
    _as_in_the_file(layer, _is_cube(path))
    stem, day = _dating(layer, path) if dated else ("", None)
    bands = tuple(_description(layer.bandName(number)) for number in range(1, layer.bandCount() + 1))
    return Source(layer.name(), absolute(path), stem, day, None if _is_cube(path) else bands)


def _as_in_the_file(layer: QgsRasterLayer, is_cube: bool) -> None:
    """Refuses what was set in QGIS and not in the file, which is all the engine sees.

    Raises:
        LayerError: naming the layer and what differs.
    """
    provider = layer.dataProvider()
    shown, own = layer.crs(), provider.crs()
    # The engine reads a cube's CRS by its conventions, where QGIS often has to be told.
    if not is_cube and shown.isValid() and shown != own:
        raise LayerError(
            tr(
                "Layer '{0}' was given the CRS {1} in QGIS, its file says {2}, and the engine reads the file: write it "
                "into the file (Raster > Projections > Assign Projection), or undo it."
            ).format(layer.name(), shown.authid() or tr("of its own"), own.authid() or tr("none"))
        )
    for number in range(1, layer.bandCount() + 1):
        if provider.userNoDataValues(number) or (
            provider.sourceHasNoDataValue(number) and not provider.useSourceNoDataValue(number)
        ):
            raise LayerError(
                tr(
                    "Layer '{0}' has nodata settings made in QGIS (Properties > Transparency), and the engine reads "
                    "the file: write them into the file (Raster > Conversion > Translate), or undo them."
                ).format(layer.name())
            )


def _description(band_name: str) -> str:
    """``Band 01: B02`` → ``B02``; "" for a band without description."""
    return band_name.partition(": ")[2].strip()


def _dating(layer: QgsRasterLayer, path: str) -> tuple[str, date | None]:
    """(stem, day) of the wrapper a source needs, ("", None) where the engine finds the date itself."""
    table = _table(path)
    stem = os.path.splitext(os.path.basename(path.split("?", 1)[0]))[0]
    if table:
        # The engine sees the file's name, not the name of the raster in it.
        days = dating.days_in(table) or dating.days_in(stem)
        if len(days) == 1:
            return _safe(table) if dating.days_in(table) else f"{_safe(table)}_{days[0]:%Y%m%d}", days[0]
    elif _is_cube(path) or dating.is_product(stem) or len(dating.days_in(stem)) == 1:
        return "", None
    folders = os.path.dirname(path).replace("\\", "/").split("/")[-6:]
    ambiguous = not table and len(dating.days_in(stem)) > 1
    if not table and not ambiguous and _dated_elsewhere(path, folders):
        return "", None
    try:
        day = dating.day_of_range(layer)
    except dating.RangeError as error:
        raise LayerError(str(error)) from error
    if day is not None:
        return f"{_safe(dating.undated(table or stem))}_{day:%Y%m%d}", day
    if ambiguous:
        raise LayerError(
            tr(
                "Layer '{0}': two dates in the name '{1}': give the layer a temporal range of one day (Properties > "
                "Temporal), or rename the file."
            ).format(layer.name(), stem)
        )
    if not _NETWORK.search(path) and (table or not any(dating.days_in(folder) for folder in folders)):
        raise LayerError(
            tr(
                "Layer '{0}' has no date: neither in its name '{1}' nor in its tags, and no temporal range of one "
                "day. Set one (Properties > Temporal > Fixed time range), or rename the file (…_20180511.tif)."
            ).format(layer.name(), table or stem)
        )
    return "", None


def _is_cube(path: str) -> bool:
    return path.upper().startswith(_CUBES) or path.lower().endswith((".nc", ".nc4"))


def _table(path: str) -> str:
    """Name of the raster inside a container such as ``GPKG:file.gpkg:table``; "" for anything else."""
    match = re.fullmatch(r"GPKG:(.+\.gpkg):([^:]+)", path, re.IGNORECASE)
    return match[2].strip('"') if match else ""


def _safe(text: str) -> str:
    return re.sub(r"[^\w.-]", "_", text)


def _dated_elsewhere(path: str, folders: list[str]) -> bool:
    """True if product folders or tags carry a date."""
    if any(dating.is_product(folder) for folder in folders):
        return True
    if _NETWORK.search(path):
        return False  # no network for a question that the temporal range may answer, or the engine
    dataset = open_raster(path)
    if dataset is None:
        return False
    return dating.in_tags({**(dataset.GetMetadata() or {}), **(dataset.GetMetadata("IMAGERY") or {})})


_S2_CODE = re.compile(r"(?<![A-Za-z0-9])B(?:AND)?[ -]?0?(8A|1[0-2]|[1-9])(?![A-Za-z0-9])", re.IGNORECASE)
_S1_CODE = re.compile(r"(?<![A-Za-z])(VV|VH|HH|HV)(?![A-Za-z])", re.IGNORECASE)
S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
S1_BANDS = ("VV", "VH")


def missing_bands(chosen: list[Source], wanted: tuple[str, ...]) -> str:
    """What is wrong with the bands of layers, "" if nothing is, or if only the engine can tell."""
    found: set[str] = set()
    for source in chosen:
        if source.bands is None:
            return ""
        names = source.bands
        if len(names) == 1 and not names[0]:
            names = (os.path.splitext(os.path.basename(source.path))[0],)
        numbers = [re.fullmatch(r"band[ _-]?0?(\d+)", name.strip(), re.IGNORECASE) for name in names]
        if not any(names) or all(match and int(match[1]) == i for i, match in enumerate(numbers, 1)):
            if len(names) != len(wanted):
                return tr(
                    "Layer '{0}' has {1} bands without names; {2} are needed: {3}. Set band descriptions."
                ).format(source.name, len(names), len(wanted), " ".join(wanted))
            return ""
        codes = [_band(name, wanted) for name in names]
        if not all(codes):
            return ""  # other ways to name bands are the engine's to know
        found.update(codes)
    lacking = [name for name in wanted if name not in found]
    if not lacking or not chosen:
        return ""
    return tr("None of the chosen layers ('{0}' …) has the band {1}; all of {2} are needed.").format(
        chosen[0].name, ", ".join(lacking), " ".join(wanted)
    )


def _band(text: str, wanted: tuple[str, ...]) -> str:
    text = text.replace("_", " ")
    codes = {code.upper() for code in (_S1_CODE if wanted == S1_BANDS else _S2_CODE).findall(text)}
    if len(codes) != 1:
        return ""
    code = codes.pop()
    if wanted == S1_BANDS:
        return code
    return "B8A" if code == "8A" else f"B{int(code):02d}"
