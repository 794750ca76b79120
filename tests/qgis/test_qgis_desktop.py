"""In one process with QGIS, as in its window: the result's look, batch, models, background tasks, cancel."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from malice_qgis import engine as engine_module
from malice_qgis import models, styling
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingException,
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
    QgsRasterMinMaxOrigin,
    QgsRectangle,
    QgsReferencedRectangle,
    QgsSettings,
)
from qgis.PyQt.QtCore import QCoreApplication, QVariant

from helpers_qgis import command_line, engines, pixels


class Log(QgsProcessingFeedback):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        super().__init__(False)
        self.texts: list[str] = []
        self.warnings: list[str] = []
        self.steps: list[float] = []
        self.progressChanged.connect(self.steps.append)

    def pushInfo(self, info: str) -> None:
        self.texts.append(info)

    def setProgressText(self, text: str) -> None:
        self.texts.append(text)

    def pushWarning(self, warning: str) -> None:
        self.warnings.append(warning)


@pytest.fixture
def context(qgis_app: object) -> QgsProcessingContext:
    context = QgsProcessingContext()
    context.setProject(QgsProject.instance())
    yield context
    QgsProject.instance().clear()


def test_the_provider_is_complete(provider: object) -> None:
    assert provider.id() == "malice"
    assert not provider.icon().isNull()
    algorithm = provider.algorithm("embed")
    assert algorithm.canExecute() == (True, "")
    assert not algorithm.flags() & algorithm.FlagNoThreading
    assert "sentinel-2" in algorithm.tags()
    assert algorithm.shortHelpString()
    for definition in algorithm.parameterDefinitions():
        assert definition.help(), definition.name()
        assert definition.description(), definition.name()
    wanted = (
        "INPUT_S2 INPUT_S1 SCL FOLDER_S2 FOLDER_S1 FOLDER_SCL MODEL DATE_FROM DATE_TO MAX_CLOUD EXTENT EDGE NODATA "
        "QUERIES DTYPE FORMAT BLOCK MEMORY THREADS DEVICE PRECISION RESUME OUTPUT COUNTS PLAN"
    )
    assert {one.name() for one in algorithm.parameterDefinitions()} == set(wanted.split())
    advanced = {one.name() for one in algorithm.parameterDefinitions() if one.flags() & one.FlagAdvanced}
    assert advanced == {"EDGE", "NODATA", "BLOCK", "MEMORY", "THREADS", "DEVICE", "PRECISION", "RESUME"}


@pytest.mark.parametrize("dtype", ["float32", "int16", "int8"])
def test_the_result_is_dressed(
    provider: object,
    context: QgsProcessingContext,
    scene: Path,
    tmp_path: Path,
    dtype: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run with two parameters as the dialog does, loaded as Processing does, saved with the project and read again."""
    import processing

    # The window's stand-in in tests has no tree of layers, which QGIS 3.44 asks it for.
    monkeypatch.setattr("processing.gui.Postprocessing.iface", None, raising=False)
    log = Log()
    given = {"INPUT_S2": sorted(map(str, (scene / "S2").glob("*.tif"))), "MODEL": "tiny", "DTYPE": dtype}
    results = processing.runAndLoadResults(
        "malice:embed", {**given, "OUTPUT": str(tmp_path / "e.tif")}, context=context, feedback=log
    )
    (layer,) = QgsProject.instance().mapLayers().values()
    assert isinstance(layer, QgsRasterLayer)
    assert layer.source() == results["OUTPUT"]
    assert layer.name() == "MALICE tiny S2 2018-01-05 – 2018-02-04"
    assert any("the dates span 30 days" in text for text in log.warnings)
    assert log.steps == sorted(log.steps)
    assert log.steps[-1] == 100

    QgsProject.instance().write(str(tmp_path / "p.qgs"))
    QgsProject.instance().clear()
    assert QgsProject.instance().read(str(tmp_path / "p.qgs"))
    (layer,) = QgsProject.instance().mapLayers().values()
    renderer = layer.renderer()
    assert renderer.type() == "multibandcolor"
    bands = {renderer.redBand(), renderer.greenBand(), renderer.blueBand()}
    assert len(bands) == 3
    assert renderer.minMaxOrigin().limits() == QgsRasterMinMaxOrigin.Limits.None_
    for stretch in (
        renderer.redContrastEnhancement(),
        renderer.greenContrastEnhancement(),
        renderer.blueContrastEnhancement(),
    ):
        assert stretch.minimumValue() < stretch.maximumValue()
        if dtype != "int8":
            # Real values, not codes: scale and offset of int16 are applied.
            assert -20 < stretch.minimumValue() < stretch.maximumValue() < 20
    span = layer.temporalProperties().fixedTemporalRange()
    assert layer.temporalProperties().isActive()
    assert span.begin().toString("yyyy-MM-dd") == "2018-01-05"
    assert span.end().toString("yyyy-MM-dd") == "2018-02-04"
    assert layer.dataProvider().sourceHasNoDataValue(1)
    assert "Model: tiny" in layer.metadata().abstract()
    assert "2018-01-15" in layer.metadata().abstract()
    assert "Copernicus Sentinel data 2018" in layer.metadata().rights()[0]
    image = layer.renderer().block(1, layer.extent(), 48, 40)
    colours = {image.color(row, col) for row in range(40) for col in range(48)}
    assert len(colours) > 50


