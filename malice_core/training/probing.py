"""Scores of a labelled area as the run goes: does pre-training help?

The same images, pixels and folds each time: what changes between two scores is the weights alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from rasterio.crs import CRS

from malice_core.errors import InputError
from malice_core.evaluation import rasters
from malice_core.evaluation.folds import Folds, spatial_folds
from malice_core.evaluation.probes import Scores, score
from malice_core.evaluation.rasters import Place
from malice_core.grid import Lattice, Window
from malice_core.stack import Stack, discover
from malice_core.training.batch import View
from malice_core.training.embedding import embed, read_view
from malice_core.training.module import PretrainingModule
from malice_core.training.normalise import Normalise
from malice_core.training.settings import Evaluate

#: Pixels: side of the blocks that are embedded at once, and margin by which the U-Net is told more, as ``embed`` does.
BLOCK, HALO = 64, 48
#: Images of all blocks are read once and kept; above this, labels and images are too large for it.
MAX_BYTES = 8 << 30


@dataclass
class Site:
    """A labelled area: its images and the pixels that are scored.

    Attributes:
        folds: which pixels are scored, and how.
        window: of the labels, global pixels.
        stacks: by sensor.
        blocks: that hold any scored pixel.
        images: of blocks and sensors, once they were read.
    """

    folds: Folds
    window: Window
    stacks: dict[str, Stack]
    blocks: tuple[Window, ...]
    images: dict[tuple[int, str], View]

    @classmethod
    def open(cls, options: Evaluate) -> Site:
        """Finds images and labels.

        Raises:
            InputError: if they cannot be read, do not fit, or too little is labelled.
        """
        assert options.labels is not None
        catalogs = {sensor: discover(sensor, paths) for sensor in ("s2", "s1") if (paths := options.paths(sensor))}
        lattice = next(iter(catalogs.values())).lattice()
        stacks = {sensor: catalog.on(lattice) for sensor, catalog in catalogs.items()}
        if options.max_dates is not None:
            stacks = {sensor: stack.select(max_dates=options.max_dates) for sensor, stack in stacks.items()}
        window = _window(Path(options.labels), lattice)
        for stack in stacks.values():
            window = window.intersect(stack.extent)
        if not window.pixels:
            raise InputError(f"evaluate.labels={options.labels} does not overlap all of the images of evaluate.s2, .s1")
        labels = rasters.labels(Path(options.labels), options.band, _place(lattice, window))
        folds = spatial_folds(
            labels, options.folds, block=options.block, guard=options.guard, min_pixels=options.min_pixels
        )
        return cls(folds, window, stacks, tuple(_blocks(folds.counted, window)), {}).checked()

    def checked(self) -> Site:
        """Raises InputError if the images would not fit into memory."""
        side = (BLOCK + 2 * HALO) ** 2
        dates = {sensor: len(stack.observations) for sensor, stack in self.stacks.items()}
        size = sum(count * side * (4 * len(self.stacks[sensor].sensor.bands) + 2) for sensor, count in dates.items())
        if size * len(self.blocks) > MAX_BYTES:
            raise InputError(
                f"evaluate.labels: {len(self.blocks)} blocks of {BLOCK} pixels with {dates} dates take "
                f"{size * len(self.blocks) >> 30} GB: give smaller labels, or evaluate.max_dates"
            )
        return self

    def view(self, number: int, sensor: str) -> View:
        """The images of one block with its halo, one place with all dates."""
        if (number, sensor) not in self.images:
            self.images[number, sensor] = read_view(self.stacks[sensor], self.blocks[number].expand(HALO))
        return self.images[number, sensor]

    def score(self, module: PretrainingModule) -> Scores:
        """Both probes of the embeddings of all sensors together, with the weights as they are."""
        counted = self.folds.counted
        features = np.empty((int(counted.sum()), 640 * len(self.stacks)), np.float32)
        number_of = np.full(counted.shape, -1, np.intp)
        number_of[counted] = np.arange(len(features))
        for number, block in enumerate(self.blocks):
            part = block.intersect(self.window)
            wanted = np.zeros(block.shape, np.bool_)
            numbers = number_of[part.slices_in(self.window)]
            wanted[part.slices_in(block)] = numbers >= 0
            for place, sensor in enumerate(self.stacks):
                normalise = module.objective.normalise[sensor]
                assert isinstance(normalise, Normalise)
                values = embed(module.model.encoder, normalise, sensor, self.view(number, sensor), wanted, HALO)
                features[numbers[numbers >= 0], 640 * place : 640 * (place + 1)] = values.cpu().numpy()
        with warnings.catch_warnings():
            # The optimiser's limit of steps is part of the probe; it is told once an epoch otherwise.
            warnings.filterwarnings("ignore", module="sklearn")
            return score(features, self.folds)


def _window(path: Path, lattice: Lattice) -> Window:
    """The labels' pixels on the images' grid."""
    place = rasters.place_of(path)
    (width, height), (rows, cols) = place.pixel, place.shape
    window = lattice.window(place.left, place.top + height * rows, place.left + width * cols, place.top)
    if _place(lattice, window).offset(place) is None:
        raise InputError(f"{path} ({place}) is not on the pixels of the images: warp it to them, nearest")
    return window


def _place(lattice: Lattice, window: Window) -> Place:
    t = lattice.transform(window)
    return Place(CRS.from_user_input(lattice.crs), t.c, t.f, (t.a, t.e), window.shape)


def _blocks(counted: NDArray[np.bool_], window: Window) -> Iterator[Window]:
    """Blocks with any scored pixel, on the lattice of 8 pixels on which ``embed`` has its blocks."""
    whole = window.snap(8)
    for row in range(whole.row, whole.end_row, BLOCK):
        for col in range(whole.col, whole.end_col, BLOCK):
            block = Window(row, col, BLOCK, BLOCK)
            part = block.intersect(window)
            if part.pixels and counted[part.slices_in(window)].any():
                yield block


class Probe(Callback):
    """Logs ``probe/linear`` and ``probe/neighbours`` (macro F1), before training and every so many epochs.

    Args:
        site: what is scored.
        every: epochs.
    """

    def __init__(self, site: Site, every: int) -> None:
        self.site, self.every = site, every

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Scores the weights before training."""
        if trainer.global_step == 0 and trainer.is_global_zero:
            found = self._scores(module)
            for logger in trainer.loggers:
                logger.log_metrics(found, step=0)
            print(f"before training: linear probe {found['probe/linear']:.4f}", flush=True)

    def on_validation_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Scores the weights of an epoch."""
        if (trainer.current_epoch + 1) % self.every == 0 and trainer.is_global_zero:
            for name, value in self._scores(module).items():
                module.log(name, value, rank_zero_only=True)

    def _scores(self, module: L.LightningModule) -> dict[str, float]:
        assert isinstance(module, PretrainingModule)
        training = module.training
        module.eval()
        found = self.site.score(module)
        module.train(training)
        return {"probe/linear": float(found.linear.mean()), "probe/neighbours": float(found.neighbours.mean())}
