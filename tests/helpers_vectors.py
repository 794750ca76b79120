"""GeoPackages written without GDAL, for tests of files that it would not write."""

from __future__ import annotations

import sqlite3


def describe(base: sqlite3.Connection) -> None:
    """The tables of a GeoPackage that describe others; its CRS is EPSG:32631."""
    base.execute("CREATE TABLE gpkg_geometry_columns (table_name, column_name, geometry_type_name, srs_id, z, m)")
    base.execute(
        "CREATE TABLE gpkg_spatial_ref_sys (srs_name, srs_id, organization, organization_coordsys_id, definition)"
    )
    base.execute("INSERT INTO gpkg_spatial_ref_sys VALUES ('UTM', 32631, 'EPSG', 32631, '')")


def add(base: sqlite3.Connection, layer: str, *columns: str) -> None:
    """A layer without features, of any geometries (``geom``) with some attributes."""
    base.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'GEOMETRY', 32631, 0, 0)", (layer,))
    base.execute(f'CREATE TABLE "{layer}" (fid INTEGER PRIMARY KEY, geom BLOB, {", ".join(columns)})')
