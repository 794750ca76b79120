"""``malice:embed``: a Sentinel time series becomes one raster of embeddings, computed by the engine."""

from __future__ import annotations

import html
import math
import os
import re
import shutil
import time
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingUtils,
)
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QWidget

from .. import checks, engine, events, interrupts, styling, wrappers
from ..models import INSTALLED
from ..texts import UserError, tr
from . import parameters as definitions

#: Seconds between two lines of progress in the log; the bar moves more often.
SAY_EVERY = 15.0
#: What the button Help of the dialog opens.
HELP = "https://github.com/malice-qgis/malice-qgis/blob/main/docs/qgis.md"
#: Characters of image paths beyond which they are given in a file: Windows' limit is 32767 for everything.
LONG = 20000
#: Four numbers and a CRS; a layer may have a name in brackets too.
_WITH_CRS = re.compile(r"(?:[\s\d.eE+-]+,){3}[\s\d.eE+-]+\[(.+)\]\s*", re.DOTALL)
_WKT2 = QgsCoordinateReferenceSystem.WktVariant.WKT_PREFERRED


class EmbedAlgorithm(QgsProcessingAlgorithm):
    """Parameters, the engine's run, and the result as a layer."""

    def __init__(self) -> None:
        super().__init__()
        self._images: checks.Chosen = {}
        self._given: dict[str, Any] = {}
        self._area: list[str] = []

    def name(self) -> str:
        return "embed"

    def displayName(self) -> str:
        return tr("MALICE embed")

    def createInstance(self) -> EmbedAlgorithm:
        return EmbedAlgorithm()

    def icon(self) -> QIcon:
        provider = self.provider()
        return provider.icon() if provider is not None else QIcon()

    def svgIconPath(self) -> str:
        provider = self.provider()
        return provider.svgIconPath() if provider is not None else ""

    def tags(self) -> list[str]:
        words = "embedding,sentinel,sentinel-1,sentinel-2,time series,deep learning,features,land cover,crops,malice"
        return words.split(",")

    def shortDescription(self) -> str:
        return tr("One raster that says what every pixel did in a year of Sentinel images.")

    def shortHelpString(self) -> str:
        models = "".join(f"<p>{html.escape(line)}</p>" for line in INSTALLED.describe())
        return tr(
            "<p>Turns a year of Sentinel-2 and/or Sentinel-1 images into one raster of features (an embedding) with "
            "a MALICE network. Features tell crops, woods, grassland and their changes apart, and serve "
            "classification, clustering and the search for similar places.</p>"
            "<p><b>Images:</b> one layer a date, or a folder of them, over 6 to 18 months. Sentinel-2 as surface "
            "reflectance (L2A), Sentinel-1 as linear gamma0 (not decibels). Dates come from names, tags, or the "
            "layers' temporal range. Cloudy dates are left out where the scene classification (SCL) is given.</p>"
            "<p><b>Result:</b> 64 bands for each of 10 queries and each sensor, of which three that differ are shown "
            "as colours. In full, as float32 and uncompressed, that is 5 kB a pixel for two sensors: fewer queries "
            "or another number type make smaller files.</p>"
            "<p><b>Run:</b> the network runs in an engine of its own, outside QGIS. A cancelled run that writes to a "
            "file you named can be continued (advanced parameters).</p>"
        ) + (tr("<p><b>Installed models:</b></p>") + models if models else "")

    def helpUrl(self) -> str:
        return HELP

    def initAlgorithm(self, configuration: dict[str, Any] | None = None) -> None:
        INSTALLED.refresh()
        for definition in (*definitions.inputs(), *definitions.options(), *definitions.outputs()):
            if not self.addParameter(definition):
                raise ValueError(f"parameter {definition.name()} is there twice")

    def createCustomParametersWidget(self, parent: QWidget | None = None) -> QWidget:
        # Processing's windows are there in desktop QGIS only.
        from ..dialog import EmbedDialog

        return EmbedDialog(self, parent=parent)

    def canExecute(self) -> tuple[bool, str]:
        try:
            engine.find()
        except engine.EngineError as error:
            return False, str(error)
        return True, ""

    def checkParameterValues(self, parameters: dict[str, Any], context: QgsProcessingContext) -> tuple[bool, str]:
        try:
            engine.find()
            checks.refuse(checks.given(parameters, context), context)
        except UserError as error:
            return False, " ".join(str(error).split())
        # QGIS would open every file to see if it is a layer; the engine opens them anyway and says more.
        ours = {*(name for name, _, _, _ in definitions.IMAGES), *definitions.SURROUNDINGS}
        return super().checkParameterValues({k: v for k, v in parameters.items() if k not in ours}, context)

    def validateInputCrs(self, parameters: dict[str, Any], context: QgsProcessingContext) -> bool:
        """The engine brings images of several CRS together and says so; QGIS need not open every file for it."""
        return True

    def prepareAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> bool:
        # Layers belong to the thread this is called in; the run has another.
        try:
            # A model runs its steps without checkParameterValues, and expressions have their values only now.
            self._given = checks.given(parameters, context, begins=True)
            self._images = checks.refuse(self._given, context)
            self._area = self._area_of(self._given, context)
        except UserError as error:
            raise QgsProcessingException(str(error)) from error
        if self._images["--s2"] and not self._images["--scl"] and self._share():
            feedback.pushWarning(tr("No scene classification is given: cloudy dates are not left out."))
        return True

    def processAlgorithm(
        self, parameters: dict[str, Any], context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> dict[str, Any]:
        parameters = self._given
        # QGIS knows the layer it will load by the name it gave, the engine needs an absolute one.
        destination = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        output = os.path.abspath(destination)
        counts = self.parameterAsOutputLayer(parameters, "COUNTS", context)
        plan_file = self.parameterAsFileOutput(parameters, "PLAN", context)
        made = wrappers.Wrappers(output)
        temporary = _is_temporary(output, context)
        run, done = _Run(feedback), False
        scratch = output + wrappers.SCRATCH
        left = os.path.lexists(scratch)
        try:
            # Again, now that QGIS has named temporary ones.
            checks.outputs({"OUTPUT": destination, "COUNTS": counts, "PLAN": plan_file}, self._images)
            wrappers.tidy()
            python = engine.find()
            version = engine.handshake(python, run.cancelled)
            feedback.pushInfo(tr("MALICE engine {0}: {1}").format(version, python))
            arguments = [*self._data(made), *self._area, *self._options(parameters, context)]
            arguments += ["--output", output, *(["--counts", os.path.abspath(counts)] if counts else [])]
            run.execute(python, arguments, output)
            done = True
        except (UserError, OSError) as error:
            raise QgsProcessingException(str(error)) from error
        finally:
            # A run that failed may be gone on with, unless its output was temporary.
            if done or temporary:
                made.remove()
            if temporary and not done and not left:
                shutil.rmtree(scratch, ignore_errors=True)
            elif run.began and os.path.isdir(scratch):
                kept = tr("Finished blocks stay in {}: run again with RESUME, or delete it.")
                feedback.pushInfo(kept.format(scratch))
        results = {"OUTPUT": destination}
        if counts:
            results["COUNTS"] = counts
        # The raster is there: what goes wrong from now on is told, and takes nothing away.
        if plan_file:
            try:
                _write_plan(plan_file, run)
                results["PLAN"] = plan_file
            except OSError as error:
                feedback.reportError(tr("PLAN {0} cannot be written: {1}").format(plan_file, error.strerror))
        try:
            self._show(parameters, context, destination)
        except (OSError, RuntimeError, ValueError) as error:
            feedback.reportError(tr("The result is whole, but cannot be given colours: {}").format(error))
        return results

    def _share(self) -> str:
        """Largest cloud share, "" for any."""
        return checks.number({"MAX_CLOUD": definitions.MAX_CLOUD, **self._given}, "MAX_CLOUD")

    def _data(self, made: wrappers.Wrappers) -> list[str]:
        """Options of the engine that say what is read."""
        arguments = []
        for option, found in self._images.items():
            paths = made.give(found, option.strip("-"))
            if sum(map(len, paths)) > LONG:
                paths = [made.list(option.strip("-"), paths)]
            if paths:
                arguments += [option, *paths]
        days = checks.dates(self._given)
        if days:
            arguments += ["--dates", days]
        if self._images["--scl"] and self._share():
            arguments += ["--max-cloud", self._share()]
        return arguments

    def _area_of(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Options of the engine that say where. Call it in the thread of the layers: the extent may be one's."""
        if parameters.get("EXTENT") in (None, ""):
            return []
        extent = self.parameterAsExtent(parameters, "EXTENT", context)
        corners = (extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum())
        if extent.isNull() or extent.isEmpty() or not all(map(math.isfinite, corners)):
            # Without this a layer without features would mean everything.
            raise checks.Refusal(tr("EXTENT has no area: choose an area or a layer with one, or leave it out."))
        crs = self._crs(parameters, context)
        numbers = (f"{number:.12f}".rstrip("0").rstrip(".") for number in corners)
        return ["--aoi", *numbers, *(["--aoi-crs", crs] if crs else [])]

    def _crs(self, parameters: dict[str, Any], context: QgsProcessingContext) -> str:
        """CRS of the extent, "" for that of the images. As text, also where QGIS' own PROJ is broken."""
        named = _WITH_CRS.fullmatch(str(parameters["EXTENT"]))
        if named and re.fullmatch(r"EPSG:\d+", named[1]):
            return named[1]
        if named and not QgsCoordinateReferenceSystem(named[1]).isValid():
            # QGIS would take the project's.
            raise checks.Refusal(tr("EXTENT: the CRS '{}' is not known.").format(named[1]))
        crs = self.parameterAsExtentCrs(parameters, "EXTENT", context)
        if not crs.isValid():
            return ""
        # Other codes (USER:100001) mean nothing outside this QGIS.
        return crs.authid() if crs.authid().startswith("EPSG:") else crs.toWkt(_WKT2)

    def _options(self, parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
        """Options of the engine that say how it computes."""
        model = self.parameterAsString(parameters, "MODEL", context).strip()
        arguments = ["--model", model] if model else []
        for name, words in definitions.CHOICES.items():
            told = checks.choice(parameters, name)
            # Models that see images alone refuse the options of the others.
            if name not in definitions.HOLES or told != words[0]:
                arguments += [f"--{name.lower().replace('_', '-')}", told]
        for name in ("MEMORY", "QUERIES"):
            text = self.parameterAsString(parameters, name, context)
            if text.strip():
                arguments += [f"--{name.lower()}", "".join(text.split())]
        for name in ("BLOCK", "THREADS"):
            if told := checks.number(parameters, name):
                arguments += [f"--{name.lower()}", told]
        # QGIS asks before it replaces a file.
        arguments.append("--overwrite")
        if checks.switch(parameters, "RESUME"):
            arguments.append("--resume")
        return arguments

    def _show(self, parameters: dict[str, Any], context: QgsProcessingContext, output: str) -> None:
        """Prepares how the result is shown, if it is; sampling it is done here, outside the window's thread."""
        if not context.willLoadLayerOnCompletion(output):
            return
        details = context.layerToLoadOnCompletionDetails(output)
        wanted = parameters.get("OUTPUT")
        named = isinstance(wanted, QgsProcessingOutputLayerDefinition) and wanted.destinationName
        look = styling.look_of(output)
        if not named:
            details.name = look.name
        details.setPostProcessor(styling.PostProcessor.of(look, keep_name=bool(named)))


class _Run:
    """Hears one run of the engine and tells the user."""

    def __init__(self, feedback: QgsProcessingFeedback) -> None:
        self._feedback = feedback
        self._step, self._said = "", 0.0
        self._error = ""
        self._finished = False
        #: The folder of finished blocks is this run's: the engine says nothing of progress before it holds it.
        self.began = False
        self.plan_text = ""
        self.warnings: list[str] = []

    def execute(self, python: str, arguments: list[str], output: str) -> None:
        """Raises:
        engine.EngineError: with the engine's own sentence, or its last words.
        """
        whole = engine.command("malice_core.embed", *arguments, "--progress", "json", "--cancel-on-stdin-close")
        self._feedback.pushDebugInfo(" ".join([python, *whole]))
        process = engine.EngineProcess(python, whole)
        code = process.run(self._hear, self._feedback.pushDebugInfo, self.cancelled)
        if code == 0 and self._finished and os.path.isfile(output):
            self._feedback.setProgress(100)
            return
        if self._error:
            raise engine.EngineError(self._error)
        raise engine.EngineError(engine.death(python, code, list(process.last_words)))

    def cancelled(self) -> bool:
        """True when the user wants it to end."""
        return self._feedback.isCanceled() or interrupts.heard()

    def _hear(self, line: str) -> None:
        event = events.event_of(line) or {}
        kind = event.get("event")
        if kind == "progress":
            self._progress(event)
        elif kind == "plan":
            self.plan_text = events.text(event, "text")
            self._feedback.pushInfo(self.plan_text)
        elif kind == "warning":
            self.warnings.append(events.text(event, "message"))
            self._feedback.pushWarning(self.warnings[-1])
        elif kind == "error":
            self._error = " ".join(events.text(event, "message").split())
        elif kind == "done":
            self._finished = True
            files = ", ".join(events.texts(event, "files"))
            self._feedback.pushInfo(tr("done in {0} s: {1}").format(events.text(event, "seconds"), files))
        else:
            self._feedback.pushDebugInfo(events.shown(line))

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


def _left(seconds: float) -> str:
    """``4 min 10 s left``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return tr("{0} h {1:02d} min left").format(hours, minutes)
    return tr("{0} min {1:02d} s left").format(minutes, rest) if minutes else tr("{0} s left").format(rest)


def _write_plan(path: str, run: _Run) -> None:
    """The plan as a page that people read; whole, or not there, and what was there before stays until then."""
    warnings = "".join(f"<li>{html.escape(text)}</li>" for text in run.warnings)
    page = (
        '<!DOCTYPE html><html><head><meta charset="utf-8"><title>MALICE</title></head><body>'
        f"<h1>{html.escape(tr('Plan of the embedding'))}</h1>"
        + (f"<h2>{html.escape(tr('Warnings'))}</h2><ul>{warnings}</ul>" if warnings else "")
        + f"<pre>{html.escape(run.plan_text)}</pre></body></html>\n"
    )
    partial = path + ".part"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(page)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def _is_temporary(output: str, context: QgsProcessingContext) -> bool:
    """True for outputs in QGIS' temporary folder; since 3.32 a context may have its own."""
    try:
        folder = QgsProcessingUtils.tempFolder(context)
    except TypeError:
        folder = QgsProcessingUtils.tempFolder()
    if not folder:
        return False  # there is none, because it cannot be made
    return os.path.normcase(os.path.abspath(output)).startswith(os.path.normcase(os.path.join(folder, "")))
