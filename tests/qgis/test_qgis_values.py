"""Values of every kind a parameter can have, in one process with QGIS: from batch, models, expressions and scripts."""

from __future__ import annotations

import inspect
import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from malice_qgis import checks, styling
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingModelAlgorithm,
    QgsProcessingModelChildAlgorithm,
    QgsProcessingModelChildParameterSource,
    QgsProcessingModelOutput,
    QgsProcessingModelParameter,
    QgsProcessingParameterFile,
    QgsProcessingParameterNumber,
    QgsProject,
    QgsProperty,
    QgsRasterLayer,
    QgsRectangle,
    QgsReferencedRectangle,
)
from qgis.PyQt.QtCore import QCoreApplication, QVariant

from helpers_qgis import Log, command_line, pixels


def test_batch_rows_leave_a_result_each(
    provider: object,
    context: QgsProcessingContext,
    scene: Path,
    tmp_path: Path,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows of the batch dialog, loaded from a file: two good ones, and between them one that is refused."""
    from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog
    from processing.gui.BatchPanel import BatchPanel

    # Rows are json since 3.40, of Python's literals before.
    new = hasattr(BatchPanel, "CURRENT_FORMAT")
    rows = []
    for query, folder in (("0", str(scene / "S2")), ("1", "/nowhere"), ("2", str(scene / "S2"))):
        given = {"FOLDER_S2": folder, "MODEL": "tiny", "QUERIES": query, "DTYPE": "int8"}
        given = given if new else {name: repr(value) for name, value in given.items()}
        rows.append({"PARAMETERS": given, "OUTPUTS": {"OUTPUT": str(tmp_path / f"{query}.tif")}})
    content = {BatchPanel.FORMAT: BatchPanel.CURRENT_FORMAT, BatchPanel.ROWS: rows} if new else rows
    (tmp_path / "batch.json").write_text(json.dumps(content), encoding="utf-8")
    chosen = (str(tmp_path / "batch.json"), "")
    monkeypatch.setattr("processing.gui.BatchPanel.QFileDialog.getOpenFileName", lambda *_, **__: chosen)
    dialog = BatchAlgorithmDialog(provider.algorithm("embed").create())
    panel = dialog.mainWidget()
    panel.load()
    assert panel.batchRowCount() == 3
    known = {"context": context} if "context" in inspect.signature(panel.parametersForRow).parameters else {}
    for row in range(3):
        parameters, acceptable = panel.parametersForRow(row, warnOnInvalid=True, **known)
        assert acceptable
        # As the dialog does; its own loop shows progress in a window that tests have not.
        _, good = provider.algorithm("embed").run(parameters, context, Log())
        assert good == (row != 1)
    for query in ("0", "2"):
        options = ("--queries", query, "--dtype", "int8", "--output", tmp_path / f"s{query}.tif")
        command_line(engine, scene, "--s2", scene / "S2", *options)
        assert pixels(tmp_path / f"{query}.tif") == pixels(tmp_path / f"s{query}.tif")
    assert not (tmp_path / "1.tif").exists()
    dialog.close()


def test_what_dialogs_leave_empty_counts_as_not_given(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    """Dialogs hand on null QVariants for every optional parameter that is empty."""
    algorithm = provider.algorithm("embed")
    optional = {
        one.name(): QVariant()
        for one in algorithm.parameterDefinitions()
        if one.flags() & one.FlagOptional and one.name() not in ("COUNTS", "PLAN")
    }
    given = {**optional, "MODEL": "tiny", "INPUT_S2": [str(scene / "S2" / "S2_20180105.tif")], "QUERIES": "0"}
    given["OUTPUT"] = str(tmp_path / "e.tif")
    assert algorithm.checkParameterValues(given, context) == (True, "")
    _, good = algorithm.run(given, context, Log())
    assert good
    assert algorithm.checkParameterValues({**given, "INPUT_S2": QVariant()}, context)[1].startswith("Nothing is chosen")


def test_in_a_model_that_was_saved(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, engine: str
) -> None:
    """A .model3: embed with a date from an expression, then classes of a band of its result."""
    model = QgsProcessingModelAlgorithm("a year", "tests")
    for parameter in (
        QgsProcessingParameterFile("images", "images", behavior=QgsProcessingParameterFile.Folder),
        QgsProcessingParameterNumber("year", "year", QgsProcessingParameterNumber.Integer),
    ):
        model.addModelParameter(parameter, QgsProcessingModelParameter(parameter.name()))
    source = QgsProcessingModelChildParameterSource
    embed = QgsProcessingModelChildAlgorithm("malice:embed")
    embed.setChildId("embed")
    embed.addParameterSources("FOLDER_S2", [source.fromModelParameter("images")])
    embed.addParameterSources("DATE_FROM", [source.fromExpression("to_string(@year) || '-01-15'")])
    embed.addParameterSources("MODEL", [source.fromStaticValue("tiny")])
    embed.addParameterSources("QUERIES", [source.fromStaticValue("0")])
    model.addChildAlgorithm(embed)
    after = QgsProcessingModelChildAlgorithm("native:reclassifybytable")
    after.setChildId("after")
    after.addParameterSources("INPUT_RASTER", [source.fromChildOutput("embed", "OUTPUT")])
    after.addParameterSources("RASTER_BAND", [source.fromStaticValue(3)])
    after.addParameterSources("TABLE", [source.fromStaticValue(["-100", "0", "1", "0", "100", "2"])])
    output = QgsProcessingModelOutput("classes", "classes")
    output.setChildOutputName("OUTPUT")
    after.setModelOutputs({"classes": output})
    model.addChildAlgorithm(after)
    model.updateDestinationParameters()
    assert model.toFile(str(tmp_path / "year.model3"))

    again = QgsProcessingModelAlgorithm()
    assert again.fromFile(str(tmp_path / "year.model3"))
    again.initAlgorithm()
    given = {"images": str(scene / "S2"), "year": 2018, "after:classes": str(tmp_path / "m.tif")}
    results, good = again.run(given, context, Log())
    assert good, results
    options = ("--dates", "2018-01-15/", "--queries", "0", "--output")
    command_line(engine, scene, "--s2", scene / "S2", *options, tmp_path / "s.tif")
    classes, embedded = (gdal.Open(str(tmp_path / name)).ReadAsArray() for name in ("m.tif", "s.tif"))
    seen = np.isfinite(embedded[2])
    assert 0 < seen.sum() < seen.size
    np.testing.assert_array_equal(classes[seen], np.where(embedded[2][seen] <= 0, 1, 2))


def test_a_model_and_expressions_are_checked_too(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    """Models run their steps without checkParameterValues; expressions are known only when the run begins."""
    image = sorted((scene / "S2").glob("*.tif"))[0]
    before = image.read_bytes()
    base = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "QUERIES": "0", "OUTPUT": str(tmp_path / "e.tif")}
    algorithm = provider.algorithm("embed")
    for wrong, says in (
        ({"DATE_FROM": "20/01/2018"}, "is no date"),
        ({"PLAN": str(image)}, "ends in .html"),
        ({"PLAN": QgsProperty.fromExpression(f"'{image}'")}, "ends in .html"),
    ):
        log = QgsProcessingFeedback(False)
        _, good = algorithm.run({**base, **wrong}, context, log)
        assert not good
        assert says in log.textLog()
    assert image.read_bytes() == before
    assert not (tmp_path / "e.tif").exists()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"DATE_FROM": "nothing"}, "DATE_FROM: the expression"),
        ({"FOLDER_S2": "nothing"}, "FOLDER_S2: the expression"),
        ({"DATE_FROM": "'spring'"}, "'spring' is no date"),
        ({"MAX_CLOUD": "'a lot'"}, "MAX_CLOUD 'a lot'"),
        ({"FOLDER_S2": "'/no' || 'where'"}, "/nowhere"),
        ({"EDGE": "'wrap'"}, "EDGE 'wrap' is none of mirror, published"),
    ],
)
def test_expressions_have_a_right_value_or_are_refused(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, wrong: dict[str, str], says: str
) -> None:
    base = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "QUERIES": "0", "OUTPUT": str(tmp_path / "e.tif")}
    given = {name: QgsProperty.fromExpression(text) for name, text in wrong.items()}
    log = QgsProcessingFeedback(False)
    _, good = provider.algorithm("embed").run({**base, **given}, context, log)
    assert not good
    assert says in log.textLog()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_texts_no_name_can_hold_are_one_line(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, text: str
) -> None:
    base = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "OUTPUT": str(tmp_path / "e.tif")}
    for name, value in (("INPUT_S2", [text]), ("SCL", text), ("OUTPUT", text), ("PLAN", text), ("QUERIES", text)):
        good, says = provider.algorithm("embed").create().checkParameterValues({**base, name: value}, context)
        assert not good
        assert says.startswith(f"{name}: 'a"), says
        assert "\n" not in says


@pytest.mark.parametrize(
    ("given", "resumes"),
    [(True, True), ("yes", True), ("1", True), (False, False), ("off", False), ("FALSE ", False), (None, False)],
)
def test_yes_and_no_in_any_spelling(given: object, resumes: bool) -> None:
    assert checks.switch({"RESUME": given}, "RESUME") is resumes
    with pytest.raises(checks.Refusal, match="RESUME 'maybe' is neither true nor false"):
        checks.switch({"RESUME": "maybe"}, "RESUME")


def test_without_a_temporary_folder_nothing_is_temporary(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed run leaves what lay beside its output, also where QGIS could make no temporary folder, or a like one."""
    precious = tmp_path / "e.tif.malice" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "OUTPUT": str(tmp_path / "e.tif")}
    for folder in ("", str(tmp_path)[:-1], str(tmp_path)):
        monkeypatch.setattr("malice_qgis.algorithms.embed.QgsProcessingUtils.tempFolder", lambda *_, f=folder: f)
        assert not provider.algorithm("embed").run(given, context, QgsProcessingFeedback(False))[1]
        assert [one.name for one in precious.parent.iterdir()] == ["precious.txt"]


