"""The tools on embeddings in QGIS: the engine's numbers, layers of any provider, one line for what is wrong."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingFeatureSourceDefinition,
    QgsProcessingOutputHtml,
    QgsProcessingUtils,
    QgsProject,
    QgsProperty,
    QgsRasterLayer,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

from helpers_qgis import Log, command_line, pixels

LEARNING = "INPUT LABELS FIELD METHOD CLASSIFIER FOLDS FOLD_SIZE PER_PLACE SEED OUTPUT REPORT SAVE_CLASSIFIER"
#: Parameters by tool; those of computing are in all of them.
TOOLS = {
    "pca": "INPUT COMPONENTS FIT SAMPLE SEED OUTPUT SAVE_FIT",
    "similarity": "INPUT REFERENCES FIELD MEASURE OUTPUT",
    "cluster": "INPUT CLUSTERS FIT SAMPLE SEED OUTPUT SAVE_FIT",
    "classify": f"{LEARNING} PER_CLASS PROBABILITY",
    "regress": f"{LEARNING} PIXELS",
    "change": "BEFORE AFTER MEASURE THRESHOLD OUTPUT",
    "sample": "INPUT POINTS OUTPUT",
}
ADVANCED = {"SAMPLE", "SEED", "FOLDS", "FOLD_SIZE", "PER_PLACE", "PER_CLASS", "PIXELS", "MEMORY", "THREADS"}


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory, scene: Path, engine_python: str) -> Path:
    """``before.tif`` and ``after.tif``: two embeddings of the same place; ``other.tif``: of other queries."""
    folder = tmp_path_factory.mktemp("years")
    for name, days, queries in (
        ("before", "2018-01-05/2018-01-25", "0"),
        ("after", "2018-01-15/2018-02-04", "0"),
        ("other", "2018-01-05/2018-01-25", "1"),
    ):
        options = ("--s2", scene / "S2", "--dates", days, "--queries", queries)
        command_line(engine_python, scene, *options, "--output", folder / f"{name}.tif")
    return folder


def engine_run(python: str, tool: str, *arguments: object) -> None:
    """A tool from the shell."""
    command = [python, "-I", "-m", f"malice_core.{tool}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def run(provider: Any, context: QgsProcessingContext, tool: str, **parameters: Any) -> dict[str, Any]:
    log = Log()
    results, good = provider.algorithm(tool).run(parameters, context, log)
    assert good, log.texts
    return results


def says(provider: Any, context: QgsProcessingContext, tool: str, **parameters: Any) -> str:
    """The one line of a refusal, before the run and of the run itself, which models begin without the former."""
    algorithm = provider.algorithm(tool).create()
    good, before = algorithm.checkParameterValues(parameters, context)
    assert not good
    assert "\n" not in before
    return before


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_is_complete(provider: Any, tool: str) -> None:
    algorithm = provider.algorithm(tool)
    assert algorithm.id() == f"malice:{tool}"
    assert (algorithm.groupId(), algorithm.group()) == ("embeddings", "Embeddings")
    assert algorithm.canExecute() == (True, "")
    assert not algorithm.flags() & algorithm.FlagNoThreading
    assert not algorithm.icon().isNull()
    assert "embedding" in algorithm.tags()
    assert algorithm.shortDescription()
    assert "<p>" in algorithm.shortHelpString()
    assert algorithm.helpUrl().endswith(".md")
    definitions = algorithm.parameterDefinitions()
    assert {one.name() for one in definitions} == {*TOOLS[tool].split(), "MEMORY", "THREADS"}
    for definition in definitions:
        assert definition.help(), definition.name()
        assert definition.description(), definition.name()
        assert bool(definition.flags() & definition.FlagAdvanced) == (definition.name() in ADVANCED), definition.name()


def test_components_are_the_engines_and_a_fit_is_used_again(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, engine: str
) -> None:
    fit = tmp_path / "fit.json"
    given = {"INPUT": str(years / "before.tif"), "COMPONENTS": 4, "OUTPUT": str(tmp_path / "q.tif")}
    results = run(provider, context, "pca", **given, SAVE_FIT=str(fit))
    assert results == {"OUTPUT": str(tmp_path / "q.tif"), "SAVE_FIT": str(fit)}
    engine_run(engine, "pca", "--input", years / "before.tif", "--components", 4, "--output", tmp_path / "s.tif")
    assert pixels(tmp_path / "q.tif") == pixels(tmp_path / "s.tif")
    # The number of components is the fit's, whatever the dialog proposes.
    again = {"INPUT": str(years / "after.tif"), "FIT": str(fit), "OUTPUT": str(tmp_path / "a.tif"), "COMPONENTS": 3}
    run(provider, context, "pca", **again)
    assert gdal.Open(str(tmp_path / "a.tif")).RasterCount == 4
    stretches = [gdal.Open(str(tmp_path / name)).GetMetadataItem("MALICE_STRETCH") for name in ("q.tif", "a.tif")]
    assert stretches[0] == stretches[1] != ""
    assert says(provider, context, "pca", **{**again, "SAVE_FIT": str(tmp_path / "x.json")}).startswith("FIT is used")
    # Of other queries: the engine's own sentence.
    log = Log()
    wrong = {**again, "INPUT": str(years / "other.tif"), "OUTPUT": str(tmp_path / "o.tif")}
    assert not provider.algorithm("pca").run(wrong, context, log)[1]
    assert not (tmp_path / "o.tif").exists()


@pytest.mark.parametrize(
    ("tool", "given", "line"),
    [
        ("pca", {}, "INPUT"),
        ("pca", {"INPUT": "/nowhere.tif"}, "INPUT: /nowhere.tif is no raster"),
        ("pca", {"INPUT": "{scene}/S2/S2_20180105.tif"}, "S2_20180105.tif is no embedding"),
        ("pca", {"COMPONENTS": 0}, "COMPONENTS '0' is not a whole number from 1 to"),
        ("pca", {"COMPONENTS": 1.5}, "COMPONENTS '1.5' is not a whole number"),
        ("pca", {"COMPONENTS": "many"}, "COMPONENTS 'many' is not"),
        ("pca", {"FIT": "/no/fit.json"}, "FIT: there is no file /no/fit.json"),
        ("pca", {"MEMORY": "much"}, "MEMORY 'much' is no size"),
        ("pca", {"OUTPUT": "{years}/before.tif"}, "INPUT and OUTPUT are the same file"),
        ("pca", {"OUTPUT": "{tmp}/x.tif", "SAVE_FIT": "{tmp}/x.tif"}, "OUTPUT and SAVE_FIT are the same file"),
        ("cluster", {"CLUSTERS": 1}, "CLUSTERS '1' is not a whole number from 2 to 65535"),
        ("similarity", {"MEASURE": "nearness"}, "MEASURE 'nearness' is none of cosine, euclidean"),
        ("similarity", {"REFERENCES": "{years}/before.tif"}, "REFERENCES"),
        ("classify", {}, "Nothing to learn from: give LABELS"),
        ("classify", {"LABELS": "{labels}"}, "FIELD is not set"),
        ("classify", {"LABELS": "{labels}", "FIELD": "crops"}, "FIELD crops: layer"),
        ("classify", {"LABELS": "{labels}", "FIELD": "crop", "METHOD": "svm"}, "METHOD 'svm' is none of linear"),
        ("classify", {"LABELS": "{labels}", "FIELD": "crop", "FOLD_SIZE": -1}, "FOLD_SIZE '-1' is not a number from 1"),
        ("classify", {"LABELS": "{labels}", "CLASSIFIER": "{labels}"}, "LABELS are learned from, CLASSIFIER has"),
        ("regress", {}, "Nothing to learn from"),
        ("change", {"BEFORE": "{years}/before.tif"}, "AFTER is not set"),
        ("change", {"BEFORE": "{years}/before.tif", "AFTER": "{years}/after.tif", "THRESHOLD": "-1"}, "THRESHOLD '-1'"),
        ("sample", {}, "POINTS"),
        ("sample", {"POINTS": "{labels}", "OUTPUT": "{labels}"}, "POINTS and OUTPUT are the same file"),
    ],
)
def test_what_is_wrong_is_told_before_the_run(
    provider: Any,
    context: QgsProcessingContext,
    scene: Path,
    years: Path,
    tmp_path: Path,
    tool: str,
    given: dict[str, Any],
    line: str,
) -> None:
    labels = saved(drawn("Point", [(spot(3, 9), ["a", 1])]), tmp_path / "labels.gpkg")
    names = {"scene": scene, "years": years, "tmp": tmp_path, "labels": labels}
    told = {name: value.format(**names) if isinstance(value, str) else value for name, value in given.items()}
    if tool != "change" and (tool, given) != ("pca", {}):
        told = {"INPUT": str(years / "before.tif"), **told}
    told = {"OUTPUT": str(tmp_path / "o.gpkg" if tool == "sample" else tmp_path / "o.tif"), **told}
    before = {path: path.read_bytes() for path in years.iterdir()}
    assert line in says(provider, context, tool, **told)
    # A model runs its steps without that check.
    log = Log()
    assert not provider.algorithm(tool).run(told, context, log)[1]
    assert {path: path.read_bytes() for path in years.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.gpkg"]


def test_a_result_of_a_tool_is_no_embedding(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path
) -> None:
    run(provider, context, "pca", INPUT=str(years / "before.tif"), OUTPUT=str(tmp_path / "q.tif"))
    told = says(provider, context, "pca", INPUT=str(tmp_path / "q.tif"), OUTPUT=str(tmp_path / "r.tif"))
    assert "q.tif is no embedding" in told


def test_the_picture_is_dressed_and_named(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two years by one fit, loaded as Processing does: their limits are the same, their names tell them apart."""
    import processing

    monkeypatch.setattr("processing.gui.Postprocessing.iface", None, raising=False)
    layer = QgsRasterLayer(str(years / "before.tif"), "My year", "gdal")
    QgsProject.instance().addMapLayer(layer)
    fit = str(tmp_path / "fit.json")
    for given in (
        {"INPUT": layer, "SAVE_FIT": fit, "OUTPUT": str(tmp_path / "a.tif")},
        {"INPUT": str(years / "after.tif"), "FIT": fit, "OUTPUT": "TEMPORARY_OUTPUT"},
    ):
        processing.runAndLoadResults("malice:pca", given, context=context, feedback=Log())
    QgsProject.instance().removeMapLayer(layer)
    layers = {one.name(): one for one in QgsProject.instance().mapLayers().values()}
    assert set(layers) == {"PCA – My year", "PCA – after"}
    limits = [
        (one.renderer().redContrastEnhancement().minimumValue(), one.renderer().redContrastEnhancement().maximumValue())
        for one in layers.values()
    ]
    assert limits[0] == limits[1]
    first = layers["PCA – My year"]
    assert first.temporalProperties().fixedTemporalRange().begin().toString("yyyy-MM-dd") == "2018-01-05"
    assert first.metadata().abstract().startswith("Principal components of embeddings.\nModel: tiny")
    assert first.metadata().title() == "PCA – My year"


