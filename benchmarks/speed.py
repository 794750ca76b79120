"""Speed and memory of ``malice_core.embed`` against the published graph run as its users do, on the same real images.

``make bench``, or ``python benchmarks/speed.py [--cases 512x20 512x118] [--turns 3] [--docs]``. Needs MALICE_TESTDATA
with ``models/malice_s2.onnx`` and ``data/site_a``, whose images are mirrored out (``mirrored.py``). Ours in float32,
and in bfloat16 where the processor has it, and both ways of ``peers.py`` run as processes of their own, turn by turn;
reading, computing and writing 640 bands of float32 count, for all. Useful pixel-dates are pixels of the output times
dates: halos, overlaps and start-up are costs. Where a peer would take longer than ``--longest`` seconds it runs only
some of its patches, evenly spread, at least two a session; the time of the others is added, at the pace of those that
are not the first of their session.

Prints tables of Markdown and writes everything to a JSON file; ``--docs`` puts the tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mirrored
import report
from measuring import BenchmarkError, cases_of, installed, machine, measured, published, testdata
from peers import STEP, WAYS, windows

from malice_core import flags
from malice_core.errors import MaliceError
from malice_core.grid import block_text

HERE = Path(__file__).resolve().parent
CASES = ("512x20", "512x60", "512x118", "2048x20")
#: Pixels a side from which on there is one turn, not three: all of them would take over an hour.
LARGE = 2048
#: Share of the free memory that a peer's patches are chosen for.
SHARE = 0.85


@dataclass(frozen=True)
class Case:
    """One size and number of dates, with what each way is run as."""

    size: int
    dates: int
    turns: int

    @property
    def pixel_dates(self) -> int:
        return self.size**2 * self.dates


@dataclass(frozen=True)
class Contender:
    """What is run turn by turn.

    Attributes:
        command: as a process.
        note: what the table says of it.
        sessions: of a peer, that run patches at the same time.
    """

    command: list[str]
    note: str
    sessions: int = 1

    def whole(self, seconds: float, printed: str) -> float:
        """Seconds of a run in which a peer leaves out no patch.

        Args:
            seconds: of the run.
            printed: what it printed.
        """
        if "peers.py" not in self.command[1]:
            return seconds
        told = json.loads(printed)
        # All sessions run a patch at a time: a last round that is not full takes as long as one that is.
        rounds = math.ceil(told["all"] / self.sessions) - math.ceil(told["patches"] / self.sessions)
        return seconds + (rounds * told["later"] if rounds else 0.0)


def free_memory() -> float:
    """Bytes that are free, as Linux tells; elsewhere half of what the machine has."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * float(line.split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


