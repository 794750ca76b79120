"""Parameters that several tools on embeddings have: kinds, defaults, help."""

from __future__ import annotations

from typing import Any

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
)

from ..texts import tr
from .parameters import MEMORY, advanced, helped

#: Whole numbers that may be large: the most that the engine takes.
MOST = 1 << 20


def embedding(name: str = "INPUT", label: str = "") -> QgsProcessingParameterDefinition:
    """A raster of embeddings."""
    text = tr("What MALICE embed made: GeoTIFF, COG or VRT, of any number type (not Zarr).")
    return helped(QgsProcessingParameterRasterLayer(name, label or tr("Embedding")), text)


def shapes(name: str, label: str, text: str, optional: bool = False) -> QgsProcessingParameterDefinition:
    """Points or polygons."""
    kinds = [QgsProcessing.SourceType.TypeVectorPoint, QgsProcessing.SourceType.TypeVectorPolygon]
    return helped(QgsProcessingParameterFeatureSource(name, label, kinds, None, optional), text)


def field(layer: str, label: str, text: str, numeric: bool = False) -> QgsProcessingParameterDefinition:
    """A field of a layer; whether it has to be given the algorithm knows."""
    kinds = QgsProcessingParameterField.DataType
    kind = kinds.Numeric if numeric else kinds.Any
    return helped(QgsProcessingParameterField("FIELD", label, None, layer, kind, False, True), text)


def choice(name: str, label: str, words: list[str], text: str) -> QgsProcessingParameterDefinition:
    """One of the engine's words; the first is the default."""
    parameter = QgsProcessingParameterEnum(name, label, words, defaultValue=words[0], usesStaticStrings=True)
    return helped(parameter, text)


def whole(
    name: str, label: str, text: str, default: Any, low: int = 1, high: int = MOST
) -> QgsProcessingParameterDefinition:
    """A whole number; without a default it may be left out."""
    kind = QgsProcessingParameterNumber.Type.Integer
    return helped(QgsProcessingParameterNumber(name, label, kind, default, default is None, low, high), text)


def file(name: str, label: str, ending: str, text: str) -> QgsProcessingParameterDefinition:
    """A file that is read, if it is given."""
    kind = QgsProcessingParameterFile.Behavior.File
    return helped(QgsProcessingParameterFile(name, label, kind, ending, None, True), text)


def saved(name: str, label: str, files: str, text: str, default: bool = False) -> QgsProcessingParameterDefinition:
    """A file that is written if it is wanted.

    Args:
        files: such as ``HTML files (*.html)``.
        default: dialogs and models want it unless told otherwise.
    """
    return helped(QgsProcessingParameterFileDestination(name, label, files, None, True, default), text)


def raster(name: str, label: str, text: str, optional: bool = False) -> QgsProcessingParameterDefinition:
    """A raster that is written; an optional one only if it is wanted."""
    return helped(QgsProcessingParameterRasterDestination(name, label, None, optional, not optional), text)


def sample(default: str) -> QgsProcessingParameterDefinition:
    """How many pixels are looked at.

    Args:
        default: a sentence that says how many they are where nothing is given.
    """
    text = tr("So many pixels, drawn from the whole raster, are looked at to find them.")
    return advanced(whole("SAMPLE", tr("Pixels to learn from"), f"{text} {default}", None, 1))


def seed(more: str = "") -> QgsProcessingParameterDefinition:
    """Chance.

    Args:
        more: a sentence that says when it means nothing.
    """
    text = tr("Another number draws other pixels by chance; the same number gives the same result.")
    return advanced(whole("SEED", tr("Random seed"), f"{text} {more}".strip(), 1, 0))


def computing() -> list[QgsProcessingParameterDefinition]:
    """Memory and threads."""
    memory = tr("Memory to stay under, such as 2GB; decides the size of blocks. The result does not depend on it.")
    threads = tr("Number of processor threads to use, by default all.")
    return [
        advanced(helped(QgsProcessingParameterString("MEMORY", tr("Memory limit"), MEMORY), memory)),
        advanced(whole("THREADS", tr("Processor threads"), threads, None, 1, 1024)),
    ]
