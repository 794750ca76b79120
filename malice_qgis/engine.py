"""The engine: where it is, and how one of its command lines is run, watched and stopped.

The engine is a Python of its own with ``malice_core``. QGIS' environment (PYTHONPATH, GDAL_DATA, PROJ_LIB, …) is
kept away from it. Its stdin stays open while it works: when QGIS ends, however it ends, the system closes it and
the engine stops.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from typing import Callable

from osgeo import gdal
from qgis.core import QgsApplication, QgsSettings
from qgis.PyQt.QtCore import (
    QCoreApplication,
    QElapsedTimer,
    QEventLoop,
    QProcess,
    QProcessEnvironment,
    QThread,
)

from . import events, lastwords
from .setup import places as folders
from .setup import platforms
from .texts import UserError, tr

#: The version of options, events and exit codes this plugin speaks (``malice_core.embed --contract``).
CONTRACT = 1
SETTING = "malice/enginePython"
VARIABLE = "MALICE_ENGINE_PYTHON"

#: Exit code of an engine that was told to stop.
CANCELLED = 3

#: Milliseconds: between looks at the cancel button; a cancelled engine may take to end by itself, then when asked.
POLL, TIDY, ASKED = 100, 650, 150
#: A handshake imports the engine's libraries, which a slow disk can make long.
HANDSHAKE = 60000
LAST_WORDS = 6

#: Belongs to QGIS' Python, GDAL and PROJ; the engine has its own.
_FOREIGN = ("PYTHON", "PIP_", "GDAL", "PROJ", "DYLD_", "QT_PLUGIN", "QT_QPA")
_FOREIGN_NAMES = ("LD_LIBRARY_PATH", "LD_PRELOAD", "VIRTUAL_ENV", "CPL_LOG", "CPL_DEBUG", "GEOTIFF_CSV")


#: … but how the network is reached holds for both.
_CONNECTION = "GDAL_HTTP_"
_PROXY = ("GDAL_HTTP_PROXY", "GDAL_HTTP_PROXYUSERPWD", "GDAL_PROXY_AUTH")


class EngineError(UserError):
    """The engine cannot be had or failed; the text is for the user."""


class EngineCancelled(EngineError):
    """The engine was stopped because the user asked for it."""


def own_place() -> str:
    """The Python of the engine that the plugin's own set-up makes, whether it is there or not."""
    return folders.python()


def places() -> list[tuple[str, str]]:
    """(where it is written down, Python of the engine) in the order they are tried; the first that is set counts."""
    found = [
        (tr("the setting {}").format(SETTING), str(QgsSettings().value(SETTING, "") or "").strip()),
        (tr("the environment variable {}").format(VARIABLE), os.environ.get(VARIABLE, "").strip()),
    ]
    return [(where, path) for where, path in found if path] or [(tr("the plugin's own place"), own_place())]


def find() -> str:
    """The Python of the engine.

    Raises:
        EngineError: if there is none, with what to do.
    """
    where, path = places()[0]
    if os.path.isfile(path) and os.access(path, os.X_OK):
        return path
    cure = tr(
        "run MALICE set-up (malice:setup) in the Processing toolbox, or Plugins > MALICE > Set up the engine; it also "
        "takes an engine that is there already"
    )
    if path == own_place():
        raise EngineError(tr("The MALICE engine is not set up ({0} is not there): {1}.").format(path, cure))
    raise EngineError(
        tr(
            "There is no MALICE engine: {0} says {1}, where there is no Python. Correct that, or empty it and {2}."
        ).format(where, path, cure)
    )


def environment() -> QProcessEnvironment:
    """This process' environment without what belongs to QGIS' libraries."""
    result = QProcessEnvironment.systemEnvironment()
    names = result.keys()
    for name in names:
        foreign = name.upper().startswith(_FOREIGN) or name.upper() in _FOREIGN_NAMES
        if foreign and not name.upper().startswith(_CONNECTION):
            result.remove(name)
    # QGIS tells its own GDAL of the proxy in its options; images behind it must open in the engine as well.
    for name in _PROXY:
        value = gdal.GetConfigOption(name)
        if value:
            result.insert(name, value)
    if os.name == "nt":
        # Libraries in QGIS' own folders would be taken for the engine's.
        root = os.environ.get("OSGEO4W_ROOT") or platforms.installation(QgsApplication.prefixPath())
        result.insert("PATH", platforms.without(os.environ.get("PATH", ""), root))
    return result


def command(module: str, *arguments: str) -> list[str]:
    """Arguments of the engine's Python; -I: nothing from the environment, the user's packages or this folder."""
    return ["-I", "-X", "utf8", "-m", module, *arguments]


