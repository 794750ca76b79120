"""What a run tells: its speed, curves, model card, and lines on a terminal that cannot show a progress bar."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from malice_core.training.ablation import SHUFFLED
from malice_core.training.batch import Batch
from malice_core.training.runfolder import CARD, READABLE_CARD, read_record, say, write_text
from malice_core.training.settings import Settings

#: Columns of ``curves.csv`` that come first; the others are sorted.
FIRST = ("epoch", "step", "seconds", "lr", "train/total_loss", "val/total_loss")


class Speed(Callback):
    """Logs ``perf/steps_per_s`` of each epoch's training and ``perf/waiting``, the share of it spent on data."""

    def __init__(self) -> None:
        self.waited, self.spent, self.steps = 0.0, 0.0, 0
        self._since: float | None = None

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """An epoch begins."""
        self.waited, self.spent, self.steps = 0.0, 0.0, 0
        # The first batch of an epoch starts workers: it is not counted.
        self._since = None

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """The batch is there."""
        now = time.perf_counter()
        if self._since is not None:
            self.waited += now - self._since
            self.spent += now - self._since
        self._begun = now

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """The step is done."""
        now = time.perf_counter()
        if self._since is not None:
            self.spent += now - self._begun
            self.steps += 1
        self._since = now

    @property
    def rate(self) -> float:
        """Batches a second so far in this epoch; 0 while unknown."""
        return self.steps / self.spent if self.spent else 0.0

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """An epoch ends."""
        if self.spent:
            module.log("perf/steps_per_s", self.rate, rank_zero_only=True)
            module.log("perf/waiting", self.waited / self.spent, rank_zero_only=True)


