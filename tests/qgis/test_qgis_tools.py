"""The tools on embeddings in QGIS: the engine's numbers, layers of any provider, one line for what is wrong."""

from __future__ import annotations

import ntpath
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from malice_qgis.algorithms.tool import _title
from malice_qgis.layers import Source
from osgeo import gdal
from qgis.core import (
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingUtils,
    QgsProject,
    QgsProperty,
    QgsRasterLayer,
    QgsVectorLayer,
)

from helpers_qgis import Log, pixels
from helpers_tools import drawn, engine_options, engine_run, run, saved, says, spot, square

LEARNING = "INPUT LABELS FIELD METHOD CLASSIFIER FOLDS FOLD_SIZE PER_PLACE SEED OUTPUT REPORT SAVE_CLASSIFIER"
#: Parameters by tool; those of computing are in all of them.
TOOLS = {
    "pca": "INPUT COMPONENTS FIT SAMPLE SEED OUTPUT SAVE_FIT",
    "similarity": "INPUT REFERENCES FIELD MEASURE OUTPUT",
    "cluster": "INPUT CLUSTERS FIT SAMPLE SEED OUTPUT SAVE_FIT",
    "classify": f"{LEARNING} PER_CLASS PROBABILITY",
    "regress": f"{LEARNING} PIXELS",
    "change": "BEFORE AFTER MEASURE THRESHOLD OUTPUT",
    "sample": "INPUT POINTS PREFIX OUTPUT",
}
ADVANCED = {"SAMPLE", "SEED", "FOLDS", "FOLD_SIZE", "PER_PLACE", "PER_CLASS", "PIXELS", "MEMORY", "THREADS"}


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
    assert algorithm.helpUrl().partition("#")[0].endswith(".md")
    definitions = algorithm.parameterDefinitions()
    assert {one.name() for one in definitions} == {*TOOLS[tool].split(), "MEMORY", "THREADS"}
    for definition in definitions:
        assert definition.help(), definition.name()
        assert definition.description(), definition.name()
        assert bool(definition.flags() & definition.FlagAdvanced) == (definition.name() in ADVANCED), definition.name()


def test_choices_defaults_and_limits_are_the_engines(provider: Any, engine: str) -> None:
    """What is not changed in a dialog gives what the command line gives without the option."""
    choices, numbers = {}, {}
    for tool in TOOLS:
        for one in provider.algorithm(tool).parameterDefinitions():
            if one.type() == "enum":
                choices[tool, one.name().lower()] = one
            elif one.type() in ("number", "distance"):
                numbers[tool, one.name().lower()] = one
    tried: dict[str, dict[str, list[str]]] = {tool: {} for tool in TOOLS}
    for (tool, name), one in (choices | numbers).items():
        ends = [one.minimum(), one.maximum()] if (tool, name) in numbers else []
        tried[tool][name] = [f"{end:.12g}" for end in ends]
    told = engine_options(engine, tried)
    assert len(choices) == 4
    for (tool, name), one in choices.items():
        words, default, _ = told[tool][name]
        # Of options that --classifier forbids the default is filled in later: their first word.
        assert (one.options(), one.defaultValue()) == (words, default or words[0]), (tool, name)
    for (tool, name), one in numbers.items():
        _, default, refused = told[tool][name]
        assert refused == [], (tool, name)
        assert default is None or one.defaultValue() in (None, default), (tool, name)


#: Numbers of the engine that help names, as it has them.
_NUMBERS = """
from malice_core import cluster, pca
print(cluster.SAMPLE, pca.parser().parse_args(["--input=a", "--output=b"]).sample)
"""


