"""Tables that algorithms give as layers (rows without a place, with columns of known types), and pages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFeatureSink,
    QgsField,
    QgsFields,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QDate, QMetaType, QVariant

from . import checks, sinks, styling
from .texts import UserError, tr

#: (name of a column, kind: String, Int, Double, Bool or Date; of Qt's names those that are the same in Qt 5 and 6 but
#: String, which is QString since).
Columns = Sequence[tuple[str, str]]


def kind(name: str) -> Any:
    """Qt's word for a type of values: QVariant's in Qt 5, QMetaType's in Qt 6."""
    kinds = getattr(QVariant, "Type", None)
    if kinds is not None:
        return getattr(kinds, name)
    return getattr(QMetaType.Type, {"String": "QString", "Date": "QDate"}.get(name, name))


def fields(columns: Columns) -> QgsFields:
    """The fields of a table."""
    result = QgsFields()
    for name, told in columns:
        result.append(QgsField(name, kind(told)))
    return result


def write(
    algorithm: QgsProcessingAlgorithm,
    parameters: dict[str, Any],
    name: str,
    context: QgsProcessingContext,
    columns: Columns,
    rows: Iterable[dict[str, Any]],
    title: str,
) -> str:
    """Writes a table, a file whole or not at all; returns what QGIS calls it, "" if none is wanted.

    Args:
        name: of the parameter, a sink of features.
        rows: values by column; dates as ``2018-05-11``, None for what is not known.
        title: of its layer.

    Raises:
        UserError: if it cannot be made or written.
    """
    if parameters.get(name) in (None, ""):
        return ""
    kinds, nowhere = fields(columns), QgsCoordinateReferenceSystem()
    with sinks.Destination(algorithm, parameters, name, context) as destination:
        flag = QgsFeatureSink.SinkFlag.RegeneratePrimaryKey
        sink = destination.open(kinds, QgsWkbTypes.Type.NoGeometry, nowhere, flag)
        for row in rows:
            feature = QgsFeature(kinds)
            feature.setAttributes([_value(row.get(column), told) for column, told in columns])
            if not sink.addFeature(feature, QgsFeatureSink.Flag.FastInsert):
                raise UserError(
                    tr("{0}: {1} cannot be written: {2}").format(
                        name, checks.target(parameters, name), sink.lastError()
                    )
                )
        target = destination.place()
    if context.willLoadLayerOnCompletion(target):
        styling.entitle(context, target, parameters[name], title)
    return target


def _value(value: Any, kind: str) -> Any:
    if kind == "Date" and isinstance(value, str):
        year, month, day = map(int, value.split("-"))
        return QDate(year, month, day)
    return value


def retell_page(path: str, told: Callable[[str], str]) -> None:
    """Puts another text into a page that is there.

    Args:
        told: makes it of the one that is there.

    Raises:
        OSError: if it cannot be read or written; the page stays as it was.
    """
    with open(path, encoding="utf-8") as file:
        page = file.read()
    write_page(path, told(page))


def write_page(path: str, page: str) -> None:
    """A page, whole or not there; what was there before stays until then.

    Raises:
        OSError: if it cannot be written.
    """
    partial = path + ".part"
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(page)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)
