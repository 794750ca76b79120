"""What a pre-training run is told: the keys of ``malice_core/config`` with their types, composed by Hydra and checked.

The YAML files own the values, this module owns types and limits: a key that is not here is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from malice_core.errors import InputError

CONFIG, TOP = "malice_core.config", "pretrain_proj"
#: Set by the first process for those it starts, so that all have one run folder.
RUN_ID = "MALICE_RUN_ID"


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


@dataclass
class Module:
    """``module``"""

    dropout: float
    checkpointing: bool
    projector: Projector
    loss: Loss


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

    def paths(self, sensor: str) -> list[str]:
        """Images of a sensor, as a list."""
        given = getattr(self, sensor)
        return [] if given is None else [given] if isinstance(given, str) else list(given)


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


@dataclass
class Composed:
    """What Hydra made of the files and the command line.

    Attributes:
        settings: checked.
        folder: ``hydra.run.dir``.
        subdir: ``hydra.output_subdir``.
        named: whether the user gave ``hydra.run.dir`` or ``run_id``.
    """

    settings: Settings
    folder: Path
    subdir: str | None
    named: bool


#: Limits of numbers by key, both ends included; None: open.
_LIMITS: dict[str, tuple[float | None, float | None]] = {
    "seed": (0, 2**32 - 1),
    "module.dropout": (0, 0.99),
    "module.loss.w_inv": (0, None),
    "module.loss.w_rec": (0, None),
    "module.loss.frame": (0, None),
    "datamodule.batch_size": (1, None),
    "datamodule.num_workers": (0, None),
    "datamodule.prefetch_factor": (1, None),
    "train.lr": (1e-12, 1e3),
    "train.scheduler.t_0": (1, None),
    "train.scheduler.t_mult": (1, None),
    "train.threads": (1, None),
    "train.trainer.num_nodes": (1, None),
    "train.trainer.min_epochs": (0, None),
    "train.trainer.max_epochs": (1, None),
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
    "module.loss.encoder_mask": ("padded", "observed", "clear"),
}


def compose_settings(
    overrides: Sequence[str], config_dir: Path | None = None, config_name: str | None = None, base: Path | None = None
) -> Composed:
    """Composes the configuration and checks it.

    Args:
        overrides: ``KEY=VALUE``, Hydra's grammar.
        config_dir: folder of the user's own YAML files.
        config_name: the file to begin with; None: ``pretrain_proj``.
        base: a run's ``config.yaml``, which then takes the place of all files.

    Raises:
        InputError: if a key is unknown, missing, or its value of another type or beyond its limits.
    """
    composed, own = _composed(overrides, config_dir, config_name, base)
    try:
        settings = OmegaConf.to_object(own)
        folder = base.parent if base is not None else Path(composed.hydra.run.dir)
    except MissingMandatoryValue as error:
        key = getattr(error, "full_key", None) or "a key"
        cure = ", a dataset that malice_core.dataset build wrote" if key == "dataset.path" else ""
        raise InputError(f"{key} is not given: add {key}=VALUE{cure}") from error
    except OmegaConfBaseException as error:
        raise InputError(_told(error)) from error
    assert isinstance(settings, Settings)
    check(settings)
    given = {text.lstrip("+").partition("=")[0] for text in overrides}
    return Composed(settings, folder, composed.hydra.output_subdir, bool(given & {"hydra.run.dir", "run_id"}))


def show(overrides: Sequence[str], config_dir: Path | None = None, config_name: str | None = None) -> str:
    """All keys and their values as YAML; ``???`` where one must be given. Raises as :func:`compose_settings`."""
    return OmegaConf.to_yaml(_composed(overrides, config_dir, config_name, None)[1])


def _composed(
    overrides: Sequence[str], config_dir: Path | None, config_name: str | None, base: Path | None
) -> tuple[DictConfig, DictConfig]:
    """What Hydra composes, and the part of it that is ours with its types."""
    if not OmegaConf.has_resolver("malice_run_id"):
        OmegaConf.register_new_resolver("malice_run_id", _run_id, use_cache=True)
    if config_dir is not None and not config_dir.is_dir():
        raise InputError(f"--config-dir {config_dir}: there is no such folder")
    _require_grammar(overrides)
    GlobalHydra.instance().clear()
    try:
        if base is not None:
            initialize_config_dir(f"{base.parent.absolute()}", version_base="1.3")
        else:
            initialize_config_module(CONFIG, version_base="1.3")
        extra = [] if config_dir is None else [f"hydra.searchpath=[file://{config_dir.absolute()}]"]
        name = base.stem if base is not None else config_name or TOP
        composed = compose(name, [*overrides, *extra], return_hydra_config=True)
        # Hydra's own part has keys that only a run of Hydra's own fills.
        own = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
        OmegaConf.resolve(own)
        typed = OmegaConf.merge(OmegaConf.structured(Settings), own)
    except HydraException as error:
        raise InputError(_short(error)) from error
    except OmegaConfBaseException as error:
        raise InputError(_told(error)) from error
    finally:
        GlobalHydra.instance().clear()
    assert isinstance(typed, DictConfig)
    return composed, typed


def _require_grammar(overrides: Sequence[str]) -> None:
    """Refuses what is no override, by its text, which Hydra does not tell."""
    for text in overrides:
        try:
            OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise InputError(
                f"'{text}' is not KEY=VALUE in Hydra's grammar: put values with blanks, commas or signs into quotes, "
                "'KEY=\"a b\"'"
            ) from error


def check(settings: Settings) -> None:
    """Raises:
    InputError: naming the first value that is beyond its limits.
    """
    for key, (low, high) in _LIMITS.items():
        value = _at(settings, key)
        if value is None:
            continue
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            limits = f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
            raise InputError(f"{key}={value} must be {limits}")
    for key, choices in _CHOICES.items():
        if (value := _at(settings, key)) not in choices:
            raise InputError(f"{key}={value} must be one of {', '.join(choices)}")
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
    if settings.evaluate.labels is not None and not any(settings.evaluate.paths(sensor) for sensor in ("s2", "s1")):
        raise InputError("evaluate.labels is given without images: give evaluate.s2=PATH, evaluate.s1=PATH or both")


def _at(settings: Settings, key: str) -> Any:
    value: Any = settings
    for name in key.split("."):
        value = getattr(value, name)
    return value


def _run_id() -> str:
    if given := os.environ.get(RUN_ID):
        return given
    if job := os.environ.get("SLURM_JOB_ID"):
        return f"slurm-{job}"
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}"


def _told(error: Exception) -> str:
    """What an error of OmegaConf says, in one line that begins with the key."""
    key = getattr(error, "full_key", None) or "configuration"
    return f"{key}: {str(error).partition(chr(10))[0][:300]} (--cfg prints all keys)"


def _short(error: Exception) -> str:
    """What an error of Hydra says, in one line."""
    text = " ".join(f"{error} {error.__cause__ or ''}".split())
    if unknown := re.search(r"Key '([^']*)' is not in struct full_key: (\S+)", text):
        return f"there is no key {unknown[2]} (--cfg prints all keys)"
    return f"{text.partition(' Config search path')[0][:400]} (--cfg prints all keys)"
