"""The temporal encoder in machine code against its graph in onnxruntime, and where it is not used."""

from __future__ import annotations

import ctypes
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx
import pytest

pytest.importorskip("llvmlite", reason="llvmlite has no wheels here")
from helpers_embed import Array
from onnx import numpy_helper

from malice_core import doctor, graphs, models, runtime
from malice_core.bfloat16 import rounded
from malice_core.cards import Card
from malice_core.cropping import pixels_last
from malice_core.encoder import pixels_at_once, suited, temporal_session
from malice_core.errors import DeviceError
from malice_core.kernel import emit, session, temporal
from malice_core.kernel.emit import Code, Emitter, Target, host
from malice_core.kernel.session import KernelSession, form, packed
from malice_core.runtime import Backend

pytestmark = pytest.mark.skipif(host() is None, reason="a processor without AVX2 and FMA, or NEON")
#: Widths of vectors: all that this processor has.
WIDTHS = [lanes for lanes in (16, 8, 4) if lanes <= getattr(host(), "lanes", 0)]
#: All that this processor can be asked for.
TARGETS = [*(host(lanes) for lanes in WIDTHS), *([host(pairs=True)] if host(pairs=True) else [])]
NAMES = [f"{one.lanes}{' bfloat16' * one.pairs}" for one in TARGETS if one]
needs_pairs = pytest.mark.skipif(host(pairs=True) is None, reason="a processor without products of bfloat16")


@pytest.fixture(scope="module")
def card() -> Card:
    return models.load("malice-sim")


@pytest.fixture(scope="module", params=["s2", "s1"])
def graph(card: Card, request: pytest.FixtureRequest) -> bytes:
    return card.graph_bytes(request.param, "temporal")


def target(widest: int = 16) -> Target:
    found = host(widest)
    assert found is not None
    return found


def given(pixels: int, dates: int, scale: float = 1.0) -> dict[str, Array]:
    """Features, some of whose dates are missing; the first pixel has none."""
    rng = np.random.default_rng(pixels * 1000 + dates)
    valid = (rng.random((pixels, dates)) < 0.6).astype(np.float32)
    valid[:, 0] = 1
    valid[0] = 0
    return {
        "features": np.maximum(rng.normal(0, scale, (pixels, dates, 64)), 0).astype(np.float32),
        "encoding": graphs.date_encoding(np.sort(rng.integers(3000, 4500, dates)).astype(np.float32)),
        "valid": valid,
    }