def test_a_plan_is_whole_or_what_it_was(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "p.html"
    page.write_text("the old one")
    given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "QUERIES": "0", "OUTPUT": str(tmp_path / "e.tif")}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("malice_qgis.tables.os.replace", full)
        log = QgsProcessingFeedback(False)
        results, good = provider.algorithm("embed").run({**given, "PLAN": str(page)}, context, log)
    assert good
    assert "PLAN" not in results
    assert "No space left" in log.textLog()
    assert page.read_text() == "the old one"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["e.tif", "p.html"]
    (tmp_path / "e.tif.malice").mkdir()
    inside = {**given, "PLAN": str(tmp_path / "e.tif.malice" / "p.html")}
    good, says = provider.algorithm("embed").create().checkParameterValues(inside, context)
    assert not good
    assert "unfinished work" in says


def test_folders_dates_and_outputs_may_be_expressions(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, engine: str
) -> None:
    given = {
        "FOLDER_S2": f"'{scene}' || '/S2'",
        "DATE_FROM": "to_date('2018-01-15')",
        "QUERIES": "to_string(0)",
        "OUTPUT": f"'{tmp_path}' || '/q.tif'",
    }
    parameters = {name: QgsProperty.fromExpression(text) for name, text in given.items()}
    results, good = provider.algorithm("embed").run({**parameters, "MODEL": "tiny"}, context, Log())
    assert good
    options = ("--dates", "2018-01-15/", "--queries", "0", "--output")
    command_line(engine, scene, "--s2", scene / "S2", *options, tmp_path / "s.tif")
    assert pixels(Path(results["OUTPUT"])) == pixels(tmp_path / "s.tif")


