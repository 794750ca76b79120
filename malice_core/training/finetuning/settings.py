"""What a fine-tuning run is told: the keys of ``config/finetune.yaml`` with their types and limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from malice_core.errors import InputError
from malice_core.job import Job
from malice_core.training.composing import Command
from malice_core.training.settings import Limits, TrainerOptions, check_values, kept, listed


@dataclass
class Data:
    """``data``; ``s2``, ``s1`` and ``scl`` are a path or a list of paths."""

    labels: str | None
    band: int
    field: str | None
    layer: str | None
    s2: Any
    s1: Any
    scl: Any
    dates: str | None
    max_dates: int | None
    max_cloud: float | None
    mask_clouds: bool
    s1_orbit: int | None
    s2_offset: str
    folds: int
    block: int
    guard: int | None
    pastis: str | None
    sensors: list[str]
    train_folds: list[int]
    val_folds: list[int]
    test_folds: list[int]
    max_pixels: int

    def paths(self, name: str) -> list[str]:
        """Paths of ``s2``, ``s1`` or ``scl``, as a list."""
        return listed(getattr(self, name))


@dataclass
class HeadOptions:
    """``head``"""

    kind: str
    queries: int
    heads: int


@dataclass
class OneDevice:
    """``train.trainer``"""

    accelerator: str
    precision: str
    max_epochs: int
    accumulate_grad_batches: int
    gradient_clip_val: float | None
    limit_train_batches: int | None

    def options(self) -> TrainerOptions:
        """All options of the trainer."""
        return TrainerOptions(
            accelerator=self.accelerator,
            devices=1,
            num_nodes=1,
            strategy="auto",
            precision=self.precision,
            min_epochs=0,
            max_epochs=self.max_epochs,
            accumulate_grad_batches=self.accumulate_grad_batches,
            gradient_clip_val=self.gradient_clip_val,
            sync_batchnorm=False,
            limit_train_batches=self.limit_train_batches,
            limit_val_batches=None,
            log_every_n_steps=1,
        )


@dataclass
class Train:
    """``train``"""

    lr: float
    encoder_lr: float
    weight_decay: float
    batch_pixels: int
    batch_size: int
    crop_size: int
    max_len: int
    monitor: str
    patience: int
    every_n_train_steps: int
    resume: str | None
    threads: int | None
    deterministic: bool
    requeue: bool
    trainer: OneDevice


@dataclass
class Tuning:
    """All settings, by the groups of ``finetune.yaml``."""

    name: str
    output_dir: str
    run_id: str
    seed: int
    model: str | None
    mode: str
    ignore_index: int | None
    class_names: Any
    data: Data
    head: HeadOptions
    train: Train

    def plain(self) -> dict[str, Any]:
        """As plain containers, for YAML."""
        content = OmegaConf.to_container(OmegaConf.structured(self))
        assert isinstance(content, dict)
        return {str(key): value for key, value in content.items()}


_LIMITS: Limits = {
    "seed": (0, 2**32 - 1),
    "ignore_index": (1 - 2**31, 2**31 - 1),
    "data.band": (1, None),
    "data.max_dates": (1, None),
    "data.max_cloud": (0, 100),
    "data.s1_orbit": (1, 175),
    "data.folds": (3, 1000),
    "data.block": (1, None),
    "data.guard": (0, 1000),
    "data.max_pixels": (1, None),
    "head.queries": (1, 64),
    "head.heads": (1, 64),
    "train.lr": (1e-12, 1e3),
    "train.encoder_lr": (1e-12, 1e3),
    "train.weight_decay": (0, 1e3),
    "train.batch_pixels": (1, None),
    "train.batch_size": (1, None),
    "train.crop_size": (16, 1024),
    "train.max_len": (1, None),
    "train.patience": (0, None),
    "train.every_n_train_steps": (0, None),
    "train.threads": (1, 1024),
    "train.trainer.max_epochs": (1, 10**9),
    "train.trainer.accumulate_grad_batches": (1, None),
    "train.trainer.gradient_clip_val": (0, None),
    "train.trainer.limit_train_batches": (1, None),
}
_CHOICES = {
    "mode": ("frozen", "full"),
    "head.kind": ("linear", "master_query"),
    "data.s2_offset": ("auto", "0", "-1000"),
    "train.monitor": ("iou", "f1", "accuracy"),
    "train.trainer.precision": ("32-true", "bf16-mixed", "16-mixed"),
    "train.trainer.accelerator": ("auto", "cpu", "cuda"),
}


def check(settings: Tuning) -> None:
    """Raises:
    InputError: naming the first value that is beyond its limits, or keys that do not go together.
    """
    check_values(settings, _LIMITS, _CHOICES)
    data = settings.data
    if 64 % settings.head.heads:
        raise InputError(f"head.heads={settings.head.heads} must divide 64")
    if settings.train.crop_size % 8:
        raise InputError(f"train.crop_size={settings.train.crop_size} must be a multiple of 8")
    for name in ("s2", "s1", "scl"):
        if not all(isinstance(path, str) and path for path in data.paths(name)):
            raise InputError(f"data.{name}={getattr(data, name)} must be a path or a list of paths: data.{name}=[A,B]")
    images = [name for name in ("s2", "s1") if data.paths(name)]
    if data.pastis is not None:
        if data.labels is not None or images:
            raise InputError("data.pastis holds labels and images: leave out data.labels, data.s2 and data.s1")
        for name in ("field", "layer", "scl", "dates", "max_dates", "max_cloud", "s1_orbit"):
            if getattr(data, name) is not None:
                raise InputError(f"data.{name} belongs to data.labels, a folder of PASTIS is taken whole: leave it out")
        # Values that ask for nothing: whatever else is there, somebody gave.
        for name, nothing in (("band", 1), ("mask_clouds", False), ("s2_offset", "auto")):
            if (given := getattr(data, name)) != nothing:
                raise InputError(
                    f"data.{name}={given} belongs to data.labels, a folder of PASTIS is taken as it is: leave it out"
                )
        if not data.sensors or not set(data.sensors) <= {"s2", "s1"} or len(set(data.sensors)) < len(data.sensors):
            raise InputError(f"data.sensors={data.sensors} must be some of s2, s1")
        folds = [*data.train_folds, *data.val_folds, *data.test_folds]
        if not data.train_folds or not data.val_folds or len(set(folds)) < len(folds):
            raise InputError("data.train_folds and data.val_folds must name folds, and no fold may be named twice")
        return
    if data.labels is None:
        raise InputError("no labels: give data.labels=FILE with data.s2=PATH and/or data.s1=PATH, or data.pastis=DIR")
    if not images:
        raise InputError("data.labels is given without images: give data.s2=PATH, data.s1=PATH or both")
    if not data.paths("scl") and (data.max_cloud is not None or data.mask_clouds):
        raise InputError("data.max_cloud and data.mask_clouds need the scene classification: give data.scl=PATH")
    if data.s1_orbit is not None and "s1" not in images:
        raise InputError(f"data.s1_orbit={data.s1_orbit} without Sentinel-1: give data.s1 too, or leave it out")
    if data.paths("scl") and "s2" not in images:
        raise InputError("data.scl belongs to Sentinel-2 images: give data.s2 too, or leave it out")


def job_of(data: Data) -> Job:
    """Which images are used, as the engine is told it."""
    return Job(
        output=Path("none.tif"),
        s2=tuple(data.paths("s2")),
        s1=tuple(data.paths("s1")),
        scl=tuple(data.paths("scl")),
        dates=data.dates,
        max_dates=data.max_dates,
        max_cloud=data.max_cloud,
        mask_clouds=data.mask_clouds,
        s1_orbit=data.s1_orbit,
        s2_offset=data.s2_offset,
    )


def fixed(settings: Tuning) -> dict[str, Any]:
    """Settings by key that a run cannot change when it goes on: pixels, what they hold, and by what the best is chosen.

    Only those are here that neither the data's hash nor the shapes of the network tell.
    """
    keys = ["seed", "mode", "data.mask_clouds", "data.s2_offset", "train.monitor"]
    # A run that was stopped within an epoch goes on behind so many batches of it: these must be the same ones.
    keys += ["data.max_pixels", "train.batch_pixels"] if settings.mode == "frozen" else ["train.batch_size"]
    if settings.head.kind == "master_query":
        keys.append("head.heads")
    return kept(settings, keys)


COMMAND = Command("finetune", Tuning, check)
