"""Run inside desktop QGIS by ``screenshots.sh``: does what a user would, and takes a picture of each step.

``story`` is a list of steps with pauses: what it yields is how many seconds, or until when, QGIS is left alone.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processing
from osgeo import gdal
from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog
from qgis.core import (
    QgsApplication,
    QgsContrastEnhancement,
    QgsMapThemeCollection,
    QgsMultiBandColorRenderer,
    QgsProject,
    QgsRasterLayer,
    QgsSettings,
)
from qgis.PyQt.QtCore import QModelIndex, QRect, Qt, QTimer
from qgis.PyQt.QtGui import QGuiApplication
from qgis.PyQt.QtWidgets import (
    QApplication,
    QComboBox,
    QDialog,
    QDockWidget,
    QLineEdit,
    QListWidget,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QTreeView,
    QWidget,
)
from qgis.utils import iface

SHOWN = Path(os.environ["MALICE_SHOWN"])
PICTURES = Path(os.environ["MALICE_PICTURES"])
Pause = Any  # seconds, or a function that is true when the wait is over


def say(text: str) -> None:
    print("screenshots:", text, flush=True)


def picture(name: str, window: QWidget | None = None) -> None:
    """The screen, or the part of it with a window and its frame; what lies over it is in the picture as well."""
    screen = QGuiApplication.primaryScreen()
    area = window.frameGeometry() if window is not None else screen.geometry()
    area = area.intersected(screen.geometry())
    image = screen.grabWindow(0, area.x(), area.y(), area.width(), area.height())
    image.save(str(PICTURES / f"{name}.png"), "PNG", 0)
    say(f"{name}.png {(PICTURES / f'{name}.png').stat().st_size // 1000} kB")


def true_colour(path: Path) -> QgsRasterLayer:
    """A Sentinel-2 date as people look at it."""
    layer = QgsRasterLayer(str(path), path.stem)
    provider = layer.dataProvider()
    renderer = QgsMultiBandColorRenderer(provider, 3, 2, 1)
    for setter, top in (
        (renderer.setRedContrastEnhancement, 1800),
        (renderer.setGreenContrastEnhancement, 1600),
        (renderer.setBlueContrastEnhancement, 1400),
    ):
        stretch = QgsContrastEnhancement(provider.dataType(1))
        stretch.setContrastEnhancementAlgorithm(
            QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum, False
        )
        stretch.setMinimumValue(100, False)
        stretch.setMaximumValue(top, True)
        setter(stretch)
    layer.setRenderer(renderer)
    return layer


def load_series() -> tuple[list[QgsRasterLayer], QgsRasterLayer]:
    """The Sentinel-2 dates as a group of layers, and the clearest of the summer, which alone is visible."""
    group = QgsProject.instance().layerTreeRoot().addGroup("Sentinel-2, 2024")
    layers = [true_colour(path) for path in sorted((SHOWN / "fields" / "S2").glob("*.tif"))]
    summer = layers[len(layers) // 3 : 2 * len(layers) // 3]
    clear = min(summer, key=lambda layer: float(gdal.Open(layer.source()).GetMetadataItem("CLOUD") or 1))
    for layer in layers:
        QgsProject.instance().addMapLayer(layer, False)
        node = group.addLayer(layer)
        node.setExpanded(False)
        node.setItemVisibilityChecked(layer is clear)
    return layers, clear


def button(window: QWidget, text: str) -> QPushButton | None:
    return next((one for one in window.findChildren(QPushButton) if one.text().replace("&", "") == text), None)


def place(window: QWidget, width: int, height: int) -> None:
    window.resize(width, height)
    window.move(40, 30)
    window.raise_()


def tell_engine(layers: list[QgsRasterLayer]) -> dict[str, Any]:
    """The parameters of a usual run."""
    return {
        "INPUT_S2": [layer.id() for layer in layers],
        "FOLDER_S1": str(SHOWN / "fields" / "S1"),
        "FOLDER_SCL": str(SHOWN / "fields" / "SCL"),
        "QUERIES": "0,3",
        "OUTPUT": str(SHOWN / "embedding_2024.tif"),
    }


def series_dialog(layers: list[QgsRasterLayer]) -> QDialog:
    dialog = processing.createAlgorithmDialog("malice:embed", tell_engine(layers))
    dialog.show()
    place(dialog, 1000, 780)
    return dialog


def scroll_to(dialog: QDialog, widget: QWidget) -> None:
    for area in dialog.findChildren(QScrollArea):
        if area.isAncestorOf(widget):
            area.verticalScrollBar().setValue(widget.mapTo(area.widget(), widget.rect().topLeft()).y() - 20)


def story() -> Iterator[Pause]:
    window = iface.mainWindow()
    window.showNormal()
    window.setGeometry(QRect(0, 20, 1400, 780))
    for dock in window.findChildren(QDockWidget):
        dock.setVisible(dock.objectName() in ("Layers", "ProcessingToolbox"))
    from malice_qgis.models import INSTALLED

    yield lambda: bool(INSTALLED.cards)
    layers, clear = load_series()
    QgsProject.instance().mapThemeCollection().insert(
        "Sentinel-2",
        QgsMapThemeCollection.createThemeFromCurrentState(
            QgsProject.instance().layerTreeRoot(), iface.layerTreeView().layerTreeModel()
        ),
    )
    yield 1
    iface.setActiveLayer(clear)
    iface.zoomToActiveLayer()
    toolbox = window.findChild(QDockWidget, "ProcessingToolbox")
    window.resizeDocks([toolbox], [380], Qt.Orientation.Horizontal)
    tree = toolbox.findChild(QTreeView)
    model = tree.model()
    for row in range(model.rowCount()):
        index = model.index(row, 0)
        if index.data() == "MALICE":
            tree.expand(index)
            for group in range(model.rowCount(index)):
                tree.expand(model.index(group, 0, index))
            tree.setCurrentIndex(model.index(0, 0, index))
            tree.scrollTo(index)
    yield 4
    picture("toolbox", window)
    search = toolbox.findChild(QLineEdit)
    search.setText("time series")
    yield 1
    picture("toolbox_search", window)
    search.clear()

    dialog = series_dialog(layers)
    yield 2
    picture("dialog", dialog)
    for area in dialog.findChildren(QScrollArea):
        bar = area.verticalScrollBar()
        bar.setValue(bar.maximum())
    yield 1
    picture("dialog_end", dialog)
    advanced = dialog.findChild(QWidget, "grpAdvanced")
    advanced.setProperty("collapsed", False)
    yield 1
    scroll_to(dialog, advanced)
    yield 1
    picture("dialog_advanced", dialog)
    advanced.setProperty("collapsed", True)
    models = next(box for box in dialog.findChildren(QComboBox) if box.findText("malice") >= 0)
    scroll_to(dialog, models)
    yield 0.5
    models.showPopup()
    yield 1
    picture("dialog_models", dialog)
    models.hidePopup()
    # A result is put above the current layer: on top where there is none.
    iface.layerTreeView().setCurrentIndex(QModelIndex())

    begun = time.monotonic()
    button(dialog, "Run").click()
    bar = dialog.findChild(QProgressBar)
    yield lambda: bar.value() >= 35
    picture("run", dialog)
    yield lambda: button(dialog, "Close").isEnabled() and not button(dialog, "Cancel").isEnabled()
    yield 3
    say(f"the run took {time.monotonic() - begun:.0f} s")
    picture("run_done", dialog)
    dialog.close()

    batch = BatchAlgorithmDialog(QgsApplication.processingRegistry().createAlgorithmById("malice:embed"))
    batch.show()
    place(batch, 1300, 500)
    yield 2
    picture("batch", batch)
    batch.close()

    result = next(one for one in QgsProject.instance().mapLayers().values() if one.name().startswith("MALICE"))
    iface.setActiveLayer(result)
    iface.layerTreeView().setCurrentLayer(result)
    toolbox.hide()
    QgsProject.instance().layerTreeRoot().findLayer(result).setExpanded(True)
    beside = iface.createNewMapCanvas(clear.name())
    beside.setTheme("Sentinel-2")
    beside.setExtent(result.extent())
    dock = next(one for one in window.findChildren(QDockWidget) if one.isAncestorOf(beside))
    dock.setFloating(False)
    window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    yield 1
    window.resizeDocks([window.findChild(QDockWidget, "Layers"), dock], [400, 495], Qt.Orientation.Horizontal)
    yield 1
    beside.zoomToFullExtent()
    iface.zoomToActiveLayer()
    yield 4
    picture("result", window)
    # The properties' window is modal: the story goes on beside it.
    QTimer.singleShot(0, lambda: iface.showLayerProperties(result))
    yield lambda: QApplication.activeModalWidget() is not None
    properties = QApplication.activeModalWidget()
    place(properties, 900, 640)
    yield 2
    picture("properties", properties)
    pages = properties.findChild(QListWidget, "mOptionsListWidget")
    pages.setCurrentRow(next(row for row in range(pages.count()) if pages.item(row).text() == "Metadata"))
    yield 1
    picture("metadata", properties)
    properties.reject()
    yield 1
    yield from set_up()


def set_up() -> Iterator[Pause]:
    """The set-up of an engine, from the menu, and the diagnosis."""
    window = iface.mainWindow()
    setting = QgsSettings().value("malice/enginePython")
    QgsSettings().setValue("malice/enginePython", "")
    menu = next(one.menu() for one in iface.pluginMenu().actions() if one.text().replace("&", "") == "MALICE")
    entries = {one.text(): one for one in menu.actions()}
    QTimer.singleShot(0, entries["Set up the engine…"].trigger)

    def opened() -> QDialog | None:
        shown = (one for one in QApplication.topLevelWidgets() if one.isVisible())
        return next((one for one in shown if one.findChild(QProgressBar) and button(one, "Run")), None)

    yield lambda: opened() is not None
    dialog = opened()
    place(dialog, 1000, 620)
    yield 2
    picture("setup_dialog", dialog)
    begun = time.monotonic()
    button(dialog, "Run").click()
    bar = dialog.findChild(QProgressBar)
    while bar.value() < 40:
        yield 1
    picture("setup", dialog)
    while button(dialog, "Cancel").isEnabled():
        yield 1
    say(f"the set-up took {time.monotonic() - begun:.0f} s")
    picture("setup_done", dialog)
    dialog.reject()
    yield 1
    entries["Diagnosis…"].trigger()
    (diagnosis,) = [one for one in window.findChildren(QDialog) if type(one).__name__ == "DiagnosisDialog"]
    place(diagnosis, 900, 640)
    yield diagnosis.copy.isEnabled
    diagnosis.copy.click()
    yield 1
    picture("diagnosis", diagnosis)
    diagnosis.reject()
    QgsSettings().setValue("malice/enginePython", setting)


def advance(steps: Iterator[Pause]) -> None:
    """Does the next step and sees to it that the one after it is done."""
    try:
        pause = next(steps)
    except StopIteration:
        say("end")
        finish()
    except Exception:  # noqa: BLE001  whatever it is, QGIS must not stay open with nobody to close it
        traceback.print_exc()
        finish()
    else:
        if callable(pause):
            wait(pause, lambda: advance(steps))
        else:
            QTimer.singleShot(int(1000 * pause), lambda: advance(steps))


def wait(condition: Callable[[], bool], then: Callable[[], None]) -> None:
    QTimer.singleShot(100, then if condition() else lambda: wait(condition, then))


def finish() -> None:
    sys.stdout.flush()
    QgsProject.instance().setDirty(False)
    iface.actionExit().trigger()


#: MALICE_STORY=set_up: that part alone, half a minute and what is fetched.
TELL = set_up if os.environ.get("MALICE_STORY") == "set_up" else story
QTimer.singleShot(2000, lambda: advance(TELL()))
