"""The icon set: an SVG for each algorithm, in the colours of ``malice.svg``, for light and dark themes."""

from __future__ import annotations

import os

_FOLDER = os.path.join(os.path.dirname(__file__), "icons")


def icon_path(name: str = "malice") -> str:
    """The SVG of an algorithm, such as ``embed``; the provider's where an algorithm has none of its own."""
    path = os.path.join(_FOLDER, f"{name}.svg")
    return path if os.path.isfile(path) else os.path.join(_FOLDER, "malice.svg")
