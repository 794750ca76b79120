"""Builds an engine in a folder of its own, tries it, and only then lets it count.

Each step is a process that QGIS can stop within a second. Whatever ends a build early, its folder is removed (or, if
QGIS was killed, by the next set-up), and the engine of before is as it was.
"""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
import shutil
import time
from dataclasses import dataclass
from typing import Any, Callable

from qgis.core import QgsProcessingFeedback
from qgis.PyQt.QtCore import QUrl

from .. import engine, events, interrupts
from ..redacting import redact
from ..texts import UserError, tr
from . import pips, places, platforms, pythons

#: Bytes that must be free: the engine, and what pip keeps while it unpacks.
NEEDED = {"cpu": 1_500_000_000, "cuda": 9_000_000_000}
#: What is written down beside an engine.
RECORD = "malice-setup.json"
#: Where the plugin carries the engine's wheel, in which the models for trying out are too.
PLUGIN = os.path.dirname(os.path.dirname(__file__))
SOURCE = os.path.join(PLUGIN, "engine_source")
#: Percent of the bar at the end of each step.
MADE, INSTALLED, TRIED = 4, 88, 98


class SetupError(UserError):
    """The set-up cannot go on; the engine of before is as it was."""


class GpuError(SetupError):
    """The engine for a GPU could not be made to work."""


@dataclass(frozen=True)
class Wish:
    """What is to be built.

    Attributes:
        python: path of a Python, "" to look for one.
        wheels: folder of wheels, "" for the package index.
        device: ``cpu`` or ``cuda``.
    """

    python: str = ""
    wheels: str = ""
    device: str = "cpu"


def own_wheel() -> str:
    """The engine's wheel in the plugin.

    Raises:
        SetupError: if the plugin lies in a checkout as it is, or is damaged.
    """
    found = glob.glob(os.path.join(glob.escape(SOURCE), "malice_core-*.whl"))
    if len(found) == 1:
        return found[0]
    raise SetupError(
        tr(
            "The plugin in {} comes without its engine: install it from its zip, or, in a checkout of MALICE, by make "
            "deploy."
        ).format(PLUGIN)
    )


def _address(path: str) -> str:
    """A file as pip takes it in a list of requirements, whatever letters its path has."""
    return bytes(QUrl.fromLocalFile(path).toEncoded()).decode("ascii")


def recipe(device: str) -> dict[str, str]:
    """What an engine built now would be made of: where it is the same, building again changes nothing."""
    digests = {}
    for name, path in (("lock", pips.lock_file(device)), ("engine", own_wheel())):
        told = os.stat(path)
        digests[name] = _digest(path, told.st_size, told.st_mtime_ns)
    return {"device": device, **digests}


