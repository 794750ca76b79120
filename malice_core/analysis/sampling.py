"""Some pixels of an embedding: drawn for a fit, or those asked for.

Pixels are drawn by random numbers that depend on their place and the seed only: those with the smallest are taken, tile
by tile in an order that does likewise. So a sample is the same whatever memory and threads, and of a large raster only
some tiles are read, at least :data:`TILES` of them with :data:`OVER` times the pixels wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malice_core.analysis.embedding import Embedding, Floats, Pixels
from malice_core.analysis.windows import STRIP, over, parts
from malice_core.errors import InputError
from malice_core.grid import Window

#: A sample comes from at least so many tiles of 128 x 128 pixels, and is drawn from so many times its size.
TILES, OVER = 256, 4
Indices = NDArray[np.int64]
Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class Sample:
    """Pixels with data, in a random order.

    Attributes:
        values: (pixels, features).
        rows, cols: (pixels,) where they are.
        exhaustive: True where these are all pixels with data.
    """

    values: Floats
    rows: Indices
    cols: Indices
    exhaustive: bool


def bytes_of(embedding: Embedding, count: int) -> int:
    """Memory that drawing a sample takes."""
    count = min(count, embedding.area.pixels)
    return 3 * count * (4 * embedding.kind.features + 16)


def draw(
    embedding: Embedding,
    count: int,
    seed: int,
    height: int,
    threads: int,
    check: Callable[[], None],
    advance: Callable[[int], None] = lambda pixels: None,
) -> Sample:
    """At most ``count`` pixels with data, all of them where there are no more.

    Args:
        seed: another one draws other pixels.
        height: of the windows, as :func:`malice_core.analysis.windows.plan` gives it.
        threads: that read and work.
        check: raises when the run was cancelled.
        advance: told how many pixels were looked at.

    Raises:
        InputError: if no pixel has data, or the file cannot be read.
    """
    tiles = embedding.area.tiles(STRIP)
    order = np.argsort(keys(np.arange(len(tiles)), seed + 1), kind="stable")
    width = embedding.area.width
    # Pixels beyond this number cannot be among the smallest any more.
    limit = np.uint64(np.iinfo(np.uint64).max)
    taken: list[tuple[Keys, Indices, Floats]] = []
    held = found = looked = 0

    def work(cell: Window, pixels: Pixels) -> tuple[Keys, Indices, Floats, int]:
        there = np.flatnonzero(pixels.there)
        rows, cols = np.divmod(there, cell.width)
        places = (rows + cell.row) * width + cols + cell.col
        numbers = keys(places, seed)
        good = numbers <= limit
        return numbers[good], places[good], np.take(pixels.values, there[good], axis=1).T, len(places)

    def given() -> Iterator[Window]:
        for number in order:
            yield from parts(tiles[number], min(height, STRIP))

    for window, results in over([embedding], given(), work, threads, check):
        for _, (numbers, places, values, seen) in results:
            taken.append((numbers, places, values))
            held += len(numbers)
            found += seen
        advance(window.pixels)
        if held > 2 * count:
            taken = [_smallest(taken, count)]
            held, limit = count, taken[0][0][-1]
        ended = window.end_row == min(window.row // STRIP * STRIP + STRIP, embedding.area.height)
        looked += ended
        if ended and looked >= TILES and found >= OVER * count:
            break
    if not found:
        raise InputError(f"{embedding.path} has no pixel with data")
    _, places, values = _smallest(taken, count)
    return Sample(values, places // width, places % width, found <= count and looked == len(tiles))


def _smallest(taken: list[tuple[Keys, Indices, Floats]], count: int) -> tuple[Keys, Indices, Floats]:
    """Those of the smallest numbers, ascending."""
    numbers, places = (np.concatenate([part[index] for part in taken]) for index in (0, 1))
    order = np.argsort(numbers, kind="stable")[:count]
    values = np.concatenate([part[2] for part in taken])
    return numbers[order], places[order], values[order]


def keys(places: NDArray[np.integer], seed: int) -> Keys:
    """Random numbers that belong to places: of each another one, no two alike (SplitMix64; Steele et al. 2014, Fast
    splittable pseudorandom number generators, doi 10.1145/2660193.2660195)."""
    with np.errstate(over="ignore"):
        z = places.astype(np.uint64) + np.uint64((seed * 0xD1B54A32D192ED03 + 1) % 2**64)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def tiles_of(
    embedding: Embedding, rows: NDArray[np.integer], cols: NDArray[np.integer]
) -> list[tuple[Window, Indices]]:
    """The tiles of 128 x 128 pixels that hold some of the pixels, in order, and which these are; those outside of the
    raster are in none."""
    height, width = embedding.place.shape
    inside = np.flatnonzero((rows >= 0) & (rows < height) & (cols >= 0) & (cols < width))
    # By one sorting.
    numbers = rows[inside] // STRIP * -(-width // STRIP) + cols[inside] // STRIP
    order = np.argsort(numbers, kind="stable")
    present, starts = np.unique(numbers[order], return_index=True)
    tiles = embedding.area.tiles(STRIP)
    return [
        (tiles[number], members)
        for number, members in zip(present.tolist(), np.split(inside[order], starts)[1:], strict=True)
    ]


def gather(
    embedding: Embedding,
    rows: NDArray[np.integer],
    cols: NDArray[np.integer],
    out: Floats,
    height: int,
    threads: int,
    check: Callable[[], None],
    advance: Callable[[int], None] = lambda pixels: None,
) -> None:
    """Numbers at some pixels; only tiles that hold some of them are read.

    Args:
        rows, cols: (n,) pixels; they may be outside the raster.
        out: (n, features), filled in: NaN where there is no data.
        height: of the windows, as :func:`malice_core.analysis.windows.plan` gives it.
        threads: that read and work.
        check: raises when the run was cancelled.
        advance: told how many pixels were looked at.
    """
    out[...] = np.nan
    touched = tiles_of(embedding, rows, cols)
    members = {(tile.row, tile.col): found for tile, found in touched}

    def work(cell: Window, pixels: Pixels) -> None:
        inside = members[cell.row // STRIP * STRIP, cell.col // STRIP * STRIP]
        row, col = rows[inside] - cell.row, cols[inside] - cell.col
        good = (row >= 0) & (row < cell.height)
        out[inside[good]] = np.take(pixels.values, row[good] * cell.width + col[good], axis=1).T

    cut = [part for tile, _ in touched for part in parts(tile, min(height, STRIP))]
    for window, _ in over([embedding], cut, work, threads, check):
        advance(window.pixels)
