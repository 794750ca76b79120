"""A spatial graph without its last convolution: what is left, cropped or not, is what the convolution is given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from helpers_embed import Array
from helpers_models import random_weights
from onnx import TensorProto, helper, numpy_helper

from malice_core import graphs, runtime
from malice_core.cropping import channels_last, cropped
from malice_core.kernel.parting import Parted, fits, parted
from malice_core.spreading import spread


def run(graph: bytes, feeds: dict[str, Array]) -> Array:
    backend = runtime.Backend("onnxruntime", "cpu", "float32", 1, 1)
    return backend.open(graph, {name: value.shape for name, value in feeds.items()}).run(feeds).copy()


def convolved(maps: Array, parts: Parted) -> Array:
    """(N, 64, h, w) by numpy, of maps (N, 32, h + 2, w + 2)."""
    around = np.lib.stride_tricks.sliding_window_view(maps.astype(np.float64), (3, 3), (2, 3))
    found = np.einsum("nchwyx,ocyx->nohw", around, parts.kernel) + parts.bias[:, None, None]
    return np.maximum(found, 0).astype(np.float32)


@pytest.mark.parametrize("half", [False, True])
def test_the_convolution_makes_the_whole_graph_s_features(half: bool) -> None:
    graph = graphs.spatial_graph(random_weights(10), half)
    images = {"images": np.random.default_rng(0).normal(0, 1, (2, 10, 48, 40)).astype(np.float32)}
    parts = parted(graph)
    maps = run(parts.graph, images)
    assert maps.shape == (2, 32, 50, 42)
    np.testing.assert_allclose(convolved(maps, parts), run(graph, images), rtol=0, atol=2e-5)
    # Nothing is left of it.
    kept = {constant.name for constant in onnx.load_model_from_string(parts.graph).graph.initializer}
    assert not any("out_conv" in name for name in kept)
    onnx.checker.check_model(onnx.load_model_from_string(parts.graph))


def test_cropped_it_returns_the_middle_and_a_border() -> None:
    images = {"images": np.random.default_rng(1).normal(0, 1, (1, 10, 128, 136)).astype(np.float32)}
    graph = parted(graphs.spatial_graph(random_weights(10))).graph
    whole, inner = run(graph, images), run(cropped(graph, 48), images)
    assert inner.shape == (1, 32, 34, 42)
    np.testing.assert_allclose(inner, whole[:, :, 48:-48, 48:-48], rtol=0, atol=1e-5)
    last = run(channels_last(cropped(graph, 48)), images)
    np.testing.assert_array_equal(last, inner.transpose(0, 2, 3, 1))


def test_biases_may_be_spread_before() -> None:
    weights = random_weights(16, auxiliary=True)
    graph = spread(graphs.spatial_graph(weights))
    rng = np.random.default_rng(2)
    feeds: dict[str, Array] = {
        "images": rng.normal(0, 1, (1, 16, 112, 112)).astype(np.float32),
        "bias": rng.normal(0, 1, (1, 1, 2, 64)).astype(np.float32),
        "rows": np.zeros(112, np.int32),
        "cols": (np.arange(112) > 50).astype(np.int32),
    }
    parts = parted(graph)
    found = convolved(run(cropped(parts.graph, 48), feeds), parts)
    np.testing.assert_allclose(found, run(cropped(graph, 48), feeds), rtol=0, atol=2e-5)


def test_other_graphs_are_refused() -> None:
    """Whatever would make something else of them: they are left to the runtime."""
    weights = random_weights(10)
    whole = graphs.spatial_graph(weights)
    assert fits(whole)
    assert not fits(graphs.temporal_graph(weights))

    def changed(change: Callable[[onnx.GraphProto], object]) -> bytes:
        model = onnx.load_model_from_string(whole)
        change(model.graph)
        return bytes(model.SerializeToString())

    def strided(graph: onnx.GraphProto) -> None:
        next(a for a in graph.node[-2].attribute if a.name == "strides").ints[:] = [2, 2]

    def cast(graph: onnx.GraphProto) -> None:
        graph.node.insert(0, helper.make_node("Cast", ["images"], ["cast"], to=TensorProto.FLOAT))

    def padded_more(graph: onnx.GraphProto) -> None:
        name = graph.node[-3].input[1]
        pads = numpy_helper.from_array(np.array([0, 0, 2, 2] * 2, np.int64), f"{name} more")
        graph.initializer.append(pads)
        graph.node[-3].input[1] = pads.name

    changes: list[Callable[[onnx.GraphProto], object]] = [
        strided,
        lambda graph: graph.node[-2].attribute.append(helper.make_attribute("dilations", [2, 2])),
        lambda graph: graph.node[-2].attribute.append(helper.make_attribute("group", 2)),
        lambda graph: graph.node[-2].ClearField("attribute"),
        lambda graph: graph.node[-3].attribute[0].CopyFrom(helper.make_attribute("mode", "edge")),
        padded_more,
        lambda graph: graph.node.pop(),
        lambda graph: graph.node[-1].input.__setitem__(0, "images"),
        lambda graph: graph.node[-2].input.__setitem__(2, "images"),
    ]
    for change in changes:
        graph = changed(change)
        assert not fits(graph)
        with pytest.raises(ValueError, match="a spatial graph that ends with"):
            parted(graph)
    assert fits(changed(cast))
