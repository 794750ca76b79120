"""Which encoder a run has: by what computes, with memory that all its modalities share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from malice_core.cards import Card
from malice_core.encoder import ModalityEncoder
from malice_core.grid import BlockGrid
from malice_core.runtime import Backend


def kind_of(backend: Backend) -> type[ModalityEncoder]:
    """The class of the encoders."""
    if backend.device == "cuda":
        from malice_core.gpu.encoding import ResidentEncoder

        return ResidentEncoder
    if backend.kernel:
        from malice_core.kernel.encoding import KernelEncoder

        return KernelEncoder
    return ModalityEncoder


def opened(
    card: Card,
    backend: Backend,
    days: Mapping[str, Sequence[int]],
    grid: BlockGrid,
    queries: Sequence[int],
    mask: bool,
    chunk: int,
) -> dict[str, ModalityEncoder]:
    """An encoder of each modality.

    Args:
        days: of each, as of :class:`malice_core.encoder.ModalityEncoder`, as are the others.
        grid: of the blocks.

    Raises:
        DeviceError, ModelError: if a graph cannot be opened.
    """
    kind, core = kind_of(backend), grid.core_shape
    # Inside the area the network meets no edge of its own, and its decoder need not compute the halo.
    halo = 0 if grid.clip else grid.halo
    maps = grid.input_shape[0] - 2 * halo, grid.input_shape[1] - 2 * halo
    workspace = kind.workspace(card, backend, core, maps, [len(numbers) for numbers in days.values()])
    return {
        sensor: kind(card, sensor, backend, numbers, grid.input_shape, core, queries, mask, workspace, halo, chunk)
        for sensor, numbers in days.items()
    }