class EngineProcess:
    """One run of the engine. Create and use it in one thread; no event loop is needed.

    Args:
        python, arguments: what is run.
        more: variables of its environment besides :func:`environment`.
        kept: a failure is written down for the diagnosis.
    """

    def __init__(
        self, python: str, arguments: list[str], more: Mapping[str, str] | None = None, kept: bool = True
    ) -> None:
        self._python, self._command, self._kept = python, [python, *arguments], kept
        self._process = QProcess()
        self._process.setProgram(python)
        self._process.setArguments(arguments)
        told = environment()
        for name, value in (more or {}).items():
            told.insert(name, value)
        self._process.setProcessEnvironment(told)
        self._out, self._err = events.Lines(), events.Lines()
        self.last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._said: deque[str] = deque(maxlen=2)

    def run(
        self,
        on_line: Callable[[str], None],
        on_error_line: Callable[[str], None],
        cancelled: Callable[[], bool],
        limit: int | None = None,
    ) -> int | None:
        """Runs to the end; nothing is left behind when it returns or raises.

        Args:
            on_line, on_error_line: receive the lines of stdout and stderr.
            cancelled: asked ten times a second.
            limit: milliseconds, None for as long as it takes.

        Returns:
            The exit code, None if the process crashed or was killed.

        Raises:
            EngineCancelled: if ``cancelled`` said so.
            EngineError: if it cannot be started or takes longer than ``limit``.
        """
        clock = QElapsedTimer()
        clock.start()
        process = self._process
        # A set-up, of this QGIS or another one, does not remove an engine that works.
        with folders.Use(self._python):
            process.start()
            try:
                if not process.waitForStarted(10000):
                    raise EngineError(
                        tr("The MALICE engine {0} cannot be started: {1}. Set {2} to the Python of the engine.").format(
                            self._python, process.errorString(), SETTING
                        )
                    )
                while process.state() != QProcess.ProcessState.NotRunning:
                    if cancelled():
                        raise EngineCancelled(tr("cancelled"))
                    if limit is not None and clock.elapsed() > limit:
                        raise EngineError(
                            tr("The MALICE engine {0} does not answer within {1} seconds.").format(
                                self._python, limit // 1000
                            )
                        )
                    process.waitForReadyRead(POLL)
                    self._read(on_line, on_error_line)
                    _attend()
                self._read(on_line, on_error_line, last=True)
            finally:
                self.stop()
        # Ctrl-C in a terminal reaches the engine too, which may end before the loop above has heard of it.
        _attend()
        failed = process.exitStatus() != QProcess.ExitStatus.NormalExit or process.exitCode() != 0
        if failed and (cancelled() or process.exitCode() == CANCELLED):
            raise EngineCancelled(tr("cancelled"))
        code = process.exitCode() if process.exitStatus() == QProcess.ExitStatus.NormalExit else None
        if failed and self._kept:
            lastwords.keep(self._command, code, [*self._said, *self.last_words])
        return code

    def stop(self) -> None:
        """Ends the process within a second: it may end tidily when stdin closes, then it is asked, then killed."""
        process = self._process
        if process.state() == QProcess.ProcessState.NotRunning:
            return
        process.closeWriteChannel()
        if not process.waitForFinished(TIDY):
            process.terminate()
            if not process.waitForFinished(ASKED):
                process.kill()
                process.waitForFinished(5000)

    def _read(self, on_line: Callable[[str], None], on_error_line: Callable[[str], None], last: bool = False) -> None:
        for line in self._out.feed(bytes(self._process.readAllStandardOutput()), last):
            self._said.append(events.shown(line))
            on_line(line)
        for line in self._err.feed(bytes(self._process.readAllStandardError()), last):
            self.last_words.append(events.shown(line))
            on_error_line(self.last_words[-1])


def _attend() -> None:
    """Lets the application hear of signals (Ctrl-C in qgis_process) where the run has its main thread; never input."""
    application = QCoreApplication.instance()
    if application is not None and QThread.currentThread() == application.thread():
        application.processEvents(QEventLoop.ProcessEventsFlag.ExcludeUserInputEvents)


def handshake(python: str, cancelled: Callable[[], bool]) -> str:
    """Asks the engine for its contract; returns its version.

    Raises:
        EngineError: if it does not answer, or speaks another contract.
    """
    lines: deque[str] = deque(maxlen=LAST_WORDS)
    process = EngineProcess(python, command("malice_core.embed", "--contract"))
    code = process.run(lines.append, lambda _: None, cancelled, HANDSHAKE)
    answer = events.event_of(lines[-1]) if lines else None
    if code != 0 or answer is None or "contract" not in answer:
        words = [*map(events.shown, lines), *process.last_words]
        raise EngineError(death(python, code, words[-LAST_WORDS:]))
    if answer["contract"] != CONTRACT:
        newer = isinstance(answer["contract"], int) and answer["contract"] > CONTRACT
        raise EngineError(
            tr("The MALICE engine {0} (version {1}) speaks contract {2}, this plugin speaks contract {3}: {4}.").format(
                python,
                events.text(answer, "version"),
                events.shown(events.text(answer, "contract")),
                CONTRACT,
                tr("update the plugin") if newer else tr("update the engine"),
            )
        )
    return events.text(answer, "version")


def death(python: str, code: int | None, last_words: list[str]) -> str:
    """One line for an engine that ended without saying why: how, its last words, what to try."""
    how = tr("crashed or was killed") if code is None else tr("ended with code {}").format(code)
    words = " | ".join(last_words)
    if any(sign in words for sign in ("No module named", "ImportError", "cannot open shared object", "DLL load")):
        cure = tr("something is missing in it: install it anew, or set {} to another Python").format(SETTING)
    elif code is None or "memory" in words.lower() or "MemoryError" in words or "bad_alloc" in words:
        cure = tr("the machine may have run out of memory: try a smaller MEMORY or BLOCK, with RESUME to go on")
    else:
        cure = tr("try it in a terminal: {} -m malice_core.embed --help").format(python)
    return tr("The MALICE engine {0} {1}. Last words: {2}. What to try: {3}.").format(
        python, how, words or tr("none"), cure
    )
