"""Executes a plan: read | encode | write, overlapping, block by block; then puts the output together.

Reader threads fetch and normalise dates a little ahead of the encoder, the encoder keeps its streams busy,
and one writer flushes finished blocks to scratch. All of them stop at the first error or at a cancel.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import rasterio

import malice_core
from malice_core import assembling, bands, memory, mosaic, plan
from malice_core.cancelling import Cancel
from malice_core.cards import Modality
from malice_core.encoder import Float, Image, ModalityEncoder, TerrainEncoder, Workspace
from malice_core.features import Normaliser, mirror_source
from malice_core.grid import Block, Window
from malice_core.outputs import Codes
from malice_core.plan import Plan
from malice_core.reporting import Reporter
from malice_core.resident import ResidentEncoder
from malice_core.runtime import DeviceMemory
from malice_core.scratch import Scratch, owner_of
from malice_core.store.statistics import ANGLES, Statistics


def environment() -> rasterio.Env:
    """GDAL settings of a run: a bounded cache, no side files written, folders listed only where images are opened."""
    return rasterio.Env(
        GDAL_CACHEMAX=memory.GDAL_CACHE_BYTES >> 20,
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
        GDAL_PAM_ENABLED="NO",
        VRT_SHARED_SOURCE="0",
        # Errors arrive as exceptions; GDAL's own prints would break "one line on stderr".
        **({} if os.environ.get("MALICE_DEBUG") else {"CPL_LOG": os.devnull}),
    )


def run(job: Plan, reporter: Reporter, cancel: Cancel) -> list[str]:
    """Computes everything and puts the outputs in place.

    Returns:
        The files written (or found whole, with ``--resume``).

    Raises:
        Cancelled, OutputError, StackError, ModelError: in one line; scratch stays for ``--resume``.
    """
    files = [str(path) for path in job.targets]
    if assembling.already_whole(job):
        # Left by a run that was killed between putting its output in place and tidying up.
        if job.job.format == "vrt":
            mosaic.tidy(job.job.output, job.fingerprint)
        if owner_of(job.job.output) == job.fingerprint:
            with Scratch(job.job.output, job.fingerprint, job.grid.core_shape, resume=False) as scratch:
                scratch.remove()
        return files
    plan.check_disk(job)
    with Scratch(job.job.output, job.fingerprint, job.grid.core_shape, job.job.resume) as scratch:
        blocks = list(job.grid.blocks())
        todo = [block for block in blocks if not scratch.finished(block.index, job.layout.keys)]
        progress = _Progress(job, len(blocks), len(todo), reporter)
        if todo:
            _encode_blocks(job, todo, scratch, progress, cancel)
        assembling.assemble(job, blocks, scratch, tags(job), progress.assembled, cancel)
        progress.finish()
        scratch.remove()
    return files


class _Progress:
    """Counts work in (block, date) units; putting the output together counts as one block."""

    def __init__(self, job: Plan, blocks: int, todo: int, reporter: Reporter) -> None:
        # A date costs about as much in the spatial graph as in the temporal one.
        self._dates = {sensor: len(stack.observations) for sensor, stack in job.stacks.items()}
        per_block = 2 * sum(self._dates.values())
        self._total = per_block * (blocks + 1)
        self._done: float = per_block * (blocks - todo)
        self._assembly = per_block
        self._lock = threading.Lock()
        self._reporter = reporter
        reporter.progress(int(self._done), self._total, "encoding")

    def add(self, units: float, step: str) -> None:
        with self._lock:
            self._done += units
            self._reporter.progress(min(int(self._done), self._total - 1), self._total, step)

    def date(self) -> None:
        self.add(1, "encoding")

    def modality(self, sensor: str) -> None:
        self.add(self._dates[sensor], "encoding")

    def assembled(self, share: float) -> None:
        self.add(self._assembly * share, "writing")

    def finish(self) -> None:
        self._reporter.progress(self._total, self._total, "done")


def _encode_blocks(job: Plan, todo: list[Block], scratch: Scratch, progress: _Progress, cancel: Cancel) -> None:
    streams = job.backend.streams
    core = job.grid.core_shape
    around = job.surroundings
    # The terrain of MALICE Aux is one more.
    most = max(len(stack.observations) for stack in job.stacks.values()) + (around is not None)
    # Inside the area the network meets no edge of its own, and its decoder need not compute the halo.
    halo = 0 if job.grid.clip else job.grid.halo
    workspace: Workspace | DeviceMemory
    if job.backend.device == "cuda":
        maps = job.grid.input_shape if job.grid.clip else core
        workspace = DeviceMemory.zeros(maps[0] * maps[1] * most * job.card.width, "cuda")
        kind: type[ModalityEncoder] = ResidentEncoder
    else:
        workspace, kind = Workspace(core[0] * core[1] * most * job.card.width), ModalityEncoder
    encoders = {
        sensor: kind(
            job.card,
            sensor,
            job.backend,
            job.days(sensor),
            job.grid.input_shape,
            core,
            job.layout.queries,
            job.job.nodata == "mask",
            workspace,
            halo,
            job.budget.chunk,
        )
        for sensor in job.stacks
    }
    terrain = None if around is None else TerrainEncoder(job.card, job.backend, job.grid.input_shape, halo)
    make_codes = job.layout.opened(job.backend)
    readers = ThreadPoolExecutor(min(4, max(2, streams)), "read")
    coders = ThreadPoolExecutor(streams, "encode")
    writer = ThreadPoolExecutor(1, "write")
    saved: Future[None] | None = None
    images = _read_ahead(job, todo, readers, memory.READ_AHEAD + streams)
    try:
        for block in todo:
            crop = block.core.slices_in(block.input.expand(-halo))
            grounds: dict[Window, Float] = {}
            for number, (sensor, encoder) in enumerate(encoders.items()):
                dates = itertools.islice(images, len(job.stacks[sensor].observations))
                ground = None if terrain is None else partial(_ground, job, sensor, block, crop, terrain, grounds)
                counts = encoder.see(dates, crop, coders, cancel.check, progress.date, ground)
                if number == 0:
                    # Embeddings are the largest of all there is. A block's are written while the next one's images are
                    # seen, and gone before there are any of the next one's.
                    if saved is not None:
                        saved.result()
                    codes = make_codes(block.core.pixels)
                encoder.embed(counts, coders, cancel.check, partial(codes.put, number))
                progress.modality(sensor)
            saved = writer.submit(_save, block, codes, scratch)
        if saved is not None:
            saved.result()
    finally:
        for pool in (readers, coders, writer):
            pool.shutdown(wait=True, cancel_futures=True)


def _ground(
    job: Plan,
    sensor: str,
    block: Block,
    crop: tuple[slice, slice],
    encoder: TerrainEncoder,
    grounds: dict[Window, Float],
) -> Float:
    """Features of the terrain in a block's core; ``grounds`` keeps them for other sensors with as large images."""
    assert job.surroundings is not None
    needed = job.surroundings.needed[sensor]
    if needed not in grounds:
        grounds[needed] = encoder(job.surroundings.terrain_of(sensor, block.input), crop)
    return grounds[needed]


