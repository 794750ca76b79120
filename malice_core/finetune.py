"""Fine-tunes MALICE on labels: ``python -m malice_core.finetune data.labels=FILE data.s2=DIR [KEY=VALUE ...]``.

The keys are those of ``malice_core/config/finetune.yaml``, explained there and in ``docs/training.md``. ``python -m
malice_core.finetune predict RUN --s2 DIR --output classes.tif`` makes a raster of classes with what a run found; it
has the options of ``malice_core.embed`` and needs no torch.

Exit codes: 0 done, 2 bad input, 3 stopped (``train.resume=RUN_FOLDER`` goes on), 1 anything else. Every failure is one
line on stderr.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from malice_core import embed, flags
from malice_core.cancelling import Cancel
from malice_core.cli import Parser, run_command
from malice_core.errors import InputError
from malice_core.reporting import Reporter

#: What training needs beyond the engine.
NEEDED = ("torch", "lightning", "hydra", "torchmetrics")
PREDICT = "predict"


def parser() -> argparse.ArgumentParser:
    """The command line's options of training."""
    one = Parser(
        prog="python -m malice_core.finetune",
        description="Train a classifier of land cover on an encoder's embeddings, with or without the encoder.",
        epilog="KEY=VALUE changes the configuration (Hydra): data.labels=crops.gpkg data.s2=S2/ head=linear mode=full. "
        "train.resume=RUN_FOLDER goes on with a run. 'predict RUN --help' is about using one.",
    )
    one.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="data, and what differs from the configuration")
    one.add_argument("--cfg", action="store_true", help="print the configuration with all its keys and train nothing")
    one.add_argument("--config-dir", type=Path, metavar="DIR", help="folder of your own YAML files")
    one.add_argument("--config-name", metavar="NAME", help="file to begin with (default: finetune)")
    one.set_defaults(run=run)
    return one


def run(options: argparse.Namespace) -> None:
    """The work of training."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(f"training needs {', '.join(missing)}: pip install 'malice-core[train]'")
    from malice_core.training.finetuning import run as running

    running.finetune(options.overrides, options.config_dir, options.config_name, show=options.cfg)


def predict_parser() -> argparse.ArgumentParser:
    """The command line's options of ``predict``."""
    p = Parser(
        prog="python -m malice_core.finetune predict",
        description="Classify a Sentinel-1 and/or Sentinel-2 time series with the classifier of a run.",
        epilog="A PATH is a raster, a folder, a netCDF file, or a text file that lists paths.",
    )
    p.add_argument("classifier", type=flags.path, metavar="RUN", help="folder of a run that came to its end")
    embed.add_data(p)
    embed.add_computing(p)
    g = embed.add_output(p)
    g.add_argument(
        "--probabilities", type=flags.path, metavar="FILE.tif", help="also write each class' probability, in percent"
    )
    embed.add_running(p)
    # What embed's jobs have beside: the classifier settles it.
    p.set_defaults(model=None, dtype="float32", queries=None)
    return p


def predict(options: argparse.Namespace, reporter: Reporter, cancel: Cancel) -> None:
    """The work of ``predict``."""
    from malice_core import classifier
    from malice_core.classes import ClassLayout

    found = classifier.read(Path(options.classifier))
    layout = ClassLayout(found, Path(options.probabilities) if options.probabilities else None)
    embed.execute(embed.job_of(options), reporter, cancel, options.dry_run, layout)


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains or predicts; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == [PREDICT]:
        return embed.run_engine(arguments[1:], predict_parser, predict)
    return run_command(parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
