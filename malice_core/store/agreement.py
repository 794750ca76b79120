"""Runs a model's graphs on random input and compares: with the published file, and between runtimes."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from malice_core import graphs, runtime
from malice_core.cards import Card
from malice_core.encoder import map_type, suited, temporal_session
from malice_core.errors import ModelError
from malice_core.runtime import Backend
from malice_core.store.published import Published

Floats = npt.NDArray[np.float32]

#: Largest absolute difference of embedding values that float32 rounding always explains (values span about ±2.5), and
#: the largest that it may explain of any model.
TOLERANCE, WORST_ROUNDING = 1e-5, 1e-3
#: Two ways of computing the same may differ by this many times what the last bit of every input changes: 1 to 2.2 times
#: were seen of trained and random ones.
BITS = 4


@dataclass(frozen=True)
class Sample:
    """Random network input.

    Attributes:
        images: (T, C, H, W) normalised channels.
        days: (T,) days since ``bands.DATE_ORIGIN``.
        padded: (T,) True where there is no date.
        weather: (T, 48) normalised, and terrain: (4, H, W) normalised; for MALICE Aux.
    """

    images: Floats
    days: Floats
    padded: npt.NDArray[np.bool_]
    weather: Floats
    terrain: Floats


def sample(channels: int) -> Sample:
    """Six dates of 2018 to 2026, one of them padding, of 24 x 32 pixels: the same for every call."""
    rng = np.random.default_rng(20140303)
    images = rng.normal(0.1, 0.3, (6, channels, 24, 32)).astype(np.float32)
    days = np.array([1420, 1433, 1701, 3050, 4400, 0], np.float32)
    weather, terrain = (rng.normal(0.1, 0.3, shape).astype(np.float32) for shape in ((6, 48), (4, 24, 32)))
    return Sample(images, days, np.array([False] * 5 + [True]), weather, terrain)


def embed(card: Card, sensor: str, given: Sample, backend: Backend) -> Floats:
    """(10, 64, H, W) embedding of a sample by a model's graphs.

    Raises:
        ModelError: if a graph is damaged, cannot be opened, or gives numbers that are not finite.
    """
    _, channels, height, width = given.images.shape
    shape: dict[str, tuple[int, ...]] = {"images": (1, channels, height, width)}
    feeds = [{"images": image[None]} for image in given.images]
    if card.surroundings is not None:
        weather = backend.open(card.graph_bytes(sensor, "weather"), {"weather": given.weather.shape})
        shape["bias"] = (1, card.width, 1, 1)
        for feed, bias in zip(feeds, weather.run({"weather": given.weather}), strict=True):
            feed["bias"] = bias.reshape(shape["bias"]).copy()
    encoding, valid, ground = graphs.date_encoding(given.days), ~given.padded, None
    if card.surroundings is not None:
        terrain = backend.open(card.graph_bytes(sensor, "terrain"), {"terrain": (1, *given.terrain.shape)})
        ground = terrain.run({"terrain": given.terrain[None]})[0].copy()
        encoding, valid = np.pad(encoding, ((0, 1), (0, 0))), np.append(valid, True)
    dates, pixels = len(encoding), height * width
    everywhere = np.ascontiguousarray(np.broadcast_to(valid, (pixels, dates)), np.float32)
    # A session's result is only valid until its next call.
    if backend.kernel:
        from malice_core.kernel import encoding as kernel

        graph = kernel.KernelEncoder.fitted(card.graph_bytes(sensor, "spatial"), backend, 0, f"{card.name}")
        spatial = backend.open(graph, shape)
        maps = np.stack([spatial.run(feed)[0].view(map_type(backend)).copy() for feed in feeds])
        below = None if ground is None else ground.reshape(card.width, -1).T
        found = kernel.session(card, sensor, backend).run(maps, 0, everywhere, encoding, below)
    else:
        spatial = backend.open(card.graph_bytes(sensor, "spatial"), shape)
        features = [spatial.run(feed)[0].copy() for feed in feeds] + ([] if ground is None else [ground])
        inputs = {
            "features": np.ascontiguousarray(np.stack(features).reshape(dates, card.width, -1).transpose(2, 0, 1)),
            "encoding": encoding,
            "valid": everywhere,
        }
        found = temporal_session(card, sensor, backend, pixels, dates).run(inputs)
    if found.shape != (card.queries, card.width, pixels) or not np.isfinite(found).all():
        raise ModelError(
            f"model {card.name}: the {sensor} graphs give {found.shape} or no finite numbers: import it again"
        )
    return np.array(found.reshape(card.queries, card.width, height, width))


def rounding(card: Card, sensor: str, given: Sample, backend: Backend, embedded: Floats) -> float:
    """Largest absolute difference that rounding explains between two ways to embed a sample.

    Attentions that choose sharply make more of small differences, so it is measured: each number of the sample goes up
    or down by its last bit, which is what each of the sums inside a network rounds by too.

    Args:
        card, sensor, given, backend: as of :func:`embed`.
        embedded: what it returned for them.
    """
    rng = np.random.default_rng(1)

    def moved(values: Floats) -> Floats:
        sides = rng.choice(np.array([-1, 1], np.float32), values.shape)
        return np.nextafter(values, values + sides)  # type: ignore[no-any-return]

    other = replace(given, images=moved(given.images), weather=moved(given.weather), terrain=moved(given.terrain))
    seen = _difference(embed(card, sensor, other, backend), embedded)
    return max(TOLERANCE, min(WORST_ROUNDING, BITS * seen))


def run_published(original: Published, given: Sample) -> Floats:
    """(10, 64, H, W) embedding of a sample by a published file, in onnxruntime.

    Raises:
        ModelError: if onnxruntime cannot run the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are reported below, once
    feeds = {"sits": given.images[None], "tpe": given.days[None], "padd_mask": given.padded[None]}
    try:
        session = onnxruntime.InferenceSession(original.content, options, providers=["CPUExecutionProvider"])
        (output,) = session.run(None, feeds)
    except Exception as error:  # onnxruntime's errors share no other base class
        raise ModelError(f"{original.file}: onnxruntime cannot run it: {str(error)[:200]}") from error
    if output.ndim != 5 or output.dtype != np.float32:
        raise ModelError(f"{original.file}: gives {output.shape} {output.dtype}, not (1, 10, 64, H, W) float32")
    return np.array(output[0])


