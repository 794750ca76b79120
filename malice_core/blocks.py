"""Encodes blocks of a plan: read | encode | save, overlapping. A run has one encoder; on a cluster, each process has.

Reader threads fetch and normalise dates a little ahead of the graphs, these keep their streams busy and write what they
make to scratch, and one writer waits until the disk has it.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import rasterio
from numpy.typing import NDArray

from malice_core import encoders, memory
from malice_core.encoder import Float, Image, Sink, TerrainEncoder
from malice_core.features import Normaliser, mirror_source, mirrored
from malice_core.grid import Block, Window
from malice_core.plan import Plan
from malice_core.scratch import Blocks
from malice_core.spool import Spool


def environment() -> rasterio.Env:
    """GDAL settings of a run: no cache, no side files written, folders listed only where images are opened, and servers
    asked again that fail once."""
    return rasterio.Env(
        # Tiles are read once a block, and too many are between to be kept for the next; those of an output go to the
        # file at once, where they are read back.
        GDAL_CACHEMAX=0,
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_PAM_ENABLED="NO",
        VRT_SHARED_SOURCE="0",
        GDAL_HTTP_MAX_RETRY=os.environ.get("GDAL_HTTP_MAX_RETRY", "3"),
        GDAL_HTTP_RETRY_DELAY=os.environ.get("GDAL_HTTP_RETRY_DELAY", "1"),
        # Errors arrive as exceptions; GDAL's own prints would break "one line on stderr".
        **({} if os.environ.get("MALICE_DEBUG") else {"CPL_LOG": os.devnull}),
    )


def units_of(job: Plan) -> int:
    """Units of work of one block, for progress: a date costs about as much in the spatial graph as in the temporal."""
    return 2 * sum(len(stack.observations) for stack in job.stacks.values())


class BlockEncoder:
    """What encodes blocks: compiled graphs, buffers and threads, made once. :meth:`open` comes before :meth:`encode`.

    Args:
        job: the run.
        blocks: where finished blocks go.
    """

    def __init__(self, job: Plan, blocks: Blocks) -> None:
        self._job, self._blocks = job, blocks
        self._halo = 0 if job.grid.clip else job.grid.halo
        streams = job.backend.streams
        self._depth = memory.READ_AHEAD + streams
        self._readers = _threads(min(4, max(2, streams)), "read")
        self._coders, self._embedders = self._encoding()
        self._writer = _threads(1, "write")
        self._saved: Future[None] | None = None

    def open(self) -> None:
        """Compiles the graphs and makes the buffers; images may be read beside. If it fails, :meth:`close` waits for
        those that are.

        Raises:
            DeviceError, ModelError: if that fails.
        """
        job = self._job
        around = job.surroundings
        days = {sensor: job.days(sensor) for sensor in job.stacks}
        mask = job.job.nodata == "mask"
        self._encoders = encoders.opened(
            job.card, job.backend, days, job.grid, job.layout.queries, mask, job.budget.chunk
        )
        self._terrain = (
            None if around is None else TerrainEncoder(job.card, job.backend, job.grid.input_shape, self._halo)
        )
        self._make_codes = job.layout.opened(job.backend)

    def encode(
        self,
        block: Block,
        images: Iterator[Image],
        check: Callable[[], None],
        tick: Callable[[int], None],
        reached: Callable[[int], None] | None = None,
    ) -> Future[None]:
        """Computes one block and begins to save it.

        Args:
            images: as of :meth:`images`; those of this block come next.
            check: raises when the run was cancelled; called between calls of the graphs.
            tick: is told the units of work done, of :func:`units_of`, from several threads.
            reached: for a block that no other is encoded after: told, from any thread, how many of its first rows there
                are by now, which can be loaded at once.

        Returns:
            The saving, which ends before the next block's embeddings are computed.

        Raises:
            OutputError: of saving the block before, too.
        """
        job = self._job
        crop = block.core.slices_in(block.input.expand(-self._halo))
        grounds: dict[Window, Float] = {}
        numbers: Spool | None = None
        try:
            for modality, (sensor, encoder) in enumerate(self._encoders.items()):
                count = len(job.stacks[sensor].observations)
                ground = None if self._terrain is None else partial(self._ground, sensor, block, crop, grounds)
                counts = encoder.see(
                    itertools.islice(images, count), crop, self._coders, check, partial(tick, 1), ground
                )
                if numbers is None:
                    # A disk that is slower than all else is waited for here, at most a block behind. Its failure is
                    # told once, and is none of the blocks after this one.
                    saved, self._saved = self._saved, None
                    if saved is not None:
                        saved.result()
                    numbers = self._blocks.begin(block.index, block.core.shape, job.layout.kinds)
                    codes = self._make_codes(block.core.pixels, numbers)
                put: Sink = partial(codes.put, modality)
                if reached is not None and modality == len(self._encoders) - 1:
                    self._blocks.hold(block.index, numbers)
                    put = _Front(put, block.core.width, reached).put
                encoder.embed(counts, self._embedders, check, put)
                tick(count)
            assert numbers is not None, "no modality"
        except BaseException:
            self._blocks.let_go(block.index)
            # What is still being computed would be written among the next block's features.
            for pool in (self._coders, self._embedders):
                pool.shutdown(wait=True, cancel_futures=True)
            self._coders, self._embedders = self._encoding()
            if numbers is not None:
                numbers.discard()
            raise
        self._saved = self._writer.submit(self._save, block.index, numbers)
        return self._saved

    def images(self, blocks: Iterable[Block], whole: Callable[[], None] | None = None) -> Iterator[Image]:
        """Images of blocks in the order in which they are encoded; reading begins at once, a few are held.

        Args:
            whole: called when all have been read, with the last one taken.
        """
        waiting: deque[Future[Image]] = deque()
        tasks = self._tasks(blocks)
        waiting.extend(self._readers.submit(task) for task in itertools.islice(tasks, self._depth))

        def taken() -> Iterator[Image]:
            while waiting:
                waiting.extend(self._readers.submit(task) for task in itertools.islice(tasks, 1))
                image = waiting.popleft().result()
                if not waiting and whole is not None:
                    whole()
                yield image

        return taken()

    def close(self) -> None:
        """Ends the threads, when what they are at is done."""
        for pool in (self._readers, self._coders, self._embedders, self._writer):
            pool.shutdown(wait=True, cancel_futures=True)

    def _encoding(self) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
        """Threads for the calls of the spatial graphs, and of the temporal encoders."""
        backend = self._job.backend
        return _threads(backend.streams, "encode"), _threads(backend.pixel_calls, "encode")

    def _tasks(self, blocks: Iterable[Block]) -> Iterator[Callable[[], Image]]:
        """What reads the images, block by block, modality by modality, date by date."""
        job = self._job
        normalisers = {sensor: Normaliser(sensor, job.card.modalities[sensor]) for sensor in job.stacks}
        for block in blocks:
            for sensor, stack in job.stacks.items():
                for index in range(len(stack.observations)):
                    yield partial(_image, job, sensor, index, block, normalisers[sensor])

    def _ground(self, sensor: str, block: Block, crop: tuple[slice, slice], grounds: dict[Window, Float]) -> Float:
        """Features of the terrain in a block's core; ``grounds`` keeps them for other sensors with as large images."""
        around = self._job.surroundings
        assert around is not None
        assert self._terrain is not None
        needed = around.needed[sensor]
        if needed not in grounds:
            grounds[needed] = self._terrain(around.terrain_of(sensor, block.input), crop)
        return grounds[needed]

    def _save(self, block: int, numbers: Spool) -> None:
        try:
            numbers.finish()
        finally:
            self._blocks.let_go(block)


