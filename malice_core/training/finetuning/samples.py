"""What fine-tuning learns from: embeddings of pixels where the encoder is frozen, crops of images where it is not.

As in pre-training, a sample is a function of seed, epoch and index and of nothing else, so that a run that is resumed
goes on with the very next batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from malice_core.errors import InputError
from malice_core.training import data
from malice_core.training.batch import Batch, View
from malice_core.training.embedding import embed
from malice_core.training.finetuning.labels import IGNORED
from malice_core.training.finetuning.places import Classes, Places
from malice_core.training.malice import MaliceEncoder
from malice_core.training.normalise import Normalise
from malice_core.training.order import Key, Loader, Order


@dataclass
class Pixels:
    """Embeddings (N, tokens·64) float32 and classes (N,) int64 of pixels."""

    features: Tensor
    target: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Pixels:
        """The same on another device."""
        return Pixels(self.features.to(device), self.target.to(device))


@dataclass
class Crops:
    """Images of crops by sensor, and classes (B, H, W) int64; -1 where there is none."""

    images: Batch
    target: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Crops:
        """The same on another device."""
        return Crops(self.images.to(device), self.target.to(device))


@dataclass
class Tile:
    """A whole tile for validation, on the processor: its dates go to the device one by one."""

    views: dict[str, View]
    target: Classes

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Tile:
        """Itself."""
        return self


def embedded(
    halo: int,
    encoder: MaliceEncoder,
    normalise: Mapping[str, nn.Module] | nn.ModuleDict,
    views: Mapping[str, View],
    target: Classes,
) -> Pixels:
    """The embeddings of a tile's pixels that have a class and an observation by every sensor, row by row.

    Args:
        halo: pixels by which the views are larger than ``target``.
        encoder: in evaluation mode.
        normalise: by sensor.
        views: of the tile, by sensor.
        target: (H, W) classes.
    """
    wanted = target != IGNORED
    inside = slice(halo, -halo or None)
    for view in views.values():
        wanted &= view.observed[0, :, inside, inside].any(dim=0).numpy()
    parts = []
    for sensor, view in views.items():
        change = normalise[sensor]
        assert isinstance(change, Normalise)
        parts.append(embed(encoder, change, sensor, view, wanted, halo))
    features = torch.cat(parts, dim=1)
    return Pixels(features, torch.from_numpy(target[wanted].astype(np.int64)).to(features.device))


def by_split(
    places: Places,
    encoder: MaliceEncoder,
    normalise: Mapping[str, nn.Module] | nn.ModuleDict,
    tile: int,
    targets: Mapping[str, Classes],
) -> dict[str, Pixels]:
    """The embeddings of a tile's pixels by split; the tile is embedded once for all of them.

    Args:
        targets: (H, W) classes of every split; a pixel is of one split at most.
    """
    count, names = len(places.legend.labels), list(targets)
    # Which split a pixel is of goes along in its class.
    together = np.full(next(iter(targets.values())).shape, IGNORED, np.int16)
    for number, target in enumerate(targets.values()):
        together = np.where(target == IGNORED, together, target + number * count).astype(np.int16)
    if (together == IGNORED).all():
        return {}
    views = {sensor: places.view(tile, sensor) for sensor in places.sensors}
    found = embedded(places.halo, encoder, normalise, views, together)
    rows = {name: found.target // count == number for number, name in enumerate(names)}
    return {name: Pixels(found.features[of], found.target[of] % count) for name, of in rows.items()}


def embed_splits(
    places: Places,
    encoder: MaliceEncoder,
    normalise: Mapping[str, nn.Module] | nn.ModuleDict,
    splits: Sequence[str],
    *,
    most: int,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Pixels]:
    """The embeddings of some splits, on the processor: tokens·256 bytes a pixel, and what one tile takes.

    Args:
        places: images and labels.
        encoder, normalise: as of :func:`embedded`.
        splits: of ``train``, ``val``, ``test``.
        most: so many pixels of each at most, drawn at random.
        seed: of the draw.
        tell: is given a line now and then.

    Raises:
        InputError: if no pixel of a split was observed.
    """
    left = {split: _drawn(places, split, most, seed, tell) for split in splits}
    # Filled as tiles come: parts put together at the end would be there twice.
    made = {split: _Growing(int(left[split].sum())) for split in splits}
    for tile in range(len(places)):
        targets = {}
        for split in splits:
            target = places.target(tile, split).copy()
            labelled = target != IGNORED
            chosen, left[split] = np.split(left[split], [int(labelled.sum())])
            target[labelled] = np.where(chosen, target[labelled], IGNORED)
            targets[split] = target
        for split, found in by_split(places, encoder, normalise, tile, targets).items():
            made[split].add(found)
        if (tile + 1) % 50 == 0:
            tell(f"{tile + 1} of {len(places)} tiles embedded")
    for split, one in made.items():
        if not one.count:
            raise InputError(f"no labelled pixel of {split} was observed by every sensor: do images cover the labels?")
    return {split: one.pixels() for split, one in made.items()}


class _Growing:
    """Pixels that come in parts, at most ``most`` of them."""

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self._features, self._target = torch.empty(0, 0), torch.empty(most, dtype=torch.int64)

    def add(self, part: Pixels) -> None:
        """Takes a part, from whatever device."""
        if not self.count:
            self._features = torch.empty(self.most, part.features.shape[1])
        rows = slice(self.count, self.count + len(part.target))
        self._features[rows], self._target[rows] = part.features, part.target
        self.count += len(part.target)

    def pixels(self) -> Pixels:
        """All that came."""
        return Pixels(self._features[: self.count], self._target[: self.count])


def _drawn(places: Places, split: str, most: int, seed: int, tell: Callable[[str], None]) -> NDArray[np.bool_]:
    """Which labelled pixels of a split are used, in the order of tiles and rows."""
    total = int(places.pixels(split).sum())
    if total <= most:
        return np.ones(total, np.bool_)
    tell(f"note: {most} of {total} labelled pixels of {split} are used (data.max_pixels)")
    chosen = np.zeros(total, np.bool_)
    chosen[np.random.default_rng([seed, len(split)]).permutation(total)[:most]] = True
    return chosen


class PixelBatches(Dataset[Pixels]):
    """Whole batches of pixels, asked for by (epoch, index); another order each epoch.

    Args:
        pixels: all of them.
        size: pixels a batch.
        seed: of the order; None: as they lie.
    """

    def __init__(self, pixels: Pixels, size: int, seed: int | None) -> None:
        self.pixels, self.size, self.seed = pixels, size, seed
        self._order: tuple[int, NDArray[np.intp]] | None = None

    def __len__(self) -> int:
        return -(-len(self.pixels.target) // self.size)

    def __getitem__(self, key: Key) -> Pixels:
        epoch, index = key
        if self._order is None or self._order[0] != epoch:
            count = len(self.pixels.target)
            order = (
                np.arange(count) if self.seed is None else np.random.default_rng([self.seed, epoch]).permutation(count)
            )
            self._order = epoch, order
        rows = torch.from_numpy(self._order[1][index * self.size : (index + 1) * self.size])
        return Pixels(self.pixels.features[rows], self.pixels.target[rows])


class RandomCrops(Dataset[tuple[data.Sample, Tensor]]):
    """Crops of training tiles, asked for by (epoch, index): place and dates are drawn anew each epoch.

    Crops begin at multiples of 8 pixels, where the network's grid lies when it is used.

    Args:
        places: images and labels.
        side: of a crop, pixels.
        max_len: dates of a sensor.
        seed: of everything random.
    """

    def __init__(self, places: Places, side: int, max_len: int, seed: int) -> None:
        self.places, self.side, self.max_len, self.seed = places, side, max_len, seed
        self.numbers = places.tiles("train")

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, key: Key) -> tuple[data.Sample, Tensor]:
        epoch, index = key
        rng = np.random.default_rng([self.seed, 1, epoch, index])
        tile = self.numbers[index]
        target = self.places.target(tile, "train")
        rows, cols = self._corner(rng, target)
        part = target[rows, cols].astype(np.int64)
        views = {}
        for sensor in self.places.sensors:
            view = self.places.crop(tile, sensor, rows, cols)
            seen = view.observed[0].flatten(1).any(dim=1).numpy()
            # A crop that a sensor never saw still has a date: its pixels have no class, below.
            dates = np.flatnonzero(seen) if seen.any() else np.zeros(1, np.intp)
            dates = np.sort(rng.permutation(dates)[: self.max_len])
            observed = view.observed[0, dates]
            part[~observed.any(dim=0).numpy()] = IGNORED
            views[sensor] = data.Half(view.images[0, dates], view.days[0, dates], observed, observed)
        return data.Sample(views, self.places.name(tile)), torch.from_numpy(part)

    def _corner(self, rng: np.random.Generator, target: Classes) -> tuple[slice, slice]:
        """A crop with a labelled pixel in it: those are tried that hold a random one."""
        labelled = np.argwhere(target != IGNORED)
        pixel = labelled[int(rng.integers(len(labelled)))]
        corner = []
        for at, length in zip(pixel, target.shape, strict=True):
            first = max(0, -(-(int(at) - self.side + 1) // 8))
            last = min(int(at) // 8, (length - self.side) // 8)
            corner.append(8 * int(rng.integers(first, last + 1)))
        return slice(corner[0], corner[0] + self.side), slice(corner[1], corner[1] + self.side)


def collate(samples: Sequence[tuple[data.Sample, Tensor]]) -> Crops:
    """Puts crops into one batch, padded to the longest series."""
    return Crops(data.collate([sample for sample, _ in samples]), torch.stack([target for _, target in samples]))


class Tiles(Dataset[Tile]):
    """Whole tiles of a split, asked for by (epoch, index)."""

    def __init__(self, places: Places, split: str) -> None:
        self.places, self.split, self.numbers = places, split, places.tiles(split)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, key: Key) -> Tile:
        tile = self.numbers[key[1]]
        views = {sensor: self.places.view(tile, sensor) for sensor in self.places.sensors}
        return Tile(views, self.places.target(tile, self.split))


class TuningData(L.LightningDataModule):
    """Loaders of a run.

    Args:
        train, val: what they load.
        batch_size: crops a batch; 1: what the dataset gives is a batch.
        seed: of the order.
    """

    def __init__(self, train: Dataset[Any], val: Dataset[Any], batch_size: int, seed: int) -> None:
        super().__init__()
        self._train, self._val, self.batch_size, self.seed = train, val, batch_size, seed

    def train_dataloader(self) -> Loader:
        """Another order each epoch."""
        together = collate if isinstance(self._train, RandomCrops) else _first
        return Loader(
            self._train,
            batch_size=self.batch_size,
            sampler=Order(self._train, seed=self.seed, shuffle=True),
            collate_fn=together,
        )

    def val_dataloader(self) -> Loader:
        """Always the same."""
        return Loader(self._val, batch_size=1, sampler=Order(self._val, shuffle=False), collate_fn=_first)


def _first(samples: Sequence[Any]) -> Any:
    return samples[0]
