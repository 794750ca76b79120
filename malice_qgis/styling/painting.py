"""Gives layers their looks, in the thread where layers live."""

from __future__ import annotations

from collections import deque
from datetime import date
from typing import ClassVar

from qgis.core import (
    QgsColorRampShader,
    QgsContrastEnhancement,
    QgsDateTimeRange,
    QgsLayerMetadata,
    QgsMultiBandColorRenderer,
    QgsPalettedRasterRenderer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsProcessingOutputLayerDefinition,
    QgsRasterDataProvider,
    QgsRasterLayer,
    QgsRasterRenderer,
    QgsRasterShader,
    QgsSingleBandPseudoColorRenderer,
)
from qgis.PyQt.QtCore import QDate, QDateTime, Qt, QTime
from qgis.PyQt.QtGui import QColor

from ..dating import fixed_range
from ..texts import tr
from .looks import Classes, Colours, Look, Ramp, Style

#: Where results stand among the layers; QGIS puts them there from 3.32 on.
GROUP = "MALICE"


def show(context: QgsProcessingContext, destination: str, wanted: object, look: Look) -> None:
    """Prepares how a result is shown, if it is.

    Args:
        destination: as QGIS named it.
        wanted: the value of the output's parameter, which may hold the user's name for the layer.
    """
    named = entitle(context, destination, wanted, look.name)
    processor = PostProcessor.of(look, keep_name=named)
    context.layerToLoadOnCompletionDetails(destination).setPostProcessor(processor)


def entitle(context: QgsProcessingContext, destination: str, wanted: object, name: str) -> bool:
    """Gives the layer of a result its name, unless the user did, and its group.

    Args:
        destination, wanted: as of :func:`show`.

    Returns:
        Whether the user named it.
    """
    details = context.layerToLoadOnCompletionDetails(destination)
    named = isinstance(wanted, QgsProcessingOutputLayerDefinition) and bool(wanted.destinationName)
    if not named:
        details.name = name
    if not getattr(details, "groupName", GROUP):
        details.groupName = GROUP
    return named


class PostProcessor(QgsProcessingLayerPostProcessorInterface):
    """Dresses the layer of a result; keeps itself alive until QGIS has called it."""

    #: The last few; runs that end together add to it from threads of their own.
    _alive: ClassVar[deque[PostProcessor]] = deque(maxlen=64)

    def __init__(self, look: Look, keep_name: bool) -> None:
        super().__init__()
        self._look, self._keep_name = look, keep_name

    @classmethod
    def of(cls, look: Look, keep_name: bool) -> PostProcessor:
        """A processor that QGIS may hold without owning; the last few are kept."""
        made = cls(look, keep_name)
        cls._alive.append(made)
        return made

    def postProcessLayer(
        self, layer: QgsRasterLayer, context: QgsProcessingContext, feedback: QgsProcessingFeedback
    ) -> None:
        if not isinstance(layer, QgsRasterLayer) or not layer.isValid():
            return
        if not self._keep_name:
            layer.setName(self._look.name)
        dress(layer, self._look)


def dress(layer: QgsRasterLayer, look: Look) -> None:
    """Applies a look (all but the name) to a layer."""
    if look.span:
        properties = layer.temporalProperties()
        properties.setMode(fixed_range())
        properties.setFixedTemporalRange(_range(look.span))
        properties.setIsActive(True)
    layer.setMetadata(_metadata(layer, look))
    # A style of the menu is a copy of how the layer looks at that moment.
    for name, style in look.others.items():
        layer.setRenderer(renderer(layer.dataProvider(), style))
        layer.styleManager().addStyleFromLayer(name)
    if look.style is not None:
        layer.setRenderer(renderer(layer.dataProvider(), look.style))
    layer.triggerRepaint()


def renderer(provider: QgsRasterDataProvider, style: Style) -> QgsRasterRenderer:
    """What draws a style."""
    if isinstance(style, Colours):
        return _colours(provider, style)
    return _ramp(provider, style) if isinstance(style, Ramp) else _classes(provider, style)


