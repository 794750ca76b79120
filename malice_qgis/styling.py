"""How a result looks and what it says of itself: name, colours, temporal range, metadata.

``look_of`` reads samples and tags in the thread of the run; ``PostProcessor`` applies them where layers live.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from osgeo import gdal
from qgis.core import (
    QgsContrastEnhancement,
    QgsDateTimeRange,
    QgsLayerMetadata,
    QgsMultiBandColorRenderer,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProcessingLayerPostProcessorInterface,
    QgsRasterLayer,
)
from qgis.PyQt.QtCore import QDate, QDateTime, Qt, QTime

from .dating import fixed_range
from .rasters import open_raster

#: Bands looked at, windows read of each, side of a window in pixels: a few seconds on the largest raster.
CANDIDATES, WINDOWS, SIDE = 64, 9, 24
#: Share of pixels left out at either end of a band's colours.
TAIL = 2.0
#: A band that varies less than this share of the strongest one is not worth a colour.
FAINT = 0.2


@dataclass(frozen=True)
class Channel:
    """A band as one colour: number from 1, and the values shown darkest and lightest."""

    band: int
    low: float
    high: float


@dataclass(frozen=True)
class Look:
    """All that is shown of a result besides its pixels.

    Attributes:
        channels: red, green, blue; empty when the raster has fewer than three bands that vary.
        days: dates used by sensor key, in order.
        tags: the raster's, ``MALICE_MODEL`` and others.
    """

    name: str
    channels: tuple[Channel, ...]
    days: dict[str, list[date]]
    tags: dict[str, str]

    @property
    def span(self) -> tuple[date, date] | None:
        """First and last date of all sensors."""
        every = [day for days in self.days.values() for day in days]
        return (min(every), max(every)) if every else None


def look_of(path: str) -> Look:
    """Reads what is needed from a raster the engine wrote."""
    dataset = open_raster(path)
    tags = dict(dataset.GetMetadata() or {}) if dataset is not None else {}
    days = {sensor: _days(tags.get(f"MALICE_DATES_{sensor.upper()}", "")) for sensor in ("s2", "s1")}
    days = {sensor: found for sensor, found in days.items() if found}
    channels = _channels(dataset) if dataset is not None else ()
    look = Look("", channels, days, tags)
    model = tags.get("MALICE_MODEL", "")
    words = ["MALICE", model if model.lower() != "malice" else "", "+".join(key.upper() for key in days)]
    if look.span:
        words.append(f"{look.span[0]} – {look.span[1]}")
    return Look(" ".join(word for word in words if word), channels, days, tags)


def _days(text: str) -> list[date]:
    found = []
    for part in text.split(","):
        try:
            found.append(date.fromisoformat(part.strip()))
        except ValueError:
            continue
    return sorted(found)


def _channels(dataset: gdal.Dataset) -> tuple[Channel, ...]:
    """Three bands that vary and say different things, with the range of their values."""
    count = dataset.RasterCount
    numbers = sorted({1 + index * count // min(count, CANDIDATES) for index in range(min(count, CANDIDATES))})
    samples = np.stack([_sample(dataset, number) for number in numbers])
    # A sensor that saw none of the places that are looked at must not hide what the other saw.
    seen = np.isfinite(samples)
    there = np.flatnonzero(2 * seen.sum(axis=1) >= seen.sum(axis=1).max())
    samples = samples[there][:, seen[there].all(axis=0)]
    if samples.shape[1] < 2:
        return ()
    spread = np.subtract(*np.percentile(samples, (75, 25), axis=1))
    spread = np.where(spread > 0, spread, samples.std(axis=1))
    varying = np.flatnonzero(spread > FAINT * spread.max())
    if len(varying) < 3:
        varying = np.flatnonzero(spread > 0)
    if len(varying) < 3:
        return ()
    # The strongest, then twice the one least like those taken.
    strong = varying[np.argsort(-spread[varying], kind="stable")]
    likeness = np.abs(np.corrcoef(samples[strong]))
    taken = [0]
    while len(taken) < 3:
        worst = likeness[:, taken].max(axis=1)
        worst[taken] = np.inf
        taken.append(int(np.argmin(worst)))
    channels = []
    for index in (int(strong[position]) for position in taken):
        low, high = (float(value) for value in np.percentile(samples[index], (TAIL, 100 - TAIL)))
        if not low < high:
            low, high = float(samples[index].min()), float(samples[index].max())
        channels.append(Channel(numbers[int(there[index])], low, high))
    return tuple(channels)


def _sample(dataset: gdal.Dataset, number: int) -> np.ndarray:
    """Values of small windows spread over the raster, NaN for nodata; without gdal_array, which numpy can break."""
    band = dataset.GetRasterBand(number)
    nodata, scale, offset = band.GetNoDataValue(), band.GetScale(), band.GetOffset()
    parts = []
    steps = int(WINDOWS**0.5)
    for row in range(steps):
        for col in range(steps):
            width, height = min(SIDE, dataset.RasterXSize), min(SIDE, dataset.RasterYSize)
            left = (dataset.RasterXSize - width) * (2 * col + 1) // (2 * steps)
            top = (dataset.RasterYSize - height) * (2 * row + 1) // (2 * steps)
            raw = band.ReadRaster(left, top, width, height, buf_type=gdal.GDT_Float64)
            parts.append(np.frombuffer(raw, np.float64) if raw else np.full(width * height, np.nan))
    values = np.concatenate(parts)
    if nodata is not None:
        values = np.where(values == nodata, np.nan, values)
    return values * (1.0 if scale is None else scale) + (0.0 if offset is None else offset)


class PostProcessor(QgsProcessingLayerPostProcessorInterface):
    """Dresses the layer of a result; keeps itself alive until QGIS has called it."""

    _alive: tuple[PostProcessor, ...] = ()

    def __init__(self, look: Look, keep_name: bool) -> None:
        super().__init__()
        self._look, self._keep_name = look, keep_name

    @classmethod
    def of(cls, look: Look, keep_name: bool) -> PostProcessor:
        """A processor that QGIS may hold without owning; the last few are kept."""
        made = cls(look, keep_name)
        cls._alive = (*cls._alive[-63:], made)
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
    provider = layer.dataProvider()
    if len(look.channels) == 3:
        renderer = QgsMultiBandColorRenderer(provider, *(channel.band for channel in look.channels))
        setters = (
            renderer.setRedContrastEnhancement,
            renderer.setGreenContrastEnhancement,
            renderer.setBlueContrastEnhancement,
        )
        for channel, setter in zip(look.channels, setters):
            stretch = QgsContrastEnhancement(provider.dataType(channel.band))
            algorithm = QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum
            stretch.setContrastEnhancementAlgorithm(algorithm, False)
            # Given numbers, not statistics of the view: they are saved with the project as they are.
            stretch.setMinimumValue(channel.low, False)
            stretch.setMaximumValue(channel.high, True)
            setter(stretch)
        layer.setRenderer(renderer)
    if look.span:
        properties = layer.temporalProperties()
        properties.setMode(fixed_range())
        properties.setFixedTemporalRange(_range(look.span))
        properties.setIsActive(True)
    layer.setMetadata(_metadata(layer, look))
    layer.triggerRepaint()


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
    model = f"{tags.get('MALICE_MODEL', '')} ({tags.get('MALICE_MODEL_ID', '')})"
    result.setAbstract(
        "\n".join(
            [
                "Embedding of a satellite image time series.",
                f"Model: {model}. {tags.get('MALICE_CITATION', '')}",
                f"Numbers: {tags.get('MALICE_DTYPE', '')} {tags.get('MALICE_SCALE', '')}".strip(),
                *(f"Dates {text}" for text in dates),
            ]
        )
    )
    if tags.get("MALICE_LICENCE"):
        result.setLicenses([f"model: {tags['MALICE_LICENCE']}"])
    if tags.get("MALICE_CREDITS"):
        result.setRights([tags["MALICE_CREDITS"]])
    result.setHistory([f"malice_core {tags.get('MALICE_VERSION', '')}: {tags.get('MALICE_PRECISION', '')}", *dates])
    result.setKeywords({"MALICE": ["embedding", "Sentinel", tags.get("MALICE_MODEL", "")]})
    if look.span:
        extent = QgsLayerMetadata.Extent()
        extent.setTemporalExtents([_range(look.span)])
        result.setExtent(extent)
    return result
