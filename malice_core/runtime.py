"""Sessions that run one ONNX graph: OpenVINO or onnxruntime, on the device that is really there.

The rest of the program sees :class:`Backend` (a choice that was checked) and :class:`Session` (``run``). Both
runtimes compute in float32 unless asked otherwise: OpenVINO would silently choose bfloat16 on processors
that have it, and CUDA would choose TF32, so both are always told. float16 is in the graph itself (``halved``).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from malice_core import processors
from malice_core.errors import DeviceError, MaliceError, ModelError
from malice_core.failures import of_runtime, reason, told
from malice_core.gpu.memory import DeviceMemory
from malice_core.graphs import IR_VERSION, OPSET

# Without this, OpenVINO tells its maker of every import, over the network, in a forked process that may never end; its
# own stub takes over. Here, before whichever function imports it first.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# onnxruntime keeps what it tells in the user's folder, and prints a line where it may not write there.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

#: What a graph is given: float32 numbers, and int32 indices.
Array = NDArray[np.float32] | NDArray[np.int32]
Float = NDArray[np.float32]


class Session(Protocol):
    """One compiled graph. ``run`` may be called from several threads at once, and raises MaliceError if onnxruntime
    fails."""

    def run(self, feeds: Mapping[str, Any]) -> Float:
        """The graph's only output; valid until the same thread calls ``run`` again, or ends."""
        ...


class DeviceSession(Session, Protocol):
    """A session of onnxruntime."""

    def run_into(self, feeds: Mapping[str, DeviceMemory], output: DeviceMemory) -> None:
        """As ``run``, with inputs on the device; the result is written to ``output``, whose shape is the result's."""
        ...


@dataclass(frozen=True)
class Backend:
    """A runtime on a device.

    Attributes:
        runtime: ``openvino`` or ``onnxruntime``.
        device: ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16`` or ``float16``, inside the graphs.
        threads: processor threads for all calls together.
        streams: calls that may be made at once; threads are shared out among them. A card computes one at a time.
        kernel: what the products of machine code of our own are made of (``malice_core.kernel``): ``float32`` or
            ``bfloat16``; "": the runtime computes the temporal encoder too.
    """

    runtime: str
    device: str
    precision: str
    threads: int
    streams: int
    kernel: str = ""

    @property
    def exact(self) -> Backend:
        """The same in float32: for graphs that are small, or whose numbers may be large."""
        return replace(self, precision="float32")

    @property
    def pixel_calls(self) -> int:
        """Calls of the temporal encoder that may be made at once: its own code computes with the thread that calls."""
        return self.threads if self.kernel else self.streams

    @property
    def elsewhere(self) -> str:
        """Options with which a processor does it."""
        return "--device cpu --precision float32" if self.precision == "float16" else "--device cpu"

    @property
    def name(self) -> str:
        """What computes, with its version: where it is the same, numbers are."""
        if self.runtime == "openvino":
            import openvino

            version = openvino.get_version().split("-")[0]
            if self.kernel:
                version += f" and llvmlite {importlib.metadata.version('llvmlite')}"
                version += "" if self.kernel == self.precision else f" ({self.kernel})"
        else:
            import onnxruntime

            version = onnxruntime.__version__
        return f"{self.runtime} {version} on {self.device}, {self.precision}"

    def describe(self) -> str:
        """One line for the plan."""
        return f"{self.name}, {self.threads} threads"

    def open(self, graph: bytes, shapes: Mapping[str, tuple[int, ...]]) -> Session:
        """Compiles a graph for fixed input shapes.

        Args:
            graph: bytes of an ONNX model with one output.
            shapes: shape of every input.

        Raises:
            DeviceError: if there is no memory for it, or the device does not start.
            ModelError: if the runtime cannot read the graph.
        """
        session = _OpenVinoSession if self.runtime == "openvino" else _OnnxSession
        try:
            return session(graph, shapes, self)
        except MaliceError:
            raise
        except Exception as error:
            if not of_runtime(error) and not isinstance(error, ValueError):
                raise
            if isinstance(error, MemoryError) or "alloc" in str(error).lower():
                raise DeviceError(
                    "out of memory while a graph was opened; give a smaller --block or --memory"
                ) from error
            raise ModelError(
                f"{self.runtime} cannot open a graph of the model: {reason(error)}; verify or import the model again"
            ) from error


