"""The encoder as an openEO user-defined function, for ``apply_neighborhood`` on Copernicus' Spark-backed service.

A UDF file needs no more than ``from malice_core.openeo_udf import apply_datacube``; docs/openeo.md: how to deploy it.

A chunk is computed as the engine computes a block: on the 8-pixel grid of the CRS, which its coordinates tell, with a
halo that the chunk's overlap fills, mirrored where the cube ends. Nothing is decided by what is in a chunk, so chunks
have no seams. Numbers come from the engine's own parts: reading rules, normalisation, graphs, nodata.
"""

# No "from __future__ import annotations": openEO finds a UDF by the types of its annotations, and texts are none.

import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from numpy.typing import NDArray

from malice_core import encoders, flags, job, memory, models, runtime
from malice_core.bands import CLOUD_CLASSES, SENSORS, Sensor
from malice_core.cards import Card
from malice_core.encoder import Image, ModalityEncoder, suited
from malice_core.errors import InputError, MaliceError
from malice_core.features import Normaliser, mirror_source, mirrored
from malice_core.grid import Block, BlockGrid, Window
from malice_core.images.clouds import checked
from malice_core.images.cubes import Chunk, Series
from malice_core.images.sources import Findings
from malice_core.product import BlockCodes, Layout
from malice_core.spool import Held
from malice_core.store.locating import located

#: What ``sensor`` may be.
CHOICES = {"s2": ("s2",), "s1": ("s1",), "both": ("s2", "s1")}
#: How a model gets there.
_MODEL = "give the folder or the zip of a model in the context"
#: Threads, unless told: Spark gives an executor one or two processors of a machine that shows it all.
THREADS = 2


def apply_datacube(cube: xarray.DataArray, context: dict) -> xarray.DataArray:  # type: ignore[type-arg]
    """Embeds one chunk.

    Args:
        cube: (t, bands, y, x) in any order, with labels: dates, names of bands, coordinates of the pixels' centres.
        context: what :class:`Options` has, by name; may be empty.

    Returns:
        (bands, y, x) float32, bands named as the engine's, y and x as of ``cube``. NaN are pixels without an
        observation, and the overlap where ``size`` and ``overlap`` are given.

    Raises:
        MaliceError: whatever is wrong, in one line.
    """
    try:
        options = Options.of(context or {})
        with _kept.lock:
            return _embedded(cube, options)
    except MaliceError as error:
        # The job's log shows what an error comes from, too, and there it would have the words of the command line.
        raise type(error)(_of_context(str(error))) from None


@dataclass(frozen=True)
class Options:
    """The context of the UDF.

    Attributes:
        model: name, folder or zip; None: the one that is installed.
        sensor: ``s2``, ``s1``, ``both``; None: those that the cube has bands of.
        queries: which to keep; None: all.
        mask_clouds: pixels that the band SCL calls cloudy are missing observations; None: if there is that band.
        cloud_classes: which classes are cloud.
        s2_offset: added to Sentinel-2 values: 0 or -1000.
        size, overlap: pixels, as given to ``apply_neighborhood``: only what it keeps is computed.
        extent: (west, south, east, north) of the cube in its CRS: beyond it the images are mirrored.
        precision, runtime, memory, threads: as the engine's options.
    """

    model: str | None = None
    sensor: str | None = None
    queries: tuple[int, ...] | None = None
    mask_clouds: bool | None = None
    cloud_classes: tuple[int, ...] = CLOUD_CLASSES
    s2_offset: int = 0
    size: int | None = None
    overlap: int | None = None
    extent: tuple[float, ...] | None = None
    precision: str = "float32"
    runtime: str = "auto"
    memory: int = 2_000_000_000
    threads: int = THREADS

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> "Options":
        """Checks a context.

        Raises:
            InputError: naming the key and the value that is wrong.
        """
        if not isinstance(context, Mapping):
            raise InputError(f'the context is {context!r:.60}, must be names and values, such as {{"queries": [0, 3]}}')
        found: dict[str, Any] = {}
        for key, value in context.items():
            if key not in _READERS:
                raise InputError(f"context: '{key}' is none of {', '.join(_READERS)}")
            if value is None:
                continue
            found[key] = _READERS[key](key, value)
        options = cls(**found)
        if (options.size is None) != (options.overlap is None):
            raise InputError("context: size and overlap go together: give both as in apply_neighborhood, or none")
        return options


