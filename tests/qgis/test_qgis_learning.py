"""Maps that are learned in QGIS: labels of any layer, report, probability, and what is saved for other areas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from osgeo import gdal
from qgis.core import (
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingOutputHtml,
    QgsProject,
)

from helpers_qgis import Log, pixels
from helpers_tools import drawn, engine_run, run, samples, saved, spot


def test_a_layer_drawn_in_memory_teaches_classes(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, engine: str
) -> None:
    """The numbers are the engine's, of the same polygons in a file; with report, probability and classifier."""
    layer = drawn("Polygon", samples())
    outputs = {
        "OUTPUT": str(tmp_path / "q.tif"),
        "PROBABILITY": str(tmp_path / "qp.tif"),
        "REPORT": str(tmp_path / "q.html"),
        "SAVE_CLASSIFIER": str(tmp_path / "q.skops"),
    }
    given = {"INPUT": str(years / "before.tif"), "LABELS": layer, "FIELD": "crop", "FOLDS": 2, "FOLD_SIZE": 100}
    assert run(provider, context, "classify", **given, **outputs) == outputs
    engine_run(
        engine,
        *("classify", "--input", years / "before.tif", "--labels", saved(layer, tmp_path / "labels.gpkg")),
        *("--field", "crop", "--folds", 2, "--fold-size", 100, "--probability", tmp_path / "sp.tif"),
        *("--output", tmp_path / "s.tif"),
    )
    assert pixels(tmp_path / "q.tif") == pixels(tmp_path / "s.tif")
    assert pixels(tmp_path / "qp.tif") == pixels(tmp_path / "sp.tif")
    page = (tmp_path / "q.html").read_text(encoding="utf-8")
    assert "Wiese é" in page
    # In words of the dialog.
    assert "give a larger FOLD_SIZE" in page
    assert "--fold-size" not in page
    # What was learned is applied as it is; what is about learning is not handed on.
    again = {**given, "LABELS": None, "CLASSIFIER": outputs["SAVE_CLASSIFIER"], "REPORT": str(tmp_path / "a.html")}
    log = Log()
    results, good = provider.algorithm("classify").run({**again, "OUTPUT": str(tmp_path / "a.tif")}, context, log)
    assert good
    assert results == {"OUTPUT": str(tmp_path / "a.tif")}
    assert any("No REPORT is written" in text for text in log.warnings)
    assert pixels(tmp_path / "a.tif") == pixels(tmp_path / "q.tif")


def test_what_the_engine_says_of_labels_names_their_layer(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path
) -> None:
    """Not the temporary file that it reads them from."""
    layer = drawn("Polygon", [one for one in samples() if one[1][0] == "maize"])
    given = {"INPUT": str(years / "before.tif"), "LABELS": layer, "FIELD": "crop", "OUTPUT": str(tmp_path / "q.tif")}
    log = Log()
    with pytest.raises(QgsProcessingException, match="layer 'drawn' has one class, maize") as caught:
        provider.algorithm("classify").create().run(given, context, log, {}, False)
    assert ".gpkg" not in str(caught.value)
    assert not (tmp_path / "q.tif").exists()


def test_only_selected_features_teach_where_that_is_wanted(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path
) -> None:
    layer = drawn("Polygon", samples())
    QgsProject.instance().addMapLayer(layer)
    layer.selectByExpression("crop <> 'maize'")
    given = {"INPUT": str(years / "before.tif"), "FIELD": "crop", "FOLDS": 0}
    chosen = QgsProcessingFeatureSourceDefinition(layer.id(), True)
    for name, labels, classes in (
        ("all", layer, ["Wiese é", "maize", "wheat"]),
        ("some", chosen, ["Wiese é", "wheat"]),
    ):
        run(provider, context, "classify", **given, LABELS=labels, OUTPUT=str(tmp_path / f"{name}.tif"))
        told = json.loads(gdal.Open(str(tmp_path / f"{name}.tif")).GetMetadataItem("MALICE_CLASSES"))
        assert sorted(one["name"] for one in told.values()) == classes
    layer.selectByExpression("crop = 'rye'")
    log = Log()
    wrong = {**given, "LABELS": chosen, "OUTPUT": str(tmp_path / "none.tif")}
    assert not provider.algorithm("classify").run(wrong, context, log)[1]
    assert "LABELS: layer 'drawn' has no shapes, or none of them is selected" in log.errors[0]


def test_numbers_are_learned_from_points_in_another_crs(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, engine: str
) -> None:
    rows = [(spot(row, col), ["", float(row)]) for row in range(4, 38, 3) for col in range(4, 46, 3)]
    layer = drawn("Point", rows, "EPSG:4326")
    given = {"INPUT": str(years / "before.tif"), "LABELS": layer, "FIELD": "cover", "METHOD": "knn"}
    run(provider, context, "regress", **given, OUTPUT=str(tmp_path / "q.tif"))
    labels = saved(layer, tmp_path / "labels.gpkg")
    options = ("--labels", labels, "--field", "cover", "--method", "knn", "--output", tmp_path / "s.tif")
    engine_run(engine, "regress", "--input", years / "before.tif", *options)
    assert pixels(tmp_path / "q.tif") == pixels(tmp_path / "s.tif")
    assert gdal.Open(str(tmp_path / "q.tif")).GetRasterBand(1).GetDescription() == "cover"


def test_maps_that_were_learned_are_dressed_and_the_report_is_shown(
    provider: Any, context: QgsProcessingContext, years: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the dialog runs it, to temporary files."""
    import processing

    monkeypatch.setattr("processing.gui.Postprocessing.iface", None, raising=False)
    layer = drawn("Polygon", samples())
    given = {"INPUT": str(years / "before.tif"), "LABELS": layer, "FOLDS": 2, "FOLD_SIZE": 100}
    wanted = dict.fromkeys(("OUTPUT", "PROBABILITY", "REPORT"), "TEMPORARY_OUTPUT")
    processing.runAndLoadResults("malice:classify", {**given, **wanted, "FIELD": "crop"}, context=context)
    # The dialog puts outputs of this kind into the results viewer.
    assert isinstance(provider.algorithm("classify").outputDefinition("REPORT"), QgsProcessingOutputHtml)
    del wanted["PROBABILITY"]
    processing.runAndLoadResults("malice:regress", {**given, **wanted, "FIELD": "cover"}, context=context)
    layers = {one.name(): one for one in QgsProject.instance().mapLayers().values()}
    assert set(layers) == {"Classes (crop) – before", "Probability – before", "cover – before"}
    told = {one.label: one.color.name() for one in layers["Classes (crop) – before"].renderer().classes()}
    assert set(told) == {"wheat", "maize", "Wiese é"}
    assert len(set(told.values())) == 3
    limits = layers["Probability – before"].renderer()
    assert (limits.classificationMin(), limits.classificationMax()) == (0, 1)
    assert 0 <= layers["cover – before"].renderer().classificationMin() < 60
