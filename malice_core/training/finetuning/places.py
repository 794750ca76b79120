"""Where fine-tuning's images and labels come from: tiles with both, of one's own area or of PASTIS-R."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core.errors import InputError
from malice_core.series import Series
from malice_core.training.batch import View
from malice_core.training.finetuning.labels import IGNORED, Legend

TRAIN, VAL, TEST = 0, 1, 2
SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}
Classes = NDArray[np.int16]


class Places(ABC):
    """Labelled tiles.

    Attributes:
        sensors: ``s2``, ``s1`` or both, in this order.
        legend: the classes.
        halo: pixels by which a tile's images are larger than its labels, on all sides.
        side: of the largest square crop that fits into every tile.
        notes: what a user should know; one line each.
        facts: what ``run.json`` says of the data; ``hash`` identifies it.
        series: dates and how they were chosen, by sensor.
    """

    sensors: tuple[str, ...]
    legend: Legend
    halo: int
    side: int
    notes: list[str]
    facts: dict[str, Any]
    series: dict[str, Series]

    @abstractmethod
    def __len__(self) -> int:
        """Tiles."""

    @abstractmethod
    def name(self, tile: int) -> str:
        """For messages."""

    @abstractmethod
    def target(self, tile: int, split: str) -> Classes:
        """(H, W) index of the class of pixels that belong to a split, -1 elsewhere."""

    @abstractmethod
    def view(self, tile: int, sensor: str) -> View:
        """All dates of a tile with its halo; B is 1."""

    @abstractmethod
    def crop(self, tile: int, sensor: str, rows: slice, cols: slice) -> View:
        """All dates of a part of a tile, without halo; B is 1."""

    def tiles(self, split: str) -> list[int]:
        """Those with a labelled pixel of a split."""
        return [tile for tile in range(len(self)) if (self.target(tile, split) != IGNORED).any()]

    def pixels(self, split: str) -> NDArray[np.int64]:
        """(classes,) labelled pixels of a split by class."""
        counts = np.zeros(len(self.legend.labels), np.int64)
        for tile in range(len(self)):
            target = self.target(tile, split)
            counts += np.bincount(target[target != IGNORED], minlength=len(counts))
        return counts

    def close(self) -> None:
        """Closes files."""
        return


def require_split(places: Places, cure: str) -> None:
    """Raises:
    InputError: if nothing is left to train on or to validate with.
    """
    for split in ("train", "val"):
        if not places.pixels(split).any():
            raise InputError(f"no labelled pixel is left for {split}: {cure}")


def describe(places: Places) -> str:
    """How many pixels of how many classes there are, for people."""
    counts = {split: places.pixels(split) for split in SPLITS}
    sizes = ", ".join(f"{int(found.sum())} {split}" for split, found in counts.items())
    return f"{len(places)} tiles, {len(places.legend.labels)} classes; labelled pixels: {sizes}"


def unscored(places: Places) -> list[str]:
    """A line for each of validation and test about classes that have no pixel in it, if there are any."""
    told = []
    for split, what in (("val", "validation"), ("test", "the test")):
        counts = places.pixels(split)
        if (missing := named(places.legend, counts == 0)) and counts.any():
            told.append(f"classes without a pixel in {what} have no share in its means: {missing}")
    return told


def named(known: Legend, chosen: NDArray[np.bool_]) -> str:
    """Names of the classes that are chosen, ten at most; empty for none."""
    names = [one.name for one, wanted in zip(known.classes, chosen, strict=True) if wanted]
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def left_out(labels: Sequence[int], known: Legend, names: dict[int, str]) -> list[str]:
    """A line about classes that occur in no pixel of training, if there are any."""
    missing = sorted(set(labels) - set(known.labels))
    if not missing:
        return []
    told = ", ".join(names.get(label, f"{label}") for label in missing[:10])
    more = f" and {len(missing) - 10} more" if len(missing) > 10 else ""
    return [f"classes without a pixel to train on are left out, in scores too: {told}{more}"]
