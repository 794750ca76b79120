"""Enables the plugin in a QGIS profile and tells it where the engine is: ``qgis_settings.py PROFILE ENGINE_PYTHON``.

The profile's settings are the user's: only the two values are set, everything else stays as it is.
"""

from __future__ import annotations

import re
import string
import sys
from pathlib import Path


def ini_value(text: str) -> str:
    """``text`` as QSettings reads it back: quoted, because a comma would make it a list, and in ASCII."""
    out, escaped = [], False
    for character in text:
        # A hexadecimal digit after an escaped character would be read as part of it.
        escaped = not " " <= character <= "~" or (escaped and character in string.hexdigits)
        plain = "\\" + character if character in '"\\' else character
        out.append(f"\\x{ord(character):x}" if escaped else plain)
    return '"' + "".join(out) + '"'


def with_value(text: str, section: str, key: str, value: str) -> str:
    """The ini file ``text`` with one value set."""
    line = f"{key}={value}"
    head = re.search(rf"^\[{section}\]$", text, re.MULTILINE)
    if not head:
        return f"{text.rstrip()}\n\n[{section}]\n{line}\n".lstrip()
    end = re.compile(r"^\[", re.MULTILINE).search(text, head.end())
    body = text[head.end() : end.start() if end else len(text)]
    fresh, count = re.subn(rf"^{key}=.*$", lambda _: line, body, flags=re.MULTILINE)
    if not count:
        fresh = f"\n{line}{body}"
    return text[: head.end()] + fresh + text[head.end() + len(body) :]


def main() -> None:
    """Rewrites ``PROFILE/QGIS/QGIS3.ini`` in one step."""
    path, engine = Path(sys.argv[1]) / "QGIS" / "QGIS3.ini", sys.argv[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    text = with_value(text, "PythonPlugins", "malice_qgis", "true")
    text = with_value(text, "malice", "enginePython", ini_value(engine))
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    main()
