"""``malice:setup``: makes, repairs, removes, checks and diagnoses the engine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingOutputString,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsSettings,
)

from .. import checks, engine, lastwords
from ..models import INSTALLED
from ..setup import building, places, report
from ..setup.building import Builder, GpuError, SetupError, Wish
from ..texts import UserError, tr
from .base import EngineAlgorithm, EngineRun
from .parameters import advanced, helped

ACTIONS = ["install", "repair", "remove", "check", "diagnose"]
DEVICES = ["cpu", "cuda"]


class SetupAlgorithm(EngineAlgorithm):
    """Parameters, and one method for each action."""

    ID = "setup"
    TAGS = "install,engine,environment,python,gpu,cuda,offline,repair,diagnosis,malice"
    HELP = "docs/setup.md"
    NEEDS_ENGINE = False

    def displayName(self) -> str:
        return tr("MALICE set-up")

    def shortDescription(self) -> str:
        return tr("Sets up the engine that computes: run it once after the plugin is installed.")

    def shortHelpString(self) -> str:
        return tr(
            "<p>Sets up the MALICE engine: a Python environment of its own in your QGIS profile, with every package in "
            "a fixed release whose content is checked. QGIS' own Python is not changed. It fetches about 200 MB and "
            "takes 700 MB; allow 1.5 GB.</p>"
            "<p><b>install:</b> makes the engine, if it is not there as it should be. <b>repair:</b> makes it anew. "
            "<b>remove:</b> deletes it (models you installed stay). <b>check:</b> tries it. <b>diagnose:</b> a report "
            "for asking for help, without passwords.</p>"
            "<p>A new engine is built beside the old one and counts only after it has computed something; what is "
            "cancelled or fails leaves the old one as it was.</p>"
            "<p><b>Without a network:</b> give a folder of wheels. <b>An engine that is there already</b> (a checkout, "
            "a cluster's module): give the path of its Python.</p>"
        )

    def definitions(self) -> Iterable[QgsProcessingParameterDefinition]:
        kinds = QgsProcessingParameterFile.Behavior
        every = tr("All files (*)")
        return (
            helped(
                QgsProcessingParameterEnum("ACTION", tr("What to do"), ACTIONS, False, ACTIONS[0], False, True),
                tr("install, repair, remove, check or diagnose, as described."),
            ),
            helped(
                QgsProcessingParameterEnum("DEVICE", tr("Compute on"), DEVICES, False, DEVICES[0], False, True),
                tr(
                    "cpu: any processor. cuda: an NVIDIA GPU as well, on Linux and Windows; fetches 2 GB more. Where "
                    "no GPU works, the engine for processors is made and the reason told."
                ),
            ),
            _rare(
                QgsProcessingParameterFile("WHEELS", tr("Folder of wheels (no network)"), kinds.Folder, "", None, True),
                tr("Packages are taken from this folder alone; the help page says how to fill it."),
            ),
            _rare(
                QgsProcessingParameterFile("PYTHON", tr("Python to make it with"), kinds.File, "", None, True, every),
                tr("A Python from 3.11 to 3.14. Empty: one is looked for."),
            ),
            _rare(
                QgsProcessingParameterFile("ENGINE", tr("Engine that is there"), kinds.File, "", None, True, every),
                tr("Path of the Python of an engine: it is asked, and used from now on; nothing is made."),
            ),
            helped(
                QgsProcessingParameterFileDestination(
                    "REPORT", tr("Diagnosis"), tr("HTML files (*.html);;Text files (*.txt)"), None, True, False
                ),
                tr("Where the diagnosis is written as well."),
            ),
        )

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        super().initAlgorithm(configuration)
        self.addOutput(QgsProcessingOutputString("ENGINE_PYTHON", tr("Python of the engine that counts")))
        self.addOutput(QgsProcessingOutputString("VERSION", tr("Version of the engine")))

    def refuse(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        self._told(parameters, context)

    def work(
        self,
        run: EngineRun,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        builder = Builder(feedback)
        told = self._told(parameters, context)
        try:
            version = self._act(builder, told, feedback)
        except engine.EngineCancelled:
            builder.note("cancelled")
            raise
        except (UserError, OSError) as error:
            builder.note(f"failed: {error}")
            lastwords.keep(["malice:setup"], 1, [str(error)])
            # Now it is wanted most; what is told is why the set-up failed, whatever becomes of it.
            try:
                _report(builder, told, feedback)
            except (UserError, OSError) as other:
                why = getattr(other, "strerror", None) or other
                feedback.reportError(tr("{0} {1} cannot be written: {2}.").format("REPORT", told["REPORT"], why))
            raise
        _report(builder, told, feedback)
        results = {"VERSION": version, "ENGINE_PYTHON": engine.places()[0][1]}
        return {**results, "REPORT": told["REPORT"]} if told["REPORT"] else results

    def postProcessAlgorithm(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> dict[str, Any]:
        # In the window's thread, where the engine can be asked for its models.
        INSTALLED.refresh()
        return {}

    def _act(self, builder: Builder, told: dict[str, str], feedback: QgsProcessingFeedback) -> str:
        """Does what ACTION says; returns the version of the engine, "" where that is not asked."""
        action = told["ACTION"]
        if action == "diagnose":
            return ""
        if action == "check":
            return self._check(builder)
        with places.Lock():
            if action == "remove":
                self._remove(builder)
                return ""
            return self._use(builder, told["ENGINE"]) if told["ENGINE"] else self._install(builder, told, feedback)

    def _told(self, parameters: dict[str, Any], context: QgsProcessingContext) -> dict[str, str]:
        """The parameters as texts, paths absolute: settings and the engine outlive the folder this runs in.

        Args:
            parameters: as of :func:`checks.given`.

        Raises:
            SetupError, checks.Refusal: if they do not go together, or a path is not there.
        """
        told = {name: str(parameters.get(name) or "").strip() for name in ("PYTHON", "ENGINE", "WHEELS")}
        told["REPORT"] = self.parameterAsFileOutput(parameters, "REPORT", context)
        # Links stay: the Python of a virtual environment is one.
        told = {name: os.path.abspath(path) if path else "" for name, path in told.items()}
        for name, words in (("ACTION", ACTIONS), ("DEVICE", DEVICES)):
            # Not parameterAsEnumString: it takes the default for words it does not know.
            told[name] = str(parameters.get(name) or words[0]).strip()
            if told[name] not in words:
                raise SetupError(tr("{0} '{1}' is none of {2}.").format(name, told[name][:80], ", ".join(words)))
        _refuse(told)
        return told

    def _install(self, builder: Builder, told: dict[str, str], feedback: QgsProcessingFeedback) -> str:
        """Makes the engine where it is not there as it should be, or anew; returns its version."""
        wish = Wish(told["PYTHON"], told["WHEELS"], told["DEVICE"])
        if told["ACTION"] == "install" and self._is_whole(builder, wish):
            builder.say(tr("The engine is there as it should be, and works: nothing is done. (repair makes it anew.)"))
            python = places.python()
        else:
            _begin_log()
            try:
                python = builder.build(wish)
            except GpuError as error:
                feedback.pushWarning(
                    tr("The GPU is not used: {} An engine for processors is used instead.").format(error)
                )
                builder.note(f"the GPU is not used: {error}")
                wish = Wish(wish.python, wish.wheels, "cpu")
                there = told["ACTION"] == "install" and self._is_whole(builder, wish)
                python = places.python() if there else builder.build(wish)
        self._point(builder, "")
        feedback.setProgress(100)
        INSTALLED.forget()
        return engine.handshake(python, builder.cancelled)

    def _is_whole(self, builder: Builder, wish: Wish) -> bool:
        """True if the engine that is there is what would be made now, and works."""
        folder = places.current()
        if not folder or not building.is_made_so(folder, wish.device):
            return False
        try:
            engine.handshake(places.python(), builder.cancelled)
            building.require(places.python(), builder.cancelled, wish.device)
        except engine.EngineCancelled:
            raise
        except engine.EngineError as error:
            builder.say(tr("The engine that is there does not work: {}").format(error))
            return False
        return True

    def _use(self, builder: Builder, python: str) -> str:
        version = engine.handshake(python, builder.cancelled)
        self._point(builder, python)
        builder.say(tr("MALICE engine {0} is used from now on: {1}").format(version, python))
        INSTALLED.forget()
        return version

    def _point(self, builder: Builder, python: str) -> None:
        """Writes where the engine is into QGIS' settings; "": where this set-up puts it."""
        settings = QgsSettings()
        before = str(settings.value(engine.SETTING, "") or "").strip()
        if before != python:
            settings.setValue(engine.SETTING, python)
            if before:
                builder.say(
                    tr("The setting {0} was {1}; it is {2} now.").format(engine.SETTING, before, python or tr("empty"))
                )
        variable = os.environ.get(engine.VARIABLE, "").strip()
        if variable and not python:
            builder.say(
                tr("The environment variable {0} names another engine, which is used as long as it is set: {1}").format(
                    engine.VARIABLE, variable
                )
            )

    def _remove(self, builder: Builder) -> None:
        """Removes all engines of the set-up; models and settings of others stay."""
        folder = places.current()
        if any(map(places.in_use, [*places.others(), *([folder] if folder else [])])):
            raise SetupError(tr("The engine is at work: wait for the run to end, or cancel it."))
        places.forget()
        INSTALLED.forget()
        left = [one for one in places.others() if not places.remove(one)]
        if left:
            raise SetupError(
                tr("{} is held by a program: close other QGIS windows and run this again.").format(", ".join(left))
            )
        builder.say(tr("The engine in {} is removed.").format(folder) if folder else tr("There was no engine."))

    def _check(self, builder: Builder) -> str:
        """Tries the engine that counts; returns its version."""
        python = engine.find()
        version = engine.handshake(python, builder.cancelled)
        found = building.require(python, builder.cancelled)
        builder.say(tr("MALICE engine {0}: {1}").format(version, python))
        builder.say(tr("It computes on {}.").format(", ".join(building.computing(found))))
        return version


