"""Principal components of an embedding: ``python -m malice_core.pca --input FILE --output FILE.tif``.

The first three as red, green and blue are the usual picture of an embedding. A fit can be saved and used on other
embeddings of the model: the same axes and stretch, so that the same colour means the same in other areas of the year
(between years as far as embeddings are alike, which they need not be: docs/classify.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from malice_core import flags
from malice_core.analysis import command
from malice_core.analysis.command import Run

COMPONENTS = 3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = command.parser("pca", "The principal components of an embedding, as a raster.")
    g = p.add_argument_group("components")
    g.add_argument(
        "--components", type=flags.count, metavar="N", help=f"how many (default: {COMPONENTS}, or those of --fit)"
    )
    one = g.add_mutually_exclusive_group()
    one.add_argument("--fit", type=command.path, metavar="FIT.json", help="use a saved fit: the same axes and stretch")
    one.add_argument(
        "--save-fit", type=command.path, metavar="FIT.json", help="save the fit, for other areas of the year"
    )
    g.add_argument("--sample", type=flags.count, metavar="N", help="fit on N pixels drawn at random (default: on all)")
    command.add_seed(p)
    return p


def run(options: argparse.Namespace, run: Run) -> None:
    """The command line's work."""
    from malice_core.analysis import principal

    principal.run(options, run)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 2 bad input, 3 cancelled, 1 anything else."""
    return command.main(arguments, parser, run)


if __name__ == "__main__":
    sys.exit(main())
