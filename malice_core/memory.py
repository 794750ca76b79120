"""How large a block may be so that the run stays under ``--memory``, and the bound the plan prints.

The model of memory is a sum of buffers whose sizes are known, and of what the runtime needs for the
activations of one call, measured (``benchmarks/memory.py``) and rounded up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from malice_core import cube, geotiff, mosaic
from malice_core.cards import Card
from malice_core.encoder import CHUNK, map_type
from malice_core.errors import InputError
from malice_core.gpu import driver
from malice_core.grid import BlockGrid, Window, block_text
from malice_core.outputs import Product
from malice_core.runtime import Backend
from malice_core.surroundings.weather import KEPT
from malice_core.weights import LAST_BORDER, LAST_WIDTH

if TYPE_CHECKING:
    from malice_core.job import Job

#: Interpreter, libraries and compiled graphs, before the first pixel; and what the graphs of MALICE Aux add to it.
BASE_BYTES, AUX_BYTES = 315 << 20, 30 << 20
#: LLVM, where it compiles machine code of our own.
LLVM_BYTES = 35 << 20
#: Tiles that GDAL decodes and compresses.
GDAL_BYTES = 32 << 20
#: The package zarr, where it is used.
ZARR_BYTES = 64 << 20
#: Float32 maps of the block's input size that one call of the spatial graph holds at its peak, and those it holds more
#: where biases are spread: OpenVINO lets them take the place of what comes later, onnxruntime transposes them.
SPATIAL_MAPS = {"openvino": (140, 0), "onnxruntime": (250, 50)}
#: Those it holds more where maps are padded, with published edges.
PADDED_MAPS = 30
#: Floats a pixel and date that one call of the temporal graph holds at its peak: some, and some for each date.
#: OpenVINO fuses the attention; onnxruntime writes down the scores of all pairs of dates, several times.
TEMPORAL_FLOATS = {"openvino": (550, 0), "onnxruntime": (600, 40)}
#: Floats a date that one call of the temporal encoder in machine code holds, of the pixels of a vector.
KERNEL_FLOATS = 360 * 16
#: What onnxruntime's CUDA provider takes of main memory, and of the device's beside what it computes on.
CUDA_HOST_BYTES, CUDA_BYTES = 1500 << 20, 1200 << 20
#: Pixels given to the temporal graph at once on a GPU, which is idle with few: the most that its memory allows.
CHUNKS = (16384, 8192, 4096, 2048, 1024, 512, 256)
#: Share of a GPU's free memory that is planned for: its screen wants some too.
CUDA_SHARE = 0.85
#: Images read ahead, beyond those being encoded.
READ_AHEAD = 4
#: Without --block: sides tried. Beyond 512 the halo costs little and memory grows.
SIDES = tuple(range(512, 0, -8))


@dataclass(frozen=True)
class Budget:
    """Estimated peak memory in bytes: what is always there, and what encoding and writing need, by part.

    Attributes:
        device: on a GPU: bytes of its memory.
        chunk: pixels that each thread encodes at once; on a GPU one call of the temporal graph.
    """

    program: int
    work: Mapping[str, int]
    device: int = 0
    chunk: int = CHUNK

    @property
    def total(self) -> int:
        return self.program + sum(self.work.values())


def budget(
    card: Card,
    backend: Backend,
    grid: BlockGrid,
    dates: Mapping[str, int],
    layout: Product,
    uniform: bool = True,
    room: int = 0,
    format: str = "gtiff",
    held: int = 0,
) -> Budget:
    """Memory of a run with these blocks.

    Args:
        dates: number of dates by sensor key.
        layout, format: of the output.
        uniform: for MALICE Aux: weather is the same everywhere, and none is kept.
        room: bytes of a GPU's memory that may be used.
        held: bytes of each pixel of a block that are kept beside.
    """
    aux = card.surroundings is not None
    # The terrain is one more of the features, and has a graph of its own.
    dates = {sensor: count + aux for sensor, count in dates.items()}
    core, halo = math.prod(grid.core_shape), math.prod(grid.input_shape)
    # Pixels that the spatial graphs return.
    seen = halo if grid.clip else core
    chunk = min(CHUNK, core)
    channels = max(len(card.modalities[sensor].channels) for sensor in dates)
    images = READ_AHEAD + 2 * backend.streams + 1
    base, pair = TEMPORAL_FLOATS[backend.runtime]
    maps, spread = SPATIAL_MAPS[backend.runtime]
    maps += aux * spread + grid.clip * PADDED_MAPS
    anywhere = {
        "weather": 0 if uniform else KEPT,
        # Sensors whose frames differ see different parts of it.
        "terrain": aux * len(dates) * core * card.width * 4,
        # A date is read, normalised and held until its turn; reading makes two more copies of one.
        "images": images * halo * (channels * 4 + 1) + 2 * READ_AHEAD * halo * channels * 4,
        "embeddings": core * (layout.block_bytes + held),
        # Of blocks before.
        "output": piece_bytes(format, layout, grid.area),
    }
    program = BASE_BYTES + aux * AUX_BYTES + GDAL_BYTES + (format == "zarr") * ZARR_BYTES
    program += bool(backend.kernel) * LLVM_BYTES
    if backend.device == "cuda":
        # Each graph keeps what it has taken here too.
        graphs = len(dates) * halo * maps + aux * halo * (maps - spread)
        image = backend.streams * halo * channels * 4
        kept = CUDA_BYTES + image + (seen * max(dates.values()) * card.width + graphs) * 4
        # What each thread has on both sides of a pixel: its embedding, where it is, and which dates are valid.
        exchanged = backend.streams * 4 * (card.queries * card.width + 2 + max(dates.values()))
        pixel = exchanged + 4 * sum(count * (base + pair * count) for count in dates.values())
        # Enough of them that no thread beside the card is without.
        most = min(max(CHUNKS[-1], room - kept) // pixel, core // backend.streams)
        chunk = next((size for size in CHUNKS if size <= most), CHUNKS[-1])
        program += CUDA_HOST_BYTES
        ours = {
            "images on their way": image,
            # Each thread may take some queries out of its embedding.
            "tokens": min(chunk, core) * (exchanged + backend.streams * card.queries * card.width * 4),
            # As it is returned, and in the order of the maps.
            "terrain on its way": aux * 2 * seen * card.width * 4,
        }
        return Budget(program, ours | anywhere, kept + chunk * pixel, chunk)
    # All graphs keep what they have taken. Terrain's has one stream.
    calls = len(dates) * backend.streams
    kept, returned = core * max(dates.values()) * card.width * 4, seen * card.width * 8
    if backend.kernel:
        # It keeps maps before their last convolution, with a border, and the terrain's features apart.
        height, width = grid.input_shape if grid.clip else grid.core_shape
        maps_of_date = (height + 2 * LAST_BORDER) * (width + 2 * LAST_BORDER) * LAST_WIDTH
        size = np.dtype(map_type(backend)).itemsize
        kept = maps_of_date * (max(dates.values()) - aux) * size + aux * len(dates) * core * card.width * 4
        returned = maps_of_date * (4 + size)
    ours = {
        "spatial features": kept + core * max(dates.values()) * len(dates) * 4,
        "spatial graphs": (calls * maps + aux * (maps - spread)) * halo * 4,
        # What they return lies in the runtime's memory twice: as it is computed, and in the order of the output.
        "spatial outputs": calls * returned + aux * seen * card.width * 8,
        "temporal graphs": embedding(card, backend, grid, dates),
    }
    return Budget(program, ours | anywhere)


def embedding(card: Card, backend: Backend, grid: BlockGrid, dates: Mapping[str, int]) -> int:
    """Bytes that the calls of the temporal encoders take on a processor, and what makes the output's numbers of theirs.

    Args:
        dates: number of dates by sensor key, the terrain one of them.
    """
    chunk = min(CHUNK, math.prod(grid.core_shape))
    # Those of int8 are made in three steps.
    result = backend.pixel_calls * 3 * chunk * card.queries * card.width
    base, pair = TEMPORAL_FLOATS[backend.runtime]
    for count in dates.values():
        if backend.kernel:
            # Dates are filled up to a multiple of 4; what is returned is kept, and queries are taken out of it.
            result += backend.pixel_calls * ((count + 3) * KERNEL_FLOATS + 2 * chunk * card.queries * card.width)
        else:
            # Of many dates fewer pixels are given at once, but their graphs do not take less in the same measure.
            result += backend.streams * chunk * count * (base + pair * count)
    return 4 * result


def piece_bytes(format: str, layout: Product, area: Window) -> int:
    """Memory that an output takes while a piece of it is written."""
    if format == "zarr":
        return cube.PIECE_BYTES
    # Of tiles, those of a row are open.
    side = mosaic.SIDE if format == "vrt" else max(area.shape)
    return geotiff.memory(layout.bands, min(side, area.width), Window(0, 0, min(side, area.height), area.width))


def fit(
    job: Job,
    card: Card,
    backend: Backend,
    area: Window,
    dates: Mapping[str, int],
    layout: Product,
    warnings: list[str],
    *,
    uniform: bool = True,
    block: tuple[int, int] | None = None,
    held: int = 0,
) -> tuple[BlockGrid, Budget]:
    """The block grid of a run: ``--block`` when given, else the blocks that fit ``--memory`` and see the fewest pixels.

    Args:
        block: taken for ``--block``.
        held: as of :func:`budget`.

    Raises:
        InputError: if even the smallest block does not fit.
    """

    wanted = block or job.block
    room = int(CUDA_SHARE * driver.free_bytes()) if backend.device == "cuda" else 0

    def of(sides: tuple[int, int]) -> tuple[BlockGrid, Budget]:
        grid = BlockGrid(area, sides, card.halo, card.stride, clip=job.edge == "published")
        return grid, budget(card, backend, grid, dates, layout, uniform, room, job.format, held)

    if wanted is not None:
        grid, cost = of(wanted)
        if cost.total > job.memory:
            warnings.append(
                f"--block {block_text(wanted)} needs about {cost.total / 1e9:.2f} GB, "
                f"more than --memory {job.memory / 1e9:.2f} GB"
            )
        if cost.device > room:
            warnings.append(
                f"--block {block_text(wanted)} needs about {cost.device / 1e9:.2f} GB of the GPU's memory, of which "
                f"{room / 1e9:.2f} GB may be used"
            )
        return grid, cost
    for sides in shapes(area, card, job.edge == "published"):
        grid, cost = of(sides)
        if cost.total <= job.memory and cost.device <= room:
            return grid, cost
    if cost.device > room:
        raise InputError(
            f"of the GPU's memory {room / 1e9:.2f} GB may be used: blocks of {card.stride} pixels with "
            f"{max(dates.values())} dates need {cost.device / 1e9:.2f} GB; give fewer dates with --max-dates, or "
            f"{backend.elsewhere}"
        )
    raise InputError(
        f"--memory {job.memory / 1e9:.3g} GB is too little: blocks of {card.stride} pixels with "
        f"{max(dates.values())} dates need {cost.total / 1e9:.2f} GB; give more, or fewer dates with --max-dates"
    )


def shapes(area: Window, card: Card, clip: bool = False) -> list[tuple[int, int]]:
    """(height, width) of the blocks that may cover an area, those that see the fewest pixels with their halos first.

    Args:
        area: what is to be delivered.
        card: for the halo and the stride.
        clip: as of :class:`malice_core.grid.BlockGrid`.

    One side may be longer than the other: one block of 256 x 512 pixels sees a seventh less than two of 256 x 256.
    """
    # By axis: side of the core to pixels seen. As many blocks as a wanted side needs are made equal.
    seen: list[dict[int, int]] = [{}, {}]
    for side in (side for side in SIDES if side % card.stride == 0):
        grid = BlockGrid(area, (side, side), card.halo, card.stride, clip)
        for known, length, core, given in zip(seen, grid.whole.shape, grid.core_shape, grid.input_shape, strict=True):
            known[core] = -(-length // core) * given
    found = itertools.product(seen[0], seen[1])
    # Of blocks that see as much, squarer ones are smaller with their halos; and rows of lower ones are there earlier,
    # to be written while others are computed.
    return sorted(found, key=lambda shape: (seen[0][shape[0]] * seen[1][shape[1]], abs(shape[0] - shape[1]), shape[0]))
