"""What users read: its translation, and what is told instead of a result."""

from __future__ import annotations

import os

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QCoreApplication, QLocale, QTranslator

#: Where the build puts ``malice_qgis_fr.qm``, made of the ``.ts`` of the same name.
FOLDER = os.path.join(os.path.dirname(__file__), "i18n")


class UserError(Exception):
    """Something that the user has to know and can do something about, in one line."""


def tr(text: str) -> str:
    """``text`` in the user's language; values are put in afterwards, by ``format``."""
    return QCoreApplication.translate("MALICE", text)


def marked(text: str) -> str:
    """``text`` itself, noted for translators (``make translate``): what a table holds and ``tr`` shows later."""
    return text


def translator() -> QTranslator | None:
    """The translation for the language QGIS speaks, None where there is none (as for English).

    QGIS' own choice counts (Settings > Options > General), else the system's; ``fr`` also serves ``fr_CA``.
    """
    result = QTranslator()
    return result if result.load(QLocale(QgsApplication.locale()), "malice_qgis", "_", FOLDER) else None
