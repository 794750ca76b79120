"""The window of ``malice:embed``: weather, DEM and angles are asked for only where the chosen model needs them.

Desktop QGIS only. Built on Processing's own window, as those of GDAL's algorithms are; batch and model designer show
all parameters.
"""

from __future__ import annotations

from typing import Any

from processing.gui.AlgorithmDialog import AlgorithmDialog
from processing.gui.ParametersPanel import ParametersPanel
from qgis.core import QgsProcessingAlgorithm
from qgis.gui import QgsFileWidget
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QGroupBox, QToolButton, QWidget

from .algorithms.parameters import HOLES, SURROUNDINGS
from .models import INSTALLED, besides
from .texts import tr

#: Parameters of files: one, several, or a folder.
_FILES = ("WEATHER", "ANGLES_S2", "ANGLES_S1")


class EmbedDialog(AlgorithmDialog):
    """Processing's window with :class:`EmbedPanel`."""

    def __init__(self, algorithm: QgsProcessingAlgorithm, parent: QWidget | None = None) -> None:
        super().__init__(algorithm, parent=parent)

    def getParametersPanel(self, algorithm: QgsProcessingAlgorithm, parent: QWidget) -> QWidget:
        return EmbedPanel(parent, algorithm)


class EmbedPanel(ParametersPanel):
    """The parameters; those the chosen model takes nothing of are hidden, and their values stay behind."""

    #: Names of the parameters that are hidden; asked for before the panel is whole.
    unused: frozenset[str] = frozenset()

    def __init__(self, parent: QWidget, algorithm: QgsProcessingAlgorithm) -> None:
        if INSTALLED.names:
            # Of this window's algorithm alone: batch and model designer, which make their own, have a line of text, for
            # a list shows what is not in it as nothing, and the default would be computed in its place.
            definition = algorithm.parameterDefinition("MODEL")
            definition.setMetadata({**definition.metadata(), "widget_wrapper": {"value_hints": INSTALLED.names}})
        super().__init__(parent, algorithm)
        for name in _FILES:
            self._offer_folders(name)
        self._mark_models()
        self.wrappers["MODEL"].widgetValueHasChanged.connect(self.follow_model)
        self.follow_model()

    def follow_model(self, *_: Any) -> None:
        """Shows what the model in the window needs; all of it where the model is not known."""
        card = INSTALLED.card(str(self.wrappers["MODEL"].parameterValue() or "").strip())
        self.unused = frozenset() if card is None or card.aux else frozenset((*SURROUNDINGS, *HOLES))
        for name in (*SURROUNDINGS, *HOLES):
            wrapper = self.wrappers[name]
            for widget in (wrapper.wrappedLabel(), wrapper.wrappedWidget()):
                if widget is not None:
                    widget.setVisible(name not in self.unused)
        advanced = self.findChild(QGroupBox, "grpAdvanced")
        if card is not None and card.aux and advanced is not None:
            # What it cannot do without must not be looked for.
            advanced.setProperty("collapsed", False)

    def setParameters(self, parameters: dict[str, Any]) -> None:
        name, box = parameters.get("MODEL"), self._models()
        # From the history, a script or another machine: the engine says that it is not there.
        if isinstance(name, str) and name and box is not None and box.findData(name) < 0:
            box.addItem(name, name)
        super().setParameters(parameters)

    def createProcessingParameters(self, *given: Any, **more: Any) -> dict[str, Any]:
        parameters = super().createProcessingParameters(*given, **more)
        return {name: value for name, value in parameters.items() if name not in self.unused}

    def _offer_folders(self, name: str) -> None:
        """Lets several files be chosen, and adds a button for a folder; any path can be typed as well."""
        wrapper = self.wrappers[name]
        files = wrapper.wrappedWidget()
        if not isinstance(files, QgsFileWidget):
            files = files.findChild(QgsFileWidget)
        if files is None or files.layout() is None:
            return
        files.setStorageMode(QgsFileWidget.StorageMode.GetMultipleFiles)
        button = QToolButton()
        button.setText(tr("Folder…"))
        button.setObjectName(f"{name}_folder")

        def choose() -> None:
            folder = QFileDialog.getExistingDirectory(self, wrapper.parameterDefinition().description())
            if folder:
                wrapper.setParameterValue(folder, self.processing_context)

        button.clicked.connect(choose)
        files.layout().addWidget(button)

    def _models(self) -> QComboBox | None:
        """The list of models; None where nothing is known yet, and the name is typed."""
        widget = self.wrappers["MODEL"].wrappedWidget()
        return widget if isinstance(widget, QComboBox) else widget.findChild(QComboBox)

    def _mark_models(self) -> None:
        """Says in the list of models which need more than images; the values of the list are the names alone."""
        box = self._models()
        if box is None:
            return
        for row in range(box.count()):
            card = INSTALLED.card(str(box.itemData(row))) if box.itemData(row) else None
            if card is not None:
                box.setItemData(row, card.line, Qt.ItemDataRole.ToolTipRole)
                if card.aux:
                    box.setItemText(row, tr("{0} (needs {1})").format(card.name, besides()))
