"""Encoding with machine code of our own: of each date, what is kept are the maps before their last convolution.

They are the largest buffer of a run, and have half as many channels as features: blocks are twice as large for it. With
products of bfloat16 they are kept as such, which is what the spatial graph computes then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from malice_core.cards import Card
from malice_core.cropping import channels_last, cropped
from malice_core.encoder import Float, Image, ModalityEncoder, Workspace, map_type
from malice_core.kernel.emit import host
from malice_core.kernel.parting import parted
from malice_core.kernel.session import KernelSession
from malice_core.runtime import Backend
from malice_core.weights import LAST_BORDER, LAST_WIDTH


def session(card: Card, sensor: str, backend: Backend) -> KernelSession:
    """What embeds pixels of such maps."""
    target = host(pairs=backend.kernel == "bfloat16")
    assert target is not None
    return KernelSession(card.graph_bytes(sensor, "spatial"), card.graph_bytes(sensor, "temporal"), target)


class KernelEncoder(ModalityEncoder):
    """As :class:`malice_core.encoder.ModalityEncoder`."""

    _workspace: Workspace

    @classmethod
    def workspace(
        cls, card: Card, backend: Backend, core_shape: tuple[int, int], map_shape: tuple[int, int], dates: Sequence[int]
    ) -> Workspace:
        height, width = map_shape
        pixels = (height + 2 * LAST_BORDER) * (width + 2 * LAST_BORDER)
        return Workspace(pixels * max(dates) * LAST_WIDTH, map_type(backend))

    @classmethod
    def fitted(cls, graph: bytes, backend: Backend, halo: int, source: str) -> bytes:
        """Without its last convolution, it returns maps (N, h + 2, w + 2, 32)."""
        graph = parted(graph).graph
        return channels_last(cropped(graph, halo, source) if halo else graph, map_type(backend) is np.uint16)

    def _open_temporal(self, card: Card, sensor: str, backend: Backend, dates: int) -> None:
        height, width = self._map_shape
        mapped = dates - (card.surroundings is not None)
        self._maps = self._workspace.view(mapped, height + 2 * LAST_BORDER, width + 2 * LAST_BORDER, LAST_WIDTH)
        self._ground = None if mapped == dates else np.zeros((self._pixels, card.width), np.float32)
        self._embed = session(card, sensor, backend)

    def _take_terrain(self, terrain: Callable[[], Float]) -> None:
        core = terrain()
        assert self._ground is not None, "terrain without MALICE Aux"
        self._ground[: core.shape[0] * core.shape[1]] = core.reshape(-1, core.shape[-1])

    def _encode_date(self, index: int, image: Image, tick: Callable[[], None]) -> None:
        # OpenVINO returns bfloat16 as another type of as many bits.
        self._maps[index] = self._spatial.run(self._feeds(image))[0].view(self._maps.dtype)
        tick()

    def _encode_pixels(self, start: int, stop: int) -> Float:
        rows, cols = (slice(part.start, part.stop + 2 * LAST_BORDER) for part in self._crop)
        ground = None if self._ground is None else self._ground[start:stop]
        return self._tokens(
            self._embed.run(self._maps[:, rows, cols], start, self._valid[start:stop], self._encoding, ground)
        )
