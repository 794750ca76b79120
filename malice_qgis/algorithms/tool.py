"""What the tools on embeddings share: their parameters are the options of a command line of the engine, by name."""

from __future__ import annotations

import os
import shutil
from typing import Any

from qgis.core import (
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterNumber,
    QgsProcessingUtils,
)

from .. import checks, layers, styling, tables, vectors
from ..rasters import open_raster
from ..texts import tr
from .base import EngineAlgorithm, EngineRun

_OPTIONAL = QgsProcessingParameterDefinition.Flag.FlagOptional


class ToolAlgorithm(EngineAlgorithm):
    """A tool on embeddings.

    A subclass gives ``ID``, ``HELP``, texts, ``definitions``, ``MODULE`` and ``look``. A parameter ``SAVE_FIT`` is the
    option ``--save-fit``; what is not set is left out.
    """

    #: The command line of the engine.
    MODULE = ""
    #: (parameter of points or polygons, parameter of the field of theirs that is needed, "" for none)
    SHAPES: tuple[tuple[str, str], ...] = ()

    def __init__(self) -> None:
        super().__init__()
        #: What is read, by parameter; known once prepared.
        self.rasters: dict[str, layers.Source] = {}

    def group(self) -> str:
        return tr("Embeddings")

    def groupId(self) -> str:
        return "embeddings"

    def look(self, output: str, path: str, parameters: dict[str, Any]) -> styling.Look:
        """How the raster of an output is shown; the name lacks the inputs', which follow it.

        Args:
            output: name of the parameter.
            path: the raster, which is whole.
        """
        raise NotImplementedError

    def unused(self, parameters: dict[str, Any]) -> frozenset[str]:
        """Parameters that mean nothing beside the others, and are not handed on."""
        return frozenset()

    def refuse(self, parameters: dict[str, Any], context: QgsProcessingContext) -> None:
        unused = self.unused(parameters)
        read: dict[str, str] = {}
        self.rasters = {}
        for definition in self.parameterDefinitions():
            name, value = definition.name(), parameters.get(definition.name())
            if name in unused:
                continue
            if value in (None, ""):
                if definition.type() == "raster":
                    raise checks.Refusal(tr("{} is not set: choose an embedding.").format(name))
                continue
            if definition.type() == "raster":
                self.rasters[name] = _embedding(name, value, context)
                read[name] = self.rasters[name].path
            elif definition.type() == "source":
                layer = self.parameterAsVectorLayer(parameters, name, context)
                read[name] = layer.source().split("|")[0] if layer is not None else ""
            elif definition.type() == "file":
                if not os.path.isfile(str(value)):
                    raise checks.Refusal(tr("{0}: there is no file {1}; choose another.").format(name, value))
                read[name] = str(value)
            elif not definition.isDestination():
                _plain(definition, parameters)
        for name, field in self.SHAPES:
            source = None if name in unused else self.parameterAsSource(parameters, name, context)
            if source is not None and parameters.get(field):
                vectors.require_field(name, source, str(parameters[field]))
        _targets(self, {checks.same(path): name for name, path in read.items() if path}, parameters)

    def work(
        self,
        run: EngineRun,
        parameters: dict[str, Any],
        context: QgsProcessingContext,
        feedback: QgsProcessingFeedback,
    ) -> dict[str, Any]:
        results = self._results(parameters, context)
        folder = temporary_folder()
        try:
            arguments = [*self.options(run, parameters, context, folder)]
            # QGIS knows the layer it will load by the name it gave, the engine needs an absolute one.
            paths = {name: os.path.abspath(told) for name, told in results.items()}
            arguments += [_option(name, path) for name, path in paths.items()]
            # QGIS asks before it replaces a file.
            run.execute(self.MODULE, [*arguments, "--overwrite"], list(paths.values()))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for name, told in results.items():
            # The results are there: what goes wrong from now on is told, and takes nothing away.
            try:
                if name == "REPORT":
                    tables.retell_page(paths[name], run.told)
                if context.willLoadLayerOnCompletion(told):
                    look = self.look(name, paths[name], parameters)
                    styling.show(context, told, parameters.get(name), look.named(self.title(look.name)))
            except (OSError, RuntimeError, ValueError) as error:
                feedback.reportError(tr("The result is whole, but is not shown as it should be: {}").format(error))
        return results

    def options(
        self, run: EngineRun, parameters: dict[str, Any], context: QgsProcessingContext, folder: str
    ) -> list[str]:
        """Options of the engine that say what is read, and how it computes.

        Args:
            folder: for shapes, which are written for the engine; removed after the run.
        """
        unused = self.unused(parameters)
        arguments = []
        for definition in self.parameterDefinitions():
            name = definition.name()
            if definition.isDestination() or name in unused:
                continue
            value = ""
            if name in self.rasters:
                value = self.rasters[name].path
            elif name in dict(self.SHAPES):
                value = self._shapes(run, name, parameters, context, folder)
            elif definition.type() not in ("raster", "source"):
                value = _plain(definition, parameters)
            arguments += [_option(name, value)] if value else []
        return arguments

    def title(self, what: str) -> str:
        """What a result is called: what it is, and of which inputs."""
        return f"{what} – {' → '.join(map(_title, self.rasters.values()))}"

    def _shapes(
        self, run: EngineRun, name: str, parameters: dict[str, Any], context: QgsProcessingContext, folder: str
    ) -> str:
        """Writes the shapes of a parameter for the engine; the path, "" if there are none."""
        source = self.parameterAsSource(parameters, name, context)
        if source is None:
            if parameters.get(name) or not self.parameterDefinition(name).flags() & _OPTIONAL:
                raise checks.Refusal(self.invalidSourceError(parameters, name))
            return ""
        path = os.path.join(folder, f"{name.lower()}.gpkg")
        vectors.write(name, source, str(parameters.get(dict(self.SHAPES)[name]) or ""), path, run.cancelled)
        run.aliases[path] = vectors.said(source)
        return path

    def _results(self, parameters: dict[str, Any], context: QgsProcessingContext) -> dict[str, str]:
        """Files by output that is wanted, as QGIS names them."""
        found = {}
        for definition in self.destinationParameterDefinitions():
            name = definition.name()
            if name not in self.unused(parameters):
                layer = definition.type() == "rasterDestination"
                told = (self.parameterAsOutputLayer if layer else self.parameterAsFileOutput)(parameters, name, context)
                found.update({name: told} if told else {})
        return found


