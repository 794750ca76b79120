"""The window with the diagnosis: collected in the background, copied by a button. Desktop QGIS only."""

from __future__ import annotations

import traceback

from qgis.core import QgsApplication, QgsTask
from qgis.PyQt.QtCore import QCoreApplication, Qt
from qgis.PyQt.QtGui import QFontDatabase
from qgis.PyQt.QtWidgets import QDialog, QDialogButtonBox, QPlainTextEdit, QVBoxLayout, QWidget

from .. import engine
from ..redacting import redact
from ..texts import tr
from . import report


class _Collecting(QgsTask):
    """Asks the engine, which takes some seconds."""

    def __init__(self) -> None:
        super().__init__(tr("MALICE diagnosis"), QgsTask.Flag.CanCancel)
        self.text = ""

    def run(self) -> bool:
        try:
            self.text = report.collect(self.isCanceled)
        except engine.EngineCancelled:
            return False
        # A diagnosis is asked for where things are broken in ways that nobody thought of.
        except Exception as error:  # noqa: BLE001
            told = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            self.text = redact(tr("The diagnosis itself failed:") + f"\n{told}")
        return True


class DiagnosisDialog(QDialog):
    """The report, and a button that copies it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(tr("MALICE diagnosis"))
        self.resize(760, 560)
        self.shown = QPlainTextEdit(self)
        self.shown.setReadOnly(True)
        self.shown.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.shown.setPlainText(tr("The engine is asked…"))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        self.copy = buttons.addButton(tr("Copy"), QDialogButtonBox.ButtonRole.ActionRole)
        self.copy.setToolTip(tr("Passwords, tokens and the name of your folder are not in it."))
        self.copy.setEnabled(False)
        self.copy.clicked.connect(self._copy)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self.shown)
        layout.addWidget(buttons)
        self._task: _Collecting | None = _Collecting()
        self._task.taskCompleted.connect(self._fill)
        self._task.taskTerminated.connect(self._give_up)
        self.finished.connect(self._stop)
        QgsApplication.taskManager().addTask(self._task)

    def _fill(self) -> None:
        if self._task is not None:
            self.shown.setPlainText(self._task.text)
            self.copy.setEnabled(True)
            self._task = None

    def _give_up(self) -> None:
        # Cancelled in QGIS' list of tasks; where the window is closed, nobody asks any more.
        if self._task is not None:
            self.shown.setPlainText(tr("Cancelled. Open this window anew for the diagnosis."))
            self._task = None

    def _copy(self) -> None:
        QgsApplication.clipboard().setText(self.shown.toPlainText())
        self.copy.setText(tr("Copied"))
        QCoreApplication.processEvents()

    def _stop(self, *_: object) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
