"""Embeds Sentinel time series: ``python -m malice_core.embed --s2 FOLDER --model NAME --output FILE.tif``.

Exit codes: 0 done, 2 bad input, 3 cancelled, 1 anything else. Every failure is one line on stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import malice_core
from malice_core import cancelling
from malice_core import job as choices
from malice_core.cancelling import Cancel
from malice_core.cli import Parser
from malice_core.errors import Cancelled, InputError, MaliceError
from malice_core.job import Job
from malice_core.reporting import JsonReporter, Reporter, TextReporter

# The engine's libraries take half a second to load, in which a signal must already end in exit code 3: they are
# imported in execute().


def parser() -> argparse.ArgumentParser:
    """The command line; ``docs/embed.md`` explains the options at length."""
    p = Parser(
        prog="python -m malice_core.embed",
        description="Embed a Sentinel-1 and/or Sentinel-2 time series with a MALICE model.",
        epilog="A PATH is a raster, a folder, a netCDF file, or a text file that lists paths.",
    )
    p.add_argument("--contract", action="store_true", help="print the contract version as json and exit")

    g = p.add_argument_group("images")
    g.add_argument(
        "--s2", nargs="+", type=_path, action="extend", default=[], metavar="PATH", help="Sentinel-2 L2A images"
    )
    g.add_argument(
        "--s1", nargs="+", type=_path, action="extend", default=[], metavar="PATH", help="Sentinel-1 GRD, linear gamma0"
    )
    g.add_argument(
        "--scl", nargs="+", type=_path, action="extend", default=[], metavar="PATH", help="scene classification (SCL)"
    )
    g.add_argument("--s2-offset", default="auto", choices=("auto", "0", "-1000"), help="offset to add to Sentinel-2 DN")

    g = p.add_argument_group("choice of data")
    g.add_argument("--dates", metavar="START/END|@FILE", help="dates to use, both ends included, or a list")
    g.add_argument("--max-dates", type=_count, metavar="N", help="thin each modality evenly to N dates")
    g.add_argument("--max-cloud", type=_percent, metavar="PERCENT", help="drop dates with more cloud (needs --scl)")
    g.add_argument("--cloud-classes", type=_classes, metavar="N,N", help="default 3,8,9,10")
    g.add_argument("--mask-clouds", action="store_true", help="treat cloudy pixels as missing observations")
    g.add_argument("--s1-orbit", type=_orbit, metavar="N", help="use this relative orbit of Sentinel-1 only")
    g.add_argument("--aoi", nargs=4, type=float, metavar=("MINX", "MINY", "MAXX", "MAXY"), help="area of interest")
    g.add_argument("--aoi-crs", metavar="EPSG:N", help="CRS of --aoi (default: the grid's)")
    g.add_argument("--resolution", type=_resolution, metavar="METRES", help="pixel size (default 10 m)")

    g = p.add_argument_group("computing")
    g.add_argument("--model", metavar="NAME", help="an installed model (default: malice, or the only one)")
    g.add_argument("--edge", choices=choices.EDGES, default="mirror", help="what lies beyond the images")
    g.add_argument("--nodata", choices=choices.NODATA, default="mask", help="missing observations: left out, or zeros")
    g.add_argument(
        "--block", type=_count, metavar="N", help="block side, pixels, a multiple of 8 (default: by --memory)"
    )
    g.add_argument("--memory", default="2GB", metavar="SIZE", help="memory to stay under, default 2GB")
    g.add_argument("--threads", type=_count, metavar="N", help="processor threads (default: all)")
    g.add_argument("--device", choices=choices.DEVICES, default="auto")
    g.add_argument("--precision", choices=choices.PRECISIONS, default="float32")
    g.add_argument("--runtime", choices=choices.RUNTIMES, default="auto")

    g = p.add_argument_group("output")
    g.add_argument("--output", metavar="FILE.tif")
    g.add_argument("--counts", metavar="FILE.tif", help="also write the number of valid dates a pixel")
    g.add_argument("--dtype", choices=choices.DTYPES, default="float32")
    g.add_argument("--queries", type=_queries, metavar="N,N", help="keep these queries only (default: all 10)")
    g.add_argument("--format", choices=choices.FORMATS, default="gtiff")
    g.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    g.add_argument("--resume", action="store_true", help="go on with what an interrupted run left")

    g = p.add_argument_group("running")
    g.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    g.add_argument("--progress", choices=("text", "json"), default="text", help="json: one object a line on stdout")
    g.add_argument("--cancel-on-stdin-close", action="store_true", help="stop when stdin is closed")
    return p


def _number(text: str, kind: type, low: float, high: float, what: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"'{text}' is not {what}")
    return value


def _count(text: str) -> int:
    return int(_number(text, int, 1, 1 << 20, "a whole number of at least 1"))


def _orbit(text: str) -> int:
    return int(_number(text, int, 1, 175, "a relative orbit of Sentinel-1, 1 to 175"))


def _percent(text: str) -> float:
    return float(_number(text, float, 0, 100, "a percentage, 0 to 100"))


def _resolution(text: str) -> float:
    # The networks know pixels of 10 m; a hundred times that is a mistake, and would average for hours.
    return float(_number(text, float, 0.5, 200, "a pixel size of 0.5 to 200 metres"))


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("an empty path (an unset variable?)")
    return text


def _integers(text: str, low: int, high: int, what: str) -> tuple[int, ...]:
    return tuple(int(_number(part, int, low, high, what)) for part in text.split(","))


def _classes(text: str) -> tuple[int, ...]:
    return _integers(text, 1, 255, "a list of classes such as 3,8,9,10")


def _queries(text: str) -> tuple[int, ...]:
    return _integers(text, 0, 65535, "a list of queries such as 0,3")


def job_of(options: argparse.Namespace) -> Job:
    """The job a parsed command line asks for.

    Raises:
        InputError: if --output is missing, --model is empty or --memory is no size.
    """
    if not options.output:
        raise InputError("--output is missing; see python -m malice_core.embed --help")
    if options.model == "":
        raise InputError("--model is empty (an unset variable?); see python -m malice_core.models list")
    values: dict[str, Any] = {field.name: getattr(options, field.name) for field in dataclasses.fields(Job)}
    values |= {
        "output": Path(options.output),
        "counts": Path(options.counts) if options.counts else None,
        "memory": parse_size(options.memory),
    }
    # Lists of the command line are tuples in a job, which never changes.
    settled: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Job(**settled)


def parse_size(text: str) -> int:
    """``2GB``, ``500MB``, ``1.5G``, ``2GiB`` or plain bytes → bytes.

    Raises:
        InputError: if it is no size.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([KMGT]?)(I?)B?\s*", text.upper())
    if not match:
        raise InputError(f"--memory {text}: write a size such as 2GB or 800MB")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(unit) + 1 if unit else 0))


