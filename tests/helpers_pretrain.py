"""Small pre-training runs; importing this needs torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers_dataset import FIRST, built
from helpers_stack import backscatter, reflectance, write, write_s1

from malice_core import cli, pretrain

ROOT = Path(__file__).resolve().parents[1]
#: Small enough that a step takes a quarter of a second.
TINY = (
    "dataset.crop_size=16",
    "dataset.max_len=4",
    "datamodule.batch_size=1",
    "datamodule.num_workers=0",
    "train.threads=1",
    "train.trainer.accelerator=cpu",
    "train.trainer.min_epochs=1",
    "train.trainer.max_epochs=2",
    "train.trainer.limit_train_batches=4",
    "train.trainer.limit_val_batches=1",
    "callbacks.checkpoint.every_n_train_steps=2",
    "callbacks.pictures.every_n_epochs=0",
)


@contextmanager
def alone() -> Iterator[None]:
    """One thread; signals are as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        torch.set_num_threads(threads)


def slurm_job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes this a SLURM job of one task; returns the file that holds what scontrol is told."""
    tool, told = folder / "bin" / "scontrol", folder / "told"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" >> "{told}"\n')
    tool.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_NODELIST": "localhost"}
    slurm |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    return told


def small_stack(folder: Path) -> Path:
    """Six whole and clear images of either sensor, 48 x 64 pixels, and labels."""
    for i in range(6):
        day = FIRST + timedelta(days=10 * i)
        write(folder / "S2" / f"S2_{day:%Y%m%d}.tif", reflectance(48, 64, seed=i))
        write_s1(folder / "S1" / f"S1_{day:%Y%m%d}.tif", backscatter(48, 64, seed=i))
    write(folder / "SCL" / f"SCL_{FIRST:%Y%m%d}.tif", np.full((1, 48, 64), 4, np.uint8), names=("SCL",))
    classes = np.arange(48 * 64).reshape(1, 48, 64) // 8 % 3
    write(folder / "labels.tif", classes.astype(np.uint8), names=None)
    return folder


def small_dataset(stack: Path, folder: Path) -> Path:
    """Its patches of 16 pixels."""
    made: Path = built(stack, folder / "d.zarr", "--split", "0.7/0.2/0.1").folder
    return made


def train(data: Path, folder: Path, *more: str) -> int:
    """The command line in this process."""
    return cli.run_command(pretrain.parser(), [f"dataset.path={data}", f"hydra.run.dir={folder}", *TINY, *more])


def resume(folder: Path, *more: str) -> int:
    return cli.run_command(pretrain.parser(), [f"train.resume={folder}", *more])


def begin(data: Path, folder: Path, *more: str, **environment: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    command = [sys.executable, "-m", "malice_core.pretrain", f"dataset.path={data}", *TINY, *more]
    return subprocess.Popen(
        [*command, f"hydra.run.dir={folder}"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}", "OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def state(folder: Path) -> dict[str, Any]:
    """The last checkpoint."""
    found: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return found


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    """Weights, batch statistics and Adam's moments are equal, bit for bit."""
    assert a["global_step"] == b["global_step"]
    for name, tensor in a["state_dict"].items():
        assert torch.equal(tensor, b["state_dict"][name]), name
    for number, moments in a["optimizer_states"][0]["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(tensor, b["optimizer_states"][0]["state"][number][name]), (number, name)


def one_line(capfd: pytest.CaptureFixture[str]) -> str:
    """The only line on stderr."""
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
