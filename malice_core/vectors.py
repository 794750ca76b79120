"""Points and polygons with their attributes out of GeoJSON and GeoPackage files.

Both are read with Python's own libraries: a GeoPackage is an SQLite database of well-known binary geometries (OGC
12-128r18), and a third copy of GDAL beside rasterio's, as vector packages bring it, is one too many in a process.
"""

from __future__ import annotations

import json
import math
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rasterio.crs import CRS
from rasterio.warp import transform_geom

from malice_core.classifier import one_line
from malice_core.errors import InputError

#: x and y, in the order of GIS files: east, then north.
Point = tuple[float, float]
#: A ring: points. A polygon: its outer ring, then its holes.
Polygon = list[list[Point]]
SUFFIXES = (".geojson", ".json", ".gpkg")
#: Rings and points that one geometry may announce: more than any file has.
_MOST = 1 << 24
#: Coordinates are below: metres, feet or degrees of any CRS of the Earth.
_FAR = 1e9
#: Numbers that are learnt may be as large: what is predicted, as float32, may be larger.
_LARGEST = 1e30


@dataclass(frozen=True)
class Options:
    """How a command calls what it was given, for messages.

    Attributes:
        file: the option of the file.
        field: before the name of a field.
        layer: before the name of a layer.
    """

    file: str = "--labels"
    field: str = "--field "
    layer: str = "FILE.gpkg|layername="


@dataclass(frozen=True)
class Feature:
    """One row of a file.

    Attributes:
        polygons: of its geometry, one or several; none of points, or where it has no geometry.
        points: likewise.
        attributes: by field: whole or other number, text, None, and what else JSON has.
    """

    polygons: list[Polygon]
    points: list[Point]
    attributes: dict[str, Any]

    @property
    def empty(self) -> bool:
        """True without a geometry."""
        return not self.polygons and not self.points


@dataclass(frozen=True)
class Layer:
    """The features of a file, in its order.

    Attributes:
        path: the file.
        crs: as rasterio takes it.
        features: all of them, also those without a geometry.
    """

    path: Path
    crs: str
    features: list[Feature]

    @property
    def fields(self) -> list[str]:
        """Names of attributes, as they come up."""
        return list(dict.fromkeys(name for one in self.features for name in one.attributes))

    def moved(self, crs: Any, options: Options | None = None) -> Layer:
        """The same features in another CRS.

        Args:
            crs: as rasterio takes it.
            options: for messages.

        Raises:
            InputError: if that cannot be done.
        """
        what = (options or Options()).file
        shapes = [
            shape
            for one in self.features
            for shape in (
                *({"type": "Polygon", "coordinates": polygon} for polygon in one.polygons),
                *({"type": "Point", "coordinates": point} for point in one.points),
            )
        ]
        try:
            moved = iter(transform_geom(CRS.from_user_input(self.crs), crs, shapes))
        # What PROJ cannot do arrives as an exception of GDAL's without a common base.
        except Exception as error:
            raise InputError(
                f"{what}: cannot bring {self.path} from {self.crs:.60} to the images' CRS: {error}"
            ) from error
        features = []
        for one in self.features:
            polygons = [
                [[(float(p[0]), float(p[1])) for p in ring] for ring in next(moved)["coordinates"]]
                for _ in one.polygons
            ]
            places = [next(moved)["coordinates"] for _ in one.points]
            points = [(float(p[0]), float(p[1])) for p in places]
            corners = [point for polygon in polygons for ring in polygon for point in ring]
            # Nothing on Earth is farther off; and pixels so far away are beyond whole numbers. NaN is not below, too.
            if not all(abs(x) < _FAR and abs(y) < _FAR for x, y in (*corners, *points)):
                raise InputError(
                    f"{what}: features of {self.path} cannot be brought to the images' CRS: is {self.crs:.60} right?"
                )
            features.append(replace(one, polygons=polygons, points=points))
        return replace(self, crs=f"{crs}", features=features)


def is_vector(path: Path) -> bool:
    """Whether a file is read as points and polygons."""
    return path.suffix.lower() in SUFFIXES


def source(text: str) -> tuple[Path, str | None]:
    """File and layer of ``FILE.gpkg|layername=NAME``, as QGIS writes it; layer None of a name alone.

    Raises:
        InputError: if there is more behind the name.
    """
    name, *more = text.split("|")
    if not more or Path(text).exists():
        return Path(text), None
    if len(more) > 1 or not more[0].startswith("layername="):
        raise InputError(f"{text}: give a file, or FILE.gpkg|layername=NAME")
    return Path(name), more[0].removeprefix("layername=")


