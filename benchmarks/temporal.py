"""Speed of the temporal encoder alone, ours and OpenVINO's: ``python benchmarks/temporal.py [--dates 20 60 118]``.

Uses the model malice-sim, whose size is that of all models. Each way embeds the same pixels with a thread a processor,
turn by turn, and the median of the turns is told; the arithmetic is that of the graph, and ours that of the last
convolution of the spatial graph too, which it computes as well.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import numpy as np
from arithmetic import multiply_adds

from malice_core import models, runtime
from malice_core.bfloat16 import rounded
from malice_core.cards import Card
from malice_core.encoder import CHUNK, map_type, pixels_at_once, temporal_session
from malice_core.errors import DeviceError
from malice_core.runtime import Backend
from malice_core.weights import LAST_WIDTH, WIDTH

#: Pixels times dates that each thread embeds in a turn.
SIZE = 200_000


def ways() -> dict[str, Backend]:
    """What can compute here."""
    ours = runtime.choose("openvino", "cpu")
    found = {"ours, float32": ours} if ours.kernel else {}
    found["OpenVINO, float32"] = replace(ours, kernel="")
    try:
        short = runtime.choose("openvino", "cpu", "bfloat16")
    except DeviceError:
        print("no bfloat16 here", file=sys.stderr)
    else:
        found |= {"ours, bfloat16": short} if short.kernel == "bfloat16" else {}
        found["OpenVINO, bfloat16"] = replace(short, kernel="")
    return found


def pace(call: Callable[[], object], tokens: int, threads: int) -> float:
    """Pixel-dates a second.

    Args:
        call: embeds pixels, with so many dates in all.
    """
    calls = max(2, SIZE // tokens)

    def work(_: int) -> None:
        for _ in range(calls):
            call()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: call(), range(threads)))
        begin = time.perf_counter()
        list(pool.map(work, range(threads)))
        return threads * calls * tokens / (time.perf_counter() - begin)


def opened(card: Card, backend: Backend, dates: int) -> tuple[Callable[[], object], int, int]:
    """What embeds pixels, how many it is given at once, and multiply-adds of one and date."""
    rng = np.random.default_rng(0)
    pixels = CHUNK if backend.kernel else pixels_at_once(dates)
    encoding = rng.normal(0, 1, (dates, card.width)).astype(np.float32)
    valid = np.ones((pixels, dates), np.float32)
    feeds = {"features": np.zeros((pixels, dates, card.width), np.float32), "encoding": encoding, "valid": valid}
    shapes = {key: value.shape for key, value in feeds.items()}
    cost = multiply_adds(card.graph_bytes("s2", "temporal"), shapes) // valid.size
    if not backend.kernel:
        feeds["features"] = np.maximum(rng.normal(0, 1, (pixels, dates, card.width)), 0).astype(np.float32)
        return partial(temporal_session(card, "s2", backend, pixels, dates).run, feeds), pixels, cost
    from malice_core.kernel.encoding import session

    side = (3, pixels + 2)
    maps = np.maximum(rng.normal(0, 1, (dates, *side, LAST_WIDTH)), 0).astype(np.float32)
    # As they come from the spatial graph.
    given = rounded(maps) if map_type(backend) is np.uint16 else maps
    return partial(session(card, "s2", backend).run, given, 0, valid, encoding), pixels, cost + 9 * LAST_WIDTH * WIDTH


def main() -> int:
    parser = argparse.ArgumentParser(description="Speed of the temporal encoder alone.")
    parser.add_argument("--dates", type=int, nargs="+", default=[20, 60, 118])
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    card = models.load("malice-sim")
    print("| dates | way | thousand pixel-dates/s | GFLOPS |\n|---|---|---|---|")
    for dates in given.dates:
        tried = {name: (*opened(card, backend, dates), backend.pixel_calls) for name, backend in ways().items()}
        paces: dict[str, list[float]] = {name: [] for name in tried}
        for _ in range(given.turns):
            for name, (call, pixels, _, threads) in tried.items():
                paces[name].append(pace(call, pixels * dates, threads))
        for name, (_, _, cost, _) in tried.items():
            found = statistics.median(paces[name])
            print(f"| {dates} | {name} | {found / 1e3:.0f} | {2e-9 * found * cost:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