#: What the engine says of its command line, and what is meant where there is none; tried in this order.
_WORDS = (
    (r"python -m malice_core\.models install malice, or import FILE… --name \S+, gets one", _MODEL),
    (r"python -m malice_core\.models install malice gets the published one", _MODEL),
    (r"install malice for real work: python -m malice_core\.models install malice", f"for real work {_MODEL}"),
    (r"(verify or import|import or install) the model again", "give a whole copy of it"),
    (r"with --max-dates", "in load_collection"),
    (r"a smaller --block or (--memory|--device cpu)", "a smaller memory in the context"),
    (r"^--(?=[a-z])", "context: "),
    (r"(?<=\s)--(?=[a-z])", ""),
)


def _of_context(text: str) -> str:
    """A message of the engine in words of the context."""
    for pattern, words in _WORDS:
        text = re.sub(pattern, words, text)
    return text


def _wrong(key: str, value: Any, wanted: str) -> InputError:
    return InputError(f"context: {key} is {value!r:.60}, must be {wanted}")


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(key, value, "text")
    return value


def _one_of(*choices: Any) -> Any:
    def read(key: str, value: Any) -> Any:
        if value not in choices or isinstance(value, bool) != isinstance(choices[0], bool):
            raise _wrong(key, value, " or ".join(map(str, choices)))
        return value

    return read


def _whole(key: str, value: Any) -> int:
    # Numbers come through JSON and Java, which may make floats of them.
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value % 1:
        raise _wrong(key, value, "a whole number, not negative")
    return int(value)


def _positive(key: str, value: Any) -> int:
    if not _whole(key, value):
        raise _wrong(key, value, "positive")
    return int(value)


