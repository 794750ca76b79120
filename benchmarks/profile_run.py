"""Where the time of a run goes: ``python benchmarks/profile_run.py -- --s2 FOLDER --model NAME --output FILE.tif``.

Runs the engine in this process, with a watch around the functions that do the work, and prints the seconds spent in
each, by kind of thread, the share of the wall-clock time in which at least one graph computes, and the arithmetic of
all calls of the graphs. ``--count`` leaves out the arithmetic itself (results are zeros) and only counts it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from arithmetic import multiply_adds, shapes_of, useful
from measuring import BenchmarkError
from onnx import TensorProto

from malice_core import embed, models
from malice_core.assembling import Assembler
from malice_core.cancelling import Cancel
from malice_core.cards import Card
from malice_core.encoder import ModalityEncoder
from malice_core.errors import MaliceError
from malice_core.features import Normaliser
from malice_core.product import BlockCodes
from malice_core.runtime import Backend
from malice_core.spool import Spool
from malice_core.stack import Stack
from malice_core.weights import LAST_BORDER, LAST_WIDTH, QUERIES, WIDTH

#: What is watched: name of the part, where the function is, its name.
WATCHED: tuple[tuple[str, Any, str], ...] = (
    ("read", Stack, "read"),
    ("features", Normaliser, "__call__"),
    ("keep features", ModalityEncoder, "_encode_date"),
    ("quantise", BlockCodes, "put"),
    ("scratch", Spool, "put"),
    ("save", Spool, "finish"),
    ("write", Assembler, "_step"),
)
try:
    from malice_core.kernel import encoding as kernel
except ImportError:
    kernel = None  # type: ignore[assignment]  # no llvmlite
else:
    WATCHED += (("keep features", kernel.KernelEncoder, "_encode_date"),)
#: The parts that are graphs; names as the graphs have them.
GRAPHS = ("spatial", "temporal", "terrain", "weather")


class Watch:
    """Collects who did what when, from all threads."""

    def __init__(self) -> None:
        #: By part: (kind of thread, begin, end, seconds of other parts within).
        self.spans: dict[str, list[tuple[str, float, float, float]]] = defaultdict(list)
        self.multiply_adds = 0
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def of(self, part: str) -> Any:
        """Times what is done within; parts within parts are taken off those around them."""
        inner: list[float] = self._local.__dict__.setdefault("inner", [])
        inner.append(0.0)
        begin = time.perf_counter()
        try:
            yield
        finally:
            end = time.perf_counter()
            within = inner.pop()
            if inner:
                inner[-1] += end - begin
            kind = threading.current_thread().name.split("_")[0].replace("MainThread", "main")
            with self._lock:
                self.spans[part].append((kind, begin, end, within))

    def wrapped(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.of(part):
                return function(*args, **kwargs)

        return watched

    def add(self, count: int) -> None:
        with self._lock:
            self.multiply_adds += count


class WatchedSession:
    """A graph that counts its calls; without ``session`` its result is zeros."""

    def __init__(self, watch: Watch, graph: bytes, shapes: Mapping[str, tuple[int, ...]], session: Any) -> None:
        self._watch, self._session = watch, session
        found, known = shapes_of(graph, shapes)
        self._part = found.name
        # OpenVINO returns bfloat16 as another type of as many bits.
        rounded = found.output[0].type.tensor_type.elem_type == TensorProto.BFLOAT16
        kind = np.float16 if rounded else np.float32
        self._zeros = np.zeros(known[found.output[0].name] if session is None else 0, kind)
        self._cost = multiply_adds(graph, shapes)

    def run(self, feeds: Mapping[str, Any]) -> Any:
        self._watch.add(self._cost)
        if self._session is None:
            return self._zeros
        with self._watch.of(self._part):
            return self._session.run(feeds)


class WatchedKernel:
    """As :class:`WatchedSession`, of machine code of our own: its arithmetic is that of the temporal graph and of the
    last convolution, of each pixel."""

    def __init__(self, watch: Watch, card: Card, sensor: str, session: Any) -> None:
        self._watch, self._session = watch, session
        self._graph = card.graph_bytes(sensor, "temporal")
        self._costs: dict[int, int] = {}

    def run(self, maps: Any, start: int, valid: Any, encoding: Any, ground: Any) -> Any:
        pixels, dates = valid.shape
        if dates not in self._costs:
            shapes = {"features": (1, dates, WIDTH), "encoding": (dates, WIDTH), "valid": (1, dates)}
            last = len(maps) * (2 * LAST_BORDER + 1) ** 2 * LAST_WIDTH * WIDTH
            self._costs[dates] = multiply_adds(self._graph, shapes) + last
        self._watch.add(pixels * self._costs[dates])
        if self._session is None:
            return np.zeros((QUERIES, WIDTH, pixels), np.float32)
        with self._watch.of("temporal"):
            return self._session.run(maps, start, valid, encoding, ground)


class _Quiet:
    """A reporter that keeps the plan."""

    described: dict[str, Any]

    def plan(self, plan: dict[str, Any], text: str) -> None:
        self.described = plan

    def warning(self, message: str) -> None: ...
    def progress(self, done: int, total: int, step: str) -> None: ...
    def done(self, files: list[str], seconds: float) -> None: ...
    def error(self, code: int, message: str) -> None: ...


@contextmanager
def watching(watch: Watch, count: bool) -> Any:
    """Puts watches around the engine's functions, and takes them off again.

    Raises:
        BenchmarkError: if a function is not there any more.
    """
    # What a class has from another would, once put back, be its own.
    kept = [(owner, name, vars(owner).get(name)) for _, owner, name in WATCHED]
    lost = [f"{getattr(owner, '__name__', owner)}.{name}" for owner, name, function in kept if function is None]
    if lost:
        raise BenchmarkError(f"{lost[0]} is not in the engine any more: correct WATCHED in {__file__}")
    opening = Backend.open

    def opened(self: Backend, graph: bytes, shapes: Mapping[str, tuple[int, ...]]) -> WatchedSession:
        if self.device != "cpu":
            raise BenchmarkError(f"graphs on {self.device} are not watched: give --device cpu")
        return WatchedSession(watch, graph, shapes, None if count else opening(self, graph, shapes))

    session_of = None if kernel is None else kernel.session

    def session(card: Card, sensor: str, backend: Backend) -> WatchedKernel:
        return WatchedKernel(watch, card, sensor, None if count else session_of(card, sensor, backend))

    try:
        Backend.open = opened  # type: ignore[assignment,method-assign]
        if kernel is not None:
            kernel.session = session  # type: ignore[assignment]
        for (part, owner, name), (_, _, function) in zip(WATCHED, kept, strict=True):
            setattr(owner, name, watch.wrapped(part, function))
        yield
    finally:
        Backend.open = opening  # type: ignore[method-assign]
        if kernel is not None:
            kernel.session = session_of
        for owner, name, function in kept:
            setattr(owner, name, function)


def profile(options: list[str], count: bool) -> dict[str, Any]:
    """Runs a command line of embed.

    Args:
        options: of ``malice_core.embed``, without its output for the terminal.
        count: only count the arithmetic.

    Returns:
        ``wall_s`` from before planning to the end (libraries are loaded already); ``parts``: seconds, calls and kind
        of thread; ``graph_share``: of the wall-clock time, with at least one graph computing; ``executed`` and
        ``useful`` multiply-adds; ``plan``.
    """
    watch, reporter = Watch(), _Quiet()
    job = embed.job_of(embed.parser().parse_args(options))
    begin = time.perf_counter()
    with watching(watch, count):
        embed.execute(job, reporter, Cancel())
    wall = time.perf_counter() - begin
    plan = reporter.described
    card = models.load(plan["model"]["name"])
    wanted = sum(
        plan["height"] * plan["width"] * len(found["dates"]) * useful(card, sensor, len(found["dates"]))
        for sensor, found in plan["modalities"].items()
    )
    parts = {
        part: {
            "seconds": sum(end - start - within for _, start, end, within in spans),
            "calls": len(spans),
            "threads": sorted({kind for kind, *_ in spans}),
        }
        for part, spans in watch.spans.items()
    }
    computing = [(start, end) for part in GRAPHS for _, start, end, _ in watch.spans.get(part, [])]
    return {
        "wall_s": wall,
        "parts": parts,
        "graph_share": covered(computing) / wall,
        "executed": watch.multiply_adds,
        "useful": wanted,
        "plan": {key: plan[key] for key in ("backend", "blocks", "block", "halo", "memory_bytes", "dtype", "bands")},
    }


def covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, -math.inf
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def table(found: Mapping[str, Any]) -> list[str]:
    """The profile as Markdown."""
    lines = ["| part | seconds | calls | threads | share of wall-clock time |", "|---|---|---|---|---|"]
    order = ("read", "features", "spatial", "keep features", "temporal", "quantise", "scratch", "write")
    parts = found["parts"]
    for name in [*(name for name in order if name in parts), *(name for name in parts if name not in order)]:
        part = parts[name]
        lines.append(
            f"| {name} | {part['seconds']:.2f} | {part['calls']} | {', '.join(part['threads'])} | "
            f"{100 * part['seconds'] / found['wall_s']:.0f} % |"
        )
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="Profile of a run of malice_core.embed.")
    parser.add_argument("--count", action="store_true", help="count the arithmetic, do none")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    parser.add_argument("embed", nargs="+", metavar="-- OPTION", help="after --: the options of embed")
    given = parser.parse_args()
    try:
        found = profile(given.embed, given.count)
    except (BenchmarkError, MaliceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(found)))
    print(
        f"\n{found['wall_s']:.1f} s; at least one graph computes in {100 * found['graph_share']:.1f} % of it; "
        f"{2e-9 * found['executed']:.0f} GFLOP executed, {2e-9 * found['useful']:.0f} of them useful "
        f"(halo and edges {100 * (1 - found['useful'] / found['executed']):.1f} %)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
