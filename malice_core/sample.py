"""The embedding at points: ``python -m malice_core.sample --input FILE --points FILE --output FILE.csv``.

A row a point, with the point's own attributes and a column a band.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from malice_core import flags
from malice_core.analysis import command
from malice_core.analysis.command import Run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = command.parser("sample", "The numbers of an embedding at points, as a table.", output="FILE.csv|FILE.geojson")
    g = p.add_argument_group("points")
    g.add_argument("--points", type=flags.path, required=True, metavar="FILE", help="points: .geojson or .gpkg")
    g.add_argument("--prefix", default="", metavar="TEXT", help="before the names of bands, such as y2024_")
    return p


def run(options: argparse.Namespace, run: Run) -> None:
    """The command line's work."""
    from malice_core.analysis import tables

    tables.run(options, run)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 2 bad input, 3 cancelled, 1 anything else."""
    return command.main(arguments, parser, run)


if __name__ == "__main__":
    sys.exit(main())
