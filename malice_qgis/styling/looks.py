"""What is shown of each kind of result, read from the file the engine wrote, in the thread of the run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Union

import numpy as np
from osgeo import gdal

from ..rasters import open_raster
from ..texts import tr
from . import sampling
from .sampling import Channel

#: Colours of ramps from low to high, even to the eye and readable without red and green (matplotlib's, CC0).
VIRIDIS = (
    *("#440154", "#482475", "#414487", "#355f8d", "#2a788e", "#21918c"),
    *("#22a884", "#44bf70", "#7ad151", "#bddf26", "#fde725"),
)
MAGMA = (
    *("#000004", "#140e36", "#3b0f70", "#641a80", "#8c2981", "#b73779"),
    *("#de4968", "#f7705c", "#fe9f6d", "#fecf92", "#fcfdbf"),
)
#: A pixel that changed.
CHANGED = "#d7191c"
#: Bands of an embedding: sensor where there are two, query, feature.
_BAND = re.compile(r"(?:S[12]_)?Q(\d+)F(\d+)")


@dataclass(frozen=True)
class Colours:
    """Three bands as red, green, blue."""

    channels: tuple[Channel, ...]


@dataclass(frozen=True)
class Ramp:
    """One band from low to high; ``colours`` at equal steps."""

    channel: Channel
    colours: tuple[str, ...] = VIRIDIS


@dataclass(frozen=True)
class Classes:
    """One band of whole numbers: (value, colour, name); other values are not shown."""

    band: int
    entries: tuple[tuple[int, str, str], ...]


Style = Union[Colours, Ramp, Classes]


@dataclass(frozen=True)
class Look:
    """All that is shown of a result besides its pixels.

    Attributes:
        name: of the layer.
        what: first sentence of its metadata.
        style: None leaves QGIS' own.
        others: further styles of the layer's menu, by name.
        days: dates used by sensor key, in order.
        tags: the raster's, ``MALICE_MODEL`` and others.
        bands: lines that say which bands belong together.
    """

    name: str
    what: str
    style: Style | None = None
    others: Mapping[str, Style] = field(default_factory=dict)
    days: Mapping[str, list[date]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    bands: tuple[str, ...] = ()

    @property
    def span(self) -> tuple[date, date] | None:
        """First and last date of all sensors."""
        every = [day for days in self.days.values() for day in days]
        return (min(every), max(every)) if every else None

    def named(self, name: str) -> Look:
        """The same look under another name."""
        return replace(self, name=name)


def look_of(path: str) -> Look:
    """Of an embedding: three bands that differ, and a style a query."""
    dataset = open_raster(path)
    look = plain(path, tr("Embedding of a satellite image time series."))
    style, others, bands = _embedding(dataset) if dataset is not None else (None, {}, ())
    return replace(look, style=style, others=others, bands=bands)


def plain(path: str, what: str) -> Look:
    """Without colours: what the file says of itself, named after model, sensors and dates."""
    dataset = open_raster(path)
    tags = dict(dataset.GetMetadata() or {}) if dataset is not None else {}
    # What is made of two embeddings has the dates of both.
    days = {
        sensor: _days(",".join(tags.get(f"MALICE_DATES_{sensor.upper()}{which}", "") for which in ("", "_AFTER")))
        for sensor in ("s2", "s1")
    }
    look = Look("", what, days={sensor: found for sensor, found in days.items() if found}, tags=tags)
    model = tags.get("MALICE_MODEL", "")
    words = ["MALICE", model if model.lower() != "malice" else "", "+".join(key.upper() for key in look.days)]
    if look.span:
        words.append(f"{look.span[0]} – {look.span[1]}")
    return look.named(" ".join(word for word in words if word))


def components(path: str, what: str) -> Look:
    """Of principal components: the first three in the stretch of their fit, which rasters of one fit share."""
    look, dataset = plain(path, what), open_raster(path)
    if dataset is None:
        return look
    count = dataset.RasterCount
    spans = _stretch(look.tags.get("MALICE_STRETCH", ""))
    numbers = list(range(1, count + 1))
    if len(spans) != count:
        found = sampling.samples(dataset, numbers)
        spans = [sampling.span(values) or (0.0, 1.0) for values in found]
    every = [Channel(number, *span) for number, span in zip(numbers, spans)]
    if count < 3:
        return replace(look, style=Ramp(every[0]), others={f"PC{one.band}": Ramp(one) for one in every[1:]})
    threes = {
        f"PC{first + 1} PC{first + 2} PC{first + 3}": Colours(tuple(every[first : first + 3]))
        for first in range(0, count - 2, 3)
    }
    (style, *_), (_, *names) = threes.values(), threes
    return replace(look, style=style, others={name: threes[name] for name in names})


def numbers(path: str, what: str, span: tuple[float, float] | None = None) -> Look:
    """Of numbers: a ramp from ``span[0]`` to ``span[1]``, by default over the data; a style a band, of which the first
    names the look."""
    look, dataset = plain(path, what), open_raster(path)
    if dataset is None:
        return look
    ramps: dict[str, Style] = {}
    for number in range(1, dataset.RasterCount + 1):
        ramps[_title(dataset, number, ramps)] = Ramp(_channel(dataset, number, span))
    (first, *others) = ramps
    return replace(look, name=first, style=ramps[first], others={name: ramps[name] for name in others})


def classes(path: str, what: str) -> Look:
    """Of classes: names and colours from the file."""
    look, dataset = plain(path, what), open_raster(path)
    if dataset is None:
        return look
    return replace(look, style=Classes(1, _entries(look.tags.get("MALICE_CLASSES", ""), dataset)))


def change(path: str, what: str) -> Look:
    """Of changes: the distance; significance and what is beyond the threshold are styles of their own."""
    look, dataset = plain(path, what), open_raster(path)
    if dataset is None:
        return look
    names = {_title(dataset, number, {}): number for number in range(1, dataset.RasterCount + 1)}
    style: Style | None = None
    others: dict[str, Style] = {}
    if "distance" in names:
        channel = _channel(dataset, names["distance"], None)
        style = Ramp(Channel(channel.band, min(0.0, channel.low), channel.high), MAGMA)
    if "changed" in names:
        others[tr("changed")] = Classes(names["changed"], ((1, CHANGED, tr("changed")),))
    if "significance" in names:
        others[tr("significance")] = Ramp(Channel(names["significance"], 0.0, 1.0))
    return replace(look, style=style, others=others)


def _embedding(dataset: gdal.Dataset) -> tuple[Style | None, dict[str, Style], tuple[str, ...]]:
    """Style, a style a query, and which bands belong together."""
    numbers = sampling.candidates(dataset.RasterCount)
    values = sampling.samples(dataset, numbers)
    whole = sampling.channels(numbers, values)
    queries = _queries(dataset)
    others: dict[str, Style] = {}
    lines = []
    for query, found in queries.items():
        lines.append(tr("query {0}: bands {1}").format(query, _ranges(found)))
        rows = [index for index, number in enumerate(numbers) if number in set(found)]
        chosen = sampling.channels([numbers[row] for row in rows], values[rows]) if len(rows) > 2 else ()
        if chosen and len(queries) > 1:
            others[tr("query {}").format(query)] = Colours(chosen)
    return Colours(whole) if whole else None, others, tuple(lines)


def _queries(dataset: gdal.Dataset) -> dict[int, list[int]]:
    """Numbers of bands by query, of bands that are named as embed names them."""
    found: dict[int, list[int]] = {}
    for number in range(1, dataset.RasterCount + 1):
        match = _BAND.fullmatch(dataset.GetRasterBand(number).GetDescription() or "")
        if match:
            found.setdefault(int(match[1]), []).append(number)
    return found


def _ranges(numbers: list[int]) -> str:
    """``1–64, 641–704``."""
    edges = np.flatnonzero(np.diff(numbers) != 1)
    firsts, lasts = [0, *(edges + 1)], [*edges, len(numbers) - 1]
    return ", ".join(f"{numbers[first]}–{numbers[last]}" for first, last in zip(firsts, lasts))


def _channel(dataset: gdal.Dataset, number: int, span: tuple[float, float] | None) -> Channel:
    if span is None:
        values = sampling.samples(dataset, [number])[0]
        values = values[np.isfinite(values)]
        only = float(values[0]) if values.size else 0.0
        # Of numbers that are all the same, what they are is told by where they stand from 0 on.
        span = sampling.span(values) or (min(0.0, only), max(0.0, only) or float(only == 0.0))
    return Channel(number, *span)


def _title(dataset: gdal.Dataset, number: int, taken: Mapping[str, Any]) -> str:
    """The name of a band as the name of a style, which must be another than those that are there."""
    name = dataset.GetRasterBand(number).GetDescription() or tr("band {}").format(number)
    return f"{name} ({number})" if name in taken else name


def _stretch(text: str) -> list[tuple[float, float]]:
    """(darkest, lightest) of each component out of the tag; empty where it holds something else."""
    try:
        found = [(float(low), float(high)) for low, high in json.loads(text)]
    except (ValueError, TypeError, RecursionError):
        return []
    return found if np.isfinite(found).all() and all(low < high for low, high in found) else []


def _entries(text: str, dataset: gdal.Dataset) -> tuple[tuple[int, str, str], ...]:
    """(value, colour, name) of each class out of the tag, else of the colour table."""
    try:
        told = json.loads(text)
        return tuple((int(code), f"{one['colour']}", f"{one['name']}") for code, one in told.items())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        table = dataset.GetRasterBand(1).GetColorTable()
        if table is None:
            return ()
        nodata = dataset.GetRasterBand(1).GetNoDataValue()
        entries = [(value, table.GetColorEntry(value)) for value in range(table.GetCount())]
        return tuple((v, "#{:02x}{:02x}{:02x}".format(*c), f"{v}") for v, c in entries if v != nodata and any(c[:3]))


def _days(text: str) -> list[date]:
    found = []
    for part in text.split(","):
        try:
            found.append(date.fromisoformat(part.strip()))
        except ValueError:
            continue
    return sorted(set(found))
