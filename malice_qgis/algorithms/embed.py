"""``malice:embed``: a Sentinel time series becomes one raster of embeddings, computed by the engine."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Iterable
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingUtils,
)

from .. import checks, styling, tables, wrappers
from ..models import INSTALLED
from ..texts import tr
from . import parameters as definitions
from .base import EngineRun
from .series import SeriesAlgorithm


class EmbedAlgorithm(SeriesAlgorithm):
    """Parameters, the engine's run, and the result as a layer."""

    ID = "embed"
    HELP = "docs/qgis.md#malice-embed"
    TAGS = "embedding,sentinel,sentinel-1,sentinel-2,time series,deep learning,features,land cover,crops,malice"
    OUTPUTS = ("OUTPUT", "COUNTS", "PLAN")

    def displayName(self) -> str:
        return tr("MALICE embed")

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

    def definitions(self) -> Iterable[QgsProcessingParameterDefinition]:
        INSTALLED.refresh()
        return (*definitions.inputs(), *definitions.options(), *definitions.outputs())

    def work(
        self,
        run: EngineRun,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        # QGIS knows the layer it will load by the name it gave, the engine needs an absolute one.
        destination = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        output = os.path.abspath(destination)
        counts = self.parameterAsOutputLayer(parameters, "COUNTS", context)
        plan_file = self.parameterAsFileOutput(parameters, "PLAN", context)
        made = wrappers.Wrappers(output)
        temporary = _is_temporary(output, context)
        done = False
        scratch = output + wrappers.SCRATCH
        left = os.path.lexists(scratch)
        try:
            # Again, now that QGIS has named temporary ones.
            checks.outputs({"OUTPUT": destination, "COUNTS": counts, "PLAN": plan_file}, self.images)
            wrappers.tidy()
            arguments = [*self.data(parameters, made), *self.options(parameters, context)]
            arguments += ["--output", output, *(["--counts", os.path.abspath(counts)] if counts else [])]
            # QGIS asks before it replaces a file.
            arguments += ["--overwrite", *(["--resume"] if checks.switch(parameters, "RESUME") else [])]
            run.execute("malice_core.embed", arguments, [output])
            done = True
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
            # Sampling the results is done here, outside the window's thread.
            if context.willLoadLayerOnCompletion(destination):
                styling.show(context, destination, parameters.get("OUTPUT"), styling.look_of(output))
            if counts and context.willLoadLayerOnCompletion(counts):
                look = styling.numbers(counts, tr("Number of valid dates of each pixel."))
                name = f"{tr('Valid dates')} – {styling.plain(output, '').name}"
                styling.show(context, counts, parameters.get("COUNTS"), look.named(name))
        except (OSError, RuntimeError, ValueError) as error:
            feedback.reportError(tr("The result is whole, but is not shown as it should be: {}").format(error))
        return results


def _write_plan(path: str, run: EngineRun) -> None:
    """The plan as a page that people read; whole, or not there, and what was there before stays until then."""
    warnings = "".join(f"<li>{html.escape(text)}</li>" for text in run.warnings)
    page = (
        '<!DOCTYPE html><html><head><meta charset="utf-8"><title>MALICE</title></head><body>'
        f"<h1>{html.escape(tr('Plan of the embedding'))}</h1>"
        + (f"<h2>{html.escape(tr('Warnings'))}</h2><ul>{warnings}</ul>" if warnings else "")
        + f"<pre>{html.escape(run.plan_text)}</pre></body></html>\n"
    )
    tables.write_page(path, page)


def _is_temporary(output: str, context: QgsProcessingContext) -> bool:
    """True for outputs in QGIS' temporary folder; since 3.32 a context may have its own."""
    try:
        folder = QgsProcessingUtils.tempFolder(context)
    except TypeError:
        folder = QgsProcessingUtils.tempFolder()
    if not folder:
        return False  # there is none, because it cannot be made
    return os.path.normcase(os.path.abspath(output)).startswith(os.path.normcase(os.path.join(folder, "")))
