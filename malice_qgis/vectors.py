"""Points and polygons of any provider as a file the engine reads, and the engine's table of points as features.

Layers of points and polygons are read by QGIS (selected features only, where that was chosen; databases, layers in
memory), so that only the coordinates and the one field that is needed leave it.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from typing import Any, Callable

from qgis.core import (
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsFeatureRequest,
    QgsFeatureSink,
    QgsField,
    QgsFields,
    QgsGeometry,
    QgsProcessingFeatureSource,
    QgsVectorFileWriter,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QDate, QDateTime, QTime, QVariant

from .engine import EngineCancelled
from .tables import kind
from .texts import UserError, tr

#: Field with the number of a point, by which its values are found again.
ROW = "malice_row"
#: Types of fields with whole numbers.
WHOLE = ("Int", "UInt", "LongLong", "ULongLong")
#: Columns of a GeoPackage that a user's field must not be mistaken for.
_COLUMNS = ["FID=malice_fid", "GEOMETRY_NAME=malice_geometry"]


class VectorError(UserError):
    """Points or polygons that cannot be used; the text is one line."""


def write(name: str, source: QgsProcessingFeatureSource, field: str, path: str, cancelled: Callable[[], bool]) -> None:
    """Writes the shapes of a source, and one field of theirs, into a new GeoPackage.

    Args:
        name: of the parameter, for messages.
        field: a field of the source, written as whole number, number or text; "" for none.
        path: a name that ends in ``.gpkg``.
        cancelled: asked for each feature.

    Raises:
        VectorError: if the source has no CRS, no shapes or no such field, or the file cannot be written.
        EngineCancelled: if ``cancelled`` said so.
    """
    fields, take = QgsFields(), -1
    if field:
        take = require_field(name, source, field)
        told = source.fields().at(take)
        # Not the other way round: a number of any other type may have decimals.
        number = "LongLong" if told.type() in map(kind, WHOLE) else "Double"
        fields.append(QgsField(field, kind(number if told.isNumeric() else "String")))
    writer = _writer(name, source, fields, path)
    request = QgsFeatureRequest().setSubsetOfAttributes([take] if field else [])
    count = 0
    for feature in source.getFeatures(request, QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks):
        if cancelled():
            raise EngineCancelled(tr("cancelled"))
        if feature.hasGeometry():
            count += 1
            _put(name, writer, feature.geometry(), [_plain(feature.attribute(take))] if field else [], path)
    if not count:
        raise _empty(name, source)
    _close(name, writer, path)


def write_points(
    name: str, source: QgsProcessingFeatureSource, path: str, cancelled: Callable[[], bool]
) -> list[QgsFeature]:
    """Writes points with their number in the field ``ROW`` into a new GeoPackage; a part of a multipoint is a point.

    Returns:
        The points as features with the source's attributes, in the order of their numbers from 0.

    Raises:
        As :func:`write`.
    """
    fields = QgsFields()
    fields.append(QgsField(ROW, kind("LongLong")))
    writer = _writer(name, source, fields, path)
    points: list[QgsFeature] = []
    for feature in source.getFeatures(
        QgsFeatureRequest(), QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks
    ):
        if cancelled():
            raise EngineCancelled(tr("cancelled"))
        for part in feature.geometry().asGeometryCollection() if feature.hasGeometry() else ():
            point = QgsFeature(feature)
            point.setGeometry(part)
            _put(name, writer, part, [len(points)], path)
            points.append(point)
    if not points:
        raise _empty(name, source)
    _close(name, writer, path)
    return points


class Table:
    """What the engine says of points: a CSV file with ``ROW`` and a column a band.

    Attributes:
        bands: names of the bands.
    """

    def __init__(self, path: str) -> None:
        """Raises:
        VectorError: if it is no table of points that were written here.
        """
        self._path = path
        with open(path, encoding="utf-8", newline="") as file:
            names = next(csv.reader(file), [])
        if ROW not in names:
            raise VectorError(tr("The engine's table {} lacks the numbers of points: update the engine.").format(path))
        self._row = names.index(ROW)
        self._columns = [number for number, name in enumerate(names) if name not in (ROW, "x", "y")]
        self.bands = [names[number] for number in self._columns]

    def fields(self) -> QgsFields:
        """A number a band."""
        result = QgsFields()
        for name in self.bands:
            result.append(QgsField(name, kind("Double")))
        return result

    def rows(self) -> Iterator[tuple[int, list[float | None]]]:
        """(number of the point, values, None outside the raster and on nodata)."""
        with open(self._path, encoding="utf-8", newline="") as file:
            lines = csv.reader(file)
            next(lines)
            for line in lines:
                yield int(float(line[self._row])), [_number(line[column]) for column in self._columns]


def fill(
    table: Table,
    points: list[QgsFeature],
    fields: QgsFields,
    sink: QgsFeatureSink,
    cancelled: Callable[[], bool],
) -> None:
    """Puts the points with their values into a sink.

    Args:
        fields: of the sink: those of the points, then the table's.

    Raises:
        VectorError: if the sink takes no more.
        EngineCancelled: if ``cancelled`` said so.
    """
    for row, values in table.rows():
        if cancelled():
            raise EngineCancelled(tr("cancelled"))
        feature = QgsFeature(fields)
        feature.setGeometry(points[row].geometry())
        feature.setAttributes([*points[row].attributes(), *values])
        if not sink.addFeature(feature, QgsFeatureSink.Flag.FastInsert):
            says = sink.lastError() or tr("the disk may be full")
            raise VectorError(tr("OUTPUT cannot be written: {}.").format(says))


def require_field(name: str, source: QgsProcessingFeatureSource, field: str) -> int:
    """The number of a field.

    Raises:
        VectorError: if there is none.
    """
    index = source.fields().lookupField(field)
    if index < 0:
        names = ", ".join(source.fields().names()[:20]) or tr("none")
        raise VectorError(tr("FIELD {0}: {1} has no such field, it has {2}.").format(field, said(source), names))
    return index


def _writer(name: str, source: QgsProcessingFeatureSource, fields: QgsFields, path: str) -> QgsVectorFileWriter:
    if not source.sourceCrs().isValid():
        raise VectorError(
            tr("{0}: {1} has no CRS, so nobody knows where it lies: set it (Layer > Set CRS).").format(
                name, said(source)
            )
        )
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName, options.fileEncoding, options.layerOptions = "GPKG", "UTF-8", _COLUMNS
    # Of any kind: layers of polygons hold multipolygons too, and the engine looks at each shape anyway.
    writer = QgsVectorFileWriter.create(
        path,
        fields,
        QgsWkbTypes.Type.Unknown,
        source.sourceCrs(),
        QgsCoordinateTransformContext(),
        options,
    )
    if writer.hasError() != QgsVectorFileWriter.WriterError.NoError:
        raise _unwritable(name, path, writer.errorMessage())
    return writer


def _put(name: str, writer: QgsVectorFileWriter, geometry: QgsGeometry, attributes: list[Any], path: str) -> None:
    if QgsWkbTypes.isCurvedType(geometry.wkbType()):
        geometry = QgsGeometry(geometry.constGet().segmentize())
    feature = QgsFeature()
    feature.setGeometry(geometry)
    feature.setAttributes(attributes)
    if not writer.addFeature(feature, QgsFeatureSink.Flag.FastInsert):
        raise _unwritable(name, path, writer.errorMessage())


def _close(name: str, writer: QgsVectorFileWriter, path: str) -> None:
    if not writer.flushBuffer():
        raise _unwritable(name, path, writer.errorMessage())


def _unwritable(name: str, path: str, says: str) -> VectorError:
    text = tr("{0} cannot be handed to the engine ({1}: {2}): make room in the temporary folder.")
    return VectorError(text.format(name, path, " ".join(says.split())))


def _empty(name: str, source: QgsProcessingFeatureSource) -> VectorError:
    text = tr("{0}: {1} has no shapes, or none of them is selected: choose others.")
    return VectorError(text.format(name, said(source)))


def said(source: QgsProcessingFeatureSource) -> str:
    """What a source is called in messages."""
    return tr("layer '{}'").format(source.sourceName())


def _plain(value: Any) -> Any:
    """A value as a GeoPackage and the engine hold it: number, text, or nothing."""
    if value is None or (isinstance(value, QVariant) and value.isNull()):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (QDate, QDateTime, QTime)):
        return value.toString("yyyy-MM-dd") if isinstance(value, QDate) else value.toString()
    return value if isinstance(value, (int, float)) else str(value)


def _number(text: str) -> float | None:
    found = float(text) if text else math.nan
    return found if math.isfinite(found) else None