def temporary_folder() -> str:
    """A new folder for what is written for the engine, as the engine tells its name: on Windows with one kind of
    slashes, which QGIS and Python mix."""
    return os.path.normpath(os.path.dirname(QgsProcessingUtils.generateTempFilename("shapes")))


def _option(name: str, value: str) -> str:
    """An option and its value in one, so that a value that begins with a dash is no option."""
    return f"--{name.lower().replace('_', '-')}={value}"


def _embedding(name: str, value: Any, context: QgsProcessingContext) -> layers.Source:
    """The raster of a parameter.

    Raises:
        LayerError, checks.Refusal: if it cannot be read outside QGIS, is not one raster, or is no embedding.
    """
    found = layers.sources(value, context, dated=False)
    if len(found) != 1:
        raise checks.Refusal(tr("{0}: {1} rasters are given, one is wanted.").format(name, len(found)))
    path = found[0].path
    dataset = open_raster(path)
    if dataset is None:
        raise checks.Refusal(tr("{0}: {1} is no raster that GDAL opens; choose an embedding.").format(name, path))
    if not dataset.GetMetadataItem("MALICE_MODEL_ID") or dataset.GetMetadataItem("MALICE_TOOL"):
        text = tr("{0}: {1} is no embedding: choose a raster that MALICE embed made.")
        raise checks.Refusal(text.format(name, path))
    return found[0]


def _plain(definition: QgsProcessingParameterDefinition, parameters: dict[str, Any]) -> str:
    """A number, choice, text or file as the engine reads it, "" if it is not set.

    Raises:
        checks.Refusal: if it cannot be.
    """
    name, value = definition.name(), parameters.get(definition.name(), definition.defaultValue())
    if definition.type() in ("number", "distance"):
        whole = definition.dataType() == QgsProcessingParameterNumber.Type.Integer
        return checks.number({name: value}, name, (whole, definition.minimum(), definition.maximum()))
    if definition.type() == "enum":
        return checks.choice({name: value}, name, definition.options())
    if name == "MEMORY":
        return checks.memory({name: value})
    text = "" if value is None else str(value).strip()
    return os.path.abspath(text) if text and definition.type() == "file" else text


def _targets(algorithm: ToolAlgorithm, read: dict[str, str], parameters: dict[str, Any]) -> None:
    """Raises checks.Refusal if an output would replace what is read, or another output.

    Args:
        read: parameter by path, as of :func:`checks.same`.
    """
    for definition in algorithm.destinationParameterDefinitions():
        name = definition.name()
        told = checks.target(parameters, name)
        if not told or told == "TEMPORARY_OUTPUT" or name in algorithm.unused(parameters):
            continue
        other = read.setdefault(checks.same(told), name)
        if other != name:
            text = tr("{0} and {1} are the same file {2}: give them different names.")
            raise checks.Refusal(text.format(other, name, told))


def _title(source: layers.Source) -> str:
    """An input as its results name it: the layer's name, or the file's."""
    if layers.absolute(source.name) != source.path:
        return source.name
    return os.path.splitext(os.path.basename(source.path))[0]
