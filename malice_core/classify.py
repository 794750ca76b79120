"""Classes of every pixel, learnt from labelled places: ``python -m malice_core.classify``.

A linear model, nearest neighbours or a random forest; its accuracy is of places it was not trained on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from malice_core.analysis import command, supervised
from malice_core.analysis.command import Run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = command.parser(
        "classify", "Classify an embedding by labelled points or polygons, with a test on held-out places."
    )
    supervised.add_options(p, numeric=False)
    return p


def run(options: argparse.Namespace, run: Run) -> None:
    """The command line's work."""
    supervised.run(options, run, numeric=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code: 0 done, 2 bad input, 3 cancelled, 1 anything else."""
    return command.main(arguments, parser, run)


if __name__ == "__main__":
    sys.exit(main())