def read(path: Path, layer: str | None = None, options: Options | None = None) -> Layer:
    """Reads the features of a file.

    Args:
        path: GeoJSON or GeoPackage.
        layer: of a GeoPackage; None: the only one there is.
        options: for messages.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    options = options or Options()
    if path.suffix.lower() == ".shp":
        raise InputError(
            f"{options.file}={path}: Shapefiles are not read; save it as GeoPackage (ogr2ogr FILE.gpkg {path.name})"
        )
    if not is_vector(path):
        raise InputError(f"{options.file}: {path} is no file of points or polygons: give {', '.join(SUFFIXES)}")
    try:
        crs, rows = _geopackage(path, layer, options) if path.suffix.lower() == ".gpkg" else _geojson(path)
        return Layer(path, crs, list(rows))
    except (OSError, ValueError, sqlite3.Error, struct.error, RecursionError) as error:
        raise InputError(f"{options.file}: cannot read {path}: {error}") from error


def chosen(layer: Layer, field: str | None, options: Options | None = None) -> str:
    """The name of the field that is meant; None: the only one there is.

    Raises:
        InputError: if there is no such field, or several and none is named.
    """
    options = options or Options()
    names, path = layer.fields, layer.path
    if field is None:
        if len(names) != 1:
            raise InputError(
                f"{options.file}: {path} has fields {', '.join(names) or 'none'}: name one, {options.field}NAME"
            )
        field = names[0]
    if field not in names and not layer.features:
        raise InputError(f"{options.file}: {path} has no points or polygons at all: is it the right file, and layer?")
    if field not in names:
        raise InputError(f"{options.field}{field}: {path} has no such field, it has {', '.join(names) or 'none'}")
    return field


def classes(layer: Layer, field: str, options: Options | None = None) -> list[int | str | None]:
    """The class of each feature: whole number, or text of one line without blanks around it.

    None where there is no value (none, or an empty text) or no geometry. Numbers beside texts are texts.

    Raises:
        InputError: if a value is no class.
    """
    options = options or Options()
    values: list[int | str | None] = []
    for one in layer.features:
        value = one.attributes.get(field)
        if isinstance(value, str):
            # Typed by hand: "wheat " is wheat, and blanks are nothing.
            value = one_line(value) or None
        if value is None or one.empty:
            values.append(None)
        elif isinstance(value, str):
            values.append(value)
        # A whole number of JSON may be larger than any float.
        elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
            values.append(int(value))
        else:
            raise InputError(
                f"{options.field}{field}: {layer.path} holds {value!r:.60}, classes are whole numbers or texts"
            )
    if len({type(value) for value in values if value is not None}) > 1:
        return [None if value is None else f"{value}" for value in values]
    return values


def numbers(layer: Layer, field: str, options: Options | None = None) -> list[float | None]:
    """The number of each feature; None where there is none (also NaN, or an empty text) or no geometry.

    Raises:
        InputError: if a value is no number, nor a text that is one.
    """
    options = options or Options()
    values: list[float | None] = []
    for one in layer.features:
        value = one.attributes.get(field)
        if isinstance(value, str) and not value.strip():
            value = None
        if value is None or one.empty:
            values.append(None)
            continue
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError
            number = float(value)
            if math.isinf(number):
                raise ValueError
        except (ValueError, OverflowError) as error:
            raise InputError(f"{options.field}{field}: {layer.path} holds {value!r:.60}, which is no number") from error
        if abs(number) > _LARGEST:
            raise InputError(
                f"{options.field}{field}: {layer.path} holds {number:g}, larger than a raster of float32 holds: give "
                "it in another unit"
            )
        values.append(None if math.isnan(number) else number)
    return values


def _geojson(path: Path) -> tuple[str, Iterator[Feature]]:
    # Some programs begin UTF-8 with a byte order mark.
    content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict) or not isinstance(content.get("features"), list):
        raise ValueError("it is no FeatureCollection")
    # Before RFC 7946 files named their CRS; many still do.
    named = content.get("crs")
    crs = "OGC:CRS84"
    if named is not None:
        try:
            crs = str(named["properties"]["name"])
        except (TypeError, KeyError) as error:
            raise ValueError("its member crs names none") from error
    return crs, (_feature(one) for one in content["features"])


def _feature(one: Any) -> Feature:
    if not isinstance(one, dict):
        raise ValueError(f"a feature is {one!r:.60}")
    geometry, properties = one.get("geometry"), one.get("properties") or {}
    if not isinstance(properties, dict):
        raise ValueError(f"properties of a feature are {properties!r:.60}")
    if geometry is None:
        return Feature([], [], properties)
    kind = geometry.get("type") if isinstance(geometry, dict) else geometry
    if kind not in ("Polygon", "MultiPolygon", "Point", "MultiPoint"):
        raise ValueError(f"a feature is a {kind!s:.60}, points and polygons are read")
    coordinates = geometry.get("coordinates")
    try:
        # An empty list is an empty geometry (RFC 7946, 3.1).
        parts = list(coordinates) if kind.startswith("Multi") else [coordinates] if coordinates else []
        if kind.endswith("Point"):
            return Feature([], [_finite((float(p[0]), float(p[1]))) for p in parts], properties)
        polygons = [[[(float(p[0]), float(p[1])) for p in ring] for ring in part] for part in parts]
        return Feature([_checked(polygon) for polygon in polygons if polygon], [], properties)
    except (TypeError, IndexError, ValueError, OverflowError) as error:
        raise ValueError(f"coordinates of a {kind} are damaged ({error})") from error


def _finite(point: Point) -> Point:
    if not all(map(math.isfinite, point)):
        raise ValueError(f"a point at {point[0]}, {point[1]}")
    return point


def _checked(polygon: Polygon) -> Polygon:
    for ring in polygon:
        if len(ring) < 4 or not all(math.isfinite(x) and math.isfinite(y) for x, y in ring):
            raise ValueError(f"a ring of {len(ring)} points, or one that is not finite")
    return polygon


def _geopackage(path: Path, layer: str | None, options: Options) -> tuple[str, Iterator[Feature]]:
    if not path.is_file():
        raise ValueError("there is no such file")
    # Read-only; where no other program has it open, SQLite need not make files of its own beside it either.
    busy = any(Path(f"{path}{suffix}").exists() for suffix in ("-wal", "-journal"))
    mode = "mode=ro" if busy else "mode=ro&immutable=1"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as base:
        tables = {
            str(name): (str(column), srs)
            for name, column, srs in base.execute("SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns")
        }
        if layer is None and len(tables) != 1:
            raise InputError(
                f"{options.file}: {path} has layers {', '.join(tables) or 'none'}: name one, {options.layer}NAME"
            )
        name = next(iter(tables)) if layer is None else layer
        if name not in tables:
            raise InputError(f"{options.layer}{name}: {path} has no such layer, it has {', '.join(tables) or 'none'}")
        column, srs = tables[name]
        known = base.execute(
            "SELECT organization, organization_coordsys_id, definition FROM gpkg_spatial_ref_sys WHERE srs_id = ?",
            (srs,),
        ).fetchone()
        if known is None or known[1] in (0, -1):
            raise ValueError(f"layer {name} has no CRS")
        crs = f"{known[0]}:{known[1]}" if str(known[0]).upper() == "EPSG" else str(known[2])
        table = '"' + name.replace('"', '""') + '"'
        keys = {str(row[1]) for row in base.execute(f"PRAGMA table_info({table})") if row[5]}
        found = base.execute(f"SELECT * FROM {table}")
        fields = [str(one[0]) for one in found.description]
        if column not in fields:
            raise ValueError(f"layer {name} has no column {column}, where gpkg_geometry_columns says geometries are")
        rows = []
        for row in found:
            values = dict(zip(fields, row, strict=True))
            blob = values.pop(column)
            polygons, points = _blob(blob)
            # The number of a row is no attribute, and bytes are none that a table shows.
            kept = {key: value for key, value in values.items() if key not in keys and not isinstance(value, bytes)}
            rows.append(Feature(polygons, points, kept))
    return crs, iter(rows)


def _blob(blob: bytes | None) -> tuple[list[Polygon], list[Point]]:
    """Polygons and points of a GeoPackage's geometry: a header, an envelope of known length, well-known binary."""
    if blob is None:
        return [], []
    if not isinstance(blob, bytes) or blob[:2] != b"GP" or len(blob) < 8:
        raise ValueError("a geometry is damaged")
    flags = blob[3]
    if flags & 0x10:  # empty
        return [], []
    envelope = {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}.get(flags >> 1 & 7)
    if envelope is None:
        raise ValueError("a geometry's envelope is of an unknown kind")
    return _Binary(blob, 8 + envelope).geometry()


