"""Cuts a spatial graph's decoder down to what a block needs: the same numbers for less work.

A block is computed with a halo, and its outer pixels are thrown away. The encoder half of the U-Net needs
them all, the decoder does not: at each scale it needs what the next finer one reaches. Counted back from the
output, with margins in pixels of each scale: the full-resolution convolutions (three of 3x3) reach 3 pixels, so
they are given 4, which is 2 of the scale below; that one's two convolutions reach 2 more, 4 in all; and so on.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from malice_core.errors import ModelError

#: Margin kept at each scale: of the deep maps that are about to be doubled in size, and of the skip maps.
DEEP, SKIP = 2, 4


def cropped(graph: bytes, halo: int, source: str = "spatial graph") -> bytes:
    """A spatial graph that returns only the inner pixels of its input.

    Args:
        graph: a spatial graph as :func:`malice_core.graphs.spatial_graph` writes it.
        halo: margin of the input in pixels, a multiple of 8 and at least 48, the network's reach.

    Returns:
        The same graph with output (N, 64, H - 2 halo, W - 2 halo), equal to the middle of the original's.

    Raises:
        ModelError: if the graph is not a U-Net of three scales.
    """
    model = onnx.load_model_from_string(graph)
    makers = {name: node for node in model.graph.node for name in node.output}
    doubled = [node for node in model.graph.node if node.op_type == "ConvTranspose"]
    if len(doubled) != 3 or halo % 8 or halo < 48:
        raise ModelError(
            f"{source}: {len(doubled)} up-blocks and halo {halo}, must be 3 and a multiple of 8 from 48 on"
        )
    cut = _Cutter(model.graph)
    margin = halo // 8
    for node in doubled:
        node.input[0] = cut(node.input[0], margin - DEEP)
        joined = next(n for n in model.graph.node if n.op_type == "Concat" and _reaches(n.input[0], node, makers))
        skip = makers[joined.input[1]]
        while skip.op_type != "Conv":
            skip = makers[skip.input[0]]
        # The deep maps now have a margin of DEEP, doubled; what is joined to them is cut to the same.
        shallow = halo * 2 // (8 >> doubled.index(node))
        skip.input[0] = cut(skip.input[0], shallow - SKIP)
        margin = SKIP
    last = makers["features"]
    last.name = last.output[0] = "features with margin"
    cut(last.output[0], SKIP, "features")
    cut.insert()
    for axis in (2, 3):
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = f"inner {axis}"
    return model.SerializeToString()  # type: ignore[no-any-return]


def _reaches(name: str, node: onnx.NodeProto, makers: dict[str, onnx.NodeProto]) -> bool:
    """True if ``name`` is ``node``'s output or its activation."""
    maker = makers[name]
    return name in node.output or (maker.op_type == "Relu" and maker.input[0] in node.output)


class _Cutter:
    """Adds nodes that cut the same number of pixels from all four sides."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._nodes: list[onnx.NodeProto] = []
        graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "cut axes"))

    def __call__(self, name: str, pixels: int, output: str | None = None) -> str:
        result = output or f"{name} cut {len(self._nodes)}"
        bounds = []
        for side in (pixels, -pixels):
            bounds.append(f"cut {len(self._nodes)} {side}")
            self._graph.initializer.append(numpy_helper.from_array(np.array([side, side], np.int64), bounds[-1]))
        self._nodes.append(helper.make_node("Slice", [name, *bounds, "cut axes"], [result], name=result))
        return result

    def insert(self) -> None:
        """Puts each cut right behind what it cuts: ONNX graphs are sorted."""
        nodes = list(self._graph.node)
        for cut in self._nodes:
            place = next(i for i, node in enumerate(nodes) if cut.input[0] in node.output)
            nodes.insert(place + 1, cut)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
