"""From paths to dated images: which files belong together, and where each band is.

A path is a raster, a folder, a netCDF, a VRT or a text file that lists paths. The result is a list of
:class:`Source`, one for every image; which images make one observation is decided in ``stack.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath

import numpy as np
import rasterio

from malice_core.bands import Sensor
from malice_core.errors import StackError
from malice_core.images.bandnames import band_of, band_of_file, named, without_band
from malice_core.images.dates import Acquisition, from_name, from_product, from_tags, is_offset
from malice_core.images.files import local_files
from malice_core.images.netcdf import grid_of, variables
from malice_core.images.opening import is_remote, open_raster
from malice_core.images.paths import expand
from malice_core.images.reading import Band, Grid, Layer, crs_name
from malice_core.images.together import WAITING, each


@dataclass
class Findings:
    """Rules that were used and doubts, one line each, without repetition."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def add(self, others: Findings) -> None:
        """Takes those of a part of the work."""
        for text in others.notes:
            self.note(text)
        for text in others.warnings:
            self.warn(text)


@dataclass(frozen=True)
class Stored:
    """How the numbers of a band are stored: what decisions about units are taken for.

    Attributes:
        dtype: of the raster.
        scale, offset: GDAL's: physical value = stored * scale + offset.
    """

    dtype: str
    scale: float
    offset: float


@dataclass(frozen=True)
class Piece:
    """One band of one image, as found in one raster."""

    name: str  # of the band
    band: Band
    grid: Grid
    stored: Stored
    acquisition: Acquisition
    key: tuple[object, ...]  # pieces of one image share it
    file: str
    files: tuple[str, ...]
    sigma0: bool = False


@dataclass(frozen=True)
class Source:
    """One image.

    Attributes:
        name: product or file name, by which sources of one date are ordered.
        rasters: what was given or found, for messages: paths, or names GDAL opens.
        files: all local files it depends on, absolute paths, those behind a VRT, masks and .aux.xml included; names
            of rasters that are no local files as they are.
        acquisition: date and what else is known; ``date`` is always set.
        layers: bands by grid, finest first; together all bands of the sensor.
        stored: how its numbers are stored, by position of the band.
        sigma0: names or tags say sigma0.
    """

    name: str
    rasters: tuple[str, ...]
    files: tuple[str, ...]
    acquisition: Acquisition
    layers: tuple[Layer, ...]
    stored: tuple[Stored, ...]
    sigma0: bool = False

    @property
    def grid(self) -> Grid:
        """Pixels of its finest bands."""
        return self.layers[0].grid


def find(paths: Sequence[str | Path], sensor: Sensor, findings: Findings) -> list[Source]:
    """All images of ``sensor`` behind ``paths``, unordered duplicates included.

    Raises:
        StackError: naming the file and what is wrong with it: missing, damaged, without date, band, CRS …
    """
    rasters: dict[str, str] = {}
    for path in paths:
        for raster, root in expand(str(path), sensor):
            rasters.setdefault(raster, root)
    if not rasters:
        raise StackError(f"no path given for {sensor.title}")
    groups: dict[tuple[object, ...], list[Piece]] = {}
    # Opening one takes the interpreter more than the disk: several threads are of use where a server is asked.
    threads = WAITING if any(map(is_remote, rasters)) else 1
    with closing(each(partial(_look, sensor), rasters.items(), threads)) as looked:
        for (raster, root), (pieces, about) in zip(rasters.items(), looked, strict=True):
            findings.add(about)
            if pieces is None:
                findings.note(f"{raster}: left out, it is an embedding (or belongs to one)")
                continue
            if not pieces and raster == root:
                raise StackError(f"{raster}: no band of {sensor.title} ({' '.join(sensor.bands)}) in it")
            if not pieces:
                findings.warn(f"{raster}: left out, no band of {sensor.title} in it")
            for piece in pieces:
                groups.setdefault(piece.key, []).append(piece)
    if not groups:
        raise StackError(f"{paths[0]}: no raster with bands of {sensor.title} ({' '.join(sensor.bands)})")
    return [_source(pieces, sensor) for pieces in groups.values()]


def _look(sensor: Sensor, place: tuple[str, str]) -> tuple[list[Piece] | None, Findings]:
    """What is in one raster, see :func:`_pieces`, and what there is to say of it: several are looked at at once."""
    findings = Findings()
    return _pieces(*place, sensor, findings), findings


