"""Points and polygons of any provider reach the engine, and its table of points comes back as features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from malice_qgis import sinks, vectors
from malice_qgis.engine import EngineCancelled
from malice_qgis.texts import UserError
from osgeo import ogr
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFeatureSink,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingFeatureSource,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingUtils,
    QgsProject,
    QgsVectorLayer,
    QgsWkbTypes,
)


def never() -> bool:
    return False


def memory(kind: str, rows: list[tuple[str, list[Any]]], fields: str = "", crs: str = "EPSG:32631") -> QgsVectorLayer:
    """A layer in memory: (WKT, attributes) of each feature."""
    layer = QgsVectorLayer(f"{kind}?crs={crs}{fields}", "drawn", "memory")
    assert layer.isValid()
    for wkt, attributes in rows:
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromWkt(wkt))
        feature.setAttributes(attributes)
        assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    return layer


def source_of(layer: QgsVectorLayer, context: QgsProcessingContext) -> QgsProcessingFeatureSource:
    return QgsProcessingFeatureSource(layer, context)


def read(path: Path) -> tuple[ogr.Layer, list[tuple[str, list[Any]]], ogr.DataSource]:
    dataset = ogr.Open(str(path))
    layer = dataset.GetLayer(0)
    rows = []
    for feature in layer:
        rows.append((feature.GetGeometryRef().ExportToIsoWkt(), [feature[i] for i in range(feature.GetFieldCount())]))
    return layer, rows, dataset


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("string", "wheat ", "wheat "),
        ("integer", 7, 7),
        ("int8", 2**40, 2**40),
        ("double", 0.1, 0.1),
        ("boolean", True, "true"),
        ("date", "2020-01-02", "2020-01-02"),
        ("string", None, None),
        ("integer", None, None),
    ],
)
def test_the_field_arrives_as_it_is(
    context: QgsProcessingContext, tmp_path: Path, kind: str, value: Any, stored: Any
) -> None:
    """And nothing else: the other field stays in QGIS."""
    x = 500000.1 + 1e-9
    layer = memory("Point", [(f"Point ({x!r} 5600000)", ["secret", value])], f"&field=other:string&field=class:{kind}")
    path = tmp_path / "x.gpkg"
    vectors.write("LABELS", source_of(layer, context), "class", str(path), never)
    table, rows, _dataset = read(path)
    assert [table.GetLayerDefn().GetFieldDefn(0).GetName()] == ["class"]
    ((_, values),) = rows
    assert values == [stored]
    assert type(values[0]) is type(stored)
    dataset = ogr.Open(str(path))
    assert dataset.GetLayer(0).GetFeature(1).GetGeometryRef().GetX() == x
    assert b"secret" not in path.read_bytes()


@pytest.mark.parametrize("name", ["fid", "geom", "malice", "Größe 'x' \"y\"", "ogc_fid"])
def test_fields_of_any_name(context: QgsProcessingContext, tmp_path: Path, name: str) -> None:
    layer = memory("Point", [("Point (1 2)", [5])], "&field=class:integer")
    assert layer.dataProvider().renameAttributes({0: name})
    layer.updateFields()
    vectors.write("LABELS", source_of(layer, context), name, str(tmp_path / "x.gpkg"), never)
    table, rows, _dataset = read(tmp_path / "x.gpkg")
    assert table.GetLayerDefn().GetFieldDefn(0).GetName() == name
    assert rows == [("POINT (1 2)", [5])]


def test_shapes_of_any_kind_are_written_straight(context: QgsProcessingContext, tmp_path: Path) -> None:
    """Curves are drawn as lines, heights stay, features without a shape are left out."""
    curved = "CurvePolygon (CircularString (0 0, 1 1, 2 0, 1 -1, 0 0))"
    rows = [
        (curved, []),
        ("MultiPolygon (((0 0, 1 0, 1 1, 0 0)))", []),
        ("PolygonZ ((0 0 5, 1 0 5, 1 1 5, 0 0 5))", []),
    ]
    layer = memory("CurvePolygon", rows[:1])
    vectors.write("LABELS", source_of(layer, context), "", str(tmp_path / "x.gpkg"), never)
    _, ((wkt, _),), _dataset = read(tmp_path / "x.gpkg")
    area = ogr.CreateGeometryFromWkt(wkt)
    assert area.GetGeometryType() == ogr.wkbPolygon
    assert abs(area.GetArea() - 3.14159) < 0.01
    layer = memory("MultiPolygonZ", rows[1:])
    layer.dataProvider().addFeature(QgsFeature(layer.fields()))
    vectors.write("LABELS", source_of(layer, context), "", str(tmp_path / "y.gpkg"), never)
    assert len(read(tmp_path / "y.gpkg")[1]) == 2


def test_a_crs_of_this_qgis_only_travels(context: QgsProcessingContext, tmp_path: Path) -> None:
    layer = memory("Point", [("Point (1 2)", [])], crs="")
    own = QgsCoordinateReferenceSystem()
    own.createFromProj("+proj=tmerc +lat_0=0 +lon_0=3 +k=0.9996 +x_0=100000 +y_0=0 +datum=WGS84 +units=m")
    layer.setCrs(own)
    vectors.write("LABELS", source_of(layer, context), "", str(tmp_path / "x.gpkg"), never)
    table, _, _dataset = read(tmp_path / "x.gpkg")
    assert "false_easting" in table.GetSpatialRef().ExportToWkt().lower()
    assert table.GetSpatialRef().GetProjParm("false_easting") == 100000


def test_what_cannot_be_used_is_one_line(context: QgsProcessingContext, tmp_path: Path) -> None:
    path = str(tmp_path / "x.gpkg")
    nowhere = memory("Point", [("Point (1 2)", [])], crs="")
    nowhere.setCrs(QgsCoordinateReferenceSystem())
    with pytest.raises(vectors.VectorError, match="LABELS: layer 'drawn' has no CRS"):
        vectors.write("LABELS", source_of(nowhere, context), "", path, never)
    empty = memory("Point", [])
    with pytest.raises(vectors.VectorError, match="POINTS: layer 'drawn' has no shapes"):
        vectors.write_points("POINTS", source_of(empty, context), path, never)
    with pytest.raises(vectors.VectorError, match="LABELS: layer 'drawn' has no shapes"):
        vectors.write("LABELS", source_of(empty, context), "", str(tmp_path / "y.gpkg"), never)
    layer = memory("Point", [("Point (1 2)", [1])], "&field=class:integer")
    with pytest.raises(vectors.VectorError, match="FIELD crop: layer 'drawn' has no such field, it has class"):
        vectors.write("LABELS", source_of(layer, context), "crop", path, never)
    with pytest.raises(vectors.VectorError, match="cannot be handed to the engine"):
        vectors.write("LABELS", source_of(layer, context), "class", str(tmp_path / "no" / "x.gpkg"), never)
    with pytest.raises(EngineCancelled):
        vectors.write("LABELS", source_of(layer, context), "class", str(tmp_path / "z.gpkg"), lambda: True)


def test_points_are_numbered_and_found_again(context: QgsProcessingContext, tmp_path: Path) -> None:
    """Parts of a multipoint are points; the table's order does not matter; empty values are empty."""
    rows = [("MultiPoint ((1 2), (3 4))", ["a"]), ("MultiPoint ((5 6))", ["b"])]
    layer = memory("MultiPoint", rows, "&field=name:string")
    source = source_of(layer, context)
    points = vectors.write_points("POINTS", source, str(tmp_path / "x.gpkg"), never)
    assert read(tmp_path / "x.gpkg")[1] == [("POINT (1 2)", [0]), ("POINT (3 4)", [1]), ("POINT (5 6)", [2])]
    told = tmp_path / "x.csv"
    told.write_text(f"{vectors.ROW},x,y,Q00F00,Q00F01\n2,5,6,1.5,-2\n0,1,2,,\n1,3,4,0.1,nan\n", encoding="utf-8")
    table = vectors.Table(str(told))
    fields = QgsProcessingUtils.combineFields(source.fields(), table.fields())
    assert fields.names() == ["name", "Q00F00", "Q00F01"]
    sink, target = QgsProcessingUtils.createFeatureSink(
        "memory:x", context, fields, QgsWkbTypes.Type.Point, source.sourceCrs()
    )
    vectors.fill(table, points, fields, sink, never)
    del sink
    result = QgsProcessingUtils.mapLayerFromString(target, context)
    found = {one.geometry().asWkt(): [v if not hasattr(v, "isNull") else None for v in one.attributes()]
             for one in result.getFeatures()}  # fmt: skip
    assert found == {"Point (5 6)": ["b", 1.5, -2], "Point (1 2)": ["a", None, None], "Point (3 4)": ["a", 0.1, None]}


