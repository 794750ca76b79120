"""``malice:setup``: makes, repairs, removes, checks and diagnoses the engine."""

from __future__ import annotations

import os
from typing import Any

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputString,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsSettings,
)
from qgis.PyQt.QtGui import QIcon

from .. import checks, engine, lastwords
from ..models import INSTALLED
from ..pictures import icon_path
from ..setup import building, places, report
from ..setup.building import Builder, GpuError, SetupError, Wish
from ..texts import UserError, tr

ACTIONS = ["install", "repair", "remove", "check", "diagnose"]
DEVICES = ["cpu", "cuda"]
HELP = "https://github.com/malice-qgis/malice-qgis/blob/main/docs/setup.md"


class SetupAlgorithm(QgsProcessingAlgorithm):
    """Parameters, and one method for each action."""

    def name(self) -> str:
        return "setup"

    def displayName(self) -> str:
        return tr("MALICE set-up")

    def createInstance(self) -> SetupAlgorithm:
        return SetupAlgorithm()

    def icon(self) -> QIcon:
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        return icon_path("setup")

    def tags(self) -> list[str]:
        return ["install", "engine", "environment", "python", "gpu", "cuda", "offline", "repair", "diagnosis", "malice"]

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

    def helpUrl(self) -> str:
        return HELP

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        kinds = QgsProcessingParameterFile.Behavior
        every = tr("All files (*)")
        given = [
            (
                QgsProcessingParameterEnum("ACTION", tr("What to do"), ACTIONS, False, ACTIONS[0], False, True),
                tr("install, repair, remove, check or diagnose, as described."),
            ),
            (
                QgsProcessingParameterEnum("DEVICE", tr("Compute on"), DEVICES, False, DEVICES[0], False, True),
                tr(
                    "cpu: any processor. cuda: an NVIDIA GPU as well, on Linux and Windows; fetches 2 GB more. Where "
                    "no GPU works, the engine for processors is made and the reason told."
                ),
            ),
            (
                QgsProcessingParameterFile("WHEELS", tr("Folder of wheels (no network)"), kinds.Folder, "", None, True),
                tr("Packages are taken from this folder alone; the help page says how to fill it."),
            ),
            (
                QgsProcessingParameterFile("PYTHON", tr("Python to make it with"), kinds.File, "", None, True, every),
                tr("A Python from 3.11 to 3.14. Empty: one is looked for."),
            ),
            (
                QgsProcessingParameterFile("ENGINE", tr("Engine that is there"), kinds.File, "", None, True, every),
                tr("Path of the Python of an engine: it is asked, and used from now on; nothing is made."),
            ),
            (
                QgsProcessingParameterFileDestination(
                    "REPORT", tr("Diagnosis"), tr("HTML files (*.html);;Text files (*.txt)"), None, True, False
                ),
                tr("Where the diagnosis is written as well."),
            ),
        ]
        for number, (parameter, text) in enumerate(given):
            parameter.setHelp(text)
            if number in (2, 3, 4):
                parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
            if not self.addParameter(parameter):
                raise ValueError(f"parameter {parameter.name()} is there twice")
        self.addOutput(QgsProcessingOutputString("ENGINE_PYTHON", tr("Python of the engine that counts")))
        self.addOutput(QgsProcessingOutputString("VERSION", tr("Version of the engine")))

    def checkParameterValues(self, parameters: dict[str, Any], context: QgsProcessingContext) -> tuple[bool, str]:
        try:
            self._told(parameters, context)
        except UserError as error:
            return False, str(error)
        return super().checkParameterValues(parameters, context)

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        builder = Builder(feedback)
        results: dict[str, Any] = {}
        try:
            told = self._told(parameters, context)
            action = told["ACTION"]
            if action in ("check", "diagnose"):
                results["VERSION"] = self._check(builder) if action == "check" else ""
            else:
                with places.Lock():
                    if action == "remove":
                        self._remove(builder)
                    elif told["ENGINE"]:
                        results["VERSION"] = self._use(builder, told["ENGINE"])
                    else:
                        results["VERSION"] = self._install(builder, told, feedback)
            if action == "diagnose" or told["REPORT"]:
                text = report.collect(builder.cancelled)
                feedback.pushInfo(text)
                if told["REPORT"]:
                    report.write(told["REPORT"], text)
                    results["REPORT"] = told["REPORT"]
        except engine.EngineCancelled as error:
            builder.note("cancelled")
            raise QgsProcessingException(str(error)) from error
        except (UserError, OSError) as error:
            builder.note(f"failed: {error}")
            lastwords.keep(["malice:setup"], 1, [str(error)])
            raise QgsProcessingException(" ".join(str(error).split())) from error
        results["ENGINE_PYTHON"] = engine.places()[0][1]
        return results

    def _told(self, parameters: dict[str, Any], context: QgsProcessingContext) -> dict[str, str]:
        """The parameters as texts.

        Raises:
            SetupError: if they do not go together.
        """
        given = checks.given(parameters, context)
        told = {name: str(given.get(name) or "").strip() for name in ("PYTHON", "ENGINE", "WHEELS")}
        for name, words in (("ACTION", ACTIONS), ("DEVICE", DEVICES)):
            # Not parameterAsEnumString: it takes the default for words it does not know.
            told[name] = str(given.get(name) or words[0]).strip()
            if told[name] not in words:
                raise SetupError(tr("{0} '{1}' is none of {2}.").format(name, told[name][:80], ", ".join(words)))
        told["REPORT"] = self.parameterAsFileOutput(parameters, "REPORT", context)
        _refuse(told)
        return told

    def _install(self, builder: Builder, told: dict[str, str], feedback: QgsProcessingFeedback) -> str:
        """Makes the engine where it is not there as it should be, or anew; returns its version."""
        wish = Wish(told["PYTHON"], os.path.abspath(told["WHEELS"]) if told["WHEELS"] else "", told["DEVICE"])
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
        if not folder:
            return False
        made = building.record(folder)
        if any(made.get(name) != value for name, value in building.recipe(wish.device).items()):
            return False
        try:
            engine.handshake(places.python(), builder.cancelled)
            building.examine(places.python(), builder.cancelled, wish.device)
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
                    tr("The setting {0} was {1}; it is {2} now.").format(engine.SETTING, before, python or "empty")
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
        left = [one for one in places.others() if not places.remove(one)]
        if left:
            raise SetupError(
                tr("{} is held by a program: close other QGIS windows and run this again.").format(", ".join(left))
            )
        builder.say(tr("The engine in {} is removed.").format(folder) if folder else tr("There was no engine."))
        INSTALLED.forget()

    def _check(self, builder: Builder) -> str:
        """Tries the engine that counts; returns its version."""
        python = engine.find()
        version = engine.handshake(python, builder.cancelled)
        found = building.examine(python, builder.cancelled)
        builder.say(tr("MALICE engine {0}: {1}").format(version, python))
        builder.say(tr("It computes on {}.").format(", ".join(building.computing(found))))
        return version


def _refuse(told: dict[str, str]) -> None:
    """Raises:
    SetupError: if a path is not there or parameters do not go together.
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


def _begin_log() -> None:
    """The log is that of the last set-up; the one before is kept."""
    if os.path.exists(places.log_file()):
        os.replace(places.log_file(), places.log_file() + ".1")
