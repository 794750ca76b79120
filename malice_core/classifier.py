"""A trained classifier on disk: an encoder, a head that makes classes of its embeddings, and the classes.

A folder that ``malice_core.finetune`` writes, and people exchange:

    classifier.json        sensors, classes with names and colours, nodata, dates of training, where it comes from
    head.onnx              embedding (P, sensors·queries·width) -> logits (P, classes)
    encoder/               model.json and the graphs, as of any model

Nothing in it is a pickle, and every field and graph is checked when it is read; torch is not needed.
"""

from __future__ import annotations

import colorsys
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx

from malice_core import cards, safety
from malice_core.cards import Card
from malice_core.errors import ModelError
from malice_core.series import Series

FILE_NAME, HEAD, ENCODER, SCHEMA = "classifier.json", "head.onnx", "encoder", 1
#: Below a run's folder.
FOLDER = "classifier"
#: Values of a byte but one, which is nodata.
MAX_CLASSES = 255
MAX_HEAD = 64 << 20


@dataclass(frozen=True)
class Class:
    """One class: its value in rasters (0 to 255), name, and colour ``#rrggbb``."""

    code: int
    name: str
    colour: str

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green, blue, 0 to 255."""
        return int(self.colour[1:3], 16), int(self.colour[3:5], 16), int(self.colour[5:7], 16)


@dataclass(frozen=True)
class Classifier:
    """A classifier, read and checked.

    Attributes:
        card: the model of its encoder.
        sensors: in the order in which their embeddings stand side by side.
        classes: in the order of the head's logits.
        nodata: the value of pixels without a class.
        graph: bytes of the head.
        provenance: free text values, such as scores.
        folder: where it was read from.
        series: the images it was trained on, by sensor; empty where nobody wrote them down.
    """

    card: Card
    sensors: tuple[str, ...]
    classes: tuple[Class, ...]
    nodata: int
    graph: bytes
    provenance: dict[str, str]
    folder: Path
    series: Mapping[str, Series]

    @property
    def features(self) -> int:
        """Numbers a pixel that the head takes."""
        return len(self.sensors) * self.card.queries * self.card.width

    @property
    def identity(self) -> str:
        """16 hex digits that change whenever encoder, head or classes do."""
        content = [
            self.card.identity,
            hashlib.sha256(self.graph).hexdigest(),
            self.sensors,
            [asdict(one) for one in self.classes],
            self.nodata,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def colour(index: int) -> str:
    """A colour for the class of an index, different from those of its neighbours."""
    # Steps of the golden ratio never come back to a hue; lightness alternates besides.
    red, green, blue = colorsys.hls_to_rgb(index * 0.61803398875 % 1, (0.45, 0.62, 0.34)[index % 3], 0.65)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def one_line(name: str) -> str:
    """A class' name as messages, tags and band names can hold it: without line breaks and other control characters,
    and without halves of characters, which no file can be written with."""
    whole = name.encode("utf-8", "replace").decode()
    return " ".join("".join(" " if unicodedata.category(one) == "Cc" else one for one in whole).split())


def find(path: Path) -> Path:
    """The folder of the classifier that a run folder, or that folder itself, stands for.

    Raises:
        ModelError: if there is none.
    """
    for folder in (path, path / FOLDER):
        if (folder / FILE_NAME).is_file():
            return folder
    raise ModelError(
        f"{path} holds no classifier: give the folder of a run of malice_core.finetune that came to its end"
    )


def write(
    folder: Path,
    card: Card,
    sensors: Sequence[str],
    classes: Sequence[Class],
    nodata: int,
    graph: bytes,
    provenance: Mapping[str, str],
    series: Mapping[str, Series],
) -> None:
    """Writes head and description beside an encoder that is there.

    Args:
        folder: holds ``encoder/`` with the files of ``card``.
        graph: bytes of the head.
        series: the images of training by sensor.
    """
    (folder / HEAD).write_bytes(graph)
    content = {
        "schema": SCHEMA,
        "encoder": card.identity,
        "head": hashlib.sha256(graph).hexdigest(),
        "sensors": list(sensors),
        "nodata": nodata,
        "classes": [asdict(one) for one in classes],
        "provenance": dict(provenance),
        "series": {sensor: one.plain() for sensor, one in series.items()},
    }
    (folder / FILE_NAME).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> Classifier:
    """Reads and checks the classifier of a run folder, or of its own folder.

    Raises:
        ModelError: naming file, field and value that are wrong.
    """
    folder = find(path)
    source = folder / FILE_NAME
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot read the classifier {source}: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ModelError(f"{source} is no classifier of schema {SCHEMA}, the one this version reads")
    card = cards.read(folder / ENCODER)
    if content.get("encoder") != card.identity:
        raise ModelError(f"{source}: {ENCODER}/ holds another encoder than the head was trained with: train it again")
    sensors = content.get("sensors")
    if not isinstance(sensors, list) or not sensors or sensors != [s for s in ("s2", "s1") if s in sensors]:
        raise ModelError(f"{source}: sensors is {sensors!r:.60}, must be some of s2, s1, in this order")
    for sensor in sensors:
        if sensor not in card.modalities:
            raise ModelError(f"{source}: the encoder has no sensor {sensor}")
    nodata, classes = content.get("nodata"), _classes(content.get("classes"), source)
    if not isinstance(nodata, int) or not _is_byte(nodata) or nodata in {one.code for one in classes}:
        raise ModelError(f"{source}: nodata is {nodata!r:.60}, must be 0 to 255 and no class")
    provenance = content.get("provenance")
    if not isinstance(provenance, dict) or not all(isinstance(value, str) for value in provenance.values()):
        raise ModelError(f"{source}: provenance is {provenance!r:.60}, must be a table of texts")
    series = _series(content.get("series", {}), source)
    graph = _graph(folder / HEAD, content.get("head"))
    found = Classifier(card, tuple(sensors), classes, nodata, graph, provenance, folder, series)
    _require_shapes(found)
    return found


def _classes(given: Any, source: Path) -> tuple[Class, ...]:
    result = []
    for one in given if isinstance(given, list) else ():
        fields = one if isinstance(one, dict) else {}
        code, name, tone = (fields.get(key) for key in ("code", "name", "colour"))
        if not (
            isinstance(code, int)
            and _is_byte(code)
            and isinstance(name, str)
            and re.fullmatch(r"#[0-9a-f]{6}", f"{tone}")
        ):
            raise ModelError(f"{source}: class {one!r:.80} is not code (0 to 255), name and colour (#rrggbb)")
        result.append(Class(code, one_line(name), f"{tone}"))
    if len({one.code for one in result}) != len(result) or len(result) < 2:
        raise ModelError(f"{source}: classes must be two or more, each with a code of its own")
    return tuple(result)


def _series(given: Any, source: Path) -> dict[str, Series]:
    try:
        return {str(sensor): Series.read(one) for sensor, one in dict(given).items()}
    except (TypeError, ValueError) as error:
        raise ModelError(f"{source}: series of images of training cannot be read: {error}") from error


def _is_byte(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 255


def _graph(path: Path, digest: Any) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_HEAD + 1)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; train the classifier again") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise ModelError(f"{path} is damaged: its sha256 is not the one in {FILE_NAME}; train the classifier again")
    safety.sound(safety.parsed(content, str(path)), str(path))
    return content


def _require_shapes(given: Classifier) -> None:
    """Raises ModelError if the head does not take these embeddings or does not give these classes."""
    graph = onnx.ModelProto.FromString(given.graph).graph
    shapes = [
        (value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:])
        for value in (*graph.input, *graph.output)
    ]
    wanted = [("embedding", [given.features]), ("logits", [len(given.classes)])]
    if shapes != wanted:
        raise ModelError(f"{given.folder / HEAD} has inputs and outputs {shapes}, must have {wanted}: train it again")
