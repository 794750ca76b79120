"""The plugin: registers the Processing provider and removes it again."""

from __future__ import annotations

from qgis.core import QgsApplication, QgsSettings

from . import engine, models
from .provider import MaliceProvider


class MalicePlugin:
    """What QGIS loads; everything is in the provider."""

    def __init__(self) -> None:
        self.provider: MaliceProvider | None = None

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
        # False only where QGIS, which is closing, has removed it already.
        if self.provider is not None and QgsApplication.processingRegistry().removeProvider(self.provider):
            self.provider = None
