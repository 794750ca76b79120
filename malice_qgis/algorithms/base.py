"""What all algorithms over the engine share: how they show themselves, and a run of one of its command lines.

An algorithm of the provider is a subclass of :class:`EngineAlgorithm` with an ``ID``, texts, ``definitions`` and
``work``; nothing of QGIS' or the engine's ways has to be known twice.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
)
from qgis.PyQt.QtGui import QIcon

from .. import checks, engine, events, interrupts
from ..pictures import icon_path
from ..setup import building
from ..texts import UserError, tr
from ..words import Words

#: Seconds between two lines of progress in the log; the bar moves more often.
SAY_EVERY = 15.0
#: Where the pages are that the button Help of a dialog opens.
PAGES = "https://github.com/malice-qgis/malice-qgis/blob/main/"


class EngineAlgorithm(QgsProcessingAlgorithm):
    """An algorithm that the engine computes.

    A subclass gives ``ID``, ``HELP``, ``TAGS``, ``displayName``, ``shortDescription``, ``shortHelpString``,
    ``definitions`` and ``work``, and where it needs them ``refuse`` and ``prepare``.
    """

    #: Fixed, lowercase: what scripts, models and histories name.
    ID = ""
    #: Words by which it is found, with commas between.
    TAGS = "malice"
    #: The page of its help, as it lies in the repository; on a page of several algorithms with the heading of its own,
    #: ``docs/page.md#heading``.
    HELP = ""
    #: Parameters of files that QGIS would open one by one to see if they are layers; the engine opens them and says
    #: more.
    UNOPENED: frozenset[str] = frozenset()
    #: False for algorithms that are there so that an engine can be had.
    NEEDS_ENGINE = True

    def __init__(self) -> None:
        super().__init__()
        self._given: dict[str, Any] = {}

    def definitions(self) -> Iterable[QgsProcessingParameterDefinition]:
        """The parameters, inputs first, outputs last."""
        raise NotImplementedError

    def refuse(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        """Looks at the parameters before anything runs; cheap, no network.

        Args:
            parameters: as of :func:`checks.given`.

        Raises:
            UserError: with what is wrong, in one line.
        """

    def prepare(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        """Does what has to be done in the thread of the layers; :meth:`work` has another.

        Args:
            parameters: as of :func:`checks.given`, of a run that begins.

        Raises:
            UserError: with what is wrong, in one line.
        """
        self.refuse(parameters, context)

    def work(
        self,
        run: EngineRun,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        """Computes; returns the results by output.

        Args:
            run: of the engine, not yet started.
            parameters: as :meth:`prepare` got them.

        Raises:
            UserError, OSError: with what is wrong, in one line.
        """
        raise NotImplementedError

    def name(self) -> str:
        return self.ID

    def createInstance(self) -> EngineAlgorithm:
        return type(self)()

    def icon(self) -> QIcon:
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        return icon_path(self.ID)

    def tags(self) -> list[str]:
        return self.TAGS.split(",")

    def helpUrl(self) -> str:
        return PAGES + self.HELP

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        for definition in self.definitions():
            if not self.addParameter(definition):
                raise ValueError(f"parameter {definition.name()} is there twice")

    def canExecute(self) -> tuple[bool, str]:
        try:
            self._require_engine()
        except engine.EngineError as error:
            return False, str(error)
        return True, ""

    def checkParameterValues(self, parameters: dict[str, Any], context: QgsProcessingContext) -> tuple[bool, str]:
        try:
            self._require_engine()
            self.refuse(checks.given(parameters, context), context)
        except UserError as error:
            return False, " ".join(str(error).split())
        opened = {name: value for name, value in parameters.items() if name not in self.UNOPENED}
        return super().checkParameterValues(opened, context)

    def validateInputCrs(self, parameters: dict[str, Any], context: QgsProcessingContext) -> bool:
        """The engine looks at CRSs itself and says so; QGIS need not open every file for it."""
        return True

    def prepareAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        try:
            # A model runs its steps without checkParameterValues, and expressions have their values only now.
            self._given = checks.given(parameters, context, begins=True)
            self.prepare(self._given, context, feedback)
        except UserError as error:
            raise QgsProcessingException(str(error)) from error
        return True

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        try:
            return self.work(EngineRun(feedback, self._words()), self._given, context, feedback)
        except UserError as error:
            raise QgsProcessingException(" ".join(str(error).split())) from error
        except OSError as error:
            raise QgsProcessingException(_about_a_file(error)) from error

    def _words(self) -> Words:
        """What the engine's sentences are told in."""
        provider = self.provider()
        titles = {one.name(): one.displayName() for one in provider.algorithms()} if provider is not None else {}
        return Words([one.name() for one in self.parameterDefinitions()], titles)

    def _require_engine(self) -> None:
        if self.NEEDS_ENGINE:
            engine.find()


