"""Ctrl-C while qgis_process starts, before QGIS itself listens for it.

Until then Python's own handler raises KeyboardInterrupt in whatever runs; QGIS swallows it and goes on. Here the
signal is remembered, and a run that begins afterwards is cancelled at once.
"""

from __future__ import annotations

import signal
import threading
from typing import Any

from qgis.core import QgsApplication

_heard = False


def listen() -> None:
    """Remembers Ctrl-C from now on, in qgis_process only; QGIS takes over when it runs the algorithm."""
    if QgsApplication.platform() != "qgis_process" or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _remember)


def heard() -> bool:
    """True after a Ctrl-C that QGIS has not heard."""
    return _heard


def _remember(*_: Any) -> None:
    global _heard
    _heard = True
