"""Where the plugin keeps its own engine: numbered folders, and a small file that says which of them counts.

A virtual environment cannot be moved. So each set-up builds in a folder of its own, ``engine/1``, ``engine/2`` …, and
the file ``engine/current`` is replaced in one step when the new one is known to work: whatever happens before that,
the old one stays.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import tempfile
import uuid

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QLockFile

from ..texts import UserError, tr
from . import platforms

_NUMBER = re.compile(r"[1-9]\d{0,8}")
#: In an engine's folder, one for each run of it; milliseconds after which one of another machine is nobody's.
_RUN, _STALE = "run-{}.lock", 7 * 24 * 3600 * 1000


def home() -> str:
    """The plugin's folder in the user's QGIS profile: engine, log, last error."""
    return os.path.join(QgsApplication.qgisSettingsDirPath(), "malice")


def base() -> str:
    """The folder of engines."""
    return os.path.join(home(), "engine")


def log_file() -> str:
    """The log of the last set-up."""
    return os.path.join(home(), "setup.log")


def current() -> str:
    """The folder of the engine that counts, "" if there is none."""
    try:
        with open(os.path.join(base(), "current"), encoding="ascii") as file:
            name = file.read(64).strip()
    except (OSError, ValueError):
        return ""
    return os.path.join(base(), name) if _NUMBER.fullmatch(name) else ""


def python() -> str:
    """The Python of the engine that counts, or where the first will be; whether it is there or not."""
    return platforms.python_in(current() or os.path.join(base(), "1"))


def others() -> list[str]:
    """Folders of engines that do not count: old ones, and what interrupted set-ups left."""
    try:
        names = [name for name in os.listdir(base()) if _NUMBER.fullmatch(name)]
    except FileNotFoundError:
        return []
    used = current()
    return [path for path in (os.path.join(base(), name) for name in sorted(names, key=int)) if path != used]


def new_folder() -> str:
    """Makes the folder of the next engine; its number was not used for one that is still there."""
    os.makedirs(base(), exist_ok=True)
    taken = [int(name) for name in os.listdir(base()) if _NUMBER.fullmatch(name)]
    folder = os.path.join(base(), str(max(taken, default=0) + 1))
    os.mkdir(folder)
    return folder


def switch_to(folder: str) -> None:
    """From now on the engine in ``folder`` counts."""
    handle, partial = tempfile.mkstemp(dir=base(), prefix="current.")
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(os.path.basename(folder) + "\n")
            file.flush()
            os.fsync(file.fileno())
        platforms.patiently(lambda: os.replace(partial, os.path.join(base(), "current")))
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def forget() -> None:
    """From now on no engine counts."""
    path = os.path.join(base(), "current")
    if os.path.exists(path):
        platforms.patiently(lambda: os.remove(path))


def remove(folder: str) -> bool:
    """Removes an engine's folder; False if something in it is held, by Windows or a run, and is left for later."""
    try:
        platforms.patiently(lambda: shutil.rmtree(folder))
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


class Use:
    """Held while an engine works, whatever QGIS it works for: a set-up leaves its folder alone as long.

    Args:
        python: of the engine; of one that is not the set-up's nothing is held.
    """

    def __init__(self, python: str) -> None:
        inside = os.path.join(base(), "")
        name = re.split(r"[/\\]", python[len(inside) :])[0] if python.startswith(inside) else ""
        path = os.path.join(inside, name, _RUN.format(uuid.uuid4().hex[:8]))
        self._lock = QLockFile(path) if _NUMBER.fullmatch(name) else None

    def __enter__(self) -> Use:
        if self._lock is not None:
            # Where it cannot be had (a folder that nobody may write to) nobody can remove the engine either.
            self._lock.tryLock(0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.unlock()


def in_use(folder: str) -> bool:
    """True while a run works with the engine in ``folder``; those whose process has died do not count."""
    for path in glob.glob(os.path.join(glob.escape(folder), _RUN.format("*"))):
        lock = QLockFile(path)
        lock.setStaleLockTime(_STALE)
        if not lock.tryLock(0):
            return True
        lock.unlock()
    return False


class Busy(UserError):
    """Another set-up is under way."""


class Lock:
    """Held by one set-up at a time, whatever QGIS it runs in; one whose process has died does not count."""

    def __init__(self) -> None:
        os.makedirs(home(), exist_ok=True)
        self._lock = QLockFile(os.path.join(home(), "setup.lock"))
        # Set-ups may take longer than Qt's half a minute: only the death of the process ends one.
        self._lock.setStaleLockTime(0)

    def __enter__(self) -> Lock:
        """Raises:
        Busy: if another has it.
        """
        if not self._lock.tryLock(0):
            raise Busy(tr("Another set-up of the MALICE engine is under way: wait for it, or cancel it."))
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.unlock()
