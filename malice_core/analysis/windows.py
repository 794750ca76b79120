"""How a tool goes over embeddings of any size: windows that fit the memory, made of cells that never change.

What is computed is computed cell by cell, and cells are the same whatever ``--memory`` and ``--threads``: a sum over a
raster adds the same numbers in the same order, and a product of matrices has the same shape. Windows, which are what is
read at once, are whole runs of cells in their one order, so that results do not depend on them, bit for bit.

A strip of 128 rows is gone through column by column, 128 pixels each, which are four cells one below the other: the
tiles of 128 x 128 pixels that embed writes, and twice the chunks of its Zarr stores.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TypeVar

from malice_core.analysis.embedding import Embedding, Pixels, Reader
from malice_core.blocks import environment
from malice_core.errors import InputError
from malice_core.grid import Window

T = TypeVar("T")
#: Rows and columns of a cell, the first multiples of which make up a strip's height.
CELL, STRIP = (32, 128), 128
#: Interpreter and libraries: 100 MB were measured on Linux, with zarr; other systems take more.
PROGRAM_BYTES = 200 << 20
#: Numbers read at once need not be more: larger windows are no faster, and a cancel waits for one.
WINDOW_BYTES = 256 << 20


def plan(
    embeddings: Sequence[Embedding],
    memory: int,
    threads: int,
    *,
    work: int = 0,
    kept: int = 0,
    result: int = 0,
) -> tuple[int, int]:
    """(height, width) of the windows that fit the memory.

    Args:
        embeddings: read side by side, all of one grid.
        memory: bytes to stay under.
        threads: cells that are worked on at once.
        work: bytes a pixel of a cell that the work takes, beside the numbers themselves.
        kept: bytes that are held all the time.
        result: bytes a pixel of what is made of a window.

    Raises:
        InputError: if not even one cell fits.
    """
    rows, cols = embeddings[0].place.shape
    cell = (min(CELL[0], rows), min(CELL[1], cols))
    numbers = 4 * sum(one.kind.features for one in embeddings)
    # Two windows, one being read and one being worked on, with codes that are being decoded.
    codes = max(one.kind.features * (one.itemsize + 1) for one in embeddings)
    # Results are there as cells, and put together.
    pixel = 2 * numbers + codes + 2 * result
    fixed = PROGRAM_BYTES + kept + threads * cell[0] * cell[1] * (numbers + work)
    needed = fixed + pixel * cell[0] * cell[1]
    if needed > memory:
        raise InputError(f"--memory {memory / 1e9:.3g} GB is too little: {needed / 1e9:.2f} GB are needed; give more")
    most = max(cell[0] * cell[1], min((memory - fixed) // pixel, WINDOW_BYTES // numbers))
    height = next((side for side in (STRIP, STRIP // 2, CELL[0]) if min(side, rows) * cell[1] <= most), CELL[0])
    if height < min(STRIP, rows):
        return height, CELL[1]
    across = -(-cols // CELL[1])
    columns = max(1, most // (min(STRIP, rows) * CELL[1]))
    if columns < across:
        return STRIP, columns * CELL[1]
    return STRIP * max(1, most // (STRIP * cols)), across * CELL[1]


def windows(area: Window, sides: tuple[int, int]) -> list[Window]:
    """The windows of an area, in order.

    Args:
        sides: (height, width) as :func:`plan` gives them.
    """
    height, width = sides
    if height >= STRIP:
        return [
            Window(row, col, height, width).intersect(area)
            for row in range(area.row, area.end_row, height)
            for col in range(area.col, area.end_col, width)
        ]
    return [part for tile in area.tiles(STRIP) for part in parts(tile, height)]


def parts(window: Window, height: int) -> list[Window]:
    """A window cut into rows of some height."""
    return [
        Window(row, window.col, height, window.width).intersect(window)
        for row in range(window.row, window.end_row, height)
    ]


def cells(window: Window) -> list[Window]:
    """The cells of a window, in the order of all cells of the raster."""
    return [
        cell
        for strip in parts(window, STRIP)
        for col in range(strip.col, strip.end_col, CELL[1])
        for cell in parts(Window(strip.row, col, strip.height, CELL[1]).intersect(strip), CELL[0])
    ]


def over(
    embeddings: Sequence[Embedding],
    windows: Iterable[Window],
    work: Callable[..., T],
    threads: int,
    check: Callable[[], None],
) -> Iterator[tuple[Window, Iterator[tuple[Window, T]]]]:
    """Works on all cells of some windows, while the next window is read.

    Args:
        embeddings: all of one grid.
        windows: in the order in which they are given back; each a run of whole cells.
        work: from a cell and its :class:`Pixels` in each embedding; called in several threads.
        threads: of these, and that unpack tiles.
        check: raises when the run was cancelled.

    Yields:
        A window, and an iterator over its cells, in order, with what the work gave for each. It is gone through before
        the next window comes, by whom it is given to or here.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(one.reader(threads)) for one in embeddings]
        # Readers are closed when the thread that reads has ended.
        reading = stack.enter_context(_pool(1, "read"))
        working = stack.enter_context(_pool(threads, "work"))
        stack.callback(lambda: working.shutdown(wait=True, cancel_futures=True))

        def results(window: Window, given: list[Pixels]) -> Iterator[tuple[Window, T]]:
            # A few cells ahead, so that what the work gives is not held for a whole window.
            waiting: deque[tuple[Window, Future[T]]] = deque()
            for cell in cells(window):
                waiting.append((cell, working.submit(_work, work, window, cell, given)))
                if len(waiting) > threads + 1:
                    first, future = waiting.popleft()
                    yield first, _settled(future, check)
            for first, future in waiting:
                yield first, _settled(future, check)

        ahead: tuple[Window, Future[list[Pixels]]] | None = None
        for window in itertools.chain(windows, (None,)):
            current, ahead = ahead, None if window is None else (window, reading.submit(_read, readers, window))
            if current is not None:
                found = results(current[0], _settled(current[1], check))
                yield current[0], found
                deque(found, 0)


def _work(work: Callable[..., T], window: Window, cell: Window, given: Sequence[Pixels]) -> T:
    return work(cell, *(one.part(window, cell) for one in given))


def _read(readers: Sequence[Reader], window: Window) -> list[Pixels]:
    return [reader.read(window) for reader in readers]


def _settled(future: Future[T], check: Callable[[], None]) -> T:
    """What a thread gives, while somebody may cancel."""
    while not wait([future], 0.1).done:
        check()
    check()
    return future.result()


def _pool(threads: int, name: str) -> ThreadPoolExecutor:
    # GDAL's settings are those of a thread.
    return ThreadPoolExecutor(threads, name, initializer=lambda: environment().__enter__())