def test_channels_differ_where_bands_are_alike(tmp_path: Path, qgis_app: object) -> None:
    """Bands that repeat each other or say nothing are not taken."""
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(0, 1, (3, 64, 64))
    planes = [np.zeros((64, 64)), a, a * 2, a + 0.01 * b, b, b * -3, c, np.full((64, 64), np.nan)]
    target = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "x.tif"), 64, 64, 7, gdal.GDT_Float32)
    for number, plane in enumerate(planes[:7], 1):
        target.GetRasterBand(number).WriteRaster(0, 0, 64, 64, plane.astype(np.float32).tobytes())
    target = None
    look = styling.look_of(str(tmp_path / "x.tif"))
    families = {2: "a", 3: "a", 4: "a", 5: "b", 6: "b", 7: "c"}
    assert len({families[channel.band] for channel in look.channels}) >= 2
    assert len({channel.band for channel in look.channels}) == 3


def test_batch_rows_leave_a_result_each(
    provider: object, qgis_app: object, scene: Path, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch dialog itself, with rows from a file: two good ones, and between them one that is refused."""
    from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog

    rows = [
        {
            "PARAMETERS": {"FOLDER_S2": repr(folder), "MODEL": "'tiny'", "QUERIES": repr(query), "DTYPE": "'int8'"},
            "OUTPUTS": {"OUTPUT": str(tmp_path / f"{query}.tif")},
        }
        for query, folder in (("0", str(scene / "S2")), ("1", "/nowhere"), ("2", str(scene / "S2")))
    ]
    (tmp_path / "batch.json").write_text(json.dumps(rows), encoding="utf-8")
    chosen = (str(tmp_path / "batch.json"), "")
    monkeypatch.setattr("processing.gui.BatchPanel.QFileDialog.getOpenFileName", lambda *_, **__: chosen)
    dialog = BatchAlgorithmDialog(provider.algorithm("embed").create())
    panel = dialog.mainWidget()
    panel.load()
    panel.checkLoadLayersOnCompletion.setChecked(False)
    assert panel.batchRowCount() == 3
    for row in (0, 2):
        parameters, good = panel.parametersForRow(row, warnOnInvalid=True)
        assert good
        assert parameters["QUERIES"] == str(row)
    dialog.runAlgorithm()
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


def test_as_a_background_task_the_window_stays_alive(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    log = Log()
    given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "OUTPUT": str(tmp_path / "e.tif")}
    task = QgsProcessingAlgRunnerTask(provider.algorithm("embed"), given, context, log)
    ended: list[bool] = []
    task.executed.connect(lambda good, _results: ended.append(good))
    QgsApplication.taskManager().addTask(task)
    longest, last = 0.0, time.monotonic()
    while not ended and time.monotonic() - last < 60:
        before = time.monotonic()
        QCoreApplication.processEvents()
        time.sleep(0.005)
        longest = max(longest, time.monotonic() - before)
    assert ended == [True]
    assert longest < 0.5, "the event loop stood still"


def cancel_after(seconds: float, provider: object, folder: Path, output: Path) -> float:
    """Cancels a run from another thread; returns the seconds from the cancel to the end of the run."""
    log, moment = Log(), [0.0]

    def cancel() -> None:
        time.sleep(seconds)
        moment[0] = time.monotonic()
        log.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    given = {"FOLDER_S2": str(folder), "MODEL": "tiny", "OUTPUT": str(output)}
    with pytest.raises(QgsProcessingException, match="cancelled"):
        provider.algorithm("embed").run(given, QgsProcessingContext(), log, {}, False)
    took = time.monotonic() - moment[0]
    thread.join()
    return took


@pytest.mark.parametrize("seconds", [0.1, 1.2, 2.5, 4.0])
def test_cancel_ends_within_a_second(provider: object, scene: Path, tmp_path: Path, seconds: float) -> None:
    output = tmp_path / "e.tif"
    took = cancel_after(seconds, provider, scene / "big", output)
    assert engines(output) == []
    assert not output.exists()
    assert took < 1.3


@pytest.mark.acceptance
def test_twenty_cancels_at_random_moments(provider: object, scene: Path, tmp_path: Path) -> None:
    choice = random.Random(4)
    output = tmp_path / "e.tif"
    for _ in range(20):
        assert cancel_after(choice.uniform(0, 7), provider, scene / "big", output) < 1.3
        assert engines(output) == []
        assert not output.exists()


def test_what_a_cancelled_temporary_run_left_is_cleaned(provider: object, scene: Path) -> None:
    from qgis.core import QgsProcessingUtils

    output = Path(QgsProcessingUtils.generateTempFilename("e.tif"))
    cancel_after(4.0, provider, scene / "big", output)
    assert not list(output.parent.iterdir())


def test_the_setting_comes_before_the_environment(engine: str, qgis_app: object, tmp_path: Path) -> None:
    assert engine_module.find() == engine
    QgsSettings().setValue("malice/enginePython", str(tmp_path / "python"))
    try:
        with pytest.raises(engine_module.EngineError, match=r"malice/enginePython says .*python, where there is no"):
            engine_module.find()
    finally:
        QgsSettings().remove("malice/enginePython")


def test_the_engines_environment_is_scrubbed(monkeypatch: pytest.MonkeyPatch, qgis_app: object) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "PIP_INDEX_URL", "GDAL_DATA", "PROJ_LIB", "PROJ_DATA", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, "nonsense")
    monkeypatch.setenv("MALICE_MODELS", "kept")
    names = engine_module.environment().keys()
    assert not [name for name in names if name.startswith(("PYTHON", "PIP_", "GDAL", "PROJ", "LD_"))]
    assert "MALICE_MODELS" in names


def test_the_installed_models_are_offered(provider: object, engine: str) -> None:
    changed: list[bool] = []
    models.INSTALLED.watch(lambda: changed.append(True))
    try:
        begun = time.monotonic()
        while not changed and time.monotonic() - begun < 30:
            QCoreApplication.processEvents()
            time.sleep(0.01)
        assert "tiny" in models.INSTALLED.names
        algorithm = provider.algorithm("embed").create()
        hints = algorithm.parameterDefinition("MODEL").metadata()["widget_wrapper"]["value_hints"]
        assert "tiny" in hints
        assert "tiny: S2 (B02" in algorithm.shortHelpString()
    finally:
        models.INSTALLED.stop()
        models.INSTALLED.cards = []
