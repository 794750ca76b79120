"""What is wrong with the parameters of ``malice:embed``, in one line, before anything runs; cheap, no network."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from qgis.core import QgsProcessingContext, QgsProcessingOutputLayerDefinition, QgsProperty
from qgis.PyQt.QtCore import QDate, QDateTime, QVariant

from . import layers, surroundings
from .algorithms.parameters import CHOICES, IMAGES, MAX_CLOUD, NUMBERS
from .models import INSTALLED
from .texts import UserError, tr
from .wrappers import SCRATCH

#: Outputs that are web pages.
PAGES = ("PLAN", "REPORT")
Chosen = dict[str, list[layers.Source]]
#: Sizes and days as the engine reads them; days with a time, as QGIS writes them into batch files and models.
_MEMORY = re.compile(r"\d*\.?\d+\s*[kmgt]?i?b?", re.IGNORECASE)
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})([T ][\d:.]+(Z|[+-]\d{2}:?\d{2})?)?")


class Refusal(UserError):
    """A parameter that cannot be; the text is one line for the user."""


def given(parameters: dict[str, Any], context: QgsProcessingContext, begins: bool = False) -> dict[str, Any]:
    """The parameters with None for what dialogs leave empty (a null QVariant), and with the values of expressions.

    Args:
        begins: the run begins now. Before, an expression may have no value yet, and counts as not given.

    Raises:
        Refusal: if the run begins and an expression has no value, or a text holds what no file name can.
    """
    result = {}
    for name, value in parameters.items():
        if isinstance(value, QgsProperty):
            found, known = value.value(context.expressionContext())
            if not known and begins and value.isActive():
                shown = value.expressionString() or value.field()
                raise Refusal(tr("{0}: the expression {1} has no value.").format(name, shown))
            value = found if known else None
        _readable(name, value)
        result[name] = None if isinstance(value, QVariant) and value.isNull() else value
    return result


def _readable(name: str, value: Any) -> None:
    """Refuses texts that end in Python's words wherever they are used."""
    for text in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(text, str) and ("\0" in text or text != text.encode("utf-8", "replace").decode()):
            raise Refusal(tr("{0}: {1} holds signs that no name has; write it anew.").format(name, ascii(_short(text))))


def _short(text: str) -> str:
    """A text as it is repeated to the user."""
    return text if len(text) <= 80 else text[:80] + "…"


def day(parameters: dict[str, Any], name: str) -> date | None:
    """The date of a parameter, None if it is not set.

    Raises:
        Refusal: if it is no date.
    """
    value = parameters.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, QDateTime):
        value = value.date()
    if isinstance(value, QDate):
        return date(value.year(), value.month(), value.day()) if value.isValid() else None
    if isinstance(value, date):
        return date(value.year, value.month, value.day)
    told = _DAY.fullmatch(str(value).strip())
    try:
        return date.fromisoformat(told[1] if told else "")
    except ValueError as error:
        raise Refusal(tr("{0}: '{1}' is no date; write it YYYY-MM-DD.").format(name, _short(str(value)))) from error


def dates(parameters: dict[str, Any]) -> str:
    """``START/END`` for the engine, "" when neither is set.

    Raises:
        Refusal: if one is no date or the first is after the last.
    """
    first, last = day(parameters, "DATE_FROM"), day(parameters, "DATE_TO")
    if first and last and first > last:
        raise Refusal(tr("DATE_FROM {0} is after DATE_TO {1}; swap them.").format(first, last))
    return f"{first or ''}/{last or ''}" if first or last else ""


def chosen(parameters: dict[str, Any], context: QgsProcessingContext) -> Chosen:
    """What the engine reads, by its option (``--s2`` …): images, those of layers first, then the folder's; the rest.

    Args:
        parameters: as of :func:`given`.

    Raises:
        layers.LayerError, surroundings.SurroundingsError: naming the layer or path that cannot be used.
    """
    result: Chosen = {}
    for layer_name, folder_name, option, _ in IMAGES:
        found = layers.sources(parameters.get(layer_name), context)
        folder = _folder(parameters, folder_name)
        if folder:
            found.append(layers.Source(folder, os.path.abspath(folder)))
        result[option] = found
    return {**result, **surroundings.chosen(parameters, context)}


