"""What a pre-training run is told: the keys of ``malice_core/config`` with their types and limits.

The YAML files own the values; a key that is not here is an error. ``composing.py`` brings the two together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from malice_core.errors import InputError


def listed(given: Any) -> list[Any]:
    """A path or a list of paths as a list; what is neither stays in it, for :func:`check` to refuse."""
    return [] if given is None else list(given) if isinstance(given, list) else [given]


@dataclass
class Card:
    """``card``"""

    title: str
    licence: str
    citation: str
    tags: list[str]


@dataclass
class Projector:
    """``module.projector``"""

    block_gradient: bool


@dataclass
class Loss:
    """``module.loss``"""

    w_inv: float
    w_rec: float
    w_cross: float
    same_mod_loss: bool
    frame: int
    lee_window: int
    encoder_mask: str
    stride: int


@dataclass
class Module:
    """``module``"""

    start: str
    dropout: float
    checkpointing: bool
    projector: Projector
    loss: Loss
    # Runs that began before there was MALICE Aux do not say it.
    auxiliary: bool = False


@dataclass
class DataModule:
    """``datamodule``"""

    batch_size: int
    num_workers: int
    prefetch_factor: int
    pin_memory: bool | None


@dataclass
class Patches:
    """``dataset``"""

    path: str
    crop_size: int
    max_len: int
    crops_per_patch: int
    augment: bool


@dataclass
class Scheduler:
    """``train.scheduler``"""

    t_0: int
    t_mult: int


@dataclass
class TrainerOptions:
    """``train.trainer``"""

    accelerator: str
    devices: int | str
    num_nodes: int
    strategy: str
    precision: str
    min_epochs: int
    max_epochs: int
    accumulate_grad_batches: int
    gradient_clip_val: float | None
    sync_batchnorm: bool
    limit_train_batches: int | None
    limit_val_batches: int | None
    log_every_n_steps: int


@dataclass
class Train:
    """``train``"""

    lr: float
    unet_lr: float
    warmup_steps: int
    scheduler: Scheduler
    resume: str | None
    threads: int | None
    deterministic: bool
    requeue: bool
    trainer: TrainerOptions


@dataclass
class EarlyStop:
    """``callbacks.early_stopping``"""

    monitor: str
    patience: int


@dataclass
class Checkpoints:
    """``callbacks.checkpoint``"""

    monitor: str
    save_top_k: int
    every_n_train_steps: int


@dataclass
class Drawing:
    """``callbacks.pictures``"""

    every_n_epochs: int
    dates: int


@dataclass
class CallbackOptions:
    """``callbacks``"""

    early_stopping: EarlyStop
    checkpoint: Checkpoints
    pictures: Drawing


@dataclass
class Loggers:
    """``logger``"""

    tensorboard: bool
    csv: bool


@dataclass
class Evaluate:
    """``evaluate``; ``s2`` and ``s1`` are a path or a list of paths."""

    labels: str | None
    band: int
    s2: Any
    s1: Any
    max_dates: int | None
    every_n_epochs: int
    folds: int
    block: int
    guard: int
    min_pixels: int
    # As of ``Module.auxiliary``.
    shuffle_weather: bool = False

    def paths(self, sensor: str) -> list[str]:
        """Images of a sensor, as a list."""
        return listed(getattr(self, sensor))


@dataclass
class Settings:
    """All of them, by the groups of ``pretrain_proj.yaml``."""

    name: str
    output_dir: str
    run_id: str
    seed: int
    card: Card
    module: Module
    datamodule: DataModule
    dataset: Patches
    train: Train
    callbacks: CallbackOptions
    logger: Loggers
    evaluate: Evaluate

    def plain(self) -> dict[str, Any]:
        """As plain containers, for YAML and cards."""
        content = OmegaConf.to_container(OmegaConf.structured(self))
        assert isinstance(content, dict)
        return {str(key): value for key, value in content.items()}


#: Limits of numbers by key, both ends included; None: open.
Limits = Mapping[str, tuple[float | None, float | None]]

_LIMITS: Limits = {
    "seed": (0, 2**32 - 1),
    "module.dropout": (0, 0.99),
    "module.loss.w_inv": (0, None),
    "module.loss.w_rec": (0, None),
    "module.loss.frame": (0, None),
    "module.loss.stride": (1, 8),
    "datamodule.batch_size": (1, None),
    "datamodule.num_workers": (0, None),
    "datamodule.prefetch_factor": (1, None),
    "train.lr": (1e-12, 1e3),
    "train.unet_lr": (0, 1e3),
    "train.warmup_steps": (0, None),
    "train.scheduler.t_0": (1, None),
    "train.scheduler.t_mult": (1, None),
    "train.threads": (1, 1024),
    "train.trainer.num_nodes": (1, None),
    "train.trainer.min_epochs": (0, None),
    "train.trainer.max_epochs": (1, 10**9),
    "train.trainer.accumulate_grad_batches": (1, None),
    "train.trainer.gradient_clip_val": (0, None),
    "train.trainer.limit_train_batches": (1, None),
    "train.trainer.limit_val_batches": (1, None),
    "train.trainer.log_every_n_steps": (1, None),
    "callbacks.early_stopping.patience": (0, None),
    "callbacks.checkpoint.save_top_k": (0, None),
    "callbacks.checkpoint.every_n_train_steps": (0, None),
    "callbacks.pictures.every_n_epochs": (0, None),
    "callbacks.pictures.dates": (1, 20),
    "evaluate.band": (1, None),
    "evaluate.max_dates": (1, None),
    "evaluate.every_n_epochs": (1, None),
    "evaluate.folds": (2, None),
    "evaluate.block": (1, None),
    "evaluate.guard": (0, None),
    "evaluate.min_pixels": (1, None),
}
_CHOICES = {
    "train.trainer.precision": ("32-true", "bf16-mixed", "16-mixed"),
    "train.trainer.accelerator": ("auto", "cpu", "cuda"),
    "module.start": ("random", "seasons"),
    "module.loss.encoder_mask": ("padded", "observed", "clear"),
}


#: What a run that goes on cannot change: Lightning restores the schedule, and the best epochs were chosen already.
KEPT = ("train.unet_lr", "train.scheduler.t_0", "train.scheduler.t_mult", "callbacks.checkpoint.monitor")


def check_values(settings: Any, limits: Limits, choices: Mapping[str, Sequence[str]]) -> None:
    """Raises:
    InputError: naming the first value that is beyond its limits, or none of its choices.
    """
    for key, (low, high) in limits.items():
        value = _at(settings, key)
        if value is None:
            continue
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            told = f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
            raise InputError(f"{key}={value} must be {told}")
    for key, known in choices.items():
        if (value := _at(settings, key)) not in known:
            raise InputError(f"{key}={value} must be one of {', '.join(known)}")


def check(settings: Settings) -> None:
    """Raises:
    InputError: naming the first value that is beyond its limits.
    """
    check_values(settings, _LIMITS, _CHOICES)
    for sensor in ("s2", "s1"):
        given = getattr(settings.evaluate, sensor)
        if given is not None and not all(isinstance(path, str) for path in settings.evaluate.paths(sensor)):
            raise InputError(f"evaluate.{sensor}={given} must be a path or a list of paths: evaluate.{sensor}=[A,B]")
    trainer = settings.train.trainer
    if trainer.min_epochs > trainer.max_epochs:
        raise InputError(
            f"train.trainer.min_epochs={trainer.min_epochs} must not be above "
            f"train.trainer.max_epochs={trainer.max_epochs}: give both"
        )
    _require_pixels(settings)
    if settings.evaluate.labels is not None and not any(settings.evaluate.paths(sensor) for sensor in ("s2", "s1")):
        raise InputError("evaluate.labels is given without images: give evaluate.s2=PATH, evaluate.s1=PATH or both")
    if settings.module.auxiliary and settings.evaluate.labels is not None:
        raise InputError(
            f"evaluate.labels={settings.evaluate.labels}: MALICE Aux is not scored as the run goes, for that takes the "
            "labels' weather, terrain and angles: leave evaluate.labels out, and score the exported model with "
            "malice_core.evaluate"
        )
    if settings.evaluate.shuffle_weather and not settings.module.auxiliary:
        raise InputError(
            "evaluate.shuffle_weather=true: MALICE takes no weather: leave it out, or train MALICE Aux (--config-name "
            "pretrain_proj_aux)"
        )


def _require_pixels(settings: Settings) -> None:
    """Raises:
    InputError: if the frames of the losses, or a stride within them, leave no pixel of a crop to learn from.
    """
    crop, loss = settings.dataset.crop_size, settings.module.loss
    frames = {"frame": loss.frame, "lee_window": loss.lee_window // 2}
    widest = max(frames, key=lambda name: frames[name])
    named, left = f"module.loss.{widest}={getattr(loss, widest)}", crop - 2 * frames[widest]
    if left < 1:
        raise InputError(
            f"{named} leaves nothing of dataset.crop_size={crop} ({frames[widest]} pixels less on each side): lower "
            "it, or give larger crops"
        )
    # Where a stride begins is drawn: it may be so many pixels further in.
    if left < loss.stride:
        raise InputError(
            f"module.loss.stride={loss.stride} can miss the {left} pixels across that {named} leaves of "
            f"dataset.crop_size={crop}: lower one of the two, or give larger crops"
        )


def kept(settings: Any, keys: Sequence[str]) -> dict[str, Any]:
    """Values of some keys, for the record of a run."""
    return {key: _at(settings, key) for key in keys}


def _at(settings: Any, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value
