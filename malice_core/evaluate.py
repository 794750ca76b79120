"""Tells what embeddings are worth: ``python -m malice_core.evaluate EMBEDDING.tif… --labels LABELS.tif``.

A linear probe and nearest neighbours, macro F1 over spatial folds; the first embedding is compared with every other.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from malice_core import flags
from malice_core.cli import Parser, run_command
from malice_core.errors import InputError
from malice_core.evaluation import rasters
from malice_core.evaluation.comparing import REPEATS, Comparison, compare
from malice_core.evaluation.folds import BLOCK, GUARD, MIN_PIXELS


def table(found: Comparison) -> str:
    """The scores for people, and the differences of the first set to the others."""
    pixels, width = found.pixels(), max(map(len, (*found.scores, "features")))
    lines = [
        f"{sum(pixels.values())} pixels of {len(pixels)} classes "
        f"({', '.join(f'{one}: {count}' for one, count in pixels.items())}), {found.deals[0].count} folds, "
        f"dealt {len(found.deals)} times",
        f"{'features':{width}}  bands  linear  neighbours  (macro F1; linear by deal)",
    ]
    for name, one in found.scores.items():
        each = " ".join(f"{value:.2f}" for value in one.linear.reshape(len(found.deals), -1).mean(axis=1))
        lines.append(
            f"{name:{width}}  {one.width:5}  {one.linear.mean():6.3f}  {one.neighbours.mean():10.3f}  ({each})"
        )
    first, *others = found.scores
    for other in others:
        parts = []
        for probe in ("linear", "neighbours"):
            mean, half = found.difference(probe, first, other)
            parts.append(f"{probe} {mean:+.3f} ± {half:.3f}")
        lines.append(f"{first} - {other}: {', '.join(parts)} (95 % interval over folds)")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """The command line's work."""
    sets: dict[str, list[Path]] = {}
    for path in options.features:
        name = path.stem if path.stem not in sets else str(path)
        if name in sets:
            raise InputError(f"{path} is given twice")
        sets[name] = rasters.rasters(path)
    found = compare(
        sets,
        options.labels,
        band=options.band,
        folds=options.folds,
        block=options.block,
        guard=options.guard,
        min_pixels=options.min_pixels,
        seed=options.seed,
        repeats=options.repeats,
    )
    print(json.dumps(found.to_json()) if options.json else table(found))


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    one = Parser(
        prog="python -m malice_core.evaluate",
        description="Score embeddings by a linear probe and nearest neighbours, on spatial folds of labelled pixels.",
        epilog="A PATH is a raster, a folder of rasters, or a .txt that lists some: all their bands are features.",
    )
    one.add_argument(
        "features", nargs="+", type=Path, metavar="PATH", help="embeddings; others are compared to the first"
    )
    one.add_argument("--labels", required=True, type=Path, metavar="FILE.tif", help="classes, 0 or nodata for none")
    one.add_argument("--band", type=flags.whole(1), default=1, metavar="N", help="of the labels (default: 1)")
    one.add_argument("--folds", type=flags.whole(2), default=5, metavar="N", help="(default: 5)")
    one.add_argument(
        "--repeats",
        type=flags.whole(1),
        default=REPEATS,
        metavar="N",
        help=f"deals of blocks to folds (default: {REPEATS})",
    )
    one.add_argument(
        "--block", type=flags.whole(1), default=BLOCK, metavar="N", help=f"pixels a side (default: {BLOCK})"
    )
    one.add_argument(
        "--guard",
        type=flags.whole(0),
        default=GUARD,
        metavar="N",
        help=f"pixels around what is tested (default: {GUARD})",
    )
    one.add_argument(
        "--min-pixels",
        type=flags.whole(1),
        default=MIN_PIXELS,
        metavar="N",
        help=f"a class needs more (default: {MIN_PIXELS})",
    )
    one.add_argument("--seed", type=flags.whole(0), default=0, metavar="N", help="of the deal of blocks to folds")
    one.add_argument("--json", action="store_true", help="one JSON object")
    one.set_defaults(run=run)
    return one


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluates; returns the exit code: 0 done, 2 bad input, 3 interrupted, 1 anything else."""
    return run_command(parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
