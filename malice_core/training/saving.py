"""Checkpoints that survive: whole or not there, resumed bit for bit, written when the run is stopped."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from malice_core.errors import Cancelled, OutputError
from malice_core.training.batch import Batch
from malice_core.training.runfolder import CHECKPOINTS, LAST, is_first

#: Our names of best checkpoints: epoch and score. Versions before this one added -v1 to a name that was there already.
BEST = re.compile(r"best-(\d+)-(.+?)(-v\d+)?\.ckpt(\.part)?")


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its name and renames it, so that the one before stays until the new one is on disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Raises OutputError if the disk is full or the folder cannot be written."""
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        # Into memory first: torch turns a full disk into an error of its own that says nothing of disks.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            last = path.with_name(LAST)
            kept = f"{last} is kept, train.resume goes on with it" if last.exists() else "there is no earlier one"
            raise OutputError(f"cannot write the checkpoint {path}: {error.strerror or error}; {kept}") from error


class StepSeed(Callback):
    """Seeds each step's dropout with (seed, epoch, batch, process) alone.

    Nothing then depends on random numbers drawn before, so a resumed run needs no state of a generator, which a
    checkpoint would hold of the first process only.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Before each batch."""
        key = np.random.SeedSequence([self.seed, trainer.current_epoch, batch_idx, trainer.global_rank])
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))


class Stop:
    """Ctrl-C, SIGTERM and, under SLURM, SIGUSR1: noted while training, answered at once before and when repeated.

    Args:
        requeue: put the SLURM job back into the queue when its time is up.

    Attributes:
        folder: of the run, once it is known.
    """

    def __init__(self, requeue: bool = True) -> None:
        self.requeue = requeue and "SLURM_JOB_ID" in os.environ
        self.training = False
        self.folder: Path | None = None
        self._told = self._time_is_up = self._queued = False

    def listen(self) -> None:
        """From here on, signals of this process are ours."""
        for name in ("SIGINT", "SIGTERM", *(("SIGUSR1",) if self.requeue else ())):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._queued:
            # SLURM ends the job that it queues again, and the run is leaving.
            return
        repeated, self._told = self._told, True
        # Remembered: SIGTERM may follow before the step is done.
        self._time_is_up |= number == getattr(signal, "SIGUSR1", None)
        if repeated or not self.training:
            self._leave("stopped")

    def wanted(self, trainer: L.Trainer) -> bool:
        """Whether any process of the run was told to stop; all of them must ask."""
        if trainer.world_size == 1:
            return self._told
        return bool(trainer.strategy.reduce_boolean_decision(self._told, all=False))

    def leave(self, trainer: L.Trainer) -> NoReturn:
        """Ends the run. Raises Cancelled, always."""
        self._leave(f"stopped in epoch {trainer.current_epoch} at step {trainer.global_step}")

    def obey(self) -> None:
        """Raises Cancelled if training was told to stop when it was all but over."""
        if self._told:
            self._leave("stopped")

    def _leave(self, text: str) -> NoReturn:
        saved = self.folder is not None and (self.folder / CHECKPOINTS / LAST).exists()
        text += f"; train.resume={self.folder} goes on" if saved else "; nothing was saved yet"
        if self._time_is_up and self.requeue and is_first():
            self._queued = True
            text += f"; {requeue_job()}"
        raise Cancelled(text)


def requeue_job() -> str:
    """Puts the SLURM job of this process back into the queue; returns what came of it, in words."""
    job, array = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_ARRAY_JOB_ID")
    if array is not None:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    program = shutil.which("scontrol")
    if program is None:
        return f"SLURM job {job} is not queued again: scontrol is not there"
    done = subprocess.run([program, "requeue", job], capture_output=True, text=True, check=False)
    return f"SLURM job {job} is " + ("queued again" if done.returncode == 0 else f"not queued again: {done.stderr}")


class LastCheckpoint(Callback):
    """Writes ``last.ckpt``: every so many steps, at the end of each epoch, and when the run is stopped.

    Lightning resumes exactly from what is saved after a batch that is not the last of its epoch. What it saves at an
    epoch's end misses validation or the step of the learning rate; here that checkpoint is written when the next epoch
    begins, and says that no batch of it was seen.

    Args:
        folder: of the run.
        every: steps; 0: at the end of epochs and when stopped.
        stop: of the run.
    """

    def __init__(self, folder: Path, every: int, stop: Stop) -> None:
        self.folder, self.every, self.stop = folder, every, stop
        self._between_epochs = False

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """From here on a signal waits for the end of its step."""
        # Again, because Lightning has put handlers of its own in the place of ours.
        self.stop.listen()
        self.stop.training = True

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """After each batch."""
        wanted = self.stop.wanted(trainer)
        together = trainer.accumulate_grad_batches
        # Sums of gradients are not saved; the last batch's checkpoint is written when the next epoch begins.
        if (batch_idx + 1) % together or trainer.is_last_batch:
            return
        due = self.every > 0 and trainer.global_step % self.every == 0
        # A run that is stopped during validation then has a checkpoint of nearly the whole epoch.
        count = int(trainer.num_training_batches)
        before_last = batch_idx + 1 == (count - 1) // together * together
        if wanted or due or before_last:
            self.save(trainer)
        if wanted:
            self.stop.leave(trainer)

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """After each batch of validation."""
        if self.stop.wanted(trainer):
            self.stop.leave(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """When validation and the learning rate's step of the epoch before are done."""
        if trainer.current_epoch == 0:
            return
        self.save(trainer, between_epochs=True)
        tidy(trainer)
        if self.stop.wanted(trainer):
            self.stop.leave(trainer)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """When the run is over, so that more epochs can be added."""
        self.stop.training = False
        self.save(trainer, between_epochs=True)
        tidy(trainer)

    def save(self, trainer: L.Trainer, between_epochs: bool = False) -> None:
        """Writes the checkpoint; every process must call this."""
        self._between_epochs = between_epochs
        try:
            trainer.save_checkpoint(self.folder / CHECKPOINTS / LAST)
        finally:
            self._between_epochs = False

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Marks what is saved between epochs as the whole beginning of the next one."""
        if self._between_epochs:
            progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
            for part in ("total", "current"):
                done = progress[part]["completed"]
                progress[part] |= dict.fromkeys(("ready", "started", "processed"), done)


def tidy(trainer: L.Trainer) -> None:
    """Removes best checkpoints that are so no longer: a kill between two files leaves them.

    To be called when the last checkpoint says which are the best.
    """
    best = trainer.checkpoint_callback
    if not trainer.is_global_zero or not isinstance(best, ModelCheckpoint) or not best.best_k_models:
        return
    kept = {Path(path).name for path in best.best_k_models}
    for path in Path(f"{best.dirpath}").glob("best-*.ckpt*"):
        if BEST.fullmatch(path.name) and path.name not in kept:
            # One file too many is no reason to end a run.
            with contextlib.suppress(OSError):
                path.unlink()