def test_nothing_temporary_stays(provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path) -> None:
    """Neither of a run that ends well nor of one that is cancelled; and no output of the latter."""
    temporary = Path(QgsProcessingUtils.tempFolder())
    before = sorted(temporary.rglob("*"))
    given = {"INPUT": str(years / "before.tif"), "OUTPUT": str(tmp_path / "q.tif")}
    run(provider, context, "pca", **given)
    log = Log()
    log.cancel()
    begun = time.monotonic()
    assert not provider.algorithm("pca").run({**given, "OUTPUT": str(tmp_path / "c.tif")}, context, log)[1]
    assert time.monotonic() - begun < 1.5
    assert [path.name for path in tmp_path.iterdir()] == ["q.tif"]
    assert sorted(temporary.rglob("*")) == before


def test_expressions_give_parameters(provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path) -> None:
    given = {"INPUT": f"'{years}' || '/before.tif'", "COMPONENTS": "1 + 1", "OUTPUT": f"'{tmp_path}' || '/q.tif'"}
    run(provider, context, "pca", **{name: QgsProperty.fromExpression(text) for name, text in given.items()})
    assert gdal.Open(str(tmp_path / "q.tif")).RasterCount == 2


def spot(row: int, col: int) -> str:
    """The centre of a pixel of the embeddings."""
    return f"Point ({500000 + 10 * col + 5} {5600000 - 10 * row - 5})"