def _pieces(raster: str, root: str, sensor: Sensor, findings: Findings) -> list[Piece] | None:
    """What is in one raster; None for an output of ours that lies among the images of a folder."""
    with open_raster(raster) as dataset:
        if raster != root and "MALICE_JOB" in dataset.tags():
            return None
        if dataset.driver == "netCDF":
            return _netcdf_pieces(raster, root, sensor, findings)
        if dataset.count == 0:
            example = f", such as {dataset.subdatasets[0]}" if dataset.subdatasets else ""
            raise StackError(f"{raster}: holds {len(dataset.subdatasets)} rasters; give the one to read{example}")
        return _raster_pieces(dataset, raster, root, sensor, findings)


def _grid_of(dataset: rasterio.DatasetReader, raster: str) -> tuple[Grid, bool]:
    """Pixels of a raster, rows from north to south, and whether they are stored the other way round."""
    if dataset.crs is None:
        raise StackError(f"{raster}: has no coordinate reference system; set it with gdal_edit -a_srs EPSG:…")
    transform = dataset.transform
    if transform.is_identity:
        raise StackError(f"{raster}: has no georeference; orthorectify it (gdalwarp), or set it with gdal_edit -a_ullr")
    flip = transform.e > 0 and transform.b == transform.d == 0
    if flip:
        top = transform.f + transform.e * dataset.height
        transform = type(transform)(transform.a, 0, transform.c, 0, -transform.e, top)
    return Grid(crs_name(dataset.crs.to_wkt()), transform, dataset.height, dataset.width), flip


def _raster_pieces(
    dataset: rasterio.DatasetReader, raster: str, root: str, sensor: Sensor, findings: Findings
) -> list[Piece]:
    stem = PurePath(raster).stem
    tags = dict(dataset.tags())
    for i in dataset.indexes:
        tags.update({f"{key}_{i}": value for key, value in dataset.tags(i).items() if is_offset(key)})
    if "IMAGERY" in dataset.tag_namespaces():
        tags.update(dataset.tags(ns="IMAGERY"))  # GDAL's own keys, such as ACQUISITIONDATETIME
    if any(dtype.startswith("complex") for dtype in dataset.dtypes):
        raise StackError(f"{raster}: holds complex numbers (SLC?); give the terrain-corrected GRD product")
    grid, flip = _grid_of(dataset, raster)
    descriptions, dtypes = list(dataset.descriptions), dataset.dtypes
    nodata, scales, offsets = dataset.nodatavals, dataset.scales, dataset.offsets
    masks = [any(flag.name == "per_dataset" for flag in flags) for flags in dataset.mask_flag_enums]
    names = named(descriptions, sensor)
    if len(names) == 1 and names[0] is None:
        names = [band_of_file(stem, sensor)]
        if names[0]:
            findings.note(f"{sensor.title}: bands by the names of the files")
    elif any(names):
        findings.note(f"{sensor.title}: bands by their descriptions")
    names = _by_order(names, descriptions, raster, sensor, findings)
    acquisition = _acquisition(raster, root, tags, sensor)
    complete = set(sensor.bands) <= set(names)
    if complete:
        key: tuple[object, ...] = (raster,)
    elif acquisition.product:
        key = (acquisition.product, acquisition.baseline)
    else:
        key = (str(PurePath(raster).parent), without_band(stem, sensor))
    files = local_files(raster)
    sigma0 = says_sigma0(stem, *(text or "" for text in descriptions), *tags.values())
    pieces = []
    for i, name in enumerate(names):
        if name in sensor.bands:
            stored = Stored(dtypes[i], float(scales[i]), float(offsets[i]))
            fills, zero = missing_values(sensor, nodata[i], dtypes[i])
            _note_missing(sensor, nodata[i], dtypes[i], findings)
            band = Band(sensor.bands.index(name), raster, i + 1, fills, zero, masks[i], flip=flip)
            pieces.append(Piece(name, band, grid, stored, acquisition, key, raster, files, sigma0))
    _refuse_twins([piece.name for piece in pieces], raster)
    return pieces


