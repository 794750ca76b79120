"""Points and polygons with their attributes, out of GeoJSON and GeoPackage."""

from __future__ import annotations

import json
import math
import sqlite3
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import helpers_vectors
import pytest
import rasterio.warp

from malice_core import vectors
from malice_core.errors import InputError

SQUARE = [[[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 0.0]]]


def write(path: Path, *rows: tuple[Any, dict[str, Any]], crs: str | None = "EPSG:32631") -> Path:
    """A FeatureCollection of geometries and attributes."""
    content: dict[str, Any] = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "geometry": shape, "properties": values} for shape, values in rows],
    }
    if crs is not None:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content))
    return path


def point(x: float, y: float) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [x, y]}


def geopackage(path: Path, blobs: list[bytes | None], layers: tuple[str, ...] = ("a",)) -> Path:
    """A GeoPackage of geometries with the attributes ``height``, ``name`` and ``photo``."""
    with closing(sqlite3.connect(path)) as base, base:
        helpers_vectors.describe(base)
        for layer in layers:
            helpers_vectors.add(base, layer, "height", "name", "photo")
            for number, blob in enumerate(blobs):
                row = (blob, 1.5 * number, f"{layer}{number}", b"\x89PNG")
                base.execute(f'INSERT INTO "{layer}" (geom, height, name, photo) VALUES (?, ?, ?, ?)', row)
    return path


def blob(order: str, kind: int, *numbers: float) -> bytes:
    """A point of a GeoPackage: header without envelope, well-known binary."""
    return (
        b"GP\0" + struct.pack("<BiB", 1, 32631, order == "<") + struct.pack(f"{order}I{len(numbers)}d", kind, *numbers)
    )


def test_points_polygons_and_attributes_of_geojson(tmp_path: Path) -> None:
    several = {"type": "MultiPoint", "coordinates": [[1, 2, 300], [3, 4, 300]]}
    path = write(
        tmp_path / "f.geojson",
        (point(5, 6), {"name": "a", "height": 2.5, "kept": True}),
        (several, {"name": None, "height": 3}),
        ({"type": "Polygon", "coordinates": SQUARE}, {"more": [1]}),
        ({"type": "MultiPoint", "coordinates": []}, {}),
        (None, {"name": "nowhere"}),
    )
    found = vectors.read(path)
    assert found.crs == "EPSG:32631"
    assert found.fields == ["name", "height", "kept", "more"]
    assert [one.points for one in found.features] == [[(5, 6)], [(1, 2), (3, 4)], [], [], []]
    assert [len(one.polygons) for one in found.features] == [0, 0, 1, 0, 0]
    assert [one.empty for one in found.features] == [False, False, False, True, True]
    assert found.features[0].attributes == {"name": "a", "height": 2.5, "kept": True}
    assert vectors.classes(found, "name") == ["a", None, None, None, None]
    assert vectors.numbers(found, "height") == [2.5, 3, None, None, None]


def test_points_and_attributes_of_a_geopackage(tmp_path: Path) -> None:
    several = b"GP\0" + struct.pack("<BiBII", 1, 32631, 1, 4, 2)
    several += struct.pack("<BIdd", 1, 1, 7, 8) + struct.pack(">BIdd", 0, 1, 9, 10)
    blobs = [
        blob("<", 1, 5, 6),
        blob(">", 1001, 5, 6, 100),  # with height
        several,
        blob("<", 1, math.nan, math.nan),  # an empty point
        None,
    ]
    found = vectors.read(geopackage(tmp_path / "f.gpkg", blobs))
    assert [one.points for one in found.features] == [[(5, 6)], [(5, 6)], [(7, 8), (9, 10)], [], []]
    # Neither the number of a row nor bytes are attributes.
    assert found.fields == ["height", "name"]
    assert vectors.numbers(found, "height") == [0, 1.5, 3, None, None]
    with pytest.raises(InputError, match=r"layers a, b: name one, FILE\.gpkg\|layername=NAME"):
        vectors.read(geopackage(tmp_path / "two.gpkg", blobs, ("a", "b")))
    path, layer = vectors.source(f"{tmp_path / 'two.gpkg'}|layername=b")
    assert vectors.read(path, layer).features[0].attributes["name"] == "b0"


def test_the_layer_in_a_name(tmp_path: Path) -> None:
    assert vectors.source("x.geojson") == (Path("x.geojson"), None)
    odd = write(tmp_path / "a|b.geojson")
    assert vectors.source(f"{odd}") == (odd, None)
    for text in ("x.gpkg|subset=a=1", "x.gpkg|layername=a|subset=b"):
        with pytest.raises(InputError, match="layername=NAME"):
            vectors.source(text)


