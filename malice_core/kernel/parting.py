"""Takes the last convolution out of a spatial graph: what it is given are half as many numbers as it makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from malice_core.weights import LAST_WIDTH, WIDTH

Float = NDArray[np.float32]
#: Nodes at the end of a spatial graph, with their attributes; what is padded; shapes of that, of kernel and bias.
LAST = [("Pad", {"mode": b"reflect"}), ("Conv", {"kernel_shape": [3, 3], "strides": [1, 1]}), ("Relu", {})]
PADS = [0, 0, 1, 1] * 2
SHAPES = [(8,), (WIDTH, LAST_WIDTH, 3, 3), (WIDTH,)]


@dataclass(frozen=True)
class Parted:
    """A spatial graph in two.

    Attributes:
        graph: with output ``maps`` (N, 32, H + 2, W + 2), padded by reflection, for ``features``.
        kernel: (64, 32, 3, 3), and bias (64,), of the convolution that makes features of maps; negative ones are 0.
    """

    graph: bytes
    kernel: Float
    bias: Float


def fits(graph: bytes) -> bool:
    """True for a spatial graph that :func:`parted` knows how to part."""
    try:
        parted(graph)
    except ValueError:
        return False
    return True


def parted(graph: bytes) -> Parted:
    """Parts a spatial graph as :func:`malice_core.graphs.spatial_graph` writes it, or one whose biases are spread.

    Raises:
        ValueError: if it ends otherwise.
    """
    model = onnx.load_model_from_string(graph)
    *before, pad, conv, relu = model.graph.node
    stored = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    # Weights that are stored as float16 come with casts.
    stored |= {
        node.output[0]: stored[node.input[0]] for node in before if node.op_type == "Cast" and node.input[0] in stored
    }
    weights = [stored.get(name, np.zeros(0)) for name in (*pad.input[1:], *conv.input[1:])]
    found = [
        (node.op_type, {one.name: helper.get_attribute_value(one) for one in node.attribute})
        for node in (pad, conv, relu)
    ]
    chained = [conv.input[0], relu.input[0]] == [pad.output[0], conv.output[0]]
    # What such a graph is written with, no attribute more: any other would make something else of it.
    if not chained or found != LAST or [one.shape for one in weights] != SHAPES or weights[0].tolist() != PADS:
        raise ValueError(f"a spatial graph that ends with {found}, {[one.shape for one in weights]}")
    kernel, bias = (one.astype(np.float32) for one in weights[1:])
    pad.output[0] = "maps"
    # What only the convolution was given.
    used = {name for node in before if node.op_type != "Cast" for name in node.input} | set(pad.input)
    nodes = [node for node in [*before, pad] if node.op_type != "Cast" or node.output[0] in used]
    used |= {name for node in nodes for name in node.input}
    constants = [constant for constant in model.graph.initializer if constant.name in used]
    for field, content in ((model.graph.node, nodes), (model.graph.initializer, constants)):
        content = [type(one).FromString(one.SerializeToString()) for one in content]
        del field[:]
        field.extend(content)
    del model.graph.output[:]
    model.graph.output.append(
        helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", LAST_WIDTH, "padded H", "padded W"])
    )
    return Parted(model.SerializeToString(), kernel, bias)