def _text(parameters: dict[str, Any], name: str) -> str:
    value = parameters.get(name)
    return "" if value is None else str(value).strip()


def _folder(parameters: dict[str, Any], name: str) -> str:
    """A folder, without blanks around it unless they are part of its name; "" if it is not set."""
    told = str(parameters.get(name) or "")
    return told if os.path.exists(told) else told.strip()


def number(parameters: dict[str, Any], name: str, limits: tuple[bool, float, float] | None = None) -> str:
    """A number as the engine reads it, "" if it is not set.

    Args:
        limits: whether it is whole, least, largest; None: those of ``parameters.NUMBERS``.

    Raises:
        Refusal: if it is no number, not whole where it has to be, or out of range.
    """
    whole, low, high = limits or NUMBERS[name]
    told = _text(parameters, name)
    if not told:
        return ""
    try:
        found = float(told)
    except ValueError:
        found = math.nan
    # Comparisons with NaN are false.
    if not low <= found <= high or (whole and found != int(found)):
        kind = tr("a whole number") if whole else tr("a number")
        raise Refusal(
            tr("{0} '{1}' is not {2} from {3} to {4}.").format(name, _short(told), kind, f"{low:.12g}", f"{high:.12g}")
        )
    return f"{found:.12g}" if not whole else str(int(found))


def switch(parameters: dict[str, Any], name: str) -> bool:
    """A yes or no, no if it is not set.

    Raises:
        Refusal: if it is neither.
    """
    told = _text(parameters, name).lower()
    if told in ("true", "yes", "on", "1"):
        return True
    if told in ("", "false", "no", "off", "0"):
        return False
    raise Refusal(tr("{0} '{1}' is neither true nor false.").format(name, _short(told)))


def choice(parameters: dict[str, Any], name: str, words: Sequence[str] | None = None) -> str:
    """A choice of ``words``, by default those of ``parameters.CHOICES``; the first if it is not set.

    Raises:
        Refusal: if it is none of them.
    """
    words = words or CHOICES[name]
    told = _text(parameters, name) or words[0]
    if told not in words:
        raise Refusal(tr("{0} '{1}' is none of {2}.").format(name, _short(told), ", ".join(words)))
    return told


def memory(parameters: dict[str, Any]) -> str:
    """The size in MEMORY without blanks, "" if it is not set.

    Raises:
        Refusal: if it is none.
    """
    told = _text(parameters, "MEMORY")
    if told and not _MEMORY.fullmatch(told):
        raise Refusal(tr("MEMORY '{}' is no size; write it such as 2GB.").format(_short(told)))
    return "".join(told.split())


def _given(parameters: dict[str, Any], images: Chosen) -> None:
    """Refuses no images, and folders that are not there."""
    if not images["--s2"] and not images["--s1"]:
        raise Refusal(
            tr("Nothing is chosen: give Sentinel-2 and/or Sentinel-1 images as layers or as a folder (INPUT_S2 …).")
        )
    for _, folder_name, _, title in IMAGES:
        folder = _folder(parameters, folder_name)
        if folder and not os.path.exists(folder):
            raise Refusal(tr("{0}: the folder {1} of {2} does not exist.").format(folder_name, folder, tr(title)))


def _together(parameters: dict[str, Any], images: Chosen) -> None:
    """Refuses what lacks something else: scene classes, a share of clouds, bands."""
    if images["--scl"] and not images["--s2"]:
        raise Refusal(tr("The scene classification belongs to Sentinel-2 images: give those too, or leave it out."))
    cloud = _text(parameters, "MAX_CLOUD")
    if cloud and not images["--scl"] and cloud not in (str(MAX_CLOUD), f"{MAX_CLOUD:g}"):
        raise Refusal(
            tr("MAX_CLOUD {} needs the scene classification: give its layers or folder (SCL, FOLDER_SCL).").format(
                cloud
            )
        )
    for option, wanted in (("--s2", layers.S2_BANDS), ("--s1", layers.S1_BANDS)):
        problem = layers.missing_bands(images[option], wanted)
        if problem:
            raise Refusal(problem)


