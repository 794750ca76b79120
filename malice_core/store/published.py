"""Reads the weights out of a published MALICE encoder (an ONNX file) without running it.

Those files were traced from PyTorch: convolutions carry their batch norm, matrices and folded kernels have generated
names (``onnx::MatMul_2244``). What stays meaningful are the node names, which follow the modules' names, so every
weight is found as the input of the node that uses it. A file comes from elsewhere: whatever is not exactly one of
those encoders is refused. Method: MALICE, successor of ALISE (arXiv 2407.08448).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from malice_core import safety, weights
from malice_core.errors import ModelError
from malice_core.graphs import encoding_divisors
from malice_core.store.statistics import MALICE
from malice_core.weights import LAYERS, PROJECTOR, SPATIAL, TEMPORAL, WIDTH

#: The published files have 3.7 MB.
MAX_BYTES = 64 << 20
#: All the operators of the published graphs: a file with another one, or of another domain, is never executed.
OPERATORS = frozenset(
    (
        *("Add", "BatchNormalization", "Cast", "Concat", "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos"),
        *("Div", "Equal", "Expand", "Gather", "GatherND", "Gemm", "LayerNormalization", "MatMul", "Mul", "NonZero"),
        *("Not", "Pad", "Range", "Relu", "Reshape", "ScatterND", "Shape", "Sin", "Slice", "Softmax", "Split", "Sqrt"),
        *("Transpose", "Unsqueeze", "Where"),
    )
)


@dataclass(frozen=True)
class Published:
    """One published encoder.

    Attributes:
        file: name of the file, without folders.
        content: its bytes.
        sensor: ``s2`` or ``s1``, told from the number of channels.
        weights: by canonical name (see ``weights.py``), batch norms folded.
    """

    file: str
    content: bytes
    sensor: str
    weights: dict[str, npt.NDArray[Any]]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def read(path: Path) -> Published:
    """Reads a published encoder.

    Raises:
        ModelError: if the file cannot be read, is no ONNX file, refers to other files, holds foreign operators, or
            its weights are not exactly those of a MALICE encoder of a known sensor: naming file and culprit.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > MAX_BYTES:
        raise ModelError(f"{path} is larger than {MAX_BYTES >> 20} MB: a published encoder has 4 MB")
    if content[:2] == b"PK":
        raise ModelError(f"{path} is a zip archive (a checkpoint?), not an ONNX file: give the published .onnx files")
    return parse(content, path)


def parse(content: bytes, path: Path) -> Published:
    """As :func:`read`, of a file's bytes; ``path`` is for messages and the result's file name."""
    source = str(path)
    model = safety.parsed(content, source, OPERATORS)
    reader = _Reader(model.graph, source)
    found = weights.canonical(reader.encoder(), source)
    reader.finish()
    channels = found[f"{SPATIAL}.in_conv.conv.conv.0.weight"].shape[1]
    for sensor, statistics in MALICE.items():
        if len(statistics.channels) == channels:
            return Published(path.name, content, sensor, found)
    known = ", ".join(f"{len(statistics.channels)} ({sensor})" for sensor, statistics in MALICE.items())
    raise ModelError(f"{source} takes {channels} channels, known encoders take {known}")


