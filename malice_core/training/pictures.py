"""Pictures as a run goes: images beside their reconstructions, and embeddings, as PNG and in TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from malice_core.bands import DATE_ORIGIN
from malice_core.errors import OutputError
from malice_core.training.batch import VIEWS, Batch
from malice_core.training.module import PretrainingModule
from malice_core.training.objective import Reconstruction

#: Channels drawn red, green, blue.
RGB = {"s2": ("B04", "B03", "B02"), "s1": ("VV", "VH", "VH/VV")}
#: Pixels of a panel's side at least, and of the line of text above it.
SIDE, TEXT = 128, 14
Picture = NDArray[np.uint8]


class Pictures(Callback):
    """Draws the first place of the first validation batch.

    Args:
        folder: of the run.
        every: epochs.
        dates: drawn of each view.
    """

    def __init__(self, folder: Path, every: int, dates: int) -> None:
        self.folder, self.every, self.dates = folder / "pictures", every, dates

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
        epoch = trainer.current_epoch
        due = (epoch + 1) % self.every == 0 or epoch == 0
        if not (due and batch_idx == 0 and trainer.is_global_zero):
            return
        assert isinstance(module, PretrainingModule)
        drawn = draw(module, batch, self.dates)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, picture in drawn.items():
                Image.fromarray(picture).save(self.folder / f"{name}_epoch_{epoch:03d}.png")
        except OSError as error:
            raise OutputError(
                f"cannot write {self.folder}: {error.strerror or error}; make room and resume the run"
            ) from error
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for name, picture in drawn.items():
                    logger.experiment.add_image(name, picture, trainer.global_step, dataformats="HWC")


@torch.no_grad()
def draw(module: PretrainingModule, batch: Batch, dates: int) -> dict[str, Picture]:
    """All pictures of the first place of a batch, by name: (H, W, 3)."""
    autocast = torch.autocast(module.device.type, enabled=False)
    with autocast:
        _, found = module(batch)
        drawn = {}
        for key in VIEWS:
            channels = module.hparams["statistics"][key[:2]]["channels"]
            rgb = [channels.index(name) for name in RGB[key[:2]]]
            drawn[f"reconstruction_{key}"] = reconstruction(found[key], batch.views[key].days[0], rgb, dates)
        ground = module.objective.ground(module.model, batch)
        for sensor in RGB:
            # Halves after each other, B places each: the first place of either.
            latents = module.objective.encode(module.model, sensor, batch, ground=ground).latents
            halves = latents.view(2, -1, *latents.shape[1:])[:, 0].flatten(-2)
            drawn[f"embedding_{sensor}"] = embedding(halves.float().cpu())
    return drawn


def reconstruction(view: Reconstruction, days: Tensor, rgb: Sequence[int], dates: int) -> Picture:
    """A row for each date: the image, what the own sensor's other half makes of it, what the other sensor makes of it.

    Args:
        view: of a batch; its first place is drawn.
        days: (T,) since ``DATE_ORIGIN``.
        rgb: channels drawn red, green, blue.
        dates: how many are drawn: the clearest ones, in their order.
    """
    clear = view.mask[0].flatten(1).sum(1)
    chosen = sorted(clear.argsort(descending=True)[:dates].tolist())
    panels = [part[0, chosen][:, list(rgb)].float().cpu() for part in (view.true, view.same, view.cross)]
    low, high = stretch(panels[0], view.mask[0, chosen].cpu())
    rows = []
    for number, t in enumerate(chosen):
        date = DATE_ORIGIN + timedelta(days=int(days[t]))
        titles = (f"{date} true", "same sensor", "other sensor")
        images = [titled(shown(part[number], low, high), title) for part, title in zip(panels, titles, strict=True)]
        rows.append(np.concatenate(images, axis=1))
    return np.concatenate(rows)


def stretch(images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """2nd and 98th percentile of each channel where the mask is True: (T, C, H, W), (T, H, W) -> (C, 1, 1) each."""
    pixels = images.permute(1, 0, 2, 3)[:, mask]
    if pixels.shape[1] == 0:
        pixels = images.permute(1, 0, 2, 3).flatten(1)
    # Enough for a percentile, and below what torch's quantile takes.
    pixels = pixels[:, :: max(1, pixels.shape[1] // 100_000)]
    low, high = torch.quantile(pixels, torch.tensor([0.02, 0.98]), dim=1)
    return low[:, None, None], high[:, None, None]


def shown(image: Tensor, low: Tensor, high: Tensor) -> Picture:
    """(3, H, W) -> (H', W', 3), whole times as large."""
    values = ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1).nan_to_num() * 255
    picture = values.permute(1, 2, 0).round().to(torch.uint8).numpy()
    factor = max(1, -(-SIDE // picture.shape[0]))
    return picture.repeat(factor, 0).repeat(factor, 1)


def titled(picture: Picture, title: str) -> Picture:
    """With a line of text above and a frame of two pixels."""
    height, width, _ = picture.shape
    canvas = Image.new("RGB", (width + 4, height + TEXT + 4), "white")
    canvas.paste(Image.fromarray(picture), (2, TEXT + 2))
    ImageDraw.Draw(canvas).text((3, 1), title, fill="black")
    return np.asarray(canvas)


def embedding(halves: Tensor) -> Picture:
    """The first three principal components of the embeddings of both halves, side by side.

    Args:
        halves: (2, H, W, F). Components are of both together: equal colours are equal embeddings.
    """
    pixels = halves.flatten(0, 2)
    centred = pixels - pixels.mean(0)
    # Of at most a few thousand pixels, in float64: the components need not be exact, but always the same.
    some = centred[:: max(1, len(centred) // 4096)].double()
    axes = torch.linalg.eigh(some.T @ some)[1][:, -3:].flip(1)
    # A component's sign is arbitrary: its largest weight is made positive, so that colours do not flip.
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    components = (centred.double() @ axes).float().view(*halves.shape[:3], 3).permute(0, 3, 1, 2)
    low, high = stretch(components, torch.ones_like(components[:, 0], dtype=torch.bool))
    named = zip(components, "ab", strict=True)
    return np.concatenate([titled(shown(part, low, high), f"half {name}") for part, name in named], axis=1)
