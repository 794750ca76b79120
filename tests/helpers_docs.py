"""Pages of the documentation: their text, and their headings as links name them."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path


def text_of(path: Path) -> str:
    """A page without its code, in which brackets are no links and # starts no heading."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^ {4,}\S.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda code: re.sub(r"[][()#]", "", code[0]), text)


def sections(path: Path) -> dict[str, str]:
    """What stands under each heading, up to the next, by the heading's anchor.

    Only of headings whose anchor means the same place to GitHub and to mkdocs.
    """
    _, *parts = re.split(r"^#+\s+(.*)$", text_of(path), flags=re.MULTILINE)
    github: set[str] = set()
    found = {}
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        plain = re.sub(r"[`*]|!?\[|\]\([^)]*\)", "", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        simple = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
        site = re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", simple).strip())
        # The second of two has a number.
        if name not in github and name == site:
            found[name] = text
        github.add(name)
    return found
