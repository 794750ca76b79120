"""netCDF cubes as openEO, xarray and Earth Engine exports write them, read through GDAL.

A cube has the dimensions t, y, x (one variable per band) or t, bands, y, x. GDAL shows every (t, band) as one
band of a raster and puts names, time axis and attributes into tags. Two things GDAL gets wrong are mended here:
axes called x and y without CF attributes (no georeference, rows turned over), and fill values it makes up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import RasterioError

from malice_core.errors import StackError
from malice_core.images.dates import from_time_axis
from malice_core.images.opening import open_raster
from malice_core.images.reading import Grid, crs_name

#: Names of dimensions that hold bands; any other one besides time must have length 1.
_BAND_DIMENSIONS = ("bands", "band", "spectral", "variable", "polarization", "polarisation")


@dataclass(frozen=True)
class Plane:
    """One (time, band) of a variable: band ``index`` of the raster ``path``."""

    path: str
    index: int
    name: str | None
    time: datetime | None


@dataclass(frozen=True)
class Variable:
    """A data variable of a cube.

    Attributes:
        name: of the variable.
        long_name: attribute, or "".
        path: what rasterio opens.
        planes: by time, then band.
        band_names: of the band dimension, None without one; "" where GDAL does not show them.
        declared: fill value declared in the file, None if there is none.
        default: netCDF's own fill value where none is declared, None if it cannot be told.
    """

    name: str
    long_name: str
    path: str
    planes: tuple[Plane, ...]
    band_names: tuple[str, ...] | None
    declared: float | None
    default: float | None


def variables(path: str) -> list[Variable]:
    """The data variables with two horizontal dimensions in the netCDF file (or variable) ``path``.

    Raises:
        StackError: if the file or a time axis cannot be read.
    """
    with open_raster(path) as dataset:
        names = [str(name) for name in dataset.subdatasets]
    found = []
    for name in names or [path]:
        with open_raster(name) as dataset:
            # Bounds of the axes and names of bands appear as variables too; they have no CRS, or one row.
            tags = dataset.tags()
            if dataset.count and (not names or _is_image(dataset, tags)):
                found.append(_variable(name, dataset, tags))
    return found


def _is_image(dataset: rasterio.DatasetReader, tags: dict[str, str]) -> bool:
    variable = dataset.tags(1).get("NETCDF_VARNAME", "")
    mapped = any(tags.get(f"{variable}#{key}") for key in ("grid_mapping", "crs"))
    extra = tags.get("NETCDF_DIM_EXTRA") is not None
    return bool(dataset.crs) or mapped or extra


def _variable(path: str, dataset: rasterio.DatasetReader, tags: dict[str, str]) -> Variable:
    own = dataset.tags(1)
    name = own.get("NETCDF_VARNAME", path.rsplit(":", 1)[-1])
    dimensions = _listed(tags.get("NETCDF_DIM_EXTRA", ""))
    told = [_listed(tags.get(f"NETCDF_DIM_{d}_DEF", "")) for d in dimensions]
    sizes = [int(size[0]) if size else 0 for size in told]
    if sizes.count(0) == 1:  # GDAL tells nothing of an axis whose labels are characters
        sizes[sizes.index(0)] = dataset.count // int(np.prod([size for size in sizes if size], dtype=int))
    if int(np.prod(sizes, dtype=int)) != dataset.count:
        raise StackError(f"{path}: {dataset.count} planes do not fit its dimensions {dimensions} of {sizes}")
    times: list[datetime | None] = [None]
    bands: tuple[str, ...] | None = None
    order: list[int] = []
    for dimension, size in zip(dimensions, sizes, strict=True):
        units = tags.get(f"{dimension}#units", "")
        if " since " in units:
            values = _axis(path, dimension, size, tags)
            times = list(from_time_axis(values, units, tags.get(f"{dimension}#calendar", ""), path))
            order.append(0)
        elif dimension.lower() in _BAND_DIMENSIONS:
            shown = _listed(tags.get(f"NETCDF_DIM_{dimension}_VALUES", ""))
            bands = tuple(shown) if len(shown) == size else ("",) * size
            order.append(1)
        elif size != 1:
            raise StackError(
                f"{path}: the dimension '{dimension}' of {size} is neither a time axis (units '… since …') nor bands"
            )
    names: tuple[str | None, ...] = bands if bands is not None else (None,)
    planes = []
    for t, time in enumerate(times):
        for b, band in enumerate(names):
            index = b * len(times) + t if order == [1, 0] else t * len(names) + b
            planes.append(Plane(path, index + 1, band, time))
    # Of unsigned types without a declared fill value GDAL reports a wrong default.
    declared = any(key in own for key in ("_FillValue", "missing_value"))
    default = not declared and not dataset.dtypes[0].startswith("u")
    nodata = dataset.nodatavals[0]
    return Variable(
        name,
        own.get("long_name", ""),
        path,
        tuple(planes),
        bands,
        nodata if declared else None,
        nodata if default else None,
    )


def _listed(text: str) -> list[str]:
    """``{a,b}`` or ``a`` as a list."""
    text = text.strip().removeprefix("{").removesuffix("}")
    return [part.strip() for part in text.split(",")] if text else []


def _axis(path: str, name: str, size: int, tags: dict[str, str]) -> list[float]:
    """Coordinates along a dimension: from GDAL's tags, else from the variable of that name."""
    shown = _listed(tags.get(f"NETCDF_DIM_{name}_VALUES", ""))
    if len(shown) == size:
        try:
            return [float(value) for value in shown]
        except ValueError as error:
            raise StackError(f"{path}: the axis '{name}' holds no numbers: {error}") from error
    values = _coordinates(path, name)
    if values is None or len(values) != size:
        raise StackError(f"{path}: the axis '{name}' of {size} cannot be read; write it as a coordinate variable")
    return values