def _colours(provider: QgsRasterDataProvider, style: Colours) -> QgsRasterRenderer:
    made = QgsMultiBandColorRenderer(provider, *(channel.band for channel in style.channels))
    setters = (made.setRedContrastEnhancement, made.setGreenContrastEnhancement, made.setBlueContrastEnhancement)
    for channel, setter in zip(style.channels, setters):
        stretch = QgsContrastEnhancement(provider.dataType(channel.band))
        algorithm = QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum
        stretch.setContrastEnhancementAlgorithm(algorithm, False)
        # Given numbers, not statistics of the view: they are saved with the project as they are.
        stretch.setMinimumValue(channel.low, False)
        stretch.setMaximumValue(channel.high, True)
        setter(stretch)
    return made


def _ramp(provider: QgsRasterDataProvider, style: Ramp) -> QgsRasterRenderer:
    low, high = style.channel.low, style.channel.high
    steps = [low + (high - low) * index / (len(style.colours) - 1) for index in range(len(style.colours))]
    colours = QgsColorRampShader(low, high)
    colours.setColorRampType(QgsColorRampShader.Type.Interpolated)
    items = [QgsColorRampShader.ColorRampItem(v, QColor(c), f"{v:.4g}") for v, c in zip(steps, style.colours)]
    colours.setColorRampItemList(items)
    shader = QgsRasterShader(low, high)
    shader.setRasterShaderFunction(colours)
    made = QgsSingleBandPseudoColorRenderer(provider, style.channel.band, shader)
    made.setClassificationMin(low)
    made.setClassificationMax(high)
    return made


def _classes(provider: QgsRasterDataProvider, style: Classes) -> QgsRasterRenderer:
    entries = [QgsPalettedRasterRenderer.Class(value, QColor(colour), name) for value, colour, name in style.entries]
    return QgsPalettedRasterRenderer(provider, style.band, entries)


def _range(span: tuple[date, date]) -> QgsDateTimeRange:
    """From the first day's beginning to the last day's end, UTC as are the days of the images and QGIS' own times."""
    begin, end = (QDate(day.year, day.month, day.day) for day in span)
    utc = Qt.TimeSpec.UTC
    return QgsDateTimeRange(QDateTime(begin, QTime(0, 0), utc), QDateTime(end, QTime(23, 59, 59), utc))


def _metadata(layer: QgsRasterLayer, look: Look) -> QgsLayerMetadata:
    """Model, dates and credits where QGIS shows and saves them."""
    tags = look.tags
    result = QgsLayerMetadata()
    result.setTitle(look.name)
    result.setType("dataset")
    result.setIdentifier(tags.get("MALICE_JOB", ""))
    result.setCrs(layer.crs())
    dates = [f"{sensor.upper()}: {', '.join(map(str, days))}" for sensor, days in look.days.items()]
    model = (tags.get(name, "") for name in ("MALICE_MODEL", "MALICE_MODEL_ID", "MALICE_CITATION"))
    numbers = f"{tags.get('MALICE_DTYPE', '')} {tags.get('MALICE_SCALE', '')}".strip()
    lines = [look.what, tr("Model: {0} ({1}). {2}").format(*model).strip()]
    lines += [tr("Numbers: {}").format(numbers)] if numbers else []
    lines += [tr("Dates {}").format(text) for text in dates]
    result.setAbstract("\n".join([*lines, *look.bands]))
    if tags.get("MALICE_LICENCE"):
        result.setLicenses([tr("model: {}").format(tags["MALICE_LICENCE"])])
    if tags.get("MALICE_CREDITS"):
        result.setRights([tags["MALICE_CREDITS"]])
    made = f"malice_core {tags.get('MALICE_VERSION', '')}: {tags.get('MALICE_TOOL', tags.get('MALICE_PRECISION', ''))}"
    result.setHistory([made, *dates])
    result.setKeywords({"MALICE": [tr("embedding"), "Sentinel", tags.get("MALICE_MODEL", "")]})
    if look.span:
        extent = QgsLayerMetadata.Extent()
        extent.setTemporalExtents([_range(look.span)])
        result.setExtent(extent)
    return result
