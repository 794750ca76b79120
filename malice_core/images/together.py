"""The same work for many rasters by several threads."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import rasterio
import rasterio.env
from rasterio.session import DummySession

Thing = TypeVar("Thing")
Result = TypeVar("Result")

#: Threads where rasters are on servers, which are waited for; and at most where they are not.
WAITING, READING = 8, 4


def each(work: Callable[[Thing], Result], things: Iterable[Thing], threads: int) -> Generator[Result, None, None]:
    """What ``work`` makes of things, in their order.

    Args:
        threads: at once; 1: the thread that asks.

    Raises:
        Exception: of the first thing, in their order, that it fails for; those that are not begun are left, as they
            are when the iterator is closed.
    """
    waiting = list(things)
    if min(threads, len(waiting)) < 2:
        yield from map(work, waiting)
        return
    # GDAL's settings are those of a thread; those of the main thread are the process'.
    settings = rasterio.env.getenv() if rasterio.env.hasenv() else {}
    pool = ThreadPoolExecutor(min(threads, len(waiting)), "look", initializer=partial(_begin, settings))
    try:
        yield from pool.map(work, waiting)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(settings: dict[str, object]) -> None:
    # Keys of servers are among the settings: an environment refuses them unless it is made, and looks for none itself.
    rasterio.Env(session=DummySession()).__enter__()
    rasterio.env.setenv(**settings)
