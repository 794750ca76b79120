"""The model card: ``model.json``, all the engine knows of a network besides its graphs.

A card is read from files users exchange, so :func:`read` checks every field and names the one that is wrong.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from malice_core import safety
from malice_core.bands import SENSORS
from malice_core.errors import ModelError
from malice_core.store.statistics import ANGLES, AUX_TERRAIN, AUX_WEATHER, Statistics
from malice_core.weights import REACH

FILE_NAME = "model.json"
SCHEMA = 1
#: Names are folder names on every system and words in a QGIS combo box.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
#: Tag of a model for trying out, trained on simulated scenes: the default only where no other model is installed.
DEMO = "demo"
#: How physical values become network channels, see ``features.py``.
TRANSFORMS = ("none", "ln", "log10")


@dataclass(frozen=True)
class Graph:
    """One ONNX file of a model: its name inside the model's folder and the sha256 of its bytes (hex)."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Modality:
    """What one encoder eats and yields.

    Attributes:
        channels: network channels in order; a band of the sensor, or a ratio such as ``VH/VV``; of MALICE Aux then
            cosines and sines of angles (``statistics.ANGLES``).
        transform: of the bands: ``none``, ``ln`` (natural logarithm) or ``log10`` (decimal, of what was clipped to
            1e-4 … 2).
        med, qmin, qmax: per channel, after the transform: clip to [qmin, qmax], subtract med, divide by
            (qmax - qmin).
        spatial, temporal: the two graphs, see ``graphs.py``.
        low, high: per output channel, bounds no embedding value can leave (from the last LayerNorm's
            weights); fixed-point output types are scaled by them.
        weather: the graph of the weather, of MALICE Aux; else None.
    """

    channels: tuple[str, ...]
    transform: str
    med: tuple[float, ...]
    qmin: tuple[float, ...]
    qmax: tuple[float, ...]
    spatial: Graph
    temporal: Graph
    low: tuple[float, ...]
    high: tuple[float, ...]
    weather: Graph | None = None

    @property
    def angles(self) -> tuple[str, ...]:
        """Those of the channels that are angles; empty but of MALICE Aux."""
        return tuple(channel for channel in self.channels if channel in ANGLES)


@dataclass(frozen=True)
class Surroundings:
    """What MALICE Aux knows of a place besides images; its angles are channels of the images.

    Attributes:
        weather, terrain: channels in order, with their normalisation.
        graph: the terrain's, one for all modalities.
    """

    weather: Statistics
    terrain: Statistics
    graph: Graph


@dataclass(frozen=True)
class Card:
    """A model: two graphs for each modality and how to feed them.

    Attributes:
        name: folder name in the store.
        title: one line for people.
        licence: SPDX identifier of the weights' licence.
        citation: how to cite the network.
        provenance: free text values: where the weights come from (source, commit, original files' sha256).
        date_origin: day 0 of the date encoding.
        stride, halo: pixels; tiles are exact on a grid of ``stride`` with ``halo`` pixels around.
        queries, width: an embedding is (queries, width) numbers a pixel and modality.
        modalities: by sensor key (``s2``, ``s1``).
        tags: words that programs look for, such as :data:`DEMO`; a card without the field has none.
        surroundings: of MALICE Aux; None: the network sees images alone.
        folder: where the card was read from (not part of the file).
    """

    name: str
    title: str
    licence: str
    citation: str
    provenance: dict[str, str]
    date_origin: date
    stride: int
    halo: int
    queries: int
    width: int
    modalities: dict[str, Modality]
    tags: tuple[str, ...] = ()
    surroundings: Surroundings | None = None
    folder: Path | None = field(default=None, compare=False)

    @property
    def identity(self) -> str:
        """16 hex digits that change whenever a graph or the way it is fed changes."""
        content = to_json(self)
        for word in ("title", "licence", "citation", "provenance", "name", "tags"):
            content.pop(word)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def graph_path(self, sensor: str, role: str) -> Path:
        """Path of one graph file.

        Args:
            sensor: whose graph; without meaning for the terrain's, which all share.
            role: ``spatial``, ``temporal``, and of MALICE Aux ``weather`` or ``terrain``.
        """
        assert self.folder is not None, "the card was not read from a store"
        return self.folder / self._graph(sensor, role).file

    def roles(self) -> tuple[str, ...]:
        """Of the graphs that embed the images of a sensor."""
        return ("spatial", "temporal", *(("weather", "terrain") if self.surroundings else ()))

    def _graph(self, sensor: str, role: str) -> Graph:
        graph = self.surroundings.graph if role == "terrain" and self.surroundings else None
        graph = graph or getattr(self.modalities[sensor], role)
        assert isinstance(graph, Graph), f"{self.name} has no graph of {role}"
        return graph

    def graph_bytes(self, sensor: str, role: str) -> bytes:
        """The bytes of one graph, after checking them against the card.

        A card and its graphs may come from anywhere, so the graph is also checked to hold only operators of ours
        and its own weights.

        Raises:
            ModelError: if the file is missing, its sha256 is not the card's, it is no sound graph, or holds anything
                foreign.
        """
        path = self.graph_path(sensor, role)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(
                f"model {self.name}: cannot read {path}: {error.strerror}; import or install the model again"
            ) from error
        digest = hashlib.sha256(content).hexdigest()
        wanted = self._graph(sensor, role).sha256
        if digest != wanted:
            raise ModelError(
                f"model {self.name}: {path.name} is damaged (sha256 {digest[:12]}…, the card says "
                f"{wanted[:12]}…); import or install the model again"
            )
        source = f"model {self.name}: {path.name}"
        safety.sound(safety.parsed(content, source), source)
        return content


