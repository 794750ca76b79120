"""The machine's matrix-multiply peak in GFLOPS: ``python benchmarks/peak.py``.

Square matrices on all cores, the best of many runs and of several sizes, through OpenVINO (a matrix product with
constant weights, as the graphs have them) and numpy. ``bfloat16`` is null on processors that have no such instructions.
Prints one line of JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from malice_core import runtime
from malice_core.errors import DeviceError
from malice_core.graphs import IR_VERSION, OPSET

SIZES = (512, 1024, 2048)
#: Seconds given to each size and library.
SECONDS = 1.0


def graph(size: int) -> bytes:
    """x @ weights, (size, size) each."""
    weights = np.random.default_rng(0).standard_normal((size, size)).astype(np.float32)
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["y"])],
        "peak",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size, size])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    content: bytes = model.SerializeToString()
    return content


def best(call: Callable[[], object], size: int, seconds: float) -> float:
    """GFLOPS of the fastest of the calls that ``seconds`` allow for."""
    call()
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - begin)
    return 2e-9 * size**3 / fastest


def peaks(seconds: float = SECONDS) -> dict[str, float | None]:
    """GFLOPS by precision, None where the processor has none."""
    found: dict[str, float | None] = {"float32": 0.0, "bfloat16": None}
    backends = {}
    for precision in found:
        try:
            # One stream, which then has all cores.
            backends[precision] = replace(runtime.choose("openvino", "cpu", precision), streams=1)
        except DeviceError:
            continue
    for size in SIZES:
        x = np.random.default_rng(1).standard_normal((size, size)).astype(np.float32)
        for precision, backend in backends.items():
            session = backend.open(graph(size), {"x": (size, size)})
            speed = best(lambda s=session, x=x: s.run({"x": x}), size, seconds)  # type: ignore[misc]
            found[precision] = max(found[precision] or 0.0, speed)
        found["float32"] = max(found["float32"] or 0.0, best(lambda x=x: x @ x, size, seconds))  # type: ignore[misc]
    return found


if __name__ == "__main__":
    print(json.dumps(peaks()))
