"""ONNX files from elsewhere: what one may hold before any runtime sees it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, TensorProto, numpy_helper

from malice_core.errors import ModelError

#: More nodes than any graph of ours or of the published encoders has (1,517).
MAX_NODES = 10_000
#: What ``graphs.py`` and ``cropping.py`` write; nothing of it reads files or loops.
OWN_OPERATORS = frozenset(
    (
        *("Add", "Cast", "Concat", "Conv", "ConvTranspose", "Div", "LayerNormalization", "MatMul", "Mul", "Pad"),
        *("Relu", "Reshape", "Slice", "Softmax", "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
    )
)


def parsed(content: bytes, source: str, operators: Collection[str] = OWN_OPERATORS) -> onnx.ModelProto:
    """An ONNX model that holds nothing but known operators and its own weights.

    Args:
        content: bytes of the file; other files it may point to are never read.
        source: its name for messages.

    Raises:
        ModelError: if it is no ONNX file, has foreign operators, functions or inner graphs, or weights that lie in
            another file.
    """
    try:
        # Parsing alone never touches external data, unlike onnx.load by default.
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(f"{source} is not an ONNX file, or is truncated ({len(content)} bytes)") from error
    if not model.graph.node:
        raise ModelError(f"{source} is not an ONNX file: it has no graph")
    _refuse_foreign(model, source, operators)
    return model


def sound(model: onnx.ModelProto, source: str) -> None:
    """Refuses a model that ONNX' own checker finds fault with, before others stumble over it.

    Raises:
        ModelError: if a node is given what no other makes, lacks an attribute, or has one of another type; if a weight
            is of no type, or has more or fewer numbers than its shape.
    """
    try:
        # In full: types and shapes are followed through the graph too.
        onnx.checker.check_model(model, full_check=True)
        for tensor in _tensors(model.graph):
            numpy_helper.to_array(tensor)
    # A ValueError: of bytes that are no text, too many or too few; a KeyError: of a type that is none.
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        raise ModelError(f"{source} is no sound ONNX graph: {' '.join(str(error).split())!r:.200}") from error


def _refuse_foreign(model: onnx.ModelProto, source: str, operators: Collection[str]) -> None:
    graph = model.graph
    if len(graph.node) > MAX_NODES:
        raise ModelError(f"{source} has {len(graph.node)} nodes: this is no graph of MALICE")
    if model.functions or graph.sparse_initializer or model.training_info:
        raise ModelError(f"{source} holds functions, sparse weights or training graphs: this is no graph of MALICE")
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in operators:
            operator = f"{node.domain}.{node.op_type}".lstrip(".")
            raise ModelError(f"{source}: node {node.name!r:.80} is the foreign operator {operator!r:.60}")
        for attribute in node.attribute:
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS, AttributeProto.SPARSE_TENSOR):
                raise ModelError(f"{source}: node {node.name!r:.80} holds a graph of its own: no graph of MALICE")
    for tensor in _tensors(graph):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")
            raise ModelError(
                f"{source}: weight {tensor.name!r:.80} lies in another file ({place!r:.80}); "
                "external data is refused, give a file that holds its weights"
            )


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
