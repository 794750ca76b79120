"""Calls of the encoder in machine code, with the weights of the graphs of a modality."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from malice_core.bfloat16 import rounded
from malice_core.errors import DeviceError
from malice_core.kernel import parting, temporal
from malice_core.kernel.emit import Code, Target
from malice_core.kernel.layers import POWERS
from malice_core.weights import LAST_WIDTH, LAYERS, PROJECTOR, QUERIES, TEMPORAL, WIDTH

#: Of the nodes of a graph that computes what is computed here: how :func:`form` tells one from another.
FORM = "a705a4970a158641"
Float = NDArray[np.float32]
#: float32, or bits of bfloat16.
Maps = NDArray[np.float32 | np.uint16]
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
    """Embeds pixels of maps: the last convolution of a spatial graph, then a temporal graph whose pixels come last.

    ``run`` computes with the thread that calls it, for any number of pixels and dates.

    Args:
        spatial, temporal: bytes of the graphs of a modality as :mod:`malice_core.graphs` writes them.
        target: :func:`malice_core.kernel.emit.host`, or a narrower one.

    Raises:
        ValueError: if a graph is another one.
    """

    def __init__(self, spatial: bytes, temporal: bytes, target: Target) -> None:
        self._target = target
        weights = packed(spatial, temporal, target)
        self._weights = aligned(weights.size)
        self._weights[:] = weights
        self._begun = compiling(self._target)
        self._local = threading.local()

    def run(self, maps: Maps, start: int, valid: Float, encoding: Float, ground: Float | None = None) -> Float:
        """(10, 64, P) embedding of the pixels from ``start`` on; valid until the same thread calls ``run`` again.

        Args:
            maps: (T, h + 2, w + 2, 32) of h x w pixels and a border; a part of larger ones may be given. float32, or
                bits of bfloat16 as uint16 if the target has pairs.
            start: the first of the pixels, which are numbered row by row.
            valid: (P, dates) of them, 0 where a date is missing.
            encoding: (dates, 64).
            ground: (P, 64) features of a last date, which has no maps.

        Raises:
            DeviceError: if the code, which is compiled meanwhile, cannot be.
            ValueError: if shapes or types do not fit.
        """
        mapped, rows, cols, channels = maps.shape
        height, width, (pixels, dates) = rows - 2, cols - 2, valid.shape
        valid, encoding = (np.ascontiguousarray(array, np.float32) for array in (valid, encoding))
        below = [] if ground is None else [ground.shape]
        same = dates == mapped + len(below) and encoding.shape == (dates, WIDTH) and channels == LAST_WIDTH
        if not same or below not in ([], [(pixels, WIDTH)]) or not 0 <= start < start + pixels <= height * width:
            found = maps.shape, start, valid.shape, encoding.shape, *below
            raise ValueError(f"maps, start, valid, encoding and ground: {found}")
        # Without one, any place will do: nothing is read there.
        ground = encoding if ground is None else ground
        kind, numbers = (np.uint16, 2) if self._target.pairs else (np.float32, 1)
        plane, line, *within = (size // maps.itemsize for size in maps.strides)
        if maps.dtype != kind or within != [LAST_WIDTH, 1]:
            raise ValueError(f"maps of {maps.dtype}, strides {maps.strides}")
        stride = -(-pixels // self._target.lanes) * self._target.lanes
        work = self._memory("work", temporal.work(self._target, dates))
        out = self._memory("found", QUERIES * WIDTH * stride)
        arrays = maps, np.ascontiguousarray(ground, np.float32), valid, encoding, self._weights, work, out
        encode = self._begun.result()[1]
        places = [array.ctypes.data for array in arrays]
        encode(*places, start, pixels, dates, mapped, width, line // numbers, plane // numbers, stride)
        return out.reshape(QUERIES, WIDTH, stride)[:, :, :pixels]

    def _memory(self, name: str, numbers: int) -> Float:
        """Numbers of this thread; what they are is undefined."""
        whole: Float | None = getattr(self._local, name, None)
        if whole is None or whole.size < numbers:
            whole = aligned(numbers)
            setattr(self._local, name, whole)
        return whole[:numbers]


def aligned(numbers: int) -> Float:
    """New numbers, aligned to a line of cache."""
    line = 16
    raw = np.empty(numbers + line, np.float32)
    return raw[-(raw.ctypes.data // 4) % line :][:numbers]


def packed(spatial: bytes, temporal_graph: bytes, target: Target) -> Float:
    """The weights of both graphs as ``temporal.written`` wants them.

    Raises:
        ValueError: if one is another graph.
    """
    if not fits(temporal_graph):
        raise ValueError("not a temporal graph of this version")
    last = parting.parted(spatial)
    model = onnx.load_model_from_string(temporal_graph)
    stored = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    stored |= {
        node.output[0]: stored[node.input[0]].astype(np.float32) for node in model.graph.node if node.op_type == "Cast"
    }
    zero = np.zeros

    def doubles(name: str) -> NDArray[np.float64]:
        found: NDArray[np.float64] = stored[name].astype(np.float64)
        return found

    kernel = last.kernel.transpose(2, 3, 1, 0).reshape(-1, WIDTH)
    found: list[Float] = [(_paired(kernel) if target.pairs else kernel).ravel(), last.bias]
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
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 7, *[ctypes.c_int64] * 8)
    return code, kind(code.address("encode"))
