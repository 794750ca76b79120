"""Runs the two graphs of one modality over one block: spatial maps date by date, then pixels in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malice_core.cards import Card
from malice_core.cropping import cropped
from malice_core.graphs import date_encoding
from malice_core.runtime import Backend

#: Pixels given to the temporal graph at once: what it works on then stays in a core's cache.
CHUNK = 256

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Image:
    """One date of one block, ready for the network.

    Attributes:
        values: (C, H, W) network channels over the block's input window.
        observed: (h, w) True where the date was observed, over the block's core.
    """

    values: Float
    observed: Bool


#: Receives pixels start … start+p-1 of a block: (start, values (queries·width, p), counts (p) of observations).
#: Where a count is 0 the values are finite but mean nothing.
Sink = Callable[[int, Float, NDArray[np.uint16]], None]


class Workspace:
    """The largest buffer of a run, (pixels, dates, width) spatial features, used by one modality after the other.

    It starts as zeros and only ever holds features: a date that is skipped in a block leaves old numbers
    behind, and its attention weight of exactly 0 removes whatever is finite.
    """

    def __init__(self, elements: int) -> None:
        self._memory: Float = np.zeros(elements, np.float32)

    def view(self, *shape: int) -> Float:
        """The first elements as an array of ``shape``."""
        return self._memory[: math.prod(shape)].reshape(shape)


class ModalityEncoder:
    """Encodes blocks of one modality; buffers and compiled graphs are made once and reused.

    Args:
        card, sensor: the model and which of its encoders.
        backend: where to compute.
        days: (T,) days since the card's date origin, one an observation.
        input_shape: (H, W) of every block's input.
        core_shape: largest (h, w) of a block's core.
        queries: which queries to keep, in the order of the output bands.
        mask: leave unobserved dates out of the attentions of a pixel (``--nodata mask``).
        workspace: memory for the spatial maps, shared by the modalities of a run.
        halo: pixels around the core that the spatial graph may leave out of its output (0: it returns them all).
    """

    def __init__(
        self,
        card: Card,
        sensor: str,
        backend: Backend,
        days: Sequence[int],
        input_shape: tuple[int, int],
        core_shape: tuple[int, int],
        queries: Sequence[int],
        mask: bool,
        workspace: Workspace,
        halo: int,
    ) -> None:
        channels = len(card.modalities[sensor].channels)
        dates, width = len(days), card.width
        self._pixels = core_shape[0] * core_shape[1]
        self._chunk = min(CHUNK, self._pixels)
        self._encoding = date_encoding(np.asarray(days, np.float32))
        spatial = card.graph_bytes(sensor, "spatial")
        if halo:
            spatial = cropped(spatial, halo, str(card.graph_path(sensor, "spatial")))
        self._spatial = backend.open(spatial, {"images": (1, channels, *input_shape)})
        self._temporal = backend.open(
            card.graph_bytes(sensor, "temporal"),
            {
                "features": (self._chunk, dates, width),
                "encoding": (dates, width),
                "valid": (self._chunk, dates),
            },
        )
        self._features: Float = workspace.view(self._pixels, dates, width)
        self._valid: Float = np.zeros((self._pixels, dates), np.float32)
        self._streams = backend.streams
        self._queries = list(queries)
        self._all_queries = self._queries == list(range(card.queries))
        self._mask = mask

    def encode(
        self,
        images: Iterator[Image],
        crop: tuple[slice, slice],
        pool: ThreadPoolExecutor,
        check: Callable[[], None],
        tick: Callable[[], None],
        sink: Sink,
    ) -> None:
        """Embeds one block.

        Args:
            images: the block's dates in order; read ahead by the caller.
            crop: the core's rows and columns inside the input window, less the halo.
            pool: threads for the calls of the graphs, as many as the backend has streams.
            check: raises when the run was cancelled; called between calls of the graphs.
            tick: called once for each date in the spatial part.
            sink: takes the embedding, in pieces and from several threads.
        """
        shape = (crop[0].stop - crop[0].start, crop[1].stop - crop[1].start)
        pixels = shape[0] * shape[1]
        counts = np.zeros(pixels, np.uint16)
        pending: list[Future[None]] = []
        for index, image in enumerate(images):
            check()
            observed = image.observed.reshape(-1)
            counts += observed
            self._valid[:pixels, index] = observed if self._mask else 1.0
            if self._mask and not observed.any():
                tick()  # excluded from every attention of this block: its features cannot matter
                continue
            # One call waits beside those that run, so that no stream idles and few images are held.
            while len(pending) > self._streams:
                pending.pop(0).result()
            pending.append(pool.submit(self._encode_date, index, image.values, crop, shape, tick))
        for future in pending:
            future.result()

        def chunk(start: int) -> None:
            check()
            stop = min(start + self._chunk, pixels)
            sink(start, self._encode_pixels(start, stop), counts[start:stop])

        for _ in pool.map(chunk, range(0, pixels, self._chunk)):
            check()

    def _encode_date(
        self, index: int, values: Float, crop: tuple[slice, slice], shape: tuple[int, int], tick: Callable[[], None]
    ) -> None:
        maps = self._spatial.run({"images": values[None]})[0]
        core = maps[:, crop[0], crop[1]].transpose(1, 2, 0)
        # The pixels of this core come first in the buffer; splitting that axis makes a view, no copy.
        self._features[: shape[0] * shape[1]].reshape(*shape, *self._features.shape[1:])[:, :, index] = core
        tick()

    def _encode_pixels(self, start: int, stop: int) -> Float:
        # The graph has a fixed number of pixels: the last chunk takes along pixels beyond it (or moves back).
        begin = max(0, min(start, self._pixels - self._chunk))
        feeds = {
            "features": self._features[begin : begin + self._chunk],
            "encoding": self._encoding,
            "valid": self._valid[begin : begin + self._chunk],
        }
        tokens = self._temporal.run(feeds)[start - begin : stop - begin]
        if not self._all_queries:
            tokens = tokens[:, self._queries]
        return tokens.reshape(stop - start, -1).T