class EngineRun:
    """Hears one run of the engine and tells the user.

    Attributes:
        aliases: what the user knows files as that were made for the engine, by their paths.
        began: the engine has told of progress: the folder of finished blocks, if it makes one, is this run's.
        plan, plan_text, notes, warnings: what it has said.
    """

    def __init__(self, feedback: QgsProcessingFeedback, words: Words) -> None:
        self._feedback, self._words = feedback, words
        self._files: list[str] = []
        self._python = ""
        self._step, self._said = "", 0.0
        self._error = ""
        self._finished = False
        self.aliases: dict[str, str] = {}
        self.began = False
        self.plan: dict[str, Any] = {}
        self.plan_text = ""
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def execute(
        self,
        module: str,
        arguments: Sequence[str],
        outputs: Sequence[str] = (),
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Runs a command line of the engine that talks in events (``--progress json``), to its end.

        Args:
            module: such as ``malice_core.embed``.
            arguments: without those of progress and cancelling.
            outputs: files that must be there afterwards.
            more: variables of its environment.

        Raises:
            engine.EngineError: if there is no engine or it speaks another contract; with the engine's own sentence, or
                its last words.
        """
        python = self._engine()
        whole = engine.command(module, *arguments, "--progress", "json", "--cancel-on-stdin-close")
        self._feedback.pushDebugInfo(" ".join([python, *whole]))
        self._error, self._finished = "", False
        given = [one.partition("=")[2] if one.startswith("--") else one for one in arguments]
        self._files = [*given, *map(os.path.basename, given)]
        process = engine.EngineProcess(python, whole, more)
        code = process.run(self._hear, self._feedback.pushDebugInfo, self.cancelled)
        if code == 0 and self._finished and all(map(os.path.isfile, outputs)):
            self._feedback.setProgress(100)
            return
        if self._error:
            raise engine.EngineError(self._error)
        raise engine.EngineError(engine.death(python, code, list(process.last_words)))

    def cancelled(self) -> bool:
        """True when the user wants it to end."""
        return self._feedback.isCanceled() or interrupts.heard()

    def _engine(self) -> str:
        """The Python of the engine, asked for its contract once."""
        if not self._python:
            python = engine.find()
            version = engine.handshake(python, self.cancelled)
            self._feedback.pushInfo(tr("MALICE engine {0}: {1}").format(version, python))
            old = building.outdated(python)
            if old:
                self._feedback.pushWarning(old)
            self._python = python
        return self._python

    def _hear(self, line: str) -> None:
        event = events.event_of(line) or {}
        kind = event.get("event")
        if kind == "progress":
            self._progress(event)
        elif kind == "plan":
            told = event.get("plan")
            self.plan = told if isinstance(told, dict) else {}
            self.plan_text = self.told(events.text(event, "text"))
            self._feedback.pushInfo(self.plan_text)
        elif kind == "note":
            self.notes.append(self._message(event))
            self._feedback.pushInfo(self.notes[-1])
        elif kind == "warning":
            self.warnings.append(self._message(event))
            self._feedback.pushWarning(self.warnings[-1])
        elif kind == "error":
            self._error = " ".join(self._message(event).split())
        elif kind == "done":
            self._finished = True
            files = ", ".join(events.texts(event, "files"))
            if files:
                self._feedback.pushInfo(tr("done in {0} s: {1}").format(events.text(event, "seconds"), files))
        else:
            self._feedback.pushDebugInfo(events.shown(line))

    def _message(self, event: dict[str, Any]) -> str:
        return self.told(events.text(event, "message"))

    def told(self, text: str) -> str:
        """A text of the engine as users know things: parameters, algorithms, and files that were made for it."""
        text = self._words.of(text, self._files)
        for path, alias in self.aliases.items():
            text = text.replace(path, alias)
        return text

    def _progress(self, event: dict[str, Any]) -> None:
        self.began = True
        done, total = events.number(event, "done"), events.number(event, "total")
        if done is not None and total:
            self._feedback.setProgress(100 * min(max(done / total, 0.0), 1.0))
        step, left = events.text(event, "step"), events.number(event, "eta_s")
        now = time.monotonic()
        if step != self._step or (left is not None and now - self._said > SAY_EVERY):
            self._step, self._said = step, now
            # No share: the bar has it, and moves on while this text stands.
            self._feedback.setProgressText(tr("{0}: {1}").format(step, _left(left)) if left else step)


def _about_a_file(error: OSError) -> str:
    """A file that the plugin could not read or write, by the name the user knows: which, why, what to do."""
    told = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
    # What is written has another name until it is whole.
    path = told[: -len(".part")] if told.endswith(".part") else told
    why = error.strerror or " ".join(str(error).split()) or type(error).__name__
    if not path:
        return tr("A file cannot be read or written: {}. Is the disk full, or a folder closed to you?").format(why)
    return tr("{0} cannot be read or written: {1}. Choose another folder, or make room.").format(path, why)


def _left(seconds: float) -> str:
    """``4 min 10 s left``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return tr("{0} h {1:02d} min left").format(hours, minutes)
    return tr("{0} min {1:02d} s left").format(minutes, rest) if minutes else tr("{0} s left").format(rest)
