"""Memory and time of ``malice_core.embed`` over sizes and numbers of dates: neither should depend on them.

``python benchmarks/flat.py [--cases 512x20 4096x20] [--docs]``. Needs MALICE_TESTDATA, as ``speed.py``. Each run is a
process of its own, with one query as int8, so that disks do not decide it; its peak is what the operating system
tells. Besides: how long a whole Sentinel-2 tile of 120 dates takes to plan, with what memory; how long the program
takes to start; and what memory that is touched first takes of a processor, which only small runs feel. Prints tables
of Markdown and writes a JSON file; ``--docs`` puts the tables into docs/performance.md and draws docs/memory.png.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mirrored
import report
from measuring import BenchmarkError, cases_of, installed, machine, measured, testdata, touching

from malice_core import flags
from malice_core.errors import MaliceError

CASES = ("512x20", "512x60", "512x118", "1024x20", "2048x20", "4096x20")
#: Side and dates of the run that is only planned: a whole Sentinel-2 tile.
TILE, TILE_DATES = 10980, 120


def embed(scene: Path, output: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "malice_core.embed", "--s2", f"{scene}", "--model", "malice", "--overwrite"]
    command += ["--output", f"{output}", "--queries", "0", "--dtype", "int8", "--progress", "json"]
    return [*command, *options]


def plan_of(events: str) -> dict[str, Any]:
    """The plan in what ``--progress json`` printed."""
    return next(event["plan"] for event in map(json.loads, events.splitlines()) if event["event"] == "plan")  # type: ignore[no-any-return]


def run(work: Path, site: Path, size: int, dates: int, given: argparse.Namespace) -> dict[str, Any]:
    """One size and number of dates: medians of the turns."""
    scene, output = work / "flat", work / "flat.tif"
    shutil.rmtree(scene, ignore_errors=True)
    mirrored.write(scene, site, size, dates)
    runs = []
    for _ in range(given.turns):
        found, events = measured(f"{size}x{dates}", embed(scene, output, *given.embed), given.environment)
        runs.append(found)
        for path in work.glob("flat*.tif"):
            path.unlink()
    shutil.rmtree(scene)
    plan = plan_of(events)
    seconds, peak = (statistics.median(one[key] for one in runs) for key in ("s", "peak_mb"))
    row = {"size": size, "dates": dates, "s": seconds, "peak_mb": peak, "us_per_pixel_date": 1e6 * seconds}
    row["us_per_pixel_date"] /= size**2 * dates
    print(f"{size}x{dates}: {seconds:.1f} s, {row['us_per_pixel_date']:.2f} us a pixel-date, {peak:.0f} MB", flush=True)
    return row | {"planned_mb": plan["memory_bytes"] / 1e6, "block": plan["block"], "runs": runs}


def whole_tile(work: Path, site: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Planning a whole tile: seconds and peak memory of planning, memory and blocks of the plan."""
    scene = work / "tile"
    shutil.rmtree(scene, ignore_errors=True)
    mirrored.sparse(scene, site, TILE, TILE_DATES)
    command = embed(scene, work / "tile.tif", "--dry-run", *given.embed)
    found, events = measured("planning a whole tile", command, given.environment)
    shutil.rmtree(scene)
    plan = plan_of(events)
    return {
        "size": TILE,
        "dates": TILE_DATES,
        "s": found["s"],
        "peak_mb": found["peak_mb"],
        "planned_mb": plan["memory_bytes"] / 1e6,
        "blocks": plan["blocks"],
        "block": plan["block"],
    }


