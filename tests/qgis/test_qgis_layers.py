"""Layers become names the engine opens: dates from temporal ranges, layers that live in QGIS only, bands."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

import pytest
from malice_qgis import layers, styling
from osgeo import gdal
from qgis.core import (
    QgsDateTimeRange,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QDate, QDateTime, QTime

from helpers_qgis import command_line, pixels


@pytest.fixture
def context(qgis_app: object) -> QgsProcessingContext:
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    return context


def layer_of(path: object, name: str = "", day: date | None = None, days: int = 1) -> QgsRasterLayer:
    """A layer, with a temporal range if ``day`` is given."""
    layer = QgsRasterLayer(str(path), name or Path(str(path)).stem, "gdal")
    assert layer.isValid(), path
    if day:
        begin = QDate(day.year, day.month, day.day)
        span = QgsDateTimeRange(QDateTime(begin, QTime(0, 0)), QDateTime(begin.addDays(days - 1), QTime(23, 59, 59)))
        layer.temporalProperties().setMode(styling.fixed_range())
        layer.temporalProperties().setFixedTemporalRange(span)
        layer.temporalProperties().setIsActive(True)
    return layer


def test_dates_of_temporal_ranges(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, engine: str
) -> None:
    """Images without dates in names, dated by their layers, give the same numbers as the dated ones."""
    dated, undated = (sorted((scene / name).glob("*.tif")) for name in ("S2", "undated"))
    days = [layers.days_in(path.stem)[0] for path in dated]
    chosen = [layer_of(path, day=day) for path, day in zip(undated, days, strict=True)]
    algorithm = provider.algorithm("embed").create()
    parameters = {"INPUT_S2": chosen, "MODEL": "tiny", "OUTPUT": str(tmp_path / "q.tif"), "QUERIES": "0"}
    assert algorithm.checkParameterValues(parameters, context) == (True, "")
    results, good = algorithm.run(parameters, context, QgsProcessingFeedback())
    assert good
    command_line(engine, scene, "--s2", scene / "S2", "--queries", "0", "--output", tmp_path / "s.tif")
    assert pixels(Path(results["OUTPUT"])) == pixels(tmp_path / "s.tif")


def test_a_layer_without_a_date_is_refused_by_name(context: QgsProcessingContext, scene: Path) -> None:
    path = scene / "undated" / "image a.tif"
    with pytest.raises(layers.LayerError, match="'Monday' has no date"):
        layers.sources([layer_of(path, "Monday")], context)
    with pytest.raises(layers.LayerError, match=r"'Month'.*longer than a day"):
        layers.sources([layer_of(path, "Month", date(2018, 1, 1), 31)], context)


def test_two_dates_in_a_name_are_settled_by_the_range(
    context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    path = shutil.copy(scene / "undated" / "image a.tif", tmp_path / "S2_20180101_20180131.tif")
    with pytest.raises(layers.LayerError, match="two dates"):
        layers.sources([layer_of(path)], context)
    (source,) = layers.sources([layer_of(path, day=date(2018, 1, 7))], context)
    assert source.stem == "S2_20180107"


@pytest.mark.parametrize(
    "name",
    ["S2_20180105.tif", "a_2018-01-05.tif", "x_2018005.tif", "T31UDS_20180105T105031_B02_10m.tif"],
)
def test_names_with_a_date_go_as_they_are(
    context: QgsProcessingContext, scene: Path, tmp_path: Path, name: str
) -> None:
    path = shutil.copy(scene / "undated" / "image a.tif", tmp_path / name)
    (source,) = layers.sources([layer_of(path, day=date(2020, 2, 2))], context)
    assert (source.path, source.day) == (str(path), None)


def test_dates_in_tags_go_as_they_are(context: QgsProcessingContext, scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "tagged.tif"
    gdal.Translate(str(path), str(scene / "undated" / "image a.tif"), metadataOptions=["TIFFTAG_DATETIME=2018:01:05"])
    (source,) = layers.sources([layer_of(path)], context)
    assert (source.path, source.day) == (str(path), None)


def test_a_raster_of_a_geopackage_is_dated_by_its_table(
    context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    """A GeoPackage holds 8 bits and 4 bands at most: enough for a classification."""
    package = tmp_path / "classes.gpkg"
    image = str(scene / "S2" / "S2_20180105.tif")
    classes = gdal.Translate("", image, format="MEM", bandList=[1], outputType=gdal.GDT_Byte)
    classes.GetRasterBand(1).Fill(4)
    gdal.Translate(str(package), classes, format="GPKG", creationOptions=["RASTER_TABLE=SCL_20180105"])
    layer = QgsRasterLayer(f"GPKG:{package}:SCL_20180105", "classes", "gdal")
    assert layer.isValid()
    (source,) = layers.sources([layer], context)
    assert (source.stem, source.day) == ("SCL_20180105", date(2018, 1, 5))
    (path,) = layers.give([source], str(tmp_path / "wrapped"))
    again = Path(path).stat().st_mtime_ns
    assert layers.give([source], str(tmp_path / "wrapped")) == [path]
    assert Path(path).stat().st_mtime_ns == again
    wrapped, original = gdal.Open(path), gdal.Open(f"GPKG:{package}:SCL_20180105")
    assert wrapped.GetMetadataItem("TIFFTAG_DATETIME") == "2018:01:05 00:00:00"
    assert wrapped.ReadRaster() == original.ReadRaster()


def test_layers_that_live_in_qgis_only_are_refused_by_name(
    context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    gdal.Translate("/vsimem/S2_20180105.tif", str(scene / "S2" / "S2_20180105.tif"))
    with pytest.raises(layers.LayerError, match="'inside' is in the memory of QGIS"):
        layers.sources([layer_of("/vsimem/S2_20180105.tif", "inside")], context)
    gdal.Unlink("/vsimem/S2_20180105.tif")
    tiles = QgsRasterLayer("type=xyz&url=http://127.0.0.1:9/{z}/{x}/{y}.png", "tiles of the web", "wms")
    with pytest.raises(layers.LayerError, match=r"'tiles of the web' \(wms\)"):
        layers.sources([tiles], context)


def test_layers_of_the_project_are_found_by_id_and_name(context: QgsProcessingContext, scene: Path) -> None:
    layer = layer_of(scene / "S2" / "S2_20180105.tif", "first")
    QgsProject.instance().addMapLayer(layer)
    for given in (layer.id(), "first", [layer.id()], layer):
        (source,) = layers.sources(given, context)
        assert source.path == str(scene / "S2" / "S2_20180105.tif")
    QgsProject.instance().clear()


def test_missing_bands_are_named(context: QgsProcessingContext, scene: Path, tmp_path: Path) -> None:
    part = tmp_path / "S2_20180105.tif"
    gdal.Translate(str(part), str(scene / "S2" / "S2_20180105.tif"), bandList=[1, 2, 3, 7])
    found = layers.sources([layer_of(part, "four")], context)
    assert layers.missing_bands(found, layers.S2_BANDS).startswith("None of the chosen layers ('four' …) has the band")
    assert "B05, B06, B07, B8A, B11, B12" in layers.missing_bands(found, layers.S2_BANDS)
    whole = layers.sources([layer_of(scene / "S2" / "S2_20180115.tif")], context)
    assert layers.missing_bands(whole, layers.S2_BANDS) == ""
    radar = layers.sources([layer_of(scene / "S1" / "S1_20180105.tif")], context)
    assert layers.missing_bands(radar, layers.S1_BANDS) == ""
