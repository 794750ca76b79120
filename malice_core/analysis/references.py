"""Places that are looked for, as embeddings: a point's pixel, a polygon's mean; and how alike pixels are to them.

A polygon has the pixels whose centre is inside, and its reference is the mean of their embeddings, as one pixel of a
field need not be like the field. Sums are in float64, cell by cell, so that they do not depend on the memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import rasterio.features
from numpy.typing import NDArray

from malice_core.analysis.embedding import Floats, Pixels
from malice_core.evaluation.rasters import Place
from malice_core.grid import Window
from malice_core.vectors import Layer, Point, Polygon

Doubles = NDArray[np.float64]
#: References that pixels are compared with at once.
CHUNK = 64
#: rasterio switches warnings of its own off while it draws, for all threads: two of them get in each other's way.
_rasterising = threading.Lock()


@dataclass(frozen=True)
class Shape:
    """One reference: a point or a polygon in the raster's CRS, and its group (a number from 0).

    Attributes:
        window: pixels that it may touch, some of them outside the raster; one of a point.
    """

    shape: Point | Polygon
    group: int
    window: Window

    @property
    def is_point(self) -> bool:
        return isinstance(self.shape, tuple)


def shapes_of(layer: Layer, groups: Sequence[int | None], place: Place) -> list[Shape]:
    """The references of a file, each point and polygon one; features without a group are none.

    Args:
        layer: in the raster's CRS.
        groups: of each feature.
        place: the raster's grid.
    """
    found = []
    for one, group in zip(layer.features, groups, strict=True):
        if group is None:
            continue
        found += [Shape(point, group, _window([point], place)) for point in one.points]
        found += [Shape(polygon, group, _window(polygon[0], place)) for polygon in one.polygons]
    return found


def _window(points: Sequence[Point], place: Place) -> Window:
    """The pixels that hold some points, and those between; clipped near the raster, so that numbers stay small."""
    rows = [(y - place.top) / place.pixel[1] for _, y in points]
    cols = [(x - place.left) / place.pixel[0] for x, _ in points]
    (height, width) = place.shape
    top, bottom = (int(np.floor(np.clip(value, -1, height))) for value in (min(rows), max(rows)))
    left, right = (int(np.floor(np.clip(value, -1, width))) for value in (min(cols), max(cols)))
    return Window.between(top, left, bottom + 1, right + 1)


def inside(shape: Shape, cell: Window, place: Place) -> NDArray[np.bool_]:
    """(pixels of the cell,) True for the pixels of a reference."""
    if shape.is_point:
        mask = np.zeros(cell.shape, np.bool_)
        part = shape.window.intersect(cell)
        if part.pixels:
            mask[part.slices_in(cell)] = True
        return mask.ravel()
    polygon = {"type": "Polygon", "coordinates": shape.shape}
    with _rasterising:
        mask = rasterio.features.geometry_mask([polygon], cell.shape, place.part(cell).transform, invert=True)
    return np.asarray(mask, np.bool_).ravel()


@dataclass
class Means:
    """Sums of the pixels of references.

    Attributes:
        sums: (references, features)
        counts: (references,)
    """

    sums: Doubles
    counts: NDArray[np.int64]

    def add(self, index: int, values: Floats) -> None:
        """Takes (features, pixels) of a reference in."""
        self.sums[index] += values.astype(np.float64).sum(axis=1)
        self.counts[index] += values.shape[1]


def worker(shapes: Sequence[Shape], place: Place) -> Callable[[Window, Pixels], list[tuple[int, Floats]]]:
    """What gives, of a cell, the pixels with data of each reference that has some: its index and (features, pixels)."""
    rows = np.array([(one.window.row, one.window.end_row) for one in shapes])
    cols = np.array([(one.window.col, one.window.end_col) for one in shapes])

    def work(cell: Window, pixels: Pixels) -> list[tuple[int, Floats]]:
        near = (rows[:, 0] < cell.end_row) & (rows[:, 1] > cell.row) & (cols[:, 0] < cell.end_col)
        found = []
        for index in np.flatnonzero(near & (cols[:, 1] > cell.col)).tolist():
            good = inside(shapes[index], cell, place) & pixels.there
            if good.any():
                found.append((index, pixels.at(good)))
        return found

    return work


def touched(shapes: Sequence[Shape], tiles: Sequence[Window], area: Window, side: int) -> list[Window]:
    """The tiles that a reference may have pixels in.

    Args:
        tiles: of ``side`` pixels, row by row, that cover ``area``.
    """
    across = -(-area.width // side)
    numbers: set[int] = set()
    for one in shapes:
        part = one.window.intersect(area)
        if part.pixels:
            for row in range(part.row // side, (part.end_row - 1) // side + 1):
                first, last = part.col // side, (part.end_col - 1) // side
                numbers.update(range(row * across + first, row * across + last + 1))
    return [tiles[number] for number in sorted(numbers)]


class Similarity:
    """How alike pixels are to references, by group: the most alike of a group counts.

    Args:
        vectors: (references, features)
        groups: (references,) from 0 on, each with a reference.
        measure: ``cosine``: -1 to 1; ``euclidean``: 1 / (1 + distance), 0 to 1.
    """

    def __init__(self, vectors: Doubles, groups: NDArray[np.int64], measure: str) -> None:
        self._cosine = measure == "cosine"
        vectors = _units(vectors.T).T if self._cosine else vectors
        self._groups = [vectors[groups == group] for group in range(int(groups.max()) + 1)]

    @property
    def count(self) -> int:
        """Of groups."""
        return len(self._groups)

    @property
    def bytes(self) -> int:
        """Memory that the references take."""
        return sum(vectors.nbytes for vectors in self._groups)

    def of(self, values: Floats) -> Floats:
        """(groups, pixels) of (features, pixels)."""
        given = values.astype(np.float64)
        if self._cosine:
            given = _units(given)
        best = np.full((len(self._groups), given.shape[1]), -np.inf)
        for row, vectors in zip(best, self._groups, strict=True):
            for begin in range(0, len(vectors), CHUNK):
                np.maximum(row, self._compared(vectors[begin : begin + CHUNK], given).max(axis=0), out=row)
        return best.astype(np.float32)

    def _compared(self, vectors: Doubles, given: Doubles) -> Doubles:
        """(references, pixels)"""
        products = vectors @ given
        if self._cosine:
            return products.clip(-1, 1)
        squares = (vectors**2).sum(axis=1)[:, None] + (given**2).sum(axis=0) - 2 * products
        found: Doubles = 1 / (1 + np.sqrt(squares.clip(0)))
        return found


def _units(vectors: Doubles) -> Doubles:
    """(features, n) scaled to length 1; those of length 0 stay, and are like nothing."""
    lengths = np.sqrt((vectors**2).sum(axis=0))
    return vectors / np.where(lengths > 0, lengths, 1)
