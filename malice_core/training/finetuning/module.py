"""The LightningModule of fine-tuning: what is trained, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
)

from malice_core.errors import TrainingError
from malice_core.store.statistics import Statistics
from malice_core.training.finetuning.heads import Head
from malice_core.training.finetuning.labels import IGNORED
from malice_core.training.finetuning.samples import Crops, Pixels, Tile, embedded
from malice_core.training.malice import MaliceEncoder
from malice_core.training.module import plain
from malice_core.training.normalise import Normalise


class Scores(nn.Module):
    """Scores of predictions as they come, by class: ``iou``, ``f1``, and ``accuracy`` (of a class: its recall).

    Args:
        classes: how many.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        given: dict[str, Any] = {"num_classes": classes, "ignore_index": IGNORED}
        self.metrics = MetricCollection(
            {
                "iou": MulticlassJaccardIndex(average=None, **given),
                "f1": MulticlassF1Score(average=None, **given),
                "accuracy": MulticlassAccuracy(average=None, **given),
                "confusion": MulticlassConfusionMatrix(**given),
            },
            compute_groups=False,
        )

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Takes (N, classes) and (N,)."""
        if len(target):
            self.metrics.update(logits.float(), target)

    def result(self) -> dict[str, NDArray[np.float64]]:
        """By name: (classes,), NaN for a class that no pixel has; and ``confusion`` (true, predicted). Starts anew."""
        found = {name: value.double().cpu().numpy() for name, value in self.metrics.compute().items()}
        self.metrics.reset()
        absent = found["confusion"].sum(axis=1) == 0
        for name in ("iou", "f1", "accuracy"):
            found[name] = np.where(absent, np.nan, found[name])
        return found


def means(scores: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Means over the classes that occur, and the share of all pixels that are right (``overall``)."""
    result = {name: float(np.nanmean(scores[name])) for name in ("iou", "f1", "accuracy")}
    confusion = scores["confusion"]
    return result | {"overall": float(np.trace(confusion) / confusion.sum())}


class TuningModule(L.LightningModule):
    """A head, with its encoder where that is trained too.

    Checkpoints of a frozen run hold the head alone; others say how images are normalised, too. Where the encoder is
    trained its batch norms stay as they are in evaluation, statistics and all: small batches have none to speak of, and
    those of an installed model are folded into its convolutions.

    Args:
        head: to train.
        encoder: None: frozen, batches are embeddings.
        normalise: by sensor, where there is an encoder.
        halo: of the tiles in validation.
        statistics: of ``normalise``, for the checkpoints.
        lr, encoder_lr, weight_decay: of AdamW.
    """

    def __init__(
        self,
        head: Head,
        encoder: MaliceEncoder | None,
        normalise: Mapping[str, Normalise],
        *,
        halo: int = 0,
        statistics: Mapping[str, Statistics] | None = None,
        lr: float = 1e-3,
        encoder_lr: float = 1e-4,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__()
        if encoder is not None and statistics is not None:
            # Plain containers only, so that reading a checkpoint's hyper-parameters executes nothing.
            self.save_hyperparameters({"statistics": {key: plain(value) for key, value in statistics.items()}})
        self.head, self.encoder, self.halo = head, encoder, halo
        self.normalise = nn.ModuleDict(normalise if encoder is not None else {})
        self.lr, self.encoder_lr, self.weight_decay = lr, encoder_lr, weight_decay
        self.scores = Scores(head.classes)
        self._losses: list[tuple[float, int]] = []

    def on_train_start(self) -> None:
        """A run that goes on takes the rates it is told now; what Lightning restored are those of before."""
        for optimizer in self.trainer.optimizers:
            for group, rate in zip(optimizer.param_groups, (self.lr, self.encoder_lr), strict=False):
                group["lr"], group["weight_decay"] = rate, self.weight_decay

    def train(self, mode: bool = True) -> TuningModule:
        """Batch norms of the encoder are never in training mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def logits(self, batch: Pixels | Crops | Tile) -> tuple[Tensor, Tensor]:
        """Logits (N, classes) and classes (N,) of the pixels of a batch that have a class."""
        if isinstance(batch, Pixels):
            known = batch.target != IGNORED
            return self.head(batch.features[known]), batch.target[known]
        assert self.encoder is not None, "a frozen run has batches of pixels"
        if isinstance(batch, Tile):
            found = embedded(self.halo, self.encoder, self.normalise, batch.views, batch.target)
            return self.head(found.features), found.target
        known = batch.target != IGNORED
        parts = []
        for sensor, view in batch.images.views.items():
            images = self.normalise[sensor](view)
            latents = self.encoder.latents(sensor, images, view.days, view.padded, view.observed)
            parts.append(latents[known].flatten(1))
        return self.head(torch.cat(parts, dim=1)), batch.target[known]

    def training_step(self, batch: Pixels | Crops, batch_idx: int) -> Tensor:
        """The loss of one batch; of one without a class 0.

        Raises:
            TrainingError: if the loss is not finite.
        """
        logits, target = self.logits(batch)
        loss = F.cross_entropy(logits.float(), target, ignore_index=IGNORED, reduction="sum") / max(1, len(target))
        if not loss.isfinite():
            raise TrainingError(
                f"no finite loss in step {self.global_step} of epoch {self.current_epoch}: lower train.lr or "
                "train.encoder_lr, or give train.trainer.precision=32-true"
            )
        self.log("train/total_loss", loss, on_step=True, on_epoch=True, batch_size=max(1, len(target)))
        return loss

    def validation_step(self, batch: Pixels | Tile, batch_idx: int) -> None:
        """Scores one batch."""
        logits, target = self.logits(batch)
        if len(target):
            self._losses.append((float(F.cross_entropy(logits.float(), target, reduction="sum")), len(target)))
            self.scores.add(logits, target)

    def on_validation_epoch_end(self) -> None:
        """Logs means over classes."""
        if not self._losses:
            raise TrainingError("no pixel of validation was observed by every sensor: do the images cover the labels?")
        pixels = sum(count for _, count in self._losses)
        self.log("val/total_loss", sum(loss for loss, _ in self._losses) / pixels)
        self._losses = []
        for name, value in means(self.scores.result()).items():
            self.log(f"val/{name}", value)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW, the encoder with a rate of its own."""
        groups: list[dict[str, Any]] = [{"params": list(self.head.parameters()), "lr": self.lr}]
        if self.encoder is not None:
            groups.append({"params": list(self.encoder.parameters()), "lr": self.encoder_lr})
        return torch.optim.AdamW(groups, weight_decay=self.weight_decay)
