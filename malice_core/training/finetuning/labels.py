"""Labels on the pixels of a grid, out of a raster or of polygons; and which classes they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform_geom
from rasterio.windows import Window as RasterWindow

from malice_core.classifier import MAX_CLASSES, Class, colour
from malice_core.errors import InputError
from malice_core.evaluation import rasters
from malice_core.grid import Lattice, Window
from malice_core.training.finetuning import vectors

#: A pixel without a label; no raster of whole numbers that is read here has it.
NONE = np.iinfo(np.int32).min
#: A pixel without a class to learn or to score.
IGNORED = -1
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Labelled:
    """Labels of an area.

    Attributes:
        window: the area, global pixels.
        labels: of every pixel, as they were given, or numbers for texts; :data:`NONE` where there is none.
        names: texts by their number; empty where labels are numbers.
    """

    window: Window
    labels: Labels
    names: Mapping[int, str]


def read(
    path: Path,
    lattice: Lattice,
    extent: Window,
    *,
    band: int = 1,
    field: str | None = None,
    layer: str | None = None,
    ignore: int | None = None,
) -> Labelled:
    """Labels on a grid, as far as there are images.

    Args:
        path: a raster on the pixels of the grid, or polygons (see ``vectors.py``) in any CRS.
        lattice: the grid.
        extent: what the images cover.
        band: of a raster.
        field, layer: of polygons.
        ignore: label that means none, beside a raster's nodata. None: 0 of a raster, none of polygons.

    Raises:
        InputError: if the file cannot be read, does not fit, or there is no label in ``extent``.
    """
    if path.suffix.lower() == ".shp":
        raise InputError(
            f"data.labels={path}: Shapefiles are not read; save it as GeoPackage (ogr2ogr FILE.gpkg {path.name})"
        )
    if vectors.is_vector(path):
        found = _of_polygons(path, lattice, extent, field, layer)
    else:
        if field is not None or layer is not None:
            raise InputError(
                f"data.field and data.layer belong to polygons, {path} is read as a raster: leave them out"
            )
        found = _of_raster(path, lattice, extent, band)
        ignore = 0 if ignore is None else ignore
    if ignore is not None:
        if found.names:
            raise InputError(f"ignore_index={ignore}: the classes of {path} are texts: leave it out")
        found.labels[found.labels == ignore] = NONE
    if not (found.labels != NONE).any():
        raise InputError(f"data.labels={path}: no label where there are images: do they overlap?")
    return found


def _of_raster(path: Path, lattice: Lattice, extent: Window, band: int) -> Labelled:
    place = rasters.place_of(path)
    (width, height), (rows, cols) = place.pixel, place.shape
    if place.crs is None or place.crs != CRS.from_user_input(lattice.crs) or width <= 0 or height >= 0:
        raise InputError(f"data.labels={path} ({place}) is not on the grid of the images: warp it to them, nearest")
    window = lattice.window(place.left, place.top + height * rows, place.left + width * cols, place.top)
    if not lattice.holds(rasterio.Affine(width, 0, place.left, 0, height, place.top)) or window.shape != place.shape:
        raise InputError(f"data.labels={path} ({place}) is not on the pixels of the images: warp it to them, nearest")
    part = window.intersect(extent)
    try:
        with rasterio.open(path) as file:
            if not 1 <= band <= file.count:
                raise InputError(f"data.band={band}: {path} has bands 1 to {file.count}")
            if not np.issubdtype(np.dtype(file.dtypes[band - 1]), np.integer):
                raise InputError(
                    f"data.labels={path}: band {band} is {file.dtypes[band - 1]}, classes are whole numbers"
                )
            inside = RasterWindow(part.col - window.col, part.row - window.row, part.width, part.height)
            values = file.read(band, window=inside) if part.pixels else np.zeros((0, 0), np.int32)
            nodata = file.nodatavals[band - 1]
    except (RasterioError, OSError) as error:
        raise InputError(f"data.labels: cannot read {path}: {error}") from error
    limits = np.iinfo(np.int32)
    known = np.ones(values.shape, np.bool_) if nodata is None else values != nodata
    if known.any() and (values[known].max() > limits.max or values[known].min() <= limits.min):
        raise InputError(f"data.labels={path} has values beyond {limits.min + 1} to {limits.max}: these are no classes")
    return Labelled(part, np.where(known, values, NONE).astype(np.int32), {})


def _of_polygons(path: Path, lattice: Lattice, extent: Window, field: str | None, layer: str | None) -> Labelled:
    given = vectors.read(path, field, layer)
    shapes = [{"type": "MultiPolygon", "coordinates": parts} for parts in given.polygons]
    try:
        moved = transform_geom(CRS.from_user_input(given.crs), lattice.crs, shapes)
    # What PROJ cannot do arrives as an exception of GDAL's without a common base.
    except Exception as error:
        raise InputError(
            f"data.labels: cannot bring {path} from {given.crs:.60} to the images' CRS: {error}"
        ) from error
    names = sorted({value for value in given.values if isinstance(value, str)})
    numbers = {name: number for number, name in enumerate(names, 1)}
    values = [numbers[value] if isinstance(value, str) else value for value in given.values]
    if any(abs(value) >= -int(NONE) for value in values):
        raise InputError(f"data.labels={path} has classes beyond {-int(NONE) - 1}: name them by text")
    points = np.array([p[:2] for shape in moved for part in shape["coordinates"] for ring in part for p in ring])
    if not np.isfinite(points).all():
        raise InputError(
            f"data.labels: polygons of {path} cannot be brought to the images' CRS: is {given.crs:.60} right?"
        )
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    window = lattice.window(float(left), float(bottom), float(right), float(top)).intersect(extent)
    if not window.pixels:
        return Labelled(window, np.zeros((0, 0), np.int32), {})
    # A pixel has the class of the polygon that holds its centre; of several, that of the last.
    drawn = rasterio.features.rasterize(
        list(zip(moved, values, strict=True)),
        out_shape=window.shape,
        fill=int(NONE),
        transform=lattice.transform(window),
        dtype="int32",
    )
    return Labelled(window, drawn, {number: name for name, number in numbers.items()})


@dataclass(frozen=True)
class Legend:
    """The classes of a run.

    Attributes:
        labels: of the classes, as they were given, ascending; a class' index is its place here.
        classes: with the values they have in rasters.
        nodata: the value of no class.
    """

    labels: tuple[int, ...]
    classes: tuple[Class, ...]
    nodata: int

    def index(self, labels: Labels) -> NDArray[np.int16]:
        """Index of the class of every label; :data:`IGNORED` where it has none."""
        known = np.array(self.labels, np.int64)
        place = np.searchsorted(known, labels).clip(max=len(known) - 1)
        return np.where(known[place] == labels, place, IGNORED).astype(np.int16)


def legend(present: Iterable[int], names: Mapping[int, str], colours: Mapping[int, str] | None = None) -> Legend:
    """The classes of the labels that occur in training.

    Labels of 0 to 254 are the values of rasters, too, with nodata 0, or 255 where 0 is a class; others are numbered
    from 1.

    Args:
        present: labels.
        names: by label; others are named by their number.
        colours: by label.

    Raises:
        InputError: if there are fewer than two classes or more than 254.
    """
    labels = tuple(sorted(set(present)))
    if len(labels) < 2:
        raise InputError(f"{len(labels)} classes to train on ({', '.join(map(str, labels)) or 'none'}), two are needed")
    if len(labels) >= MAX_CLASSES:
        raise InputError(f"{len(labels)} classes to train on, a byte holds {MAX_CLASSES - 1}: are these classes?")
    direct = labels[0] >= 0 and labels[-1] <= 255 and {0, 255} - set(labels)
    nodata = 0 if not direct or labels[0] > 0 else 255
    return Legend(
        labels,
        tuple(
            Class(
                label if direct else number,
                names.get(label, f"{label}"),
                (colours or {}).get(label) or colour(number - 1),
            )
            for number, label in enumerate(labels, 1)
        ),
        nodata,
    )


def names_of(given: Any) -> dict[int, str]:
    """The names of classes out of ``class_names``.

    Raises:
        InputError: if it is no table of texts by whole numbers.
    """
    if given is None:
        return {}
    result: dict[int, str] = {}
    for key, name in given.items() if isinstance(given, Mapping) else [(None, None)]:
        if type(key) is not int or not isinstance(name, str | int) or not f"{name}":
            raise InputError(f"class_names={given} must be names by label: 'class_names={{1: wheat, 2: maize}}'")
        result[key] = f"{name}"
    return result