def with_published(card: Card, original: Published) -> float:
    """Largest absolute difference between a model's two graphs and the published file they were read from.

    Raises:
        ModelError: if it exceeds :func:`rounding`, or either side cannot run.
    """
    given = sample(len(card.modalities[original.sensor].channels))
    backend = runtime.choose("onnxruntime", "cpu")
    ours = embed(card, original.sensor, given, backend)
    theirs = run_published(original, given)
    worst, bound = _difference(ours, theirs), rounding(card, original.sensor, given, backend, ours)
    if not worst <= bound:
        raise ModelError(
            f"{original.file}: the graphs built from its weights differ from it by {worst:.2g} "
            f"(at most {bound:.2g} is rounding): this file computes something else and cannot be imported"
        )
    return worst


def between_runtimes(card: Card) -> dict[str, float]:
    """Largest absolute difference between the runtimes, for each modality.

    With one runtime installed the model is run there, and the differences are 0.

    Raises:
        ModelError: if a graph is damaged, cannot be run, or the runtimes differ by more than :func:`rounding`.
    """
    backends = [
        suited(runtime.choose(name, "cpu"), card)
        for name in ("onnxruntime", "openvino")
        if importlib.util.find_spec(name) is not None
    ]
    result = {}
    for sensor, modality in card.modalities.items():
        given = sample(len(modality.channels))
        first, *others = [embed(card, sensor, given, backend) for backend in backends]
        low, high = (np.array(side, np.float32)[:, None, None] for side in (modality.low, modality.high))
        if (first < low).any() or (first > high).any():
            raise ModelError(f"model {card.name}: {sensor} embeddings leave the bounds in its card: import it again")
        result[sensor] = max((_difference(first, other) for other in others), default=0.0)
        bound = rounding(card, sensor, given, backends[0], first)
        if not result[sensor] <= bound:
            raise ModelError(
                f"model {card.name}: runtimes differ by {result[sensor]:.2g} on {sensor} (at most {bound:.2g} is "
                "rounding): report this, and choose --runtime onnxruntime meanwhile"
            )
    return result


def _difference(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).max()) if one.shape == other.shape else float("inf")
