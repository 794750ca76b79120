"""Run inside desktop QGIS for ``test_qgis_walk.py``: from the zip to maps, through the algorithms' own dialogs.

Dialogs are filled in with inputs and outputs alone: everything else is what they propose. What was seen is written
down for the test, which looks at it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyplugin_installer
from driving import Pause, dialog_of, run_to_end, tell
from qgis.core import Qgis, QgsApplication, QgsMapLayer, QgsProject, QgsRasterLayer, QgsSettings, QgsVectorLayer
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QApplication, QMessageBox, QTextEdit

#: What the test gives: zip, wheels, scene (folder of images and labels), made (folder for what is made), seen (a file).
GIVEN = {name: Path(path) for name, path in json.loads(os.environ["MALICE_WALK"]).items()}
SEEN: dict[str, Any] = {"qgis": Qgis.QGIS_VERSION_INT, "steps": [], "boxes": [], "messages": []}


def hear(message: str, tag: str, level: Any) -> None:
    """Warnings and errors of QGIS' log, of Python's too."""
    if level in (Qgis.MessageLevel.Warning, Qgis.MessageLevel.Critical):
        SEEN["messages"].append([tag, message])


def dismiss() -> None:
    """Message boxes, behind which everything waits, are noted and closed."""
    for box in QApplication.topLevelWidgets():
        if isinstance(box, QMessageBox) and box.isVisible():
            SEEN["boxes"].append(f"{box.windowTitle()}: {box.text()}")
            box.reject()


def layer_seen(layer: QgsMapLayer) -> dict[str, Any]:
    """What the user sees of a layer, and its source."""
    seen = {
        "name": layer.name(),
        "source": layer.source(),
        "valid": layer.isValid(),
        "group": QgsProject.instance().layerTreeRoot().findLayer(layer.id()).parent().name(),
    }
    if isinstance(layer, QgsVectorLayer):
        seen["rows"] = layer.featureCount()
    if isinstance(layer, QgsRasterLayer):
        seen["bands"] = layer.bandCount()
        seen["renderer"] = layer.renderer().type()
        seen["styles"] = layer.styleManager().styles()
        seen["abstract"] = layer.metadata().abstract()
        seen["temporal"] = layer.temporalProperties().isActive()
    return seen


def run(name: str, **given: Any) -> Iterator[Pause]:
    """A dialog filled in, run to its end and closed; what came of it goes to the end of the steps.

    Raises:
        RuntimeError: if it did not begin or failed; nothing that follows would work.
    """
    there = set(QgsProject.instance().mapLayers())
    ended: list[bool] = []
    dialog = dialog_of(name, {key: str(value) for key, value in given.items()})
    dialog.algorithmFinished.connect(lambda good, _results: ended.append(good))
    yield 0.5
    proposed = dialog.createProcessingParameters()
    yield from run_to_end(dialog)
    new = [layer for key, layer in QgsProject.instance().mapLayers().items() if key not in there]
    SEEN["steps"].append(
        {
            "name": name,
            "ended": ended,
            "proposed": {key: value for key, value in proposed.items() if isinstance(value, (str, int, float))},
            "log": dialog.findChild(QTextEdit, "txtLog").toPlainText(),
            "layers": [layer_seen(layer) for layer in new],
        }
    )
    dialog.close()
    if ended != [True]:
        raise RuntimeError(f"{name} did not end well: {SEEN['boxes']} {SEEN['steps'][-1]['log']}")


def layer_of(file: str) -> str:
    """The layer of a file that was made, as dialogs know it."""
    return next(key for key, one in QgsProject.instance().mapLayers().items() if one.source() == str(made(file)))


def made(file: str) -> Path:
    return GIVEN["made"] / file


def story() -> Iterator[Pause]:
    # What Plugins > Install from ZIP does.
    pyplugin_installer.instance().installFromZipFile(str(GIVEN["zip"]))
    yield 1
    algorithm = QgsApplication.processingRegistry().createAlgorithmById("malice:embed")
    SEEN["without_engine"] = algorithm.canExecute()
    yield from run("setup", WHEELS=GIVEN["wheels"])
    SEEN["setting"] = QgsSettings().value("malice/enginePython")

    scene = GIVEN["scene"]
    images = {"FOLDER_S2": scene / "S2", "FOLDER_S1": scene / "S1"}
    yield from run("inspect", **images, REPORT=made("images.html"), TABLE=made("dates.gpkg"))
    from malice_qgis.models import INSTALLED

    # Asked for when the first dialog was opened.
    yield lambda: bool(INSTALLED.cards)
    yield from run("embed", **images, OUTPUT=made("year.tif"))
    yield from run("embed", FOLDER_S2=scene / "earlier", FOLDER_S1=scene / "S1", OUTPUT=made("earlier.tif"))
    yield from run("pca", INPUT=layer_of("year.tif"), OUTPUT=made("colours.tif"))
    labels = QgsVectorLayer(str(scene / "labels.gpkg"), "labels", "ogr")
    QgsProject.instance().addMapLayer(labels)
    learned = {"INPUT": layer_of("year.tif"), "LABELS": labels.id(), "FIELD": "crop"}
    yield from run("classify", **learned, OUTPUT=made("crops.tif"), REPORT=made("crops.html"))
    two = {"BEFORE": layer_of("earlier.tif"), "AFTER": layer_of("year.tif")}
    yield from run("change", **two, OUTPUT=made("change.tif"))


def write(problem: str) -> None:
    GIVEN["seen"].write_text(json.dumps({**SEEN, "problem": problem}), encoding="utf-8")


QgsApplication.messageLog().messageReceived.connect(hear)
TIMER = QTimer()
TIMER.timeout.connect(dismiss)
TIMER.start(500)
tell(story(), write)
