"""Features that an algorithm writes: a file appears when it is whole, and one that is replaced is there until then.

QGIS' own sinks write under the final name, and what was there is gone when the first feature comes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from types import TracebackType
from typing import Any

from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeatureSink,
    QgsFields,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingOutputLayerDefinition,
    QgsProcessingUtils,
)
from qgis.PyQt import sip

from . import checks
from .texts import UserError, tr

#: ``memory:``, ``ogr:``, ``postgis:`` … and not a drive of Windows.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+]+:")
#: Endings of files that belong to one, by its ending.
_BESIDE = {
    ".shp": (".qix", ".sbn", ".sbx", ".idm", ".ind", ".cpg", ".prj", ".qpj"),
    ".gpkg": (".gpkg-wal", ".gpkg-shm", ".gpkg-journal"),
}


class Destination:
    """Where the features of an output go, a context: leaving it removes what was not put in place.

    Args:
        algorithm: whose parameter ``name`` is a feature sink.
        parameters: as of :func:`checks.given`.
    """

    def __init__(
        self, algorithm: QgsProcessingAlgorithm, parameters: dict[str, Any], name: str, context: QgsProcessingContext
    ) -> None:
        self._algorithm, self._parameters, self._name, self._context = algorithm, parameters, name, context
        self._wanted = parameters.get(name)
        path = checks.target(parameters, name)
        there = path != "TEMPORARY_OUTPUT" and not _SCHEME.match(path) and os.path.splitext(path)[1]
        #: The file, "" for what QGIS writes to directly: layers in memory, databases, temporary files.
        self._path = os.path.abspath(path) if there else ""
        self._folder = self._target = ""
        self._sink: QgsFeatureSink | None = None

    def __enter__(self) -> Destination:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _close(self) -> None:
        """Ends the sink, whoever still holds it: files that are open cannot be moved everywhere."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sip.delete(sink)

    def open(self, fields: QgsFields, kind: Any, crs: QgsCoordinateReferenceSystem, flags: Any) -> QgsFeatureSink:
        """The sink, until :meth:`place`.

        Args:
            kind: type of geometries.
            flags: ``QgsFeatureSink.SinkFlags``.

        Raises:
            UserError: if it cannot be made.
        """
        parameters = self._parameters
        if self._path:
            try:
                # Beside it, where files can be given their names at once.
                self._folder = tempfile.mkdtemp(prefix=".malice-", dir=os.path.dirname(self._path))
            except OSError as error:
                raise self._unwritable(error.strerror) from error
            part = QgsProcessingOutputLayerDefinition(os.path.join(self._folder, os.path.basename(self._path)))
            if isinstance(self._wanted, QgsProcessingOutputLayerDefinition):
                part.createOptions = self._wanted.createOptions
            parameters = {**parameters, self._name: part}
        self._sink, self._target = self._algorithm.parameterAsSink(
            parameters, self._name, self._context, fields, kind, crs, flags
        )
        if self._sink is None:
            raise UserError(self._algorithm.invalidSinkError(self._parameters, self._name))
        return self._sink

    def place(self) -> str:
        """Gives files their names; returns what QGIS loads.

        Raises:
            UserError: if they cannot be put there.
        """
        self._close()
        if not self._folder:
            return self._target
        folder, main = os.path.split(self._path)
        try:
            # What belongs to it (.shx, .dbf) before it.
            written = sorted(os.listdir(self._folder), key=lambda name: name == main)
            for name in written:
                os.replace(os.path.join(self._folder, name), os.path.join(folder, name))
            stem, ending = os.path.splitext(main)
            # What is left of an older one, such as a spatial index, would be taken for the new one's.
            for name in {stem + other for other in _BESIDE.get(ending.lower(), ())}.difference(written):
                with contextlib.suppress(FileNotFoundError):
                    os.remove(os.path.join(folder, name))
        except OSError as error:
            raise self._unwritable(error.strerror) from error
        # The name of a layer in the file may follow.
        target = self._path + self._target[len(os.path.join(self._folder, main)) :]
        wanted = self._wanted
        if isinstance(wanted, QgsProcessingOutputLayerDefinition) and wanted.destinationProject is not None:
            details = QgsProcessingContext.LayerDetails(
                wanted.destinationName or self._algorithm.parameterDefinition(self._name).description(),
                wanted.destinationProject,
                self._name,
                QgsProcessingUtils.LayerHint.Vector,
            )
            self._context.addLayerToLoadOnCompletion(target, details)
        return target

    def _unwritable(self, says: str | None) -> UserError:
        return UserError(tr("{0} {1} cannot be written: {2}.").format(self._name, self._path, says or ""))
