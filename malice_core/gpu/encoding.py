"""Encoding on a GPU: features never leave its memory between the spatial graph and the temporal one.

On a processor the two graphs share main memory. On a GPU the maps of all dates would travel out of it and back, several
times the bytes of what goes in and comes out, and be transposed by the processor meanwhile. So the spatial graph writes
each date's map where it stays, and the temporal graph is given a head that picks its pixels out of all maps. Images
come, and embeddings go, while the card computes for other threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from malice_core.cards import Card
from malice_core.cropping import cropped, pixels_last
from malice_core.encoder import Float, Image, ModalityEncoder
from malice_core.errors import MaliceError
from malice_core.gpu.memory import DeviceMemory, Workspace
from malice_core.runtime import Backend, DeviceSession, halved
from malice_core.weights import WIDTH


def gathering(graph: bytes) -> bytes:
    """A temporal graph that takes its pixels out of the maps of all dates.

    Args:
        graph: a temporal graph as :func:`malice_core.graphs.temporal_graph` writes it.

    Returns:
        The same graph with inputs ``maps`` (T, 64, N) and ``pixels`` (P,), int64 indices below N, for ``features``
        (P, T, 64).
    """
    model = onnx.load_model_from_string(graph)
    given = next(one for one in model.graph.input if one.name == "features")
    model.graph.input.remove(given)
    model.graph.input.extend(
        [
            helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["T", WIDTH, "N"]),
            helper.make_tensor_value_info("pixels", TensorProto.INT64, ["P"]),
        ]
    )
    head = [
        helper.make_node("Gather", ["maps", "pixels"], ["gathered"], name="gathered", axis=2),
        helper.make_node("Transpose", ["gathered"], ["features"], name="features", perm=[2, 0, 1]),
    ]
    nodes = [*head, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model.SerializeToString()  # type: ignore[no-any-return]


class ResidentEncoder(ModalityEncoder):
    """As :class:`malice_core.encoder.ModalityEncoder`, with memory of the device."""

    _workspace: Workspace
    _spatial: DeviceSession
    _inside: DeviceSession

    @classmethod
    def workspace(
        cls, card: Card, backend: Backend, core_shape: tuple[int, int], map_shape: tuple[int, int], dates: Sequence[int]
    ) -> Workspace:
        tokens = max(dates) + (card.surroundings is not None)
        return Workspace(map_shape[0] * map_shape[1] * tokens * card.width)

    @classmethod
    def fitted(cls, graph: bytes, backend: Backend, halo: int, source: str) -> bytes:
        return cropped(graph, halo, source) if halo else graph

    def _open_temporal(self, card: Card, sensor: str, backend: Backend, dates: int) -> None:
        height, width = self._map_shape
        self._maps = self._workspace.maps.part(0, (dates, card.width, height * width))
        temporal = pixels_last(card.graph_bytes(sensor, "temporal"), card.queries)
        self._rounded = backend.precision == "float16"
        if self._rounded:
            # Before it is given the maps: only those of its pixels are to be rounded, not all at each call.
            temporal = halved(temporal)
        self._inside = cast(DeviceSession, backend.exact.open(gathering(temporal), {}))
        self._width = card.queries, card.width
        self._days = DeviceMemory.zeros(self._encoding.shape)
        self._days.fill(self._encoding)
        self._where: NDArray[np.int64] = np.zeros(0, np.int64)

    def _begin(self, crop: tuple[slice, slice]) -> int:
        rows, cols = (np.arange(part.start, part.stop) for part in crop)
        self._where = (rows[:, None] * self._map_shape[1] + cols).reshape(-1)
        return super()._begin(crop)

    def _take_terrain(self, terrain: Callable[[], Float]) -> None:
        core = terrain()
        whole = np.zeros((1, core.shape[-1], *self._map_shape), np.float32)
        whole[0][:, self._crop[0], self._crop[1]] = core.transpose(2, 0, 1)
        self._map(-1).fill(whole)

    def _encode_date(self, index: int, image: Image, tick: Callable[[], None]) -> None:
        feeds = {name: self._workspace.put(name, values) for name, values in self._feeds(image).items()}
        self._spatial.run_into(feeds, self._map(index))
        tick()

    def _map(self, index: int) -> DeviceMemory:
        dates, width, pixels = self._maps.shape
        return self._maps.part(index % dates * width * pixels, (1, width, *self._map_shape))

    def _encode_pixels(self, start: int, stop: int) -> Float:
        feeds = {
            "maps": self._maps,
            "pixels": self._workspace.put("pixels", self._where[start:stop]),
            "encoding": self._days,
            "valid": self._workspace.put("valid", self._valid[start:stop]),
        }
        there, tokens = self._workspace.room((*self._width, stop - start))
        self._inside.run_into(feeds, there)
        there.read(tokens)
        if self._rounded and not np.isfinite(tokens).all():
            raise MaliceError(
                "--precision float16: numbers inside the network are larger than float16 has: use --precision float32"
            )
        return self._tokens(tokens)
