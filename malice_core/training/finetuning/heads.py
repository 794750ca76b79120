"""Heads: from the tokens of a pixel's embedding to classes.

- linear: one layer on all numbers, as in linear probing (ALISE, arXiv 2407.08448).
- master_query: learned queries that belong to no input attend to the tokens, and a linear layer makes classes of what
  they gather: cross-attention with the master query of the Lightweight Temporal Attention Encoder (Garnot and Landrieu,
  arXiv 2007.00586). A token here is one of the ten of a sensor; which one it is, a learned code tells the keys.

Both standardise their input with fixed numbers first. A head becomes an ONNX graph, so that what uses it needs no
torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from malice_core.classifier import MAX_HEAD
from malice_core.errors import InputError
from malice_core.graphs import IR_VERSION, OPSET

WIDTH = 64
#: Bytes of the last layer in a graph: the other parts of a head have less than two megabytes.
LARGEST = MAX_HEAD - (2 << 20)
#: Embeddings that are summed up at once.
ROWS = 1 << 11


class Head(nn.Module, ABC):
    """What heads share: (P, tokens·64) -> (P, classes).

    Args:
        tokens: of an embedding, all sensors together.
        classes: how many.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, tokens: int, classes: int) -> None:
        super().__init__()
        self.tokens, self.classes = tokens, classes
        self.register_buffer("mean", torch.zeros(tokens * WIDTH))
        self.register_buffer("scale", torch.ones(tokens * WIDTH))

    def standardise(self, features: NDArray[np.float32]) -> None:
        """Settles mean and spread of the input by those of (N, tokens·64) embeddings."""
        # Sums of float64 by parts: numpy's own would hold all of the input twice more.
        parts = [features[row : row + ROWS] for row in range(0, len(features), ROWS)]
        mean = np.sum([part.sum(axis=0, dtype=np.float64) for part in parts], axis=0) / len(features)
        squares = np.sum([np.square(part - mean).sum(axis=0) for part in parts], axis=0)
        self.mean.copy_(torch.from_numpy(mean))
        spread = np.sqrt(squares / len(features))
        # A number that never changes tells nothing: it is not blown up.
        self.scale.copy_(torch.from_numpy(1 / np.where(spread > 1e-4, spread, 1.0)))

    def forward(self, embedding: Tensor) -> Tensor:
        """(P, tokens·64) -> logits (P, classes)"""
        return self.classify((embedding - self.mean) * self.scale)

    @abstractmethod
    def classify(self, x: Tensor) -> Tensor:
        """(P, tokens·64) standardised -> logits (P, classes)"""

    def graph(self) -> bytes:
        """The head as an ONNX file: ``embedding`` (P, tokens·64) float32 -> ``logits`` (P, classes)."""
        g = _Graph()
        centred = g.node("Sub", "embedding", g.constant(self.mean))
        self.nodes(g, g.node("Mul", centred, g.constant(self.scale)))
        return g.file(self.tokens * WIDTH, self.classes)

    @abstractmethod
    def nodes(self, g: _Graph, x: str) -> None:
        """Adds what :meth:`classify` computes."""


class LinearHead(Head):
    """One linear layer on all tokens."""

    def __init__(self, tokens: int, classes: int) -> None:
        super().__init__(tokens, classes)
        self.layer = nn.Linear(tokens * WIDTH, classes)

    def classify(self, x: Tensor) -> Tensor:
        """(P, tokens·64) -> (P, classes)"""
        return self.layer(x)  # type: ignore[no-any-return]

    def nodes(self, g: _Graph, x: str) -> None:
        product = g.node("MatMul", x, g.constant(self.layer.weight.T))
        g.node("Add", product, g.constant(self.layer.bias), output="logits")