def choose(
    runtime: str = "auto", device: str = "auto", precision: str = "float32", threads: int | None = None
) -> Backend:
    """Picks the runtime and device: what was asked for if it is there, else the fastest that is.

    ``auto`` prefers a CUDA device through onnxruntime, then OpenVINO on the processor, then onnxruntime.

    Raises:
        DeviceError: if what was asked for is not there; the message lists what was found.
    """
    threads = threads or processors.count()
    cuda_problem = None if device == "cpu" or runtime == "openvino" else _cuda_problem()
    if device == "cuda":
        if runtime == "openvino":
            raise DeviceError("--device cuda needs --runtime onnxruntime, OpenVINO has no CUDA device; drop --runtime")
        if cuda_problem:
            raise DeviceError(f"--device cuda: {cuda_problem}; found: {found()}; use --device cpu")
    if precision == "float16" and (device == "cpu" or runtime == "openvino" or cuda_problem):
        how = "--runtime onnxruntime --device cuda" if runtime == "openvino" else "--device cuda"
        reason = f": {cuda_problem}" if cuda_problem else ""
        raise DeviceError(f"--precision float16 is computed on a GPU only, by {how}{reason}; use float32")
    if device == "auto":
        device = "cpu" if runtime == "openvino" or cuda_problem or precision == "bfloat16" else "cuda"
    if device == "cuda":
        if precision == "bfloat16":
            raise DeviceError("--precision bfloat16 is OpenVINO's on a CPU; use float16 or float32 with --device cuda")
        # While the card computes, others fetch dates, copy, or make numbers of the output's type.
        return Backend("onnxruntime", "cuda", precision, threads, min(CUDA_CALLS, threads))
    if runtime == "auto":
        runtime = "openvino" if importlib.util.find_spec("openvino") else "onnxruntime"
    elif not importlib.util.find_spec(runtime):
        raise DeviceError(f"--runtime {runtime}: the package is not installed; found: {found()}")
    if precision == "bfloat16":
        if runtime != "openvino":
            raise DeviceError("--precision bfloat16 needs --runtime openvino; onnxruntime computes float32 on a CPU")
        if "BF16" not in _openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise DeviceError("--precision bfloat16: this processor has no bfloat16 instructions; use float32")
    # Two streams keep both the arithmetic units and the memory busy; more cost memory for little.
    kernel = _kernel(precision) if runtime == "openvino" else ""
    return Backend(runtime, "cpu", precision, threads, min(2, threads), kernel)


def _kernel(precision: str) -> str:
    """What our own temporal encoder computes with here; "" without llvmlite, or on a processor it is not written for.

    Raises:
        DeviceError: if it does not load.
    """
    if not importlib.util.find_spec("llvmlite"):
        return ""
    try:
        from malice_core.kernel.emit import host

        if precision == "bfloat16" and host(pairs=True):
            return precision
        return "float32" if host() else ""
    except (ImportError, OSError, RuntimeError) as error:
        raise DeviceError(
            f"llvmlite does not load: {reason(error)}; install it again, or give --runtime onnxruntime"
        ) from error


def found() -> str:
    """The runtimes and devices of this machine, for messages."""
    parts = []
    if importlib.util.find_spec("openvino"):
        parts.append("openvino (" + ", ".join(_openvino_core().available_devices) + ")")
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        parts.append("onnxruntime (" + ", ".join(onnxruntime.get_available_providers()) + ")")
    return ", ".join(parts) or "no runtime"


def _cuda_problem() -> str | None:
    """Why CUDA cannot be used here, or None. A provider that is listed may still fail to start: it is tried."""
    if not importlib.util.find_spec("onnxruntime"):
        return "onnxruntime is not installed"
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "this onnxruntime has no CUDA provider (the package onnxruntime-gpu has)"
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(_probe(), options, providers=_CUDA_PROVIDERS)
        session.run(None, {"x": np.zeros(1, np.float32)})
    except Exception as error:  # noqa: BLE001  whatever the driver raises is the reason to report
        return f"the CUDA provider does not start: {reason(error)}"
    if "CUDAExecutionProvider" not in session.get_providers():
        return "the CUDA provider does not start: no usable GPU, driver or CUDA library"
    return None


def _probe() -> bytes:
    """The smallest graph: one number through a ReLU."""
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return model.SerializeToString()  # type: ignore[no-any-return]