def exact(graph: bytes, feeds: dict[str, Array]) -> npt.NDArray[np.float64]:
    """The encoder in float64, as its definition has it, of the weights of a graph."""
    w = {
        one.name: numpy_helper.to_array(one).astype(np.float64)
        for one in onnx.load_model_from_string(graph).graph.initializer
    }
    w = {name.removesuffix(" half"): value for name, value in w.items()}

    def norm(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        return shares / shares.sum(-1, keepdims=True)

    pixels, dates, _ = feeds["features"].shape
    hidden = np.where(feeds["valid"] == 0, -30000.0, 0.0)[:, None, None]
    x = feeds["features"].astype(np.float64) + feeds["encoding"]
    for layer in range(3):
        block = f"ubarn.temporal_encoder.layer_stack.{layer}"
        mha, feed, plain = f"{block}.attn.mha", f"{block}.conv_block.block", norm(x)
        q, k, v = (
            (plain @ w[f"{mha}.{part}.weight"] + w.get(f"{mha}.{part}.bias", 0)).reshape(pixels, dates, 4, 16)
            for part in "qkv"
        )
        shares = softmax(np.einsum("pihd,pjhd->phij", q, k) + hidden)
        context = np.einsum("phij,pjhd->pihd", shares, v).reshape(x.shape)
        plain = norm(x + context @ w[f"{mha}.out_proj.weight"] + w[f"{mha}.out_proj.bias"])
        rectified = np.maximum(plain @ w[f"{feed}.linear1.weight"] + w[f"{feed}.linear1.bias"], 0)
        x = plain * w[f"{block}.norm.weight"] + w[f"{block}.norm.bias"]
        plain = norm(x + rectified @ w[f"{feed}.linear2.weight"] + w[f"{feed}.linear2.bias"])
        x = plain * w[f"{block}.norm2.weight"] + w[f"{block}.norm2.bias"]
    rows = w["temp_proj.A"].reshape(2, 10, 64)
    shares = softmax(np.einsum("hqc,pjc->phqj", rows, plain) + hidden)
    return np.einsum("phqj,pjhc->qhcp", shares, x.reshape(pixels, dates, 2, 32)).reshape(10, 64, pixels)


def require_as_good(graph: bytes, feeds: dict[str, Array], found: Array) -> None:
    """No further from float64 than onnxruntime's float32 is, or nearly; that is of features that no image has."""
    wanted = exact(graph, feeds)[..., 1:]
    errors = [np.abs(values[..., 1:] - wanted) for values in (found, expected(graph, feeds))]
    assert errors[0].max() < 3e-5
    assert np.sqrt((errors[0] ** 2).mean()) < 1.2 * np.sqrt((errors[1] ** 2).mean()) + 1e-7
    assert errors[0].max() < 2 * errors[1].max() + 1e-6
    # Of a pixel without a date any finite numbers will do.
    assert np.isfinite(found).all()


def expected(graph: bytes, feeds: dict[str, Array]) -> Array:
    backend = Backend("onnxruntime", "cpu", "float32", 1, 1)
    return backend.open(pixels_last(graph, 10), {name: array.shape for name, array in feeds.items()}).run(feeds).copy()


@pytest.mark.parametrize("widest", WIDTHS)
@pytest.mark.parametrize(("pixels", "dates"), [(256, 20), (37, 7), (2, 1), (16, 118), (19, 60), (5, 4)])
def test_it_is_what_the_graph_gives(graph: bytes, pixels: int, dates: int, widest: int) -> None:
    feeds = given(pixels, dates)
    found = KernelSession(graph, target(widest)).run(feeds)
    assert found.shape == (10, 64, pixels)
    require_as_good(graph, feeds, found)


def test_large_features_and_scores_keep_to_it(graph: bytes) -> None:
    """Scores far apart: exponentials of everything between 0 and where they vanish."""
    feeds = given(64, 30, scale=1e4)
    require_as_good(graph, feeds, KernelSession(graph, target()).run(feeds))


@needs_pairs
@pytest.mark.parametrize(("pixels", "dates"), [(256, 20), (37, 7), (2, 1), (16, 118), (19, 60), (5, 4)])
def test_pairs_of_bfloat16_are_as_good_as_the_runtime_s(graph: bytes, pixels: int, dates: int) -> None:
    """Nearer to float64 than OpenVINO's bfloat16, which rounds between the operations too."""
    paired = host(pairs=True)
    assert paired is not None
    feeds = given(pixels, dates)
    found = KernelSession(graph, paired).run(feeds)
    assert np.isfinite(found).all()
    wanted = exact(graph, feeds)[..., 1:]
    size = np.sqrt((wanted**2).mean())
    error = np.sqrt(((found[..., 1:] - wanted) ** 2).mean())
    assert 1e-5 * size < error < 2e-2 * size
    shapes = {name: array.shape for name, array in feeds.items()}
    backend = Backend("openvino", "cpu", "bfloat16", 1, 1)
    other = backend.open(pixels_last(graph, 10), shapes).run(feeds)[..., 1:]
    assert error < np.sqrt(((other - wanted) ** 2).mean())


@needs_pairs
def test_features_may_be_bfloat16_already(graph: bytes) -> None:
    """As they come from the spatial graph; float32 ones are rounded before."""
    paired, feeds = host(pairs=True), given(37, 7)
    assert paired is not None
    encoder = KernelSession(graph, paired)
    found = encoder.run(feeds).copy()
    np.testing.assert_array_equal(encoder.run(feeds | {"features": rounded(feeds["features"])}), found)
    with pytest.raises(ValueError, match="features of float64"):
        encoder.run(feeds | {"features": feeds["features"].astype(np.float64)})
    with pytest.raises(ValueError, match="features of uint16"):
        KernelSession(graph, target()).run(feeds | {"features": rounded(feeds["features"])})


def test_two_rows_of_bfloat16_are_one() -> None:
    matrix = np.random.default_rng(0).normal(0, 1, (64, 20)).astype(np.float32)
    halves = session._paired(matrix).view(np.uint16).reshape(32, 20, 2)
    np.testing.assert_array_equal(halves[..., 0], rounded(matrix)[0::2])
    np.testing.assert_array_equal(halves[..., 1], rounded(matrix)[1::2])


@pytest.mark.parametrize("widest", WIDTHS)
@pytest.mark.parametrize("fine", [True, False])
def test_powers_of_two_are_what_they_are(widest: int, fine: bool) -> None:
    """By relative error; and what is too small is nothing, not a number of some place."""
    e = Emitter(target(widest))
    _, (into, x, count) = e.function("powers", 2, 1, public=True)
    e.loop(count, e.lanes, lambda place, _: e.store(e.power(e.load(e.at(x, place)), fine), e.at(into, place)))
    e.end()
    code = Code(e)
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, ctypes.c_int64)
    values = np.concatenate([-np.geomspace(1e-9, 124.9, 100_000), -np.arange(120.0), [0.0, -0.0]]).astype(np.float32)
    values = np.concatenate([values, np.full(-values.size % 16, -0.5, np.float32)])
    given, found = (empty(values.size) for _ in range(2))
    given[:] = values
    kind(code.address("powers"))(found.ctypes.data, given.ctypes.data, values.size)
    wanted = np.exp2(values.astype(np.float64))
    assert np.abs(found / wanted - 1).max() < (1e-7 if fine else 3e-4)
    whole = values == np.rint(values)
    np.testing.assert_array_equal(found[whole], wanted[whole].astype(np.float32))
    given[:] = -np.resize([125.5, 126, 150, 3e4, 1.2e5, 1e9, 3e38], values.size).astype(np.float32)
    kind(code.address("powers"))(found.ctypes.data, given.ctypes.data, values.size)
    assert (found == 0).all()


