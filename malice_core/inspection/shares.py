"""How much of the run's area each date saw, and how much of that was cloud: counted, or of a large area estimated.

A small area is counted pixel by pixel, as a run does it. Of a larger one only points are looked at, in one band of each
image, in overviews where files have them: a Sentinel-2 tile with 120 dates must not take an hour.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from rasterio.warp import transform as transform_points

from malice_core.grid import Lattice, Window
from malice_core.images import clouds
from malice_core.images.observations import Observation
from malice_core.images.reading import apply, crs_name, read_coarse
from malice_core.images.sources import Source
from malice_core.stack import Stack

T = TypeVar("T")

#: Areas of so many pixels are counted; in larger ones about as many points are looked at.
COUNTED = 512 * 512
#: Pixels read at a time when an area is counted, a side.
SQUARE = 512
#: More threads than that wait for the same disk.
THREADS = 4


@dataclass(frozen=True)
class Sampling:
    """Which pixels of an area are looked at.

    Attributes:
        lattice: the run's grid.
        area: of the run.
        step: every ``step``-th row and column; 1: all.
    """

    lattice: Lattice
    area: Window
    step: int

    @classmethod
    def of(cls, lattice: Lattice, area: Window, exact: bool) -> Sampling:
        """Args:
        exact: all pixels, however many they are.
        """
        step = 1 if exact else math.ceil(math.sqrt(area.pixels / COUNTED))
        return cls(lattice, area, max(1, step))

    def describe(self) -> str:
        """For people: what a share is made of."""
        if self.step == 1:
            return "all pixels of the area"
        rows, cols = self.points()
        return (
            f"{len(rows)} x {len(cols)} points, every {self.step}th pixel of the area in rows and columns, in one band "
            "of each image"
        )

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Global rows and columns that are looked at."""
        area, step = self.area, self.step
        first = min(step // 2, area.height - 1), min(step // 2, area.width - 1)
        return np.arange(area.row + first[0], area.end_row, step), np.arange(area.col + first[1], area.end_col, step)

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y of the centres of these pixels, (h, w), in the lattice's CRS."""
        rows, cols = self.points()
        res = self.lattice.res
        xs, ys = self.lattice.x0 + (cols + 0.5) * res, self.lattice.y0 - (rows + 0.5) * res
        return np.broadcast_to(xs, (len(rows), len(cols))), np.broadcast_to(ys[:, None], (len(rows), len(cols)))

    def valid(self, stack: Stack, index: int) -> float:
        """Percent of the area that an observation saw."""
        if self.step > 1:
            _, seen = self._look(stack, stack.observations[index])
            return 100.0 * float(seen.mean())
        part = self.area.intersect(stack.observations[index].extent)
        tiles = part.tiles(SQUARE) if part.pixels else []
        return 100.0 * sum(int(stack.read(index, tile)[1].sum()) for tile in tiles) / self.area.pixels

    def count(self, scl: Stack, index: int, area: Window, classes: tuple[int, ...]) -> tuple[int, int]:
        """As :func:`clouds.count`, of the points."""
        if self.step == 1:
            return clouds.count(scl, index, area, classes)
        values, seen = self._look(scl, scl.observations[index])
        return int(np.isin(values.astype(np.int16), classes).sum(where=seen)), int(seen.sum())

    def _look(self, stack: Stack, observation: Observation) -> tuple[np.ndarray, np.ndarray]:
        """Values of one band, and observed, (h, w): a point is the first image's that saw it."""
        rows, cols = self.points()
        values, seen = np.zeros((len(rows), len(cols)), np.float32), np.zeros((len(rows), len(cols)), bool)
        for source in observation.sources:
            found, there = self._of_source(stack, source)
            np.copyto(values, found, where=there & ~seen)
            seen |= there
            if seen.all():
                break
        return values, seen

    def _of_source(self, stack: Stack, source: Source) -> tuple[np.ndarray, np.ndarray]:
        # The coarsest bands have the fewest pixels to read.
        layer = source.layers[-1]
        grid = layer.grid
        xs, ys = self.centres()
        if grid.crs != crs_name(self.lattice.crs):
            there = transform_points(self.lattice.crs, grid.crs, xs.ravel(), ys.ravel())
            xs, ys = (np.array(one).reshape(xs.shape) for one in there)
        right, down = apply(~grid.transform, xs, ys)
        inside = (down >= 0) & (down < grid.height) & (right >= 0) & (right < grid.width)
        values = np.zeros(inside.shape, np.float32)
        if not inside.any():
            return values, inside
        rows, cols = down[inside].astype(int), right[inside].astype(int)
        window = Window.between(int(rows.min()), int(cols.min()), int(rows.max()) + 1, int(cols.max()) + 1)
        step = max(1, int(self.step * self.lattice.res / grid.res))
        plane, observed, step = read_coarse(stack.pool, layer.bands[0], grid, window, step)
        at = (rows - window.row) // step, (cols - window.col) // step
        values[inside] = plane[at]
        seen = inside.copy()
        seen[inside] = observed[at]
        return values, seen


def each(
    function: Callable[[int], T], indices: Sequence[int], check: Callable[[], None], tick: Callable[[], None]
) -> dict[int, T]:
    """``function`` of some observations, several at a time.

    Args:
        check: raises when the run was cancelled.
        tick: called once for each.
    """

    def one(index: int) -> T:
        check()
        found = function(index)
        tick()
        return found

    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(indices, pool.map(one, indices), strict=True))
