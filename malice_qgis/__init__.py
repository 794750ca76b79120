"""MALICE for QGIS: a Processing provider over the engine ``malice_core``, which runs in a process of its own.

Nothing here imports the engine; modules import QGIS, ``qgis.PyQt``, numpy, osgeo and the standard library only.
"""

from __future__ import annotations


def classFactory(_iface):
    """Called by QGIS when the plugin is loaded. The interface is not there in qgis_process: who needs it, asks."""
    from . import interrupts

    # Before the imports below: the longer QGIS is not listened to, the more often a Ctrl-C at its start is lost.
    interrupts.listen()
    from .plugin import MalicePlugin

    return MalicePlugin()