#: TF32 would round the factors to 10 bits; agreement with the published graph needs full float32. Memory grows by what
#: is asked for: by default its pieces double, and the plan would have to allow for that.
_CUDA_OPTIONS = {"use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
_CPU_PROVIDERS = ["CPUExecutionProvider"]
_CUDA_PROVIDERS = [("CUDAExecutionProvider", _CUDA_OPTIONS), *_CPU_PROVIDERS]

#: Calls beside each other on a GPU: one is computed, the others' inputs and results are copied and taken up.
CUDA_CALLS = 3
#: A call's memory there is planned for once, so that no other computes meanwhile.
_card = threading.Lock()

_core_lock = threading.Lock()
_core: Any = None


def _openvino_core() -> Any:
    global _core
    with _core_lock:
        if _core is None:
            import openvino

            core = openvino.Core()
            # The binding sets itself up in its first call and gives up Python's lock half-way: two threads that
            # make that first call together wait for each other for ever. So it is made here, by one.
            request = core.compile_model(core.read_model(_probe()), "CPU").create_infer_request()
            request.infer({"x": np.zeros(1, np.float32)}, share_inputs=True)
            request.get_output_tensor(0).data.sum()
            _core = core
    return _core


class _Lent:
    """A request that a thread has as long as it lives.

    Args:
        spare: where it comes from, or a new one if there is none, and goes to.
        most: how many are kept there.
        compiled: the graph.
    """

    def __init__(self, spare: list[Any], most: int, compiled: Any) -> None:
        self._spare, self._most = spare, most
        try:
            self.request = spare.pop()
        except IndexError:
            self.request = compiled.create_infer_request()

    def __del__(self) -> None:
        if hasattr(self, "request") and len(self._spare) < self._most:
            self._spare.append(self.request)


class _OpenVinoSession:
    def __init__(self, graph: bytes, shapes: Mapping[str, tuple[int, ...]], backend: Backend) -> None:
        core = _openvino_core()
        model = core.read_model(graph)
        model.reshape({name: list(shape) for name, shape in shapes.items()})
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if backend.precision == "bfloat16" else "f32",
                "NUM_STREAMS": str(backend.streams),
                "INFERENCE_NUM_THREADS": str(backend.threads),
                "ENABLE_CPU_PINNING": "NO",
            },
        )
        # Made before any computes: to make one waits for what is computed in the first stream, for the whole of it. Of
        # threads beyond the streams each makes one of its own.
        self._streams = backend.streams
        self._spare = [self._compiled.create_infer_request() for _ in range(backend.streams)]
        self._local = threading.local()

    def run(self, feeds: Mapping[str, Array]) -> Float:
        with told("openvino"):
            if not hasattr(self._local, "lent"):
                self._local.lent = _Lent(self._spare, self._streams, self._compiled)
            request = self._local.lent.request
            # Outputs that are not shared are copied, for a result that nobody takes.
            request.infer(dict(feeds), share_inputs=True, share_outputs=True)
            output: Float = request.get_output_tensor(0).data
            return output


def halved(graph: bytes) -> bytes:
    """A graph that computes in float16, and takes and returns float32.

    By onnxruntime's own converter, which makes smaller numbers than float16 has the smallest that it has, and larger
    ones the largest.
    """
    from onnxruntime.transformers import float16

    model = float16.convert_float_to_float16(onnx.load_model_from_string(graph), keep_io_types=True)
    return model.SerializeToString()  # type: ignore[no-any-return]


class _OnnxSession:
    def __init__(self, graph: bytes, shapes: Mapping[str, tuple[int, ...]], backend: Backend) -> None:
        import onnxruntime

        self._elsewhere = f", or {backend.elsewhere}" if backend.device == "cuda" else ""
        self._turn: AbstractContextManager[Any] = _card if backend.device == "cuda" else nullcontext()
        if backend.precision == "float16":
            graph = halved(graph)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = max(1, backend.threads // backend.streams)
        options.inter_op_num_threads = 1
        providers = _CUDA_PROVIDERS if backend.device == "cuda" else _CPU_PROVIDERS
        self._session = onnxruntime.InferenceSession(graph, options, providers=providers)
        # One that does not start is left out without a word.
        if len(self._session.get_providers()) < len(providers):
            raise DeviceError("the CUDA provider did not start for a graph of the model; use --device cpu")

    def run(self, feeds: Mapping[str, Any]) -> Float:
        with told("onnxruntime", self._elsewhere), self._turn:
            return self._session.run(None, dict(feeds))[0]  # type: ignore[no-any-return]

    def run_into(self, feeds: Mapping[str, DeviceMemory], output: DeviceMemory) -> None:
        with told("onnxruntime", self._elsewhere):
            # Nothing of main memory is bound: then there would be a copy, and waiting for all copies of other threads.
            binding = self._session.io_binding()
            for name, value in feeds.items():
                binding.bind_input(name, value.device, 0, value.dtype, list(value.shape), value.pointer)
            name = self._session.get_outputs()[0].name
            binding.bind_output(name, output.device, 0, np.float32, list(output.shape), output.pointer)
            with self._turn:
                self._session.run_with_iobinding(binding)
