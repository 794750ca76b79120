"""From finished blocks to outputs: which files or folders, and in which order they are written and put in place.

An output consists of pieces, each written once from the blocks that touch it: a GeoTIFF is one piece, a VRT has tiles,
a Zarr store shards. Pieces of an output are independent, so that threads write them here, and others could elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from malice_core import cube, mosaic, product
from malice_core.cancelling import Cancel
from malice_core.cube import Store
from malice_core.errors import OutputError
from malice_core.grid import Block, Lattice, Window
from malice_core.mosaic import Mosaic
from malice_core.placing import place_file
from malice_core.plan import Plan
from malice_core.product import STRIP_BYTES, Load, Raster
from malice_core.runtime import processors
from malice_core.scratch import REPLACED, Scratch


class Output(Protocol):
    """One thing to put in place. Where it is pickled, it can be written by other processes."""

    @property
    def pieces(self) -> Sequence[Window]:
        """What each piece covers; together the whole area."""

    @property
    def piece_bytes(self) -> int:
        """Memory that writing one piece takes."""

    def begin(self) -> None:
        """Makes what pieces are written into; keeps those of an earlier run."""

    def write(
        self, piece: int, load: Load, threads: int, check: Callable[[], None], advance: Callable[[float], None]
    ) -> None:
        """Writes one piece, unless it is there already, and reads it back; see ``cube.Store.write``."""

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

    @property
    def piece_bytes(self) -> int:
        return 3 * STRIP_BYTES

    def begin(self) -> None:
        """A file of an earlier run is not whole, and begun anew."""
        self.target.unlink(missing_ok=True)

    def write(
        self, piece: int, load: Load, threads: int, check: Callable[[], None], advance: Callable[[float], None]
    ) -> None:
        product.assemble(
            self.raster, self.target, self.blocks, load, self.area, self.lattice, self.cog, threads, check, advance
        )

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


def assemble(
    job: Plan,
    blocks: Sequence[Block],
    scratch: Scratch,
    tags: Mapping[str, str],
    advance: Callable[[float], None],
    cancel: Cancel,
) -> None:
    """Writes all outputs of finished blocks and puts them in place.

    Args:
        tags: what they say of themselves.
        advance: told the share of the work just done.

    Raises:
        Cancelled, OutputError: in one line; what is written stays in scratch.
    """
    outputs = outputs_of(job, blocks, scratch.folder, tags)
    # Nothing is encoded any more: there is the memory that this was planned with.
    room = job.budget.total - job.budget.program
    # Those of the backend are a worker's, where there are workers; these are done here, and idle.
    threads = job.job.threads or processors()
    for output in outputs:
        output.begin()
        _write(output, scratch.load, room, threads, cancel, advance if output is outputs[-1] else _silent)
    cancel.check()
    already_whole(job)  # a file may have appeared under the name meanwhile
    for output in outputs:
        output.place()


def _silent(share: float) -> None:
    """Small rasters are no progress."""


def _write(
    output: Output, load: Load, room: int, threads: int, cancel: Cancel, advance: Callable[[float], None]
) -> None:
    """Writes all pieces, some at a time; stops at the first that fails."""
    count = len(output.pieces)
    together = max(1, min(threads, count, room // output.piece_bytes))
    pool = ThreadPoolExecutor(together, "assemble")
    try:
        each = max(1, threads // together)
        waiting = [pool.submit(output.write, piece, load, each, cancel.check, advance) for piece in range(count)]
        for done in as_completed(waiting):
            done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
