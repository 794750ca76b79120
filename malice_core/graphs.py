"""The one builder of a modality's two ONNX graphs, from a mapping of weights. No torch.

A pixel's embedding is ``temporal(spatial(images) of every date, dates, masks)``:

- ``spatial``: the U-Net, dates as batch;
- ``temporal``: date encoding, transformer and temporal projector, pixels as batch.

MALICE Aux has two more:

- ``weather``: the weather of a date to a bias of its spatial graph. The network joins 32 channels to an image that are
  the same everywhere; they stay so under padding by reflection, so that all they do is to add one number to each
  output of the first convolution;
- ``terrain``: a U-Net of its own. What it yields is a further token of each pixel in the temporal graph, whose code of
  a date is 0.

Both ways into a model end here: ``published.py`` reads the weights out of the published ONNX files, ``export.py``
out of a torch state dict. Method: ALISE (arXiv 2407.08448), U-BARN (doi 10.1109/JSTARS.2024.3358066) and their
successor MALICE, whose spatial encoder, temporal encoder and projector these are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from malice_core.weights import (
    EPSILON,
    HEADS,
    LAYERS,
    METEO,
    PROJECTOR,
    QUERIES,
    QUERY_HEADS,
    SPATIAL,
    TEMPORAL,
    TERRAIN,
    TERRAIN_CHANNELS,
    WEATHER,
    WEATHER_WIDTH,
    WIDTH,
    Weights,
    canonical,
    is_auxiliary,
)

Floats = npt.NDArray[np.float32]

#: Base of the date encoding's periods.
ENCODING_BASE = 10000.0
#: 17 is the first opset with LayerNormalization. The IR version is pinned so that the same weights give the same
#: bytes whatever version of the onnx package writes them.
OPSET, IR_VERSION = 17, 8
#: Added to the attention score of a missing date: far below any score, so its share is exactly 0, but finite, so a
#: pixel without any date gets a finite (meaningless) embedding instead of NaN; and it fits into float16.
MISSING = -30000.0


def date_encoding(days: npt.ArrayLike) -> Floats:
    """Sine-cosine code of dates, added to the spatial features by the ``temporal`` graph.

    Args:
        days: (T,) days since ``bands.DATE_ORIGIN``.

    Returns:
        (T, 64) float32: channel i is the sine (even i) or cosine (odd i) of d / 10000^(2*(i//2)/64).
    """
    # All in float32, as published: angles in float64 would move the code by 5e-5 for dates of 2026.
    angles: Floats = np.asarray(days, np.float32)[:, None] / encoding_divisors()
    code: Floats = np.where(np.arange(WIDTH) % 2 == 0, np.sin(angles), np.cos(angles))
    return code


def encoding_divisors() -> Floats:
    """(64,) divisors of the date encoding's angles, bit for bit those of the published graphs."""
    # The power in float64, rounded once: a float32 power differs in the last bit of some.
    channel = np.arange(WIDTH)
    divisors: Floats = (ENCODING_BASE ** (2.0 * (channel // 2) / WIDTH)).astype(np.float32)
    return divisors


def output_bounds(weights: Weights) -> tuple[Floats, Floats]:
    """Bounds no embedding value can leave, per output channel.

    Embedding values are weighted means over dates of the last layer's output, a LayerNorm of 64 channels. A
    normalised value is at most sqrt(63) in size (all the variance in one channel), so |x - bias| <= sqrt(63)|weight|.

    Returns:
        (low, high), each (64,) float32.

    Raises:
        ModelError: if the weights are not those of one encoder.
    """
    last = f"{TEMPORAL}.layer_stack.{LAYERS - 1}.norm2"
    known = canonical(weights)
    bias = known[f"{last}.bias"].astype(np.float64)
    reach = np.sqrt(WIDTH - 1.0) * np.abs(known[f"{last}.weight"].astype(np.float64))
    # A hair wider: the runtimes' float32 rounding must not leave the bounds, and a zero weight must not close them.
    reach += 1e-5 * (1.0 + np.abs(bias))
    return (bias - reach).astype(np.float32), (bias + reach).astype(np.float32)


def spatial_graph(weights: Weights, half: bool = False) -> bytes:
    """The U-Net of one modality as an ONNX file.

    Input ``images`` (N, C, H, W) float32, normalised channels, H and W multiples of 8 and at least 16, and of MALICE
    Aux ``bias`` from the weather graph, (N, 64, 1, 1) or, where weather differs within the image, (N, 64, H, W);
    output ``features`` (N, 64, H, W). 3x3 convolutions pad by reflection, as published.

    Args:
        weights: canonical names (see ``weights.py``), batch norms folded or not.
        half: store kernels and matrices as float16; what is computed stays float32.

    Raises:
        ModelError: naming the weight that is missing, unknown, of another shape or not finite.
    """
    g = _Graph(canonical(weights), half)
    first = f"{SPATIAL}.in_conv.conv.conv.0"
    channels = g.weights[f"{first}.weight"].shape[1]
    inputs: dict[str, list[str | int]] = {"images": ["N", channels, "H", "W"]}
    added = None
    if is_auxiliary(g.weights):
        channels -= WEATHER_WIDTH
        inputs = {"images": ["N", channels, "H", "W"], "bias": ["N", WIDTH, "BH", "BW"]}
        added = "bias"
        g.weights[f"{first}.weight"] = g.weights[f"{first}.weight"][:, :channels]
    x = g.conv("images", first, pad=1, added=added)
    _unet(g, x, SPATIAL)
    return g.file("spatial", inputs, {"features": ["N", WIDTH, "H", "W"]})


def terrain_graph(weights: Weights, half: bool = False) -> bytes:
    """The terrain's U-Net of MALICE Aux as an ONNX file.

    Input ``terrain`` (N, 4, H, W) float32, normalised, sides as of images; output ``features`` (N, 64, H, W).

    Args:
        weights: of any modality: all have the same terrain.
        half: as of :func:`spatial_graph`.

    Raises:
        ModelError: as of :func:`spatial_graph`.
    """
    g = _Graph(canonical(weights), half)
    _unet(g, g.conv("terrain", f"{TERRAIN}.in_conv.conv.conv.0", pad=1), TERRAIN)
    return g.file("terrain", {"terrain": ["N", TERRAIN_CHANNELS, "H", "W"]}, {"features": ["N", WIDTH, "H", "W"]})


def weather_graph(weights: Weights, half: bool = False) -> bytes:
    """The weather's MLP of MALICE Aux and its share of the first convolution as an ONNX file.

    Input ``weather`` (N, 48) float32, normalised, variable by variable, the six days of each in order; output ``bias``
    (N, 64) of the spatial graph.

    Args:
        weights, half: as of :func:`spatial_graph`.

    Raises:
        ModelError: as of :func:`spatial_graph`.
    """
    g = _Graph(canonical(weights), half)
    x = "weather"
    for index in (0, 2, 4):
        layer = f"{METEO}.{index}"
        x = g.node("Relu", g.linear(x, g.double(f"{layer}.weight").T, g.double(f"{layer}.bias"), layer))
    kernels = g.double(f"{SPATIAL}.in_conv.conv.conv.0.weight")[:, -WEATHER_WIDTH:].sum(axis=(2, 3))
    g.node("MatMul", x, g.weight("kernels", kernels.T), output="bias")
    return g.file("weather", {"weather": ["N", WEATHER]}, {"bias": ["N", WIDTH]})


def _unet(g: _Graph, x: str, unet: str) -> None:
    """What follows the first convolution of a U-Net, to ``features``."""
    x = g.conv(x, f"{unet}.in_conv.conv.conv.3", pad=1)
    skips = []
    for level in range(3):
        skips.append(x)
        block = f"{unet}.down_blocks.{level}"
        x = g.conv(x, f"{block}.down.conv.0", stride=2)
        x = g.conv(x, f"{block}.conv1.conv.0", pad=1)
        x = g.node("Add", x, g.conv(x, f"{block}.conv2.conv.0", pad=1))
    for level in range(3):
        block = f"{unet}.up_blocks.{level}"
        up = g.conv(x, f"{block}.up.0", op="ConvTranspose", stride=2)
        x = g.node("Concat", up, g.conv(skips.pop(), f"{block}.skip_conv.0"), axis=1)
        x = g.conv(x, f"{block}.conv1.conv.0", pad=1)
        x = g.node("Add", x, g.conv(x, f"{block}.conv2.conv.0", pad=1))
    g.conv(x, f"{unet}.out_conv.conv.conv.0", pad=1, output="features")


def temporal_graph(weights: Weights, half: bool = False) -> bytes:
    """Date encoding, transformer and temporal projector of one modality as an ONNX file.

    Inputs, all float32: ``features`` (P, T, 64) from the spatial graph; ``encoding`` (T, 64) from
    :func:`date_encoding`; ``valid`` (P, T), 1 where the pixel was observed at that date, 0 where it was not. Output
    ``embedding`` (P, 10, 64). A missing date is left out of every attention as a key, so it changes nothing. Of MALICE
    Aux the terrain's features are one of the T, with an encoding of 0 and always valid.

    Args:
        weights: canonical names (see ``weights.py``), batch norms folded or not.
        half: store kernels and matrices as float16; what is computed stays float32.

    Raises:
        ModelError: naming the weight that is missing, unknown, of another shape or not finite.
    """
    g = _Graph(canonical(weights), half)
    x = g.node("Add", "features", "encoding")
    # (P, 1, 1, T): broadcast over heads and queries.
    score = g.node("Mul", g.node("Sub", "valid", g.constant(1.0)), g.constant(-MISSING))
    mask = g.node("Unsqueeze", score, g.constant([1, 2]))
    for layer in range(LAYERS):
        block = f"{TEMPORAL}.layer_stack.{layer}"
        # One LayerNorm used twice, before the attention and after it: so it was trained. A norm's scale and shift
        # cost a pass over memory each time, so they are folded into the matrices that follow (in float64), and what
        # goes from here to there is the plain normalised value. Only the residual sums need the real one.
        norm = g.affine_of(f"{block}.norm")
        x = g.node("Add", x, _attention(g, g.normalised(x), mask, f"{block}.attn.mha", norm))
        plain = g.normalised(x)
        x = g.node("Add", g.scale_shift(plain, f"{block}.norm"), _feed_forward(g, plain, f"{block}.conv_block", norm))
        x = g.normalised(x)
        if layer < LAYERS - 1:
            x = g.scale_shift(x, f"{block}.norm2")
    _projector(g, x, mask, f"{block}.norm2")
    return g.file(
        "temporal",
        {"features": ["P", "T", WIDTH], "encoding": ["T", WIDTH], "valid": ["P", "T"]},
        {"embedding": ["P", QUERIES, WIDTH]},
    )


def _attention(g: _Graph, plain: str, mask: str, name: str, norm: _Affine) -> str:
    """Multi-head self-attention over dates of the normalised (P, T, 64) -> (P, T, 64)."""
    depth, (scale, shift) = WIDTH // HEADS, norm
    packed = g.double(f"{name}.in_proj_weight")
    biases = g.double(f"{name}.in_proj_bias") + packed @ shift
    output = g.double(f"{name}.out_proj.weight")
    heads = []
    for index, part in enumerate("qkv"):
        rows = slice(index * WIDTH, (index + 1) * WIDTH)
        matrix, bias = packed[rows].T * scale[:, None], biases[rows]
        if part == "q":
            # 1/sqrt(16) is a power of two: moving it into the query's weights changes no bit.
            projected = g.linear(plain, matrix * depth**-0.5, bias * depth**-0.5, f"{name}.q")
        else:
            # A key's bias adds the same to all scores of a query, which softmax takes away again. Shares add up to
            # one, so a value's bias comes out as it is, and is added to that of the output.
            projected = g.linear(plain, matrix, None, f"{name}.{part}")
        split = g.node("Reshape", projected, g.constant([0, 0, HEADS, depth]))
        heads.append(g.node("Transpose", split, perm=[0, 2, 1, 3]))
    query, key, value = heads
    # Two transpositions of the keys, not one: the second then melts into the product in OpenVINO.
    scores = g.node("MatMul", query, g.node("Transpose", key, perm=[0, 1, 3, 2]))
    share = g.node("Softmax", g.node("Add", scores, mask), axis=-1)
    context = g.node("Transpose", g.node("MatMul", share, value), perm=[0, 2, 1, 3])
    merged = g.node("Reshape", context, g.constant([0, 0, WIDTH]))
    bias = g.double(f"{name}.out_proj.bias") + output @ biases[2 * WIDTH :]
    return g.linear(merged, output.T, bias, f"{name}.out_proj")


def _feed_forward(g: _Graph, plain: str, name: str, norm: _Affine) -> str:
    """The transformer's MLP of the normalised (P, T, 64) -> (P, T, 64)."""
    scale, shift = norm
    first, second = f"{name}.block.linear1", f"{name}.block.linear2"
    matrix = g.double(f"{first}.weight")
    hidden = g.linear(plain, (matrix * scale).T, g.double(f"{first}.bias") + matrix @ shift, first)
    return g.linear(g.node("Relu", hidden), g.double(f"{second}.weight").T, g.double(f"{second}.bias"), second)


def _projector(g: _Graph, plain: str, mask: str, norm: str) -> None:
    """Temporal projector of the normalised (P, T, 64) -> ``embedding`` (P, 10, 64)."""
    scale, _ = g.affine_of(norm)
    queries = g.double(f"{PROJECTOR}.Q")
    keys = g.double(f"{PROJECTOR}.fc1_k.weight").reshape(QUERY_HEADS, WIDTH, WIDTH)
    # q.(W x)/sqrt(64) = (W'q).x/8: 20 rows of 64 instead of the 64 -> 128 key projection. The norm's scale goes in
    # too, and its shift drops out of the softmax.
    folded = np.einsum("hqd,hdc->hqc", queries, keys).reshape(1, 1, QUERY_HEADS * QUERIES, WIDTH)
    rows = g.weight(f"{PROJECTOR}.A", folded * scale * WIDTH**-0.5)
    x = g.node("Unsqueeze", plain, g.constant([1]))
    scores = g.node("MatMul", rows, g.node("Transpose", x, perm=[0, 1, 3, 2]))
    share = g.node("Softmax", g.node("Add", scores, mask), axis=-1)
    # All 20 rows over all 64 channels, of which each head keeps its own half: less work than moving x into heads.
    merged = g.node("Reshape", g.node("MatMul", share, x), g.constant([0, QUERY_HEADS, QUERIES, WIDTH]))
    half = WIDTH // QUERY_HEADS
    parts = []
    for head in range(QUERY_HEADS):
        begin, end = g.constant([head, head * half]), g.constant([head + 1, (head + 1) * half])
        part = g.node("Slice", merged, begin, end, g.constant([1, 3]))
        parts.append(g.node("Squeeze", part, g.constant([1])))
    g.scale_shift(g.node("Concat", *parts, axis=-1), norm, output="embedding")


#: Scale and shift (64,) of a LayerNorm in float64.
_Affine = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


class _Graph:
    """Collects the nodes and weights of one graph; every method returns the name of its result."""

    def __init__(self, weights: Weights, half: bool) -> None:
        self.weights, self.half = dict(weights), half
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        result = output or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [result], name=result, **attributes))
        return result

    def weight(self, name: str, value: npt.NDArray[Any]) -> str:
        # Initialisers share one name space with results; a weight used twice is stored once.
        array = np.ascontiguousarray(value, np.float32)
        if not self.half or array.ndim < 2:
            self.initializers.setdefault(name, numpy_helper.from_array(array, name))
        elif f"{name} half" not in self.initializers:
            # Runtimes fold the cast into a float32 constant when they open the graph: nothing is computed in float16.
            stored = numpy_helper.from_array(array.astype(np.float16), f"{name} half")
            self.initializers[stored.name] = stored
            self.node("Cast", stored.name, output=name, to=TensorProto.FLOAT)
        return name

    def constant(self, value: float | list[int]) -> str:
        array = np.array(value, np.float32 if isinstance(value, float) else np.int64)
        name = f"constant {value}"
        self.initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def conv(
        self,
        x: str,
        name: str,
        *,
        op: str = "Conv",
        stride: int = 1,
        pad: int = 0,
        added: str | None = None,
        output: str | None = None,
    ) -> str:
        """Convolution (batch norm folded), what is to be added to it, and ReLU."""
        kernel = self.weight(f"{name}.weight", self.weights[f"{name}.weight"])
        bias = self.weight(f"{name}.bias", self.weights[f"{name}.bias"])
        if pad:
            x = self.node("Pad", x, self.constant([0, 0, pad, pad] * 2), mode="reflect")
        side = self.weights[f"{name}.weight"].shape[-1]
        x = self.node(op, x, kernel, bias, kernel_shape=[side, side], strides=[stride, stride])
        if added is not None:
            x = self.node("Add", x, added)
        return self.node("Relu", x, output=output)

    def double(self, name: str) -> npt.NDArray[np.float64]:
        """A weight in float64, to fold others into it."""
        return self.weights[name].astype(np.float64)

    def affine_of(self, norm: str) -> _Affine:
        return self.double(f"{norm}.weight"), self.double(f"{norm}.bias")

    def normalised(self, x: str) -> str:
        """A LayerNorm over channels without scale and shift."""
        return self.node("LayerNormalization", x, self.weight("one", np.ones(WIDTH)), axis=-1, epsilon=EPSILON)

    def scale_shift(self, x: str, norm: str, output: str | None = None) -> str:
        """The scale and shift of a LayerNorm."""
        product = self.node("Mul", x, self.weight(f"{norm}.weight", self.weights[f"{norm}.weight"]))
        return self.node("Add", product, self.weight(f"{norm}.bias", self.weights[f"{norm}.bias"]), output=output)

    def linear(self, x: str, matrix: npt.NDArray[Any], bias: npt.NDArray[Any] | None, name: str) -> str:
        """x @ matrix + bias."""
        product = self.node("MatMul", x, self.weight(f"{name}.weight", matrix))
        return product if bias is None else self.node("Add", product, self.weight(f"{name}.bias", bias))

    def file(self, name: str, inputs: Mapping[str, list[str | int]], outputs: Mapping[str, list[str | int]]) -> bytes:
        """The bytes of the ONNX file, checked; dimensions that are text are dynamic."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in inputs.items()],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()],
            list(self.initializers.values()),
        )
        model = helper.make_model(
            graph,
            producer_name="malice_core",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content
