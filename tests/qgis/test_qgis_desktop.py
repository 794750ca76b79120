"""In one process with QGIS, as in its window: the result's look, background tasks, cancel, what is installed."""

from __future__ import annotations

import random
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
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProject,
    QgsRasterLayer,
    QgsRasterMinMaxOrigin,
    QgsSettings,
)
from qgis.PyQt.QtCore import QCoreApplication

from helpers_qgis import Log, engines


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
        "QUERIES DTYPE FORMAT BLOCK MEMORY THREADS DEVICE PRECISION RESUME OUTPUT COUNTS PLAN "
        "WEATHER WEATHER_GAPS DEM DEM_NODATA ANGLES_S2 ANGLES_S1 ANGLES"
    )
    assert {one.name() for one in algorithm.parameterDefinitions()} == set(wanted.split())
    advanced = {one.name() for one in algorithm.parameterDefinitions() if one.flags() & one.FlagAdvanced}
    advanced_ones = "EDGE NODATA BLOCK MEMORY THREADS DEVICE PRECISION RESUME"
    surroundings = "WEATHER WEATHER_GAPS DEM DEM_NODATA ANGLES_S2 ANGLES_S1 ANGLES"
    assert advanced == {*advanced_ones.split(), *surroundings.split()}


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


def test_the_number_of_dates_is_dressed(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import processing

    monkeypatch.setattr("processing.gui.Postprocessing.iface", None, raising=False)
    given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "QUERIES": "0", "COUNTS": str(tmp_path / "c.tif")}
    processing.runAndLoadResults(
        "malice:embed", {**given, "OUTPUT": str(tmp_path / "e.tif")}, context=context, feedback=Log()
    )
    layers = {one.name(): one for one in QgsProject.instance().mapLayers().values()}
    name = "MALICE tiny S2 2018-01-05 – 2018-02-04"
    assert set(layers) == {name, f"Valid dates – {name}"}
    counts = layers[f"Valid dates – {name}"]
    assert counts.renderer().type() == "singlebandpseudocolor"
    assert counts.renderer().classificationMax() == 4
    assert counts.temporalProperties().isActive()


def write_bands(path: Path, planes: list[np.ndarray]) -> str:
    """A float raster of 64 x 64 pixels."""
    target = gdal.GetDriverByName("GTiff").Create(str(path), 64, 64, len(planes), gdal.GDT_Float32)
    for number, plane in enumerate(planes, 1):
        target.GetRasterBand(number).WriteRaster(0, 0, 64, 64, plane.astype(np.float32).tobytes())
    target.FlushCache()
    return str(path)


def test_channels_differ_where_bands_are_alike(tmp_path: Path, qgis_app: object) -> None:
    """Bands that repeat each other, say nothing, or have no data are not taken."""
    a, b, c = np.random.default_rng(0).normal(0, 1, (3, 64, 64))
    none = np.full((64, 64), np.nan)
    planes = [np.zeros((64, 64)), a, a * 2, a + 0.01 * b, b, b * -3, c, none, 1e-3 * (a - b - c)]
    look = styling.look_of(write_bands(tmp_path / "x.tif", planes))
    families = {2: "a", 3: "a", 4: "a", 5: "b", 6: "b", 7: "c"}
    assert {families[channel.band] for channel in look.style.channels} == {"a", "b", "c"}
    for channel in look.style.channels:
        low, high = np.percentile(planes[channel.band - 1], (2, 98))
        assert abs(channel.low - low) < 0.5 * (high - low)
        assert abs(channel.high - high) < 0.5 * (high - low)
    # One sensor that saw hardly anything does not hide the other.
    corner = np.where(np.arange(64)[:, None] < 3, c, np.nan)
    look = styling.look_of(write_bands(tmp_path / "y.tif", [a, b, c, corner, corner * 5]))
    assert {channel.band for channel in look.style.channels} == {1, 2, 3}


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
    given = {"FOLDER_S2": str(scene / "S2"), "MODEL": "tiny", "QUERIES": "0", "OUTPUT": str(output)}
    assert provider.algorithm("embed").run(given, QgsProcessingContext(), Log())[1]
    assert output.exists()


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
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "7")
    gdal.SetConfigOption("GDAL_HTTP_PROXY", "proxy:3128")
    try:
        told = engine_module.environment()
    finally:
        gdal.SetConfigOption("GDAL_HTTP_PROXY", None)
    assert told.value("GDAL_HTTP_PROXY") == "proxy:3128"
    assert told.value("GDAL_HTTP_TIMEOUT") == "7"
    kept = told.keys()
    names = [name for name in kept if not name.startswith("GDAL_HTTP_")]
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
        assert "\ntiny: S2 (B02" in algorithm.parameterDefinition("MODEL").help()
        assert "tiny: S2 (B02" in algorithm.shortHelpString()
    finally:
        models.INSTALLED.stop()
        models.INSTALLED.cards = []