def test_another_engines_table_is_refused(tmp_path: Path, qgis_app: object) -> None:
    (tmp_path / "x.csv").write_text("Q00F00\n1\n", encoding="utf-8")
    with pytest.raises(vectors.VectorError, match="lacks the numbers of points"):
        vectors.Table(str(tmp_path / "x.csv"))


@pytest.mark.parametrize("ending", ["gpkg", "shp", "geojson", "csv"])
def test_a_file_of_features_is_whole_or_what_it_was(
    provider: Any, context: QgsProcessingContext, tmp_path: Path, ending: str
) -> None:
    """What was there stays until the new one is whole, also with the files that belong to it; nothing else is left."""
    target = str(tmp_path / f"x.{ending}")
    algorithm = provider.algorithm("sample").create()
    layer = memory("Point", [("Point (1 2)", ["old"])], "&field=name:string")
    wish = QgsProcessingOutputLayerDefinition(target, QgsProject.instance())

    def write(value: str, fails: bool) -> str:
        with sinks.Destination(algorithm, {"OUTPUT": wish}, "OUTPUT", context) as destination:
            sink = destination.open(
                layer.fields(), QgsWkbTypes.Type.Point, layer.crs(), QgsFeatureSink.SinkFlag.RegeneratePrimaryKey
            )
            feature = QgsFeature(layer.fields())
            feature.setGeometry(QgsGeometry.fromWkt("Point (1 2)"))
            feature.setAttributes([value])
            assert sink.addFeature(feature)
            if fails:
                raise EngineCancelled("cancelled")
            return destination.place()

    told = write("old", False)
    assert told.split("|")[0] == target
    assert context.willLoadLayerOnCompletion(told)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(EngineCancelled):
        write("new", True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    # What other programs put beside the old one is not the new one's.
    left = {".shp": ".qix", ".gpkg": ".gpkg-wal"}.get(Path(target).suffix)
    if left is not None:
        Path(target).with_suffix(left).write_bytes(b"of the old one")
    write("new", False)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(before)
    made = QgsVectorLayer(target, "x", "ogr")
    assert [one["name"] for one in made.getFeatures()] == ["new"]


def test_a_folder_that_takes_no_file_is_told(provider: Any, context: QgsProcessingContext, tmp_path: Path) -> None:
    algorithm = provider.algorithm("sample").create()
    given = {"OUTPUT": str(tmp_path / "no" / "x.gpkg")}
    layer = memory("Point", [])
    with (
        pytest.raises(UserError, match=r"OUTPUT .*x.gpkg cannot be written: No such file"),
        sinks.Destination(algorithm, given, "OUTPUT", context) as destination,
    ):
        destination.open(layer.fields(), QgsWkbTypes.Type.Point, layer.crs(), QgsFeatureSink.SinkFlags())
