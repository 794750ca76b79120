"""The temporal encoder in machine code, with the convolution before it, against graphs in onnxruntime; and where it is
not used."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("llvmlite", reason="llvmlite has no wheels here")
from helpers_embed import Array
from helpers_kernel import Graphs, exact, expected, features, given
from onnx import numpy_helper

from malice_core import doctor, models, runtime
from malice_core.bfloat16 import rounded
from malice_core.cards import Card
from malice_core.encoder import ModalityEncoder, suited
from malice_core.encoders import kind_of
from malice_core.errors import DeviceError
from malice_core.kernel import emit, encoding, parting, session, temporal
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
def graph(card: Card, request: pytest.FixtureRequest) -> Graphs:
    return Graphs(*(card.graph_bytes(request.param, part) for part in ("spatial", "temporal")))


def encoder(graph: Graphs, target: Target | None) -> KernelSession:
    assert target is not None
    return KernelSession(graph.spatial, graph.temporal, target)


def target(widest: int = 16) -> Target:
    found = host(widest)
    assert found is not None
    return found


def require_as_good(graph: Graphs, feeds: Mapping[str, Any], found: Array) -> None:
    """No further from float64 than onnxruntime's float32 is, or nearly; that is of maps that no image has."""
    wanted = exact(graph, feeds)[..., 1:]
    errors = [np.abs(values[..., 1:] - wanted) for values in (found, expected(graph, feeds))]
    assert errors[0].max() < 3e-5
    assert np.sqrt((errors[0] ** 2).mean()) < 1.2 * np.sqrt((errors[1] ** 2).mean()) + 1e-7
    assert errors[0].max() < 2 * errors[1].max() + 1e-6
    # Of a pixel without a date any finite numbers will do.
    assert np.isfinite(found).all()


@pytest.mark.parametrize("widest", WIDTHS)
@pytest.mark.parametrize(("pixels", "dates"), [(256, 20), (37, 7), (2, 1), (16, 118), (19, 60), (5, 4)])
def test_it_is_what_the_graph_gives(graph: Graphs, pixels: int, dates: int, widest: int) -> None:
    feeds = given(pixels, dates)
    found = encoder(graph, target(widest)).run(**feeds)
    assert found.shape == (10, 64, pixels)
    require_as_good(graph, feeds, found)


def test_large_maps_and_scores_keep_to_it(graph: Graphs) -> None:
    """Scores far apart: exponentials of everything between 0 and where they vanish."""
    feeds = given(64, 30, scale=1e4)
    require_as_good(graph, feeds, encoder(graph, target()).run(**feeds))


@needs_pairs
@pytest.mark.parametrize(("pixels", "dates"), [(256, 20), (37, 7), (2, 1), (16, 118), (19, 60), (5, 4)])
def test_pairs_of_bfloat16_are_as_good_as_the_runtime_s(graph: Graphs, pixels: int, dates: int) -> None:
    """Nearer to float64 than OpenVINO's bfloat16, which rounds between the operations too."""
    feeds = given(pixels, dates)
    found = encoder(graph, host(pairs=True)).run(**feeds | {"maps": rounded(feeds["maps"])})
    assert np.isfinite(found).all()
    wanted = exact(graph, feeds)[..., 1:]
    size = np.sqrt((wanted**2).mean())
    error = np.sqrt(((found[..., 1:] - wanted) ** 2).mean())
    assert 1e-5 * size < error < 2e-2 * size
    other = expected(graph, feeds, Backend("openvino", "cpu", "bfloat16", 1, 1))[..., 1:]
    assert error < np.sqrt(((other - wanted) ** 2).mean())


@needs_pairs
def test_maps_are_of_the_type_of_products(graph: Graphs) -> None:
    feeds = given(37, 7)
    for paired, wrong in ((True, np.float32), (True, np.float64), (False, np.uint16), (False, np.float64)):
        with pytest.raises(ValueError, match=f"maps of {np.dtype(wrong)}"):
            encoder(graph, host(pairs=paired)).run(**feeds | {"maps": feeds["maps"].astype(wrong)})
    with pytest.raises(ValueError, match="maps of float32, strides"):
        encoder(graph, target()).run(**feeds | {"maps": np.repeat(feeds["maps"], 2, axis=2)[:, :, ::2]})


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
def test_a_part_of_larger_maps_may_be_given(graph: Graphs, target: Target) -> None:
    """The same bits as of maps of its own."""
    feeds, one = given(40, 6), encoder(graph, target)
    maps = rounded(feeds["maps"]) if target.pairs else feeds["maps"]
    found = one.run(**feeds | {"maps": maps}).copy()
    larger = np.full((8, maps.shape[1] + 5, 20, 32), maps.max(), maps.dtype)
    larger[1:7, 2:-3, 4:15] = maps
    np.testing.assert_array_equal(one.run(**feeds | {"maps": larger[1:7, 2:-3, 4:15]}), found)