def _save(block: Block, codes: Codes, scratch: Scratch) -> None:
    shape = block.core.shape
    scratch.save(block.index, {key: values.reshape(-1, *shape) for key, values in codes.arrays.items()})


def _read_ahead(job: Plan, todo: list[Block], pool: ThreadPoolExecutor, depth: int) -> Iterator[Image]:
    """Images of all blocks, modalities and dates in the order they are encoded, ``depth`` of them in flight."""
    normalisers = {sensor: Normaliser(sensor, job.card.modalities[sensor]) for sensor in job.stacks}

    def tasks() -> Iterator[Callable[[], Image]]:
        for block in todo:
            for sensor, stack in job.stacks.items():
                for index in range(len(stack.observations)):
                    yield lambda s=sensor, i=index, b=block: _image(job, s, i, b, normalisers[s])  # type: ignore[misc]

    waiting: deque[Future[Image]] = deque()
    for task in tasks():
        waiting.append(pool.submit(task))
        if len(waiting) > depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


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
            values = values[:, row_index[:, None], col_index]
            observed = observed[row_index[:, None], col_index]
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


def tags(job: Plan) -> dict[str, str]:
    """What a raster says of itself: model, dates, normalisation and rules, and whom to credit."""
    years = sorted({item.date.year for stack in job.stacks.values() for item in stack.observations})
    span = f"{years[0]}-{years[-1]}" if len(years) > 1 else str(years[0])
    result = {
        "TIFFTAG_SOFTWARE": f"malice_core {malice_core.__version__}",
        "MALICE_VERSION": malice_core.__version__,
        "MALICE_JOB": job.fingerprint,
        "MALICE_MODEL": job.card.name,
        "MALICE_MODEL_ID": job.card.identity,
        "MALICE_LICENCE": job.card.licence,
        "MALICE_CITATION": job.card.citation,
        "MALICE_CREDITS": f"Contains modified Copernicus Sentinel data {span}",
        "MALICE_EDGE": job.job.edge,
        "MALICE_NODATA": job.job.nodata,
        "MALICE_PRECISION": f"{job.backend.runtime} {job.backend.precision}",
    }
    result |= job.layout.tags(job.job.output)
    if job.job.mask_clouds:
        result["MALICE_MASKED_CLASSES"] = ",".join(map(str, job.job.cloud_classes or bands.CLOUD_CLASSES))
    for sensor, stack in job.stacks.items():
        modality, key = job.card.modalities[sensor], sensor.upper()
        result[f"MALICE_DATES_{key}"] = ",".join(item.date.isoformat() for item in stack.observations)
        result[f"MALICE_ORBITS_{key}"] = ",".join(
            "?" if item.orbit is None else str(item.orbit) for item in stack.observations
        )
        result[f"MALICE_NORMALISATION_{key}"] = _normalisation(modality)
    if (known := job.card.surroundings) is not None:
        result["MALICE_CREDITS"] += "; generated using Copernicus Climate Change Service information (AgERA5)"
        result["MALICE_NORMALISATION_WEATHER"] = _normalisation(known.weather)
        result["MALICE_NORMALISATION_TERRAIN"] = _normalisation(known.terrain)
    result["MALICE_RULES"] = "; ".join(job.notes)
    return result


def _normalisation(numbers: Modality | Statistics) -> str:
    transform = "" if numbers.transform == "none" else f"{numbers.transform}, "
    return "; ".join(
        f"{name}: {'' if name in ANGLES else transform}clip [{low!r}, {high!r}], subtract {med!r}, divide by "
        f"{high - low!r}"
        for name, low, high, med in zip(numbers.channels, numbers.qmin, numbers.qmax, numbers.med, strict=True)
    )