def _coordinates(path: str, name: str) -> list[float] | None:
    """The one-dimensional variable ``name`` of the file that ``path`` (a file or one variable) lies in."""
    file = path
    if path.lower().startswith("netcdf:"):
        file = path[len("netcdf:") :]
        # The variable's name follows the last colon, unless that colon belongs to a Windows drive.
        head, _, tail = file.rpartition(":")
        file = (head if head and "/" not in tail and "\\" not in tail else file).strip('"')
    try:
        with open_raster(f'netcdf:"{file}":{name}') as dataset:
            values = dataset.read(1).ravel()
    except (StackError, RasterioError):
        return None
    return [float(value) for value in values]


def grid_of(path: str) -> tuple[Grid, bool]:
    """Pixels of the variable ``path``, and whether GDAL delivers its rows from south to north.

    Raises:
        StackError: if it has no CRS, or no evenly spaced axes.
    """
    with open_raster(path) as dataset:
        return _grid(path, dataset, dataset.tags())


def _grid(path: str, dataset: rasterio.DatasetReader, tags: dict[str, str]) -> tuple[Grid, bool]:
    crs = dataset.crs.to_wkt() if dataset.crs else _crs_of_tags(tags)
    if not crs:
        raise StackError(f"{path}: no CRS (no grid_mapping, crs or spatial_ref); write one, or convert with gdalwarp")
    transform, height, width = dataset.transform, dataset.height, dataset.width
    flip = transform.e > 0 and transform.b == transform.d == 0
    if transform == Affine.identity():
        xs, ys = _coordinates(path, "x"), _coordinates(path, "y")
        if xs is None or ys is None or len(xs) != width or len(ys) != height or min(width, height) < 2:
            raise StackError(f"{path}: no georeference: axes x and y of {width} and {height} coordinates are wanted")
        step_x, step_y = (xs[-1] - xs[0]) / (width - 1), (ys[-1] - ys[0]) / (height - 1)
        for axis, step in ((xs, step_x), (ys, step_y)):
            if step == 0 or np.abs(np.diff(axis) - step).max() > 1e-3 * abs(step):
                raise StackError(f"{path}: its axes are not evenly spaced; resample it with gdalwarp")
        # GDAL takes rows of unknown direction as running north and turns them over.
        flip = step_y < 0
        transform = Affine(step_x, 0, xs[0] - step_x / 2, 0, -abs(step_y), max(ys) + abs(step_y) / 2)
    elif flip:
        top = transform.f + transform.e * height
        transform = Affine(transform.a, 0, transform.c, 0, -transform.e, top)
    return Grid(crs_name(crs), transform, height, width), flip


def _crs_of_tags(tags: dict[str, str]) -> str | None:
    for ending in ("#crs_wkt", "#spatial_ref", "#crs", "#epsg", "#proj4_params", "#proj4"):
        for key, value in tags.items():
            if key.endswith(ending) and len(value) > 3:
                text = value.removeprefix("+init=").strip()
                return f"EPSG:{text}" if text.isdigit() else text
    return None
