"""Calls of the encoder in machine code, with the weights of a temporal graph."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from malice_core.bfloat16 import rounded
from malice_core.errors import DeviceError
from malice_core.kernel import temporal
from malice_core.kernel.emit import Code, Target
from malice_core.kernel.layers import POWERS
from malice_core.weights import LAYERS, PROJECTOR, QUERIES, TEMPORAL, WIDTH

#: Of the nodes of a graph that computes what is computed here: how :func:`form` tells one from another.
FORM = "a705a4970a158641"
Float = NDArray[np.float32]
_codes: dict[Target, Future[tuple[Code, Callable[..., None]]]] = {}
_lock = threading.Lock()


def form(model: onnx.ModelProto) -> str:
    """What a graph computes, but for its weights: a digest of its nodes and of its small constants.

    Weights that are stored as float16 come with casts, which do not count.
    """
    nodes = [node for node in model.graph.node if node.op_type != "Cast"]
    # Names of results count nodes, casts too.
    number = {name: f"result {index}" for index, node in enumerate(nodes) for name in node.output}
    parts = []
    for node in nodes:
        plain = onnx.NodeProto()
        plain.CopyFrom(node)
        plain.name = ""
        for names in (plain.input, plain.output):
            names[:] = [number.get(name, name) for name in names]
        parts.append(plain.SerializeToString(deterministic=True))
    parts += sorted(
        constant.SerializeToString(deterministic=True)
        for constant in model.graph.initializer
        if constant.name.startswith("constant ")
    )
    return hashlib.sha256(b"\n".join(parts)).hexdigest()[:16]


def fits(graph: bytes) -> bool:
    """True for a graph that computes what is computed here."""
    model = onnx.load_model_from_string(graph)
    # The scale of norms that have theirs elsewhere.
    ones = [numpy_helper.to_array(constant) for constant in model.graph.initializer if constant.name == "one"]
    return form(model) == FORM and all(bool((one == 1).all()) for one in ones)


class KernelSession:
    """A :class:`malice_core.runtime.Session` of a temporal graph whose pixels come last.

    ``run`` computes with the thread that calls it, for any number of pixels and dates. It raises DeviceError where the
    code, which is compiled meanwhile, cannot be.

    Args:
        graph: bytes of a temporal graph of :func:`malice_core.graphs.temporal_graph`.
        target: :func:`malice_core.kernel.emit.host`, or a narrower one.

    Raises:
        ValueError: if the graph is another one.
    """

    def __init__(self, graph: bytes, target: Target) -> None:
        self._target = target
        self._weights = packed(graph, self._target)
        self._begun = compiling(self._target)
        self._local = threading.local()

    def run(self, feeds: Mapping[str, Float]) -> Float:
        """(10, 64, P) embedding; valid until the same thread calls ``run`` again.

        Args:
            feeds: ``features`` (P, T, 64), ``encoding`` (T, 64), ``valid`` (P, T); features may be bits of bfloat16, as
                uint16, if the target has pairs.
        """
        encoding, valid = (np.ascontiguousarray(feeds[name], np.float32) for name in ("encoding", "valid"))
        features: NDArray[Any] = np.ascontiguousarray(feeds["features"])
        if self._target.pairs and features.dtype == np.float32:
            features = rounded(features)
        if features.dtype != (np.uint16 if self._target.pairs else np.float32):
            raise ValueError(f"features of {features.dtype}")
        pixels, dates, width = features.shape
        if encoding.shape != (dates, width) or valid.shape != (pixels, dates) or width != WIDTH or not pixels * dates:
            raise ValueError(f"features {features.shape}, encoding {encoding.shape}, valid {valid.shape}")
        stride = -(-pixels // self._target.lanes) * self._target.lanes
        work = self._memory("work", temporal.work(self._target, dates))
        found = self._memory("found", QUERIES * WIDTH * stride)
        arrays = (features, valid, encoding, self._weights, work, found)
        encode = self._begun.result()[1]
        encode(*(array.ctypes.data for array in arrays), pixels, dates, stride)
        return found.reshape(QUERIES, WIDTH, stride)[:, :, :pixels]

    def _memory(self, name: str, numbers: int) -> Float:
        """Numbers of this thread, aligned to a line of cache; what they are is undefined."""
        whole = getattr(self._local, name, None)
        if whole is None or whole.size < numbers:
            line = 16
            raw = np.empty(numbers + line, np.float32)
            whole = raw[-(raw.ctypes.data // 4) % line :]
            setattr(self._local, name, whole)
        return whole[:numbers]


def packed(graph: bytes, target: Target) -> Float:
    """The weights of a temporal graph as ``temporal.written`` wants them.

    Raises:
        ValueError: if it is another graph.
    """
    if not fits(graph):
        raise ValueError("not a temporal graph of this version")
    model = onnx.load_model_from_string(graph)
    stored = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    stored |= {
        node.output[0]: stored[node.input[0]].astype(np.float32) for node in model.graph.node if node.op_type == "Cast"
    }
    zero = np.zeros

    def doubles(name: str) -> NDArray[np.float64]:
        found: NDArray[np.float64] = stored[name].astype(np.float64)
        return found

    found: list[Float] = []
    for layer in range(LAYERS):
        block = f"{TEMPORAL}.layer_stack.{layer}"
        mha, feed = f"{block}.attn.mha", f"{block}.conv_block.block"
        weights = {
            "qk": np.concatenate([POWERS * doubles(f"{mha}.q.weight"), doubles(f"{mha}.k.weight")], axis=1),
            "qk bias": np.concatenate([POWERS * doubles(f"{mha}.q.bias"), zero(WIDTH)]),
            "v": stored[f"{mha}.v.weight"],
            "v bias": zero(WIDTH),
            "context": stored[f"{mha}.out_proj.weight"],
            "context bias": stored[f"{mha}.out_proj.bias"],
            "first": stored[f"{feed}.linear1.weight"],
            "first bias": stored[f"{feed}.linear1.bias"],
            "second": stored[f"{feed}.linear2.weight"],
            # What is added to the result: the normalised value, with its scale and shift.
            "second bias": stored[f"{feed}.linear2.bias"] + stored[f"{block}.norm.bias"],
            "norm scale": stored[f"{block}.norm.weight"],
            "norm2 scale": stored[f"{block}.norm2.weight"],
            "norm2 shift": stored[f"{block}.norm2.bias"],
        }
        found += _in_order(weights, temporal.LAYER, target)
    rows = POWERS * doubles(f"{PROJECTOR}.A").reshape(-1, WIDTH).T
    projector = {"rows": rows, "rows bias": zero(rows.shape[1]), "scale": weights["norm2 scale"]}
    found += _in_order(projector | {"shift": weights["norm2 shift"]}, temporal.PROJECTOR, target)
    return np.concatenate(found)


def _in_order(
    weights: Mapping[str, NDArray[np.floating]], shapes: Mapping[str, tuple[int, ...]], target: Target
) -> list[Float]:
    result = []
    for name, shape in shapes.items():
        array = weights[name].astype(np.float32)
        if array.shape != shape:
            raise ValueError(f"{name} {array.shape}, must be {shape}")
        if len(shape) == 2:
            inputs, outputs = shape
            if target.pairs:
                inputs, array = inputs // 2, _paired(array)
            array = array.reshape(inputs, outputs // target.rows, target.rows).transpose(1, 0, 2)
        result.append(array.ravel())
    return result


def _paired(matrix: Float) -> Float:
    """Each two rows as one, of bfloat16; the first is the lower half of a number."""
    bits = rounded(matrix).astype(np.uint32)
    return (bits[0::2] | bits[1::2] << 16).view(np.float32)


def compiling(target: Target) -> Future[tuple[Code, Callable[..., None]]]:
    """The code for a processor and its function ``encode``, made once, by a thread of its own.

    Its result raises DeviceError if LLVM cannot compile it.
    """
    with _lock:
        known = _codes.get(target)
        # What failed may have for a reason that has passed.
        if known is None or (known.done() and known.exception() is not None):
            compiler = ThreadPoolExecutor(1, "compile")
            _codes[target] = compiler.submit(_compiled, target)
            compiler.shutdown(wait=False)
        return _codes[target]


def _compiled(target: Target) -> tuple[Code, Callable[..., None]]:
    try:
        code = Code(temporal.written(target))
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DeviceError(f"llvmlite cannot compile the encoder: {reason}; give --runtime onnxruntime") from error
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 6, *[ctypes.c_int64] * 3)
    return code, kind(code.address("encode"))
