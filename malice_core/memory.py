"""How large a block may be so that the run stays under ``--memory``, and the bound the plan prints.

The model of memory is a sum of buffers whose sizes are known, and of what the runtime needs for the
activations of one call, measured (``benchmarks/memory.py``) and rounded up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from malice_core.cards import Card
from malice_core.encoder import CHUNK
from malice_core.errors import InputError
from malice_core.grid import BlockGrid, Window
from malice_core.outputs import Product
from malice_core.product import STRIP_BYTES, TILE
from malice_core.runtime import Backend
from malice_core.surroundings.weather import KEPT

if TYPE_CHECKING:
    from malice_core.job import Job

#: Interpreter, libraries and compiled graphs, before the first pixel; and what the graphs of MALICE Aux add to it.
BASE_BYTES, AUX_BYTES = 230 << 20, 30 << 20
#: Decoded blocks GDAL may keep.
GDAL_CACHE_BYTES = 64 << 20
#: Float32 maps of the block's input size that one call of the spatial graph holds at its peak, and those it holds more
#: where biases are spread: OpenVINO lets them take the place of what comes later, onnxruntime transposes them.
SPATIAL_MAPS = {"openvino": (140, 0), "onnxruntime": (250, 50)}
#: Floats a pixel and date that one call of the temporal graph holds at its peak: some, and some for each date.
#: OpenVINO fuses the attention; onnxruntime writes down the scores of all pairs of dates, several times.
TEMPORAL_FLOATS = {"openvino": (550, 0), "onnxruntime": (600, 40)}
#: Images read ahead, beyond those being encoded.
READ_AHEAD = 4
#: Without --block: sides tried, largest first. Beyond 512 the halo costs little and memory grows.
SIDES = tuple(range(512, 0, -8))


@dataclass(frozen=True)
class Budget:
    """Estimated peak memory in bytes: what is always there, and what encoding and then writing need, by part."""

    program: int
    encoding: Mapping[str, int]
    writing: Mapping[str, int]

    @property
    def total(self) -> int:
        return self.program + max(sum(self.encoding.values()), sum(self.writing.values()))


def budget(
    card: Card, backend: Backend, grid: BlockGrid, dates: Mapping[str, int], layout: Product, uniform: bool = True
) -> Budget:
    """Memory of a run with these blocks.

    Args:
        dates: number of dates by sensor key.
        uniform: for MALICE Aux: weather is the same everywhere, and none is kept.
    """
    aux = card.surroundings is not None
    # The terrain is one more of the features, and has a graph of its own.
    dates = {sensor: count + aux for sensor, count in dates.items()}
    core = grid.core_shape[0] * grid.core_shape[1]
    halo = grid.input_shape[0] * grid.input_shape[1]
    chunk = min(CHUNK, core)
    channels = max(len(card.modalities[sensor].channels) for sensor in dates)
    images = READ_AHEAD + 2 * backend.streams + 1
    base, pair = TEMPORAL_FLOATS[backend.runtime]
    maps, spread = SPATIAL_MAPS[backend.runtime]
    # All graphs keep what they have taken. Terrain's has one stream.
    calls = len(dates) * backend.streams
    return Budget(
        BASE_BYTES + aux * AUX_BYTES + GDAL_CACHE_BYTES,
        {
            "spatial features": core * max(dates.values()) * (card.width + len(dates)) * 4,
            "spatial graphs": (calls * (maps + aux * spread) + aux * maps) * halo * 4,
            # What they return lies in the runtime's memory twice: as it is computed, and in the order of the output.
            "spatial outputs": 2 * (calls + aux) * core * card.width * 4,
            "weather": 0 if uniform else KEPT,
            "terrain": aux * core * card.width * 4,
            "temporal graphs": sum(
                backend.streams * chunk * count * (base + pair * count) * 4 for count in dates.values()
            ),
            # A date is read, normalised and held until its turn; reading makes two more copies of one.
            "images": images * halo * (channels * 4 + 1) + 2 * READ_AHEAD * halo * channels * 4,
            # Of one block: written while the next one's images are seen, and gone before it has any.
            "embeddings": core * layout.block_bytes,
        },
        {"strips": 3 * max(STRIP_BYTES, TILE * grid.area.width * layout.storage.itemsize)},
    )


def fit(
    job: Job,
    card: Card,
    backend: Backend,
    area: Window,
    dates: Mapping[str, int],
    layout: Product,
    warnings: list[str],
    uniform: bool = True,
) -> tuple[BlockGrid, Budget]:
    """The block grid of a run: ``--block`` when given, else the largest blocks that fit ``--memory``.

    Raises:
        InputError: if even the smallest block does not fit.
    """

    def of(side: int) -> tuple[BlockGrid, Budget]:
        grid = BlockGrid(area, side, card.halo, card.stride, clip=job.edge == "published")
        return grid, budget(card, backend, grid, dates, layout, uniform)

    if job.block is not None:
        grid, cost = of(job.block)
        if cost.total > job.memory:
            warnings.append(
                f"--block {job.block} needs about {cost.total / 1e9:.2f} GB, "
                f"more than --memory {job.memory / 1e9:.2f} GB"
            )
        return grid, cost
    for side in (side for side in SIDES if side % card.stride == 0):
        grid, cost = of(side)
        if cost.total <= job.memory:
            return grid, cost
    raise InputError(
        f"--memory {job.memory / 1e9:.2f} GB is too little: blocks of {card.stride} pixels with "
        f"{max(dates.values())} dates need {cost.total / 1e9:.2f} GB; give more, or fewer dates with --max-dates"
    )