def square(row: int, col: int, side: int = 4) -> str:
    """Some whole pixels."""
    left, top = 500000 + 10 * col, 5600000 - 10 * row
    right, bottom = left + 10 * side, top - 10 * side
    return f"Polygon (({left} {top}, {right} {top}, {right} {bottom}, {left} {bottom}, {left} {top}))"


def drawn(kind: str, rows: list[tuple[str, list[Any]]], crs: str = "EPSG:32631") -> QgsVectorLayer:
    """A layer in memory with the fields ``crop`` and ``cover``; geometries are given in the embeddings' CRS."""
    layer = QgsVectorLayer(f"{kind}?crs={crs}&field=crop:string&field=cover:double", "drawn", "memory")
    turn = QgsCoordinateTransform(QgsCoordinateReferenceSystem("EPSG:32631"), layer.crs(), QgsProject.instance())
    for wkt, attributes in rows:
        feature, geometry = QgsFeature(layer.fields()), QgsGeometry.fromWkt(wkt)
        geometry.transform(turn)
        feature.setGeometry(geometry)
        feature.setAttributes(attributes)
        assert layer.dataProvider().addFeature(feature)
    layer.updateExtents()
    return layer


def saved(layer: QgsVectorLayer, path: Path) -> str:
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GeoJSON" if path.suffix == ".geojson" else "GPKG"
    options.layerOptions = ["COORDINATE_PRECISION=15"] if path.suffix == ".geojson" else []
    QgsVectorFileWriter.writeAsVectorFormatV3(layer, str(path), QgsProject.instance().transformContext(), options)
    return str(path)


