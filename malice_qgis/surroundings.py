"""What MALICE Aux networks know besides images (weather, terrain, angles): the files, and whether a model wants it."""

from __future__ import annotations

import os
import re
from typing import Any

from osgeo import ogr
from qgis.core import QgsProcessingContext

from . import layers
from .algorithms.parameters import CHOICES, HOLES, SURROUNDINGS
from .layers import Source
from .models import Card, besides
from .rasters import open_raster
from .texts import UserError, tr

#: Degrees in place of a file, for all dates or a relative orbit, as the engine reads them.
_DEGREES = re.compile(r"(\d{1,3}\s*[=:]\s*)?[-+]?\d+(\.\d*)?")
#: Several paths in one text, as QGIS' widgets for files write them.
_QUOTED = re.compile(r'\s*"[^"]+"(\s+"[^"]+")*\s*')
#: Names GDAL understands that are no local path.
_FOREIGN = re.compile(r"/vsi|<VRTDataset|[A-Za-z][A-Za-z0-9_+]+:")
#: Parameter of the angles by option of the images they belong to.
_ANGLES = {"--s2": ("ANGLES_S2", "Sentinel-2"), "--s1": ("ANGLES_S1", "Sentinel-1")}


class SurroundingsError(UserError):
    """Weather, terrain or angles that cannot be used, lack, or mean nothing to the model; the text is one line."""


def chosen(parameters: dict[str, Any], context: QgsProcessingContext) -> dict[str, list[Source]]:
    """What is given, by option of the engine (``--weather`` …); of what is not, an empty list.

    Args:
        parameters: as of :func:`checks.given`.

    Raises:
        LayerError: naming the layer that cannot be read outside QGIS.
        SurroundingsError: naming the path that is wrong.
    """
    return {option: _sources(name, parameters.get(name), context) for name, option in SURROUNDINGS.items()}


def _sources(name: str, value: Any, context: QgsProcessingContext) -> list[Source]:
    values = _separate(layers.items(value, context))
    degrees = [one for told in values for one in _degrees(told)] if name == "ANGLES_S1" else []
    if name in ("WEATHER", "DEM"):
        found = layers.sources(values, context, dated=False)
    else:
        texts = [str(one) for one in values if not degrees or not _degrees(one)]
        found = [Source(text, layers.absolute(text)) for text in texts]
    if name == "DEM" and len(found) > 1:
        text = tr("DEM: {} rasters are given, one is wanted: join them (Raster > Miscellaneous > Merge).")
        raise SurroundingsError(text.format(len(found)))
    for source in found:
        _refuse_path(name, source.path)
    return found + [Source(one, one) for one in degrees]


def _separate(values: list[Any]) -> list[Any]:
    """Texts of several quoted paths taken apart, without blanks around them unless these are part of a name."""
    found: list[Any] = []
    for one in values:
        if not isinstance(one, str) or os.path.exists(one):
            found.append(one)
        elif _QUOTED.fullmatch(one):
            found += re.findall(r'"([^"]+)"', one)
        elif one.strip():
            found.append(one.strip())
    return found


def _degrees(value: Any) -> list[str]:
    """Numbers of degrees in place of a path, for the engine; empty if it is something else."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or os.path.exists(str(value)):
        return []
    # "161 = 39.1" is one, "161=39.1 88=35" and "161=39.1, 88=35" are two.
    parts = re.sub(r"\s*([=:])\s*", r"\1", str(value)).replace(",", " ").split()
    return parts if all(map(_DEGREES.fullmatch, parts)) else []


def _refuse_path(name: str, path: str) -> None:
    if not os.path.exists(path):
        if _FOREIGN.match(path) and name in ("WEATHER", "DEM"):
            return  # for the engine's GDAL to open
        more = tr(", or a number of degrees") if name == "ANGLES_S1" else ""
        raise SurroundingsError(
            tr("{0}: there is no {1}; check the path, or choose another file or folder{2}.").format(name, path, more)
        )
    if name == "DEM" and open_raster(path) is None:
        vector = not os.path.isdir(path) and ogr.Open(path) is not None
        raise SurroundingsError(
            tr("DEM: {0} is {1}; choose a raster file with elevations in metres.").format(
                path, tr("no raster but vector data") if vector else tr("no raster that GDAL opens")
            )
        )


def refuse(parameters: dict[str, Any], images: dict[str, list[Source]], card: Card | None) -> None:
    """Compares what is given with what the model wants.

    Args:
        parameters: as of :func:`checks.given`, with choices that are among the possible ones.
        images: of all options, with those of :func:`chosen`.
        card: of the model; None if it is not known here: then the engine says what lacks.

    Raises:
        SurroundingsError: with what lacks or is too much, in one line.
    """
    holes = [name for name in HOLES if _choice(parameters, name) != CHOICES[name][0]]
    there = [name for name, option in SURROUNDINGS.items() if images[option]] + holes
    if card is not None and not card.aux:
        if there:
            text = tr("MODEL {0} sees images alone: leave out {1}, or choose a model of MALICE Aux.")
            raise SurroundingsError(text.format(card.name, ", ".join(there)))
        return
    for option, (name, sensor) in _ANGLES.items():
        if name in there and not images[option]:
            text = tr("{0} belongs to {1} images: give those too, or leave it out.")
            raise SurroundingsError(text.format(name, sensor))
    if card is None:
        return
    lacking = [name for name in ("WEATHER", "DEM") if name not in there]
    if _choice(parameters, "ANGLES") != "median":
        lacking += [name for option, (name, _) in _ANGLES.items() if images[option] and name not in there]
    if lacking:
        cure = tr(" (or set ANGLES to median, for want of angles)") if "ANGLES" in lacking[-1] else ""
        text = tr("MODEL {0} needs {1} besides images: give {2}{3}.")
        raise SurroundingsError(text.format(card.name, besides(), ", ".join(lacking), cure))


def _choice(parameters: dict[str, Any], name: str) -> str:
    value = parameters.get(name)
    return ("" if value is None else str(value).strip()) or CHOICES[name][0]
