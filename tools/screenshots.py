"""Run inside desktop QGIS by ``screenshots.sh``: does what a user would, and takes a picture of each step.

``story`` is told as ``driving.py`` has it: what it yields is how many seconds, or until when, QGIS is left alone.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from driving import Pause, button, dialog_of, place, run_to_end, tell
from osgeo import gdal, ogr
from processing.gui.BatchAlgorithmDialog import BatchAlgorithmDialog
from qgis.core import (
    QgsApplication,
    QgsContrastEnhancement,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsMapThemeCollection,
    QgsMultiBandColorRenderer,
    QgsProject,
    QgsRasterLayer,
    QgsSettings,
)
from qgis.PyQt.QtCore import QModelIndex, QRect, QSize, Qt, QTimer, QUrl
from qgis.PyQt.QtGui import QGuiApplication, QImage, QPainter
from qgis.PyQt.QtWebKitWidgets import QWebView
from qgis.PyQt.QtWidgets import (
    QApplication,
    QComboBox,
    QDialog,
    QDockWidget,
    QLineEdit,
    QListWidget,
    QProgressBar,
    QScrollArea,
    QTreeView,
    QWidget,
)
from qgis.utils import iface

SHOWN = Path(os.environ["MALICE_SHOWN"])
PICTURES = Path(os.environ["MALICE_PICTURES"])
#: Where the embedding of the story lies, and what tools make of it.
EMBEDDING = SHOWN / "embedding_2024.tif"
#: The same of images in which there is a wood that was felled since, and where they lie.
BEFORE, WOODED = SHOWN / "embedding_wooded.tif", SHOWN / "wooded"


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


def maps(name: str, paths: list[str], side: int = 250, gap: int = 10) -> None:
    """Layers that are shown, each as QGIS draws it, beside one another."""
    layers = {one.source(): one for one in QgsProject.instance().mapLayers().values()}
    width = len(paths) * (side + gap) - gap
    sheet = QImage(width, side, QImage.Format.Format_RGB32)
    sheet.fill(Qt.GlobalColor.white)
    painter = QPainter(sheet)
    for number, path in enumerate(paths):
        settings = QgsMapSettings()
        settings.setLayers([layers[path]])
        settings.setDestinationCrs(layers[path].crs())
        settings.setExtent(layers[path].extent())
        settings.setOutputSize(QSize(side, side))
        job = QgsMapRendererParallelJob(settings)
        job.start()
        job.waitForFinished()
        painter.drawImage(number * (side + gap), 0, job.renderedImage())
    painter.end()
    sheet.save(str(PICTURES / f"{name}.png"), "PNG", 0)


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


def tell_engine(layers: list[QgsRasterLayer]) -> dict[str, Any]:
    """The parameters of a usual run."""
    return {
        "INPUT_S2": [layer.id() for layer in layers],
        "FOLDER_S1": str(SHOWN / "fields" / "S1"),
        "FOLDER_SCL": str(SHOWN / "fields" / "SCL"),
        "QUERIES": "0,3",
        "OUTPUT": str(EMBEDDING),
    }


def examples(layers: list[QgsRasterLayer]) -> dict[str, dict[str, Any]]:
    """What the dialogs of the help pages are filled in with, by algorithm; of one that is not here as it opens."""
    series = {name: value for name, value in tell_engine(layers).items() if name != "OUTPUT"}
    made = str(EMBEDDING)
    return {
        "embed": tell_engine(layers),
        "inspect": {**series, "REPORT": str(SHOWN / "images_2024.html"), "TABLE": str(SHOWN / "images_2024.gpkg")},
        "pca": {"INPUT": made, "OUTPUT": str(SHOWN / "colours_2024.tif"), "SAVE_FIT": str(SHOWN / "colours.json")},
        "similarity": {"INPUT": made, "REFERENCES": str(SHOWN / "meadows.gpkg"), "OUTPUT": str(SHOWN / "like.tif")},
        "cluster": {"INPUT": made, "OUTPUT": str(SHOWN / "clusters_2024.tif")},
        "classify": {
            "INPUT": made,
            "LABELS": str(SHOWN / "fields.gpkg"),
            "FIELD": "crop",
            "OUTPUT": str(SHOWN / "crops_2024.tif"),
            # Layers are loaded by name: the classes come after it, and are on top.
            "PROBABILITY": str(SHOWN / "certainty_2024.tif"),
            "REPORT": str(SHOWN / "crops_2024.html"),
        },
        "regress": {
            "INPUT": made,
            "LABELS": str(SHOWN / "plots.gpkg"),
            "FIELD": "biomass",
            "OUTPUT": str(SHOWN / "biomass_2024.tif"),
        },
        "change": {"BEFORE": str(BEFORE), "AFTER": made, "OUTPUT": str(SHOWN / "change.tif")},
        "sample": {"INPUT": made, "POINTS": str(SHOWN / "plots.gpkg"), "OUTPUT": str(SHOWN / "plots_2024.gpkg")},
    }


def write_shapes() -> None:
    """Places that tools learn from or look for, at points of a grid in the simulated landscape."""
    labels = gdal.Open(str(SHOWN / "fields" / "labels.tif"))
    left, step_x, _, top, _, step_y = labels.GetGeoTransform()
    names = {key[6:]: name for key, name in labels.GetMetadata().items() if key.startswith("CLASS_")}
    cover = labels.ReadAsArray()
    for name, field, kind in (
        ("fields", "crop", ogr.OFTString),
        ("meadows", "crop", ogr.OFTString),
        ("plots", "biomass", ogr.OFTReal),
    ):
        store = ogr.GetDriverByName("GPKG").CreateDataSource(str(SHOWN / f"{name}.gpkg"))
        layer = store.CreateLayer(name, labels.GetSpatialRef(), ogr.wkbPoint)
        layer.CreateField(ogr.FieldDefn(field, kind))
        for row in range(4, labels.RasterYSize, 10):
            for col in range(4, labels.RasterXSize, 10):
                code = int(cover[row, col])
                cover_name = names.get(str(code), "")
                if name == "meadows" and cover_name != "meadow":
                    continue
                feature = ogr.Feature(layer.GetLayerDefn())
                point = ogr.Geometry(ogr.wkbPoint)
                point.AddPoint_2D(left + (col + 0.5) * step_x, top + (row + 0.5) * step_y)
                feature.SetGeometry(point)
                feature.SetField(field, float(code) if kind == ogr.OFTReal else cover_name)
                layer.CreateFeature(feature)
        store.FlushCache()


def write_wood(side: int = 64) -> None:
    """The scene as if a wood had stood in its middle: a square of every image is that with most trees."""
    cover = gdal.Open(str(SHOWN / "fields" / "labels.tif")).ReadAsArray()
    trees = np.isin(cover, (9, 10, 29))  # the simulator's woods
    corners = [(row, col) for row in range(0, len(cover) - side, 16) for col in range(0, len(cover[0]) - side, 16)]
    row, col = max(corners, key=lambda one: trees[one[0] : one[0] + side, one[1] : one[1] + side].sum())
    shutil.copytree(SHOWN / "fields", WOODED)
    for path in WOODED.glob("S*/*.tif"):
        image = gdal.Open(str(path), gdal.GA_Update)
        square = image.ReadRaster(col, row, side, side)
        image.WriteRaster((image.RasterXSize - side) // 2, (image.RasterYSize - side) // 2, side, side, square)
        image.FlushCache()
        del image


def help_pictures(layers: list[QgsRasterLayer]) -> Iterator[Pause]:
    """The dialog of each algorithm there is, under its name: for its help page."""
    (PICTURES / "algorithms").mkdir()
    filled = examples(layers)
    for algorithm in QgsApplication.processingRegistry().providerById("malice").algorithms():
        dialog = dialog_of(algorithm.name(), filled.get(algorithm.name(), {}))
        yield 2
        picture(f"algorithms/{algorithm.name()}", dialog)
        dialog.close()


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
            tree.setCurrentIndex(index)
            tree.scrollTo(index, QTreeView.ScrollHint.PositionAtTop)
    yield 4
    picture("toolbox", window)
    search = toolbox.findChild(QLineEdit)
    search.setText("time series")
    yield 1
    picture("toolbox_search", window)
    search.clear()

    dialog = dialog_of("embed", tell_engine(layers))
    yield 2
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

    write_shapes()
    yield from help_pictures(layers)

    result = next(one for one in QgsProject.instance().mapLayers().values() if one.source() == str(EMBEDDING))
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
    yield from reports(layers)
    yield from set_up()


def reports(layers: list[QgsRasterLayer]) -> Iterator[Pause]:
    """Tools at work, and the pages they write."""
    write_wood()
    wooded = {f"FOLDER_{name}": str(WOODED / name) for name in ("S2", "S1", "SCL")}
    dialog = dialog_of("embed", {**wooded, "QUERIES": "0,3", "OUTPUT": str(BEFORE)})
    yield from run_to_end(dialog)
    dialog.close()
    filled = examples(layers)
    pages = {"inspect": "images_2024.html", "classify": "crops_2024.html"}
    for name in ("inspect", "pca", "similarity", "classify", "change"):
        dialog = dialog_of(name, filled[name])
        yield 1
        yield from run_to_end(dialog)
        picture(f"{name}_done", dialog)
        dialog.close()
        yield 2
        picture(f"{name}_result", iface.mainWindow())
        if name in pages:
            view = QWebView()
            view.load(QUrl.fromLocalFile(str(SHOWN / pages[name])))
            view.show()
            place(view, 1000, 780)
            yield 3
            picture(f"{name}_report", view)
            view.close()
    made = {name: filled[name]["OUTPUT"] for name in ("pca", "similarity", "classify")}
    maps("tools", [*made.values(), filled["classify"]["PROBABILITY"]])


def set_up() -> Iterator[Pause]:
    """The set-up of an engine, from the menu, and the diagnosis."""
    window = iface.mainWindow()
    setting = QgsSettings().value("malice/enginePython")
    QgsSettings().setValue("malice/enginePython", "")
    menu = next(one.menu() for one in iface.pluginMenu().actions() if one.text().replace("&", "") == "MALICE")
    entries = {one.text(): one for one in menu.actions()}
    QTimer.singleShot(0, entries["Set up the engine…"].trigger)

    def opened() -> QDialog | None:
        # The main window has a bar too, and the dialog's button among its children.
        shown = (one for one in QApplication.topLevelWidgets() if isinstance(one, QDialog) and one.isVisible())
        return next((one for one in shown if one.findChild(QProgressBar) and button(one, "Run")), None)

    yield lambda: opened() is not None
    dialog = opened()
    place(dialog, 1000, 620)
    yield 2
    begun = time.monotonic()
    button(dialog, "Run").click()
    bar = dialog.findChild(QProgressBar)
    while bar.value() < 40:
        yield 1
    picture("setup_run", dialog)
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


def ended(problem: str) -> None:
    if problem:
        print(problem)
    else:
        say("end")


#: MALICE_STORY=set_up: that part alone, half a minute and what is fetched.
tell(set_up() if os.environ.get("MALICE_STORY") == "set_up" else story(), ended)
