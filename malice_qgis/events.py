"""What the engine says: bytes become lines, lines become events, and nothing it says can make QGIS stumble.

An engine may be another version, a wrapper script or broken: lines without end, odd bytes, and json of another shape
are told to the user as far as they can be read, never raised.
"""

from __future__ import annotations

import json
import math
from typing import Any

#: Bytes of a line; the rest of a longer one is dropped. A plan of thousands of images takes some megabytes.
LONGEST = 32 << 20
#: Characters of a line that is no event which are shown; the log's window stands still over millions.
SHOWN = 2000


class Lines:
    """Puts lines together out of bytes as they arrive."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, content: bytes, last: bool = False) -> list[str]:
        """The lines that are whole now, without empty ones; a half one waits for its end, or for ``last``."""
        *ended, rest = content.split(b"\n")
        found = []
        for part in ended:
            self._append(part)
            found.append(self._take())
        self._append(rest)
        if last:
            found.append(self._take())
        return [line for line in found if line]

    def _append(self, part: bytes) -> None:
        self._rest += part[: LONGEST - len(self._rest)]

    def _take(self) -> str:
        line = self._rest.decode("utf-8", "replace").rstrip()
        self._rest.clear()
        return line


def shown(line: str) -> str:
    """A line as it goes into the log."""
    return line if len(line) <= SHOWN else f"{line[:SHOWN]} … ({len(line)} characters)"


def event_of(line: str) -> dict[str, Any] | None:
    """The json object of a line, None if it is something else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def text(event: dict[str, Any], name: str) -> str:
    """A text of an event, "" if it has none; what Qt cannot hold (half a surrogate pair) becomes ``?``."""
    value = event.get(name)
    return "" if value is None else str(value).encode("utf-8", "replace").decode()


def texts(event: dict[str, Any], name: str) -> list[str]:
    """A list of texts of an event, empty if it has none."""
    value = event.get(name)
    return [text({"": one}, "") for one in value] if isinstance(value, list) else []


def number(event: dict[str, Any], name: str) -> float | None:
    """A finite number of an event, None if it has none."""
    value = event.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