def test_help_names_the_engines_defaults_and_measures(provider: Any, engine: str) -> None:
    done = subprocess.run([engine, "-I", "-c", _NUMBERS], capture_output=True, text=True, timeout=60, check=True)
    drawn_by_default, every = done.stdout.split()
    helps = {
        (tool, one.name()): one.help() for tool in TOOLS for one in provider.algorithm(tool).parameterDefinitions()
    }
    assert helps["cluster", "SAMPLE"].endswith(f"By default {drawn_by_default}.")
    assert every == "None"
    assert helps["pca", "SAMPLE"].endswith("By default all.")
    assert "Without SAMPLE" in helps["pca", "SEED"]
    assert "SAMPLE" not in helps["cluster", "SEED"]
    assert "1 / (1 + distance)" in helps["similarity", "MEASURE"]
    labels = {
        tool: provider.algorithm(tool).parameterDefinition("SAVE_CLASSIFIER").description()
        for tool in ("classify", "regress")
    }
    assert labels == {"classify": "Classifier", "regress": "Trained model"}


def test_a_result_is_named_after_the_file_however_it_was_given(
    provider: Any, context: QgsProcessingContext, years: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the working folder, with dots, or with the slashes QGIS writes on Windows."""
    monkeypatch.chdir(years)
    for given in ("before.tif", f"../{years.name}/before.tif", str(years / "before.tif")):
        algorithm = provider.algorithm("pca").create()
        assert algorithm.checkParameterValues({"INPUT": given, "OUTPUT": "/tmp/o.tif"}, context) == (True, "")
        assert algorithm.title("PCA") == "PCA – before"
    windows = SimpleNamespace(exists=lambda _: True, abspath=ntpath.normpath)
    monkeypatch.setattr("malice_qgis.layers.os", SimpleNamespace(path=windows))
    monkeypatch.setattr("malice_qgis.algorithms.tool.os", SimpleNamespace(path=ntpath))
    assert _title(Source("C:/data/year.tif", r"C:\data\year.tif")) == "year"
    assert _title(Source("My year", r"C:\data\year.tif")) == "My year"


@pytest.mark.parametrize("tool", ["similarity", "sample"])
def test_the_engine_speaks_of_layers_not_of_their_temporary_files(
    provider: Any,
    context: QgsProcessingContext,
    years: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tool: str,
) -> None:
    """Also where QGIS writes a temporary folder in another way than the engine says it (on Windows its slashes)."""
    made = QgsProcessingUtils.generateTempFilename
    monkeypatch.setattr(QgsProcessingUtils, "generateTempFilename", lambda name: made(name).replace("/", "//"))
    nowhere = drawn("Point", [], "EPSG:4326")
    feature = QgsFeature(nowhere.fields())
    feature.setGeometry(QgsGeometry.fromWkt("Point (3 1000)"))
    assert nowhere.dataProvider().addFeature(feature)
    shapes, output = ("POINTS", "o.gpkg") if tool == "sample" else ("REFERENCES", "o.tif")
    given = {"INPUT": str(years / "before.tif"), shapes: nowhere, "OUTPUT": str(tmp_path / output)}
    log = Log()
    assert not provider.algorithm(tool).run(given, context, log)[1]
    (line,) = log.errors
    assert line.startswith(f"{shapes}: ")
    assert "layer 'drawn'" in line
    assert ".gpkg" not in line
    assert list(tmp_path.iterdir()) == []


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
        ("pca", {}, "INPUT is not set: choose an embedding"),
        ("pca", {"INPUT": "/nowhere.tif"}, "INPUT: /nowhere.tif is no raster"),
        ("pca", {"INPUT": "{scene}/S2/S2_20180105.tif"}, "S2_20180105.tif is no embedding"),
        ("pca", {"COMPONENTS": 0}, "COMPONENTS '0' is not a whole number from 1 to"),
        ("pca", {"COMPONENTS": 1.5}, "COMPONENTS '1.5' is not a whole number"),
        ("pca", {"COMPONENTS": "many"}, "COMPONENTS 'many' is not"),
        ("pca", {"FIT": "/no/fit.json"}, "FIT: there is no file /no/fit.json"),
        ("pca", {"MEMORY": "much"}, "MEMORY 'much' is no size"),
        ("pca", {"OUTPUT": "{years}/before.tif"}, "INPUT and OUTPUT are the same file"),
        ("pca", {"OUTPUT": "{tmp}/x.tif", "SAVE_FIT": "{tmp}/x.tif"}, "OUTPUT and SAVE_FIT are the same file"),
        ("cluster", {"CLUSTERS": 1}, "CLUSTERS '1' is not a whole number from 2 to 1000"),
        ("similarity", {"MEASURE": "nearness"}, "MEASURE 'nearness' is none of cosine, euclidean"),
        ("similarity", {"REFERENCES": "{years}/before.tif"}, "REFERENCES"),
        ("classify", {}, "Nothing to learn from: give LABELS"),
        ("classify", {"LABELS": "{labels}"}, "FIELD is not set"),
        ("classify", {"LABELS": "{labels}", "FIELD": "crops"}, "FIELD crops: layer"),
        ("classify", {"LABELS": "{labels}", "FIELD": "crop", "METHOD": "svm"}, "METHOD 'svm' is none of linear"),
        ("classify", {"LABELS": "{labels}", "FIELD": "crop", "FOLD_SIZE": -1}, "FOLD_SIZE '-1' is not a number from 1"),
        ("classify", {"LABELS": "{labels}", "FIELD": "crop", "FOLDS": 1}, "FOLDS 1 is no test: give 0 for none, or 2"),
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
    assert len(log.errors) == 1
    assert line.split(":")[0] in log.errors[0]
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


def test_change_of_two_years(
    provider: Any,
    context: QgsProcessingContext,
    years: Path,
    tmp_path: Path,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import processing

    monkeypatch.setattr("processing.gui.Postprocessing.iface", None, raising=False)
    given = {"BEFORE": str(years / "before.tif"), "AFTER": str(years / "after.tif"), "MEASURE": "euclidean"}
    processing.runAndLoadResults(
        "malice:change", {**given, "OUTPUT": str(tmp_path / "q.tif")}, context=context, feedback=Log()
    )
    options = ("--measure", "euclidean", "--output", tmp_path / "s.tif")
    engine_run(engine, "change", "--before", years / "before.tif", "--after", years / "after.tif", *options)
    assert pixels(tmp_path / "q.tif") == pixels(tmp_path / "s.tif")
    run(provider, context, "change", **given, THRESHOLD="2.5", OUTPUT=str(tmp_path / "t.tif"))
    distance, _, changed = gdal.Open(str(tmp_path / "t.tif")).ReadAsArray()
    np.testing.assert_array_equal(changed[np.isfinite(distance)], distance[np.isfinite(distance)] > 2.5)
    (layer,) = QgsProject.instance().mapLayers().values()
    assert layer.name() == "Change – before → after"
    assert sorted(layer.styleManager().styles()) == ["changed", "default", "significance"]
    span = layer.temporalProperties().fixedTemporalRange()
    days = [moment.toString("yyyy-MM-dd") for moment in (span.begin(), span.end())]
    assert days == ["2018-01-05", "2018-02-04"]
    log = Log()
    wrong = {**given, "AFTER": str(years / "other.tif"), "OUTPUT": str(tmp_path / "o.tif")}
    assert not provider.algorithm("change").run(wrong, context, log)[1]
    assert "before.tif is of queries 0" in log.errors[0]
    assert "other.tif of 1" in log.errors[0]


@pytest.mark.parametrize("kind", ["Point", "Polygon"])
def test_similarity_to_what_is_drawn(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, engine: str, kind: str
) -> None:
    """One band for all, or one a value, with a style each; in another CRS than the raster."""
    draw = spot if kind == "Point" else square
    rows = [(draw(6, 8), ["maize", 1.0]), (draw(20, 30), ["wheat", 2.0]), (draw(30, 12), ["maize", 3.0])]
    layer = drawn(kind, rows, "EPSG:3857")
    given = {"INPUT": str(years / "before.tif"), "REFERENCES": layer}
    labels = saved(layer, tmp_path / "r.gpkg")
    for name, more, options in (
        ("all", {}, ()),
        ("each", {"FIELD": "crop", "MEASURE": "euclidean"}, ("--field", "crop", "--measure", "euclidean")),
    ):
        run(provider, context, "similarity", **given, **more, OUTPUT=str(tmp_path / f"{name}.tif"))
        options = ("--references", labels, *options, "--output", tmp_path / f"s{name}.tif")
        engine_run(engine, "similarity", "--input", years / "before.tif", *options)
        assert pixels(tmp_path / f"{name}.tif") == pixels(tmp_path / f"s{name}.tif")
    algorithm = provider.algorithm("similarity").create()
    look = algorithm.look("OUTPUT", str(tmp_path / "all.tif"), given)
    assert (look.style.channel.low, look.style.channel.high) == (0, 1)
    look = algorithm.look("OUTPUT", str(tmp_path / "each.tif"), {**given, "FIELD": "crop", "MEASURE": "euclidean"})
    assert look.style.channel.low < look.style.channel.high
    assert [*look.others] == ["wheat"]


def test_the_embedding_at_points_as_a_layer(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path
) -> None:
    """Every number is that of the pixel below, beside the points' own attributes; also into a layer in memory."""
    places = [(6, 8), (39, 47), (0, 0), (20, 30)]
    rows = [(spot(row, col), [f"place {number}", None]) for number, (row, col) in enumerate(places)]
    rows.append(("Point (0 0)", ["elsewhere", 5.0]))
    layer = drawn("Point", rows, "EPSG:4326")
    raster = gdal.Open(str(years / "before.tif"))
    values = raster.ReadAsArray()
    names = [raster.GetRasterBand(number).GetDescription() for number in range(1, raster.RasterCount + 1)]
    given = {"INPUT": str(years / "before.tif"), "POINTS": layer, "PREFIX": "a_"}
    for output in ("TEMPORARY_OUTPUT", str(tmp_path / "q.gpkg"), str(tmp_path / "q.geojson")):
        results = run(provider, context, "sample", **given, OUTPUT=output)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        made = QgsProcessingUtils.mapLayerFromString(results["OUTPUT"], context)
        own = [name for name in made.fields().names() if name != "fid"]
        assert own == ["crop", "cover", *(f"a_{name}" for name in names)]
        found = {one["crop"]: one for one in made.getFeatures()}
        assert len(found) == 5
        for number, (row, col) in enumerate(places):
            one = found[f"place {number}"]
            told = [one[f"a_{name}"] for name in names]
            if np.isnan(values[0, row, col]):
                assert all(value is None or value.isNull() for value in told)
            else:
                np.testing.assert_array_equal(np.float32(told), values[:, row, col])
        assert found["elsewhere"]["cover"] == 5.0
    assert np.isnan(values[0, 0, 0]), "one of the points lies on nodata"
    # A second year beside the first.
    first = QgsVectorLayer(str(tmp_path / "q.gpkg"), "first", "ogr")
    second = {**given, "INPUT": str(years / "after.tif"), "POINTS": first, "OUTPUT": str(tmp_path / "two.gpkg")}
    run(provider, context, "sample", **{**second, "PREFIX": "b_"})
    assert QgsVectorLayer(str(tmp_path / "two.gpkg"), "two", "ogr").fields().count() == 3 + 2 * len(names)
    told = says(provider, context, "sample", **{**second, "POINTS": first, "OUTPUT": str(tmp_path / "q.gpkg")})
    assert "POINTS and OUTPUT are the same file" in told


def test_points_are_loaded_under_a_name(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import processing

    monkeypatch.setattr("processing.gui.Postprocessing.iface", None, raising=False)
    layer = drawn("Point", [(spot(6, 8), ["a", 1.0])])
    given = {"INPUT": str(years / "before.tif"), "POINTS": layer}
    for output in ("TEMPORARY_OUTPUT", str(tmp_path / "q.gpkg")):
        processing.runAndLoadResults("malice:sample", {**given, "OUTPUT": output}, context=context, feedback=Log())
        (made,) = QgsProject.instance().mapLayers().values()
        assert made.name() == "Points – before"
        assert made.isValid()
        assert made.featureCount() == 1
        QgsProject.instance().clear()
    shapefile = str(tmp_path / "q.shp")
    monkeypatch.setattr("malice_qgis.algorithms.sample.SHAPEFILE", 60)
    told = says(provider, context, "sample", **given, OUTPUT=shapefile)
    assert told.startswith(f"OUTPUT {shapefile} would have 66 columns, and a Shapefile takes 60")
