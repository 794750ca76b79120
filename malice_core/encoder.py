"""Runs the graphs of one modality over one block: spatial maps date by date, then pixels in chunks.

MALICE Aux has the terrain as one more map, the last, and for each date biases of the spatial graph that its weather is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from malice_core.cards import Card
from malice_core.cropping import channels_last, cropped, pixels_last
from malice_core.graphs import date_encoding
from malice_core.runtime import Array, Backend, Session
from malice_core.spreading import spread
from malice_core.surroundings.cells import touched
from malice_core.weights import TERRAIN_CHANNELS, WEATHER

if TYPE_CHECKING:
    from malice_core.surroundings.inputs import CellWeather

#: Pixels that become numbers of the output at once.
CHUNK = 256
#: Pixels times dates given to the temporal graph at once: what it works on then stays in a core's cache.
TOKENS = 5120
#: Cells whose weather is given to its graph at once.
CELLS = 64

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Image:
    """One date of one block, ready for the network.

    Attributes:
        values: (C, H, W) network channels over the block's input window.
        observed: (h, w) True where the date was observed, over the block's core.
        weather: of the date over the block's input window, for MALICE Aux.
    """

    values: Float
    observed: Bool
    weather: CellWeather | None = None


def pixels_at_once(dates: int) -> int:
    """Pixels given to a temporal graph at once, a power of two and a part of CHUNK."""
    return int(min(CHUNK, 1 << max(16, TOKENS // dates).bit_length() - 1))


def suited(backend: Backend, card: Card) -> Backend:
    """The same, without machine code of our own if graphs of the model are of another form than that."""
    if not backend.kernel:
        return backend
    from malice_core.kernel import parting, session

    same = all(
        session.fits(card.graph_bytes(sensor, "temporal")) and parting.fits(card.graph_bytes(sensor, "spatial"))
        for sensor in card.modalities
    )
    return backend if same else replace(backend, kernel="")


def map_type(backend: Backend) -> type[np.float32] | type[np.uint16]:
    """Of the maps that machine code of our own is given: float32, or bits of bfloat16, as the graph computes them."""
    return np.uint16 if backend.kernel == "bfloat16" else np.float32


def temporal_session(card: Card, sensor: str, backend: Backend, pixels: int, dates: int) -> Session:
    """The temporal graph for ``pixels`` pixels, which come last in what it returns: (queries, 64, pixels).

    Raises:
        DeviceError, ModelError: if it cannot be compiled.
    """
    graph = card.graph_bytes(sensor, "temporal")
    shapes = {"features": (pixels, dates, card.width), "encoding": (dates, card.width), "valid": (pixels, dates)}
    return backend.open(pixels_last(graph, card.queries), shapes)


#: Receives at most CHUNK pixels start … start+p-1 of a block: (start, values (queries·width, p), counts (p) of
#: observations).
#: Where a count is 0 the values are finite but mean nothing.
Sink = Callable[[int, Float, NDArray[np.uint16]], None]


class Workspace:
    """The largest buffer of a run, what the spatial graph returns of all dates, used by one modality after the other.

    It starts as zeros and only ever holds features: a date that is skipped in a block leaves old numbers
    behind, and its attention weight of exactly 0 removes whatever is finite.

    Args:
        elements: how many.
        kind: type of the numbers.
    """

    def __init__(self, elements: int, kind: DTypeLike = np.float32) -> None:
        self._memory: NDArray[Any] = np.zeros(elements, kind)

    def view(self, *shape: int) -> NDArray[Any]:
        """The first elements as an array of ``shape``."""
        return self._memory[: math.prod(shape)].reshape(shape)


class WeatherEncoder:
    """The weather of cells to what the spatial graph is given of it.

    Args:
        card, sensor, backend: as of :class:`ModalityEncoder`.
        input_shape: (H, W) of every image.
    """

    def __init__(self, card: Card, sensor: str, backend: Backend, input_shape: tuple[int, int]) -> None:
        down, right = (touched(side) for side in input_shape)
        #: Of each input; cells beyond those of an image are zeros that no pixel lies in.
        self.shapes: dict[str, tuple[int, ...]] = {
            "bias": (1, down, right, card.width),
            "rows": input_shape[:1],
            "cols": input_shape[1:],
        }
        # Always as many at once, so that a cell's numbers do not depend on the block it is part of.
        self._session = backend.exact.open(card.graph_bytes(sensor, "weather"), {"weather": (CELLS, WEATHER)})

    def __call__(self, weather: CellWeather) -> dict[str, Array]:
        """Biases of the cells, and which of them each row and column of the image lies in."""
        height, width, numbers = weather.values.shape
        cells = weather.values.reshape(-1, numbers)
        biases = np.zeros(self.shapes["bias"], np.float32)
        found = np.empty((len(cells), biases.shape[-1]), np.float32)
        for start in range(0, len(cells), CELLS):
            some = cells[start : start + CELLS]
            given = np.zeros((CELLS, numbers), np.float32)
            given[: len(some)] = some
            found[start : start + CELLS] = self._session.run({"weather": given})[: len(some)]
        biases[0, :height, :width] = found.reshape(height, width, -1)
        return {"bias": biases, "rows": weather.rows.astype(np.int32), "cols": weather.cols.astype(np.int32)}


class TerrainEncoder:
    """The terrain to the token it is of each pixel, for all modalities.

    Args:
        card: the model.
        backend: runtime and device.
        input_shape: (H, W) of the blocks' input windows.
        halo: as of :class:`ModalityEncoder`.
    """

    def __init__(self, card: Card, backend: Backend, input_shape: tuple[int, int], halo: int) -> None:
        sensor = next(iter(card.modalities))
        graph = card.graph_bytes(sensor, "terrain")
        if halo:
            graph = cropped(graph, halo, str(card.graph_path(sensor, "terrain")))
        graph = channels_last(graph)
        # It is called once a block, so that one stream is enough, and each has memory of its own.
        single = replace(backend, streams=1)
        self._session = single.open(graph, {"terrain": (1, TERRAIN_CHANNELS, *input_shape)})

    def __call__(self, terrain: Float, crop: tuple[slice, slice]) -> Float:
        """(h, w, 64) features of the core, of the normalised terrain (4, H, W) of the input window."""
        features: Float = self._session.run({"terrain": terrain[None]})[0]
        return features[crop].copy()


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
        workspace: what :meth:`workspace` made; shared by the modalities of a run.
        halo: pixels around the core that the spatial graph may leave out of its output (0: it returns them all).
        chunk: pixels that each thread encodes at once.
    """

    @classmethod
    def workspace(
        cls, card: Card, backend: Backend, core_shape: tuple[int, int], map_shape: tuple[int, int], dates: Sequence[int]
    ) -> Any:
        """Memory for what the spatial graph returns.

        Args:
            core_shape: as of the encoders.
            map_shape: (H, W) of their input, less the halo.
            dates: how many each has; the terrain is one more.

        Raises:
            DeviceError: if the device has no room for it.
        """
        tokens = max(dates) + (card.surroundings is not None)
        return Workspace(core_shape[0] * core_shape[1] * tokens * card.width)

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
        workspace: Any,
        halo: int,
        chunk: int = CHUNK,
    ) -> None:
        channels = len(card.modalities[sensor].channels)
        dates = len(days)
        self._pixels = core_shape[0] * core_shape[1]
        self._chunk = min(chunk, self._pixels)
        self._encoding = date_encoding(np.asarray(days, np.float32))
        self._weather = WeatherEncoder(card, sensor, backend, input_shape) if card.surroundings else None
        shapes: dict[str, tuple[int, ...]] = {"images": (1, channels, *input_shape)}
        spatial = card.graph_bytes(sensor, "spatial")
        if self._weather is not None:
            # The terrain is one more, which is of no date.
            self._encoding = np.pad(self._encoding, ((0, 1), (0, 0)))
            dates += 1
            shapes |= self._weather.shapes
            spatial = spread(spatial, str(card.graph_path(sensor, "spatial")))
        source = str(card.graph_path(sensor, "spatial"))
        self._spatial = backend.open(self.fitted(spatial, backend, halo, source), shapes)
        #: (H, W) of what the spatial graph returns.
        self._map_shape = input_shape[0] - 2 * halo, input_shape[1] - 2 * halo
        self._workspace = workspace
        self._open_temporal(card, sensor, backend, dates)
        self._valid: Float = np.zeros((self._pixels, dates), np.float32)
        self._streams = backend.streams
        self._queries = list(queries)
        self._all_queries = self._queries == list(range(card.queries))
        self._mask = mask

    @classmethod
    def fitted(cls, graph: bytes, backend: Backend, halo: int, source: str) -> bytes:
        """A spatial graph that returns what is kept of a date.

        Args:
            graph: of the model.
            halo, source: as of :func:`malice_core.cropping.cropped`; 0: nothing is cropped.

        Raises:
            ModelError: as ``cropped`` does.
        """
        return channels_last(cropped(graph, halo, source) if halo else graph)

    def _open_temporal(self, card: Card, sensor: str, backend: Backend, dates: int) -> None:
        self._part = min(pixels_at_once(dates), self._pixels)
        self._temporal = temporal_session(card, sensor, backend, self._part, dates)
        self._features = self._workspace.view(self._pixels, dates, card.width)

    def see(
        self,
        images: Iterator[Image],
        crop: tuple[slice, slice],
        pool: ThreadPoolExecutor,
        check: Callable[[], None],
        tick: Callable[[], None],
        terrain: Callable[[], Float] | None = None,
    ) -> NDArray[np.uint16]:
        """The spatial part of one block; :meth:`embed` is the rest, to be called before the workspace is used again.

        Args:
            images: the block's dates in order; read ahead by the caller.
            crop: the core's rows and columns inside the input window, less the halo.
            pool: threads for the calls of the graphs, as many as the backend has streams.
            check: raises when the run was cancelled; called between calls of the graphs.
            tick: called once for each date.
            terrain: gives its features (h, w, 64) in the core; for MALICE Aux.

        Returns:
            (pixels,) how often each pixel of the core was observed.
        """
        pixels = self._begin(crop)
        counts = np.zeros(pixels, np.uint16)
        pending: list[Future[None]] = []
        if terrain is not None:
            self._valid[:pixels, -1] = 1.0
            pending.append(pool.submit(self._take_terrain, terrain))
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
            pending.append(pool.submit(self._encode_date, index, image, tick))
        for future in pending:
            future.result()
        return counts

    def embed(
        self, counts: NDArray[np.uint16], pool: ThreadPoolExecutor, check: Callable[[], None], sink: Sink
    ) -> None:
        """The temporal part of the block that was seen last.

        Args:
            counts: what :meth:`see` returned.
            pool: threads for the calls, as many as ``backend.pixel_calls``.
            check: as of :meth:`see`.
            sink: takes the embedding, in pieces of at most ``CHUNK`` pixels and from several threads.
        """
        pixels = counts.size

        def chunk(start: int) -> None:
            check()
            stop = min(start + self._chunk, pixels)
            tokens = self._encode_pixels(start, stop)
            # Those of a GPU are more than fit into a processor's cache.
            for first in range(start, stop, CHUNK):
                last = min(first + CHUNK, stop)
                sink(first, tokens[:, first - start : last - start], counts[first:last])

        for _ in pool.map(chunk, range(0, pixels, self._chunk)):
            check()

    def _begin(self, crop: tuple[slice, slice]) -> int:
        """Number of pixels of the block that comes next."""
        self._crop = crop
        self._shape: tuple[int, int] = crop[0].stop - crop[0].start, crop[1].stop - crop[1].start
        return self._shape[0] * self._shape[1]

    def _take_terrain(self, terrain: Callable[[], Float]) -> None:
        core = terrain()
        self._features[: core.shape[0] * core.shape[1], -1] = core.reshape(-1, core.shape[-1])

    def _feeds(self, image: Image) -> dict[str, Array]:
        """What the spatial graph gets of a date."""
        feeds: dict[str, Array] = {"images": image.values[None]}
        if self._weather is not None:
            assert image.weather is not None, "MALICE Aux without weather"
            feeds |= self._weather(image.weather)
        return feeds

    def _encode_date(self, index: int, image: Image, tick: Callable[[], None]) -> None:
        core = self._spatial.run(self._feeds(image))[0][self._crop]
        # The pixels of this core come first in the buffer; splitting that axis makes a view, no copy.
        height, width = self._shape
        self._features[: height * width].reshape(height, width, *self._features.shape[1:])[:, :, index] = core
        tick()

    def _encode_pixels(self, start: int, stop: int) -> Float:
        """(queries·width, p) embedding of the pixels start … stop-1 of a block."""
        if stop - start <= self._part:
            return self._encode_part(start, stop)
        found = np.empty((len(self._queries) * self._features.shape[-1], stop - start), np.float32)
        for first in range(start, stop, self._part):
            last = min(first + self._part, stop)
            found[:, first - start : last - start] = self._encode_part(first, last)
        return found

    def _encode_part(self, start: int, stop: int) -> Float:
        # The graph has a fixed number of pixels: the last call takes along pixels beyond its own (or moves back).
        begin = max(0, min(start, self._pixels - self._part))
        feeds = {
            "features": self._features[begin : begin + self._part],
            "encoding": self._encoding,
            "valid": self._valid[begin : begin + self._part],
        }
        return self._tokens(self._temporal.run(feeds)[..., start - begin : stop - begin])

    def _tokens(self, tokens: Float) -> Float:
        """(queries·width, p) of what the temporal graph returns for p pixels, (all queries, width, p)."""
        if not self._all_queries:
            tokens = tokens[self._queries]
        return tokens.reshape(-1, tokens.shape[-1])
