"""Finds a Python that can make the engine's environment. Never ``sys.executable``: in QGIS it may be QGIS itself."""

from __future__ import annotations

import glob
import os
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from .. import engine, events
from ..texts import UserError, tr
from . import platforms

#: Versions of Python that the lock file is made for, both included.
OLDEST, NEWEST = (3, 11), (3, 14)
#: What a user without any is told to install.
ADVISED = "3.12"
#: Minor versions in the order they are looked for: the one advised first, the oldest and newest last.
_MINORS = (12, 13, 11, 14)
#: Milliseconds in which a candidate must answer.
ANSWER = 20000

#: What a candidate runs: it says who it is. Old Pythons must understand it.
PROBE = """
import ctypes, glob, json, os, platform, ssl, struct, sys, sysconfig, venv, zlib
folders = [sysconfig.get_config_var("WHEEL_PKG_DIR"), "/usr/share/python-wheels"]
try:
    import ensurepip
    folders.insert(0, os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"))
except ImportError:
    pass
wheels = [one for folder in folders if folder for one in sorted(glob.glob(os.path.join(folder, "pip-*.whl")))]
cuda = None
if "cuda" in sys.argv[1:]:
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        count, version = ctypes.c_int(), ctypes.c_int()
        code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
        driver.cuDriverGetVersion(ctypes.byref(version))
        cuda = {"problem": "the driver answers with error %d" % code if code else "", "version": version.value}
        if not code and not count.value:
            cuda["problem"] = "the driver finds no GPU"
    except OSError as error:
        cuda = {"problem": "no NVIDIA driver is installed (%s)" % error, "version": 0}
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "bits": 8 * struct.calcsize("P"),
    "platform": sys.platform,
    "machine": platform.machine(),
    "implementation": platform.python_implementation(),
    "threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "pip": wheels[0] if wheels else "",
    "cuda": cuda,
}))
"""


class NoPython(UserError):
    """There is no Python that fits; the text says what to do."""


@dataclass(frozen=True)
class System:
    """What decides where Pythons are looked for.

    Attributes:
        platform: as ``sys.platform``.
        environ: the environment.
        own: (folder, (major, minor)) of QGIS' own Python.
        home: the user's folder.
    """

    platform: str
    environ: Mapping[str, str]
    own: tuple[str, tuple[int, int]]
    home: str = field(default_factory=lambda: os.path.expanduser("~"))

    @classmethod
    def here(cls) -> System:
        """This machine, this QGIS."""
        return cls(sys.platform, os.environ, (sys.exec_prefix, sys.version_info[:2]))


@dataclass(frozen=True)
class Found:
    """A Python that answered.

    Attributes:
        pip: a wheel of pip that comes with it, "" if none does.
        cuda: why a GPU cannot be used, "" if it can; None where it was not asked.
        driver: version of CUDA the driver is for, such as 13000; 0 where it was not asked.
    """

    executable: str
    version: tuple[int, int, int]
    bits: int
    platform: str
    machine: str
    implementation: str
    threaded: bool
    pip: str
    cuda: str | None
    driver: int

    @classmethod
    def of(cls, told: dict[str, Any]) -> Found:
        """Raises KeyError, TypeError or ValueError where the answer is of another shape."""
        major, minor, micro = (int(one) for one in told["version"])
        cuda = told["cuda"] or {}
        names = ("executable", "platform", "machine", "implementation", "pip")
        texts = {name: str(told[name]) for name in names}
        return cls(
            version=(major, minor, micro),
            bits=int(told["bits"]),
            threaded=bool(told["threaded"]),
            cuda=str(cuda["problem"]) if cuda else None,
            driver=int(cuda.get("version", 0)),
            **texts,
        )

    @property
    def name(self) -> str:
        return f"Python {'.'.join(map(str, self.version))} ({self.executable})"


def candidates(system: System, matches: Callable[[str], Iterable[str]] = glob.glob) -> list[list[str]]:
    """Commands that may start a Python, in the order they are tried.

    Args:
        matches: the files that fit a pattern; a test has its own.
    """
    folder, version = system.own
    if system.platform == "win32":
        patterns = _windows(system, folder)
    elif system.platform == "darwin":
        patterns = _mac(folder)
    else:
        patterns = _linux(system, folder, version)
    found: list[list[str]] = []
    for pattern in patterns:
        # A file's name may have brackets; a pattern has nothing but * and ? of its own.
        for path in sorted(matches(pattern)):
            if [path] not in found:
                found.append([path])
    if system.platform == "win32":
        # The launcher knows those of the registry.
        launchers = [r"C:\Windows\py.exe", rf"{system.environ.get('LOCALAPPDATA', '')}\Programs\Python\Launcher\py.exe"]
        found += [[path, f"-3.{minor}"] for one in launchers for path in matches(one) for minor in _MINORS]
    return found


