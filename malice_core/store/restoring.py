"""The weights of an encoder out of a model's two graphs: the way back of ``graphs.py``, for training to go on with.

The graphs fold what can be folded: batch norms into convolutions, LayerNorms into the matrices behind them, the
projector's queries into its keys. A folded product has many factorisations; one is chosen here, and an encoder that
has these weights computes what the graphs compute. What is undone, and what is chosen:

- a key's bias, which softmax takes away, is 0, and a value's bias stays in that of the attention's output;
- the projector's queries are the first rows of a unit matrix, shared by the sensors as in training, and what the graph
  has in their place are rows of the key layer: ten queries of one head never need more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, numpy_helper

from malice_core import safety, weights
from malice_core.cards import Card
from malice_core.errors import ModelError
from malice_core.weights import LAYERS, PROJECTOR, QUERIES, QUERY_HEADS, TEMPORAL, WIDTH

Doubles = npt.NDArray[np.float64]


def state_of(card: Card) -> dict[str, npt.NDArray[np.float32]]:
    """The encoders of a model as the state dict of ``training.malice.MaliceEncoder``, batch norms folded.

    Raises:
        ModelError: if a graph is missing, damaged, or not one of ``graphs.py``.
    """
    state: dict[str, npt.NDArray[np.float32]] = {}
    for sensor in card.modalities:
        for name, array in weights_of(card, sensor).items():
            part = name.removeprefix(f"{PROJECTOR}.")
            if part == name:
                state[f"encoder_{sensor}.{name}"] = array
            else:
                state[f"common_temp_proj.{part if part == 'Q' else f'ca_{sensor}.{part}'}"] = array
    return state


def weights_of(card: Card, sensor: str) -> dict[str, npt.NDArray[np.float32]]:
    """Canonical weights (see ``weights.py``) of one encoder of a model.

    Raises:
        ModelError: as :func:`state_of`.
    """
    source = f"model {card.name}"
    reader = _Graphs(card, sensor, source)
    found: dict[str, npt.NDArray[Any]] = {}
    for name in weights.convolutions(len(card.modalities[sensor].channels)):
        found[f"{name}.weight"], found[f"{name}.bias"] = reader(f"{name}.weight"), reader(f"{name}.bias")
    for layer in range(LAYERS):
        found |= _layer(reader, f"{TEMPORAL}.layer_stack.{layer}")
    last = f"{TEMPORAL}.layer_stack.{LAYERS - 1}.norm2"
    scale = _divisor(reader(f"{last}.weight"), last, source)
    rows = reader(f"{PROJECTOR}.A").reshape(QUERY_HEADS, QUERIES, WIDTH) * WIDTH**0.5 / scale
    keys = np.zeros((QUERY_HEADS, WIDTH, WIDTH))
    keys[:, :QUERIES] = rows
    found[f"{PROJECTOR}.Q"] = np.broadcast_to(np.eye(QUERIES, WIDTH), (QUERY_HEADS, QUERIES, WIDTH)).copy()
    found[f"{PROJECTOR}.fc1_k.weight"] = keys.reshape(QUERY_HEADS * WIDTH, WIDTH)
    return weights.canonical(found, source)


def _layer(reader: _Graphs, block: str) -> dict[str, npt.NDArray[Any]]:
    """One transformer layer, its LayerNorm taken out of the matrices."""
    found: dict[str, npt.NDArray[Any]] = {}
    for norm in ("norm", "norm2"):
        for part in ("weight", "bias"):
            found[f"{block}.{norm}.{part}"] = reader(f"{block}.{norm}.{part}")
    scale = _divisor(found[f"{block}.norm.weight"], f"{block}.norm", reader.source)
    shift = found[f"{block}.norm.bias"]
    name = f"{block}.attn.mha"
    # The query's matrix holds 1/sqrt(16) too.
    query, key, value = (
        factor * (reader(f"{name}.{part}.weight") / scale[:, None]).T
        for part, factor in (("q", 4.0), ("k", 1), ("v", 1))
    )
    output = reader(f"{name}.out_proj.weight").T
    biases = np.zeros((3, WIDTH))
    biases[0] = 4.0 * reader(f"{name}.q.bias") - query @ shift
    found[f"{name}.in_proj_weight"] = np.concatenate([query, key, value])
    found[f"{name}.in_proj_bias"] = biases.reshape(-1)
    found[f"{name}.out_proj.weight"] = output
    found[f"{name}.out_proj.bias"] = reader(f"{name}.out_proj.bias") - output @ (value @ shift)
    first, second = (f"{block}.conv_block.block.linear{number}" for number in (1, 2))
    matrix = (reader(f"{first}.weight") / scale[:, None]).T
    found[f"{first}.weight"], found[f"{first}.bias"] = matrix, reader(f"{first}.bias") - matrix @ shift
    found[f"{second}.weight"], found[f"{second}.bias"] = reader(f"{second}.weight").T, reader(f"{second}.bias")
    return found


def _divisor(scale: Doubles, norm: str, source: str) -> Doubles:
    if (abs(scale) < 1e-12).any():
        raise ModelError(f"{source}: the weight of {norm} has a 0, what it was folded into is lost: train a checkpoint")
    return scale


class _Graphs:
    """Looks weights of one sensor's graphs up by name, in float64; weights stored in half precision likewise."""

    def __init__(self, card: Card, sensor: str, source: str) -> None:
        self.source = f"{source}, {sensor}"
        self._tensors: dict[str, TensorProto] = {}
        for role in ("spatial", "temporal"):
            graph = safety.parsed(card.graph_bytes(sensor, role), self.source).graph
            self._tensors |= {tensor.name.removesuffix(" half"): tensor for tensor in graph.initializer}

    def __call__(self, name: str) -> Doubles:
        if name not in self._tensors:
            raise ModelError(f"{self.source}: its graphs have no weight {name}: they were not written by malice_core")
        return np.asarray(numpy_helper.to_array(self._tensors[name])).astype(np.float64)
