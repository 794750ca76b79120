"""A pre-training run from its configuration to its end: the work behind ``python -m malice_core.pretrain``."""

from __future__ import annotations

import errno
import logging
import os
import platform
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
)
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from malice_core.errors import Cancelled, DeviceError, InputError, OutputError, TrainingError
from malice_core.patches.store import SENSORS, Dataset
from malice_core.training import runfolder
from malice_core.training.ablation import ShuffledWeather
from malice_core.training.callbacks import Curves, PlainProgress, Speed
from malice_core.training.composing import PRETRAIN
from malice_core.training.composing import show as shown
from malice_core.training.data import PatchData
from malice_core.training.module import PretrainingModule
from malice_core.training.pictures import Pictures
from malice_core.training.probing import Probe, Site
from malice_core.training.resuming import Restore, require_fitting, require_same_order
from malice_core.training.runfolder import say
from malice_core.training.saving import LastCheckpoint, StepSeed, Stop, WholeCheckpoints, tidy
from malice_core.training.settings import KEPT, Settings, TrainerOptions, kept


def pretrain(
    overrides: Sequence[str], config_dir: Path | None = None, config_name: str | None = None, *, show: bool = False
) -> None:
    """Runs a pre-training to its end.

    Args:
        overrides: ``KEY=VALUE``.
        config_dir: the user's own YAML files.
        config_name: the file to begin with.
        show: print the configuration and do nothing.

    Raises:
        InputError: if configuration, data or a checkpoint cannot be used, before anything is computed.
        OutputError: if the disk is full; the last checkpoint is whole.
        TrainingError: if a loss is not finite or memory is short.
        Cancelled: if the run was stopped by a signal; the last checkpoint was written.
    """
    if show:
        print(shown(overrides, config_dir, config_name), end="")
        return
    stop = Stop()
    stop.listen()
    quiet()
    composed, resume = runfolder.settle(PRETRAIN, overrides, config_dir, config_name, _absolute)
    settings = composed.settings
    stop.requeue = stop.requeue and settings.train.requeue
    stop.folder = None if resume is None else resume.folder
    if settings.train.threads is not None:
        torch.set_num_threads(settings.train.threads)
    data = datamodule(settings)
    require_both_sensors(data.data)
    data.setup("fit")
    L.seed_everything(settings.seed, workers=True, verbose=False)
    network = module(settings)
    facts = runfolder.facts_of(data.data) | {"settings": kept(settings, KEPT)}
    if resume is not None:
        runfolder.require_same_data(resume.folder, facts)
    site = Site.open(settings.evaluate) if settings.evaluate.labels is not None else None
    new = runfolder.create(composed) if resume is None else None
    folder = new.folder if new is not None else stop.folder
    assert folder is not None, "a run is new, or resumed"
    stop.folder = folder
    os.environ[runfolder.FOLDER] = f"{folder}"
    own = [Restore(), *callbacks(settings, folder, stop)]
    if site is not None:
        # Before the curves, which take up its scores.
        own.insert(0, Probe(site, settings.evaluate.every_n_epochs))
    try:
        trainer = make_trainer(settings, folder, own, loggers(settings, folder))
        if resume is not None:
            content = require_fitting(resume.checkpoint, network, trainer)
            require_same_order(resume.checkpoint, content, trainer, data.train_dataloader())
        if runfolder.is_first():
            runfolder.describe(folder, settings.plain(), composed.subdir, overrides, facts, device_of(trainer))
    except BaseException:
        if new is not None:
            new.discard()
        raise
    counts = ", ".join(f"{len(data.data.of_split(split))} patches {split}" for split in ("train", "val"))
    say(f"run {folder}\n{counts}; {device_of(trainer)}, {settings.train.trainer.precision}")
    if resume is not None:
        say(f"going on from {resume.checkpoint}")
    try:
        fit(trainer, network, data, None if resume is None else resume.checkpoint)
        tidy(trainer)
    finally:
        runfolder.release()
    best = trainer.checkpoint_callback
    assert isinstance(best, ModelCheckpoint)
    say(f"done after {trainer.current_epoch} epochs; best {best.best_model_path or 'checkpoint: none'}")


