"""What differs between Linux, Windows and macOS, as functions of the platform's name (``sys.platform``).

Run on Linux only; the other two are unit-tested.
"""

from __future__ import annotations

import ntpath
import posixpath
import sys
import time
from typing import Any, Callable

from ..texts import tr

#: Processors by platform that the lock file has wheels for.
MACHINES = {"linux": ("x86_64", "aarch64"), "win32": ("AMD64",), "darwin": ("x86_64", "arm64")}
#: Windows' limit for a path, and the longest one inside an engine (onnxruntime's, with pip's temporary ending).
PATH_LIMIT, LONGEST_INSIDE = 259, 155
#: Seconds between tries of what a virus scanner may hold up: it looks at files that were just written.
PAUSES = (0.1, 0.2, 0.4, 0.8)


def _paths(platform: str) -> Any:
    return ntpath if platform == "win32" else posixpath


def python_in(folder: str, platform: str = sys.platform) -> str:
    """The Python of the virtual environment in ``folder``."""
    parts = ("Scripts", "python.exe") if platform == "win32" else ("bin", "python")
    return str(_paths(platform).join(folder, *parts))


def supported(platform: str, machine: str) -> bool:
    """True where every package of the engine has a wheel."""
    return machine in MACHINES.get(platform, ())


def without(path: str, root: str, platform: str = sys.platform) -> str:
    """The search path ``path`` without folders in ``root``: Windows looks for libraries there.

    QGIS' own folders hold another GDAL, PROJ and OpenSSL, which would be taken for the engine's.
    """
    module, separator = _paths(platform), ";" if platform == "win32" else ":"
    top = module.join(module.normcase(module.normpath(root)), "")
    folders = [one for one in path.split(separator) if one]
    kept = [one for one in folders if not module.join(module.normcase(module.normpath(one)), "").startswith(top)]
    return separator.join(kept)


def installation(prefix: str, platform: str = sys.platform) -> str:
    """The folder of the whole QGIS installation: on Windows ``prefix`` is ``…/apps/qgis`` in it."""
    module = _paths(platform)
    parent, _ = module.split(prefix.rstrip("/\\"))
    inside = platform == "win32" and module.basename(parent).lower() == "apps"
    return str(module.dirname(parent)) if inside else prefix


def too_long(folder: str, platform: str = sys.platform) -> bool:
    """True if files of an engine in ``folder`` would be longer than what Windows takes by default."""
    return platform == "win32" and len(folder) + 1 + LONGEST_INSIDE > PATH_LIMIT


def unquarantine(folder: str, platform: str = sys.platform) -> list[str]:
    """The command that takes macOS' mark of downloaded files off ``folder``; [] elsewhere.

    Libraries out of wheels that a browser downloaded may bear it, and would not be loaded.
    """
    return ["/usr/bin/xattr", "-r", "-d", "com.apple.quarantine", folder] if platform == "darwin" else []


def patiently(
    action: Callable[[], Any], platform: str = sys.platform, wait: Callable[[float], Any] = time.sleep
) -> None:
    """Does something with files; on Windows again, for a second and a half, while another program holds them.

    Raises:
        OSError: of the last try.
    """
    for pause in PAUSES if platform == "win32" else ():
        try:
            action()
        except PermissionError:
            wait(pause)
        else:
            return
    action()


def install_python(platform: str, version: str) -> str:
    """What a user does who has no fitting Python; ``version`` such as ``3.12``."""
    if platform == "win32":
        advice = tr("install Python {0} (64 bit) from https://www.python.org/downloads/windows/")
    elif platform == "darwin":
        advice = tr("install Python {0} from https://www.python.org/downloads/macos/ (or: brew install python@{0})")
    else:
        advice = tr(
            "install Python {0} with the system's packages (Debian, Ubuntu: sudo apt install python{0}; Fedora: sudo "
            "dnf install python{0})"
        )
    return advice.format(version)