def to_json(card: Card) -> dict[str, Any]:
    """The content of ``model.json`` for ``card``."""
    content = asdict(card)
    content.pop("folder")
    content["date_origin"] = card.date_origin.isoformat()
    # What only MALICE Aux has is left out of other cards, so that they stay as they are.
    for part in (content, *content["modalities"].values()):
        for word in ("surroundings", "weather"):
            if word in part and part[word] is None:
                part.pop(word)
    return {"schema": SCHEMA, **content}


def write(card: Card, folder: Path) -> None:
    """Writes ``model.json`` into ``folder``."""
    text = json.dumps(to_json(card), indent=1, ensure_ascii=False) + "\n"
    (folder / FILE_NAME).write_text(text, encoding="utf-8")


def read(folder: Path) -> Card:
    """Reads and checks the card of the model in ``folder``.

    Raises:
        ModelError: naming the file, the field and the value that is wrong.
    """
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read the model card {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the model card {path} is no JSON: {error}") from error
    return parse(content, str(path), folder)


def parse(content: Any, source: str, folder: Path | None = None) -> Card:
    """Checks the content of a ``model.json`` and returns the card.

    Args:
        content: what ``json.load`` gave.
        source: file name for messages.
        folder: where the graphs are.

    Raises:
        ModelError: naming the field and the value that is wrong.
    """
    reader = _Reader(content, source, "")
    schema = reader.take("schema", int)
    if schema != SCHEMA:
        raise ModelError(f"{source}: schema {schema} is not {SCHEMA}, the one this version reads; update one of both")
    name = reader.take("name", str)
    if not NAME.fullmatch(name):
        reader.fail("name", name, "lower-case letters, digits, '.', '_' and '-'")
    origin = reader.take("date_origin", str)
    try:
        date_origin = date.fromisoformat(origin)
    except ValueError:
        reader.fail("date_origin", origin, "a date YYYY-MM-DD")
    stride, halo = reader.positive("stride"), reader.positive("halo")
    if halo % stride or halo < REACH:
        reader.fail("halo", halo, f"a multiple of the stride {stride} of at least {REACH}, which the network looks")
    provenance = reader.take("provenance", dict)
    for key, value in provenance.items():
        if not isinstance(value, str):
            reader.fail(f"provenance.{key}", value, "text")
    tags = reader.take("tags", list) if "tags" in reader.left else []
    for tag in tags:
        if not isinstance(tag, str) or not NAME.fullmatch(tag):
            reader.fail("tags", tag, "words of lower-case letters, digits, '.', '_' and '-'")
    width = reader.positive("width")
    entries = reader.take("modalities", dict)
    if not entries:
        reader.fail("modalities", entries, "at least one of s2, s1")
    surroundings = _surroundings(reader, source) if "surroundings" in reader.left else None
    aux = surroundings is not None
    modalities = {key: _modality(value, source, key, width, aux) for key, value in entries.items()}
    card = Card(
        name=name,
        title=reader.take("title", str),
        licence=reader.take("licence", str),
        citation=reader.take("citation", str),
        provenance=provenance,
        date_origin=date_origin,
        stride=stride,
        halo=halo,
        queries=reader.positive("queries"),
        width=width,
        modalities=modalities,
        tags=tuple(tags),
        surroundings=surroundings,
        folder=folder,
    )
    reader.finish()
    return card


def _modality(content: Any, source: str, key: str, width: int, aux: bool) -> Modality:
    if key not in SENSORS or key == "scl":
        raise ModelError(f"{source}: modality '{key}' is not one of s2, s1")
    prefix = f"modalities.{key}."
    reader = _Reader(content, source, prefix)
    found = _statistics(reader)
    angles = tuple(channel for channel in found.channels if channel in ANGLES)
    for channel in found.channels[: len(found.channels) - len(angles)]:
        if not set(channel.split("/")) <= set(SENSORS[key].bands):
            reader.fail("channels", channel, f"bands of {SENSORS[key].title} or ratios of them, then angles")
    if angles and angles != (ANGLES[:-1] if key == "s2" else ANGLES[-1:]):
        reader.fail("channels", list(angles), f"all angles of {SENSORS[key].title} in order, or none")
    if bool(angles) != aux:
        reader.fail("channels", list(found.channels), "with angles where the card has surroundings, else without")
    low, high = reader.numbers("low", width), reader.numbers("high", width)
    if any(a >= b for a, b in zip(low, high, strict=True)):
        reader.fail("low", list(low), "smaller than high in every channel")
    modality = Modality(
        channels=found.channels,
        transform=found.transform,
        med=found.med,
        qmin=found.qmin,
        qmax=found.qmax,
        spatial=_graph(reader, "spatial"),
        temporal=_graph(reader, "temporal"),
        low=low,
        high=high,
        weather=_graph(reader, "weather") if aux else None,
    )
    reader.finish()
    return modality


def _surroundings(parent: _Reader, source: str) -> Surroundings:
    reader = _Reader(parent.take("surroundings", dict), source, "surroundings.")
    parts = []
    for word, known in (("weather", AUX_WEATHER), ("terrain", AUX_TERRAIN)):
        inner = _Reader(reader.take(word, dict), source, f"surroundings.{word}.")
        parts.append(_statistics(inner))
        if parts[-1].channels != known.channels:
            inner.fail("channels", list(parts[-1].channels), f"{', '.join(known.channels)}, in this order")
        if parts[-1].transform != "none":
            inner.fail("transform", parts[-1].transform, "none")
        inner.finish()
    weather, terrain = parts
    surroundings = Surroundings(weather, terrain, _graph(reader, "graph"))
    reader.finish()
    return surroundings


def _statistics(reader: _Reader) -> Statistics:
    channels = tuple(reader.take("channels", list))
    for channel in channels:
        if not isinstance(channel, str):
            reader.fail("channels", channel, "text")
    transform = reader.take("transform", str)
    if transform not in TRANSFORMS:
        reader.fail("transform", transform, " or ".join(TRANSFORMS))
    qmin, qmax = reader.numbers("qmin", len(channels)), reader.numbers("qmax", len(channels))
    if any(low >= high for low, high in zip(qmin, qmax, strict=True)):
        reader.fail("qmin", list(qmin), "smaller than qmax in every channel")
    return Statistics(channels, transform, reader.numbers("med", len(channels)), qmin, qmax)


def _graph(parent: _Reader, role: str) -> Graph:
    reader = _Reader(parent.take(role, dict), parent.source, f"{parent.prefix}{role}.")
    file = reader.take("file", str)
    # A card comes from elsewhere: a graph must lie in the card's own folder.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*\.onnx", file):
        reader.fail("file", file, "the plain name of an .onnx file beside the card")
    sha256 = reader.take("sha256", str)
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        reader.fail("sha256", sha256, "64 hex digits")
    reader.finish()
    return Graph(file, sha256)


class _Reader:
    """Takes typed fields out of one JSON object and complains about what is missing, wrong or left."""

    def __init__(self, content: Any, source: str, prefix: str) -> None:
        self.source, self.prefix = source, prefix
        if not isinstance(content, dict):
            raise ModelError(f"{source}: {prefix.rstrip('.') or 'the card'} is {content!r:.60}, not an object")
        self.left = dict(content)

    def fail(self, key: str, value: Any, wanted: str) -> None:
        raise ModelError(f"{self.source}: {self.prefix}{key} is {value!r:.60}, must be {wanted}")

    def take(self, key: str, kind: type) -> Any:
        if key not in self.left:
            raise ModelError(f"{self.source}: {self.prefix}{key} is missing")
        value = self.left.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(key, value, {str: "text", int: "a whole number", dict: "an object", list: "a list"}[kind])
        return value

    def positive(self, key: str) -> int:
        value: int = self.take(key, int)
        if not 0 < value < 1 << 16:
            self.fail(key, value, "between 1 and 65535")
        return value

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        values = self.take(key, list)
        # Beyond float32 there is no statistic, and no whole number too long for a float.
        good = all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < 1e30 for v in values)
        if len(values) != count or not good:
            self.fail(key, values, f"a list of {count} finite numbers")
        return tuple(float(value) for value in values)

    def finish(self) -> None:
        if self.left:
            raise ModelError(f"{self.source}: {self.prefix}{next(iter(self.left))} is not a field this version knows")