@pytest.mark.parametrize("target", TARGETS, ids=NAMES)
@pytest.mark.parametrize("pixels", [1, 16, 37])
def test_the_last_date_may_have_no_maps(graph: Graphs, target: Target, pixels: int) -> None:
    """Its features, here those of maps, are given as they are."""
    feeds, one = given(pixels, 6), encoder(graph, target)
    ground = features(graph, feeds)[:, -1].astype(np.float32)
    maps = rounded(feeds["maps"]) if target.pairs else feeds["maps"]
    whole = one.run(**feeds | {"maps": maps}).copy()
    found = one.run(**feeds | {"maps": maps[:-1], "ground": ground}).copy()
    error = np.sqrt(((found - whole)[..., 1:] ** 2).sum())
    other = one.run(**feeds | {"maps": maps[:-1], "ground": ground[:, ::-1]})
    change = np.sqrt(((other - whole)[..., 1:] ** 2).sum())
    assert error <= change * (0.2 if target.pairs else 1e-4)
    assert pixels == 1 or change > 1


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
def test_missing_dates_change_nothing(graph: Graphs, target: Target) -> None:
    """Not a bit, whatever finite numbers are there; nor does a pixel's place, or how many there are."""
    feeds, one = given(50, 21), encoder(graph, target)
    feeds["valid"][:, 5:9] = 0
    feeds["maps"] = rounded(feeds["maps"]) if target.pairs else feeds["maps"]
    found = one.run(**feeds).copy()
    other = feeds["maps"].copy()
    other[5:9] = other.max()
    np.testing.assert_array_equal(one.run(**feeds | {"maps": other})[..., 1:], found[..., 1:])
    some = feeds | {"start": feeds["start"] + 7, "valid": feeds["valid"][7:30]}
    np.testing.assert_array_equal(one.run(**some), found[..., 7:30])


def test_vectors_of_any_width_give_the_same_bits(graph: Graphs) -> None:
    if len(WIDTHS) < 2:
        pytest.skip("this processor has vectors of one width")
    feeds = given(40, 10)
    first, *others = (encoder(graph, target(widest)).run(**feeds).copy() for widest in WIDTHS)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_threads_do_not_meet(graph: Graphs) -> None:
    one, feeds = encoder(graph, target()), [given(33, dates) for dates in (3, 20, 41, 9) * 8]
    wanted = [one.run(**some).copy() for some in feeds]
    with ThreadPoolExecutor(4) as pool:
        for found, some in zip(pool.map(lambda some: one.run(**some).copy(), feeds), wanted, strict=True):
            np.testing.assert_array_equal(found, some)


def as_float32(graph: bytes) -> bytes:
    """A graph whose weights are stored as float16, without the casts that make them float32 again."""
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
    return bytes(model.SerializeToString())


def test_weights_may_be_stored_as_float16_or_not(graph: Graphs) -> None:
    """Those of this model are."""
    np.testing.assert_array_equal(packed(*map(as_float32, graph), target()), packed(*graph, target()))


