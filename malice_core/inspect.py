"""Looks at a series before anything is computed: ``python -m malice_core.inspect --s2 FOLDER --report FILE.html``.

Takes the options of ``malice_core.embed``, and writes what such a run would read, use, leave out and take.
Exit codes: 0 done (also where the report says that a run would be refused), 2 bad input, 3 cancelled, 1 anything else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from malice_core import embed, flags
from malice_core.cancelling import Cancel
from malice_core.cli import Parser
from malice_core.errors import OutputError
from malice_core.job import Job
from malice_core.placing import part_of
from malice_core.reporting import Reporter

if TYPE_CHECKING:
    from malice_core.inspection.survey import Survey

#: Names of outputs by option, as they must end.
SUFFIXES = {"report": (".html", ".htm"), "json": (".json",), "table": (".csv",)}
CANCELLED = "cancelled; nothing was written"


def parser() -> argparse.ArgumentParser:
    """The command line; ``docs/inspect.md`` explains it."""
    p = Parser(
        prog="python -m malice_core.inspect",
        description="Report on a Sentinel-1 and/or Sentinel-2 time series before it is embedded.",
        epilog="All other options are those of malice_core.embed, and mean the same; --output need not be given.",
    )
    g = p.add_argument_group("report")
    g.add_argument("--report", type=flags.path, metavar="FILE.html", help="a page with tables and plots")
    g.add_argument("--json", type=flags.path, metavar="FILE.json", help="the same as json")
    g.add_argument("--table", type=flags.path, metavar="FILE.csv", help="the dates, one a line")
    g.add_argument("--exact", action="store_true", help="look at all pixels, as a run does, however large the area")
    g.add_argument("--no-trial", action="store_true", help="do not try how fast the model's graphs are")
    embed.add_job(p)
    embed.add_talking(p)
    return p


def targets_of(options: argparse.Namespace) -> dict[str, Path]:
    """Where the report goes, by option.

    Raises:
        OutputError: if a file cannot be written there, or is there already.
    """
    found: dict[str, Path] = {}
    for option, suffixes in SUFFIXES.items():
        told = getattr(options, option)
        if told is None:
            continue
        path = Path(told)
        folder = path.absolute().parent
        if path.suffix.lower() not in suffixes:
            raise OutputError(f"--{option} {path}: give a name that ends in {suffixes[0]}")
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"--{option} {path}: the folder {folder} does not exist or cannot be written to")
        if path.is_dir():
            raise OutputError(f"--{option} {path} is a folder; give a file name")
        if path.exists() and not options.overwrite:
            raise OutputError(f"--{option} {path} exists already: give --overwrite to replace it, or another name")
        found[option] = path
    return found


def execute(
    job: Job,
    targets: dict[str, Path],
    reporter: Reporter,
    cancel: Cancel,
    *,
    exact: bool = False,
    trial: bool = True,
    named: bool = False,
    told: bool = False,
) -> None:
    """Looks at what a job names, and writes the reports.

    Args:
        job: the options of a run.
        targets: files by option, as of :func:`targets_of`.
        reporter: is told progress and files.
        cancel: stops it; nothing is written then.
        exact, trial: as ``--exact`` and not ``--no-trial``.
        named: the output of the job was named by the user, not filled in here.
        told: ``reporter`` is given the report in words also where files are written.

    Raises:
        MaliceError: whatever went wrong, in one line.
    """
    from malice_core import blocks
    from malice_core.inspection import estimating, gaps, report, survey, tables

    begun = time.monotonic()
    with blocks.environment():
        found = survey.make(job, exact, reporter, cancel)
    _refuse_inputs(targets, found, job)
    reporter.progress(90, 100, "estimating")
    estimate = estimating.make(found, named, cancel.check, trial)
    empty = gaps.of(found)
    found.warnings += gaps.warnings(empty)
    contents = tables.as_json(found, empty, estimate)
    texts = {
        "report": lambda: report.page(found, empty, estimate),
        "json": lambda: json.dumps(contents, indent=1) + "\n",
        "table": lambda: tables.as_csv(found),
    }
    _write({path: texts[option] for option, path in targets.items()}, cancel)
    for warning in [*(f"a run would be refused: {line}" for line in found.refused), *found.warnings]:
        reporter.warning(warning)
    if told or not targets:
        reporter.plan(contents, tables.as_text(found, empty, estimate))
    reporter.progress(100, 100, "done")
    reporter.done(list(map(str, targets.values())), time.monotonic() - begun)


def _refuse_inputs(targets: dict[str, Path], found: Survey, job: Job) -> None:
    """Raises:
    OutputError: if a report would replace an image, or something else that was given.
    """
    images = {Path(file).resolve() for row in found.rows for file in row.files}
    surroundings = {Path(one).resolve() for one in (*job.weather, *job.s2_angles, *job.s1_angles)}
    named = [*job.s2, *job.s1, *job.scl, *filter(None, (job.dem, (job.dates or "").removeprefix("@")))]
    given = surroundings | {Path(one).resolve() for one in named}
    for option, path in targets.items():
        real = path.resolve()
        if real in images:
            raise OutputError(f"--{option} {path} is one of the images: give another name")
        # Folders of tables, unlike those of images, may hold files that end as reports do.
        if real in given or not surroundings.isdisjoint(real.parents):
            raise OutputError(f"--{option} {path} is an input: give another name")


def _write(contents: Mapping[Path, Callable[[], str]], cancel: Cancel) -> None:
    """The files, all of them whole or none; what was there before stays until then.

    Raises:
        OutputError: if one cannot be written.
        Cancelled: if the run was stopped.
    """
    partials = {path: part_of(path) for path in contents}
    try:
        for path, content in contents.items():
            cancel.check()
            partials[path].write_text(content(), encoding="utf-8", newline="\n")
        for path, partial in partials.items():
            os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; free space, or give another folder") from error
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def _start(options: argparse.Namespace, reporter: Reporter, cancel: Cancel) -> None:
    targets = targets_of(options)
    named = bool(options.output)
    # A run needs a name for its output; a report does not, and writes nothing there.
    options.output = options.output or "embedding.tif"
    execute(
        embed.job_of(options),
        targets,
        reporter,
        cancel,
        exact=options.exact,
        trial=not options.no_trial,
        named=named,
        told=options.progress == "json",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return embed.run_engine(arguments, parser, _start, CANCELLED)


if __name__ == "__main__":
    sys.exit(main())
