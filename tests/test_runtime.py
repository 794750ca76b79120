"""A session of OpenVINO: as many calls at once as it has streams, none waits for another before it begins."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from malice_core import runtime

openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")


def _doubling() -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
    )
    imports = [helper.make_opsetid("", runtime.OPSET)]
    content: bytes = helper.make_model(graph, opset_imports=imports, ir_version=runtime.IR_VERSION).SerializeToString()
    return content


def _together(session: runtime.Session, threads: int) -> list[list[float]]:
    """What as many threads are given that call a session at the same moment."""
    start = threading.Barrier(threads)

    def call(number: int) -> list[float]:
        start.wait(30)
        view = session.run({"x": np.full(4, number, np.float32)})
        # It is this thread's own, whatever others have computed since, until the thread ends.
        start.wait(30)
        found: list[float] = view.tolist()
        start.wait(30)
        return found

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, range(threads)))


def test_what_a_stream_needs_is_made_before_any_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """To make it takes the lock of the first stream: the second one's first call came when a whole image was done."""
    made: list[Any] = []
    create = openvino.CompiledModel.create_infer_request

    def counted(self: Any) -> Any:
        made.append(threading.current_thread())
        return create(self)

    monkeypatch.setattr(openvino.CompiledModel, "create_infer_request", counted)
    backend = runtime.choose("openvino", "cpu", "float32", 2)
    assert backend.streams == 2
    backend.open(_doubling(), {"x": (4,)})  # the first one of a process has OpenVINO set itself up
    made.clear()
    session = backend.open(_doubling(), {"x": (4,)})
    assert made == [threading.current_thread()] * 2
    # Threads that are new each time, as for each chunk of a service.
    for _ in range(3):
        assert _together(session, 2) == [[0.0] * 4, [2.0] * 4]
    assert len(made) == 2


def test_more_threads_than_streams_each_have_a_result_of_their_own() -> None:
    session = runtime.choose("openvino", "cpu", "float32", 2).open(_doubling(), {"x": (4,)})
    for _ in range(2):
        assert _together(session, 5) == [[2.0 * number] * 4 for number in range(5)]
        assert len(session._spare) == 2, "what threads beyond the streams made went with them"  # type: ignore[attr-defined]