class Curves(Callback):
    """Keeps ``curves.csv``, a row an epoch over all starts of a run, and the draft of the model card.

    Args:
        folder: of the run.
        settings: of the run; None: it has no model card.
    """

    def __init__(self, folder: Path, settings: Settings | None) -> None:
        self.folder, self.settings = folder, settings
        self.rows: list[dict[str, Any]] = []
        self._before, self._begun, self._lr = 0.0, time.monotonic(), 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Takes over the rows of the epochs before the one that is resumed."""
        self.rows = [row for row in read_curves(self.folder) if row["epoch"] < trainer.current_epoch]
        self._before, self._begun = (self.rows[-1]["seconds"] if self.rows else 0.0), time.monotonic()

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Notes the learning rate: at the epoch's end the schedule has gone on."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Adds a row."""
        if not trainer.is_global_zero:
            return
        values = {key.removesuffix("_epoch"): float(value) for key, value in trainer.callback_metrics.items()}
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "seconds": round(self._before + time.monotonic() - self._begun, 1),
            "lr": self._lr,
        } | {key: value for key, value in values.items() if "/" in key and not key.endswith("_step")}
        self.rows.append(row)
        write_text(self.folder / "curves.csv", _csv(self.rows))
        if self.settings is None:
            return
        card = model_card(self.folder, self.settings, self.rows)
        write_text(self.folder / CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
        write_text(self.folder / READABLE_CARD, readable_card(card, self.rows))


def read_curves(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run's ``curves.csv``; numbers, without the empty ones. None are there, or it is damaged: no rows."""
    try:
        with (folder / "curves.csv").open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        rows = [{key: float(value) for key, value in row.items() if value} for row in table]
    except (OSError, ValueError, TypeError):
        return []
    whole = {"epoch", "step"}
    return [{key: int(value) if key in whole else value for key, value in row.items()} for row in rows]


def _csv(rows: list[dict[str, Any]]) -> str:
    names = dict.fromkeys(FIRST) | dict.fromkeys(sorted({key for row in rows for key in row}))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    return text.getvalue()


def model_card(folder: Path, settings: Settings, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The draft of a model's card: texts and numbers, and ``tags``; ``malice_core.export`` takes it over."""
    card, data, train = settings.card, settings.dataset, settings.train
    record = read_record(folder) or {"data": {"hash": "unknown", "places": 0, "patches": {}}, "starts": [{}]}
    start, patches = record["starts"][-1], record["data"]["patches"]
    last, best = rows[-1], min(rows, key=lambda row: float(row.get("val/total_loss", float("inf"))))
    content: dict[str, Any] = {
        "title": card.title,
        "licence": card.licence,
        "citation": card.citation,
        "tags": list(card.tags),
        "objective": f"MALICE{' Aux' if settings.module.auxiliary else ''} pre-training",
        "data_hash": record["data"]["hash"],
        "data": f"{record['data']['places']} places, "
        + ", ".join(f"{count} patches {split}" for split, count in patches.items()),
        "epochs": last["epoch"] + 1,
        "steps": last["step"],
        "hours": round(last["seconds"] / 3600, 2),
        "best_epoch": best["epoch"],
        "code": " ".join(f"{part}" for part in ("malice_core", start.get("malice_core"), start.get("commit")) if part),
        "torch": start.get("torch", "unknown"),
        "device": start.get("device", "unknown"),
        "precision": train.trainer.precision,
        "seed": settings.seed,
        "batch_size": settings.datamodule.batch_size,
        "crop_size": data.crop_size,
        "max_len": data.max_len,
        "lr": train.lr,
        "t_0": train.scheduler.t_0,
        "t_mult": train.scheduler.t_mult,
        "dropout": settings.module.dropout,
        "w_inv": settings.module.loss.w_inv,
        "w_rec": settings.module.loss.w_rec,
        "w_cross": settings.module.loss.w_cross,
        "same_mod_loss": f"{settings.module.loss.same_mod_loss}",
        "block_gradient": f"{settings.module.projector.block_gradient}",
        "encoder_mask": settings.module.loss.encoder_mask,
        "stride": f"{settings.module.loss.stride}",
        "start": settings.module.start,
        "unet_lr": f"{settings.train.unet_lr}",
        "warmup_steps": f"{settings.train.warmup_steps}",
    }
    for name in ("total_loss", "rec", "inv", "rec_vs_median", "cosine_s1_s2", *SHUFFLED):
        if f"val/{name}" in best:
            content[f"val_{name}"] = round(best[f"val/{name}"], 5)
    for row in rows:
        content |= {key.replace("/", "_"): round(row[key], 4) for key in row if key.startswith("probe/")}
    return content


def readable_card(card: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    """The card as Markdown, with the curve."""
    lines = [
        f"# {card['title']}",
        "",
        "A draft, written by the training run; complete it before you share the model.",
        "",
    ]
    lines += [f"- {key}: {value}" for key, value in card.items() if key != "title"]
    known = {key for row in rows for key in row}
    names = [n for n in ("train/total_loss", "val/total_loss", "val/rec_vs_median", "probe/linear") if n in known]
    lines += ["", "| epoch | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    # A curve of some twenty points says as much as one of 150.
    step = max(1, len(rows) // 20)
    for row in rows[::-step][::-1]:
        lines.append(f"| {row['epoch']} | " + " | ".join(f"{row[n]:.4f}" if n in row else "" for n in names) + " |")
    return "\n".join(lines) + "\n"


class PlainProgress(Callback):
    """A line an epoch and, within long ones, a line a minute: for logs, where a progress bar cannot be drawn.

    Args:
        speed: of the same trainer, called before this.
    """

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self._told = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Tells where the epoch is."""
        if time.monotonic() - self._told < 60:
            return
        self._told = time.monotonic()
        loss = trainer.callback_metrics.get("train/total_loss_step")
        value = "" if loss is None else f", loss {float(loss):.4f}"
        say(
            f"epoch {trainer.current_epoch} batch {batch_idx + 1}/{trainer.num_training_batches}{value}, "
            f"{self.speed.rate:.2f} steps/s"
        )

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Tells what the epoch brought."""
        names = {"train": "train/total_loss_epoch", "val": "val/total_loss", "against median": "val/rec_vs_median"}
        names |= {"IoU": "val/iou", "F1": "val/f1", "accuracy": "val/accuracy"}
        names |= {"linear probe": "probe/linear", "neighbours": "probe/neighbours"}
        found = {name: trainer.callback_metrics[key] for name, key in names.items() if key in trainer.callback_metrics}
        values = ", ".join(f"{name} {float(value):.4f}" for name, value in found.items())
        self._told = time.monotonic()
        say(f"epoch {trainer.current_epoch} step {trainer.global_step}: {values}, {self.speed.rate:.2f} steps/s")
