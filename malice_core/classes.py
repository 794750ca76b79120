"""From embeddings to classes: the product of a run with a classifier, see ``classifier.py``.

The head runs on the pixels of a block while they are in memory, so that no embedding is ever written. Every pixel is
classified alone: what holds for embeddings (no seams, whatever the block) holds for classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from malice_core.cards import Card
from malice_core.classifier import HEAD, Classifier
from malice_core.encoder import CHUNK
from malice_core.errors import InputError, ModelError
from malice_core.outputs import Kinds, Numbers
from malice_core.product import Raster
from malice_core.runtime import Backend, Session
from malice_core.series import Series, compared

if TYPE_CHECKING:
    from malice_core.job import Job
    from malice_core.stack import Stack

#: Of a raster of probabilities, which are whole percents.
NO_PERCENT = 255


@dataclass(frozen=True)
class ClassLayout:
    """A raster of classes, and one of probabilities where it is asked for; an ``outputs.Product``.

    Attributes:
        classifier: what makes classes of embeddings.
        probabilities: the raster of probabilities; None: none.
    """

    classifier: Classifier
    probabilities: Path | None = None

    @property
    def card(self) -> Card:
        """The model whose embeddings are classified."""
        return self.classifier.card

    def require(self, job: Job) -> None:
        """Raises:
        InputError: if the images are not of the sensors the classifier was trained on.
        """
        for sensor in ("s2", "s1"):
            wanted, given = sensor in self.classifier.sensors, bool(getattr(job, sensor))
            if wanted != given:
                names = " and ".join(name.upper() for name in self.classifier.sensors)
                cure = f"give --{sensor} too" if wanted else f"drop --{sensor}"
                raise InputError(f"the classifier in {self.classifier.folder} was trained on {names}: {cure}")

    def warn(self, job: Job, stacks: Mapping[str, Stack], warnings: list[str]) -> None:
        """Adds a warning if the images are notably unlike those of training."""
        given = {sensor: Series.of(stack, job) for sensor, stack in stacks.items()}
        if (line := compared(given, self.classifier.series)) is not None:
            warnings.append(line)

    @property
    def sensors(self) -> tuple[str, ...]:
        return self.classifier.sensors

    @property
    def queries(self) -> tuple[int, ...]:
        return tuple(range(self.card.queries))

    @property
    def dtype(self) -> str:
        return "uint8"

    @property
    def bands(self) -> int:
        return 1 + (len(self.classifier.classes) if self.probabilities else 0)

    @property
    def storage(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    @property
    def block_bytes(self) -> int:
        # Embeddings of all sensors but the last one wait for it, with how often pixels were observed.
        return 2 * len(self.sensors) + (len(self.sensors) - 1) * self.card.queries * self.card.width * 4

    @property
    def kinds(self) -> Kinds:
        classes, byte = len(self.classifier.classes), np.dtype(np.uint8)
        found: Kinds = {"codes": (1, byte), "counts": (len(self.sensors), np.dtype(np.uint16))}
        return {**found, "probabilities": (classes, byte)} if self.probabilities else found

    @property
    def identity(self) -> list[Any]:
        return ["classes", self.classifier.identity, self.probabilities is not None]

    def beside(self, output: Path) -> dict[str, Path]:
        return {"--probabilities": self.probabilities} if self.probabilities else {}

    def opened(self, backend: Backend) -> Callable[[int, Numbers], ClassCodes]:
        session = backend.exact.open(self.classifier.graph, {"embedding": (CHUNK, self.classifier.features)})
        return lambda pixels, into: ClassCodes(self, session, pixels, into)

    def rasters(self, output: Path, counts: Path | None, tags: Mapping[str, str]) -> list[Raster]:
        result = []
        if counts is not None:
            result.append(Raster("counts", counts, "uint16", [f"{s.upper()}_dates" for s in self.sensors], None, tags))
        if self.probabilities is not None:
            names = [one.name for one in self.classifier.classes]
            result.append(Raster("probabilities", self.probabilities, "uint8", names, NO_PERCENT, tags))
        colours = {one.code: (*one.rgb, 255) for one in self.classifier.classes}
        colours[self.classifier.nodata] = (0, 0, 0, 0)
        result.append(Raster("codes", output, "uint8", ["class"], self.classifier.nodata, tags, colours=colours))
        return result

    def tags(self, output: Path) -> dict[str, str]:
        found = {
            "MALICE_CLASSES": json.dumps(
                {one.code: {"name": one.name, "colour": one.colour} for one in self.classifier.classes},
                ensure_ascii=False,
            ),
            "MALICE_CLASSIFIER": self.classifier.identity,
        }
        if self.probabilities is not None:
            found["MALICE_PROBABILITIES"] = f"{self.probabilities.name}: whole percents, a band a class"
        return found


class ClassCodes:
    """The classes of one block, made of its embeddings as they come.

    Args:
        layout: what is wanted.
        session: the head, for ``CHUNK`` pixels at once.
        pixels: of the block.
        into: takes ``codes`` (1, pixels), ``counts`` (modalities, pixels), and ``probabilities`` (classes, pixels),
            percents.
    """

    def __init__(self, layout: ClassLayout, session: Session, pixels: int, into: Numbers) -> None:
        classifier, sensors = layout.classifier, len(layout.sensors)
        self._layout, self._session, self._into = layout, session, into
        self._width = classifier.features // sensors
        self._waiting = np.empty((pixels, (sensors - 1) * self._width), np.float32)
        self._codes = np.array([one.code for one in classifier.classes], np.uint8)
        self._counts = np.empty((sensors, pixels), np.uint16)

    def put(self, modality: int, start: int, values: NDArray[np.float32], counts: NDArray[np.uint16]) -> None:
        """As ``BlockCodes.put``, for at most ``CHUNK`` pixels; classes appear with the last modality. A pixel without
        any observation of one of them is nodata."""
        part = slice(start, start + counts.size)
        self._counts[modality, part] = counts
        self._into.put("counts", modality, start, counts[None])
        if modality < len(self._layout.sensors) - 1:
            self._waiting[part, modality * self._width : (modality + 1) * self._width] = values.T
            return
        # The graph has a fixed number of pixels: what is missing of them is zeros.
        feed = np.zeros((CHUNK, self._layout.classifier.features), np.float32)
        feed[: counts.size, : self._waiting.shape[1]] = self._waiting[part]
        feed[: counts.size, self._waiting.shape[1] :] = values.T
        logits = np.array(self._session.run({"embedding": feed}))[: counts.size]
        missing = (self._counts[:, part] == 0).any(axis=0)
        # What a graph says of its output need not be so, and a weight that is no number makes any class the largest.
        if logits.shape != (counts.size, len(self._codes)) or not np.isfinite(logits[~missing]).all():
            raise ModelError(
                f"{self._layout.classifier.folder / HEAD} does not give {len(self._codes)} finite numbers a pixel: it "
                "is damaged or crafted, train it again"
            )
        if self._layout.probabilities is not None:
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            percents = np.rint(100 * powers / powers.sum(axis=1, keepdims=True)).T
            self._into.put("probabilities", 0, start, np.where(missing, NO_PERCENT, percents))
        codes = np.where(missing, self._layout.classifier.nodata, self._codes[logits.argmax(axis=1)])
        self._into.put("codes", 0, start, codes[None])
