"""The tools in Processing's own windows, filled in as people do, and runs that are cancelled at any moment."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from processing.gui.AlgorithmDialog import AlgorithmDialog
from qgis.core import (
    QgsApplication,
    QgsProcessingAlgRunnerTask,
    QgsProcessingContext,
    QgsProcessingUtils,
    QgsProject,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QCoreApplication

from helpers_qgis import Log, pixels
from helpers_tools import drawn, samples, spot

TOOLS = ("pca", "similarity", "cluster", "classify", "regress", "change", "sample")


def given(years: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """What each tool is asked to do; layers in memory are in the project."""
    polygons = drawn("Polygon", samples())
    points = drawn("Point", [(spot(row, col), ["a", 1.0]) for row in range(4, 30, 3) for col in range(4, 40, 3)])
    QgsProject.instance().addMapLayers([polygons, points])
    image = {"INPUT": str(years / "before.tif"), "OUTPUT": str(folder / "o.tif")}
    learned = {**image, "LABELS": polygons.id(), "METHOD": "knn", "FOLDS": 2, "FOLD_SIZE": 100}
    return {
        "pca": image,
        "similarity": {**image, "REFERENCES": points.id()},
        "cluster": {**image, "CLUSTERS": 3},
        "classify": {
            **learned,
            "FIELD": "crop",
            "PROBABILITY": str(folder / "p.tif"),
            "REPORT": str(folder / "r.html"),
        },
        "regress": {**learned, "FIELD": "cover"},
        "change": {"BEFORE": str(years / "before.tif"), "AFTER": str(years / "after.tif"), "OUTPUT": image["OUTPUT"]},
        "sample": {**image, "POINTS": points.id(), "OUTPUT": str(folder / "o.gpkg")},
    }


@pytest.mark.parametrize("tool", TOOLS)
def test_a_window_hands_on_what_was_filled_in(
    provider: Any,
    context: QgsProcessingContext,
    years: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tool: str,
) -> None:
    """Empty widgets included, whose values (empty texts, null numbers) must not be mistaken for something given."""
    monkeypatch.setattr("processing.gui.ParametersPanel.iface", None)
    algorithm = provider.algorithm(tool).create()
    wanted = given(years, tmp_path)[tool]
    dialog = AlgorithmDialog(algorithm)
    dialog.setParameters(wanted)
    parameters = dialog.createProcessingParameters()
    assert algorithm.checkParameterValues(parameters, context) == (True, "")
    log = Log()
    results, good = algorithm.run(parameters, context, log)
    assert good, log.errors
    assert {name: str(results[name]) for name in ("OUTPUT", "PROBABILITY") if name in wanted} == {
        name: wanted[name] for name in ("OUTPUT", "PROBABILITY") if name in wanted
    }
    dialog.close()


def test_a_window_with_a_classifier_needs_no_labels(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although its widgets of training, and the report that it proposes, have values."""
    monkeypatch.setattr("processing.gui.ParametersPanel.iface", None)
    saved = str(tmp_path / "c.skops")
    wanted = {**given(years, tmp_path)["classify"], "SAVE_CLASSIFIER": saved}
    assert provider.algorithm("classify").run(wanted, context, Log())[1]
    QgsProject.instance().clear()
    algorithm = provider.algorithm("classify").create()
    dialog = AlgorithmDialog(algorithm)
    dialog.setParameters({"INPUT": wanted["INPUT"], "CLASSIFIER": saved, "OUTPUT": str(tmp_path / "again.tif")})
    parameters = dialog.createProcessingParameters()
    assert parameters["METHOD"] == "linear"
    assert algorithm.checkParameterValues(parameters, context) == (True, "")
    log = Log()
    assert algorithm.run(parameters, context, log)[1], log.errors
    assert log.warnings == []
    dialog.close()


def of_the_engine(folder: Path) -> list[str]:
    """Command lines of processes that write into a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().decode() if entry.name.isdigit() else ""
        except OSError:
            continue
        if "malice_core." in line and str(folder) in line:
            found.append(line)
    return found


def test_cancelled_at_any_moment_nothing_stays(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path
) -> None:
    """No process, no file, nothing temporary; and the next run is fine."""
    moments = random.Random(3)
    temporary = Path(QgsProcessingUtils.tempFolder())
    jobs = given(years, tmp_path)
    cancelled = 0
    for tool in ("classify", "sample", "cluster") * 2:
        before = sorted(temporary.rglob("*"))
        log, moment = Log(), [0.0]

        def cancel(wait: float, log: Log = log, moment: list[float] = moment) -> None:
            time.sleep(wait)
            moment[0] = time.monotonic()
            log.cancel()

        thread = threading.Thread(target=cancel, args=(moments.uniform(0, 2.5),))
        thread.start()
        good = provider.algorithm(tool).run(jobs[tool], context, log)[1]
        ended = time.monotonic()
        thread.join()
        assert of_the_engine(tmp_path) == []
        if not good:
            cancelled += 1
            assert ended - moment[0] < 1.3
            assert list(tmp_path.iterdir()) == []
        for path in tmp_path.iterdir():
            path.unlink()
        assert sorted(temporary.rglob("*")) == before
    assert cancelled >= 2
    assert provider.algorithm("classify").run(jobs["classify"], context, Log())[1]


@pytest.mark.parametrize("tool", ["similarity", "sample"])
def test_in_the_background_with_layers_of_the_project(
    provider: Any, context: QgsProcessingContext, years: Path, tmp_path: Path, tool: str
) -> None:
    """The run has a thread of its own, in which layers of the window's thread are read; the window stays alive."""
    log = Log()
    jobs = given(years, tmp_path)
    assert provider.algorithm(tool).run(jobs[tool], context, log)[1]
    wanted = Path(jobs[tool]["OUTPUT"])
    before = pixels(wanted) if tool == "similarity" else QgsVectorLayer(str(wanted), "", "ogr").featureCount()
    task = QgsProcessingAlgRunnerTask(
        provider.algorithm(tool), {**jobs[tool], "OUTPUT": str(tmp_path / f"b{wanted.suffix}")}, context, log
    )
    ended: list[bool] = []
    task.executed.connect(lambda good, _results: ended.append(good))
    QgsApplication.taskManager().addTask(task)
    begun, longest = time.monotonic(), 0.0
    while not ended and time.monotonic() - begun < 60:
        last = time.monotonic()
        QCoreApplication.processEvents()
        time.sleep(0.005)
        longest = max(longest, time.monotonic() - last)
    assert ended == [True], log.errors
    assert longest < 0.5, "the event loop stood still"
    made = tmp_path / f"b{wanted.suffix}"
    after = pixels(made) if tool == "similarity" else QgsVectorLayer(str(made), "", "ogr").featureCount()
    assert after == before