def _absolute(settings: Settings) -> None:
    """Makes paths absolute, so that the run can be resumed from anywhere."""
    settings.dataset.path = f"{Path(settings.dataset.path).absolute()}"
    options = settings.evaluate
    if options.labels is not None:
        options.labels = f"{Path(options.labels).absolute()}"
    for sensor in ("s2", "s1"):
        setattr(options, sensor, [f"{Path(path).absolute()}" for path in options.paths(sensor)] or None)


def quiet() -> None:
    """Keeps Lightning's notes off the terminal: what matters is told in our own lines."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=r"(lightning|torch|pytorch_lightning)(\.|$)")


def datamodule(settings: Settings) -> PatchData:
    """Batches as configured."""
    given, data = settings.datamodule, settings.dataset
    wanted = settings.train.trainer.accelerator
    pinned = wanted != "cpu" and torch.cuda.is_available() if given.pin_memory is None else given.pin_memory
    return PatchData(
        data.path,
        batch_size=given.batch_size,
        crop=data.crop_size,
        max_len=data.max_len,
        seed=settings.seed,
        crops_per_patch=data.crops_per_patch,
        augment=data.augment,
        auxiliary=settings.module.auxiliary,
        num_workers=given.num_workers,
        prefetch=given.prefetch_factor,
        pin_memory=pinned,
    )


def require_both_sensors(data: Dataset) -> None:
    """Raises:
    InputError: if a place has no images of a sensor.
    """
    for place in data.places:
        for sensor in SENSORS:
            series = place.series.get(sensor.key)
            if series is None or not series.days:
                raise InputError(
                    f"{data.folder}: {place.name} has no {sensor.title} images; pre-training needs both sensors, build "
                    "the dataset with --s2 and --s1"
                )


def module(settings: Settings) -> PretrainingModule:
    """The network and its losses as configured.

    Raises:
        InputError: if a value is refused.
    """
    given, loss, train = settings.module, settings.module.loss, settings.train
    try:
        return PretrainingModule(
            lr=train.lr,
            t_0=train.scheduler.t_0,
            t_mult=train.scheduler.t_mult,
            dropout=given.dropout,
            checkpointing=given.checkpointing,
            w_inv=loss.w_inv,
            w_rec=loss.w_rec,
            w_cross=loss.w_cross,
            same_mod_loss=loss.same_mod_loss,
            frame=loss.frame,
            lee_window=loss.lee_window,
            block_gradient=given.projector.block_gradient,
            encoder_mask=loss.encoder_mask,
            stride=loss.stride,
            start=given.start,
            unet_lr=train.unet_lr,
            warmup_steps=train.warmup_steps,
            auxiliary=given.auxiliary,
        )
    except ValueError as error:
        raise InputError(f"module: {error}") from error


def callbacks(settings: Settings, folder: Path, stop: Stop) -> list[Callback]:
    """What happens beside training, in the order in which it does."""
    given, speed = settings.callbacks, Speed()
    made: list[Callback] = [StepSeed(settings.seed), speed]
    if settings.logger.tensorboard or settings.logger.csv:
        made.append(LearningRateMonitor("epoch"))
    if given.pictures.every_n_epochs:
        made.append(Pictures(folder, given.pictures.every_n_epochs, given.pictures.dates))
    if settings.evaluate.shuffle_weather:
        made.append(ShuffledWeather())
    if given.early_stopping.patience:
        made.append(EarlyStopping(given.early_stopping.monitor, patience=given.early_stopping.patience))
    made.append(Curves(folder, settings))
    if sys.stdout.isatty():
        made.append(RichProgressBar(leave=False))
    made.append(PlainProgress(speed))
    made.append(LastCheckpoint(folder, given.checkpoint.every_n_train_steps, stop))
    made.append(
        ModelCheckpoint(
            folder / runfolder.CHECKPOINTS,
            filename=f"best-{{epoch:03d}}-{{{given.checkpoint.monitor}:.4f}}",
            auto_insert_metric_name=False,
            monitor=given.checkpoint.monitor,
            save_top_k=given.checkpoint.save_top_k,
            save_on_train_epoch_end=False,
            # An epoch that is done again after a kill takes the place of its file.
            enable_version_counter=False,
        )
    )
    return made


def loggers(settings: Settings, folder: Path) -> list[Logger]:
    """Where curves go."""
    made: list[Logger] = []
    if settings.logger.tensorboard:
        made.append(TensorBoardLogger(folder, name=None, version="tensorboard"))
    if settings.logger.csv:
        made.append(CSVLogger(folder, name="csv"))
    return made


def make_trainer(settings: Settings, folder: Path, own: list[Callback], kept: list[Logger]) -> L.Trainer:
    """The trainer as configured. Raises as :func:`trainer_of`."""
    return trainer_of(settings.train.trainer, settings.train.deterministic, folder, own, kept)


def trainer_of(
    given: TrainerOptions, deterministic: bool, folder: Path, own: list[Callback], kept: list[Logger]
) -> L.Trainer:
    """A trainer.

    Args:
        given: its options.
        deterministic: refuse operations that give other numbers each time.
        folder: of the run.
        own: what happens beside training.
        kept: where curves go.

    Raises:
        DeviceError: if what it asks for is not there.
    """
    plugins: list[Any] = [WholeCheckpoints()]
    if SLURMEnvironment.detect():
        # Ours saves between two steps (see Stop); Lightning's saves wherever the signal finds it.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    try:
        trainer = L.Trainer(
            accelerator=given.accelerator,
            devices=given.devices,
            num_nodes=given.num_nodes,
            strategy=given.strategy,
            precision=given.precision,  # type: ignore[arg-type]  # one of the three that settings allow
            min_epochs=given.min_epochs,
            max_epochs=given.max_epochs,
            accumulate_grad_batches=given.accumulate_grad_batches,
            gradient_clip_val=given.gradient_clip_val,
            sync_batchnorm=given.sync_batchnorm,
            limit_train_batches=given.limit_train_batches,
            limit_val_batches=given.limit_val_batches,
            log_every_n_steps=given.log_every_n_steps,
            deterministic=deterministic,
            default_root_dir=folder,
            callbacks=own,
            logger=kept or False,
            plugins=plugins,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(one, RichProgressBar) for one in own),
            use_distributed_sampler=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise DeviceError(f"train.trainer: {error}") from error
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if on_cpu and given.precision == "16-mixed":
        raise DeviceError("train.trainer.precision=16-mixed needs a GPU: give bf16-mixed or 32-true")
    if on_cpu and given.precision == "bf16-mixed" and not bfloat16_is_fast():
        say(
            "warning: train.trainer.precision=bf16-mixed is many times slower than 32-true on this processor, "
            "which has no AVX-512"
        )
    if on_cpu and given.sync_batchnorm:
        raise DeviceError("train.trainer.sync_batchnorm=true needs GPUs: torch has none for CPUs")
    return trainer


def bfloat16_is_fast() -> bool:
    """False on x86 processors on which PyTorch has no fast convolutions in bfloat16 (measured: 8 times slower)."""
    return platform.machine().lower() not in ("x86_64", "amd64") or "AVX512" in torch.backends.cpu.get_cpu_capability()


def device_of(trainer: L.Trainer) -> str:
    """What trains, in words."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"


