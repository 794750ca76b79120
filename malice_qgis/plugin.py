"""The plugin: registers the Processing provider and removes it again."""

from __future__ import annotations

from qgis.core import QgsApplication, QgsSettings
from qgis.PyQt.QtCore import QCoreApplication

from . import engine, models, texts
from .provider import MaliceProvider


class MalicePlugin:
    """What QGIS loads; everything is in the provider."""

    def __init__(self) -> None:
        self.provider: MaliceProvider | None = None
        # Names of algorithms are asked for as soon as the provider is there.
        self._translator = texts.translator()
        if self._translator is not None:
            QCoreApplication.installTranslator(self._translator)

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

    def unload(self) -> None:
        """Takes everything back."""
        models.INSTALLED.stop()
        if self._translator is not None:
            QCoreApplication.removeTranslator(self._translator)
        # False only where QGIS, which is closing, has removed it already.
        if self.provider is not None and QgsApplication.processingRegistry().removeProvider(self.provider):
            self.provider = None
