"""Batches out of a dataset: the contract, random choices that depend on seed, epoch and index only, resuming."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
L = pytest.importorskip("lightning")
pytest.importorskip("zarr")

from helpers_dataset import built, write_stack  # noqa: E402
from lightning.pytorch.callbacks import Callback, ModelCheckpoint  # noqa: E402

from malice_core.errors import InputError  # noqa: E402
from malice_core.patches.store import CLEAR, MISSING, Dataset  # noqa: E402
from malice_core.training.batch import VIEWS, Batch  # noqa: E402
from malice_core.training.data import PatchData, choose_dates, collate  # noqa: E402
from malice_core.training.order import Loader, Order  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two places with other dates, patches of 24 pixels."""
    folder = tmp_path_factory.mktemp("data")
    built(write_stack(folder / "a", 48, 96), folder / "d.zarr", "--patch", 24, "--split", "0.6/0.2/0.2")
    other = write_stack(folder / "b", 48, 72, seed=1, shift=900)
    return built(other, folder / "d.zarr", "--patch", 24, "--append", "--dates", "2023-03-01/2023-04-05")


def module(dataset: Dataset, **options: Any) -> PatchData:
    return PatchData(dataset.folder, **{"crop": 16, "num_workers": 0} | options)


def same(a: Batch, b: Batch) -> bool:
    return a.names == b.names and all(
        torch.equal(getattr(a.views[key], name), getattr(b.views[key], name))
        for key in VIEWS
        for name in ("images", "days", "padded", "observed", "clear")
    )


# Dates


@given(st.integers(1, 90), st.integers(1, 70), st.integers(0, 9999))
@settings(deadline=None)
def test_halves_are_disjoint_and_cover_the_chosen(count: int, most: int, seed: int) -> None:
    seen = np.arange(count) * 3
    a, b = choose_dates(np.random.default_rng(seed), seen, most)
    chosen = min(count, most)
    assert set(a) | set(b) <= set(seen)
    assert (np.diff(a) > 0).all()
    assert (np.diff(b) > 0).all()
    if chosen == 1:
        assert a.tolist() == b.tolist()
        assert len(a) == 1
    else:
        assert not set(a) & set(b)
        assert len(a) + len(b) == chosen
        assert abs(len(a) - len(b)) == chosen % 2


def test_every_date_comes_as_often_in_either_half() -> None:
    counts = np.zeros((2, 11))
    for seed in range(4000):
        for half, dates in zip(counts, choose_dates(np.random.default_rng(seed), np.arange(11), 7), strict=True):
            half[dates] += 1
    assert np.abs(counts / 4000 - 3.5 / 11).max() < 0.04


# Samples


def test_a_sample_is_what_the_dataset_holds(dataset: Dataset) -> None:
    crops = module(dataset).crops("train")
    for index, (place, patch) in enumerate(crops.patches):
        sample = crops[2, index]
        where = dataset.places[place]
        assert sample.name.startswith(f"{where.name} patch {patch} row ")
        row, col = (int(sample.name.split()[i]) for i in (4, 6))
        for sensor in ("s2", "s1"):
            images = dataset.read(place, patch, sensor)[..., row : row + 16, col : col + 16]
            mask = dataset.read(place, patch, f"{sensor}_mask")[:, row : row + 16, col : col + 16]
            days = []
            for half in "ab":
                view = sample.views[sensor + half]
                for t, day in enumerate(view.days.tolist()):
                    date = where.series[sensor].days.index(day)
                    np.testing.assert_array_equal(view.images[t].numpy(), images[date].astype(np.float32))
                    np.testing.assert_array_equal(view.observed[t].numpy(), mask[date] != MISSING)
                    np.testing.assert_array_equal(view.clear[t].numpy(), mask[date] == CLEAR)
                    days.append(day)
            # Dates without any observation in the patch are in no view.
            seen = dataset.array(place, f"{sensor}_counts")[patch, :, 0] > 0
            assert sorted(days) == [day for day, any_ in zip(where.series[sensor].days, seen, strict=True) if any_]


def test_no_more_dates_than_asked_for(dataset: Dataset) -> None:
    crops = module(dataset, max_len=3).crops("train")
    for epoch in range(5):
        views = crops[epoch, 0].views
        for sensor in ("s2", "s1"):
            assert len(views[f"{sensor}a"].days) + len(views[f"{sensor}b"].days) == 3
    one = module(dataset, max_len=1).crops("train")[0, 0].views
    assert torch.equal(one["s2a"].images, one["s2b"].images)


