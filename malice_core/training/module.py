"""The LightningModule of pre-training: what is trained, how it is stepped, what is logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from malice_core.errors import TrainingError
from malice_core.store.statistics import AUX, MALICE, Statistics
from malice_core.training import losses, starting
from malice_core.training.batch import VIEWS, Batch
from malice_core.training.malice import Malice
from malice_core.training.objective import Losses, Objective, Reconstruction


class PretrainingModule(LightningModule):
    """Pre-trains MALICE. The defaults are the hyper-parameters of the published runs.

    Checkpoints have the published tensor names (``model.encoder.…``, ``model.decoder.…``) and plain hyper-parameters,
    the normalisation statistics among them.

    Args:
        lr: Adam's learning rate at the start of each cycle.
        t_0, t_mult: cosine annealing: epochs of the first cycle, and how much longer each next one is.
        dropout: of the encoders' transformers, attention included.
        checkpointing: saves memory, see ``Malice``; changes no number but for the random ones of dropout.
        statistics: of normalisation, by sensor, each as ``store.statistics.Statistics`` or its fields in a dict;
            ``None``: those of the published encoders, of MALICE or MALICE Aux.
        w_inv, w_rec, w_cross, same_mod_loss, frame, lee_window, block_gradient, encoder_mask, stride: see
            ``Objective``.
        start: of the weights, see ``starting.start``.
        unet_lr: rate of the U-Nets, times ``lr``.
        warmup_steps: over which the rate rises from 0 to what the cycle says.
        auxiliary: whether this is MALICE Aux. Weather and terrain are normalised with ``AUX_WEATHER`` and
            ``AUX_TERRAIN`` of ``store.statistics``.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        t_0: int = 2,
        t_mult: int = 2,
        dropout: float = 0.1,
        checkpointing: bool = False,
        statistics: Mapping[str, Statistics | Mapping[str, Any]] | None = None,
        w_inv: float = 1.0,
        w_rec: float = 1.0,
        w_cross: float = 0.0,
        same_mod_loss: bool = True,
        frame: int = losses.FRAME,
        lee_window: int = losses.LEE_WINDOW,
        block_gradient: bool = False,
        encoder_mask: str = "padded",
        stride: int = 1,
        start: str = "random",
        unet_lr: float = 1.0,
        warmup_steps: int = 0,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        published = AUX if auxiliary else MALICE
        given = published if statistics is None else {key: _statistics(value) for key, value in statistics.items()}
        # Plain containers only, so that reading a checkpoint's hyper-parameters executes nothing.
        self.save_hyperparameters(ignore=["statistics"])
        self.save_hyperparameters({"statistics": {key: plain(value) for key, value in given.items()}})
        self.lr, self.t_0, self.t_mult = lr, t_0, t_mult
        self.unet_lr, self.warmup_steps = unet_lr, warmup_steps
        self.objective = Objective(
            given,
            w_inv,
            w_rec,
            w_cross,
            same_mod_loss,
            frame,
            lee_window,
            block_gradient,
            encoder_mask,
            stride,
            auxiliary,
        )
        channels = {sensor: len(part.channels) for sensor, part in given.items()}
        self.model = Malice(channels, dropout, checkpointing, self.objective.reconstructed, auxiliary)
        starting.start(self.model, start)

    def forward(self, batch: Batch) -> tuple[Losses, dict[str, Reconstruction]]:
        """Losses and reconstructions of a batch, for pictures."""
        result, pictures = self.objective(self.model, batch, images=True)
        return result, pictures

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch.

        Raises:
            TrainingError: naming step and places, if the loss is not finite.
        """
        return self._step("train", batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As :meth:`training_step`, in evaluation mode."""
        return self._step("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """As :meth:`training_step`, in evaluation mode."""
        return self._step("test", batch)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam, and cosine annealing with warm restarts stepped once an epoch."""
        # The frozen projector has no place in the optimiser's state.
        trained = {name: part for name, part in self.model.named_parameters() if part.requires_grad}
        groups: list[dict[str, Any]] = [{"params": list(trained.values())}]
        if self.unet_lr != 1:
            unets = {name for name in trained if ".hss_encoding." in name or ".encoder_dem." in name}
            groups = [
                {"params": [trained[name] for name in trained if name not in unets]},
                {"params": [trained[name] for name in trained if name in unets], "lr": self.lr * self.unet_lr},
            ]
        optimizer = torch.optim.Adam(groups, lr=self.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, self.t_0, self.t_mult)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def on_train_start(self) -> None:
        """A run that goes on takes the rate it is told now; what Lightning restored is the one of before."""
        for config in self.trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            assert isinstance(scheduler, torch.optim.lr_scheduler.CosineAnnealingWarmRestarts)
            change = self.lr / scheduler.base_lrs[0]
            if change == 1:
                continue
            # The cycle's cosine falls to 0, so every rate of it is in proportion.
            scheduler.base_lrs = [rate * change for rate in scheduler.base_lrs]
            for group in scheduler.optimizer.param_groups:
                group["lr"] *= change
                group["initial_lr"] *= change

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """As Lightning's, at a share of the rate while the run warms up."""
        share = min(1.0, (self.global_step + 1) / max(1, self.warmup_steps))
        rates = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # The scheduler goes on from the rates that it knows.
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _step(self, stage: str, batch: Batch) -> Tensor:
        result: Losses
        result, _ = self.objective(self.model, batch)
        if not result.total.isfinite():
            parts = ", ".join(f"{name} {value:.3g}" for name, value in _values(result).items())
            raise TrainingError(
                f"no finite loss in {stage} step {self.global_step} of epoch {self.current_epoch}, places "
                f"{', '.join(batch.names)}: {parts}; look at these places, lower the learning rate, or use 32-bit"
            )
        self.log_dict(
            {f"{stage}/{name}": value for name, value in _values(result).items()},
            on_step=stage == "train",
            on_epoch=True,
            batch_size=len(batch.names),
            sync_dist=stage != "train",
        )
        return result.total


def _values(result: Losses) -> dict[str, Tensor]:
    """Losses by the name they are logged under, without gradient.

    ``rec`` is weighted, ``rec/s2a`` and ``cross/s2a`` are mean square errors of single views. ``rec_vs_median`` is the
    views' error over that of predicting every channel's median: below 1 something was learned.
    """
    same = torch.stack([result.same[key] for key in VIEWS])
    median = torch.stack([result.median[key] for key in VIEWS])
    values = {
        "total_loss": result.total,
        "rec": result.rec,
        "inv": result.inv,
        "cosine_s1_s2": result.cosine,
        "rec_median": median.sum() / 8,
        "rec_vs_median": same.sum() / median.sum().clamp(min=1e-12),
    }
    values |= {f"rec/{key}": value for key, value in result.same.items()}
    values |= {f"cross/{key}": value for key, value in result.cross.items()}
    return {name: value.detach() for name, value in values.items()}


def _statistics(given: Statistics | Mapping[str, Any]) -> Statistics:
    if isinstance(given, Statistics):
        return given
    rows = {name: tuple(given[name]) for name in ("channels", "med", "qmin", "qmax")}
    return Statistics(transform=str(given["transform"]), **rows)


def plain(statistics: Statistics) -> dict[str, Any]:
    """As plain containers, for a checkpoint's hyper-parameters."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(statistics).items()}
