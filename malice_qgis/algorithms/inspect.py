"""``malice:inspect``: what ``malice:embed`` would read, leave out and take, before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFileDestination,
)

from .. import checks, tables, wrappers
from ..models import INSTALLED
from ..texts import UserError, tr
from . import parameters as definitions
from .base import EngineRun
from .series import SeriesAlgorithm

#: Columns of the table, as the engine's report has them; lists become texts.
COLUMNS = (
    ("sensor", "String"),
    ("date", "Date"),
    ("orbit", "Int"),
    ("direction", "String"),
    ("baseline", "String"),
    ("used", "Bool"),
    ("reason", "String"),
    ("cloud_percent", "Double"),
    ("valid_percent", "Double"),
    ("low", "Double"),
    ("high", "Double"),
    ("bands", "String"),
    ("pixel_sizes", "String"),
    ("crs", "String"),
    ("files", "String"),
)
#: Parameters of malice:embed that a look does not need.
_UNUSED = ("RESUME",)


class InspectAlgorithm(SeriesAlgorithm):
    """The parameters of malice:embed, and a report in place of a raster."""

    ID = "inspect"
    TAGS = "report,check,quality,dates,clouds,gaps,time series,sentinel,sentinel-1,sentinel-2,estimate,malice"
    HELP = "docs/inspect.md"
    OUTPUTS = ("REPORT", "TABLE")
    REPORTED = True

    def displayName(self) -> str:
        return tr("MALICE inspect images")

    def shortDescription(self) -> str:
        return tr("What is in a series of images, and what embedding it would take, before it is computed.")

    def shortHelpString(self) -> str:
        return tr(
            "<p>Looks at a series of Sentinel-2 and/or Sentinel-1 images as <i>MALICE embed</i> would, with the same "
            "parameters, and computes nothing.</p>"
            "<p><b>Report:</b> which dates would be used, which not and why; clouds and valid pixels of each; gaps; "
            "doubts about units, offsets, bands and grids; the memory and disk a run needs at most, and about how long "
            "it computes, by a short trial of the model on this machine. What would end a run is said too, all of it "
            "at once.</p>"
            "<p><b>Table:</b> a row for each date, to sort and filter.</p>"
            "<p>In areas larger than 512 × 512 pixels, cloud and valid shares are estimated from points, so that a "
            "whole Sentinel-2 tile takes minutes; <i>Look at all pixels</i> counts them.</p>"
        )

    def definitions(self) -> Iterable[QgsProcessingParameterDefinition]:
        INSTALLED.refresh()
        options = [one for one in definitions.options() if one.name() not in _UNUSED]
        # What it computes and where that goes matters less here: only for the estimates.
        rare = [definitions.advanced(one) for one in options]
        exact = definitions.helped(
            QgsProcessingParameterBoolean("EXACT", tr("Look at all pixels"), False),
            tr("Counts clouds and valid pixels as a run does, however large the area; slower for whole tiles."),
        )
        report = definitions.helped(
            QgsProcessingParameterFileDestination("REPORT", tr("Report"), tr("HTML files (*.html)"), None, False),
            tr("A page with tables and plots, which needs no network."),
        )
        table = definitions.helped(
            QgsProcessingParameterFeatureSink(
                "TABLE", tr("Dates"), QgsProcessing.SourceType.TypeVector, None, True, True
            ),
            tr("A table without geometry: a row for each date, with sensor, orbit, clouds, valid share, files, use."),
        )
        return (*definitions.inputs(), definitions.advanced(exact), *rare, report, table)

    def work(
        self,
        run: EngineRun,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        report = self.parameterAsFileOutput(parameters, "REPORT", context)
        checks.outputs({"REPORT": report}, self.images)
        made = wrappers.Wrappers(os.path.abspath(report))
        try:
            arguments = [*self.data(parameters, made), *self.options(parameters, context)]
            arguments += ["--report", os.path.abspath(report), "--overwrite"]
            arguments += ["--exact"] if checks.switch(parameters, "EXACT") else []
            run.execute("malice_core.inspect", arguments, [report])
        finally:
            made.remove()
        tables.retell_page(report, run.told)
        try:
            rows = [_row({**told, "reason": run.told(told["reason"])}) for told in run.plan["dates"]]
        except (KeyError, TypeError) as error:
            raise UserError(tr("The engine's report cannot be read: {}").format(error)) from error
        table = tables.write(self, parameters, "TABLE", context, COLUMNS, rows, _title(rows))
        return {"REPORT": report, **({"TABLE": table} if table else {})}


def _title(rows: list[dict[str, Any]]) -> str:
    """What the table is called, as the layer of an embedding of the series is: after sensors and dates."""
    sensors = "+".join(dict.fromkeys(str(row["sensor"]) for row in rows))
    days = [str(row["date"]) for row in rows]
    return f"{tr('Dates')} – {sensors} {min(days)} – {max(days)}" if rows else tr("Dates")


def _row(told: dict[str, Any]) -> dict[str, Any]:
    """A row of the engine's report for the table: lists as texts."""
    lists = {"bands": " ", "pixel_sizes": " ", "crs": "; ", "files": "; "}
    texts = {
        name: separator.join(f"{one:g}" if isinstance(one, float) else str(one) for one in told[name])
        for name, separator in lists.items()
    }
    return {**told, **texts}
