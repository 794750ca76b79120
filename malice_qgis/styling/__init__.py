"""How a result looks and what it says of itself: name, colours, further styles, temporal range, metadata.

``looks`` reads samples and tags in the thread of the run; ``painting`` applies them where layers live.
"""

from __future__ import annotations

from .looks import Classes, Colours, Look, Ramp, change, classes, components, look_of, numbers, plain
from .painting import PostProcessor, dress, entitle, show

__all__ = [
    "Classes",
    "Colours",
    "Look",
    "PostProcessor",
    "Ramp",
    "change",
    "classes",
    "components",
    "dress",
    "entitle",
    "look_of",
    "numbers",
    "plain",
    "show",
]