def _by_order(
    names: list[str | None], descriptions: Sequence[str | None], raster: str, sensor: Sensor, findings: Findings
) -> list[str | None]:
    """``names``, or the sensor's bands in order where none is named and their number is exactly right."""
    if any(names):
        return names
    if len(names) != len(sensor.bands):
        raise StackError(
            f"{raster}: none of its {len(names)} bands ({_shown(descriptions)}) is named as one of {sensor.title}, and "
            f"only exactly {len(sensor.bands)} can be taken by order; set band descriptions {' '.join(sensor.bands)}"
        )
    findings.note(
        f"{sensor.title}: bands by order ({' '.join(sensor.bands)}), because {PurePath(raster).name} does not name them"
    )
    return list(sensor.bands)


def _shown(names: Sequence[str | None]) -> str:
    shown = [name or "(no name)" for name in names]
    return ", ".join(shown[:12]) + (", …" if len(shown) > 12 else "")


def says_sigma0(*texts: str) -> bool:
    """True if one of ``texts`` (names, tags) speaks of sigma nought."""
    return any(re.search(r"(?i)sigma[ _-]?(?:0|nou?ght|naught)", text) for text in texts)


def _refuse_twins(names: Sequence[str], raster: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise StackError(f"{raster}: {names.count(name)} bands are called {name}; keep one, or rename the others")


#: Values of Sentinel-2 that mean "missing" without being declared, by type of the stored numbers, and why.
#: In int16 with another declared value -1 is a reflectance: rasters without the offset have negative ones.
_UNDECLARED = {
    "uint16": {65535.0: "65535 taken as missing (openEO's nodata, ESA's saturation)"},
    "int16": {-1.0: "65535, read as -1 in int16, taken as missing"},
}


def _note_missing(sensor: Sensor, declared: float | None, dtype: str, findings: Findings) -> None:
    """Says which values were taken as missing though the file does not declare them."""
    for value in missing_values(sensor, declared, dtype)[0]:
        if value != declared and value in _UNDECLARED.get(dtype, {}):
            findings.note(f"{sensor.title}: {_UNDECLARED[dtype][value]}")


def missing_values(sensor: Sensor, declared: float | None, dtype: str) -> tuple[tuple[float, ...], bool]:
    """(values that mean "missing" in any band, whether 0 in all bands does), see :class:`Band`."""
    fills = set()
    kind = np.dtype(dtype)
    whole = kind.kind in "iu"
    if declared and np.isfinite(declared):  # 0 is dealt with below
        low, high = (np.iinfo(kind).min, np.iinfo(kind).max) if whole else (-np.inf, np.inf)
        if low <= declared <= high and not (whole and declared % 1):
            fills.add(float(declared))
    if sensor.key == "s2":
        fills |= {value for value in _UNDECLARED.get(dtype, {}) if dtype == "uint16" or declared in (None, 65535)}
    # NaN is missing whether declared or not; where it is declared, a zero is a value, except in backscatter.
    zero = declared is None or declared == 0 or sensor.key != "s2"
    return tuple(sorted(fills)), zero


def _acquisition(raster: str, root: str, tags: dict[str, str], sensor: Sensor) -> Acquisition:
    """Date and what else is known of a raster; names before tags, inner names before outer.

    Raises:
        StackError: if no date is found, or two.
    """
    path = PurePath(raster)
    parts = [re.sub(r"[\"']", "", path.name), *reversed(path.parent.parts)]
    found = from_name(PurePath(parts[0]).stem if "." in parts[0] else parts[0], raster)
    depth = len(path.parts) - len(PurePath(root).parts) if raster != root else 0
    for i, part in enumerate(parts[1:7], 1):  # a SAFE folder has its images five folders down
        known = from_product(part)
        if known and (found.date is None or known.date == found.date):
            found = found.filled_by(known)
        elif found.date is None and i < depth:
            # Folders the user did not name himself, such as one per date.
            found = found.filled_by(from_name(part, raster))
    found = found.filled_by(from_tags(tags))
    if found.date is None and path.parent.name and band_of_file(path.stem, sensor):
        found = found.filled_by(from_name(path.parent.name, raster))
    if found.date is None:
        raise StackError(
            f"{raster}: no date in its name or tags; rename it (for example …_20180511.tif) or set the tag "
            "TIFFTAG_DATETIME"
        )
    return found


def _netcdf_pieces(raster: str, root: str, sensor: Sensor, findings: Findings) -> list[Piece]:
    pieces: list[Piece] = []
    tags: dict[str, str] = {}
    found, files = variables(raster), local_files(raster)
    for variable in found:
        names: list[str | None]
        if variable.band_names is not None:
            labels: tuple[str, ...] = variable.band_names
            names = named(labels, sensor)
        else:
            labels = (variable.name,)
            names = [band_of(variable.name, sensor) or band_of(variable.long_name, sensor)]
        if len(found) == 1 and len(names) == len(sensor.bands):
            names = _by_order(names, labels, raster, sensor, findings)
        if not set(names) & set(sensor.bands):
            continue
        with open_raster(variable.path) as dataset:
            tags = dataset.tags()
            dtype = dataset.dtypes[0]
            stored = Stored(dtype, float(dataset.scales[0]), float(dataset.offsets[0]))
        fills, zero = missing_values(sensor, variable.declared, dtype)
        fills = tuple(sorted({*fills, *missing_values(sensor, variable.default, dtype)[0]}))
        grid, flip = grid_of(variable.path)
        bounds = tuple(round(value) for value in grid.bounds())
        sigma0 = says_sigma0(variable.name, variable.long_name)
        general = from_tags(tags)
        for i, plane in enumerate(variable.planes):
            name = names[i % len(names)]
            if name not in sensor.bands:
                continue
            if plane.time is None:
                acquisition, key_time = _acquisition(raster, root, tags, sensor), ""
            else:
                acquisition = replace(general, date=plane.time.date(), rule="time axes", product="")
                key_time = plane.time.isoformat()
            _note_missing(sensor, variable.declared, dtype, findings)
            band = Band(sensor.bands.index(name), plane.path, plane.index, fills, zero, flip=flip)
            key = (key_time or str(acquisition.date), bounds)
            pieces.append(Piece(name, band, grid, stored, acquisition, key, raster, files, sigma0))
    if not pieces and raster == root:
        shown = _shown([v.name if v.band_names is None else f"{v.name}[{' '.join(v.band_names)}]" for v in found])
        raise StackError(f"{raster}: no band of {sensor.title} ({' '.join(sensor.bands)}) among its variables {shown}")
    if pieces:
        findings.note(f"{sensor.title}: bands by the names of netCDF variables or band dimensions")
    if {piece.name for piece in pieces} == set(sensor.bands):
        pieces = [replace(piece, key=(raster, *piece.key)) for piece in pieces]
    return pieces


def _source(pieces: list[Piece], sensor: Sensor) -> Source:
    """Makes one image of its pieces: the finest of each band, grouped by grid.

    Raises:
        StackError: naming the bands that are missing.
    """
    best: dict[str, Piece] = {}
    for piece in sorted(pieces, key=lambda p: (p.grid.res, p.file, p.band.index)):
        best.setdefault(piece.name, piece)
    first = pieces[0]
    missing = [name for name in sensor.bands if name not in best]
    if missing:
        raise StackError(
            f"{first.file}: {sensor.title} of {first.acquisition.date} has no band {', '.join(missing)}; found "
            f"{', '.join(sorted(best))}; all of {' '.join(sensor.bands)} are needed"
        )
    chosen = [best[name] for name in sensor.bands]
    layers: list[list[Piece]] = []
    for piece in sorted(chosen, key=lambda p: (p.grid.res, p.band.position)):
        for layer in layers:
            same = layer[0].grid
            if same.shift(piece.grid) == (0, 0) and (same.height, same.width) == (piece.grid.height, piece.grid.width):
                layer.append(piece)
                break
        else:
            layers.append([piece])
    acquisition = first.acquisition
    for piece in pieces[1:]:
        acquisition = acquisition.filled_by(piece.acquisition)
    rasters = tuple(dict.fromkeys(piece.file for piece in chosen))
    return Source(
        name=acquisition.product or PurePath(rasters[0]).name,
        rasters=rasters,
        files=tuple(sorted({file for piece in chosen for file in piece.files})),
        acquisition=acquisition,
        layers=tuple(Layer(layer[0].grid, tuple(piece.band for piece in layer)) for layer in layers),
        stored=tuple(piece.stored for piece in chosen),
        sigma0=any(piece.sigma0 for piece in chosen),
    )
