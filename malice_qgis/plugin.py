"""The plugin: registers the Processing provider and the entries of the menu, and removes them again."""

from __future__ import annotations

from typing import Any, Callable

from qgis import utils
from qgis.core import QgsApplication, QgsSettings
from qgis.PyQt.QtCore import QCoreApplication
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction

from . import engine, models, texts
from .pictures import icon_path
from .provider import MaliceProvider
from .texts import tr

MENU = "MALICE"


class MalicePlugin:
    """What QGIS loads; everything but two entries of the menu is in the provider."""

    def __init__(self) -> None:
        self.provider: MaliceProvider | None = None
        # Names of algorithms are asked for as soon as the provider is there.
        self._translator = texts.translator()
        if self._translator is not None:
            QCoreApplication.installTranslator(self._translator)
        self._actions: list[QAction] = []

    def initProcessing(self) -> None:
        """Registers the provider; qgis_process calls this alone."""
        provider = MaliceProvider()
        if not QgsApplication.processingRegistry().addProvider(provider):
            raise RuntimeError("QGIS refuses the provider malice: is another copy of the plugin loaded?")
        self.provider = provider

    def initGui(self) -> None:
        """Registers the provider in the desktop, where there is time to ask the engine for its models."""
        self.initProcessing()
        settings = QgsSettings()
        if not settings.contains(engine.SETTING):
            # The editor of settings shows, and so lets change, those that are there.
            settings.setValue(engine.SETTING, "")
        models.INSTALLED.watch(self.provider.refreshAlgorithms)
        if utils.iface is not None:
            self._entry("setup", tr("Set up the engine…"), self.set_up)
            self._entry("inspect", tr("Diagnosis…"), self.diagnose)

    def _entry(self, picture: str, text: str, run: Callable[[], Any]) -> None:
        action = QAction(QIcon(icon_path(picture)), text, utils.iface.mainWindow())
        action.triggered.connect(lambda _checked: run())
        utils.iface.addPluginToMenu(MENU, action)
        self._actions.append(action)

    def set_up(self) -> None:
        """Opens the dialog of ``malice:setup``."""
        # Processing's windows are there in desktop QGIS only.
        import processing

        processing.execAlgorithmDialog("malice:setup")

    def diagnose(self) -> None:
        """Opens the diagnosis."""
        from .setup.dialog import DiagnosisDialog

        DiagnosisDialog(utils.iface.mainWindow()).show()

    def unload(self) -> None:
        """Takes everything back."""
        models.INSTALLED.stop()
        if self._translator is not None:
            QCoreApplication.removeTranslator(self._translator)
        for action in self._actions:
            utils.iface.removePluginMenu(MENU, action)
        self._actions = []
        # False only where QGIS, which is closing, has removed it already.
        if self.provider is not None and QgsApplication.processingRegistry().removeProvider(self.provider):
            self.provider = None
