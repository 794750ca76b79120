"""How fast pre-training is here: steps and pixel-dates a second, the share of time spent waiting for data.

``python benchmarks/training.py [--crop 64] [--dates 60] [--batch 2]`` trains some steps on simulated scenes with the
trainer of ``malice_core.pretrain``, once for each of ``--precision`` and ``--workers``. A pixel-date is one
pixel of one date of one sensor that the encoders see; the first step is not counted.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning as L
import torch

from malice_core.training import run
from malice_core.training.batch import Batch
from malice_core.training.callbacks import Speed
from malice_core.training.composing import compose_settings
from malice_core.training.saving import StepSeed


class Meter(Speed):
    """Also counts what the encoders saw."""

    pixel_dates = 0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)
        if self.steps:
            views = batch.views.values()
            self.pixel_dates += sum(int((~view.padded).sum()) * view.images[0, 0, 0].numel() for view in views)


def dataset(work: Path, scenes: int, side: int) -> Path:
    """A dataset of simulated scenes, made once."""
    folder = work / f"{scenes}x{side}.zarr"
    if folder.exists():
        return folder
    python = [sys.executable, "-m"]
    made = work / f"scenes_{side}"
    simulate = [*python, "malice_core.simulate", "--scenes", f"{scenes}", "--size", f"{2 * side}", "--out", f"{made}"]
    subprocess.run([*simulate, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    for scene in sorted(made.iterdir()):
        images = [text for name in ("s2", "s1", "scl") for text in (f"--{name}", f"{scene / name.upper()}")]
        place = ["--patch", f"{side}", "--split", "0.5/0.25/0.25", "--name", scene.name, "--append"]
        build = [*python, "malice_core.dataset", "build", *images, "--output", f"{folder}", *place]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    return folder


def measure(folder: Path, given: argparse.Namespace, precision: str, workers: int) -> str:
    """One row of the table."""
    options = {
        "dataset.path": folder,
        "dataset.crop_size": given.crop,
        "dataset.max_len": given.dates,
        "dataset.crops_per_patch": 1000,
        "datamodule.batch_size": given.batch,
        "datamodule.num_workers": workers,
        "module.checkpointing": str(given.checkpointing).lower(),
        "train.trainer.precision": precision,
        "train.trainer.min_epochs": 1,
        "train.trainer.max_epochs": 1,
        "train.trainer.limit_train_batches": given.steps + 1,
        "train.trainer.limit_val_batches": 1,
    }
    settings = compose_settings([f"{key}={value}" for key, value in options.items()]).settings
    L.seed_everything(settings.seed, verbose=False)
    meter = Meter()
    with tempfile.TemporaryDirectory() as out:
        trainer = run.make_trainer(settings, Path(out), [StepSeed(0), meter], [])
        run.fit(trainer, run.module(settings), run.datamodule(settings), None)
    memory = f"{torch.cuda.max_memory_allocated() >> 20:8} MB" if torch.cuda.is_available() else ""
    return (
        f"{precision:11} {workers:7} {meter.rate:8.2f} {meter.pixel_dates / meter.spent / 1e3:22.0f} "
        f"{meter.waited / meter.spent:8.1%} {memory}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crop", type=int, default=64, help="pixels a side")
    parser.add_argument("--dates", type=int, default=60, help="of a sensor at most")
    parser.add_argument("--batch", type=int, default=2, help="places")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--precision", nargs="+", default=["32-true", "bf16-mixed"])
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("build/training"), help="folder for the dataset")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    run.quiet()
    given.work.mkdir(parents=True, exist_ok=True)
    folder = dataset(given.work, 2, max(64, given.crop))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{device}; batches of {given.batch} places, {given.crop} x {given.crop} pixels, {given.dates} dates a sensor"
    )
    print("precision   workers  steps/s  thousand pixel-dates/s  waiting")
    for precision in given.precision:
        for workers in given.workers:
            print(measure(folder, given, precision, workers), flush=True)


if __name__ == "__main__":
    main()