#: What takes less memory.
SMALLER = "lower datamodule.batch_size, dataset.crop_size or dataset.max_len, or give module.checkpointing=true"


def fit(
    trainer: L.Trainer,
    network: L.LightningModule,
    data: L.LightningDataModule,
    start: Path | None,
    smaller: str = SMALLER,
) -> None:
    """Trains; failures that a user can do something about get their line.

    Args:
        start: checkpoint to go on from.
        smaller: what to do where memory is short.

    Raises:
        As :func:`pretrain`.
    """
    try:
        # A checkpoint of our own, whose tensors require_fitting has looked at; it holds Lightning's states too.
        trainer.fit(network, data, ckpt_path=start, weights_only=True)
    except torch.OutOfMemoryError as error:
        raise TrainingError(f"out of GPU memory: {smaller}") from error
    except SIGTERMException as error:
        raise Cancelled(f"stopped; train.resume={trainer.default_root_dir} goes on from the last checkpoint") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutputError(
            f"cannot write to {trainer.default_root_dir}: {error.strerror}; make room, train.resume goes on"
        ) from error
    except RuntimeError as error:
        if "DataLoader worker" not in f"{error}":
            raise
        raise TrainingError(
            f"a process that reads data ended ({error}); it may have lacked memory: lower datamodule.num_workers or "
            "datamodule.prefetch_factor"
        ) from error
