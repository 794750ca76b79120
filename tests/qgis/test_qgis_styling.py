"""How results of each kind look, on rasters made here with the tags of the engine."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from malice_qgis import styling
from osgeo import gdal
from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputLayerDefinition,
    QgsProject,
    QgsRasterLayer,
)
from qgis.PyQt.QtGui import QColor


def write(path: Path, planes: dict[str, np.ndarray], tags: dict[str, str], nodata: float | None = None) -> str:
    """A raster with named bands of 32 x 32 pixels; bytes where all planes are."""
    whole = all(plane.dtype == np.uint8 for plane in planes.values())
    kind = gdal.GDT_Byte if whole else gdal.GDT_Float32
    target = gdal.GetDriverByName("GTiff").Create(str(path), 32, 32, len(planes), kind)
    target.SetMetadata(tags)
    for number, (name, plane) in enumerate(planes.items(), 1):
        band = target.GetRasterBand(number)
        band.SetDescription(name)
        if nodata is not None:
            band.SetNoDataValue(nodata)
        band.WriteRaster(0, 0, 32, 32, plane.astype(np.uint8 if whole else np.float32).tobytes())
    target.FlushCache()
    return str(path)


def dressed(path: str, look: styling.Look) -> QgsRasterLayer:
    layer = QgsRasterLayer(path, "x", "gdal")
    styling.dress(layer, look)
    return layer


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, 32, 32))


def pixel(layer: QgsRasterLayer, row: int, col: int) -> QColor:
    """The colour a pixel is drawn in."""
    return QColor.fromRgba(layer.renderer().block(1, layer.extent(), 32, 32).color(row, col))


def test_components_have_the_stretch_of_their_fit(tmp_path: Path, qgis_app: object) -> None:
    """A year whose values differ is drawn with the same limits, so that a value has one colour in both."""
    tags = {"MALICE_STRETCH": json.dumps([[-2, 2], [-1, 1], [0, 4]])}
    bands = {f"PC{number}": plane for number, plane in enumerate(noise(3), 1)}
    layers = []
    for year, factor in (("a", 1.0), ("b", 5.0)):
        planes = {name: plane * factor for name, plane in bands.items()}
        for name, value in (("PC1", 1.0), ("PC2", 0.5), ("PC3", 1.0)):
            planes[name][3, 4] = value
        path = write(tmp_path / f"{year}.tif", planes, tags)
        layers.append(dressed(path, styling.components(path, "Components.")))
    for layer in layers:
        stretches = (
            layer.renderer().redContrastEnhancement(),
            layer.renderer().greenContrastEnhancement(),
            layer.renderer().blueContrastEnhancement(),
        )
        assert [(one.minimumValue(), one.maximumValue()) for one in stretches] == [(-2, 2), (-1, 1), (0, 4)]
        assert (layer.renderer().redBand(), layer.renderer().greenBand(), layer.renderer().blueBand()) == (1, 2, 3)
    # 3/4, 3/4 and 1/4 of their limits.
    for channel in ("red", "green", "blue"):
        first, second = (getattr(pixel(layer, 3, 4), channel)() for layer in layers)
        assert first == second
        assert abs(first - 255 * (0.25 if channel == "blue" else 0.75)) <= 1.5


@pytest.mark.parametrize("tag", ["", "no json", "[[1, 0], [0, 1], [0, 1]]", "[[0, 1]]", '{"a": 1}', "[[0, NaN]]"])
def test_components_without_a_usable_stretch_show_their_own(tmp_path: Path, qgis_app: object, tag: str) -> None:
    planes = dict(zip(("PC1", "PC2", "PC3"), noise(3), strict=True))
    look = styling.components(write(tmp_path / "x.tif", planes, {"MALICE_STRETCH": tag}), "")
    for channel, plane in zip(look.style.channels, planes.values(), strict=True):
        low, high = np.percentile(plane, (2, 98))
        assert abs(channel.low - low) < 0.2
        assert abs(channel.high - high) < 0.2


@pytest.mark.parametrize(
    ("count", "others"), [(1, []), (2, ["PC2"]), (3, []), (7, ["PC4 PC5 PC6"]), (9, ["PC4 PC5 PC6", "PC7 PC8 PC9"])]
)
def test_any_number_of_components_is_shown(tmp_path: Path, qgis_app: object, count: int, others: list[str]) -> None:
    planes = {f"PC{number}": plane for number, plane in enumerate(noise(count), 1)}
    path = write(tmp_path / "x.tif", planes, {"MALICE_STRETCH": json.dumps([[-1, 1]] * count)})
    layer = dressed(path, styling.components(path, ""))
    assert sorted(layer.styleManager().styles()) == sorted(["default", *others])
    assert layer.renderer().type() == ("multibandcolor" if count > 2 else "singlebandpseudocolor")


def test_numbers_have_a_ramp_and_a_style_a_band(tmp_path: Path, qgis_app: object) -> None:
    plane = np.linspace(0, 1, 1024).reshape(32, 32)
    path = write(tmp_path / "x.tif", {"maize": plane, "wheat": plane[::-1]}, {})
    layer = dressed(path, styling.numbers(path, "", (0.0, 1.0)))
    assert layer.renderer().type() == "singlebandpseudocolor"
    assert (layer.renderer().classificationMin(), layer.renderer().classificationMax()) == (0, 1)
    assert layer.renderer().band() == 1
    # Ends and middle of viridis.
    assert pixel(layer, 0, 0).name() == "#440154"
    assert pixel(layer, 31, 31).name() == "#fde725"
    assert abs(pixel(layer, 15, 31).green() - 0x91) <= 2
    assert sorted(layer.styleManager().styles()) == ["default", "wheat"]
    layer.styleManager().setCurrentStyle("wheat")
    assert layer.renderer().band() == 2
    own = styling.numbers(path, "")
    assert own.name == "maize"
    assert 0 <= own.style.channel.low < 0.1
    assert 0.88 < own.style.channel.high <= 1


def test_bands_without_names_or_values_have_styles_all_the_same(tmp_path: Path, qgis_app: object) -> None:
    path = write(tmp_path / "x.tif", {"": np.full((32, 32), np.nan)}, {}, np.nan)
    layer = dressed(path, styling.numbers(path, ""))
    assert layer.renderer().type() == "singlebandpseudocolor"
    assert layer.renderer().classificationMin() < layer.renderer().classificationMax()


def test_classes_have_names_and_colours_of_the_file(tmp_path: Path, qgis_app: object) -> None:
    classes = {"1": {"name": "maize", "colour": "#ffaa00"}, "7": {"name": "Weizen <é>", "colour": "#00aaff"}}
    values = np.zeros((32, 32), np.uint8)
    values[2, 3], values[4, 5] = 1, 7
    path = write(tmp_path / "x.tif", {"class": values}, {"MALICE_CLASSES": json.dumps(classes)}, 0)
    layer = dressed(path, styling.classes(path, ""))
    assert layer.renderer().type() == "paletted"
    told = [(int(one.value), one.color.name(), one.label) for one in layer.renderer().classes()]
    assert told == [(1, "#ffaa00", "maize"), (7, "#00aaff", "Weizen <é>")]
    assert pixel(layer, 2, 3).name() == "#ffaa00"
    assert pixel(layer, 4, 5).name() == "#00aaff"
    assert pixel(layer, 0, 0).alpha() == 0
    # Names of the legend go with the project.
    QgsProject.instance().addMapLayer(layer)
    QgsProject.instance().write(str(tmp_path / "p.qgs"))
    QgsProject.instance().clear()
    assert QgsProject.instance().read(str(tmp_path / "p.qgs"))
    (again,) = QgsProject.instance().mapLayers().values()
    assert [one.label for one in again.renderer().classes()] == ["maize", "Weizen <é>"]
    QgsProject.instance().clear()


@pytest.mark.parametrize("tag", ["", "[1]", '{"a": {"name": "x"}}', '{"1": 5}'])
def test_classes_without_names_are_coloured_by_the_files_table(tmp_path: Path, qgis_app: object, tag: str) -> None:
    path = write(tmp_path / "x.tif", {"class": np.ones((32, 32), np.uint8)}, {"MALICE_CLASSES": tag}, 0)
    assert styling.classes(path, "").style.entries == ()
    table = gdal.ColorTable()
    table.SetColorEntry(1, (255, 0, 16, 255))
    dataset = gdal.Open(path, gdal.GA_Update)
    dataset.GetRasterBand(1).SetColorTable(table)
    del dataset
    assert styling.classes(path, "").style.entries == ((1, "#ff0010", "1"),)


def test_change_shows_distance_and_has_a_style_for_the_rest(tmp_path: Path, qgis_app: object) -> None:
    distance = np.abs(noise(1)[0])
    planes = {"distance": distance, "significance": distance / distance.max(), "changed": (distance > 2) * 1.0}
    path = write(tmp_path / "x.tif", planes, {})
    layer = dressed(path, styling.change(path, ""))
    assert (layer.renderer().type(), layer.renderer().band()) == ("singlebandpseudocolor", 1)
    assert layer.renderer().classificationMin() == 0
    styles = layer.styleManager()
    assert sorted(styles.styles()) == ["changed", "default", "significance"]
    assert styles.setCurrentStyle("changed")
    assert (layer.renderer().type(), layer.renderer().band()) == ("paletted", 3)
    there, elsewhere = np.argwhere(distance > 2)[0], np.argwhere(distance < 2)[0]
    assert pixel(layer, *map(int, there)).name() == "#d7191c"
    assert pixel(layer, *map(int, elsewhere)).alpha() == 0


def test_bands_of_an_embedding_are_grouped_by_query(tmp_path: Path, qgis_app: object) -> None:
    names = [
        f"{sensor}_Q{query:02d}F{feature:02d}" for sensor in ("S2", "S1") for query in (0, 3) for feature in range(8)
    ]
    planes = dict(zip(names, noise(len(names)), strict=True))
    tags = {"MALICE_MODEL": "malice", "MALICE_DATES_S2": "2018-01-05,2018-02-04", "MALICE_DATES_S1": "2018-01-20"}
    path = write(tmp_path / "x.tif", planes, tags)
    look = styling.look_of(path)
    assert look.name == "MALICE S2+S1 2018-01-05 – 2018-02-04"
    assert look.bands == ("query 0: bands 1–8, 17–24", "query 3: bands 9–16, 25–32")
    layer = dressed(path, look)
    assert sorted(layer.styleManager().styles()) == ["default", "query 0", "query 3"]
    assert layer.styleManager().currentStyle() == "default"
    for style, bands in (("query 0", {*range(1, 9), *range(17, 25)}), ("query 3", {*range(9, 17), *range(25, 33)})):
        layer.styleManager().setCurrentStyle(style)
        renderer = layer.renderer()
        shown = {renderer.redBand(), renderer.greenBand(), renderer.blueBand()}
        assert len(shown) == 3
        assert shown <= bands
        assert layer.temporalProperties().isActive()
    assert "query 3: bands 9–16, 25–32" in layer.metadata().abstract()


def test_looks_of_runs_that_end_together_are_all_kept(qgis_app: object) -> None:
    """QGIS holds a bare pointer to each: one that Python forgets is called all the same."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            made: list[styling.PostProcessor] = []
            look = styling.Look("x", "")

            def make(made: list[styling.PostProcessor] = made, look: styling.Look = look) -> None:
                made.extend([styling.PostProcessor.of(look, True) for _ in range(15)])

            threads = [threading.Thread(target=make) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert set(map(id, made)) <= set(map(id, styling.PostProcessor._alive))
    finally:
        sys.setswitchinterval(before)


@pytest.mark.parametrize(("group", "wanted"), [("", "MALICE"), ("mine", "mine")])
def test_results_stand_in_a_group_where_qgis_has_one(tmp_path: Path, qgis_app: object, group: str, wanted: str) -> None:
    """QGIS 3.32 and later; a group that a model asks for stays."""
    details = SimpleNamespace(name="", groupName=group, setPostProcessor=lambda _: None)
    context = SimpleNamespace(layerToLoadOnCompletionDetails=lambda _: details)
    styling.show(context, "x.tif", "x.tif", styling.Look("PCA – x", ""))
    assert (details.name, details.groupName) == ("PCA – x", wanted)
    context = QgsProcessingContext()
    path = write(tmp_path / "x.tif", {"a": noise(1)[0]}, {})
    context.addLayerToLoadOnCompletion(path, QgsProcessingContext.LayerDetails("e", QgsProject.instance(), "OUTPUT"))
    wish = QgsProcessingOutputLayerDefinition(path)
    wish.destinationName = "my name"
    styling.show(context, path, wish, styling.numbers(path, ""))
    layer = QgsRasterLayer(path, "my name", "gdal")
    context.layerToLoadOnCompletionDetails(path).postProcessor().postProcessLayer(
        layer, context, QgsProcessingFeedback()
    )
    assert layer.name() == "my name"
    assert layer.renderer().type() == "singlebandpseudocolor"