def test_an_area_in_a_crs_of_this_qgis_only(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, engine: str
) -> None:
    """A CRS without an authority's code (the same as the images', with another false easting) travels as WKT."""
    own = QgsCoordinateReferenceSystem()
    own.createFromProj("+proj=tmerc +lat_0=0 +lon_0=3 +k=0.9996 +x_0=100000 +y_0=0 +datum=WGS84 +units=m")
    area = QgsReferencedRectangle(QgsRectangle(100052, 5599702, 100298, 5599948), own)
    given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "QUERIES": "0", "EXTENT": area}
    results, good = provider.algorithm("embed").run({**given, "OUTPUT": str(tmp_path / "q.tif")}, context, Log())
    assert good
    options = ("--aoi", 500052, 5599702, 500298, 5599948, "--queries", "0", "--output")
    command_line(engine, scene, "--s2", scene / "S2", *options, tmp_path / "s.tif")
    assert pixels(Path(results["OUTPUT"])) == pixels(tmp_path / "s.tif")


def test_scales_of_int8_replace_nobody_elses_file(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    """QGIS asks before it replaces OUTPUT; of NAME_scale.tif it knows nothing."""
    theirs = Path(shutil.copy(scene / "S2" / "S2_20180105.tif", tmp_path / "e_scale.tif"))
    before = theirs.read_bytes()
    given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "QUERIES": "0", "DTYPE": "int8"}
    log = QgsProcessingFeedback(False)
    _, good = provider.algorithm("embed").run({**given, "OUTPUT": str(tmp_path / "e.tif")}, context, log)
    assert not good
    assert "e_scale.tif" in log.textLog()
    assert theirs.read_bytes() == before
    theirs.unlink()
    for _ in range(2):
        _, good = provider.algorithm("embed").run({**given, "OUTPUT": str(tmp_path / "e.tif")}, context, Log())
        assert good, "its own scales may be replaced"


