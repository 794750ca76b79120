"""Change between two embeddings: ``python -m malice_core.change --before FILE --after FILE --output FILE.tif``.

Bands: the distance of each pixel's two embeddings, its significance, and 1 where the distance is above the threshold.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence

from malice_core import flags
from malice_core.analysis import command
from malice_core.analysis.command import Run
from malice_core.errors import InputError

MEASURES = ("euclidean", "cosine")
#: Distances are float32, and none is larger.
LARGEST = 1e38


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = command.parser("change", "Where and how much two embeddings of a place differ.", inputs=("before", "after"))
    g = p.add_argument_group("change")
    g.add_argument("--measure", choices=MEASURES, default=MEASURES[0], help=f"of distance (default: {MEASURES[0]})")
    g.add_argument(
        "--threshold",
        type=_threshold,
        default="otsu",
        metavar="otsu|NUMBER",
        help="distances above it are changes (default: otsu)",
    )
    return p


def _threshold(text: str) -> str | float:
    if text == "otsu":
        return text
    return float(flags.number(text, float, 0, LARGEST, f"otsu, or a distance, 0 to {LARGEST:g}"))


def run(options: argparse.Namespace, run: Run) -> None:
    """The command line's work."""
    if importlib.util.find_spec("scipy") is None:
        raise InputError("change needs the package scipy: pip install 'malice-core[analysis]'")
    from malice_core.analysis import comparing

    comparing.run(options, run)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 2 bad input, 3 cancelled, 1 anything else."""
    return command.main(arguments, parser, run)


if __name__ == "__main__":
    sys.exit(main())