def empty(numbers: int) -> Array:
    """At the begin of a line of cache."""
    raw = np.empty(numbers + 16, np.float32)
    return raw[-(raw.ctypes.data // 4) % 16 :][:numbers]


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
def test_missing_dates_change_nothing(graph: bytes, target: Target) -> None:
    """Not a bit, whatever finite numbers are there; nor does a pixel's place, or how many there are."""
    feeds, encoder = given(50, 21), KernelSession(graph, target)
    found = encoder.run(feeds).copy()
    other = feeds["features"].copy()
    other[feeds["valid"] == 0] = 3e3
    np.testing.assert_array_equal(encoder.run(feeds | {"features": other})[..., 1:], found[..., 1:])
    some = {"features": feeds["features"][7:30], "valid": feeds["valid"][7:30], "encoding": feeds["encoding"]}
    np.testing.assert_array_equal(encoder.run(some), found[..., 7:30])


def test_vectors_of_any_width_give_the_same_bits(graph: bytes) -> None:
    if len(WIDTHS) < 2:
        pytest.skip("this processor has vectors of one width")
    feeds = given(40, 10)
    first, *others = (KernelSession(graph, target(widest)).run(feeds).copy() for widest in WIDTHS)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_threads_do_not_meet(graph: bytes) -> None:
    encoder, feeds = KernelSession(graph, target()), [given(33, dates) for dates in (3, 20, 41, 9) * 8]
    wanted = [encoder.run(one).copy() for one in feeds]
    with ThreadPoolExecutor(4) as pool:
        for found, one in zip(pool.map(lambda one: encoder.run(one).copy(), feeds), wanted, strict=True):
            np.testing.assert_array_equal(found, one)


def test_weights_may_be_stored_as_float16_or_not(graph: bytes) -> None:
    """Those of this model are: casts make them float32 again."""
    model = onnx.load_model_from_string(graph)
    casts = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Cast"}
    assert casts
    for stored in model.graph.initializer:
        if stored.name in casts:
            stored.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(stored).astype(np.float32), casts[stored.name])
            )
    nodes = [node for node in model.graph.node if node.op_type != "Cast"]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    np.testing.assert_array_equal(packed(model.SerializeToString(), target()), packed(graph, target()))