class MasterQueryHead(Head):
    """Learned queries over the tokens.

    Args:
        tokens, classes: as of :class:`Head`.
        queries: learned ones.
        heads: attention heads; each has its share of the 64 channels.
    """

    def __init__(self, tokens: int, classes: int, queries: int = 1, heads: int = 8) -> None:
        super().__init__(tokens, classes)
        self.heads, self.depth = heads, WIDTH // heads
        self.queries = nn.Parameter(torch.randn(heads, queries, self.depth))
        self.codes = nn.Parameter(0.1 * torch.randn(tokens, WIDTH))
        self.keys = nn.Linear(WIDTH, WIDTH)
        self.layer = nn.Linear(queries * WIDTH, classes)

    def folded(self) -> tuple[Tensor, Tensor]:
        """What gives the scores: a matrix (64, heads·queries) for the tokens, and (tokens, heads·queries) to add."""
        # q·(W(x + code) + b) is linear in x: keys need not be made for every pixel.
        weight = self.keys.weight.view(self.heads, self.depth, WIDTH)
        matrix = torch.einsum("hqd,hdc->chq", self.queries, weight) * self.depth**-0.5
        bias = torch.einsum("hqd,hd->hq", self.queries, self.keys.bias.view(self.heads, self.depth)) * self.depth**-0.5
        matrix = matrix.flatten(1)
        return matrix, self.codes @ matrix + bias.flatten()

    def classify(self, x: Tensor) -> Tensor:
        """(P, tokens·64) -> (P, classes)"""
        x = x.view(-1, self.tokens, WIDTH)
        matrix, offset = self.folded()
        shares = (x @ matrix + offset).softmax(1).view(-1, self.tokens, *self.queries.shape[:2])
        # Values are the tokens themselves; each head gathers its own channels.
        gathered = torch.einsum("pnhq,pnhd->pqhd", shares, x.view(-1, self.tokens, self.heads, self.depth))
        return self.layer(gathered.flatten(1))  # type: ignore[no-any-return]

    def nodes(self, g: _Graph, x: str) -> None:
        matrix, offset = self.folded()
        rows = matrix.shape[1]
        tokens = g.node("Reshape", x, g.constant([-1, self.tokens, WIDTH]))
        scores = g.node("Add", g.node("MatMul", tokens, g.constant(matrix)), g.constant(offset))
        shares = g.node("Softmax", g.node("Transpose", scores, perm=[0, 2, 1]), axis=-1)
        gathered = g.node("Reshape", g.node("MatMul", shares, tokens), g.constant([-1, rows * WIDTH]))
        # Every head gathered all channels; of these the last layer takes its own.
        queries = self.queries.shape[1]
        weight = torch.zeros(self.classes, self.heads, queries, self.heads, self.depth)
        own = self.layer.weight.detach().cpu().view(self.classes, queries, self.heads, self.depth)
        for head in range(self.heads):
            weight[:, head, :, head] = own[:, :, head]
        product = g.node("MatMul", gathered, g.constant(weight.flatten(1).T))
        g.node("Add", product, g.constant(self.layer.bias), output="logits")


def make(kind: str, tokens: int, classes: int, queries: int, heads: int) -> Head:
    """The head of a kind: ``linear`` or ``master_query``.

    Raises:
        InputError: if its graph would be too large to be read.
    """
    # Of the last layer, which in the graph has a row for each head's other channels too; the rest is small.
    size = 4 * classes * queries * heads * WIDTH
    if kind == "master_query" and size > LARGEST:
        raise InputError(
            f"head.queries={queries} with head.heads={heads} and {classes} classes make a head of {size >> 20} MB, at "
            f"most {LARGEST >> 20} MB are read: lower one of the two"
        )
    return LinearHead(tokens, classes) if kind == "linear" else MasterQueryHead(tokens, classes, queries, heads)


class _Graph:
    """Collects nodes and constants; every method returns the name of its result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{op.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Tensor | list[int]) -> str:
        array = np.array(value, np.int64) if isinstance(value, list) else value.detach().cpu().float().numpy()
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def file(self, features: int, classes: int) -> bytes:
        graph = helper.make_graph(
            self._nodes,
            "head",
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["P", features])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["P", classes])],
            self._constants,
        )
        model = helper.make_model(
            graph, producer_name="malice_core", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        content: bytes = model.SerializeToString(deterministic=True)
        return content