def test_what_goes_wrong_after_the_raster_takes_nothing_away(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Colours that fail and a plan's folder that is gone are told; the result counts."""

    def failing(path: str) -> None:
        shutil.rmtree(tmp_path / "plans", ignore_errors=True)
        raise RuntimeError("no colours today")

    monkeypatch.setattr(styling, "look_of", failing)
    (tmp_path / "plans").mkdir()
    given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "QUERIES": "0", "OUTPUT": str(tmp_path / "e.tif")}
    details = QgsProcessingContext.LayerDetails("e", QgsProject.instance(), "OUTPUT")
    context.addLayerToLoadOnCompletion(str(tmp_path / "e.tif"), details)
    log = QgsProcessingFeedback(False)
    results, good = provider.algorithm("embed").run({**given, "PLAN": str(tmp_path / "plans" / "p.html")}, context, log)
    assert good
    assert results["PLAN"]
    assert "no colours today" in log.textLog()
    monkeypatch.setattr("malice_qgis.algorithms.embed._write_plan", lambda *_: (tmp_path / "no" / "p").write_text(""))
    log = QgsProcessingFeedback(False)
    results, good = provider.algorithm("embed").run({**given, "PLAN": str(tmp_path / "p.html")}, context, log)
    assert good
    assert "PLAN" not in results
    assert f"PLAN {tmp_path / 'p.html'} cannot be written" in log.textLog()


def test_cloudy_dates_that_stay_are_told(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "QUERIES": "0", "OUTPUT": str(tmp_path / "e.tif")}
    for more, told in (({}, True), ({"MAX_CLOUD": None}, False)):
        log = Log()
        assert provider.algorithm("embed").run({**given, **more}, context, log)[1]
        assert any("cloudy dates are not left out" in text for text in log.warnings) is told


def test_when_another_plugin_makes_gdal_raise(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    """gdal.UseExceptions() holds for all of QGIS."""
    gone = tmp_path / "image a.tif"
    shutil.copy(scene / "undated" / "image a.tif", gone)
    layer = QgsRasterLayer(str(gone), "gone", "gdal")
    gone.unlink()
    given = {"INPUT_S2": [layer], "MODEL": "tiny", "QUERIES": "0", "OUTPUT": str(tmp_path / "e.tif")}
    gdal.UseExceptions()
    try:
        good, text = provider.algorithm("embed").create().checkParameterValues(given, context)
        assert not good
        assert "'gone' has no date" in text
        given["INPUT_S2"] = sorted(map(str, (scene / "S2").glob("*.tif")))
        assert provider.algorithm("embed").run(given, context, Log())[1]
    finally:
        gdal.DontUseExceptions()


def test_a_layer_as_area_is_read_in_its_own_thread(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from malice_qgis.algorithms.embed import EmbedAlgorithm

    layer = QgsRasterLayer(str(scene / "S2" / "S2_20180105.tif"), "area [old]", "gdal")
    QgsProject.instance().addMapLayer(layer)
    threads, real = [], EmbedAlgorithm._crs

    def seen(self: EmbedAlgorithm, *given: object) -> str:
        threads.append(threading.current_thread())
        return real(self, *given)

    monkeypatch.setattr(EmbedAlgorithm, "_crs", seen)
    for extent in (layer.id(), layer.name()):
        given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "QUERIES": "0", "EXTENT": extent}
        log = Log()  # the task does not own it
        task = QgsProcessingAlgRunnerTask(
            provider.algorithm("embed"), {**given, "OUTPUT": str(tmp_path / "e.tif")}, context, log
        )
        ended: list[bool] = []
        task.executed.connect(lambda good, _results, ended=ended: ended.append(good))
        QgsApplication.taskManager().addTask(task)
        begun = time.monotonic()
        while not ended and time.monotonic() - begun < 60:
            QCoreApplication.processEvents()
            time.sleep(0.005)
        assert ended == [True]
    assert threads == [threading.main_thread()] * 2