class _Front:
    """Knows how far a block is computed, of pieces that come in nearly their order.

    Args:
        put: takes the pieces.
        width: pixels of a row.
        reached: told how many rows there are.
    """

    def __init__(self, put: Sink, width: int, reached: Callable[[int], None]) -> None:
        self._put, self._width, self._reached = put, width, reached
        self._lock = threading.Lock()
        self._front = 0
        #: Pieces beyond it: pixel after the last one, by the first.
        self._beyond: dict[int, int] = {}

    def put(self, start: int, values: Float, counts: NDArray[np.uint16]) -> None:
        """As ``encoder.Sink``."""
        self._put(start, values, counts)
        with self._lock:
            before = self._front // self._width
            self._beyond[start] = start + counts.size
            while self._front in self._beyond:
                self._front = self._beyond.pop(self._front)
            rows = self._front // self._width
            if rows > before:
                self._reached(rows)


def _threads(count: int, name: str) -> ThreadPoolExecutor:
    # GDAL's settings are those of a thread, but in the main thread, where they are the process': a worker of a cluster
    # has other things in that.
    return ThreadPoolExecutor(count, name, initializer=lambda: environment().__enter__())


def _image(job: Plan, sensor: str, index: int, block: Block, normalise: Normaliser) -> Image:
    """One date of one block: real data where the sources have it, mirrored beyond them, normalised."""
    stack = job.stacks[sensor]
    shape = block.input.shape
    if job.grid.clip:
        # Published behaviour: what no source covers is missing, and the network itself reflects at the edge.
        values = np.zeros((len(stack.sensor.bands), *shape), np.float32)
        observed = np.zeros(shape, np.bool_)
        part = block.input.intersect(stack.extent)
        if part.pixels:
            rows, cols = part.slices_in(block.input)
            values[:, rows, cols], observed[rows, cols] = stack.read(index, part)
    else:
        window, row_index, col_index = mirror_source(block.input, stack.extent)
        values, observed = stack.read(index, window)
        if window != block.input:
            values = mirrored(values, row_index, col_index)
            observed = mirrored(observed, row_index, col_index)
    core = np.zeros(block.core.shape, np.bool_)
    # A mirrored pixel helps its neighbours' convolutions; it is no observation of its own.
    inside = block.core.intersect(stack.extent)
    if inside.pixels:
        core[inside.slices_in(block.core)] = observed[inside.slices_in(block.input)]
    around = job.surroundings
    if around is None:
        return Image(normalise(values, observed), core)
    weather = around.weather_of(sensor, stack.observations[index].date, block.input)
    angles = around.angles_of(sensor, stack, index, block.input)
    return Image(normalise(values, observed, angles), core, weather)
