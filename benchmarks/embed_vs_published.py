"""Speed and memory of ``malice_core.embed`` against the published graph run as its users do, on the same files.

``make bench``, or ``python benchmarks/embed_vs_published.py [--size 512] [--dates 20] [--repeats 3]``. Needs
MALICE_TESTDATA with ``models/malice_s2.onnx``. Both run as processes of their own, in turn, on the same simulated
Sentinel-2 images; reading, computing and writing count, for both. Useful pixel-dates are pixels of the output times
dates: halos, overlaps and start-up are costs. Prints medians and writes everything to a JSON file.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from malice_core import __version__, simulate
from malice_core.errors import MaliceError

HERE = Path(__file__).resolve().parent


class BenchmarkError(Exception):
    """What stops the benchmark, in one line."""


def measure(name: str, command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Runs a command; returns its wall-clock and processor seconds and its peak memory in MB (1e6 bytes)."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    # wait4 tells the memory of this one child, getrusage only the largest of all of them.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise BenchmarkError(f"{name} ended with code {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {"s": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss * unit / 1e6}


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {"python": platform.python_version(), "malice-core": __version__}
    for package in ("numpy", "rasterio", "onnxruntime", "openvino"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "missing"
    return {"cpu": model, "cores": cores, "system": f"{platform.system()} {platform.machine()}", "versions": versions}


def bench(given: argparse.Namespace) -> dict[str, Any]:
    """Prepares, measures in turn, and returns everything."""
    data = os.environ.get("MALICE_TESTDATA")
    published = Path(data or "") / "models" / "malice_s2.onnx"
    if not data or not published.is_file():
        raise BenchmarkError("set MALICE_TESTDATA to a folder that holds models/malice_s2.onnx, the published encoder")
    work: Path = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    scene = work / "scene"
    simulate.write(simulate.Spec(height=given.size, width=given.size, s2_dates=given.dates, s1_dates=0), scene)
    environment = os.environ | {"MALICE_MODELS": f"{work / 'models'}"}
    python = [sys.executable, "-m"]
    if not (work / "models" / "malice").is_dir():
        command = [*python, "malice_core.models", "import", f"{published}", "--name", "malice"]
        measure("importing the model", command, environment)
    images, outputs = f"{scene / 'S2'}", {name: work / f"{name}.tif" for name in ("ours", "published")}
    ours = [*python, "malice_core.embed", "--s2", images, "--model", "malice", "--output", f"{outputs['ours']}"]
    theirs = [sys.executable, f"{HERE / 'published_way.py'}", "--s2", images, "--output", f"{outputs['published']}"]
    commands = {"ours": [*ours, "--overwrite", *given.embed], "published": [*theirs, "--model", f"{published}"]}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for turn in range(given.repeats):
        for name, command in commands.items():
            outputs[name].unlink(missing_ok=True)
            runs[name].append(measure(name, command, environment))
            last = runs[name][-1]
            print(f"{turn + 1}/{given.repeats} {name}: {last['s']:.1f} s, {last['peak_mb']:.0f} MB", flush=True)
            outputs[name].unlink(missing_ok=True)
    pixel_dates = given.size**2 * given.dates
    summary = {
        name: {
            "pixel_dates_per_s": pixel_dates / statistics.median(run["s"] for run in done),
            "peak_mb": statistics.median(run["peak_mb"] for run in done),
        }
        for name, done in runs.items()
    }
    return {
        "machine": machine(),
        "scene": {"size": given.size, "dates": given.dates, "pixel_dates": pixel_dates},
        "embed_options": given.embed,
        "median": summary,
        "times_faster": summary["ours"]["pixel_dates_per_s"] / summary["published"]["pixel_dates_per_s"],
        "memory_share": summary["ours"]["peak_mb"] / summary["published"]["peak_mb"],
        "runs": runs,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmark of embedding against the published way.")
    parser.add_argument("--size", type=int, default=512, metavar="PIXELS")
    parser.add_argument("--dates", type=int, default=20, metavar="N")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="folder for scene, model and outputs")
    parser.add_argument("--json", type=Path, help="where to write the numbers (default WORK/bench.json)")
    parser.add_argument("embed", nargs="*", metavar="-- OPTION", help="after --: more options for embed")
    given = parser.parse_args()
    try:
        found = bench(given)
    except (BenchmarkError, MaliceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shutil.rmtree(given.work / "scene", ignore_errors=True)
    target: Path = given.json or given.work / "bench.json"
    target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    about, versions = found["machine"], found["machine"]["versions"]
    print(f"\n{about['cpu']}, {about['cores']} cores, {about['system']}")
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{given.size} x {given.size} pixels x {given.dates} dates of Sentinel-2, medians of {given.repeats} runs")
    for name, row in found["median"].items():
        print(
            f"{name:>9}: {row['pixel_dates_per_s'] / 1e3:7.1f} thousand pixel-dates/s  {row['peak_mb']:7.0f} MB at most"
        )
    print(f"{found['times_faster']:.2f} times faster, {found['memory_share']:.2f} of the memory; {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
