"""``malice:models``: the models of the engine listed, installed, imported, checked and removed."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterable
from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSink,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterString,
)

from .. import checks, events, layers, tables
from ..models import INSTALLED, PUBLISHED
from ..setup import pips
from ..texts import tr
from .base import EngineAlgorithm, EngineRun
from .parameters import helped

#: What can be done, in the engine's words; the first is the default.
ACTIONS = ["list", "install", "import", "verify", "remove", "info"]
#: Those that need the name of a model, and those that change what is installed.
NAMED, CHANGING = ("import", "verify", "remove", "info"), ("install", "import", "remove")
#: Columns of the table.
COLUMNS = (
    ("name", "String"),
    ("title", "String"),
    ("sensors", "String"),
    ("surroundings", "Bool"),
    ("megabytes", "Double"),
    ("licence", "String"),
    ("identity", "String"),
    ("whole", "Bool"),
    ("removable", "Bool"),
    ("tags", "String"),
    ("folder", "String"),
)
#: As the engine has it; whatever else could be taken for an option of its command line.
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class ModelsAlgorithm(EngineAlgorithm):
    """What is done with a model, and a table of those that are there afterwards."""

    ID = "models"
    HELP = "docs/qgis.md#malice-models"
    TAGS = "model,models,network,weights,install,download,import,verify,remove,licence,malice"

    def displayName(self) -> str:
        return tr("MALICE models")

    def shortDescription(self) -> str:
        return tr("Lists, installs, imports, checks and removes the models of the engine.")

    def shortHelpString(self) -> str:
        return tr(
            "<p>Looks after the models (networks) the engine has.</p>"
            "<p><b>list</b>: all of them. <b>info</b>: what is known of one. <b>verify</b>: reads a model's files, "
            "compares them with its card and runs them in every runtime.</p>"
            "<p><b>install</b>: downloads the published encoders, <i>malice</i>. Their weights have the licence "
            "AGPL-3.0-only (https://spdx.org/licenses/AGPL-3.0-only.html), which has to be accepted.</p>"
            "<p><b>import</b>: makes a model of files: the published ONNX files, one a sensor, or a checkpoint of "
            "your own training. For machines without a network.</p>"
            "<p><b>remove</b>: deletes a model. Those that come with the engine stay.</p>"
            "<p><b>Result:</b> a table (and a page, if wanted) of the models that are there afterwards: sensors, size, "
            "licence, identity (a hash of all files), whether the files are what the card says, folder.</p>"
        )

    def definitions(self) -> Iterable[QgsProcessingParameterDefinition]:
        INSTALLED.refresh()
        # A text that is typed: QGIS' lists take no new name, which import needs.
        named = tr(
            "Of an installed model; for install, malice (the default); for import, the name it gets: "
            "lower-case letters, digits and . _ -"
        )
        if INSTALLED.names:
            named += "\n" + tr("Installed: {}").format(", ".join(INSTALLED.names))
        kind = QgsProcessing.SourceType.TypeFile
        return (
            helped(
                QgsProcessingParameterEnum(
                    "ACTION",
                    tr("What to do"),
                    ACTIONS,
                    defaultValue=ACTIONS[0],
                    optional=False,
                    usesStaticStrings=True,
                ),
                tr("list, install, import, verify, remove or info."),
            ),
            helped(QgsProcessingParameterString("NAME", tr("Name of the model"), None, False, True), named),
            helped(
                QgsProcessingParameterMultipleLayers("FILES", tr("Files to import"), kind, optional=True),
                tr("Published ONNX files, one a sensor, or one checkpoint (.ckpt)."),
            ),
            helped(
                QgsProcessingParameterBoolean("ACCEPT_LICENCE", tr("I accept the licence of the weights"), False),
                tr("For install. The published encoders: AGPL-3.0-only. Without it nothing is downloaded."),
            ),
            helped(
                QgsProcessingParameterBoolean("OVERWRITE", tr("Replace a model of that name"), False),
                tr("For install and import."),
            ),
            helped(
                QgsProcessingParameterFeatureSink(
                    "TABLE", tr("Models"), QgsProcessing.SourceType.TypeVector, None, True, True
                ),
                tr("A table without geometry: a row for each model."),
            ),
            helped(
                QgsProcessingParameterFileDestination(
                    "REPORT", tr("Report"), tr("HTML files (*.html)"), None, True, False
                ),
                tr("A page with what was done, and the models."),
            ),
        )

    def refuse(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        action = _action(parameters)
        name, files = _text(parameters, "NAME"), _files(parameters, context)
        for switch in ("ACCEPT_LICENCE", "OVERWRITE"):
            checks.switch(parameters, switch)
        if name and not _NAME.fullmatch(name):
            text = tr("NAME '{}' is no name of a model: at most 64 lower-case letters, digits and . _ -")
            raise checks.Refusal(text.format(name[:80]))
        if action in NAMED and not name:
            raise checks.Refusal(tr("ACTION {} needs NAME, the name of a model.").format(action))
        if action == "import" and not files:
            raise checks.Refusal(tr("ACTION import needs FILES: the published ONNX files, or a checkpoint."))
        if files and action != "import":
            raise checks.Refusal(tr("FILES are for ACTION import, not for {}: leave them out.").format(action))
        for path in files:
            if not os.path.isfile(path):
                raise checks.Refusal(tr("FILES: there is no file {}; check the path.").format(path))
        checks.outputs({"REPORT": _text(parameters, "REPORT")}, {})
        # Last, for the engine may have to be asked.
        if action == "install" and not checks.switch(parameters, "ACCEPT_LICENCE"):
            offer = INSTALLED.offers().get(name or PUBLISHED)
            if offer is not None:
                text = tr(
                    "The weights of {0} ({1}) have the licence {2} (https://spdx.org/licenses/{2}.html): set "
                    "ACCEPT_LICENCE to install them."
                )
                raise checks.Refusal(text.format(name or PUBLISHED, offer.title, offer.licence))
            raise checks.Refusal(tr("Set ACCEPT_LICENCE to install a model: its weights have a licence of their own."))

    def work(
        self,
        run: EngineRun,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        action, name = _action(parameters), _text(parameters, "NAME")
        overwrite = ["--overwrite"] if checks.switch(parameters, "OVERWRITE") else []
        report = self.parameterAsFileOutput(parameters, "REPORT", context)
        details = ""
        if action == "install":
            # Python downloads it, which knows nothing of QGIS' proxy.
            reach = pips.proxies(os.environ)
            run.execute("malice_core.models", ["install", name or PUBLISHED, *overwrite], more=reach)
        elif action == "import":
            run.execute("malice_core.models", ["import", *_files(parameters, context), "--name", name, *overwrite])
        elif action != "list":
            run.execute("malice_core.models", [action, name])
            details = run.plan_text
        if action in CHANGING:
            INSTALLED.forget()
        run.execute("malice_core.models", ["list", "--check"])
        rows = [_row(one) for one in run.plan.get("models") or [] if isinstance(one, dict)]
        results = {}
        title = f"{tr('Models')} – {' '.join(filter(None, (action, name)))}"
        if table := tables.write(self, parameters, "TABLE", context, COLUMNS, rows, title):
            results["TABLE"] = table
        if report:
            tables.write_page(report, _page([*run.notes, *run.warnings], details, rows))
            results["REPORT"] = report
        return results

    def postProcessAlgorithm(self, context: QgsProcessingContext, feedback: QgsProcessingFeedback) -> dict[str, Any]:
        # In the window's thread, where the list of dialogs can be asked for anew.
        INSTALLED.refresh()
        return {}


def _text(parameters: dict[str, Any], name: str) -> str:
    value = parameters.get(name)
    return "" if value is None else str(value).strip()


def _action(parameters: dict[str, Any]) -> str:
    return checks.choice(parameters, "ACTION", ACTIONS)


def _files(parameters: dict[str, Any], context: QgsProcessingContext) -> list[str]:
    return [os.path.abspath(str(one)) for one in layers.items(parameters.get("FILES"), context) if str(one).strip()]


def _row(told: dict[str, Any]) -> dict[str, Any]:
    """A model of the engine's json for the table."""
    modalities, size = told.get("modalities"), events.number(told, "bytes")
    texts = {name: events.text(told, name) for name in ("name", "title", "licence", "identity", "folder")}
    return {
        **texts,
        "sensors": " ".join(str(key).upper() for key in modalities) if isinstance(modalities, dict) else "",
        "surroundings": isinstance(told.get("surroundings"), dict),
        "megabytes": None if size is None else round(size / 1e6, 2),
        "whole": told.get("whole") is True,
        "removable": told.get("removable") is True,
        "tags": " ".join(events.texts(told, "tags")),
    }


def _page(notes: list[str], details: str, rows: list[dict[str, Any]]) -> str:
    """The report."""
    heads = [name for name, _ in COLUMNS]
    shown = {True: tr("yes"), False: tr("no"), None: ""}
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(_shown(row[name], shown)))}</td>" for name in heads) + "</tr>"
        for row in rows
    )
    done = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return (
        '<!DOCTYPE html><html><head><meta charset="utf-8"><title>MALICE</title><style>body{font-family:sans-serif;'
        "margin:2em}table{border-collapse:collapse;font-size:.9em}th{text-align:left;border-bottom:2px solid #333}"
        "td,th{padding:.3em .9em .3em 0;vertical-align:top}td{border-bottom:1px solid #ddd}</style></head><body>"
        f"<h1>{html.escape(tr('Models of the engine'))}</h1>{done}"
        + (f"<pre>{html.escape(details)}</pre>" if details else "")
        + "<table><tr>"
        + "".join(f"<th>{name}</th>" for name in heads)
        + f"</tr>{lines}</table></body></html>\n"
    )


def _shown(value: Any, words: dict[Any, str]) -> Any:
    return words[value] if value is None or isinstance(value, bool) else value