def _options(parameters: dict[str, Any]) -> None:
    queries = _text(parameters, "QUERIES")
    if queries and not re.fullmatch(r"\d+(\s*,\s*\d+)*", queries):
        raise Refusal(tr("QUERIES '{}' is no list of queries; write it such as 0,3.").format(_short(queries)))
    memory(parameters)
    switch(parameters, "RESUME")
    for name in CHOICES:
        choice(parameters, name)
    for name in NUMBERS:
        number(parameters, name)
    block = number(parameters, "BLOCK")
    if block and int(block) % 8:
        raise Refusal(tr("BLOCK {} is no multiple of 8; blocks are made of 8 pixels.").format(block))


def outputs(targets: dict[str, str], images: Chosen) -> None:
    """Looks at where results go.

    Args:
        targets: path of each output parameter, "" where there is none.
        images: what is read, of all options.

    Raises:
        Refusal: if an output would replace what is read or another output, or the plan cannot be written there.
    """
    seen: dict[str, str] = {}
    scratch = same(targets.get("OUTPUT") or "") + SCRATCH
    for name, target in targets.items():
        if not target or target == "TEMPORARY_OUTPUT":
            continue
        path = same(target)
        if name in PAGES:
            # The engine, which guards rasters and folders of images, never hears of the plan's file.
            if not path.lower().endswith((".html", ".htm")):
                raise Refusal(tr("{0} {1} is a web page: give a name that ends in .html.").format(name, target))
            writable(name, target)
        if os.path.dirname(path) == scratch:
            raise Refusal(
                tr("{0} {1} lies among unfinished work, which is removed: give another folder.").format(name, target)
            )
        other = seen.setdefault(path, name)
        if other != name:
            raise Refusal(
                tr("{0} and {1} are the same file {2}: give them different names.").format(other, name, target)
            )
        if any(path == same(source.path) for found in images.values() for source in found):
            raise Refusal(tr("{0} {1} is one of the inputs: give another name.").format(name, target))


def writable(name: str, target: str) -> None:
    """Raises:
    Refusal: if the file ``target`` of the output ``name`` cannot be written where it is to be.
    """
    path = same(target)
    if os.path.isdir(path) or not os.access(os.path.dirname(path), os.W_OK):
        raise Refusal(tr("{0} {1} cannot be written there: choose a folder that can.").format(name, target))


def target(parameters: dict[str, Any], name: str) -> str:
    """Where an output goes, "" if that is not said or depends on an expression."""
    value = parameters.get(name)
    if isinstance(value, QgsProcessingOutputLayerDefinition):
        return str(value.sink.staticValue() or "").strip()
    return _text(parameters, name)


def same(path: str) -> str:
    """One text for all names of a file."""
    return os.path.normcase(os.path.realpath(path))


def refuse(
    parameters: dict[str, Any], context: QgsProcessingContext, targets: Sequence[str], reported: bool = False
) -> Chosen:
    """Looks at everything; returns what the engine reads.

    Args:
        parameters: as of :func:`given`.
        targets: names of the outputs.
        reported: what lacks, or does not go together, is reported by the engine, and not looked at here.

    Raises:
        Refusal, layers.LayerError, surroundings.SurroundingsError: with what is wrong, in one line.
    """
    dates(parameters)
    _options(parameters)
    images = chosen(parameters, context)
    _given(parameters, images)
    if not reported:
        _together(parameters, images)
    outputs({name: target(parameters, name) for name in targets}, images)
    if not reported:
        # Last, for the engine may have to be asked.
        surroundings.refuse(parameters, images, INSTALLED.meant(_text(parameters, "MODEL")))
    return images
