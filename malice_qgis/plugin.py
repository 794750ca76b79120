"""The plugin: registers the Processing provider and removes it again."""

from __future__ import annotations

from qgis.core import QgsApplication

from . import models
from .provider import MaliceProvider


class MalicePlugin:
    """What QGIS loads; everything is in the provider."""

    def __init__(self) -> None:
        self.provider: MaliceProvider | None = None

    def initProcessing(self) -> None:
        """Registers the provider; qgis_process calls this alone."""
        self.provider = MaliceProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Registers the provider in the desktop, where there is time to ask the engine for its models."""
        self.initProcessing()
        models.INSTALLED.watch(self.provider.refreshAlgorithms)

    def unload(self) -> None:
        """Takes everything back."""
        models.INSTALLED.stop()
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None
