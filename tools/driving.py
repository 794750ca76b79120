"""Drives desktop QGIS as a user would, from a script that ``desktop.sh`` runs in it: dialogs filled in, run, awaited.

What is done is told as a story: an iterator, which yields how many seconds, or until when, QGIS is left alone.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import processing
from qgis.core import QgsProject
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QDialog, QPushButton, QWidget
from qgis.utils import iface

Pause = Any  # seconds, or a function that is true when the wait is over


def button(window: QWidget, text: str) -> QPushButton | None:
    return next((one for one in window.findChildren(QPushButton) if one.text().replace("&", "") == text), None)


def place(window: QWidget, width: int, height: int) -> None:
    window.resize(width, height)
    window.move(40, 30)
    window.raise_()


def dialog_of(name: str, parameters: dict[str, Any]) -> QDialog:
    """The open dialog of ``malice:name``, filled in with parameters; the others are what it proposes."""
    dialog = processing.createAlgorithmDialog(f"malice:{name}", parameters)
    dialog.show()
    place(dialog, 1000, 780)
    return dialog


def run_to_end(dialog: QDialog) -> Iterator[Pause]:
    """Runs what a dialog is filled in with; it stays open."""
    button(dialog, "Run").click()
    yield 1
    yield lambda: button(dialog, "Close").isEnabled() and not button(dialog, "Cancel").isEnabled()
    yield 2


def tell(story: Iterator[Pause], ended: Callable[[str], Any]) -> None:
    """Begins a story, at whose end, good or bad, QGIS is closed.

    Args:
        ended: called before that, with what went wrong (a traceback), "" for nothing.
    """

    def end(problem: str) -> None:
        ended(problem)
        sys.stdout.flush()
        # Layers in memory would be asked about.
        QgsProject.instance().removeAllMapLayers()
        QgsProject.instance().setDirty(False)
        iface.actionExit().trigger()

    def step(condition: Callable[[], bool] = lambda: True) -> None:
        try:
            pause = next(story) if condition() else condition
        except StopIteration:
            end("")
        except Exception:  # noqa: BLE001  whatever it is, QGIS must not stay open with nobody to close it
            end(traceback.format_exc())
        else:
            if callable(pause):
                QTimer.singleShot(100, lambda: step(pause))
            else:
                QTimer.singleShot(int(1000 * pause), step)

    QTimer.singleShot(2000, step)