class _Binary:
    """Reads well-known binary; what is cut off raises struct.error."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self._at, self._order = content, at, "<"

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(self._order + form, self._content, self._at)
        self._at += struct.calcsize(self._order + form)
        return values

    def _count(self) -> int:
        count = int(self._take("I")[0])
        if count > _MOST:
            raise ValueError(f"a geometry of {count} parts")
        return count

    def geometry(self) -> tuple[list[Polygon], list[Point]]:
        self._order = "<" if self._take("B")[0] else ">"
        kind = int(self._take("I")[0])
        # Height and measure: as thousands (ISO), or as high bits.
        extra = {0: 0, 1: 1, 2: 1, 3: 2}.get(kind % 0x10000000 // 1000 % 10, 0) if kind < 0x10000000 else 0
        extra += bool(kind & 0x80000000) + bool(kind & 0x40000000)
        kind = (kind & 0x0FFFFFFF) % 1000
        if kind in (4, 6):
            parts = [self.geometry() for _ in range(self._count())]
            return [one for polygons, _ in parts for one in polygons], [one for _, points in parts for one in points]
        size = 2 + extra
        if kind == 1:
            x, y, *_ = self._take(f"{size}d")
            # An empty point has no number (OGC 12-128r18, 2.1.3).
            return [], [] if math.isnan(x) and math.isnan(y) else [_finite((x, y))]
        if kind != 3:
            raise ValueError(f"a geometry is of kind {kind} of well-known binary, points and polygons are read")
        rings = []
        for _ in range(self._count()):
            count = self._count()
            numbers = self._take(f"{count * size}d")
            rings.append(list(zip(numbers[::size], numbers[1::size], strict=True)))
        return [_checked(rings)] if rings else [], []
