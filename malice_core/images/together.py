"""The same work for many rasters by several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import rasterio
import rasterio.env

Thing = TypeVar("Thing")
Result = TypeVar("Result")

#: Where rasters are on servers, which are waited for.
WAITING = 8


def each(work: Callable[[Thing], Result], things: Iterable[Thing], threads: int) -> Iterator[Result]:
    """What ``work`` makes of things, in their order.

    Args:
        threads: at once; 1: the thread that asks.

    Raises:
        Exception: of the first thing, in their order, that it fails for; those that are not begun are left.
    """
    waiting = list(things)
    if min(threads, len(waiting)) < 2:
        yield from map(work, waiting)
        return
    # GDAL's settings are those of a thread; those of the main thread are the process'.
    settings = rasterio.env.getenv() if rasterio.env.hasenv() else {}
    pool = ThreadPoolExecutor(
        min(threads, len(waiting)), "look", initializer=lambda: rasterio.Env(**settings).__enter__()
    )
    try:
        yield from pool.map(work, waiting)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
