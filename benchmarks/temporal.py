"""Speed of the temporal encoder alone, ours and OpenVINO's: ``python benchmarks/temporal.py [--dates 20 60 118]``.

Uses the model malice-sim, whose size is that of all models. Each way embeds the same pixels with a thread a processor,
turn by turn, and the median of the turns is told; the arithmetic is that of the graph.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from arithmetic import multiply_adds

from malice_core import models, runtime
from malice_core.bfloat16 import rounded
from malice_core.encoder import feature_type, pixels_at_once, temporal_session
from malice_core.errors import DeviceError
from malice_core.runtime import Backend

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


def pace(session: Any, feeds: dict[str, np.ndarray], threads: int) -> float:
    """Pixel-dates a second."""
    pixels, dates = feeds["valid"].shape
    calls = max(2, SIZE // (pixels * dates))

    def work(_: int) -> None:
        for _ in range(calls):
            session.run(feeds)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: session.run(feeds), range(threads)))
        begin = time.perf_counter()
        list(pool.map(work, range(threads)))
        return threads * calls * pixels * dates / (time.perf_counter() - begin)


def main() -> int:
    parser = argparse.ArgumentParser(description="Speed of the temporal encoder alone.")
    parser.add_argument("--dates", type=int, nargs="+", default=[20, 60, 118])
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    card, rng = models.load("malice-sim"), np.random.default_rng(0)
    print("| dates | way | thousand pixel-dates/s | GFLOPS |\n|---|---|---|---|")
    for dates in given.dates:
        tried = {}
        for name, backend in ways().items():
            pixels = pixels_at_once(backend, dates)
            feeds = {
                "features": np.maximum(rng.normal(0, 1, (pixels, dates, card.width)), 0).astype(np.float32),
                "encoding": rng.normal(0, 1, (dates, card.width)).astype(np.float32),
                "valid": np.ones((pixels, dates), np.float32),
            }
            if feature_type(backend) == np.uint16:
                # As they come from the spatial graph.
                feeds["features"] = rounded(feeds["features"])
            tried[name] = temporal_session(card, "s2", backend, pixels, dates), feeds, backend.pixel_calls
        paces: dict[str, list[float]] = {name: [] for name in tried}
        for _ in range(given.turns):
            for name, (session, feeds, threads) in tried.items():
                paces[name].append(pace(session, feeds, threads))
        for name, (_, feeds, _) in tried.items():
            shapes = {key: value.shape for key, value in feeds.items()}
            cost = multiply_adds(card.graph_bytes("s2", "temporal"), shapes) / feeds["valid"].size
            found = statistics.median(paces[name])
            print(f"| {dates} | {name} | {found / 1e3:.0f} | {2e-9 * found * cost:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
