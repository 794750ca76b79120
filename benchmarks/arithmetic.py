"""How many multiply-adds a graph takes, counted from its convolutions and matrix products.

Everything else of these graphs (norms, softmax, sums) is below a hundredth of it and not counted, nor is what a runtime
saves or adds by computing a convolution in another way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx
from measuring import BenchmarkError

from malice_core.cards import Card

#: Side of the images and number of pixels that the arithmetic of one pixel is counted with; it is the same with any.
SIDE, PIXELS = 64, 256

Shape = tuple[int, ...]


def shapes_of(graph: bytes, inputs: Mapping[str, Shape]) -> tuple[onnx.GraphProto, dict[str, Shape]]:
    """A graph, and the shape of everything in it where inputs have these shapes.

    Raises:
        BenchmarkError: if a shape cannot be told before the graph runs.
    """
    model = onnx.load_model_from_string(graph)
    for entry in model.graph.input:
        dims = entry.type.tensor_type.shape.dim
        for dim, length in zip(dims, inputs[entry.name], strict=True):
            dim.dim_value = length
    for entry in model.graph.output:
        entry.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    found = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in found.initializer}
    for entry in (*found.input, *found.value_info, *found.output):
        dims = entry.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[entry.name] = tuple(dim.dim_value for dim in dims)
    missing = [name for node in found.node for name in node.output if name not in shapes]
    if missing:
        raise BenchmarkError(f"graph {found.name}: the shape of {missing[0]} is not known before it runs")
    return found, shapes


def multiply_adds(graph: bytes, inputs: Mapping[str, Shape]) -> int:
    """Multiply-adds of one run of a graph.

    Args:
        graph: bytes of an ONNX model.
        inputs: shape of every input.
    """
    found, shapes = shapes_of(graph, inputs)
    total = 0
    for node in found.node:
        result = math.prod(shapes[node.output[0]])
        if node.op_type == "Conv":
            # (out, in / groups, ...): each number of the result is a sum over a kernel.
            total += result * math.prod(shapes[node.input[1]][1:])
        elif node.op_type == "ConvTranspose":
            # (in, out / groups, ...): each number that comes in is spread by a kernel.
            total += math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type == "MatMul":
            total += result * shapes[node.input[0]][-1]
        elif node.op_type in ("Gemm", "Einsum", "Attention", "LSTM", "GRU", "RNN"):
            raise BenchmarkError(f"graph {found.name}: {node.op_type} is not counted yet")
    return total


def useful(card: Card, sensor: str, dates: int) -> float:
    """Multiply-adds of one pixel and date of a MALICE model: the graphs as they are, without any halo."""
    channels = len(card.modalities[sensor].channels)
    spatial = multiply_adds(card.graph_bytes(sensor, "spatial"), {"images": (1, channels, SIDE, SIDE)})
    inputs = {"features": (PIXELS, dates, card.width), "encoding": (dates, card.width), "valid": (PIXELS, dates)}
    temporal = multiply_adds(card.graph_bytes(sensor, "temporal"), inputs)
    return spatial / SIDE**2 + temporal / (PIXELS * dates)
