"""Input of the encoder in machine code, and what others make of it: numpy in float64, and runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from helpers_embed import Array
from onnx import TensorProto, helper, numpy_helper

from malice_core import graphs
from malice_core.cropping import pixels_last
from malice_core.kernel.parting import parted
from malice_core.runtime import Backend


class Graphs(NamedTuple):
    """Of a modality."""

    spatial: bytes
    temporal: bytes

    @property
    def last(self) -> bytes:
        """The last convolution alone: maps (T, 32, h + 2, w + 2) to features (h, w, T, 64)."""
        parts = parted(self.spatial)
        constants = [numpy_helper.from_array(parts.kernel, "kernel"), numpy_helper.from_array(parts.bias, "bias")]
        nodes = [
            helper.make_node("Conv", ["maps", "kernel", "bias"], ["sums"]),
            helper.make_node("Relu", ["sums"], ["by date"]),
            helper.make_node("Transpose", ["by date"], ["features"], perm=[2, 3, 0, 1]),
        ]
        places = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("maps", ["T", 32, "H", "W"]), ("features", ["h", "w", "T", 64]))
        ]
        graph = helper.make_graph(nodes, "last", places[:1], places[1:], constants)
        opset = [helper.make_opsetid("", graphs.OPSET)]
        return bytes(helper.make_model(graph, opset_imports=opset, ir_version=graphs.IR_VERSION).SerializeToString())


def given(pixels: int, dates: int, scale: float = 1.0) -> dict[str, Any]:
    """Pixels of rows of 9, from the fourth on; of some, dates are missing, of the first all."""
    rng = np.random.default_rng(pixels * 1000 + dates)
    valid = (rng.random((pixels, dates)) < 0.6).astype(np.float32)
    valid[:, 0] = 1
    valid[0] = 0
    return {
        "maps": np.maximum(rng.normal(0, scale, (dates, (pixels + 3) // 9 + 3, 11, 32)), 0).astype(np.float32),
        "start": 3,
        "valid": valid,
        "encoding": graphs.date_encoding(np.sort(rng.integers(3000, 4500, dates)).astype(np.float32)),
    }


def feeds_of(graph: Graphs, feeds: Mapping[str, Any], backend: Backend) -> dict[str, Array]:
    """What the temporal graph is given where a runtime convolves."""
    first = {"maps": np.ascontiguousarray(feeds["maps"].transpose(0, 3, 1, 2))}
    found = backend.open(graph.last, {"maps": first["maps"].shape}).run(first)
    pixels, dates = feeds["valid"].shape
    features = found.reshape(-1, dates, 64)[feeds["start"] :][:pixels].copy()
    return {"features": features, "encoding": feeds["encoding"], "valid": feeds["valid"]}


def features(graph: Graphs, feeds: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """(pixels, dates, 64) in float64."""
    parts = parted(graph.spatial)
    maps, kernel = feeds["maps"].astype(np.float64), parts.kernel.astype(np.float64)
    around = np.lib.stride_tricks.sliding_window_view(maps, (3, 3), (1, 2))
    found = np.maximum(np.einsum("thwcyx,ocyx->hwto", around, kernel) + parts.bias, 0)
    return found.reshape(-1, *found.shape[2:])[feeds["start"] :][: len(feeds["valid"])]


def exact(graph: Graphs, feeds: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """The encoder in float64, as its definition has it, of the weights of the graphs."""
    w = {
        one.name: numpy_helper.to_array(one).astype(np.float64)
        for one in onnx.load_model_from_string(graph.temporal).graph.initializer
    }
    w = {name.removesuffix(" half"): value for name, value in w.items()}

    def norm(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)

    def softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        return shares / shares.sum(-1, keepdims=True)

    pixels, dates = feeds["valid"].shape
    hidden = np.where(feeds["valid"] == 0, -30000.0, 0.0)[:, None, None]
    x = features(graph, feeds) + feeds["encoding"]
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


def expected(graph: Graphs, given: Mapping[str, Any], backend: Backend | None = None) -> Array:
    """By a runtime."""
    backend = backend or Backend("onnxruntime", "cpu", "float32", 1, 1)
    feeds = feeds_of(graph, given, backend)
    shapes = {name: array.shape for name, array in feeds.items()}
    return backend.open(pixels_last(graph.temporal, 10), shapes).run(feeds).copy()