def _windows(system: System, own: str) -> list[str]:
    r"""QGIS' own, ``apps\Python312\python.exe``; those of python.org. Not WindowsApps: those open the shop."""
    root = system.environ.get("OSGEO4W_ROOT", "")
    patterns = [rf"{own}\python.exe", *([rf"{root}\apps\Python3*\python.exe"] if root else [])]
    for name in ("LOCALAPPDATA", "ProgramFiles"):
        top = system.environ.get(name)
        if top:
            inside = r"\Programs\Python" if name == "LOCALAPPDATA" else ""
            patterns += [rf"{top}{inside}\Python3{minor}\python.exe" for minor in _MINORS]
    return patterns


def _mac(own: str) -> list[str]:
    """QGIS.app's, python.org's, Homebrew's, MacPorts'. Not /usr/bin/python3, which asks to install Xcode."""
    patterns = [f"{own}/bin/python3.{minor}" for minor in _MINORS] + [f"{own}/bin/python3"]
    for minor in _MINORS:
        patterns.append(f"/Library/Frameworks/Python.framework/Versions/3.{minor}/bin/python3.{minor}")
        patterns += [f"{top}/bin/python3.{minor}" for top in ("/opt/homebrew", "/usr/local", "/opt/local")]
    return patterns


def _linux(system: System, own: str, version: tuple[int, int]) -> list[str]:
    """QGIS' own, then by name along the search path and where it may lack entries (a desktop's is short)."""
    patterns = [f"{own}/bin/python{version[0]}.{version[1]}"]
    path = [one for one in system.environ.get("PATH", "").split(":") if one.startswith("/")]
    folders = dict.fromkeys([*path, "/usr/bin", "/usr/local/bin", f"{system.home}/.local/bin"])
    for name in (*(f"python3.{minor}" for minor in _MINORS), "python3"):
        patterns += [f"{folder}/{name}" for folder in folders]
    return patterns


def ask(command: list[str], cancelled: Callable[[], bool], cuda: bool = False) -> Found | str:
    """What a Python says of itself, or why it does not answer.

    Raises:
        engine.EngineCancelled: if ``cancelled`` said so.
    """
    lines: deque[str] = deque(maxlen=1)
    program, *before = command
    arguments = [*before, "-I", "-c", PROBE, *(["cuda"] if cuda else [])]
    process = engine.EngineProcess(program, arguments, kept=False)
    try:
        code = process.run(lines.append, lambda _: None, cancelled, ANSWER)
        if code == 0 and lines:
            return Found.of(events.event_of(lines[-1]) or {})
    except engine.EngineCancelled:
        raise
    except engine.EngineError as error:
        return str(error)
    except (KeyError, TypeError, ValueError):
        return tr("it does not answer as a Python does: {}").format(events.shown(lines[-1])[:200])
    return process.last_words[-1] if process.last_words else tr("it ends with code {}").format(code)


def unfit(found: Found) -> str:
    """Why the engine cannot be made with this Python, "" if it can."""
    version = found.version[:2]
    if not OLDEST <= version <= NEWEST:
        return tr("version {0} is not one of {1} to {2}").format(_told(version), _told(OLDEST), _told(NEWEST))
    if found.implementation != "CPython" or found.threaded:
        return tr("it is another kind of Python ({}): the engine's packages are made for the usual one").format(
            found.implementation if found.implementation != "CPython" else tr("free-threaded")
        )
    if found.bits != 64 or not platforms.supported(found.platform, found.machine):
        return tr("there are no packages for {0} {1} with {2} bits").format(found.platform, found.machine, found.bits)
    if (found.platform, found.machine) == ("darwin", "x86_64") and version == NEWEST:
        return tr("on Macs with Intel processors the newest that packages are made for is {}").format("3.13")
    return ""


def _told(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def choose(
    given: str,
    cancelled: Callable[[], bool],
    say: Callable[[str], None],
    cuda: bool = False,
    system: System | None = None,
) -> Found:
    """The Python to make the engine with: ``given``, or the first candidate that fits.

    Args:
        given: a path, "" to look for one.
        say: is told of those that do not fit.
        cuda: also ask for a GPU.

    Raises:
        NoPython: if there is none, with what to do.
        engine.EngineCancelled: if ``cancelled`` said so.
    """
    system = system or System.here()
    advice = platforms.install_python(system.platform, ADVISED)
    if given:
        answer = ask([given], cancelled, cuda)
        reason = answer if isinstance(answer, str) else unfit(answer)
        if reason:
            raise NoPython(tr("PYTHON {0} cannot be used: {1}. Leave it empty, or {2}.").format(given, reason, advice))
        return answer
    seen = []
    for command in candidates(system):
        answer = ask(command, cancelled, cuda)
        reason = answer if isinstance(answer, str) else unfit(answer)
        if not reason:
            return answer
        seen.append(f"{' '.join(command)}: {reason}")
        say(seen[-1])
    own = _told(system.own[1])
    raise NoPython(
        tr(
            "No Python from {0} to {1} was found (QGIS' own is {2}; {3} others were tried): {4}, then run this again, "
            "or give its path as PYTHON."
        ).format(_told(OLDEST), _told(NEWEST), own, len(seen), advice)
    )