def execute(job: Job, reporter: Reporter, cancel: Cancel, dry_run: bool = False) -> None:
    """Plans and runs one job, telling ``reporter``.

    Raises:
        MaliceError: whatever went wrong, in one line.
    """
    from malice_core import pipeline
    from malice_core import plan as planning

    begun = time.monotonic()
    with pipeline.environment():
        plan = planning.make_plan(job)
        try:
            for warning in plan.warnings:
                reporter.warning(warning)
            reporter.plan(planning.describe(plan), planning.text(plan))
            cancel.check()
            if dry_run:
                return
            files = pipeline.run(plan, reporter, cancel)
        finally:
            plan.close()
    reporter.done(files, time.monotonic() - begun)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # The events of a json run start with the first thing that can fail, which is the command line itself.
    as_json = "--progress=json" in arguments or ("--progress", "json") in itertools.pairwise(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A path may have letters that the terminal's encoding lacks: that must not end a run.
            stream.reconfigure(errors="backslashreplace")
    reporter: Reporter = JsonReporter(sys.stdout) if as_json else TextReporter()
    cancel = Cancel()

    told = threading.Lock()

    def report() -> None:
        # From the main thread, or from the one that watches signals: whichever is first.
        if told.acquire(blocking=False):
            reporter.error(Cancelled.exit_code, cancelling.MESSAGE)

    try:
        cancelling.watch_signals(cancel, report)
        options = parser().parse_args(arguments)
        if options.contract:
            print(json.dumps({"contract": malice_core.CONTRACT, "version": malice_core.__version__}))
            return 0
        if options.cancel_on_stdin_close:
            cancelling.watch_stdin(cancel, report)
        execute(job_of(options), reporter, cancel, options.dry_run)
    except Cancelled:
        report()
        return Cancelled.exit_code
    except MaliceError as error:
        reporter.error(error.exit_code, str(error))
        return error.exit_code
    except MemoryError:
        reporter.error(1, "out of memory; give a smaller --memory or --block")
        return 1
    except BrokenPipeError:
        # The reader of our output is gone: there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get("MALICE_DEBUG"):
            raise
        reporter.error(1, f"unexpected {type(error).__name__}: {error}; MALICE_DEBUG=1 gives a traceback to report")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
