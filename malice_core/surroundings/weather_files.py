"""From paths to the weather's files: folders are searched, and each raster or table tells its variables and days.

Layouts: one raster a day with the variables as bands; one file a variable and day, as the Copernicus store delivers;
netCDF with a time axis; tables (``weather_tables.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path, PurePath

import numpy as np
import rasterio
from affine import Affine
from rasterio.errors import RasterioError

from malice_core.errors import InputError, StackError
from malice_core.images.dates import from_tags
from malice_core.images.netcdf import Variable as Cube
from malice_core.images.netcdf import grid_of, variables
from malice_core.images.opening import open_raster
from malice_core.images.paths import LIST_SUFFIXES, SUFFIXES, is_gdal_name
from malice_core.images.reading import Band, Grid, crs_name
from malice_core.images.sources import Findings
from malice_core.job import SCRATCH_SUFFIX
from malice_core.surroundings.agera5 import VARIABLES, WANTED, Variable, variable_of, variable_of_file

TABLE_SUFFIXES = (".csv", ".tsv")

#: AgERA5's pixels in degrees, where a cut-out of one pixel does not tell.
_AGERA5_STEP = 0.1


@dataclass(frozen=True)
class Entry:
    """One variable of one day.

    Attributes:
        file: where it is from, for messages.
        value: that holds for the whole area (a table's), in the file's unit; None for a raster.
        band: of a raster; ``gain`` and ``bias`` are the file's scale and offset.
        grid: the raster's pixels; None where its one pixel holds for the whole area.
        unit: as declared, "" without.
    """

    file: str
    value: float | None = None
    band: Band | None = None
    grid: Grid | None = None
    unit: str = ""


def expand(path: str) -> list[tuple[str, bool]]:
    """(file, whether the user named it himself) for all files behind one path, in order of name.

    Raises:
        InputError: if there is no such path, or nothing in it.
    """
    local = Path(path)
    if not local.exists():
        if path.startswith("/vsi") or is_gdal_name(path):
            return [(path, True)]
        raise InputError(
            f"{path}: no such file or folder; check the path, put it in quotes if it has spaces, or give the folder "
            "with the weather"
        )
    if local.is_dir():
        return [(str(file), False) for file in _in_folder(local)]
    if local.suffix.lower() not in LIST_SUFFIXES:
        return [(path, True)]
    try:
        lines = local.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of paths: {error}") from error
    found: list[tuple[str, bool]] = []
    for line in (line.strip().strip('"') for line in lines):
        if line and not line.startswith("#"):
            entry = line if is_gdal_name(line) else str(local.parent / Path(line).expanduser())
            if Path(entry).resolve() == local.resolve():
                raise InputError(f"{path}: lists itself; write one raster, table or folder a line")
            found += expand(entry)
    if not found:
        raise InputError(f"{path}: lists no path; write one raster, table or folder a line")
    return found


def _in_folder(folder: Path) -> list[Path]:
    """Rasters of a folder, else its tables, else the same of the folders below it."""

    def hidden(path: Path) -> bool:
        return any(p.startswith(".") or p.endswith(SCRATCH_SUFFIX) for p in path.relative_to(folder).parts)

    for files in (list(folder.iterdir()), list(folder.rglob("*"))):
        for suffixes in (SUFFIXES, TABLE_SUFFIXES):
            found = sorted(p for p in files if p.suffix.lower() in suffixes and not hidden(p) and p.is_file())
            if found:
                return found
    raise InputError(
        f"{folder}: no raster and no table ({' '.join((*SUFFIXES, *TABLE_SUFFIXES))}) in this folder; give the folder "
        "with the weather"
    )


_DAY = re.compile(r"(?<!\d)((?:19|20)\d{2})([-_.]?)(\d{2})\2(\d{2})(?!\d)")


def day_of(text: str, file: str) -> date | None:
    """The day written in ``text`` (YYYYMMDD or YYYY-MM-DD), None without one.

    Raises:
        InputError: if there are two different ones.
    """
    days = set()
    for year, _, month, day in _DAY.findall(text):
        try:
            days.add(date(int(year), int(month), int(day)))
        except ValueError:
            continue  # eight digits that are no date
    if len(days) > 1:
        shown = " and ".join(map(str, sorted(days)))
        raise InputError(f"{file}: two dates in its name, {shown}; rename it so that only its day is in the name")
    return days.pop() if days else None


@dataclass(frozen=True)
class Found:
    """What one raster file holds.

    Attributes:
        layout: for people.
        entries: by (day, key).
        names: of everything in it, for messages.
    """

    layout: str
    entries: tuple[tuple[date, str, Entry], ...]
    names: tuple[str, ...]


def read_header(file: str, findings: Findings) -> Found:
    """Variables, days and pixels of one raster; no values are read.

    Raises:
        InputError: if it cannot be opened, or tells no day or no place.
    """
    with open_raster(file) as dataset:
        if dataset.driver != "netCDF":
            return _of_raster(dataset, file)
    return _of_netcdf(file, findings)


def _fills(declared: float | None, dtype: str, variable: Variable) -> tuple[float, ...]:
    """Stored values that mean "no data"."""
    found = {65535.0} if dtype == "uint16" else set()  # openEO's, often undeclared
    if declared is not None and np.isfinite(declared) and not (declared == 0 and variable.zero):
        kind = np.dtype(dtype)
        if kind.kind == "f" or np.iinfo(kind).min <= declared <= np.iinfo(kind).max:
            found.add(float(declared))
    return tuple(sorted(found))


def _of_raster(dataset: rasterio.DatasetReader, file: str) -> Found:
    if dataset.count == 0:
        example = f", such as {dataset.subdatasets[0]}" if dataset.subdatasets else ""
        raise InputError(f"{file}: holds {len(dataset.subdatasets)} rasters; give the one to read{example}")
    stem = PurePath(file).stem
    names = [text or "" for text in dataset.descriptions]
    known = [variable_of(name) for name in names]
    if dataset.count == 1 and known[0] is None:
        names, known = [stem], [variable_of_file(stem)]
    if not any(known):
        if not any(names):
            raise InputError(
                f"{file}: none of its {dataset.count} bands has a name; set band descriptions, such as {WANTED}"
            )
        return Found("", (), tuple(names))
    day = day_of(stem, file) or from_tags(dataset.tags()).date
    if day is None:
        raise InputError(
            f"{file}: no date in its name or tags; rename it (for example …_20180511.tif) or set the tag "
            "TIFFTAG_DATETIME"
        )
    grid, flip = _grid(dataset, file)
    masks = [any(flag.name == "per_dataset" for flag in flags) for flags in dataset.mask_flag_enums]
    entries = []
    for i, variable in enumerate(known):
        if variable is None:
            continue
        fills = _fills(dataset.nodatavals[i], dataset.dtypes[i], variable)
        scale, offset = float(dataset.scales[i]), float(dataset.offsets[i])
        band = Band(0, file, i + 1, fills, False, masks[i], scale, offset, flip)
        entries.append((day, variable.key, Entry(file, None, band, grid, dataset.units[i] or "")))
    layout = "one raster a day and variable" if len(entries) == 1 else "one raster a day, variables as bands"
    return Found(layout, tuple(entries), tuple(names))


def _grid(dataset: rasterio.DatasetReader, file: str) -> tuple[Grid, bool]:
    if dataset.crs is None or dataset.transform.is_identity:
        raise InputError(
            f"{file}: does not say where it lies (no {'CRS' if dataset.crs is None else 'georeference'}); set it with "
            "gdal_edit -a_srs EPSG:4326 -a_ullr …"
        )
    transform = dataset.transform
    flip = transform.e > 0 and transform.b == transform.d == 0
    if flip:
        top = transform.f + transform.e * dataset.height
        transform = Affine(transform.a, 0, transform.c, 0, -transform.e, top)
    return Grid(crs_name(dataset.crs.to_wkt()), transform, dataset.height, dataset.width), flip


def _of_netcdf(file: str, findings: Findings) -> Found:
    entries: list[tuple[date, str, Entry]] = []
    names: list[str] = []
    times: set[datetime | None] = set()
    keys: set[str] = set()
    found = variables(file)
    for cube in found:
        labels = cube.band_names if cube.band_names is not None else (cube.name,)
        known = [variable_of(label) for label in labels]
        if cube.band_names is None and known[0] is None:
            known = [variable_of(cube.long_name)]
            if known[0] is None and len(found) == 1:
                known = [variable_of_file(PurePath(file).stem)]
        names += labels
        if any(known):
            grid, flip = _place(cube, file, findings)
            entries += _planes(cube, known, grid, flip, file)
            times |= {plane.time for plane in cube.planes}
            keys |= {variable.key for variable in known if variable}
    if len(times) > 1:
        layout = "netCDF with a time axis"
    else:
        layout = "one netCDF a day and variable" if len(keys) == 1 else "one netCDF a day"
    return Found(layout, tuple(entries), tuple(names))


def _planes(
    cube: Cube, known: Sequence[Variable | None], grid: Grid | None, flip: bool, file: str
) -> Iterator[tuple[date, str, Entry]]:
    with open_raster(cube.path) as dataset:
        dtype, units = dataset.dtypes[0], dataset.units[0] or ""
        scales, offsets = dataset.scales, dataset.offsets
    for i, plane in enumerate(cube.planes):
        variable = known[i % len(known)]
        if variable is None:
            continue
        day = plane.time.date() if plane.time else day_of(PurePath(file).stem, file)
        if day is None:
            raise InputError(
                f"{file}: no time axis, and no date in its name; rename it (for example …_20180511.nc), or write a "
                "time axis with units such as 'days since 1990-01-01'"
            )
        fills = {*_fills(cube.declared, dtype, variable), *_fills(cube.default, dtype, variable)}
        scale, offset = float(scales[plane.index - 1]), float(offsets[plane.index - 1])
        band = Band(0, plane.path, plane.index, tuple(sorted(fills)), False, False, scale, offset, flip)
        yield day, variable.key, Entry(file, None, band, grid, units)


_LATITUDES, _LONGITUDES = ("lat", "latitude"), ("lon", "longitude")


def _place(cube: Cube, file: str, findings: Findings) -> tuple[Grid | None, bool]:
    """Pixels of a netCDF variable, and whether its rows come from south to north.

    AgERA5's own files have latitudes and longitudes but no CRS, and a cut-out for a small area may have a single row
    or column, from which GDAL makes no georeference.
    """
    with open_raster(cube.path) as dataset:
        crs, transform = dataset.crs, dataset.transform
        height, width = dataset.height, dataset.width
    lat, lon = _axis(file, _LATITUDES, height), _axis(file, _LONGITUDES, width)
    if lat is None or lon is None:
        if transform.is_identity and height == width == 1:
            findings.warn(
                f"{file}: has one pixel and does not say where; it is taken to hold for the whole area: check that it "
                "does"
            )
            return None, False
        return grid_of(cube.path)
    steps = [(axis[-1] - axis[0]) / (len(axis) - 1) for axis in (lon, lat) if len(axis) > 1]
    for axis in (lat, lon):
        if len(axis) > 2 and np.ptp(np.diff(axis)) > 2e-3 * abs(steps[0]):
            raise InputError(f"{file}: its latitudes or longitudes are not evenly spaced; resample it with gdalwarp")
    if lon[0] > lon[-1]:
        raise InputError(f"{file}: its longitudes run from east to west; turn it round with gdalwarp")
    if not steps:
        findings.note(
            f"weather: {PurePath(file).name} has one pixel, taken as {_AGERA5_STEP} degrees wide, as AgERA5's"
        )
    right = abs(steps[0]) if steps else _AGERA5_STEP
    down = abs(steps[-1]) if steps else _AGERA5_STEP
    name = crs_name(crs.to_wkt()) if crs else "EPSG:4326"
    if crs and not crs.is_geographic:
        return grid_of(cube.path)
    # GDAL delivers rows from north to south where it knows the axes; where not, it turns them over, whatever they are.
    flip = bool(transform.is_identity and lat[0] > lat[-1])
    return Grid(name, Affine(right, 0, min(lon) - right / 2, 0, -down, max(lat) + down / 2), height, width), flip


def _axis(file: str, names: Sequence[str], size: int) -> np.ndarray | None:
    """Coordinates in the variable of ``file`` that has one of ``names``, None without."""
    for name in names:
        try:
            with open_raster(f'netcdf:"{file}":{name}') as dataset:
                values = dataset.read(1).ravel().astype(np.float64)
        except (StackError, RasterioError):
            continue
        if len(values) == size:
            return np.asarray(values)
    return None


def missing_variables(keys: set[str], names: Sequence[str], where: str) -> None:
    """Refuses files that lack one of the eight variables.

    Raises:
        InputError: naming those that lack, and what was found.
    """
    lacking = [variable for variable in VARIABLES if variable.key not in keys]
    if lacking:
        shown = ", ".join(dict.fromkeys(name for name in names if name)) or "nothing with a name"
        raise InputError(
            f"weather: no {', '.join(variable.title for variable in lacking)} in {where}; found: {shown:.300}; wanted, "
            f"by name: {', '.join(variable.names[0] for variable in lacking)}"
        )