@functools.lru_cache(maxsize=8)
def _digest(path: str, _size: int, _changed: int) -> str:
    """The hash of a file, computed once for each that has been at ``path``: every run asks for it."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def record(folder: str) -> dict[str, Any]:
    """What was written down of the engine in ``folder``; {} where nothing can be read."""
    try:
        with open(os.path.join(folder, RECORD), encoding="utf-8") as file:
            return events.event_of(file.read()) or {}
    except (OSError, ValueError):
        return {}


def is_made_so(folder: str, device: str = "") -> bool:
    """True if the engine in ``folder`` is made of what one built now for ``device`` ("": for its own) would be.

    Raises:
        SetupError, OSError: if the plugin has nothing to build one of.
    """
    made = record(folder)
    now = recipe(device or str(made.get("device") or "cpu"))
    return all(made.get(name) == value for name, value in now.items())


def outdated(python: str) -> str:
    """What is told where the engine is the plugin's own, but of another release of the plugin; "" elsewhere.

    Args:
        python: of the engine that counts.
    """
    folder = places.current()
    if not folder or python != places.python():
        return ""
    try:
        if is_made_so(folder):
            return ""
    except (SetupError, OSError):
        return ""  # a plugin that brings no engine has no other one to offer
    return tr("The engine is of another release of the plugin: run MALICE set-up (malice:setup).")


class Builder:
    """One set-up: its processes, its log, its progress."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self._feedback = feedback
        self._looked = 0.0

    def cancelled(self) -> bool:
        """True when the user wants it to end."""
        return self._feedback.isCanceled() or interrupts.heard()

    def check(self) -> None:
        """Raises:
        engine.EngineCancelled: if the user wants it to end.
        """
        if self.cancelled():
            raise engine.EngineCancelled(tr("cancelled"))

    def say(self, text: str) -> None:
        """Tells the user and the log."""
        self._feedback.pushInfo(text)
        self.note(text)

    def note(self, text: str) -> None:
        """Writes a line into the log, without secrets."""
        try:
            os.makedirs(places.home(), exist_ok=True)
            with open(places.log_file(), "a", encoding="utf-8", errors="replace") as file:
                file.write(f"{time.strftime('%H:%M:%S')} {redact(text)}\n")
        except OSError as error:
            # Nobody is served by a set-up that ends because of its log.
            self._feedback.pushDebugInfo(tr("the log {0} cannot be written: {1}").format(places.log_file(), error))

    def build(self, wish: Wish) -> str:
        """A new engine, which counts from now on; returns its Python.

        Raises:
            SetupError, pips.NoPip, pythons.NoPython: with what is wrong.
            engine.EngineCancelled: if the user wants it to end.
        """
        made_of = recipe(wish.device)
        found = pythons.choose(wish.python, self.cancelled, self.note, wish.device == "cuda")
        self.say(tr("The engine is made with {}.").format(found.name))
        if wish.device == "cuda" and found.cuda != "":
            raise GpuError(tr("No GPU can be used: {}.").format(found.cuda or tr("its driver does not answer")))
        if wish.device == "cuda" and found.driver < pips.CUDA:
            raise GpuError(
                tr("The NVIDIA driver is for CUDA {0}, the engine needs {1}: update the driver.").format(
                    _release(found.driver), _release(pips.CUDA)
                )
            )
        self._clear()  # what interrupted set-ups left
        self._room(wish.device)
        folder = places.new_folder()
        try:
            if platforms.too_long(folder):
                self._feedback.pushWarning(
                    tr(
                        "{} is a long path: if files cannot be written, let Windows have long ones (the registry's "
                        "LongPathsEnabled), or use a QGIS profile with a shorter path."
                    ).format(folder)
                )
            python = self._make(folder, found, wish, made_of)
            self.check()
            places.switch_to(folder)
        except BaseException:
            places.remove(folder)
            raise
        self.say(tr("The new engine counts from now on: {}").format(python))
        self._clear()
        return python

    def _room(self, device: str) -> None:
        os.makedirs(places.base(), exist_ok=True)
        free, needed = shutil.disk_usage(places.base()).free, NEEDED[device]
        if free < needed:
            raise SetupError(
                tr("The engine needs {0:.1f} GB, {1} has {2:.1f} GB free: make room.").format(
                    needed / 1e9, places.base(), free / 1e9
                )
            )

    def _make(self, folder: str, found: pythons.Found, wish: Wish, made_of: dict[str, str]) -> str:
        """Fills ``folder`` and tries what is in it; returns its Python."""
        self._step(0, tr("A virtual environment is made"))
        pip = pips.wheel(found.pip, wish.wheels, places.base(), self._feedback)
        # Without pip: making it would start a process of Python's own, which nobody here could stop.
        self._run(tr("a virtual environment"), [found.executable, "-I", "-m", "venv", "--without-pip", folder])
        python = platforms.python_in(folder)
        self._step(MADE, tr("Packages are fetched and installed"))
        lock = pips.lock_file(wish.device)
        progress = pips.Progress(len(pips.locked(lock)) + 1, self._between(MADE, INSTALLED), self._feedback.pushInfo)
        # The engine's own wheel and the packages it needs, in one go: all of it has hashes.
        wanted = os.path.join(folder, "wanted.txt")
        with open(wanted, "w", encoding="utf-8") as file:
            file.write(f"malice-core @ {_address(own_wheel())} --hash=sha256:{made_of['engine']}\n")
        arguments = pips.install(pip, [lock, wanted], wish.wheels)
        # What a pip that is stopped leaves goes with the folder; for GPUs it may be gigabytes.
        temporary = os.path.join(folder, "tmp")
        os.mkdir(temporary)
        reach = {**pips.environment(dict(os.environ)), **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), temporary)}
        try:
            self._run(tr("packages"), [python, *arguments], progress.hear, reach, self._watch(folder, progress))
        except SetupError as error:
            raise (GpuError if wish.device == "cuda" else SetupError)(str(error)) from error
        for left in (temporary, wanted):
            shutil.rmtree(left) if os.path.isdir(left) else os.remove(left)
        unmark = platforms.unquarantine(folder)
        if unmark:
            # It ends with an error where nothing bears the mark.
            self._try_run(unmark)
        self._step(INSTALLED, tr("The engine is tried"))
        self._try(python, wish.device)
        with open(os.path.join(folder, RECORD), "w", encoding="utf-8") as file:
            json.dump({**made_of, "python": found.executable, "made": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
        self._step(TRIED, tr("The engine works"))
        return python

    def _try(self, python: str, device: str) -> None:
        """Whether it speaks this plugin's language and computes."""
        try:
            version = engine.handshake(python, self.cancelled)
            told = require(python, self.cancelled, device)
        except engine.EngineCancelled:
            raise
        except engine.EngineError as error:
            kind = GpuError if device == "cuda" else SetupError
            raise kind(tr("The new engine does not work: {}").format(error)) from error
        for one in told.get("runtimes") or []:
            self.note(f"{one.get('name')} {one.get('device')}: {one.get('problem') or 'computes'}")
        self.say(tr("MALICE engine {0}: computes on {1}.").format(version, ", ".join(computing(told))))

    def _clear(self) -> None:
        """Removes engines that do not count, but for one that works at this moment."""
        for folder in places.others():
            if places.in_use(folder):
                self.say(tr("A run still uses the old engine in {}; the next set-up removes it.").format(folder))
            elif not places.remove(folder):
                self.say(tr("The old engine in {} is held by a program; the next set-up removes it.").format(folder))
            else:
                self.note(f"removed {folder}")

    def _step(self, percent: float, text: str) -> None:
        self.check()
        self._feedback.setProgress(percent)
        self._feedback.setProgressText(text)
        self.note(text)

    def _between(self, first: float, last: float) -> Callable[[float], None]:
        return lambda share: self._feedback.setProgress(first + (last - first) * share)

    def _watch(self, folder: str, progress: pips.Progress) -> Callable[[], None]:
        """Looks once a second at how many packages are unpacked, of which pip says nothing."""
        # Windows has Lib/site-packages, the others lib/python3.x/site-packages.
        inside = (("Lib", "site-packages"), ("lib", "python*", "site-packages"))
        patterns = [os.path.join(glob.escape(folder), *parts, "*.dist-info") for parts in inside]

        def look() -> None:
            if time.monotonic() - self._looked > 1:
                self._looked = time.monotonic()
                count = max(len(glob.glob(pattern)) for pattern in patterns)
                if count:
                    progress.unpacked(count)

        return look

    def _try_run(self, command: list[str]) -> int | None:
        process = engine.EngineProcess(command[0], command[1:], kept=False)
        return process.run(self.note, self.note, self.cancelled)

    def _run(
        self,
        what: str,
        command: list[str],
        hear: Callable[[str], None] | None = None,
        more: dict[str, str] | None = None,
        look: Callable[[], None] | None = None,
    ) -> None:
        """Runs one step's process to its end.

        Raises:
            SetupError: if it fails, with its words.
            engine.EngineCancelled: if the user wants it to end.
        """
        self.note("> " + " ".join(command))
        told: list[str] = []

        def on_line(line: str) -> None:
            if not line.startswith("Progress "):
                self.note(line)
            if hear is not None and hear != self.note:
                hear(line)

        def on_error_line(line: str) -> None:
            self.note(line)
            told.append(line)

        def cancelled() -> bool:
            if look is not None:
                look()
            return self.cancelled()

        process = engine.EngineProcess(command[0], command[1:], more)
        try:
            code = process.run(on_line, on_error_line, cancelled)
        except engine.EngineCancelled:
            raise
        except engine.EngineError as error:
            raise SetupError(tr("Installing {0} failed: {1}").format(what, error)) from error
        if code != 0:
            raise SetupError(_sentence(what, code, told))


def _cures() -> list[tuple[tuple[str, ...], str]]:
    """Signs in the words of pip and of Python, and what they mean to a user."""
    return [
        (("DO NOT MATCH THE HASHES", "do not match the hashes"), tr("a file is not the one that is expected")),
        (
            ("CERTIFICATE_VERIFY_FAILED", "SSLError"),
            tr("the server's certificate is not trusted: see Proxies in the help page"),
        ),
        (("ProxyError", "407 Proxy"), tr("the proxy refuses: set it in Settings > Options > Network")),
        (
            ("NewConnectionError", "not known", "getaddrinfo failed", "Connection refused", "timed out"),
            tr("the package index cannot be reached: is there a network? Without one give a folder of wheels (WHEELS)"),
        ),
        (
            ("No matching distribution found", "Could not find a version"),
            tr("a package is missing in the folder of wheels, or in the index for this system and Python"),
        ),
        (("No space left", "not enough space", "Errno 28"), tr("the disk is full: make room")),
        (
            ("Permission denied", "PermissionError", "Access is denied"),
            tr("a file may not be written, or a program holds it"),
        ),
    ]


def _sentence(what: str, code: int | None, told: list[str]) -> str:
    """One line for a step that failed."""
    words = " ".join(told)
    cure = next((text for signs, text in _cures() if any(sign in words for sign in signs)), "")
    errors = [line for line in told if line.startswith("ERROR")] or told
    last = " ".join(" ".join(errors[-2:]).split())[:400]
    last = last or (tr("killed") if code is None else tr("code {}").format(code))
    whole = tr("Installing {0} failed{1}: {2}. The engine of before was not touched; the log is {3}.")
    return redact(whole.format(what, f" ({cure})" if cure else "", last, places.log_file()), home="")


def _release(version: int) -> str:
    """A version of CUDA as people write it: 12080 is 12.8."""
    return f"{version // 1000}.{version % 1000 // 10}"


def examine(python: str, cancelled: Callable[[], bool], device: str = "auto") -> tuple[dict[str, Any], str]:
    """What the engine finds out about itself (``malice_core.doctor``), and what is wrong with it.

    Returns:
        The findings, {} if it does not get that far; and in a line why nothing computes on ``device`` or that a library
        does not load, "" if all is well.

    Raises:
        engine.EngineError: if it cannot be asked.
    """
    lines: list[str] = []
    arguments = engine.command("malice_core.doctor", "--json", "--device", device)
    process = engine.EngineProcess(python, arguments)
    code = process.run(lines.append, lambda _: None, cancelled, engine.HANDSHAKE)
    told = events.event_of(lines[-1]) if lines else None
    if code == 0 and told is not None:
        return told, ""
    words = [line[len("error: ") :] for line in process.last_words if line.startswith("error: ")]
    return told or {}, words[-1] if words else engine.death(python, code, list(process.last_words))


def require(python: str, cancelled: Callable[[], bool], device: str = "auto") -> dict[str, Any]:
    """As :func:`examine`, of an engine that has to work.

    Raises:
        engine.EngineError: if nothing computes on ``device``, or a library does not load.
    """
    told, problem = examine(python, cancelled, device)
    if problem:
        raise engine.EngineError(problem)
    return told


def computing(told: dict[str, Any]) -> list[str]:
    """The runtimes that compute, as people read them, out of :func:`examine`."""
    found = told.get("runtimes")
    pairs = [(one.get("name"), one.get("device")) for one in found or [] if not one.get("problem")]
    return [f"{name} ({device})" for name, device in pairs]
