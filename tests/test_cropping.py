"""A cropped spatial graph returns the middle of the whole one's output."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers_models import random_weights

from malice_core import graphs
from malice_core.cropping import cropped
from malice_core.errors import ModelError


def run(graph: bytes, images: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(graph).run(None, {"images": images})[0]


@pytest.mark.parametrize(("channels", "height", "width"), [(10, 104, 120), (3, 136, 112)])
def test_the_middle_is_the_same(channels: int, height: int, width: int) -> None:
    graph = graphs.spatial_graph(random_weights(channels))
    images = np.random.default_rng(1).normal(size=(2, channels, height, width)).astype(np.float32)
    whole, inner = run(graph, images), run(cropped(graph, 48), images)
    assert inner.shape == (2, 64, height - 96, width - 96)
    assert np.abs(inner - whole[:, :, 48:-48, 48:-48]).max() < 1e-5 * np.abs(whole).max()


def test_a_larger_halo_is_cut_too() -> None:
    graph = graphs.spatial_graph(random_weights(3))
    images = np.random.default_rng(1).normal(size=(1, 3, 160, 136)).astype(np.float32)
    whole, inner = run(graph, images), run(cropped(graph, 64), images)
    assert np.abs(inner - whole[:, :, 64:-64, 64:-64]).max() < 1e-5 * np.abs(whole).max()


@pytest.mark.parametrize("halo", [40, 50])
def test_a_halo_below_the_reach_is_refused(halo: int) -> None:
    with pytest.raises(ModelError, match=f"halo {halo}"):
        cropped(graphs.spatial_graph(random_weights(3)), halo)


def test_another_graph_is_refused() -> None:
    with pytest.raises(ModelError, match="0 up-blocks"):
        cropped(graphs.temporal_graph(random_weights(3)), 48)


@pytest.mark.parametrize("attribute", ["kernel_shape", "strides"])
def test_a_convolution_without_its_attributes_is_refused(attribute: str) -> None:
    """ONNX has defaults for them, which graphs of ours never rely on."""
    model = onnx.load_model_from_string(graphs.spatial_graph(random_weights(10)))
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    conv.attribute.remove(next(one for one in conv.attribute if one.name == attribute))
    with pytest.raises(ModelError, match=f"of kind Conv has no {attribute}"):
        cropped(model.SerializeToString(), 48)
