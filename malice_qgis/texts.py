"""What users read: its translation, and what is told instead of a result."""

from __future__ import annotations

from qgis.PyQt.QtCore import QCoreApplication


class UserError(Exception):
    """Something that the user has to know and can do something about, in one line."""


def tr(text: str) -> str:
    """``text`` in the user's language."""
    return QCoreApplication.translate("MALICE", text)