def start_up(work: Path, site: Path, given: argparse.Namespace) -> dict[str, float]:
    """Medians of seconds: to the answer of ``--contract``; of a run, to its plan and to the first date encoded."""
    scene, output = work / "start", work / "start.tif"
    shutil.rmtree(scene, ignore_errors=True)
    mirrored.write(scene, site, 512, 20)
    times: dict[str, list[float]] = {"contract": [], "plan": [], "first": []}
    contract = [sys.executable, "-m", "malice_core.embed", "--contract"]
    for _ in range(given.starts):
        begin = time.perf_counter()
        subprocess.run(contract, check=True, capture_output=True)
        times["contract"].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        command = embed(scene, output, *given.embed)
        quiet = {"stderr": subprocess.DEVNULL, "text": True, "env": given.environment}
        with subprocess.Popen(command, stdout=subprocess.PIPE, **quiet) as process:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                if event["event"] == "plan":
                    times["plan"].append(time.perf_counter() - begin)
                # The first event of progress is of a run that has done nothing.
                if event["event"] == "progress" and event["done"] > 0:
                    times["first"].append(time.perf_counter() - begin)
                    break
            process.terminate()
            process.stdout.read()
    for path in work.glob("start*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if any(len(found) < given.starts for found in times.values()):
        raise BenchmarkError("a run ended before its first date: call embed on build/bench/start to see why")
    return {name: statistics.median(found) for name, found in times.items()}


def draw(rows: list[dict[str, Any]], target: Path) -> None:
    """Peak memory, and time of a pixel-date: left over the size, right over the number of dates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(9, 6), layout="constrained", sharey="row")
    for column, (over, other, label, named) in enumerate(
        (("size", "dates", "pixels a side", "{} dates"), ("dates", "size", "dates", "{0} × {0} pixels"))
    ):
        memory, time = axes[:, column]
        for value in sorted({row[other] for row in rows}):
            some = sorted((row for row in rows if row[other] == value), key=lambda row: row[over])
            # One alone is no line; it may be part of one in the other column.
            if len(some) == 1 and sum(row[over] == some[0][over] for row in rows) > 1:
                continue
            places = [row[over] for row in some]
            name = named.format(value)
            (line,) = memory.plot(places, [row["peak_mb"] for row in some], "o-", label=name)
            memory.plot(places, [row["planned_mb"] for row in some], ":", color=line.get_color())
            time.plot(places, [row["us_per_pixel_date"] for row in some], "o-", label=name)
        ticks = sorted({row[over] for row in rows})
        for one in (memory, time):
            one.set_xscale("log", base=2)
            one.set_xticks(ticks, [f"{tick}" for tick in ticks])
            one.minorticks_off()
            one.set(xlabel=label)
            one.grid(alpha=0.3)
            if one.lines:
                one.legend(loc="lower right")
    for first, keys, label in (
        (axes[0, 0], ("peak_mb", "planned_mb"), "peak memory, MB\n(dotted: the plan's bound)"),
        (axes[1, 0], ("us_per_pixel_date",), "µs a pixel and date"),
    ):
        first.set(ylabel=label, ylim=(0, 1.1 * max(row[key] for row in rows for key in keys)))
    # Without the date of drawing, so that the same numbers give the same file.
    figure.savefig(target, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description="Memory and time of embedding over sizes and numbers of dates.")
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="SIZExDATES", help=f"default {' '.join(CASES)}")
    parser.add_argument("--turns", type=flags.count, default=1, metavar="N", help="of each run; default 1")
    parser.add_argument("--starts", type=flags.count, default=5, metavar="N", help="how often starting is timed")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="folder for scenes, model and outputs")
    parser.add_argument("--json", type=Path, help="where to write the numbers (default WORK/flat.json)")
    parser.add_argument("--plot", type=Path, help="where to draw the curves (with --docs: docs/memory.png)")
    parser.add_argument("--docs", action="store_true", help="put tables and plot into docs/")
    parser.add_argument("embed", nargs="*", metavar="-- OPTION", help="after --: more options for embed")
    given = parser.parse_args()
    try:
        wanted = cases_of(given.cases)
        data, work = testdata(), given.work.resolve()
        work.mkdir(parents=True, exist_ok=True)
        given.environment = installed(work, data)
        site = data / "data" / "site_a"
        found: dict[str, Any] = {"machine": machine()}
        found["start_up"] = start_up(work, site, given)
        found["touching"] = touching()
        found["tile"] = whole_tile(work, site, given)
        found["runs"], target = [], given.json or work / "flat.json"
        for size, dates in wanted:
            found["runs"].append(run(work, site, size, dates, given))
            # Written each time: who stops it keeps what was measured.
            target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            lines = report.flat(found)
            if given.docs:
                picture = "![Peak memory and time of a pixel-date over sizes and dates](memory.png)"
                report.into_docs("flat", [*lines, "", picture])
    except (BenchmarkError, MaliceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n" + "\n".join(lines) + f"\n\n{target}")
    # Last: matplotlib would make this process larger than what it measures.
    plot = given.plot or (report.DOCS.with_name("memory.png") if given.docs else None)
    if plot is not None:
        draw(found["runs"], plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