def samples() -> list[tuple[str, list[Any]]]:
    """Squares of three crops over the whole place, with a cover each."""
    rows = []
    for number, (row, col) in enumerate((row, col) for row in range(4, 36, 6) for col in range(4, 44, 6)):
        rows.append((square(row, col), [("wheat", "maize", "Wiese é")[number % 3], 10.0 * (number % 7)]))
    return rows


@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:4326"])
def test_a_layer_drawn_in_memory_teaches_classes(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, engine: str, crs: str
) -> None:
    """The numbers are the engine's, of the same polygons in a file; with report, probability and classifier."""
    layer = drawn("Polygon", samples(), crs)
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
    # What was learned is applied as it is; what is about learning is not handed on.
    again = {**given, "LABELS": None, "CLASSIFIER": outputs["SAVE_CLASSIFIER"], "REPORT": str(tmp_path / "a.html")}
    log = Log()
    results, good = provider.algorithm("classify").run({**again, "OUTPUT": str(tmp_path / "a.tif")}, context, log)
    assert good
    assert results == {"OUTPUT": str(tmp_path / "a.tif")}
    assert any("No REPORT is written" in text for text in log.warnings)
    assert pixels(tmp_path / "a.tif") == pixels(tmp_path / "q.tif")


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


def test_numbers_are_learned_from_points(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, engine: str
) -> None:
    rows = [(spot(row, col), ["", float(row)]) for row in range(4, 38, 3) for col in range(4, 46, 3)]
    layer = drawn("Point", rows)
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


def test_clusters_are_the_engines_and_found_again(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, engine: str
) -> None:
    fit = str(tmp_path / "fit.json")
    given = {"INPUT": str(years / "before.tif"), "CLUSTERS": 5, "SEED": 7, "SAVE_FIT": fit}
    run(provider, context, "cluster", **given, OUTPUT=str(tmp_path / "q.tif"))
    options = ("--clusters", 5, "--seed", 7, "--output", tmp_path / "s.tif")
    engine_run(engine, "cluster", "--input", years / "before.tif", *options)
    assert pixels(tmp_path / "q.tif") == pixels(tmp_path / "s.tif")
    again = {"INPUT": str(years / "before.tif"), "FIT": fit, "OUTPUT": str(tmp_path / "a.tif")}
    run(provider, context, "cluster", **again)
    assert pixels(tmp_path / "a.tif") == pixels(tmp_path / "q.tif")
    look = provider.algorithm("cluster").create().look("OUTPUT", str(tmp_path / "q.tif"), given)
    assert [name for _, _, name in look.style.entries] == [f"cluster {number}" for number in range(1, 6)]
    assert len({colour for _, colour, _ in look.style.entries}) == 5
