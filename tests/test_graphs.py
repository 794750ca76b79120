"""The graph builder: properties of the two graphs, on random weights, in both runtimes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers_models import random_weights

from malice_core import graphs, weights
from malice_core.errors import ModelError
from malice_core.runtime import choose

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def encoder() -> Arrays:
    return random_weights(3, seed=5)


@pytest.fixture(scope="module")
def temporal(encoder: Arrays) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graphs.temporal_graph(encoder))


@pytest.fixture(scope="module")
def spatial(encoder: Arrays) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graphs.spatial_graph(encoder))


def series(pixels: int, dates: int, seed: int = 0) -> Arrays:
    """Random input of the temporal graph; a third of the observations is missing."""
    rng = np.random.default_rng(seed)
    return {
        "features": rng.normal(0.3, 1.0, (pixels, dates, 64)).astype(np.float32),
        "encoding": graphs.date_encoding(np.sort(rng.integers(1300, 4500, dates))),
        "valid": (rng.random((pixels, dates)) > 0.33).astype(np.float32),
    }


def reference(encoder: Arrays, feeds: Arrays) -> np.ndarray:
    """The temporal graph by the formulas of the specification, in float64, pixel by pixel over its valid dates."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    w = {name: array.astype(np.float64) for name, array in encoder.items()}
    rows = []
    for features, valid in zip(feeds["features"], feeds["valid"], strict=True):
        x = (features + feeds["encoding"]).astype(np.float64)[valid > 0]
        for layer in range(3):
            block = f"ubarn.temporal_encoder.layer_stack.{layer}"
            packed = norm(x, f"{block}.norm") @ w[f"{block}.attn.mha.in_proj_weight"].T
            q, k, v = np.split(packed + w[f"{block}.attn.mha.in_proj_bias"], 3, axis=1)
            heads = [slice(16 * h, 16 * h + 16) for h in range(4)]
            context = np.concatenate([softmax(q[:, h] @ k[:, h].T / 4) @ v[:, h] for h in heads], axis=1)
            context = context @ w[f"{block}.attn.mha.out_proj.weight"].T + w[f"{block}.attn.mha.out_proj.bias"]
            x = norm(x + context, f"{block}.norm")
            mlp = f"{block}.conv_block.block"
            hidden = np.maximum(x @ w[f"{mlp}.linear1.weight"].T + w[f"{mlp}.linear1.bias"], 0)
            x = norm(x + hidden @ w[f"{mlp}.linear2.weight"].T + w[f"{mlp}.linear2.bias"], f"{block}.norm2")
        keys = np.split(x @ w["temp_proj.fc1_k.weight"].T, 2, axis=1)
        values = np.split(x, 2, axis=1)
        merged = [softmax(w["temp_proj.Q"][h] @ keys[h].T / 8) @ values[h] for h in range(2)]
        rows.append(np.concatenate(merged, axis=1))
    return np.stack(rows)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("dates", [1, 2, 7, 20])
def test_temporal_graph_follows_the_specification(encoder: Arrays, runtime: str, dates: int) -> None:
    feeds = series(40, dates)
    feeds["valid"][:, 0] = 1.0
    session = choose(runtime, "cpu").open(graphs.temporal_graph(encoder), {k: v.shape for k, v in feeds.items()})
    np.testing.assert_allclose(session.run(feeds), reference(encoder, feeds), atol=1e-5)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_missing_observation_cannot_change_its_pixel(encoder: Arrays, runtime: str) -> None:
    feeds = series(30, 6)
    session = choose(runtime, "cpu").open(graphs.temporal_graph(encoder), {k: v.shape for k, v in feeds.items()})
    before = session.run(feeds).copy()
    feeds["features"] = np.where(feeds["valid"][..., None] > 0, feeds["features"], np.float32(50.0))
    after = session.run(feeds)
    seen = feeds["valid"].any(axis=1)
    assert seen.any()
    np.testing.assert_array_equal(after[seen], before[seen])


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_pixel_without_any_date_is_finite(encoder: Arrays, runtime: str) -> None:
    feeds = series(4, 5)
    feeds["valid"][2] = 0.0
    session = choose(runtime, "cpu").open(graphs.temporal_graph(encoder), {k: v.shape for k, v in feeds.items()})
    assert np.isfinite(session.run(feeds)).all()


def test_outputs_stay_inside_their_bounds(encoder: Arrays, temporal: onnxruntime.InferenceSession) -> None:
    low, high = graphs.output_bounds(encoder)
    feeds = series(500, 3, seed=9)
    feeds["features"] *= 100.0
    (output,) = temporal.run(None, feeds)
    assert (output >= low).all()
    assert (output <= high).all()
    assert low.shape == high.shape == (64,)


