"""What the benchmarks share: a process measured by the operating system, the machine it ran on, the published model."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from malice_core import __version__

#: Bytes of one unit of ``ru_maxrss``.
RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class BenchmarkError(Exception):
    """What stops a benchmark, in one line."""


def measured(name: str, command: list[str], environment: dict[str, str]) -> tuple[dict[str, float], str]:
    """Runs a command to its end.

    Args:
        name: of the command, for messages.

    Returns:
        Wall-clock seconds ``s``, processor seconds ``cpu_s`` and peak memory ``peak_mb`` (1e6 bytes, as wait4 tells),
        where it can be told ``stolen``, the share of the processors' time meanwhile that :func:`stolen` is about; and
        what it printed.

    Raises:
        BenchmarkError: if it fails, with its last line; or if its peak cannot be told from this process'.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        taken, begin = stolen(), time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        with process.stdout as stream:
            text = stream.read()
        # wait4 tells the memory of this one child, getrusage only the largest of all of them.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            last = [line.strip() for line in errors.read().splitlines() if line.strip()][-1:]
            raise BenchmarkError(": ".join([f"{name} ended with code {process.returncode}", *last]))
    peak = usage.ru_maxrss * RSS_UNIT
    if peak <= own_peak():
        raise BenchmarkError(
            f"{name}: its peak of {peak / 1e6:.0f} MB cannot be told from that of the process which measures it: start "
            "it from one that has done nothing else"
        )
    found = {"s": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": peak / 1e6}
    if taken is not None and (now := stolen()) is not None:
        found["stolen"] = (now - taken) / (seconds * cores())
    return found, text


def stolen(path: Path = Path("/proc/stat")) -> float | None:
    """Seconds since the system started that its processors had work and the host of a virtual machine gave them to
    others; None where the system does not tell.

    Args:
        path: Linux' account (proc(5): ``steal`` is the eighth number of a processor). Those count that this process may
            use.
    """
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        ticks = {line[0]: int(line[8]) for line in lines if line[0].startswith("cpu")}
    except (OSError, IndexError, ValueError):
        return None
    return sum(ticks.get(f"cpu{number}", 0) for number in processors()) / os.sysconf("SC_CLK_TCK")


def processors() -> Iterable[int]:
    """Numbers of the processors this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def cases_of(texts: Sequence[str]) -> list[tuple[int, int]]:
    """(pixels a side, dates) of cases such as 512x20.

    Raises:
        BenchmarkError: if one is no SIZExDATES.
    """
    found = []
    for text in texts:
        size, _, dates = text.partition("x")
        if not (size.isdecimal() and dates.isdecimal() and int(size) > 0 and int(dates) > 0):
            raise BenchmarkError(f"--cases {text}: give SIZExDATES, such as 512x20")
        found.append((int(size), int(dates)))
    return found


def own_peak() -> int:
    """Bytes below which the peak of a child cannot be told: to Linux, a process that becomes another program was as
    large as its parent once was."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def measure(name: str, command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """:func:`measured` without what was printed."""
    return measured(name, command, environment)[0]


def cores() -> int:
    """Processors this process may use."""
    return len(list(processors()))


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    versions = {"python": platform.python_version(), "malice-core": __version__}
    for package in ("numpy", "rasterio", "onnxruntime", "openvino", "llvmlite"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "missing"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": cores(),
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


#: Touches a GB that is free for a while, and the same GB once more.
TOUCHING = """
import time
import numpy

time.sleep(5)
for _ in range(2):
    memory = numpy.empty(10**9, numpy.uint8)
    begin = time.process_time()
    memory[::4096] = 1
    print(time.process_time() - begin)
    del memory
"""


def touching() -> list[float]:
    """Seconds of a processor that a GB of memory takes to be there: when nobody has used it for seconds, and at once
    again. A virtual machine may have to fetch the first from its host; no program can do about it but with less memory.

    Raises:
        BenchmarkError: if there is not as much.
    """
    done = subprocess.run([sys.executable, "-c", TOUCHING], capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"a GB of memory cannot be had: {done.stderr.strip().splitlines()[-1:]}")
    return [float(line) for line in done.stdout.split()]


def testdata() -> Path:
    """The folder with the published encoder and the real images.

    Raises:
        BenchmarkError: if MALICE_TESTDATA does not name it.
    """
    folder = Path(os.environ.get("MALICE_TESTDATA", ""))
    if not os.environ.get("MALICE_TESTDATA") or not published(folder).is_file():
        raise BenchmarkError("set MALICE_TESTDATA to a folder that holds models/malice_s2.onnx, the published encoder")
    return folder.resolve()


def published(folder: Path) -> Path:
    """The published graph in a folder of test data."""
    return folder / "models" / "malice_s2.onnx"


def installed(work: Path, folder: Path) -> dict[str, str]:
    """The environment in which ``malice`` is installed, imported into ``work`` from a folder of test data."""
    store = work / "models"
    environment = os.environ | {"MALICE_MODELS": f"{store}"}
    if not (store / "malice").is_dir():
        command = [sys.executable, "-m", "malice_core.models", "import", f"{published(folder)}", "--name", "malice"]
        measure("importing the model", command, environment)
    return environment
