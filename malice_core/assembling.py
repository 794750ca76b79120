"""From finished blocks to outputs: which files or folders, written while blocks are computed, and put in place.

An output consists of pieces, each written once from the blocks that touch it: a GeoTIFF is one piece, a VRT has tiles,
a Zarr store shards. Pieces of an output are independent, and each is written in steps, which need blocks one after the
other: a GeoTIFF grows row of tiles by row. A thread does those whose blocks are finished, while others are computed.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from malice_core import cube, geotiff, memory, mosaic, processors, product
from malice_core.blocks import environment
from malice_core.cancelling import MESSAGE, Cancel
from malice_core.cube import Store
from malice_core.errors import Cancelled, OutputError
from malice_core.grid import Block, Lattice, Window
from malice_core.mosaic import Mosaic
from malice_core.placing import place_file
from malice_core.plan import Plan
from malice_core.product import Means, Raster, Steps
from malice_core.scratch import REPLACED, Scratch

#: Seconds that a file of another machine may take to be seen here.
PATIENCE = 90.0


class Output(Protocol):
    """One thing to put in place. Where it is pickled, it can be written by other processes."""

    @property
    def pieces(self) -> Sequence[Window]:
        """What each piece covers; together the whole area."""

    def begin(self) -> None:
        """Makes what pieces are written into; keeps those of an earlier run."""

    def write(self, piece: int, means: Means) -> Steps:
        """Writes one piece, unless it is there already, and reads it back.

        What it yields is the window that it needs next: who iterates goes on when the blocks there are finished.

        Args:
            piece: position in ``pieces``.
            means: what to do it with.

        Raises:
            OutputError: if the disk does not take it.
        """

    def place(self) -> None:
        """Gives the whole output its name."""


@dataclass(frozen=True)
class File:
    """One GeoTIFF, an ``Output`` of one piece.

    Attributes:
        target: where it is written, a name in scratch.
    """

    raster: Raster
    target: Path
    blocks: Sequence[Block]
    area: Window
    lattice: Lattice
    cog: bool

    @property
    def pieces(self) -> list[Window]:
        return [self.area]

    def begin(self) -> None:
        """A file of an earlier run is not whole, and begun anew.

        Raises:
            OutputError: if it cannot be deleted.
        """
        try:
            self.target.unlink(missing_ok=True)
        except OSError as error:
            raise product.unwritten(self.raster.path, f"{self.target}: {error.strerror}") from error

    def write(self, piece: int, means: Means) -> Steps:
        return geotiff.grow(self.raster, self.target, self.blocks, self.area, self.lattice, self.cog, means)

    def place(self) -> None:
        place_file(self.target, self.raster.path)


def already_whole(job: Plan) -> bool:
    """True if every output is there and was written by this job.

    Raises:
        OutputError: if a file is there that this job has not written and may not replace.
    """
    output = job.job.output
    owned = {path: product.owner(path) == job.fingerprint for path in job.targets if path.exists()}
    foreign = [path for path, ours in owned.items() if not ours]
    whole = len(owned) == len(job.targets)
    if job.job.format == "vrt":
        mosaic.require_ours(output)
        whole = whole and mosaic.whole(output, job.fingerprint, job.area)
        if not owned.get(output) and mosaic.others(output, job.fingerprint):
            foreign.append(mosaic.folder_of(output))
    elif job.job.format == "zarr":
        # Counts may be asked for later: a store without them is made anew.
        whole = whole and cube.whole(output, _parted(job, {})[0])
    elif job.job.format == "cog" and whole and not foreign:
        # The same job may have written plain ones.
        whole = all(map(geotiff.has_overviews, owned))
    if foreign and not job.job.overwrite:
        raise OutputError(
            f"{foreign[0]} is there and was not written by this job; give --overwrite to replace it, or another name"
        )
    return job.job.resume and not foreign and whole


def outputs_of(job: Plan, blocks: Sequence[Block], folder: Path, tags: Mapping[str, str]) -> list[Output]:
    """What a run writes; the output itself comes last, so that it only appears when all others are there.

    Args:
        folder: scratch, where they grow.
        tags: what they say of themselves.
    """
    options = job.job
    inside, others = _parted(job, tags)
    cog, place = options.format == "cog", (blocks, job.area, job.lattice)
    if options.format == "zarr":
        aside = folder / REPLACED
        main: Output = Store(tuple(inside), job.layout.sensors, *place, options.output, folder / "codes.zarr", aside)
    elif options.format == "vrt":
        main = Mosaic(inside[0], job.fingerprint, *place, options.output, folder / "tiles")
    else:
        main = File(inside[0], folder / "codes.tif", *place, cog)
    return [*(File(raster, folder / f"{raster.key}.tif", *place, cog) for raster in others), main]


def _parted(job: Plan, tags: Mapping[str, str]) -> tuple[list[Raster], list[Raster]]:
    """The rasters of the output itself, and the others."""
    rasters = job.layout.rasters(job.job.output, job.job.counts, tags)
    inside = [one for one in rasters if one.path.absolute() == job.job.output.absolute()]
    return inside, [one for one in rasters if one not in inside]


def _silent(share: float) -> None:
    """Small rasters are no progress."""


@dataclass(order=True)
class _Part:
    """A piece of an output, as far as it is written; the one whose blocks come first comes first.

    Attributes:
        last: of the blocks that the next step needs.
        number: among all pieces of all outputs.
        needed: all of them, by index; of each, rows before ``until``.
        steps: None: not begun yet.
    """

    last: int
    number: int
    needed: Sequence[int] = field(compare=False)
    until: int = field(compare=False)
    output: Output = field(compare=False)
    piece: int = field(compare=False)
    steps: Steps | None = field(default=None, compare=False)

    def need(self, blocks: Sequence[int], until: int) -> None:
        self.needed, self.last, self.until = blocks, blocks[-1], until

    def leave(self) -> None:
        """Removes what is half-written; the run has ended, and said why, so that a disk which is full adds nothing."""
        if self.steps is not None:
            with contextlib.suppress(OutputError):
                self.steps.close()


class Assembler:
    """Writes all outputs of a run while their blocks are computed, and puts them in place.

    Used as a context manager: it is left with everything in place, or with nothing of it; finished blocks and pieces
    stay in scratch.

    Args:
        finished: indices of blocks that are there already.
        tags: what outputs say of themselves.
        advance: told the share of the work just done.

    Raises:
        OutputError: if the disk does not take it.
    """

    def __init__(
        self,
        job: Plan,
        blocks: Sequence[Block],
        scratch: Scratch,
        finished: Iterable[int],
        tags: Mapping[str, str],
        advance: Callable[[float], None],
        cancel: Cancel,
    ) -> None:
        self._job, self._scratch, self._advance, self._cancel = job, scratch, advance, cancel
        self._outputs = outputs_of(job, blocks, scratch.folder, tags)
        self._computed, self._blocks = set(finished), {block.index: block for block in blocks}
        #: Of a block that is being computed: the row before which all are there.
        self._reached: dict[int, int] = {}
        self._seen = set(self._computed)
        # Those of the backend are a worker's, where there are workers; these are done here.
        self._threads = job.job.threads or processors.count()
        # Beside graphs that use all threads one does not wait for more, and GDAL's thread pool would cost half again
        # as much processor time for each tile. Beside a GPU or other processes, what is slowest is to compress.
        self._each = self._threads if job.job.dask is not None or job.backend.device == "cuda" else 1
        self._changed = threading.Condition()
        self._left = False
        self._parts: list[_Part] = []
        self._working: list[Future[None]] = []
        self._pool = ThreadPoolExecutor(self._together(), "assemble", initializer=lambda: environment().__enter__())

    def __enter__(self) -> Assembler:
        for output in self._outputs:
            output.begin()
            for piece, window in enumerate(output.pieces):
                # Where it begins: nothing is opened before.
                needed, until = self._job.grid.touching(window)[:1], window.row + 1
                self._parts.append(_Part(needed[-1], len(self._parts), needed, until, output, piece))
        heapq.heapify(self._parts)
        self._working.append(self._pool.submit(self._work))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._left = True
            self._changed.notify_all()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for part in self._parts:
            part.leave()

    def computed(self, block: int) -> None:
        """To be told of a block that is finished."""
        with self._changed:
            self._computed.add(block)
            self._changed.notify_all()

    def reached(self, block: int, rows: int) -> None:
        """To be told how many of its first rows there are of a block that is still computed."""
        with self._changed:
            self._reached[block] = self._blocks[block].core.row + rows
            self._changed.notify_all()

    def check(self) -> None:
        """Raises:
        Cancelled: if the run was.
        OutputError: what was wrong with an output.
        """
        self._cancel.check()
        for one in self._working:
            if one.done():
                one.result()

    def complete(self) -> None:
        """Writes what is left, when all blocks are computed, and puts the outputs in place.

        Raises:
            Cancelled, OutputError: in one line.
        """
        together = self._together()
        with self._changed:
            self._each = max(1, self._threads // together)
        self._working += [self._pool.submit(self._work) for _ in range(together - 1)]
        for one in as_completed(self._working):
            one.result()
        self._cancel.check()
        already_whole(self._job)  # a file may have appeared under the name meanwhile
        for output in self._outputs:
            output.place()

    def _together(self) -> int:
        """How many pieces can be written at once when nothing is computed any more: there is the memory of that."""
        job = self._job
        room = job.budget.total - job.budget.program
        most = max(len(output.pieces) for output in self._outputs)
        return max(1, min(self._threads, most, room // memory.piece_bytes(job.job.format, job.layout, job.area)))

    def _computing(self) -> bool:
        return len(self._computed) < len(self._blocks)

    def _there(self, block: int, until: int) -> bool:
        """True if rows of a block before ``until``, or all, can be had."""
        end = min(until, self._blocks[block].core.end_row)
        return block in self._computed or self._reached.get(block, end - 1) >= end

    def _go_on(self) -> None:
        """Raises Cancelled if the run was, or failed elsewhere."""
        self._cancel.check()
        if self._left:
            raise Cancelled(MESSAGE)

    def _await(self, needed: Sequence[int], until: int) -> None:
        """Waits until blocks are finished, or their rows before ``until`` are there, and seen here: a file server may
        tell of them late.

        Raises:
            OutputError: if they are not.
        """
        for block in needed:
            with self._changed:
                while not self._there(block, until):
                    self._go_on()
                    self._changed.wait(0.1)
            deadline = time.monotonic() + PATIENCE
            while block not in self._seen:
                if self._scratch.finished(block, self._job.layout.kinds):
                    self._seen.add(block)
                    break
                self._go_on()
                if time.monotonic() > deadline:
                    raise OutputError(
                        f"block {block} was saved by a worker, but is not in {self._scratch.folder}: is that the same "
                        "folder for all workers?"
                    )
                # Reading the folder makes a network file system ask its server anew.
                os.listdir(self._scratch.folder)
                time.sleep(0.2)

    def _work(self) -> None:
        """Does one step after the other, those whose blocks come first."""
        while True:
            with self._changed:
                if not self._parts:
                    return
                part = heapq.heappop(self._parts)
            try:
                self._await(part.needed, part.until)
                window = self._step(part)
            except BaseException:
                part.leave()
                raise
            if window is not None:
                part.need(self._job.grid.touching(window), window.end_row)
                with self._changed:
                    heapq.heappush(self._parts, part)

    def _passed(self, key: str, window: Window) -> None:
        for index in self._job.grid.touching(window):
            core = self._blocks[index].core
            # Other pieces, to the right, may want more of the same rows.
            if core.end_col <= window.end_col:
                rows, _ = core.intersect(window).slices_in(core)
                self._scratch.pass_by(index, key, rows)

    def _step(self, part: _Part) -> Window | None:
        """Writes what a piece has blocks for; returns what it needs next, None if it is whole."""
        if part.steps is None:
            advance = self._advance if part.output is self._outputs[-1] else _silent
            means = Means(self._scratch.load, lambda: self._each, self._go_on, advance, self._computing, self._passed)
            part.steps = part.output.write(part.piece, means)
        return next(part.steps, None)
