"""Fits a spatial graph to blocks: only what a block needs is computed, and pixel by pixel.

A block is computed with a halo, and its outer pixels are thrown away. The graphs pad before each 3x3 convolution, by
reflection, so that maps keep the size of the images; within an area, what is padded reaches none but pixels that are
thrown away. So nothing is padded here: maps shrink by a pixel on each side with each such convolution, and where maps
meet, the larger one is cut. How much of its margin each map needs is counted back from the output.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from malice_core.errors import ModelError
from malice_core.weights import WIDTH


def cropped(graph: bytes, halo: int, source: str = "spatial graph") -> bytes:
    """A spatial graph that returns only the inner pixels of its input.

    Args:
        graph: a spatial graph as :func:`malice_core.graphs.spatial_graph` writes it, or one whose biases are spread.
        halo: margin of the input in pixels, a multiple of 8, and at least what the network looks (46).
        source: its name, for messages.

    Returns:
        The same graph with output (N, 64, H - 2 halo, W - 2 halo), equal to the middle of the original's. One that
        pads what it returns has what is there in place of that border.

    Raises:
        ModelError: if the graph is not a U-Net of three scales, or the halo too small.
    """
    model = onnx.load_model_from_string(graph)
    doubled = sum(node.op_type == "ConvTranspose" for node in model.graph.node)
    if doubled != 3 or halo % 8:
        raise ModelError(f"{source}: {doubled} up-blocks and halo {halo}, must be 3 and a multiple of 8")
    images, border = model.graph.input[0].name, 0
    if model.graph.node[-1].op_type == "Pad":
        # What is padded last is a border that the next convolution looks at.
        model.graph.node[-2].output[0], border = model.graph.node[-1].output[0], 1
        del model.graph.node[-1]
    needed = _needed(model.graph, border)
    if needed[images] > halo:
        raise ModelError(f"{source}: halo {halo} is less than the {needed[images]} pixels that the network looks")
    # What tells something of each row or column, of graphs whose biases are spread.
    lines = {given.name for given in model.graph.input if len(given.type.tensor_type.shape.dim) == 1}
    cut = _Cutter(model.graph, dict.fromkeys([images, *lines], halo), needed, lines)
    for node in list(model.graph.node):
        cut.follow(node)
    cut.finish(border)
    for axis in (2, 3):
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = f"inner {axis}"
    return model.SerializeToString()  # type: ignore[no-any-return]


def channels_last(graph: bytes, rounded: bool = False) -> bytes:
    """A spatial graph that returns (N, H, W, C): the order in which OpenVINO computes, and in which pixels are kept.

    Args:
        graph: a spatial graph with output (N, C, H, W).
        rounded: what it returns is bfloat16.
    """
    (output,) = onnx.load_model_from_string(graph).graph.output
    channels = output.type.tensor_type.shape.dim[1].dim_value
    return _transposed(graph, "channel", (0, 2, 3, 1), ["N", "H", "W", channels], rounded)


def pixels_last(graph: bytes, queries: int) -> bytes:
    """A temporal graph that returns (queries, 64, P): the order of the output's bands.

    Args:
        graph: a temporal graph with output (P, queries, 64).
    """
    return _transposed(graph, "pixel", (1, 2, 0), [queries, WIDTH, "P"])


def _transposed(
    graph: bytes, order: str, axes: tuple[int, ...], shape: list[str | int], rounded: bool = False
) -> bytes:
    """A graph whose only output, now called after its order, is transposed under its name, maybe rounded too."""
    model = onnx.load_model_from_string(graph)
    (output,) = model.graph.output
    first, last = f"{output.name} by {order}", output.name
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == last:
                    names[index] = first
    kind, result = (TensorProto.BFLOAT16, f"{last} in float32") if rounded else (TensorProto.FLOAT, last)
    model.graph.node.append(helper.make_node("Transpose", [first], [result], name=f"{last} transposed", perm=axes))
    if rounded:
        model.graph.node.append(helper.make_node("Cast", [result], [last], name=f"{last} rounded", to=kind))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(last, kind, shape))
    return model.SerializeToString()  # type: ignore[no-any-return]


def _side(node: onnx.NodeProto, attribute: str) -> int:
    for one in node.attribute:
        if one.name == attribute and one.ints:
            return int(one.ints[0])
    raise ModelError(f"spatial graph: node {node.name!r:.80} of kind {node.op_type} has no {attribute}")


def _demand(node: onnx.NodeProto, margin: int) -> int:
    """Margin of a node's maps that its output needs for a margin of its own; each in pixels of its scale."""
    if node.op_type == "Conv":
        return margin * _side(node, "strides") + (_side(node, "kernel_shape") == 3)
    return -(-margin // 2) if node.op_type == "ConvTranspose" else margin


def _yields(node: onnx.NodeProto, margin: int) -> int:
    """Margin of a node's output, of maps with a margin."""
    if node.op_type == "Conv":
        return (margin - (_side(node, "kernel_shape") == 3)) // _side(node, "strides")
    return margin * 2 if node.op_type == "ConvTranspose" else margin


def _needed(graph: onnx.GraphProto, border: int) -> dict[str, int]:
    """Margin that each map needs, by its name: the most of all that it goes into; what is returned needs a border."""
    needed = {output.name: border for output in graph.output}
    for node in reversed(graph.node):
        for name in node.input:
            needed[name] = max(needed.get(name, 0), _demand(node, needed[node.output[0]]))
    return needed


class _Cutter:
    """Writes the nodes of a graph anew, without padding, with cuts where a map has more margin than is needed.

    Args:
        graph: is changed.
        margins: of its inputs that have one, in pixels, all the same.
        needed: by name.
        lines: inputs of one axis.
    """

    def __init__(
        self, graph: onnx.GraphProto, margins: Mapping[str, int], needed: Mapping[str, int], lines: Collection[str]
    ) -> None:
        self._graph, self._needed, self._margins, self._lines = graph, needed, dict(margins), lines
        self._nodes: list[onnx.NodeProto] = []
        #: What stands for a map that is padded no longer.
        self._instead: dict[str, str] = {}
        self._cuts: dict[tuple[str, int], str] = {}

    def follow(self, node: onnx.NodeProto) -> None:
        """Adds one node, and what is cut before it."""
        (output,) = node.output
        if node.op_type == "Pad":
            self._instead[output] = node.input[0]
            return
        for index, given in enumerate(node.input):
            name = self._instead.get(given, given)
            # Kernels and biases have no margin.
            if name in self._margins:
                name = self._cut(name, _demand(node, self._needed[output]))
                self._margins[output] = _yields(node, self._margins[name])
            node.input[index] = name
        self._nodes.append(node)

    def finish(self, border: int) -> None:
        """Puts the new nodes into the graph, whose output has a margin of ``border``."""
        (output,) = self._graph.output
        if self._margins[output.name] != border:
            raise AssertionError(f"{self._margins[output.name]} pixels of margin are left, of {border}")
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)

    def _cut(self, name: str, margin: int) -> str:
        """The name of a map with no more than a margin."""
        pixels = self._margins[name] - margin
        if not pixels:
            return name
        if (name, margin) not in self._cuts:
            result = f"{name} with margin {margin}"
            axes = [0] if name in self._lines else [2, 3]
            bounds = [self._constant([side] * len(axes)) for side in (pixels, -pixels)]
            self._nodes.append(helper.make_node("Slice", [name, *bounds, self._constant(axes)], [result], name=result))
            self._margins[result] = margin
            self._cuts[name, margin] = result
        return self._cuts[name, margin]

    def _constant(self, values: list[int]) -> str:
        name = f"cut {values}"
        if all(known.name != name for known in self._graph.initializer):
            self._graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name
