"""Embeds Sentinel time series: ``python -m malice_core.embed --s2 FOLDER --model NAME --output FILE.tif``.

Exit codes: 0 done, 2 bad input, 3 cancelled, 1 anything else. Every failure is one line on stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import malice_core
from malice_core import cancelling, flags, heap
from malice_core import job as choices
from malice_core.cancelling import Cancel
from malice_core.cli import Parser, any_letter, fail, of_system, one_line, output_lost
from malice_core.errors import Cancelled, InputError, MaliceError
from malice_core.job import Job
from malice_core.reporting import JsonReporter, Reporter, TextReporter

if TYPE_CHECKING:
    from malice_core.classes import ClassLayout

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
    add_job(p)
    add_running(p)
    return p


def add_job(p: argparse.ArgumentParser) -> None:
    """All that a :class:`Job` is made of."""
    add_data(p)
    flags.add_surroundings(p)
    g = add_computing(p)
    g.add_argument("--model", metavar="NAME", help="an installed model (default: malice, or the only one)")
    g = add_output(p, choices.FORMATS)
    g.add_argument("--dtype", choices=choices.DTYPES, default="float32")
    g.add_argument("--queries", type=flags.queries, metavar="N,N", help="keep these queries only (default: all 10)")


def add_data(p: argparse.ArgumentParser) -> None:
    """The images, and the choice among them."""
    flags.add_images(p)
    g = flags.add_choice(p)
    g.add_argument("--mask-clouds", action="store_true", help="treat cloudy pixels as missing observations")


def add_computing(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """How the encoder runs; the group, for what a command adds."""
    g = p.add_argument_group("computing")
    g.add_argument("--edge", choices=choices.EDGES, default="mirror", help="what lies beyond the images")
    g.add_argument("--nodata", choices=choices.NODATA, default="mask", help="missing observations: left out, or zeros")
    g.add_argument(
        "--block",
        type=flags.block,
        metavar="N|HxW",
        help="sides of blocks, pixels, multiples of 8 (default: by --memory)",
    )
    g.add_argument("--memory", default="2GB", metavar="SIZE", help="memory to stay under, default 2GB")
    g.add_argument("--threads", type=flags.count, metavar="N", help="processor threads (default: all)")
    g.add_argument("--device", choices=choices.DEVICES, default="auto")
    g.add_argument("--precision", choices=choices.PRECISIONS, default="float32")
    g.add_argument("--runtime", choices=choices.RUNTIMES, default="auto")
    g.add_argument(
        "--dask",
        type=flags.dask,
        metavar="ADDRESS|local[:N]",
        help="compute blocks on the workers of a dask scheduler (tcp://HOST:PORT, or its file), or in N processes here",
    )
    return g


def add_output(p: argparse.ArgumentParser, formats: tuple[str, ...] = choices.FILE_FORMATS) -> argparse._ArgumentGroup:
    """Where the result goes; the group, for what a command adds."""
    g = p.add_argument_group("output")
    ends = ", ".join(dict.fromkeys(choices.SUFFIXES[name][0] for name in formats))
    g.add_argument("--output", metavar="FILE", help=f"a name that ends as --format has it: {ends}")
    g.add_argument("--counts", metavar="FILE.tif", help="also write the number of valid dates a pixel")
    g.add_argument("--format", choices=formats, default="gtiff")
    g.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    g.add_argument("--resume", action="store_true", help="go on with what an interrupted run left")
    return g


def add_running(p: argparse.ArgumentParser) -> None:
    """How a run talks and stops."""
    g = add_talking(p)
    g.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")


def add_talking(p: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """What :func:`run_engine` wants; the group, for what a command adds."""
    g = p.add_argument_group("running")
    g.add_argument("--progress", choices=("text", "json"), default="text", help="json: one object a line on stdout")
    g.add_argument("--cancel-on-stdin-close", action="store_true", help="stop when stdin is closed")
    return g


def job_of(given: argparse.Namespace) -> Job:
    """The job a parsed command line asks for.

    Raises:
        InputError: if --output is missing, --model is empty or --memory is no size.
    """
    if not given.output:
        raise InputError("--output is missing: give a file name; --help lists the options")
    if given.model == "":
        raise InputError("--model is empty (an unset variable?); see python -m malice_core.models list")
    # A command that lacks an option leaves it as it is.
    values = {field.name: getattr(given, field.name, field.default) for field in dataclasses.fields(Job)}
    values |= {
        "output": Path(given.output),
        "counts": Path(given.counts) if given.counts else None,
        "memory": flags.size(given.memory),
    }
    # Lists of the command line are tuples in a job, which never changes.
    settled: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Job(**settled)


def execute(
    job: Job, reporter: Reporter, cancel: Cancel, dry_run: bool = False, classes: ClassLayout | None = None
) -> None:
    """Plans and runs one job, telling ``reporter``.

    Args:
        job: the options.
        reporter: is told plan, progress and files.
        cancel: stops the run.
        dry_run: plan only.
        classes: what is made of the embeddings; None: they are the output.

    Raises:
        MaliceError: whatever went wrong, in one line.
    """
    from malice_core import blocks, pipeline, workers
    from malice_core import plan as planning

    begun = time.monotonic()
    if job.dask is not None:
        job = workers.prepared(job, connecting=not dry_run)
    with blocks.environment():
        plan = planning.make_plan(job, classes)
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
    return run_engine(arguments, parser, _start)


def _start(options: argparse.Namespace, reporter: Reporter, cancel: Cancel) -> None:
    execute(job_of(options), reporter, cancel, options.dry_run)


def run_engine(
    arguments: Sequence[str] | None,
    make_parser: Callable[[], argparse.ArgumentParser],
    start: Callable[[argparse.Namespace, Reporter, Cancel], None],
    cancelled: str = cancelling.MESSAGE,
) -> int:
    """Runs a command line of the engine: its events, signals and exit codes.

    Args:
        arguments: None: of this process.
        make_parser: with the options of :func:`add_talking`.
        start: the work.
        cancelled: what is told when it was cancelled.
    """
    heap.share()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # The events of a json run start with the first thing that can fail, which is the command line itself.
    as_json = "--progress=json" in arguments or ("--progress", "json") in itertools.pairwise(arguments)
    any_letter()
    reporter: Reporter = JsonReporter(sys.stdout) if as_json else TextReporter()
    cancel = Cancel(cancelled)

    told = threading.Lock()

    def report() -> None:
        # From the main thread, or from the one that watches signals: whichever is first.
        if told.acquire(blocking=False):
            _tell(reporter, Cancelled.exit_code, cancelled)

    with cancelling.watch_signals(cancel, report):
        try:
            options = make_parser().parse_args(arguments)
            if getattr(options, "contract", False):
                print(json.dumps({"contract": malice_core.CONTRACT, "version": malice_core.__version__}), flush=True)
                return 0
            if getattr(options, "cancel_on_stdin_close", False):
                cancelling.watch_stdin(cancel, report)
            start(options, reporter, cancel)
            sys.stdout.flush()
        except Cancelled:
            report()
            return Cancelled.exit_code
        except MaliceError as error:
            _tell(reporter, error.exit_code, one_line(error))
            return error.exit_code
        except MemoryError:
            _tell(reporter, 1, "out of memory; give a smaller --memory (or --block, where there is one)")
            return 1
        except BrokenPipeError:
            return 1  # its reader is gone: there is nobody left to tell
        except Exception as error:
            if refused := of_system(error):
                _tell(reporter, refused.exit_code, f"{refused}")
                return refused.exit_code
            if os.environ.get("MALICE_DEBUG"):
                raise
            line = one_line(f"unexpected {type(error).__name__}: {error}")
            _tell(reporter, 1, f"{line}; MALICE_DEBUG=1 gives a traceback to report")
            return 1
        finally:
            output_lost()
        return 0


def _tell(reporter: Reporter, code: int, line: str) -> None:
    """Tells an error where it can be: what takes events may be full."""
    try:
        reporter.error(code, line)
    except OSError:
        fail(MaliceError(line))


if __name__ == "__main__":
    sys.exit(main())