def _wholes(key: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not len(value):
        raise _wrong(key, value, "a list of whole numbers")
    numbers = tuple(_whole(key, one) for one in value)
    if len(set(numbers)) < len(numbers):
        raise _wrong(key, value, "without a number twice")
    return numbers


def _box(key: str, value: Any) -> tuple[float, ...]:
    numbers = isinstance(value, Sequence) and all(isinstance(one, int | float) for one in value)
    if not numbers or len(value) != 4 or not (value[0] < value[2] and value[1] < value[3]):
        raise _wrong(key, value, "[west, south, east, north] in the CRS of the cube")
    return tuple(map(float, value))


_READERS: dict[str, Any] = {
    "model": _text,
    "sensor": _one_of(*CHOICES),
    "queries": _wholes,
    "mask_clouds": _one_of(True, False),
    "cloud_classes": lambda key, value: checked(_wholes(key, value), f"context: {key}"),
    "s2_offset": _one_of(0, -1000),
    "size": _positive,
    "overlap": _whole,
    "extent": _box,
    "precision": _one_of("float32", "bfloat16"),  # what a processor has
    "runtime": _one_of(*job.RUNTIMES),
    "memory": lambda key, value: flags.size(_text(key, value), f"context: {key}"),
    "threads": _positive,
}


class _Kept:
    """What stays from chunk to chunk in a process: compiled graphs, their buffers, and what was told already."""

    def __init__(self) -> None:
        #: Buffers are shared: one chunk at a time.
        self.lock = threading.Lock()
        self._plan: tuple[Any, ...] = ()
        self._encoders: dict[str, ModalityEncoder] = {}
        self._told: set[str] = set()

    def encoders(
        self,
        card: Card,
        backend: runtime.Backend,
        days: Mapping[str, Sequence[int]],
        grid: BlockGrid,
        queries: tuple[int, ...],
        chunk: int,
    ) -> dict[str, ModalityEncoder]:
        """An encoder of each sensor in ``days``, for blocks of ``grid``; they share their workspace.

        They are those of the last chunk if it was of the same kind. Else those are forgotten first, all of them:
        what was planned for a chunk is then all that there is, and ``memory`` bounds it.
        """
        dates = tuple((sensor, tuple(numbers)) for sensor, numbers in days.items())
        plan = (card.identity, backend, dates, grid.input_shape, grid.core_shape, grid.halo, queries, chunk)
        if plan != self._plan:
            self._plan, self._encoders = (), {}
            self._encoders = encoders.opened(card, backend, days, grid, queries, True, chunk)
            self._plan = plan
        return self._encoders

    def tell(self, findings: Findings) -> None:
        """Warnings into the job's log, each once: a job has thousands of chunks."""
        from openeo.udf.debug import inspect  # where a UDF runs, there is openeo; nothing else here needs it

        for text in map(_of_context, findings.warnings):
            if text not in self._told:
                self._told.add(text)
                inspect(message=text, code="malice", level="warning")


_kept = _Kept()


def _embedded(cube: xarray.DataArray, options: Options) -> xarray.DataArray:
    card = located(options.model)
    if card.surroundings is not None:
        raise InputError(
            f"model {card.name} is one of MALICE Aux and wants weather, terrain and angles, which a cube does not "
            "hold: give a model of MALICE, or run malice_core.embed"
        )
    chunk = Chunk.of(cube)
    sensors = _sensors(chunk, card, options)
    queries = options.queries if options.queries is not None else tuple(range(card.queries))
    if wrong := [query for query in queries if query >= card.queries]:
        raise InputError(f"context: queries has {wrong[0]}: model {card.name} has queries 0 to {card.queries - 1}")
    backend = suited(runtime.choose(options.runtime, "cpu", options.precision, options.threads), card)
    findings = Findings()
    if caution := models.caution(card):
        findings.warn(caution)
    # What the cube is beyond this chunk, a chunk does not know.
    bounds = None if options.extent is None else chunk.lattice.window(*options.extent)
    extent = chunk.window if bounds is None else chunk.window.intersect(bounds)
    area = _area(chunk, bounds, card, options, findings).intersect(extent)
    if not extent.pixels and options.extent is not None:
        findings.warn(
            f"context: extent is {list(options.extent)}: chunks outside of it are nodata; it is in the CRS of the cube"
        )

    layout = Layout.of(card, sensors, queries, "float32")
    result = np.full((layout.bands, *chunk.window.shape), np.nan, np.float32)
    parts = dict(zip(sensors, np.split(result, len(sensors)), strict=True))
    found: list[_Seen] = []
    # A chunk may come without a single label along t.
    for sensor in sensors if area.pixels and chunk.days else ():
        classes = options.cloud_classes if sensor == "s2" and _masks(chunk, options) else ()
        series = chunk.series(SENSORS[sensor], extent, float(options.s2_offset) if sensor == "s2" else 0.0, classes)
        series.check(findings)
        series.doubts(not any(chunk.has(other) for other in _others(sensor)), findings)
        # Dates that show nothing here have no weight in any attention: they are left out, which changes no number.
        # Other dates are other graphs, but compiling those takes no longer than two dates more would.
        dates = [index for index in range(len(series.days)) if series.read(index, area)[1].any()]
        if dates:
            found.append(_Seen(series, dates))
    if found:
        _encode(found, area, card, backend, queries, options.memory, parts)
    _kept.tell(findings)
    return xarray.DataArray(
        result if chunk.southward else np.ascontiguousarray(result[:, ::-1]),
        dims=("bands", "y", "x"),
        coords={"bands": layout.names, "y": cube.coords["y"].values, "x": cube.coords["x"].values},
    )


def _sensors(chunk: Chunk, card: Card, options: Options) -> tuple[str, ...]:
    """The sensors to embed, in the order of the output's bands.

    Raises:
        InputError: if the model or the cube has none of them.
    """
    if options.sensor is None:
        sensors = tuple(key for key in CHOICES["both"] if chunk.has(SENSORS[key]))
        if not sensors:
            raise InputError(
                f"the cube has no band of Sentinel-2 or Sentinel-1, only {', '.join(chunk.names)}: name them "
                "B02 … B12, VV, VH"
            )
    else:
        sensors = CHOICES[options.sensor]
    for sensor in sensors:
        if sensor not in card.modalities:
            have = " and ".join(card.modalities)
            raise InputError(f'model {card.name} has no encoder of {sensor}: give "sensor": {have} in the context')
    return sensors


def _others(sensor: str) -> list[Sensor]:
    return [SENSORS[key] for key in CHOICES["both"] if key != sensor]


def _masks(chunk: Chunk, options: Options) -> bool:
    return chunk.has(SENSORS["scl"]) if options.mask_clouds is None else options.mask_clouds


def _area(chunk: Chunk, bounds: Window | None, card: Card, options: Options, findings: Findings) -> Window:
    """The pixels to compute: those that ``apply_neighborhood`` keeps, where they are known; else all."""
    if options.size is None or options.overlap is None:
        findings.warn(
            "the whole chunk is computed, its overlap too: give size and overlap in the context, as in "
            "apply_neighborhood"
        )
        return chunk.window
    # Where a cube ends, a service may give a smaller chunk, and nobody knows which part of it will be kept.
    if chunk.window.shape != (options.size + 2 * options.overlap,) * 2:
        return chunk.window
    area = chunk.window.expand(-options.overlap)
    needed = area.snap(card.stride).expand(card.halo)
    if not chunk.window.contains(needed if bounds is None else needed.intersect(bounds)):
        findings.warn(
            f"overlap {options.overlap} is too small for seamless chunks: give {card.halo + card.stride} pixels in "
            f"apply_neighborhood and in the context ({card.halo} are enough for chunks on the {card.stride}-pixel grid "
            "of the CRS)"
        )
    return area


@dataclass(frozen=True)
class _Seen:
    """The observations of one sensor in a chunk.

    Attributes:
        dates: indices of those that show something of what is to be computed; at least one.
    """

    series: Series
    dates: list[int]


def _encode(
    found: Sequence[_Seen],
    area: Window,
    card: Card,
    backend: runtime.Backend,
    queries: tuple[int, ...],
    room: int,
    results: Mapping[str, NDArray[np.float32]],
) -> None:
    """Embeds ``area`` block by block, each sensor of ``found`` into its one of ``results`` (bands, rows and columns of
    the chunk), with ``room`` bytes."""
    days = {
        one.series.sensor.key: [(one.series.days[index] - card.date_origin).days for index in one.dates]
        for one in found
    }
    # Embeddings are held of one sensor at a time, graphs of all.
    layouts = {sensor: Layout.of(card, (sensor,), queries, "float32") for sensor in days}
    limits = job.Job(output=Path("none"), memory=room)
    dates = {sensor: len(numbers) for sensor, numbers in days.items()}
    layout = next(iter(layouts.values()))
    held = layout.bands * layout.storage.itemsize
    grid, budget = memory.fit(limits, card, backend, area, dates, layout, [], held=held)
    encoders = _kept.encoders(card, backend, days, grid, queries, budget.chunk)
    for one in found:
        series, sensor = one.series, one.series.sensor.key
        encoder, normalise = encoders[sensor], Normaliser(sensor, card.modalities[sensor])
        with (
            ThreadPoolExecutor(backend.streams, "encode") as pool,
            ThreadPoolExecutor(backend.pixel_calls, "encode") as embedding,
        ):
            for block in grid.blocks():
                images = (_image(series, index, block, normalise) for index in one.dates)
                counts = encoder.see(images, block.core.slices_in(block.input.expand(-grid.halo)), pool, _go_on, _go_on)
                made = Held(block.core.pixels, layouts[sensor].kinds)
                encoder.embed(counts, embedding, _go_on, partial(BlockCodes(layouts[sensor], made).put, 0))
                rows, cols = block.core.slices_in(series.chunk.window)
                results[sensor][:, rows, cols] = made.arrays["codes"].reshape(-1, *block.core.shape)
                # Those of the next block are not to be held beside them.
                del made


def _image(series: Series, index: int, block: Block, normalise: Normaliser) -> Image:
    """One date of one block, mirrored beyond the cube, normalised."""
    window, rows, cols = mirror_source(block.input, series.extent)
    values, observed = series.read(index, window)
    values, observed = mirrored(values, rows, cols), mirrored(observed, rows, cols)
    return Image(normalise(values, observed), observed[block.core.slices_in(block.input)])


def _go_on() -> None:
    """Nobody cancels a chunk, nobody counts its dates."""