def _rare(parameter: QgsProcessingParameterDefinition, text: str) -> QgsProcessingParameterDefinition:
    """The parameter with a help text, among the advanced ones."""
    return advanced(helped(parameter, text))


def _report(builder: Builder, told: dict[str, str], feedback: QgsProcessingFeedback) -> None:
    """Tells the diagnosis, and writes it where REPORT says; does nothing where neither is asked for.

    Raises:
        OSError: if it cannot be written.
        engine.EngineCancelled: if the user wants it to end.
    """
    if told["REPORT"] or told["ACTION"] == "diagnose":
        text = report.collect(builder.cancelled)
        feedback.pushInfo(text)
        if told["REPORT"]:
            report.write(told["REPORT"], text)


def _refuse(told: dict[str, str]) -> None:
    """Raises:
    SetupError, checks.Refusal: if a path is not there or parameters do not go together.
    """
    if told["WHEELS"] and not os.path.isdir(told["WHEELS"]):
        raise SetupError(tr("WHEELS: {} is no folder.").format(told["WHEELS"]))
    for name in ("PYTHON", "ENGINE"):
        path = told[name]
        if path and not (os.path.isfile(path) and os.access(path, os.X_OK)):
            raise SetupError(tr("{0}: {1} is no program: give the path of a Python.").format(name, path))
    if told["ENGINE"] and (told["ACTION"] != "install" or told["PYTHON"] or told["WHEELS"]):
        raise SetupError(tr("ENGINE is an engine that is there: it goes with ACTION install alone."))
    if told["REPORT"] and not told["REPORT"].lower().endswith((".html", ".htm", ".txt")):
        raise SetupError(tr("REPORT {}: give a name that ends in .html or .txt.").format(told["REPORT"]))
    if told["REPORT"]:
        checks.writable("REPORT", told["REPORT"])


def _begin_log() -> None:
    """The log is that of the last set-up; the one before is kept."""
    if os.path.exists(places.log_file()):
        os.replace(places.log_file(), places.log_file() + ".1")
