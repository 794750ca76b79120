"""Batches of views out of a dataset of patches: random crops, dates and halves, and the Lightning datamodule.

A sample is a function of (seed, epoch, index) and of nothing else: not of the number of workers, not of what was
drawn before. Values stay physical; normalisation happens on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from malice_core.bands import TRAINED_MAX_DATES
from malice_core.errors import InputError
from malice_core.patches import store
from malice_core.training.batch import Batch, View
from malice_core.training.order import Key, Loader, Order

#: Streams of random numbers that samples of one seed are drawn from, by split.
_STREAMS = {"train": 1, "val": 2, "test": 3}


@dataclass
class Half:
    """One view of one place, before padding.

    Attributes:
        images: (T, bands, H, W) float32, physical; 0 where not observed.
        days: (T,) int64, ascending.
        observed, clear: (T, H, W) bool.
        angles, weather: (T, A), (T, 48) float32, as of ``View``; None for MALICE.
    """

    images: Tensor
    days: Tensor
    observed: Tensor
    clear: Tensor
    angles: Tensor | None = None
    weather: Tensor | None = None


@dataclass
class Sample:
    """The four views of one place, by the keys of ``batch.VIEWS``, its name with the crop, and, for MALICE Aux, its
    terrain (4, H, W)."""

    views: dict[str, Half]
    name: str
    terrain: Tensor | None = None


def choose_dates(rng: np.random.Generator, seen: NDArray[np.intp], most: int) -> tuple[NDArray[np.intp], ...]:
    """Two disjoint halves of at most ``most`` random dates; each ascending.

    Args:
        seen: indices of the dates to choose from; at least one.
        most: of both halves together, at least 1.

    Returns:
        Halves a and b. Of an odd number either may have the one more; a single date is both.
    """
    chosen = rng.permutation(seen)[:most]
    if len(chosen) == 1:
        return chosen, chosen
    cut = (len(chosen) + int(rng.integers(2))) // 2
    return np.sort(chosen[:cut]), np.sort(chosen[cut:])


class Crops(Dataset[Sample]):
    """Samples of one split, asked for by (epoch, index).

    Training draws crop, dates and halves anew each epoch. Validation and test always have the same: the crop from the
    patch's middle, dates and halves drawn once.

    Args:
        data: the dataset of patches.
        split: ``train``, ``val`` or ``test``.
        crop: side in pixels, a multiple of 8.
        max_len: dates of a modality, both halves together.
        seed: of everything random.
        crops_per_patch: samples of each patch in an epoch.
        augment: mirror and turn at random, all views of a place alike (training only).
        auxiliary: with weather, terrain and angles, for MALICE Aux.

    Raises:
        InputError: if the split is empty, the crop does not fit, or the dataset has not what MALICE Aux needs.
    """

    def __init__(
        self,
        data: store.Dataset,
        split: str,
        *,
        crop: int = 64,
        max_len: int = TRAINED_MAX_DATES,
        seed: int = 0,
        crops_per_patch: int = 1,
        augment: bool = False,
        auxiliary: bool = False,
    ) -> None:
        data.require(split)
        if auxiliary and not data.auxiliary:
            raise InputError(
                f"{data.folder} has no weather, terrain and angles, which MALICE Aux needs: build it with --weather, "
                "--dem, --s2-angles and --s1-angles, or train MALICE (without --config-name pretrain_proj_aux)"
            )
        if auxiliary and augment:
            # A turned place has another aspect, and a sun in the north, which is beyond what the azimuth is clipped to.
            raise InputError(
                "augment=true: MALICE Aux knows where the sun stands, so that its places cannot be turned: give "
                "augment=false"
            )
        if crop < 16 or crop % 8:
            raise InputError(f"crop={crop}: the networks need a multiple of 8 of at least 16")
        if crop > data.patch:
            raise InputError(f"crop={crop} is larger than the patches of {data.folder}: give crop={data.patch}")
        if max_len < 1 or crops_per_patch < 1:
            raise InputError(f"max_len={max_len}, crops_per_patch={crops_per_patch}: both must be at least 1")
        self.data, self.split, self.crop, self.max_len, self.seed = data, split, crop, max_len, seed
        self.augment, self.auxiliary = augment and split == "train", auxiliary
        self.patches = data.of_split(split) * crops_per_patch
        self._seen = _dates_with_data(data, sorted(set(self.patches)))

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, key: Key | int) -> Sample:
        """The sample of (epoch, index); an index alone is of epoch 0. Raises InputError if it cannot be read."""
        epoch, index = (0, key) if isinstance(key, int) else key
        rng = np.random.default_rng([self.seed, _STREAMS[self.split], epoch, index])
        place, patch = self.patches[index]
        free = self.data.patch - self.crop
        row, col = (int(x) for x in rng.integers(0, free + 1, 2)) if self.split == "train" else (free // 2, free // 2)
        turn = int(rng.integers(8)) if self.augment else 0
        views = {}
        for sensor in ("s2", "s1"):
            halves = choose_dates(rng, self._seen[place, patch][sensor], self.max_len)
            images = self.data.read(place, patch, sensor, (row, col, self.crop))
            mask = self.data.read(place, patch, f"{sensor}_mask", (row, col, self.crop))
            series = self.data.places[place].series[sensor]
            days = np.asarray(series.days, np.int64)
            for name, dates in zip("ab", halves, strict=True):
                views[sensor + name] = _half(images[dates], mask[dates], days[dates], turn)
            if self.auxiliary:
                weather = self.data.read(place, patch, f"{sensor}_weather")
                angles = np.asarray(series.angles, np.float32)
                for name, dates in zip("ab", halves, strict=True):
                    half = views[sensor + name]
                    half.weather, half.angles = torch.from_numpy(weather[dates]), torch.from_numpy(angles[dates])
        terrain = None
        if self.auxiliary:
            terrain = torch.from_numpy(self.data.read(place, patch, "terrain", (row, col, self.crop)))
        where = self.data.places[place]
        return Sample(views, f"{where.name} patch {patch} row {row} column {col} (epoch {epoch})", terrain)


def _dates_with_data(
    data: store.Dataset, patches: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], dict[str, NDArray[np.intp]]]:
    """Indices of the dates on which anything of a patch was observed, by sensor: others would be views of nothing."""
    counts = {
        (place, sensor): np.asarray(data.array(place, f"{sensor}_counts")[:])
        for place in {place for place, _ in patches}
        for sensor in ("s2", "s1")
    }
    found = {}
    for place, patch in patches:
        seen = {sensor: np.flatnonzero(counts[place, sensor][patch, :, 0]) for sensor in ("s2", "s1")}
        for sensor, dates in seen.items():
            if not len(dates):
                raise InputError(
                    f"{data.folder}: patch {patch} of {data.places[place].name} has no {sensor.upper()} date; build "
                    "the dataset again"
                )
        found[place, patch] = seen
    return found


def _half(images: NDArray[np.generic], mask: NDArray[np.uint8], days: NDArray[np.int64], turn: int) -> Half:
    pixels = torch.from_numpy(images.astype(np.float32))
    classes = torch.from_numpy(mask)
    if turn:
        pixels, classes = (torch.rot90(x, turn % 4, (-2, -1)) for x in (pixels, classes))
        if turn >= 4:
            pixels, classes = pixels.flip(-1), classes.flip(-1)
    return Half(pixels.contiguous(), torch.from_numpy(days), classes > store.MISSING, classes == store.CLEAR)


def collate(samples: Sequence[Sample]) -> Batch:
    """Puts samples into one batch; each view is padded at its end to the longest of the batch.

    All samples have weather, terrain and angles, or none.
    """
    views = {}
    for key in samples[0].views:
        halves = [sample.views[key] for sample in samples]
        longest = max(len(half.days) for half in halves)
        shape = (len(halves), longest)
        _, bands, height, width = halves[0].images.shape
        view = View(
            images=torch.zeros(*shape, bands, height, width),
            days=torch.zeros(shape, dtype=torch.int64),
            padded=torch.ones(shape, dtype=torch.bool),
            observed=torch.zeros(*shape, height, width, dtype=torch.bool),
            clear=torch.zeros(*shape, height, width, dtype=torch.bool),
        )
        for i, half in enumerate(halves):
            count = len(half.days)
            view.images[i, :count] = half.images
            view.days[i, :count] = half.days
            view.padded[i, :count] = False
            view.observed[i, :count] = half.observed
            view.clear[i, :count] = half.clear
        for name in ("angles", "weather"):
            parts = [part for half in halves if (part := getattr(half, name)) is not None]
            if parts:
                setattr(view, name, pad_sequence(parts, batch_first=True))
        views[key] = view
    terrain = [sample.terrain for sample in samples if sample.terrain is not None]
    return Batch(views, tuple(sample.name for sample in samples), torch.stack(terrain) if terrain else None)


class PatchData(L.LightningDataModule):
    """Loaders of a dataset of patches, with the published settings as defaults.

    Resuming in the middle of an epoch and several processes work without ``Trainer`` options, see ``order.py``.

    Args:
        dataset: ``DIR.zarr`` of ``malice_core.dataset build``.
        batch_size: places a batch and process.
        crop, max_len, seed, crops_per_patch, augment, auxiliary: as of ``Crops``.
        num_workers: processes that read; 0: the trainer's own.
        prefetch: batches that each of them prepares ahead.
        pin_memory: for faster copies to a GPU.

    Raises:
        InputError: if an option is wrong; in ``setup`` if the dataset cannot be used.
    """

    def __init__(
        self,
        dataset: str | Path,
        *,
        batch_size: int = 2,
        crop: int = 64,
        max_len: int = TRAINED_MAX_DATES,
        seed: int = 0,
        crops_per_patch: int = 1,
        augment: bool = False,
        auxiliary: bool = False,
        num_workers: int = 2,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0 or prefetch < 1 or seed < 0:
            raise InputError(
                f"batch_size={batch_size}, num_workers={num_workers}, prefetch={prefetch}, seed={seed}: batches and "
                "prefetch must be at least 1, workers and seed at least 0"
            )
        self.folder = Path(dataset)
        self.batch_size, self.num_workers, self.prefetch, self.pin_memory = (
            batch_size,
            num_workers,
            prefetch,
            pin_memory,
        )
        self.crop, self.max_len, self.seed = crop, max_len, seed
        self.crops_per_patch, self.augment, self.auxiliary = crops_per_patch, augment, auxiliary
        self._data: store.Dataset | None = None

    @property
    def data(self) -> store.Dataset:
        """The dataset, opened at first use; ``data.hash`` identifies it."""
        if self._data is None:
            self._data = store.Dataset(self.folder)
        return self._data

    def setup(self, stage: str | None = None) -> None:
        """Raises InputError if the dataset cannot be read, or a split that ``stage`` needs is empty."""
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage or "fit", ("test",)):
            self.crops(split)

    def crops(self, split: str) -> Crops:
        """The samples of a split."""
        return Crops(
            self.data,
            split,
            crop=self.crop,
            max_len=self.max_len,
            seed=self.seed,
            crops_per_patch=self.crops_per_patch if split == "train" else 1,
            augment=self.augment,
            auxiliary=self.auxiliary,
        )

    def loader(self, split: str) -> Loader:
        """Batches of a split: of train in another order each epoch, else always the same."""
        samples = self.crops(split)
        workers = {"prefetch_factor": self.prefetch, "persistent_workers": True} if self.num_workers else {}
        return Loader(
            samples,
            batch_size=self.batch_size,
            sampler=Order(samples, seed=self.seed, shuffle=split == "train"),
            collate_fn=collate,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            **workers,
        )

    def train_dataloader(self) -> Loader:
        """Batches to learn from."""
        return self.loader("train")

    def val_dataloader(self) -> Loader:
        """Batches to validate with."""
        return self.loader("val")

    def test_dataloader(self) -> Loader:
        """Batches to test with."""
        return self.loader("test")