class Bench:
    """One benchmark: where it works, with what, and what it has found out."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.data = testdata()
        self.site = self.data / "data" / "site_a"
        self.work: Path = given.work.resolve()
        self.work.mkdir(parents=True, exist_ok=True)
        self.environment = installed(self.work, self.data)
        #: By way and number of dates: side of the patches, seconds that each session takes for one, bytes it was given.
        self._fitted: dict[tuple[str, int], tuple[int, float, float]] = {}

    def python(self, name: str, script: str, *options: object) -> tuple[dict[str, float], str]:
        """Runs one of the benchmarks' scripts."""
        command = [sys.executable, f"{HERE / script}", *map(str, options)]
        return measured(name, command, self.environment)

    def peer(self, way: str, scene: Path, patch: int, room: float) -> list[str]:
        """The command line of a peer."""
        options = ["--way", way, "--s2", f"{scene}", "--model", f"{published(self.data)}", "--patch", f"{patch}"]
        options += ["--output", f"{self.work / 'out.tif'}", "--memory", f"{int(room)}"]
        return [sys.executable, f"{HERE / 'peers.py'}", *options]

    def fitted(self, way: str, dates: int, scene: Path) -> tuple[int, float, float]:
        """The largest patch that memory allows, tried out, the seconds it takes, and the bytes it was tried with."""
        if (way, dates) not in self._fitted:
            room = free_memory()
            self._fitted[way, dates] = self._fit(way, dates, scene, WAYS[way].largest(dates, SHARE * room), room)
        return self._fitted[way, dates]

    def refit(self, way: str, dates: int, scene: Path, error: BenchmarkError) -> None:
        """Has a peer run smaller patches from now on, if there are any, after one of its runs ended with ``error``."""
        patch, _, room = self._fitted[way, dates]
        self._fitted[way, dates] = self._fit(way, dates, scene, self._smaller(way, patch, error), room)

    def _fit(self, way: str, dates: int, scene: Path, patch: int, room: float) -> tuple[int, float, float]:
        while True:
            # Two of each session: the second needs more memory than the first.
            some = 2 * WAYS[way].sessions
            command = [*self.peer(way, scene, patch, room), "--only", f"{some}"]
            try:
                found = json.loads(measured(f"{way}, patches of {patch} pixels", command, self.environment)[1])
            except BenchmarkError as error:
                patch = self._smaller(way, patch, error)
            else:
                return patch, sum(found["seconds"].values()) / found["patches"], room

    @staticmethod
    def _smaller(way: str, patch: int, error: BenchmarkError) -> int:
        """The next smaller patch, where there is one and a larger one ended with ``error``."""
        if patch - STEP <= 2 * WAYS[way].margin:
            raise error
        print(f"{error}; smaller patches are tried", flush=True)
        return patch - STEP

    def contenders(self, case: Case, scene: Path, bfloat16: bool) -> dict[str, Contender]:
        """Everything that is run in this case."""
        found = {}
        ours = self.ours(case, scene)
        bands = "64 bands only, for want of disk" if "--queries" in ours else "640 bands"
        for precision in ("float32", *(["bfloat16"] if bfloat16 else [])):
            found[f"ours, {precision}"] = Contender([*ours, "--precision", precision], bands)
        return found | {name: self.contender(name, case, scene) for name in WAYS}

    def contender(self, name: str, case: Case, scene: Path) -> Contender:
        """A peer, with patches that fit."""
        way = WAYS[name]
        patch, seconds, room = self.fitted(name, case.dates, scene)
        count = len(windows(case.size, case.size, patch, way.margin))
        some = min(count, max(2, int(self.given.longest / seconds)) * way.sessions)
        limited = "" if patch in (way.patch, min(way.patch, case.size)) else ", the largest that fit memory"
        note = f"patches of {patch}{limited}"
        if some < count:
            note += f"; {some} of {count} patches"
        return Contender([*self.peer(name, scene, patch, room), "--only", f"{some}"], note, way.sessions)

    def ours(self, case: Case, scene: Path) -> list[str]:
        """Our command line; fewer bands where the disk has no room for all of them, twice: in scratch and as file."""
        room = min(shutil.disk_usage(self.work).free, flags.size(self.given.disk))
        command = [sys.executable, "-m", "malice_core.embed", "--s2", f"{scene}", "--model", "malice", "--overwrite"]
        command += ["--output", f"{self.work / 'out.tif'}", "--progress", "json", *self.given.embed]
        return [*command, "--queries", "0"] if 2 * 640 * 4 * case.size**2 > room else command

    def run(
        self, name: str, case: Case, scene: Path, contenders: dict[str, Contender], begun: bool
    ) -> tuple[dict[str, float], str]:
        """One run of a contender. A peer that fails, for want of memory, gets smaller patches and another try.

        Args:
            begun: it has run in this case.
        """
        while True:
            try:
                return measured(name, contenders[name].command, self.environment)
            except BenchmarkError as error:
                if name not in WAYS:
                    raise
                self.refit(name, case.dates, scene, error)
                # Of turns with other patches the note tells too.
                before, new = contenders[name].note, self.contender(name, case, scene)
                contenders[name] = replace(new, note=f"{new.note} (before: {before})" if begun else new.note)

    def turns(
        self, case: Case, scene: Path, contenders: dict[str, Contender]
    ) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
        """All runs by contender, and what each printed last."""
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        printed = {}
        for turn in range(case.turns):
            # Another one comes first each time: machines slow down and recover.
            order = list(contenders)
            for name in order[turn % len(order) :] + order[: turn % len(order)]:
                run, text = self.run(name, case, scene, contenders, bool(runs[name]))
                (self.work / "out.tif").unlink()
                run["whole_s"] = contenders[name].whole(run["s"], text)
                run["pixel_dates_per_s"] = case.pixel_dates / run["whole_s"]
                runs[name].append(run)
                printed[name] = text
                print(
                    f"{case.size}x{case.dates} {turn + 1}/{case.turns} {name}: {run['s']:.1f} s, "
                    f"{run['pixel_dates_per_s'] / 1e3:.1f} thousand pixel-dates/s, {run['peak_mb']:.0f} MB",
                    flush=True,
                )
        return runs, printed

    def arithmetic(self, precision: str, scene: Path, block: list[int]) -> dict[str, int]:
        """Multiply-adds of a run of ours in blocks of this size, counted by a run without any."""
        counted, output = self.work / "counted.json", self.work / "counted.tif"
        options = ["--s2", scene, "--model", "malice", "--output", output, "--overwrite", *self.given.embed]
        options += ["--block", block_text((block[0], block[1])), "--queries", "0", "--dtype", "int8"]
        options += ["--precision", precision]
        self.python("counting", "profile_run.py", "--count", "--json", counted, "--", *options)
        found = json.loads(counted.read_text(encoding="utf-8"))
        for path in self.work.glob("counted*"):
            path.unlink()
        if found["plan"]["block"] != block:
            raise BenchmarkError(f"blocks of {found['plan']['block']} were counted, the runs had {block}")
        return {"executed": found["executed"], "useful": round(found["useful"])}

    def case(self, case: Case, peak: dict[str, float | None]) -> dict[str, Any]:
        """Measures one case."""
        scene = self.scene(case)
        contenders = self.contenders(case, scene, peak["bfloat16"] is not None)
        runs, printed = self.turns(case, scene, contenders)
        ways, useful = {}, 0
        for name, contender in contenders.items():
            done = runs[name]
            way: dict[str, Any] = {"note": contender.note, "runs": done}
            way["median"] = {key: statistics.median(run[key] for run in done) for key in done[0]}
            if name not in WAYS:
                plan = next(e["plan"] for e in map(json.loads, printed[name].splitlines()) if e["event"] == "plan")
                cost = self.arithmetic(name.split(", ")[1], scene, plan["block"])
                useful = cost["useful"]
                way |= {"block": plan["block"], "planned_mb": plan["memory_bytes"] / 1e6, "executed": cost["executed"]}
                way["executed_gflops"] = 2e-9 * cost["executed"] / way["median"]["s"]
            else:
                ours = {one.split(", ")[1]: runs[one] for one in runs if one not in WAYS}
                way["times_faster"] = {key: ratios(some, done, "pixel_dates_per_s") for key, some in ours.items()}
                way["memory_share"] = ratios(ours["float32"], done, "peak_mb")
            way["useful_gflops"] = 2e-9 * useful / case.pixel_dates * way["median"]["pixel_dates_per_s"]
            ways[name] = way
        shutil.rmtree(scene)
        return {"size": case.size, "dates": case.dates, "turns": case.turns, "useful": useful, "ways": ways}

    def scene(self, case: Case) -> Path:
        scene = self.work / "scene"
        shutil.rmtree(scene, ignore_errors=True)
        mirrored.write(scene, self.site, case.size, case.dates)
        return scene

    def profile(self, case: Case) -> dict[str, Any]:
        """Where the time of a run goes, of ours in float32."""
        scene, target = self.scene(case), self.work / "profile.json"
        self.python("profile", "profile_run.py", "--json", target, "--", *self.ours(case, scene)[3:])
        shutil.rmtree(scene)
        (self.work / "out.tif").unlink()
        found: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
        target.unlink()
        return {"size": case.size, "dates": case.dates} | found


