"""Lets a spatial graph of MALICE Aux take the biases of cells and spread them over the pixels itself.

As it is written, the graph adds one bias to a whole image, or a map of them, which is as large as what the first
convolution yields. Such maps never leave the runtime here: it gets a few numbers for each cell, and which cell each
row and each column of the image lies in.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from malice_core.errors import ModelError
from malice_core.weights import WIDTH

#: How a map is laid out, by axis: channels last, as the biases of cells are, and as the graph adds it.
LAST_TO_FIRST = [0, 3, 1, 2]


def spread(graph: bytes, source: str = "spatial graph") -> bytes:
    """A spatial graph that takes the biases of cells.

    Args:
        graph: a spatial graph of MALICE Aux as :func:`malice_core.graphs.spatial_graph` writes it, cropped or not.
        source: its name, for messages.

    Returns:
        The same graph with ``bias`` (N, h, w, 64) of h x w cells, ``rows`` (H) and ``cols`` (W) int32, which of the
        cells each row and column of the image lies in.

    Raises:
        ModelError: if the graph has no bias.
    """
    model = onnx.load_model_from_string(graph)
    places = [index for index, node in enumerate(model.graph.node) if "bias" in node.input]
    if not places or not any(given.name == "bias" for given in model.graph.input):
        raise ModelError(f"{source}: it takes no bias, must be a graph of MALICE Aux")
    place = places[0]
    inputs = model.graph.node[place].input
    inputs[list(inputs).index("bias")] = "bias of pixels"
    # Columns first, while there are few rows; then whole rows are copied. Channels come last because that is the order
    # in which OpenVINO convolves: there the transposition is none, and the convolution adds to what is spread.
    nodes = [
        helper.make_node("Gather", ["bias", "cols"], ["bias of columns"], name="bias of columns", axis=2),
        helper.make_node("Gather", ["bias of columns", "rows"], ["bias spread"], name="bias spread", axis=1),
        helper.make_node("Transpose", ["bias spread"], ["bias of pixels"], name="bias of pixels", perm=LAST_TO_FIRST),
    ]
    everything = list(model.graph.node)
    everything[place:place] = nodes
    del model.graph.node[:]
    model.graph.node.extend(everything)
    kept = [given for given in model.graph.input if given.name != "bias"]
    del model.graph.input[:]
    model.graph.input.extend(
        [
            *kept,
            helper.make_tensor_value_info("bias", TensorProto.FLOAT, ["N", "cells down", "cells right", WIDTH]),
            helper.make_tensor_value_info("rows", TensorProto.INT32, ["H"]),
            helper.make_tensor_value_info("cols", TensorProto.INT32, ["W"]),
        ]
    )
    return model.SerializeToString()  # type: ignore[no-any-return]
