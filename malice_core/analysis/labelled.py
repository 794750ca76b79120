"""Pixels of labelled points and polygons: which ones, and of which place and label each is.

A *place* is a point, or one polygon (a file may hold all fields of a class as one feature). A polygon has the pixels
whose centre is inside, a point the pixel it lies in. Of places with many pixels some are drawn, by numbers that depend
on the pixel and the seed only, so that the choice is the same whatever the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio.features
from numpy.typing import NDArray
from rasterio.enums import MergeAlg
from rasterio.transform import Affine

from malice_core.analysis.sampling import keys
from malice_core.errors import InputError
from malice_core.evaluation.rasters import Place
from malice_core.vectors import Layer

Indices = NDArray[np.int64]
#: Pixels that are looked at at once.
STRIP_PIXELS = 1 << 20
#: Pixels a place, and a class, that are drawn unless another number is given; of numbers to predict, in all.
PER_PLACE, PER_CLASS, IN_ALL = 50, 1000, 10_000


@dataclass(frozen=True)
class Pixels:
    """Labelled pixels, row by row.

    Attributes:
        rows, cols: (n,) where they are.
        place: (n,) number of the place each is of; of several the first.
        label: (n,) number of its label.
        centres: (places, 2) x and y of the middle of each place.
        notes: what a user should know; one line each.
    """

    rows: Indices
    cols: Indices
    place: Indices
    label: Indices
    centres: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def kept(self, good: NDArray[np.bool_], *notes: str) -> Pixels:
        """Those of a mask."""
        parts = (self.rows[good], self.cols[good], self.place[good], self.label[good])
        return Pixels(*parts, self.centres, self.notes + notes)


@dataclass(frozen=True)
class Cap:
    """How many pixels are taken at most.

    Attributes:
        place: of each place.
        group: of each label, or in all.
        by_label: of each label.
    """

    place: int = PER_PLACE
    group: int = PER_CLASS
    by_label: bool = True


def find(
    layer: Layer,
    labels: Sequence[int | None],
    grid: Place,
    cap: Cap,
    seed: int,
    check: Callable[[], None] = lambda: None,
) -> Pixels:
    """The labelled pixels of a grid.

    Args:
        layer: in the grid's CRS.
        labels: number of each feature's label, from 0; None where it has none.
        grid: of the raster.
        cap: how many pixels are drawn.
        seed: another one draws others.
        check: raises when the run was cancelled.

    Raises:
        InputError: if no pixel is labelled.
    """
    shapes: list[dict[str, Any]] = []
    numbers: list[int] = []
    for one, label in zip(layer.features, labels, strict=True):
        if label is None:
            continue
        shapes += [{"type": "Polygon", "coordinates": polygon} for polygon in one.polygons]
        shapes += [{"type": "Point", "coordinates": point} for point in one.points]
        numbers += [label] * (len(one.polygons) + len(one.points))
    if not shapes:
        raise InputError(f"{layer.path} has no point or polygon with a value: is this the field with the labels?")
    bounds = np.array([rasterio.features.bounds(shape) for shape in shapes])
    centres = (bounds[:, :2] + bounds[:, 2:]) / 2
    label_of = np.array(numbers, np.int64)
    found = _Drawn(cap, seed, grid.shape[1], label_of)
    (height, width), pixel = grid.shape, grid.pixel
    # First and last row and column that a place may touch, one more on each side: centres decide.
    left = np.floor((bounds[:, 0] - grid.left) / pixel[0]).astype(np.int64)
    right = np.floor((bounds[:, 2] - grid.left) / pixel[0]).astype(np.int64) + 1
    top = np.floor((bounds[:, 3] - grid.top) / pixel[1]).astype(np.int64)
    bottom = np.floor((bounds[:, 1] - grid.top) / pixel[1]).astype(np.int64) + 1
    step = max(1, STRIP_PIXELS // width)
    for row in range(0, height, step):
        check()
        end = min(row + step, height)
        here = np.flatnonzero((top < end) & (bottom > row) & (left < width) & (right > 0))
        if not len(here):
            continue
        first, last = max(0, int(left[here].min())), min(width, int(right[here].max()))
        transform = Affine(pixel[0], 0, grid.left + first * pixel[0], 0, pixel[1], grid.top + row * pixel[1])
        found.burn(shapes, here, (end - row, last - first), transform, row, first)
    return found.result(centres, layer)


class _Drawn:
    """Pixels drawn so far."""

    def __init__(self, cap: Cap, seed: int, width: int, label_of: Indices) -> None:
        self._cap, self._seed, self._width, self._label_of = cap, seed, width, label_of
        self._parts: list[tuple[NDArray[np.uint64], Indices, Indices]] = []
        self._doubtful, self._touched = 0, np.zeros(len(label_of), np.bool_)

    def burn(
        self,
        shapes: Sequence[dict[str, Any]],
        here: Indices,
        shape: tuple[int, int],
        transform: Affine,
        row: int,
        col: int,
    ) -> None:
        """Takes the pixels of a window whose first one is ``row``, ``col``."""
        options: dict[str, Any] = {"out_shape": shape, "transform": transform}
        # What is burnt last stays: the first place does.
        pairs = [(shapes[one], int(one) + 1) for one in here[::-1]]
        place = rasterio.features.rasterize(pairs, dtype="int32", fill=0, **options).astype(np.int64) - 1

        def total(power: int) -> NDArray[np.float64]:
            values = [(shapes[one], float(self._label_of[one]) ** power) for one in here]
            return rasterio.features.rasterize(  # type: ignore[no-any-return]
                values, dtype="float64", fill=0, merge_alg=MergeAlg.add, **options
            )

        count = total(0)
        labelled = count > 0
        if (count > 1).any():
            # Numbers are all alike where the mean of their squares is the square of their mean.
            doubtful = count * total(2) != total(1) ** 2
            self._doubtful += int(doubtful.sum())
            labelled &= ~doubtful
        self._touched[np.unique(place[place >= 0])] = True
        rows, cols = np.nonzero(labelled)
        places = (rows + row) * self._width + cols + col
        self._parts.append((keys(places, self._seed), places, place[rows, cols]))
        numbers, places, owners = (np.concatenate([part[i] for part in self._parts]) for i in range(3))
        self._parts = [_smallest(numbers, places, owners, owners, self._cap.place)]

    def result(self, centres: NDArray[np.float64], layer: Layer) -> Pixels:
        if not self._parts:
            raise InputError(f"{layer.path}: no point or polygon lies on the embedding: do they overlap?")
        groups = self._label_of[self._parts[0][2]]
        if not self._cap.by_label:
            groups = np.zeros_like(groups)
        _, places, owners = _smallest(*self._parts[0], groups, self._cap.group)
        order = np.argsort(places, kind="stable")
        places, owners = places[order], owners[order]
        notes = []
        if self._doubtful:
            notes.append(f"{self._doubtful} pixels are of places with different labels: they are left out")
        if lost := int((~self._touched).sum()):
            notes.append(
                f"{lost} of {len(self._touched)} points and polygons have no pixel: they lie off the embedding, under "
                "earlier ones, or hold no pixel's centre"
            )
        if not len(places):
            raise InputError(f"{layer.path} labels no pixel of the embedding: {'; '.join(notes) or 'do they overlap?'}")
        return Pixels(
            places // self._width, places % self._width, owners, self._label_of[owners], centres, tuple(notes)
        )


def _smallest(
    numbers: NDArray[np.uint64], places: Indices, owners: Indices, groups: Indices, count: int
) -> tuple[NDArray[np.uint64], Indices, Indices]:
    """Of each group the ``count`` with the smallest numbers."""
    order = np.lexsort((numbers, groups))
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, np.int64)
    rank = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    kept = order[rank < count]
    return numbers[kept], places[kept], owners[kept]
