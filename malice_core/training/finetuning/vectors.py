"""Polygons with a class out of GeoJSON and GeoPackage files.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malice_core.classifier import one_line
from malice_core.errors import InputError

#: A ring: points (x, y). A polygon: its outer ring, then its holes.
Polygon = list[list[tuple[float, float]]]
SUFFIXES = (".geojson", ".json", ".gpkg")
#: Rings and points that one geometry may announce: more than any file has.
_MOST = 1 << 24


@dataclass(frozen=True)
class Features:
    """Polygons of one class attribute.

    Attributes:
        crs: as rasterio takes it.
        polygons: a feature's, one or more.
        values: the attribute of each feature: whole number, or text of one line without blanks around it.
    """

    crs: str
    polygons: list[list[Polygon]]
    values: list[int | str]


def is_vector(path: Path) -> bool:
    """Whether a file is read as polygons."""
    return path.suffix.lower() in SUFFIXES


def read(path: Path, field: str | None, layer: str | None) -> Features:
    """Reads the polygons of a file; features without a value (none, or an empty text) have no class and are left out.

    Args:
        path: GeoJSON or GeoPackage.
        field: attribute with the class; None: the only one there is.
        layer: of a GeoPackage; None: the only one there is.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    try:
        crs, rows = _geopackage(path, layer) if path.suffix.lower() == ".gpkg" else _geojson(path)
        content = list(rows)
    except (OSError, ValueError, sqlite3.Error, struct.error, RecursionError) as error:
        raise InputError(f"data.labels: cannot read {path}: {error}") from error
    names = list(dict.fromkeys(name for _, row in content for name in row))
    if field is None:
        if len(names) != 1:
            raise InputError(f"data.labels: {path} has fields {', '.join(names) or 'none'}: name one, data.field=NAME")
        field = names[0]
    if field not in names:
        raise InputError(f"data.field={field}: {path} has no such field, it has {', '.join(names) or 'none'}")
    polygons, values = [], []
    for geometry, row in content:
        value = row.get(field)
        if isinstance(value, str):
            # Typed by hand: "wheat " is wheat, and blanks are nothing.
            value = one_line(value) or None
        if value is None or not geometry:
            continue
        polygons.append(geometry)
        values.append(_value(value, field, path))
    if not polygons:
        raise InputError(f"data.labels: {path} has no polygon with a value in {field}")
    if len({type(value) for value in values}) > 1:
        values = [f"{value}" for value in values]
    return Features(crs, polygons, values)


def _value(value: Any, field: str, path: Path) -> int | str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and math.isfinite(value) and value == int(value):
        return int(value)
    raise InputError(f"data.field={field}: {path} holds {value!r:.60}, classes are whole numbers or texts")


Rows = Iterator[tuple[list[Polygon], dict[str, Any]]]


def _geojson(path: Path) -> tuple[str, Rows]:
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


def _feature(one: Any) -> tuple[list[Polygon], dict[str, Any]]:
    if not isinstance(one, dict):
        raise ValueError(f"a feature is {one!r:.60}")
    geometry, properties = one.get("geometry"), one.get("properties") or {}
    if not isinstance(properties, dict):
        raise ValueError(f"properties of a feature are {properties!r:.60}")
    if geometry is None:
        return [], properties
    kind = geometry.get("type") if isinstance(geometry, dict) else geometry
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"a feature is a {kind}, labels are polygons")
    coordinates = geometry.get("coordinates")
    try:
        parts = [coordinates] if kind == "Polygon" else list(coordinates)
        polygons = [[[(float(p[0]), float(p[1])) for p in ring] for ring in part] for part in parts]
        # A polygon without rings is an empty one (RFC 7946, 3.1).
        return [_checked(polygon) for polygon in polygons if polygon], properties
    except (TypeError, IndexError, ValueError, OverflowError) as error:
        raise ValueError(f"coordinates of a {kind} are damaged ({error})") from error


def _checked(polygon: Polygon) -> Polygon:
    for ring in polygon:
        if len(ring) < 4 or not all(math.isfinite(x) and math.isfinite(y) for x, y in ring):
            raise ValueError(f"a ring of {len(ring)} points, or one that is not finite")
    return polygon


def _geopackage(path: Path, layer: str | None) -> tuple[str, Rows]:
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
            raise InputError(f"data.labels: {path} has layers {', '.join(tables) or 'none'}: name one, data.layer=NAME")
        name = next(iter(tables)) if layer is None else layer
        if name not in tables:
            raise InputError(f"data.layer={name}: {path} has no such layer, it has {', '.join(tables) or 'none'}")
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
            # The number of a row is no class.
            rows.append((_blob(blob), {key: value for key, value in values.items() if key not in keys}))
    return crs, iter(rows)


def _blob(blob: bytes | None) -> list[Polygon]:
    """Polygons of a GeoPackage's geometry: a header with an envelope of known length, then well-known binary."""
    if blob is None:
        return []
    if not isinstance(blob, bytes) or blob[:2] != b"GP" or len(blob) < 8:
        raise ValueError("a geometry is damaged")
    flags = blob[3]
    if flags & 0x10:  # empty
        return []
    envelope = {0: 0, 1: 32, 2: 48, 3: 48, 4: 64}.get(flags >> 1 & 7)
    if envelope is None:
        raise ValueError("a geometry's envelope is of an unknown kind")
    return _Binary(blob, 8 + envelope).polygons()


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

    def polygons(self) -> list[Polygon]:
        self._order = "<" if self._take("B")[0] else ">"
        kind = int(self._take("I")[0])
        # Height and measure: as thousands (ISO), or as high bits.
        extra = {0: 0, 1: 1, 2: 1, 3: 2}.get(kind % 0x10000000 // 1000 % 10, 0) if kind < 0x10000000 else 0
        extra += bool(kind & 0x80000000) + bool(kind & 0x40000000)
        kind = (kind & 0x0FFFFFFF) % 1000
        if kind == 6:
            return [one for _ in range(self._count()) for one in self.polygons()]
        if kind != 3:
            raise ValueError(f"a geometry is of kind {kind} of well-known binary, labels are polygons")
        size = 2 + extra
        rings = []
        for _ in range(self._count()):
            count = self._count()
            numbers = self._take(f"{count * size}d")
            rings.append(list(zip(numbers[::size], numbers[1::size], strict=True)))
        return [_checked(rings)] if rings else []