def test_another_graph_is_left_to_the_runtime(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of other versions may compute the same otherwise: only graphs of the form that this was written for."""
    graph = card.graph_bytes("s2", "temporal")
    model = onnx.load_model_from_string(graph)
    assert form(model) == session.FORM, "graphs.temporal_graph was changed: malice_core.kernel has to follow it"
    for name, value in (("constant 1.0", np.array(2.0, np.float32)), ("one", np.full(64, 2, np.float32))):
        other = onnx.load_model_from_string(graph)
        next(one for one in other.graph.initializer if one.name == name).CopyFrom(numpy_helper.from_array(value, name))
        with pytest.raises(ValueError, match="not a temporal graph of this version"):
            packed(other.SerializeToString(), target())
    backend, feeds = runtime.choose("openvino", "cpu"), given(16, 5)
    assert suited(backend, card) == backend
    assert isinstance(temporal_session(card, "s2", backend, 16, 5), KernelSession)
    monkeypatch.setattr(session, "FORM", "another")
    backend = suited(backend, card)
    assert "llvmlite" not in backend.name
    assert backend.pixel_calls == backend.streams
    assert pixels_at_once(backend, 118) < pixels_at_once(replace(backend, kernel="float32"), 118)
    other = temporal_session(card, "s2", backend, 16, 5)
    assert not isinstance(other, KernelSession)
    np.testing.assert_allclose(other.run(feeds)[..., 1:], expected(graph, feeds)[..., 1:], rtol=0, atol=5e-6)


def test_without_llvmlite_the_runtime_computes(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so: what is computed otherwise is never mixed with it."""
    backend = runtime.choose("openvino", "cpu")
    assert "llvmlite" in backend.name
    assert backend.pixel_calls == backend.threads
    there = importlib.util.find_spec
    assert not runtime.choose("onnxruntime", "cpu").kernel
    assert "llvmlite" not in runtime.choose("onnxruntime", "cpu").name
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llvmlite" else there(name))
    backend = runtime.choose("openvino", "cpu")
    assert "llvmlite" not in backend.name
    assert backend.pixel_calls == backend.streams
    assert not isinstance(temporal_session(card, "s2", backend, 16, 5), KernelSession)


@needs_pairs
def test_bfloat16_is_computed_in_pairs_where_there_are_any(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none in float32: these numbers differ, so that the name does."""
    backend = runtime.choose("openvino", "cpu", "bfloat16")
    assert backend.kernel == "bfloat16"
    assert suited(backend, card) == backend
    feeds = given(16, 5)
    paired = temporal_session(card, "s2", backend, 16, 5).run(feeds).copy()
    exact = temporal_session(card, "s2", runtime.choose("openvino", "cpu"), 16, 5).run(feeds)
    assert 1e-4 < np.abs(paired - exact)[..., 1:].max() < 0.2
    there = emit.host
    monkeypatch.setattr(emit, "host", lambda widest=16, pairs=False: None if pairs else there(widest))
    other = runtime.choose("openvino", "cpu", "bfloat16")
    assert other.kernel == "float32"
    assert other.name == backend.name.replace(" on cpu", " (float32) on cpu")
    np.testing.assert_array_equal(temporal_session(card, "s2", other, 16, 5).run(feeds), exact)


def test_code_that_cannot_be_compiled_is_told_in_one_line(graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(target: Target) -> None:
        raise RuntimeError("LLVM ERROR:\n  no such feature")

    monkeypatch.setattr(temporal, "written", refuse)
    monkeypatch.setattr(session, "_codes", {})
    encoder = KernelSession(graph, target())
    for _ in range(2):
        with pytest.raises(
            DeviceError, match=r"^llvmlite cannot compile the encoder: LLVM ERROR: no such feature; giv"
        ):
            encoder.run(given(4, 3))
    assert "cannot compile" in doctor.problem("openvino", "cpu")


def test_an_llvmlite_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn() -> None:
        raise OSError("libllvmlite.so: cannot open shared object file")

    monkeypatch.setattr(emit, "host", torn)
    with pytest.raises(DeviceError, match=r"llvmlite does not load: libllvmlite.*--runtime onnxruntime"):
        runtime.choose("openvino", "cpu")
    assert runtime.choose("onnxruntime", "cpu").runtime == "onnxruntime"
    assert "llvmlite" in doctor.problem("openvino", "cpu")


def test_nothing_is_written_beyond_the_ends(graph: bytes) -> None:
    """Of what the function is given: memory of just the size it needs, between numbers that stay as they are."""
    for target in TARGETS:
        assert target is not None
        code, encode = session.compiling(target).result()
        weights, lanes = packed(graph, target), target.lanes
        for pixels, dates in ((1, 1), (17, 5), (16, 8), (33, 3)):
            feeds, stride = given(pixels, dates), -(-pixels // lanes) * lanes
            spaces = []
            for numbers in (temporal.work(target, dates), 640 * stride):
                raw = np.full(numbers + 64, 7.25, np.float32)
                start = 16 + -(raw.ctypes.data // 4) % 16
                spaces.append((raw, start, numbers))
            features = rounded(feeds["features"]) if target.pairs else feeds["features"]
            arrays = [features, feeds["valid"], feeds["encoding"]]
            given_places = [array.ctypes.data for array in (*arrays, weights)]
            encode(*given_places, *(raw[start:].ctypes.data for raw, start, _ in spaces), pixels, dates, stride)
            for raw, start, numbers in spaces:
                assert (raw[:start] == 7.25).all()
                assert (raw[start + numbers :] == 7.25).all()
                assert np.isfinite(raw).all()
        assert code


@pytest.mark.parametrize("wrong", ["features", "valid", "encoding"])
def test_wrong_shapes_are_refused(graph: bytes, wrong: str) -> None:
    """They would be read beyond their ends."""
    feeds = given(8, 6)
    feeds[wrong] = feeds[wrong][:-1] if wrong != "features" else feeds[wrong][:, :-1]
    with pytest.raises(ValueError, match="features"):
        KernelSession(graph, target()).run(feeds)