def test_another_graph_is_left_to_the_runtime(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of other versions may compute the same otherwise: only graphs of the form that this was written for."""
    spatial, temporal = (card.graph_bytes("s2", part) for part in ("spatial", "temporal"))
    model = onnx.load_model_from_string(temporal)
    assert form(model) == session.FORM, "graphs.temporal_graph was changed: malice_core.kernel has to follow it"
    for name, value in (("constant 1.0", np.array(2.0, np.float32)), ("one", np.full(64, 2, np.float32))):
        other = onnx.load_model_from_string(temporal)
        next(one for one in other.graph.initializer if one.name == name).CopyFrom(numpy_helper.from_array(value, name))
        with pytest.raises(ValueError, match="not a temporal graph of this version"):
            packed(spatial, other.SerializeToString(), target())
    backend = runtime.choose("openvino", "cpu")
    assert suited(backend, card) == backend
    assert kind_of(backend).__name__ == "KernelEncoder"
    with monkeypatch.context() as patch:
        patch.setattr(parting, "fits", lambda graph: False)
        assert not suited(backend, card).kernel
    monkeypatch.setattr(session, "FORM", "another")
    backend = suited(backend, card)
    assert "llvmlite" not in backend.name
    assert backend.pixel_calls == backend.streams
    assert kind_of(backend) is ModalityEncoder


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
    assert kind_of(backend) is ModalityEncoder


@needs_pairs
def test_bfloat16_is_computed_in_pairs_where_there_are_any(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are none in float32: these numbers differ, so that the name does."""
    backend = runtime.choose("openvino", "cpu", "bfloat16")
    assert backend.kernel == "bfloat16"
    assert suited(backend, card) == backend
    feeds = given(16, 5)
    paired = encoding.session(card, "s2", backend).run(**feeds | {"maps": rounded(feeds["maps"])}).copy()
    exact = encoding.session(card, "s2", runtime.choose("openvino", "cpu")).run(**feeds)
    assert 1e-4 < np.abs(paired - exact)[..., 1:].max() < 0.2
    there = emit.host
    monkeypatch.setattr(emit, "host", lambda widest=16, pairs=False: None if pairs else there(widest))
    other = runtime.choose("openvino", "cpu", "bfloat16")
    assert other.kernel == "float32"
    assert other.name == backend.name.replace(" on cpu", " (float32) on cpu")
    np.testing.assert_array_equal(encoding.session(card, "s2", other).run(**feeds), exact)


def test_code_that_cannot_be_compiled_is_told_in_one_line(graph: Graphs, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(target: Target) -> None:
        raise RuntimeError("LLVM ERROR:\n  no such feature")

    monkeypatch.setattr(temporal, "written", refuse)
    monkeypatch.setattr(session, "_codes", {})
    one = encoder(graph, target())
    for _ in range(2):
        with pytest.raises(
            DeviceError, match=r"^llvmlite cannot compile the encoder: LLVM ERROR: no such feature; giv"
        ):
            one.run(**given(4, 3))
    assert "cannot compile" in doctor.problem("openvino", "cpu")


def test_an_llvmlite_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn() -> None:
        raise OSError("libllvmlite.so: cannot open shared object file")

    monkeypatch.setattr(emit, "host", torn)
    with pytest.raises(DeviceError, match=r"llvmlite does not load: libllvmlite.*--runtime onnxruntime"):
        runtime.choose("openvino", "cpu")
    assert runtime.choose("onnxruntime", "cpu").runtime == "onnxruntime"
    assert "llvmlite" in doctor.problem("openvino", "cpu")


def test_nothing_is_written_beyond_the_ends(graph: Graphs) -> None:
    """Of what the function is given: memory of just the size it needs, between numbers that stay as they are."""
    for target in TARGETS:
        assert target is not None
        code, encode = session.compiling(target).result()
        lanes, weights = target.lanes, empty(packed(*graph, target).size)
        weights[:] = packed(*graph, target)
        for pixels, dates in ((1, 1), (17, 5), (16, 8), (33, 3)):
            feeds, stride = given(pixels, dates), -(-pixels // lanes) * lanes
            spaces = []
            for numbers in (temporal.work(target, dates), 640 * stride):
                raw = np.full(numbers + 64, 7.25, np.float32)
                start = 16 + -(raw.ctypes.data // 4) % 16
                spaces.append((raw, start, numbers))
            maps = rounded(feeds["maps"]) if target.pairs else feeds["maps"]
            arrays = [maps, feeds["encoding"], feeds["valid"], feeds["encoding"], weights]
            places = [array.ctypes.data for array in arrays] + [raw[start:].ctypes.data for raw, start, _ in spaces]
            line, plane = (size // 4 for size in (maps.strides[1], maps.strides[0]))
            encode(*places, feeds["start"], pixels, dates, dates, 9, line, plane, stride)
            for raw, start, numbers in spaces:
                assert (raw[:start] == 7.25).all()
                assert (raw[start + numbers :] == 7.25).all()
                assert np.isfinite(raw).all()
        assert code


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("maps", lambda maps: maps[:-1]),
        ("maps", lambda maps: maps[:, :-1]),
        ("start", lambda start: start + 8),
        ("start", lambda start: -1),
        ("valid", lambda valid: valid[:, :-1]),
        ("valid", lambda valid: valid[:0]),
        ("encoding", lambda encoding: encoding[:-1]),
        ("ground", lambda ground: np.zeros((8, 64), np.float32)),
    ],
)
def test_wrong_shapes_are_refused(graph: Graphs, name: str, wrong: Callable[[Any], Any]) -> None:
    """They would be read beyond their ends."""
    feeds = given(8, 6)
    encoder(graph, target()).run(**feeds)
    feeds[name] = wrong(feeds.get(name))
    with pytest.raises(ValueError, match="maps, start, valid, encoding and ground"):
        encoder(graph, target()).run(**feeds)
    feeds = given(8, 6)
    with pytest.raises(ValueError, match=r"ground: .*\(7, 64\)"):
        encoder(graph, target()).run(**feeds | {"maps": feeds["maps"][:-1], "ground": np.zeros((7, 64), np.float32)})
