"""Pre-trains MALICE: ``python -m malice_core.pretrain dataset.path=DIR.zarr [KEY=VALUE ...]``.

The keys are those of ``malice_core/config``, explained there and in ``docs/training.md``. Exit codes: 0 done, 2 bad
input, 3 stopped (``train.resume=RUN_FOLDER`` goes on), 1 anything else. Every failure is one line on stderr.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from malice_core.cli import Parser, run_command
from malice_core.errors import InputError

#: What the command line needs beyond the engine.
NEEDED = ("torch", "lightning", "hydra", "zarr", "PIL")


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    one = Parser(
        prog="python -m malice_core.pretrain",
        description="Pre-train MALICE on a dataset of patches.",
        epilog="KEY=VALUE changes the configuration (Hydra): dataset.path=patches.zarr train.lr=5e-4 experiment=sim. "
        "train.resume=RUN_FOLDER goes on with a run.",
    )
    one.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="what differs from the published runs")
    one.add_argument("--cfg", action="store_true", help="print the configuration with all its keys and train nothing")
    one.add_argument("--config-dir", type=Path, metavar="DIR", help="folder of your own YAML files")
    one.add_argument("--config-name", metavar="NAME", help="file to begin with (default: pretrain_proj)")
    one.set_defaults(run=run)
    return one


def run(options: argparse.Namespace) -> None:
    """The command line's work."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"training needs {', '.join(missing)}: pip install 'malice-core[train]'")
    from malice_core.training import run as running

    running.pretrain(options.overrides, options.config_dir, options.config_name, show=options.cfg)


def main(arguments: Sequence[str] | None = None) -> int:
    """Pre-trains; returns the exit code."""
    return run_command(parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