def test_spatial_graph_moves_with_its_input_by_8_pixels(spatial: onnxruntime.InferenceSession) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(0, 0.4, (1, 3, 136, 144)).astype(np.float32)
    (whole,) = spatial.run(None, {"images": images})
    (part,) = spatial.run(None, {"images": images[:, :, 8:, 16:]})
    inner = (slice(None), slice(None), slice(weights.HALO, -weights.HALO), slice(weights.HALO, -weights.HALO))
    np.testing.assert_allclose(part[inner], whole[:, :, 8:, 16:][inner], atol=2e-6)
    (shifted,) = spatial.run(None, {"images": images[:, :, 4:132, 4:132]})
    assert np.abs(shifted[inner] - whole[:, :, 4:132, 4:132][inner]).max() > 1e-3  # by less, it does not


def test_batch_norms_fold_exactly(encoder: Arrays) -> None:
    """Unfolding a convolution into convolution and batch norm, and folding it again, changes nothing."""
    rng = np.random.default_rng(0)
    unfolded = dict(encoder)
    for name, shape in weights.convolutions(3).items():
        size = weights.bias_size(name, shape)
        scale, variance = rng.uniform(0.5, 2, size), rng.uniform(0.1, 3, size)
        shift, mean = rng.normal(size=size), rng.normal(size=size)
        factor = scale / np.sqrt(variance + 1e-5)
        along = (1, -1, 1, 1) if ".up.0" in name else (-1, 1, 1, 1)
        unfolded[f"{name}.weight"] = encoder[f"{name}.weight"] / factor.reshape(along)
        unfolded[f"{name}.bias"] = (encoder[f"{name}.bias"] - shift) / factor + mean
        norm = weights.batch_norm_of(name)
        for part, value in zip(weights.BATCH_NORM, (scale, shift, mean, variance), strict=True):
            unfolded[f"{norm}.{part}"] = value
        unfolded[f"{norm}.num_batches_tracked"] = np.array(3)
    folded = weights.canonical(unfolded)
    for name, array in encoder.items():
        np.testing.assert_allclose(folded[name], array, atol=1e-6)


def test_same_weights_give_the_same_bytes(encoder: Arrays) -> None:
    backwards = dict(reversed(encoder.items()))
    assert graphs.spatial_graph(encoder) == graphs.spatial_graph(backwards)
    assert graphs.temporal_graph(encoder) == graphs.temporal_graph(backwards)


def test_graphs_are_plain_onnx(encoder: Arrays) -> None:
    for content in (graphs.spatial_graph(encoder), graphs.temporal_graph(encoder)):
        model = onnx.ModelProto.FromString(content)
        onnx.checker.check_model(model, full_check=True)
        assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", graphs.OPSET)]
        assert {node.domain for node in model.graph.node} == {""}


def test_date_encoding_is_all_float32() -> None:
    days = np.array([0, 1460, 4400])
    code = graphs.date_encoding(days)
    assert code.dtype == np.float32
    assert code.shape == (3, 64)
    np.testing.assert_array_equal(code[0], np.tile([0.0, 1.0], 32).astype(np.float32))
    for day, row in zip(days, code, strict=True):
        for channel in (0, 1, 30, 63):
            divisor = np.float32(10000.0 ** (2 * (channel // 2) / 64))
            angle = np.float32(day) / divisor
            assert row[channel] == (np.cos(angle) if channel % 2 else np.sin(angle))


def damage(encoder: Arrays) -> Iterator[tuple[Arrays, str]]:
    bias = "ubarn.temporal_encoder.layer_stack.1.norm2.bias"
    yield {name: array for name, array in encoder.items() if name != bias}, f"{bias}.*missing"
    yield {**encoder, bias: np.zeros(63, np.float32)}, f"{bias}.*63"
    yield {**encoder, bias: np.full(64, np.inf, np.float32)}, f"{bias}.*NaN or infinite"
    yield {**encoder, bias: np.zeros(64, np.int32)}, f"{bias}.*int32"
    yield {**encoder, "decoder.weight": np.zeros(3, np.float32)}, r"decoder\.weight"
    yield {}, "no MALICE encoder"
    norm = f"{weights.SPATIAL}.up_blocks.0.up.1"
    yield {**encoder, f"{norm}.weight": np.ones(64, np.float32)}, rf"{norm}\.bias.*missing"
    parts = {f"{norm}.{part}": np.full(64, -1, np.float32) for part in weights.BATCH_NORM}
    yield {**encoder, **parts}, "negative"


def test_damaged_weights_are_named(encoder: Arrays) -> None:
    for broken, culprit in damage(encoder):
        for build in (graphs.spatial_graph, graphs.temporal_graph, graphs.output_bounds):
            with pytest.raises(ModelError, match=culprit):
                build(broken)