def test_another_crs(tmp_path: Path) -> None:
    shapes = (
        (point(4.5, 51.25), {"a": 1}),
        ({"type": "Polygon", "coordinates": [[[4, 51], [5, 51], [5, 52], [4, 51]]]}, {}),
    )
    moved = vectors.read(write(tmp_path / "f.geojson", *shapes, (None, {}), crs=None)).moved("EPSG:32631")
    (x,), (y,) = rasterio.warp.transform("OGC:CRS84", "EPSG:32631", [4.5], [51.25])
    assert moved.features[0].points == [pytest.approx((x, y), abs=1e-6)]
    xs, ys = rasterio.warp.transform("OGC:CRS84", "EPSG:32631", [4, 5, 5, 4], [51, 51, 52, 51])
    (ring,) = moved.features[1].polygons[0]
    for corner, wanted in zip(ring, zip(xs, ys, strict=True), strict=True):
        assert corner == pytest.approx(wanted, abs=1e-6)
    assert moved.features[2].empty
    assert moved.features[0].attributes == {"a": 1}
    with pytest.raises(InputError, match="from OGC:CRS84 to the images' CRS"):
        vectors.read(write(tmp_path / "far.geojson", (point(500000, 5600000), {}), crs=None)).moved("EPSG:32631")
    with pytest.raises(InputError, match=r"is EPSG:32631 right\?"):
        vectors.read(write(tmp_path / "off.geojson", (point(1e300, 0), {}))).moved("EPSG:32631")


def test_classes_and_numbers_by_hand(tmp_path: Path) -> None:
    values = ["wheat ", " wheat", "", None, 3, 4.0]
    path = write(tmp_path / "f.geojson", *((point(0, 0), {"c": value}) for value in values))
    layer = vectors.read(path)
    assert vectors.chosen(layer, None) == "c"
    assert vectors.classes(layer, "c") == ["wheat", "wheat", None, None, "3", "4"]
    with pytest.raises(InputError, match=r"--field c: .* holds 'wheat ', which is no number"):
        vectors.numbers(layer, "c")
    path = write(tmp_path / "n.geojson", *((point(0, 0), {"c": value}) for value in ["1.5", 2, " ", None]))
    assert vectors.numbers(vectors.read(path), "c") == [1.5, 2, None, None]
    huge = vectors.read(write(tmp_path / "h.geojson", (point(0, 0), {"c": 10**400, "d": 1e31, "e": math.inf})))
    assert vectors.classes(huge, "c") == [10**400]
    for field, told in (("c", "no number"), ("d", r"1e\+31, larger than"), ("e", "no number")):
        with pytest.raises(InputError, match=told):
            vectors.numbers(huge, field)
    with pytest.raises(InputError, match="inf, classes are"):
        vectors.classes(huge, "e")
    path = write(tmp_path / "m.geojson", (point(0, 0), {"c": True, "d": 1.5}))
    with pytest.raises(InputError, match="no number"):
        vectors.numbers(vectors.read(path), "c")
    with pytest.raises(InputError, match=r"1\.5, classes are whole numbers or texts"):
        vectors.classes(vectors.read(path), "d")
    with pytest.raises(InputError, match="fields c, d: name one, --field NAME"):
        vectors.chosen(vectors.read(path), None)
    with pytest.raises(InputError, match=r"--field e: .*it has c, d"):
        vectors.chosen(vectors.read(path), "e")
    with pytest.raises(InputError, match=r"nothing\.geojson has no points or polygons at all"):
        vectors.chosen(vectors.read(write(tmp_path / "nothing.geojson")), "e")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.shp", "", r"ogr2ogr FILE\.gpkg a\.shp"),
        ("a.csv", "", "no file of points or polygons"),
        ("gone.geojson", None, "cannot read"),
        ("a.geojson", '{"features": [{"geometry": {"type": "LineString", "coordinates": []}}]}', "a LineString"),
        ("a.geojson", '{"features": [{"geometry": {"type": null}}]}', "a feature is a None"),
        ("a.geojson", '{"features": [{"geometry": {"type": 5}}]}', "a feature is a 5"),
        ("a.geojson", '{"features": [{"geometry": [1, 2]}]}', r"a feature is a \[1, 2\]"),
        ("a.geojson", '{"features": [{"geometry": {"type": "Point", "coordinates": [1]}}]}', "damaged"),
        ("a.geojson", '{"features": [{"geometry": {"type": "Point", "coordinates": [NaN, 1]}}]}', "damaged"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: str | None, told: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=told) as error:
        vectors.read(tmp_path / name, options=vectors.Options("--points"))
    assert "--points" in f"{error.value}"