def test_training_varies_with_epoch_and_validation_does_not(dataset: Dataset) -> None:
    train, val = module(dataset).crops("train"), module(dataset).crops("val")
    assert len({train[epoch, 0].name for epoch in range(12)}) > 6
    data = module(dataset)
    loader = data.val_dataloader()
    first = list(loader)
    loader.sampler.set_epoch(5)
    assert all(same(a, b) for a, b in zip(first, loader, strict=True))
    assert "row 4 column 4" in val[0, 0].name


def test_augmentation_turns_all_views_alike(dataset: Dataset) -> None:
    plain, turned = module(dataset).crops("train"), module(dataset, augment=True).crops("train")
    assert not module(dataset, augment=True).crops("val").augment
    seen = set()
    for epoch in range(40):
        # The crop of the whole patch: only the turn is random.
        plain.crop = turned.crop = 24
        a, b = plain[epoch, 0], turned[epoch, 0]
        for t, day in enumerate(b.views["s1a"].days.tolist()):
            source = next(
                view.images[view.days.tolist().index(day)]
                for view in (a.views["s1a"], a.views["s1b"])
                if day in view.days.tolist()
            )
            options = [torch.rot90(source, k, (-2, -1)) for k in range(4)]
            options += [option.flip(-1) for option in options]
            found = [i for i, option in enumerate(options) if torch.equal(option, b.views["s1a"].images[t])]
            assert len(found) == 1
            seen.add(found[0])
    assert seen == set(range(8))


# Batches


def test_batches_keep_the_contract(dataset: Dataset) -> None:
    data = module(dataset, batch_size=3, max_len=4)
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert sum(len(batch.names) for batch in batches) == len(dataset.of_split("train"))
    padded = 0
    for batch in batches:
        assert tuple(batch.views) == VIEWS
        for key, view in batch.views.items():
            places, dates = view.days.shape
            assert view.images.shape == (places, dates, 10 if key.startswith("s2") else 2, 16, 16)
            assert view.images.dtype == torch.float32
            assert view.days.dtype == torch.int64
            assert view.padded.dtype == view.observed.dtype == view.clear.dtype == torch.bool
            assert view.observed.shape == view.clear.shape == (places, dates, 16, 16)
            assert (view.images.isfinite()).all()
            assert not view.images.movedim(2, -1)[~view.observed].any()
            assert not (view.clear & ~view.observed).any()
            assert not view.observed[view.padded].any()
            assert not view.days[view.padded].any()
            # Trimmed to the longest, padded at the end.
            assert not view.padded.all(0).any()
            assert (view.padded.int().diff(dim=1) >= 0).all()
            padded += int(view.padded.sum())
    assert padded


def test_workers_change_nothing(dataset: Dataset) -> None:
    expected = list(module(dataset).train_dataloader())
    for workers in (1, 2):
        loader = module(dataset, num_workers=workers, prefetch=3).train_dataloader()
        assert all(same(a, b) for a, b in zip(expected, loader, strict=True))
        loader.sampler.set_epoch(1)
        assert not all(same(a, b) for a, b in zip(expected, loader, strict=True))


def test_two_processes_share_the_batches_of_one(dataset: Dataset) -> None:
    crops = module(dataset, crops_per_patch=3).crops("train")
    whole = list(Order(crops, seed=4))
    orders = [Order(crops, seed=4, replicas=2, rank=rank) for rank in (0, 1)]
    parts = [list(order) for order in orders]
    assert len(parts[0]) == len(parts[1]) == len(orders[0])
    together = [key for pair in zip(*parts, strict=True) for key in pair]
    assert together[: len(whole)] == whole
    assert set(together) == {(0, index) for index in range(len(crops))}
    # Two batches of 2 are the samples of one batch of 4.
    four = collate([crops[key] for key in whole[:4]])
    assert sorted(four.names) == sorted(crops[key].name for part in parts for key in part[:2])


# Resuming


