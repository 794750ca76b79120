"""Training patches out of stacks: ``python -m malice_core.dataset build | info``.

Exit codes: 0 done, 2 bad input, 3 cancelled, 1 anything else. Every failure is one line on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from malice_core import cancelling, flags
from malice_core.cancelling import Cancel
from malice_core.cli import Parser, run_command
from malice_core.errors import Cancelled, InputError, MaliceError
from malice_core.job import Job
from malice_core.reporting import TextReporter

if TYPE_CHECKING:
    from malice_core.patches.plan import Request

# The libraries are imported when a command runs, so that --help and a first Ctrl-C are quick.


def _patch(text: str) -> int:
    side = flags.count(text)
    if side < 16 or side % 8:
        raise argparse.ArgumentTypeError(f"'{text}' is no multiple of 8 of at least 16")
    return side


def _metres(text: str) -> float:
    return float(flags.number(text, float, 0, 1e6, "a distance in metres"))


def parser(cancel: Cancel) -> argparse.ArgumentParser:
    """The command line; ``docs/training.md`` explains the options."""
    top = Parser(prog="python -m malice_core.dataset", description="Make and describe datasets of training patches.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    p = commands.add_parser("build", help="turn a stack into training patches")
    p.set_defaults(run=lambda options: build(options, cancel))
    flags.add_images(p)
    p.add_argument(
        "--places",
        type=Path,
        metavar="DIR",
        help="in place of images: a folder with a folder for each place, in which lie S2, S1 and, if they are there, "
        "SCL, AGERA5, DEM.tif, S2_angles.csv, S1_angles.csv",
    )
    flags.add_choice(p)
    flags.add_surroundings(p)

    g = p.add_argument_group("patches; with --append they are the dataset's")
    g.add_argument("--patch", type=_patch, metavar="N", help="side in pixels (default 128)")
    g.add_argument("--split", metavar="T/V/T", help="shares of train, val, test (default 0.8/0.1/0.1)")
    g.add_argument("--seed", type=flags.whole(0, 1 << 63), metavar="N", help="of the split (default 0)")
    g.add_argument(
        "--cell", type=flags.count, metavar="N", help="side of a split's cells in patches (default: by the area)"
    )
    g.add_argument("--guard", type=_metres, metavar="METRES", help="between patches of different splits (default 0)")

    g = p.add_argument_group("output")
    g.add_argument("--output", type=Path, required=True, metavar="DIR.zarr")
    g.add_argument("--name", help="of the place (default: from CRS, corner and first date)")
    g.add_argument("--append", action="store_true", help="add to the dataset; it is made if it is not there")
    g.add_argument("--overwrite", action="store_true", help="replace the dataset")
    g.add_argument("--resume", action="store_true", help="go on with what an interrupted build left")
    g.add_argument("--memory", default="2GB", metavar="SIZE", help="memory to stay under, default 2GB")
    g.add_argument("--threads", type=flags.count, default=2, metavar="N", help="that read images (default 2)")
    g.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")

    p = commands.add_parser("info", help="describe a dataset and check it")
    p.set_defaults(run=lambda options: info(options, cancel))
    p.add_argument("dataset", type=Path, metavar="DIR.zarr")
    p.add_argument("--verify", action="store_true", help="read every patch and compare its hash")
    p.add_argument("--json", action="store_true", help="as one JSON object")
    return top


def build(options: argparse.Namespace, cancel: Cancel) -> None:
    """``dataset build``."""
    begun, reporter = time.monotonic(), TextReporter()
    if options.places is None:
        _build(options, reporter, cancel)
    else:
        _build_places(options, reporter, cancel)
    reporter.done([str(options.output)], time.monotonic() - begun)


def _build_places(options: argparse.Namespace, reporter: TextReporter, cancel: Cancel) -> None:
    """``dataset build --places``: all of them, or the dataset stays as it was, unless they are added to one."""
    from malice_core.patches import beside
    from malice_core.patches.plan import require_output

    folders, output, resume = _places(options), options.output, options.resume
    require_output(output, not (options.append or options.overwrite or resume))
    there = resume and output.exists() and not beside.begun(output)
    if options.append or (there and not options.overwrite):
        # One place after another becomes part of the dataset that is there.
        _add_places(options, folders, output, reporter, cancel)
    elif there and _all_there(options, folders):
        beside.tidy(output)
    else:
        with beside.growing(output, resume, options.overwrite) as growing:
            _add_places(options, folders, growing, reporter, cancel)


def _add_places(
    options: argparse.Namespace, folders: dict[Path, Job], output: Path, reporter: TextReporter, cancel: Cancel
) -> None:
    """Adds places to a dataset; the first one makes it, where it is not there."""
    for number, (folder, around) in enumerate(folders.items(), 1):
        print(f"# {number}/{len(folders)}", flush=True)
        one = _one_place(options, folder, around, output=output, append=True, overwrite=False)
        _build(one, reporter, cancel, last=number == len(folders))


def _all_there(options: argparse.Namespace, folders: dict[Path, Job]) -> bool:
    """True if a dataset that is to be replaced is what would be built: the one before did not come to say so."""
    from malice_core import blocks
    from malice_core.patches import build as building
    from malice_core.patches.plan import make_plan
    from malice_core.patches.store import Dataset

    try:
        if {place.name for place in Dataset(options.output).places} != {folder.name for folder in folders}:
            return False
        for number, (folder, around) in enumerate(folders.items()):
            with blocks.environment():
                plan = make_plan(_request(_one_place(options, folder, around, append=number > 0), last=True))
                try:
                    if not building.is_there(plan):
                        return False
                finally:
                    plan.close()
    except MaliceError:
        # Building says what is wrong, if anything is.
        return False
    return True


def _one_place(options: argparse.Namespace, folder: Path, around: Job, **more: object) -> argparse.Namespace:
    """What ``build`` is told of one of the places."""
    images = {key: [f"{folder / name}"] for key, name in (("s2", "S2"), ("s1", "S1"))}
    images["scl"] = [f"{folder / 'SCL'}"] if (folder / "SCL").exists() else []
    beside = {key: getattr(around, key) for key in ("weather", "dem", "s2_angles", "s1_angles")}
    return argparse.Namespace(**vars(options) | images | beside | {"name": folder.name} | more)


def _job(options: argparse.Namespace) -> Job:
    """Images, and the choice among them, as of ``embed``."""
    return Job(
        output=options.output,
        s2=tuple(options.s2),
        s1=tuple(options.s1),
        scl=tuple(options.scl),
        s2_offset=options.s2_offset,
        dates=options.dates,
        max_dates=options.max_dates,
        max_cloud=options.max_cloud,
        cloud_classes=options.cloud_classes,
        s1_orbit=options.s1_orbit,
        aoi=tuple(options.aoi) if options.aoi else None,
        aoi_crs=options.aoi_crs,
        resolution=options.resolution,
        memory=flags.size(options.memory),
        overwrite=options.overwrite,
        resume=options.resume,
        weather=tuple(options.weather),
        weather_gaps=options.weather_gaps,
        dem=options.dem,
        dem_nodata=options.dem_nodata,
        s2_angles=tuple(options.s2_angles),
        s1_angles=tuple(options.s1_angles),
        angles=options.angles,
    )


def _places(options: argparse.Namespace) -> dict[Path, Job]:
    """The folders of ``--places``, by name, with weather, terrain and angles of each.

    Raises:
        InputError: if there are none, an option is given that belongs to one place, or not all have the same.
    """
    from malice_core.patches import surroundings

    for name in ("s2", "s1", "scl", "name", "aoi"):
        if getattr(options, name):
            raise InputError(f"--{name} is of one place: leave it out with --places")
    if options.dry_run:
        raise InputError("--dry-run is of one place: give its images with --s2, --s1 and --scl")
    if not options.places.is_dir():
        raise InputError(f"--places {options.places}: there is no such folder")
    found = sorted(one for one in options.places.iterdir() if (one / "S2").exists() and (one / "S1").exists())
    if not found:
        raise InputError(f"--places {options.places}: none of its folders has both S2 and S1 in it")
    around = {folder: surroundings.at(_job(options), folder) for folder in found}
    without = [folder.name for folder, one in around.items() if not surroundings.wanted(one)]
    if 0 < len(without) < len(found):
        raise InputError(
            f"--places {options.places}: {len(without)} of {len(found)} folders have no weather, terrain and angles, "
            f"such as {without[0]}: all places of a dataset have them or none"
        )
    return around


def _request(options: argparse.Namespace, last: bool) -> Request:
    """What is asked of one place; ``last``: of those that were asked for."""
    from malice_core.patches.plan import Request
    from malice_core.patches.splits import parse_shares

    return Request(
        _job(options),
        options.patch,
        parse_shares(options.split) if options.split else None,
        options.seed,
        options.cell,
        options.guard,
        options.name,
        options.append,
        options.threads,
        last,
    )


def _build(options: argparse.Namespace, reporter: TextReporter, cancel: Cancel, last: bool = True) -> None:
    """Builds one place; ``last``: of those that were asked for."""
    from malice_core import blocks
    from malice_core.patches import build as building
    from malice_core.patches.plan import make_plan

    with blocks.environment():
        plan = make_plan(_request(options, last))
        try:
            for warning in plan.warnings:
                reporter.warning(warning)
            reporter.plan({}, plan.text())
            cancel.check()
            if not options.dry_run:
                building.run(plan, reporter, cancel)
        finally:
            plan.close()


def info(options: argparse.Namespace, cancel: Cancel) -> None:
    """``dataset info``."""
    from malice_core.patches import inspect
    from malice_core.patches.store import Dataset

    reporter = TextReporter()
    dataset = Dataset(options.dataset)
    inspect.check(dataset, reporter, cancel, thorough=options.verify)
    content = inspect.summary(dataset)
    found = inspect.doubts(content)
    for doubt in found:
        reporter.warning(doubt)
    print(json.dumps(content | {"warnings": found}) if options.json else inspect.text(content))
    if options.verify and not options.json:
        print("verified  every patch is what was built")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    cancel, told = Cancel(), threading.Lock()

    def report() -> None:
        # Called when the work could not end tidily in time.
        if told.acquire(blocking=False):
            print(f"error: {cancelling.MESSAGE}", file=sys.stderr)

    with cancelling.watch_signals(cancel, report):
        code = run_command(parser(cancel), arguments)
    if code == Cancelled.exit_code:
        told.acquire(blocking=False)
    return code


if __name__ == "__main__":
    sys.exit(main())
