"""What a run would take: memory and disk as its plan computes them, time by a trial of the model's graphs here.

The trial is short (a few calls of each graph with blocks of the run's size), so its time is a guide and no promise:
another program that computes at the same time, a processor that slows down when it is hot, and images on a slow disk
all make a run longer. Reading and writing, which a run does beside computing, are not in it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from malice_core import memory, plan, runtime, scratch, workers
from malice_core.cards import Card
from malice_core.encoder import CHUNK, map_type, pixels_at_once, suited, temporal_session
from malice_core.encoders import kind_of
from malice_core.errors import InputError, MaliceError
from malice_core.grid import BlockGrid
from malice_core.inspection.survey import Survey
from malice_core.product import Layout
from malice_core.runtime import Backend
from malice_core.weights import LAST_BORDER, LAST_WIDTH

#: Seconds for the calls of a graph that are timed, and how many there are at least and at most.
SECONDS, LEAST, MOST = 0.6, 2, 400
#: A run may take so many times the estimate: what was seen when estimates were compared with runs (docs/inspect.md).
FASTER, SLOWER = 0.7, 2.0


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        memory, disk: bytes at most; device: of a GPU's memory.
        free: bytes on the disk of the output, None where no output was named.
        blocks: how many; block: (height, width) of one.
        pixel_dates: pixels of the area times dates, of all sensors.
        seconds: to compute, None if it was not tried.
        trial: how the seconds were found, or why they were not.
    """

    memory: int
    device: int
    disk: int
    free: int | None
    blocks: int
    block: tuple[int, int]
    pixel_dates: int
    seconds: float | None
    trial: str


def make(survey: Survey, named: bool, check: Callable[[], None], timed: bool = True) -> Estimate | None:
    """Memory, disk and time of the run that was looked at; None where there is none.

    Args:
        survey: what it would read; of refusals that turn up here it is told.
        named: the job's output was named by the user: then its disk is looked at.
        check: raises when the run was cancelled.
        timed: try how fast the graphs are.
    """
    job, card = survey.job, survey.card
    if card is None or set(survey.stacks) != set(survey.sensors):
        return None
    try:
        backend = suited(runtime.choose(job.runtime, job.device, job.precision, workers.threads(job)), card)
        queries = job.queries if job.queries is not None else tuple(range(card.queries))
        for query in queries:
            if not 0 <= query < card.queries:
                raise InputError(f"--queries {query}: model {card.name} has queries 0 to {card.queries - 1}")
        layout = Layout.of(card, survey.sensors, queries, job.dtype)
        dates = {sensor: len(stack.observations) for sensor, stack in survey.stacks.items()}
        area = survey.area
        grid, budget = memory.fit(job, card, backend, area, dates, layout, survey.warnings, uniform=survey.uniform)
    except InputError as error:
        survey.refused.append(str(error))
        return None
    disk, free = plan.disk_bytes(layout, area, job.format), None
    if named:
        free = shutil.disk_usage(_existing(os.path.dirname(os.path.abspath(job.output)))).free
        free += scratch.size_of(job.output)
        if free < disk:
            survey.refused.append(plan.too_full(job.output.absolute().parent, free, disk))
    seconds, trial = _seconds(card, backend, grid, dates, check) if timed else (None, "not tried")
    return Estimate(
        memory=budget.total,
        device=budget.device,
        disk=disk,
        free=free,
        blocks=grid.count,
        block=grid.core_shape,
        pixel_dates=area.pixels * sum(dates.values()),
        seconds=seconds,
        trial=trial,
    )


def _existing(folder: str) -> str:
    """The folder, or the first above it that is there."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def _seconds(
    card: Card, backend: Backend, grid: BlockGrid, dates: dict[str, int], check: Callable[[], None]
) -> tuple[float | None, str]:
    """Time to compute all blocks, and how it was found."""
    if backend.device == "cuda":
        return None, "time on a GPU is not tried; docs/embed.md has measured ones"
    begun = time.monotonic()
    total = 0.0
    # The encoders of both sensors cost the same but for the first of 23 layers: one is tried for both.
    sensor = max(dates, key=lambda key: dates[key])
    aux = card.surroundings is not None
    try:
        image = _pace(_spatial(card, sensor, backend, grid), backend.streams, check)
        temporal = _kernel if backend.kernel else _temporal
        for count in dates.values():
            call, pixels = temporal(card, sensor, backend, count, aux)
            chunk = _pace(call, backend.pixel_calls, check)
            total += grid.count * count * image + grid.area.pixels / pixels * chunk
            check()
    except MaliceError as error:
        if error.exit_code == 3:
            raise
        return None, f"the graphs could not be tried: {error}"
    spent = time.monotonic() - begun
    return total, f"a trial of {spent:.1f} s of the {sensor.upper()} graphs, {backend.describe()}"


def _spatial(card: Card, sensor: str, backend: Backend, grid: BlockGrid) -> Callable[[], object]:
    """The graph that sees one date of one block, as a run compiles it, given something to see."""
    graph, source = card.graph_bytes(sensor, "spatial"), str(card.graph_path(sensor, "spatial"))
    halo = 0 if grid.clip else grid.halo
    rng = np.random.default_rng(0)
    shape = (1, len(card.modalities[sensor].channels), *grid.input_shape)
    feeds = {"images": rng.normal(0.1, 0.3, shape).astype(np.float32)}
    if card.surroundings is not None:
        feeds["bias"] = np.zeros((1, card.width, 1, 1), np.float32)
    graph = kind_of(backend).fitted(graph, backend, halo, source)
    return partial(backend.open(graph, {name: value.shape for name, value in feeds.items()}).run, feeds)


def _temporal(card: Card, sensor: str, backend: Backend, dates: int, aux: bool) -> tuple[Callable[[], object], int]:
    """The graph that sees the dates of some pixels, given something to see; how many pixels."""
    rng = np.random.default_rng(0)
    dates += aux
    pixels = pixels_at_once(dates)
    feeds = {
        "features": rng.normal(0, 1, (pixels, dates, card.width)).astype(np.float32),
        "encoding": rng.normal(0, 1, (dates, card.width)).astype(np.float32),
        "valid": np.ones((pixels, dates), np.float32),
    }
    return partial(temporal_session(card, sensor, backend, pixels, dates).run, feeds), pixels


def _kernel(card: Card, sensor: str, backend: Backend, dates: int, aux: bool) -> tuple[Callable[[], object], int]:
    """As :func:`_temporal`, of machine code of our own."""
    from malice_core.kernel.encoding import session

    maps = np.zeros((dates, 1 + 2 * LAST_BORDER, CHUNK + 2 * LAST_BORDER, LAST_WIDTH), map_type(backend))
    valid = np.ones((CHUNK, dates + aux), np.float32)
    encoding = np.random.default_rng(0).normal(0, 1, (dates + aux, card.width)).astype(np.float32)
    ground = np.zeros((CHUNK, card.width), np.float32) if aux else None
    return partial(session(card, sensor, backend).run, maps, 0, valid, encoding, ground), CHUNK


def _pace(run: Callable[[], object], streams: int, check: Callable[[], None]) -> float:
    """Seconds a call, with as many at once as a run makes."""

    def call(_: int) -> None:
        check()
        run()

    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(call, range(streams)))  # the first calls of a thread take memory
        begun, done = time.monotonic(), 0
        while done < LEAST * streams or (time.monotonic() - begun < SECONDS and done < MOST):
            list(pool.map(call, range(streams)))
            done += streams
        return (time.monotonic() - begun) / done
