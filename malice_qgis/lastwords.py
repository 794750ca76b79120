"""The last words of the run of the engine that failed last, kept for the diagnosis in a small file of the profile."""

from __future__ import annotations

import os
from datetime import datetime

from .redacting import redact
from .setup import places

#: Characters of it that are kept.
MOST = 8000


def path() -> str:
    """The file."""
    return os.path.join(places.home(), "last_error.txt")


def keep(command: list[str], code: int | None, words: list[str]) -> None:
    """Writes down a failure, without secrets; where that cannot be, the run's own error is what matters.

    Args:
        command: what was run.
        code: how it ended, None if it crashed.
        words: its last lines.
    """
    how = "crashed or was killed" if code is None else f"ended with code {code}"
    text = "\n".join([datetime.now().isoformat(" ", "seconds"), " ".join(command)[: MOST // 2], how, *words])
    partial = f"{path()}.{os.getpid()}.part"
    try:
        os.makedirs(places.home(), exist_ok=True)
        with open(partial, "w", encoding="utf-8", errors="replace") as file:
            file.write(redact(text)[:MOST] + "\n")
        os.replace(partial, path())
    except OSError:
        return


def read() -> str:
    """What was kept, "" if nothing was."""
    try:
        with open(path(), encoding="utf-8", errors="replace") as file:
            return file.read(MOST).strip()
    except OSError:
        return ""