def ratios(ours: list[dict[str, float]], others: list[dict[str, float]], what: str) -> dict[str, float]:
    """Of each turn's runs, ours to the other's: their median, the least and the largest."""
    found = [one[what] / other[what] for one, other in zip(ours, others, strict=True)]
    return {"median": statistics.median(found), "least": min(found), "most": max(found)}


def cases(given: argparse.Namespace) -> list[Case]:
    """What was asked for."""
    return [Case(size, dates, given.turns or (1 if size >= LARGE else 3)) for size, dates in cases_of(given.cases)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmark of embedding against the published graph.")
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="SIZExDATES", help=f"default {' '.join(CASES)}")
    parser.add_argument("--turns", type=flags.count, metavar="N", help="default 3, from 2048 pixels on 1")
    parser.add_argument("--longest", type=float, default=60.0, metavar="SECONDS", help="of a run of a peer, default 60")
    parser.add_argument("--disk", default="25GB", metavar="SIZE", help="disk that may be used, default 25GB")
    parser.add_argument("--work", type=Path, default=Path("build/bench"), help="folder for scenes, model and outputs")
    parser.add_argument("--json", type=Path, help="where to write the numbers (default WORK/speed.json)")
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("embed", nargs="*", metavar="-- OPTION", help="after --: more options for embed")
    given = parser.parse_args()
    try:
        wanted = cases(given)
        bench = Bench(given)
        found: dict[str, Any] = {"machine": machine()}
        found["peak"] = json.loads(bench.python("peak", "peak.py")[1])
        print(f"peak: {found['peak']}", flush=True)
        found["profile"], found["cases"] = bench.profile(wanted[0]), []
        target: Path = given.json or bench.work / "speed.json"
        for case in wanted:
            found["cases"].append(bench.case(case, found["peak"]))
            # Written each time: who stops it keeps what was measured.
            target.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            lines = report.speed(found)
            if given.docs:
                report.into_docs("speed", lines)
    except (BenchmarkError, MaliceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n" + "\n".join(lines) + f"\n\n{target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
