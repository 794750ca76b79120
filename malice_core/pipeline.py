"""Executes a plan: has its blocks encoded, here or on a cluster, and the output put together beside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

import malice_core
from malice_core import assembling, bands, mosaic, plan, workers
from malice_core.assembling import Assembler
from malice_core.blocks import BlockEncoder, units_of
from malice_core.cancelling import Cancel
from malice_core.cards import Modality
from malice_core.grid import Block
from malice_core.plan import Plan
from malice_core.reporting import Reporter
from malice_core.scratch import Scratch, owner_of
from malice_core.store.statistics import ANGLES, Statistics


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
        finished = {block.index for block in blocks if scratch.finished(block.index, job.layout.kinds)}
        todo = [block for block in blocks if block.index not in finished]
        progress = Progress(job, len(blocks), len(todo), reporter)
        with Assembler(job, blocks, scratch, finished, tags(job), progress.assembled, cancel) as assembler:
            if todo and job.job.dask is not None:
                workers.encode(job, todo, scratch, progress, assembler, reporter)
            elif todo:
                _encode_blocks(job, todo, scratch, progress, assembler)
            assembler.complete()
        progress.finish()
        scratch.remove()
    return files


class Progress:
    """Counts work in (block, date) units; putting the output together counts as one block."""

    def __init__(self, job: Plan, blocks: int, todo: int, reporter: Reporter) -> None:
        #: Of one block.
        self.units = units_of(job)
        self._total = self.units * (blocks + 1)
        self._done: float = self.units * (blocks - todo)
        self._left = self.units * todo
        self._lock = threading.Lock()
        self._reporter = reporter
        reporter.progress(int(self._done), self._total, "encoding")

    def encoded(self, units: int) -> None:
        with self._lock:
            self._left -= units
            self._add(units)

    def assembled(self, share: float) -> None:
        with self._lock:
            self._add(self.units * share)

    def _add(self, units: float) -> None:
        self._done += units
        # Both are done at once: one word as long as there is something to encode.
        step = "encoding" if self._left > 0 else "writing"
        self._reporter.progress(min(int(self._done), self._total - 1), self._total, step)

    def finish(self) -> None:
        self._reporter.progress(self._total, self._total, "done")


def _encode_blocks(job: Plan, todo: list[Block], scratch: Scratch, progress: Progress, assembler: Assembler) -> None:
    encoder = BlockEncoder(job, scratch)
    try:
        images = encoder.images(todo)
        encoder.open()
        assembler.check()
        for block in todo:
            tell = partial(assembler.computed, block.index)
            if block is todo[-1]:
                rows = partial(assembler.reached, block.index)
                saved = encoder.encode(block, images, assembler.check, progress.encoded, rows)
                # Saving takes as long as the disk does: nothing of the output waits for the last block's.
                tell()
                saved.result()
            else:
                saved = encoder.encode(block, images, assembler.check, progress.encoded)
                saved.add_done_callback(partial(_if_saved, tell))
    finally:
        encoder.close()


def _if_saved(tell: Callable[[], None], saved: Future[None]) -> None:
    if not saved.cancelled() and saved.exception() is None:
        tell()


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