def test_a_loader_goes_on_behind_the_batches_it_gave(dataset: Dataset) -> None:
    for workers in (0, 2):
        loader = module(dataset, num_workers=workers, crops_per_patch=2).train_dataloader()
        loader.sampler.set_epoch(3)
        expected = list(loader)
        iterator = iter(loader)
        for _ in range(3):
            next(iterator)
        state = loader.state_dict()
        assert state == {"epoch": 3, "batches": 3}
        other = module(dataset, num_workers=workers, crops_per_patch=2).train_dataloader()
        other.load_state_dict(state)
        assert other.state_dict() == state
        assert all(same(a, b) for a, b in zip(expected[3:], other, strict=True))
        other.sampler.set_epoch(4)
        assert len(list(other)) == len(expected)


class Probe(L.LightningModule):  # type: ignore[name-defined,misc]
    """Remembers its batches; its weight depends on all of them, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, int, tuple[str, ...]]] = []

    def training_step(self, batch: Batch, index: int) -> Any:
        self.seen.append((self.current_epoch, index, batch.names))
        return self.weight * batch.views["s2a"].images.mean() / 1e4

    def validation_step(self, batch: Batch, index: int) -> None:
        assert batch.names

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


class KillAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("killed")


def fit(dataset: Dataset, folder: Path, every: int, *, kill: int = 0, resume: bool = False, workers: int = 0) -> Probe:
    probe = Probe()
    callbacks: list[Callback] = [ModelCheckpoint(folder, save_last=True, every_n_train_steps=every)]
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks + ([KillAt(kill)] if kill else []),
    )
    data = module(dataset, num_workers=workers)
    try:
        trainer.fit(probe, data, ckpt_path=folder / "last.ckpt" if resume else None)
    except RuntimeError as error:
        assert str(error) == "killed"  # noqa: PT017
    return probe


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kill", "every", "workers"), [(3, 2, 0), (7, 3, 2), (5, 1, 0), (10, 3, 0)])
def test_lightning_resumes_within_an_epoch(
    kill: int, every: int, workers: int, dataset: Dataset, tmp_path: Path
) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    whole = fit(dataset, tmp_path / "whole", every)
    steps = len(module(dataset).train_dataloader())
    assert len(whole.seen) == 3 * steps
    fit(dataset, tmp_path / "part", every, kill=kill, workers=workers)
    rest = fit(dataset, tmp_path / "part", every, resume=True, workers=workers)
    begun = (kill - 1) // every * every
    assert rest.seen == whole.seen[begun:]
    assert torch.equal(rest.weight, whole.weight)


@pytest.mark.filterwarnings("ignore")
def test_lightning_may_overfit_one_batch(dataset: Dataset) -> None:
    probe, options = Probe(), {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=3, overfit_batches=1, enable_checkpointing=False, **options)
    trainer.fit(probe, module(dataset))
    assert len({names for _, _, names in probe.seen}) == 1
    assert len(probe.seen) == 3


# What is refused


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"crop": 32}, "give crop=24"),
        ({"crop": 20}, "multiple of 8"),
        ({"max_len": 0}, "max_len=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_workers": -1}, "num_workers=-1"),
    ],
)
def test_refusals(options: dict[str, Any], told: str, dataset: Dataset) -> None:
    with pytest.raises(InputError, match=told):
        module(dataset, **options).setup("fit")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    data = built(write_stack(tmp_path / "s", 32, 32), tmp_path / "d.zarr", "--split", "1/0/0")
    with pytest.raises(InputError, match="no patch for val") as caught:
        module(data).setup("fit")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such dataset"):
        PatchData(tmp_path / "none.zarr").setup("fit")


def test_a_damaged_patch_is_named(tmp_path: Path) -> None:
    data = built(write_stack(tmp_path / "s", 32, 32), tmp_path / "d.zarr")
    for path in data.folder.glob("*/s1/c/*/0/0/0/0"):
        path.unlink()
    for workers in (0, 1):
        with pytest.raises(InputError, match="is missing") as caught:
            next(iter(module(data, num_workers=workers).train_dataloader()))
        assert f"{caught.value}".startswith(f"{data.folder}")


def test_loaders_of_all_splits_are_loaders(dataset: Dataset) -> None:
    data = module(dataset)
    for split in ("train", "val", "test"):
        assert isinstance(data.loader(split), Loader)
        assert len(data.loader(split)) == -(-len(dataset.of_split(split)) // 2)
