"""Peak memory of ``malice_core.embed`` beside the bound its plan prints, over block sides and numbers of dates.

``python benchmarks/memory.py [--size 512] [--dates 8 60] [--blocks 64 152 256] [--model malice] [-- OPTION…]``.
The constants of ``malice_core/memory.py`` were chosen from its output. Simulated Sentinel-2 images; each run is a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from malice_core import simulate


def peak(command: list[str]) -> tuple[int, int]:
    """(peak resident bytes, bytes of the plan's bound) of one embedding."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    events = [json.loads(line) for line in process.stdout]
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"error: {events[-1]['message']}")
    plan = next(event["plan"] for event in events if event["event"] == "plan")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), plan["memory_bytes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, metavar="PIXELS")
    parser.add_argument("--dates", type=int, nargs="+", default=[8, 60], metavar="N")
    parser.add_argument("--blocks", type=int, nargs="+", default=[64, 152, 256], metavar="N")
    parser.add_argument("--model", default="malice")
    parser.add_argument("--work", type=Path, default=Path("build/memory"), help="folder for scene and outputs")
    parser.add_argument("embed", nargs="*", metavar="-- OPTION", help="after --: more options for embed")
    given = parser.parse_args()
    scene, output = given.work / "scene", given.work / "out.tif"
    scene.parent.mkdir(parents=True, exist_ok=True)
    simulate.write(simulate.Spec(height=given.size, width=given.size, s2_dates=max(given.dates), s1_dates=0), scene)
    print("dates  block  measured MB  bound MB  share")
    for dates in given.dates:
        for block in given.blocks:
            command = [sys.executable, "-m", "malice_core.embed", "--s2", f"{scene / 'S2'}", "--output", f"{output}"]
            command += ["--model", given.model, "--overwrite", "--progress", "json", "--max-dates", f"{dates}"]
            measured, bound = peak([*command, "--block", f"{block}", *given.embed])
            print(
                f"{dates:5}  {block:5}  {measured / 1e6:11.0f}  {bound / 1e6:8.0f}  {measured / bound:5.2f}", flush=True
            )
    output.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