class _Reader:
    """Takes weights out of a graph by the node that uses them and remembers which were taken."""

    def __init__(self, graph: onnx.GraphProto, source: str) -> None:
        self.source = source
        self.nodes = {node.name: node for node in graph.node}
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.left = {t.name for t in graph.initializer if t.data_type not in (TensorProto.INT64, TensorProto.BOOL)}

    def input(self, node: str, position: int) -> npt.NDArray[Any]:
        """The weight that is the given input of a node."""
        if node not in self.nodes:
            raise ModelError(f"{self.source}: no node {node}: this is no published MALICE encoder")
        inputs = self.nodes[node].input
        name = inputs[position] if position < len(inputs) else ""
        if name not in self.tensors:
            raise ModelError(f"{self.source}: input {position} of node {node} is no weight of the file")
        self.left.discard(name)
        return self.array(self.tensors[name])

    def array(self, tensor: onnx.TensorProto) -> npt.NDArray[Any]:
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except (ValueError, TypeError) as error:
            raise ModelError(f"{self.source}: weight {tensor.name!r:.80} cannot be decoded: {error}") from error

    def encoder(self) -> dict[str, npt.NDArray[Any]]:
        """All weights by canonical name, batch norms as found."""
        found = {}
        first = self.input(_scope(f"{SPATIAL}.in_conv.conv.conv.0") + "/Conv", 1)
        for name in weights.convolutions(first.shape[1] if first.ndim == 4 else 0):
            node = _scope(name) + ("/ConvTranspose" if name.endswith(".up.0") else "/Conv")
            found[f"{name}.weight"], found[f"{name}.bias"] = self.input(node, 1), self.input(node, 2)
            norm = weights.batch_norm_of(name)
            node = _scope(norm) + "/BatchNormalization"
            if node in self.nodes:
                for position, part in enumerate(weights.BATCH_NORM, start=1):
                    found[f"{norm}.{part}"] = self.input(node, position)
        for layer in range(LAYERS):
            found |= self.layer(
                f"{TEMPORAL}.layer_stack.{layer}", f"/encoder/ubarn/temporal_encoder/layer_stack.{layer}"
            )
        queries = self.input("/temp_proj/Expand", 0)
        found[f"{PROJECTOR}.Q"] = queries[:, 0] if queries.ndim == 4 else queries
        found[f"{PROJECTOR}.fc1_k.weight"] = self.input("/temp_proj/fc1_k/MatMul", 1).T
        return found

    def layer(self, name: str, scope: str) -> dict[str, npt.NDArray[Any]]:
        """The weights of one transformer layer."""
        found = {}
        mha, block = f"{scope}/attn/mha", f"{scope}/conv_block/block"
        parts = ("", "_1", "_2")  # query, key, value
        products = [self.input(f"{mha}/MatMul{part}", 1).T for part in parts]
        sums = [self.input(f"{mha}/Add{part}", 0) for part in parts]
        if any(p.shape != (WIDTH, WIDTH) for p in products) or any(s.shape != (WIDTH,) for s in sums):
            raise ModelError(f"{self.source}: {mha} is no attention of {WIDTH} channels: this is no MALICE encoder")
        found[f"{name}.attn.mha.in_proj_weight"] = np.concatenate(products)
        found[f"{name}.attn.mha.in_proj_bias"] = np.concatenate(sums)
        found[f"{name}.attn.mha.out_proj.weight"] = self.input(f"{mha}/Gemm", 1)
        found[f"{name}.attn.mha.out_proj.bias"] = self.input(f"{mha}/Gemm", 2)
        for linear in ("linear1", "linear2"):
            found[f"{name}.conv_block.block.{linear}.weight"] = self.input(f"{block}/{linear}/MatMul", 1).T
            found[f"{name}.conv_block.block.{linear}.bias"] = self.input(f"{block}/{linear}/Add", 0)
        for norm in ("norm", "norm2"):
            found[f"{name}.{norm}.weight"] = self.input(f"{scope}/{norm}/LayerNormalization", 1)
            found[f"{name}.{norm}.bias"] = self.input(f"{scope}/{norm}/LayerNormalization", 2)
        return found

    def finish(self) -> None:
        """Complains about weights that were not taken, and about a date encoding that is not the published one."""
        if self.left:
            raise ModelError(
                f"{self.source}: {len(self.left)} weights are of no MALICE encoder, the first is {min(self.left)!r:.80}"
            )
        for node in self.nodes.values():
            for attribute in node.attribute:
                if node.op_type != "Constant" or attribute.name != "value":
                    continue
                value = self.array(attribute.t).ravel()
                if value.size > 16 and not np.array_equal(value, encoding_divisors()):
                    raise ModelError(
                        f"{self.source}: constant {node.name!r:.80} is not the divisors of the published date encoding"
                    )


def _scope(name: str) -> str:
    """Node name prefix of a module: a Sequential's children repeat its name, a ModuleList's do not.

    ``….up_blocks.0.skip_conv.0`` -> ``/encoder/…/up_blocks.0/skip_conv/skip_conv.0``.
    """
    block, index = name.rsplit(".", 1)
    path = re.sub(r"\.(?!\d)", "/", block)
    return f"/encoder/{path}/{path.rsplit('/', 1)[-1]}.{index}"
