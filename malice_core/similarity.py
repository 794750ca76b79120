"""Similarity to places: ``python -m malice_core.similarity --input FILE --references FILE.geojson --output FILE.tif``.

How alike each pixel's embedding is to those of points or polygons: search by example.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from malice_core import flags
from malice_core.analysis import command
from malice_core.analysis.command import Run

MEASURES = ("cosine", "euclidean")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = command.parser("similarity", "How alike the pixels of an embedding are to those of some places.")
    g = p.add_argument_group("references")
    g.add_argument(
        "--references", type=flags.path, required=True, metavar="FILE", help="points or polygons: .geojson or .gpkg"
    )
    g.add_argument("--field", metavar="NAME", help="a band for each value of it (default: one band for all)")
    g.add_argument("--measure", choices=MEASURES, default=MEASURES[0], help=f"of likeness (default: {MEASURES[0]})")
    return p


def run(options: argparse.Namespace, run: Run) -> None:
    """The command line's work."""
    from malice_core.analysis import searching

    searching.run(options, run)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 2 bad input, 3 cancelled, 1 anything else."""
    return command.main(arguments, parser, run)


if __name__ == "__main__":
    sys.exit(main())
