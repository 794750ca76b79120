"""What an installation can do: ``python -m malice_core.doctor [--device cuda] [--json]``.

Opens a tiny graph in every runtime and compares what it computes, and tells versions, devices and models: what the
plugin's set-up asks before it takes an engine into use, and what its diagnosis reports.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import platform
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

import malice_core
from malice_core import job, models, processors, runtime
from malice_core.cli import Parser, run_command
from malice_core.errors import DeviceError, MaliceError
from malice_core.graphs import IR_VERSION, OPSET

#: Whose versions are told; of onnxruntime's packages one is there.
PACKAGES = (
    "numpy",
    "rasterio",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "llvmlite",
    "zarr",
    "scikit-learn",
    "skops",
)
#: What the engine works with besides the runtimes: a library that is there must load.
LIBRARIES = ("rasterio", "zarr", "sklearn", "skops")
RUNTIMES = (("openvino", "cpu"), ("onnxruntime", "cpu"), ("onnxruntime", "cuda"))


def product() -> bytes:
    """The graph that is tried: (2, 3) @ (3, 2), then a ReLU."""
    shapes = {"x": [2, 3], "w": [3, 2], "y": [2, 2]}
    told = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Relu", ["p"], ["y"])]
    graph = helper.make_graph(nodes, "doctor", [told["x"], told["w"]], [told["y"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return model.SerializeToString()  # type: ignore[no-any-return]


def problem(name: str, device: str) -> str:
    """Why a runtime does not compute on a device, "" if it does."""
    x = np.array([[1, 2, 3], [-4, 5, -6]], np.float32)
    w = np.array([[1, -1], [0.5, 2], [-0.25, 1]], np.float32)
    try:
        backend = runtime.choose(name, device, threads=1)
        found = backend.open(product(), {"x": x.shape, "w": w.shape}).run({"x": x, "w": w})
        if backend.kernel:
            _compile()
        if backend.device == "cuda":
            _exchange(x)
    except MaliceError as error:
        return str(error)
    except (ImportError, OSError, RuntimeError) as error:
        # A package whose libraries do not load: the very thing that is looked for.
        return f"{name} does not load: {' '.join(str(error).split())}"
    # Small whole numbers and quarters: exact in float32, whatever the order of the sums.
    if not np.array_equal(found, np.maximum(x @ w, 0)):
        return f"{name} on {device} computes {np.asarray(found).tolist()}, which is wrong"
    return ""


def _compile() -> None:
    from malice_core.kernel.emit import host
    from malice_core.kernel.session import compiling

    for target in (host(), host(pairs=True)):
        if target is not None:
            compiling(target).result()


def _exchange(x: NDArray[np.float32]) -> None:
    """Copies numbers onto the card and back.

    Raises:
        DeviceError: if the driver fails, or other numbers come back.
    """
    from malice_core.gpu.memory import Workspace

    workspace = Workspace(1)
    there, back = workspace.put("x", x), np.zeros_like(x)
    there.read(back)
    if not np.array_equal(back, x):
        raise DeviceError(f"cuda: {x.tolist()} comes back from the card as {back.tolist()}; use --device cpu")


def findings() -> dict[str, Any]:
    """All that is told, as json takes it.

    ``runtimes`` has ``name``, ``device``, ``problem`` each; ``packages`` their versions, "" for those that are missing;
    ``broken`` and ``damaged`` are lines about libraries and models.
    """
    cards, damaged = models.scan()
    return {
        "version": malice_core.__version__,
        "contract": malice_core.CONTRACT,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "processors": processors.count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "gdal": _gdal(),
        "broken": [line for line in map(broken, LIBRARIES) if line],
        "runtimes": [{"name": name, "device": device, "problem": problem(name, device)} for name, device in RUNTIMES],
        "models": [{"name": card.name, "identity": card.identity, "folder": str(card.folder)} for card in cards],
        "damaged": damaged,
    }


def broken(library: str) -> str:
    """Why a package that is there does not load, "" if it does or is not there (some are extras)."""
    try:
        if importlib.util.find_spec(library):
            importlib.import_module(library)
    except (ImportError, OSError) as error:
        return f"{library} does not load: {' '.join(str(error).split())}"
    return ""


def _gdal() -> str:
    try:
        import rasterio
    except (ImportError, OSError):
        return ""  # told as broken
    return str(rasterio.__gdal_version__)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _say(found: dict[str, Any]) -> None:
    print(f"MALICE {found['version']}, Python {found['python']}, {found['system']}")
    print(
        f"GDAL {found['gdal']}, "
        + ", ".join(f"{name} {version}" for name, version in found["packages"].items() if version)
    )
    for one in found["runtimes"]:
        print(f"{one['name']} on {one['device']}: {one['problem'] or 'computes'}")
    print("models: " + (", ".join(one["name"] for one in found["models"]) or "none"))
    for kind in ("damaged", "broken"):
        for line in found[kind]:
            print(f"{kind}: {line}")


def _run(options: argparse.Namespace) -> None:
    found = findings()
    print(json.dumps(found)) if options.json else _say(found)
    if found["broken"]:
        raise DeviceError(f"a library does not load, install the engine anew: {'; '.join(found['broken'])}")
    asked = [one for one in found["runtimes"] if options.device in ("auto", one["device"])]
    if all(one["problem"] for one in asked):
        reasons = "; ".join(dict.fromkeys(one["problem"] for one in asked))
        raise DeviceError(
            f"nothing computes on {'this machine' if options.device == 'auto' else options.device}: {reasons}"
        )


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    top = Parser(prog="python -m malice_core.doctor", description="Tell versions and models, and try every runtime.")
    top.add_argument("--device", choices=job.DEVICES, default="auto", help="fail unless something computes on it")
    top.add_argument("--json", action="store_true", help="one JSON object")
    top.set_defaults(run=_run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Tells; returns the exit code: 0 something computes, 2 nothing does, 3 interrupted, 1 anything else."""
    return run_command(parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
