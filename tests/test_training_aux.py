"""Pre-training of MALICE Aux: batches, objective, ablation of the weather."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("zarr")

from helpers_aux import around, write_around  # noqa: E402
from helpers_dataset import built  # noqa: E402
from helpers_pretrain import (  # noqa: E402
    small_dataset,
    small_stack,
)
from test_training_losses import lee_by_hand  # noqa: E402
from test_training_objective import SIZE, batch, numbers  # noqa: E402

from malice_core.errors import InputError  # noqa: E402
from malice_core.features import Normaliser  # noqa: E402
from malice_core.store.statistics import AUX, AUX_TERRAIN, AUX_WEATHER  # noqa: E402
from malice_core.surroundings import terrain as terrains  # noqa: E402
from malice_core.surroundings import weather as weathers  # noqa: E402
from malice_core.training.ablation import shuffled  # noqa: E402
from malice_core.training.batch import VIEWS, Batch  # noqa: E402
from malice_core.training.data import PatchData  # noqa: E402
from malice_core.training.malice import Malice  # noqa: E402
from malice_core.training.module import PretrainingModule  # noqa: E402
from malice_core.training.objective import Objective  # noqa: E402

COUNTS = {"s2": 10, "s1": 3}


pytestmark = pytest.mark.usefixtures("pretraining")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_around(small_stack(tmp_path_factory.mktemp("stack")))


@pytest.fixture(scope="module")
def data(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of 24 pixels, with weather, terrain and angles."""
    folder = tmp_path_factory.mktemp("data") / "d.zarr"
    return built(stack, folder, "--patch", 24, "--split", "0.6/0.3/0.1", *around(stack)).folder


@pytest.fixture(scope="module")
def plain(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(stack, tmp_path_factory.mktemp("plain"))


def aux_batch() -> Batch:
    """The batch of the plain objective's tests, with made-up surroundings."""
    given, rng = batch(), np.random.default_rng(7)
    middle, spread = (
        np.repeat(np.array(x), 6) for x in (AUX_WEATHER.med, np.subtract(AUX_WEATHER.qmax, AUX_WEATHER.qmin))
    )
    views = {}
    for key, view in given.views.items():
        shape = view.padded.shape
        weather = middle + 0.4 * spread * rng.standard_normal((*shape, 48))
        angles = rng.uniform(-1, 1, (*shape, 6 if key.startswith("s2") else 1))
        views[key] = replace(
            view,
            weather=torch.from_numpy(weather.astype(np.float32)),
            angles=torch.from_numpy(angles.astype(np.float32)),
        )
    ground = np.array(AUX_TERRAIN.med)[:, None, None] + 0.4 * rng.standard_normal((2, 4, SIZE, SIZE))
    return Batch(views, given.names, torch.from_numpy(ground.astype(np.float32)))


def model(seed: int = 0) -> Malice:
    torch.manual_seed(seed)
    return PretrainingModule(dropout=0.0, auxiliary=True).model


# Batches


def test_a_sample_is_what_the_dataset_holds(data: Path) -> None:
    crops = PatchData(data, crop=16, max_len=5, auxiliary=True).crops("train")
    dataset = crops.data
    for index, (place, patch) in enumerate(crops.patches):
        sample = crops[1, index]
        row, col = (int(sample.name.split()[i]) for i in (4, 6))
        wanted = dataset.read(place, patch, "terrain")[:, row : row + 16, col : col + 16]
        np.testing.assert_array_equal(sample.terrain, wanted)
        for key, half in sample.views.items():
            series = dataset.places[place].series[key[:2]]
            dates = [series.days.index(day) for day in half.days.tolist()]
            np.testing.assert_array_equal(half.weather, dataset.read(place, patch, f"{key[:2]}_weather")[dates])
            np.testing.assert_array_equal(half.angles, np.array(series.angles, np.float32)[dates])
    assert len(crops.patches) > 1


def test_batches_pad_them_with_the_dates(data: Path) -> None:
    loaded = PatchData(data, crop=16, max_len=5, auxiliary=True, num_workers=0)
    samples = [loaded.crops("train")[3, i] for i in range(2)]
    (given, *_) = loaded.train_dataloader()
    assert given.terrain.shape == (2, 4, 16, 16)
    for key, view in given.views.items():
        assert view.weather.shape == (*view.padded.shape, 48)
        assert view.angles.shape == (*view.padded.shape, 6 if key.startswith("s2") else 1)
        assert (view.weather[view.padded] == 0).all()
        assert (view.weather[~view.padded] != 0).any(1).all()
    assert samples[0].terrain is not samples[1].terrain
    moved = given.to("cpu")
    assert torch.equal(moved.terrain, given.terrain)
    assert torch.equal(moved.views["s1a"].weather, given.views["s1a"].weather)


def test_plain_malice_ignores_them_and_draws_the_same(data: Path, stack: Path, tmp_path: Path) -> None:
    without = built(stack, tmp_path / "d.zarr", "--patch", 24, "--split", "0.6/0.3/0.1").folder
    batches = [next(iter(PatchData(folder, crop=16, num_workers=0).train_dataloader())) for folder in (data, without)]
    assert batches[0].names == batches[1].names
    assert batches[0].terrain is None
    with_around = next(iter(PatchData(data, crop=16, num_workers=0, auxiliary=True).train_dataloader()))
    for key in VIEWS:
        view, other, third = (one.views[key] for one in (*batches, with_around))
        assert view.weather is None
        assert view.angles is None
        assert torch.equal(view.images, other.images)
        assert torch.equal(view.images, third.images)


def test_batches_that_cannot_be(data: Path, plain: Path) -> None:
    with pytest.raises(InputError, match=r"d\.zarr has no weather, terrain and angles, which MALICE Aux needs"):
        PatchData(plain, crop=16, auxiliary=True).setup("fit")
    with pytest.raises(InputError, match="augment=true"):
        PatchData(data, crop=16, auxiliary=True, augment=True).setup("fit")


# Objective


def test_weather_and_terrain_are_normalised_as_the_engine_does() -> None:
    objective = Objective(auxiliary=True)
    given = aux_batch()
    assert given.terrain is not None
    given.terrain[0, 0, 0, 0] = torch.nan
    got = objective.terrain(given.terrain).numpy()
    np.testing.assert_array_equal(got, np.stack([terrains.normalised(x) for x in given.terrain.numpy()]))
    assert got[0, 0, 0, 0] == 0
    weather = given.views["s2a"].weather
    assert weather is not None
    got = objective.weather(weather).numpy()
    np.testing.assert_array_equal(got, weathers.normalised(weather.numpy()))
    assert np.abs(got).max() > 0.4


def by_hand(network: Malice, given: Batch) -> dict[str, float]:
    """Reconstructions view by view in evaluation mode: every latent and decoding in a call of its own, inputs by the
    engine's normalisation, errors in numpy."""
    latents, targets = {}, {}
    assert given.terrain is not None
    ground = torch.from_numpy(np.stack([terrains.normalised(x) for x in given.terrain.numpy()]))
    for key, view in given.views.items():
        sensor = key[:2]
        normaliser = Normaliser(sensor, AUX[sensor])
        images = np.zeros((*view.padded.shape, len(AUX[sensor].channels), SIZE, SIZE), np.float32)
        for place, date in np.ndindex(*view.padded.shape):
            values, angles = view.images[place, date].numpy(), view.angles[place, date].numpy()
            images[place, date] = normaliser(values, view.observed[place, date].numpy(), angles)
        weather = torch.from_numpy(weathers.normalised(view.weather.numpy()))
        surroundings = network.encoder.surroundings(weather, ground)
        latent = network.encoder(sensor, torch.from_numpy(images), view.days, view.padded, None, surroundings)
        latents[key] = latent.permute(0, 3, 4, 1, 2)
        targets[key] = images[:, :, : COUNTS[sensor]].astype(np.float64)
    values: dict[str, float] = {}
    opposite = {"s2a": ("s2b", "s1a"), "s2b": ("s2a", "s1b"), "s1a": ("s1b", "s2a"), "s1b": ("s1a", "s2b")}
    for key, sources in opposite.items():
        view, target, edge = given.views[key], targets[key], 0
        mask = view.clear.numpy()
        if key.startswith("s1"):
            edge, small = 3, np.zeros((*target.shape[:3], SIZE - 6, SIZE - 6))
            for place, date, band in np.ndindex(*target.shape[:3]):
                if not view.padded[place, date]:
                    # Powers as MALICE's filter has them: their logarithm over its range, whatever the base.
                    power = np.exp(target[place, date, band])
                    small[place, date, band] = np.log(lee_by_hand(power, view.observed[place, date].numpy(), 7))
            target, mask = small, mask[:, :, 3:-3, 3:-3]
        for name, source in zip(("same", "cross"), sources, strict=True):
            got = network.decoder(key[:2], latents[source][None], view.days)[0]
            got = got.permute(0, 4, 3, 1, 2).double().numpy()[..., edge : SIZE - edge, edge : SIZE - edge]
            assert got.shape == target.shape
            chosen = np.broadcast_to(mask[:, :, None], target.shape)
            values[f"{name}_{key}"] = float(np.mean((got - target)[chosen] ** 2))
    return values


def test_reconstructions_are_those_of_each_pair_by_itself() -> None:
    network, given = model().eval(), aux_batch()
    with torch.no_grad():
        wanted = by_hand(network, given)
        result, pictures = Objective(auxiliary=True)(network, given, images=True)
    got = numbers(result)
    assert {key: got[key] for key in wanted} == pytest.approx(wanted, rel=2e-5)
    assert got["same_s2a"] > 0.01
    assert pictures is not None
    assert pictures["s2a"].true.shape[2] == pictures["s2a"].same.shape[2] == 10
    assert pictures["s1b"].true.shape[2] == pictures["s1b"].cross.shape[2] == 3


def test_the_logarithms_base_does_not_matter_to_the_filter() -> None:
    """Normalised natural and decimal logarithms of power are one number where median and range are of one power."""
    power = np.random.default_rng(0).gamma(4, 0.03, 1000)
    low, middle, high = (np.quantile(power, q) for q in (0.02, 0.5, 0.98))
    natural = (np.log(power) - np.log(middle)) / (np.log(high) - np.log(low))
    decimal = (np.log10(power) - np.log10(middle)) / (np.log10(high) - np.log10(low))
    np.testing.assert_allclose(np.exp(natural), np.exp(decimal), rtol=1e-12)
    # What the filter is tuned to: speckle of either network's channels varies less than its limit of 0.25.
    speckle = np.random.default_rng(1).gamma(4.4, 0.1 / 4.4, 100_000)
    width = AUX["s1"].qmax[0] - AUX["s1"].qmin[0]
    for values, below in ((np.exp(np.log10(speckle) / width), True), (10 ** (np.log10(speckle) / width), False)):
        assert bool(values.std() / values.mean() < 0.25) is below


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_reach_weather_and_terrain_from_both_sensors(stride: int) -> None:
    given = aux_batch()
    for sensor in ("s2", "s1"):
        network = model().train()
        result, _ = Objective(auxiliary=True, w_inv=0.0, stride=stride)(network, given)
        assert result.total.isfinite()
        part = result.same[f"{sensor}a"] + result.same[f"{sensor}b"]
        part.backward()
        ubarn = network.encoder.get_submodule(f"encoder_{sensor}.ubarn")
        for name in ("encoder_meteo", "encoder_dem"):
            gradients = [parameter.grad for parameter in ubarn.get_submodule(name).parameters()]
            assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients), name
            assert sum(float(gradient.abs().sum()) for gradient in gradients) > 1e-3, name
        other = network.encoder.get_submodule(f"encoder_{'s1' if sensor == 's2' else 's2'}.ubarn.encoder_meteo")
        assert all(parameter.grad is None or not parameter.grad.any() for parameter in other.parameters())


def test_the_terrain_is_encoded_once_a_batch() -> None:
    network = model().train()
    calls: list[torch.Size] = []
    terrain = network.encoder.get_submodule("encoder_s2.ubarn.encoder_dem")
    terrain.register_forward_hook(lambda _, given, made: calls.append(made.shape))
    Objective(auxiliary=True)(network, aux_batch())
    assert calls == [(2, 64, SIZE, SIZE)]


def test_padding_changes_nothing() -> None:
    given = aux_batch()
    views = {}
    for key, view in given.views.items():
        longer = view.each(lambda x: torch.cat([x, torch.zeros_like(x[:, :1])], dim=1))
        longer.padded[:, -1] = True
        views[key] = longer
    with torch.no_grad():
        one, other = (
            numbers(Objective(auxiliary=True)(model().train(), variant)[0])
            for variant in (given, replace(given, views=views))
        )
    assert one == pytest.approx(other, rel=1e-4)


def test_a_batch_without_surroundings_is_refused() -> None:
    network, given = model().eval(), aux_batch()
    without = {key: replace(view, weather=None) for key, view in given.views.items()}
    for bad, told in ((replace(given, terrain=None), "terrain"), (replace(given, views=without), "weather")):
        with pytest.raises(ValueError, match=f"takes {told}"):
            Objective(auxiliary=True)(network, bad)


def test_module_says_what_it_is_and_comes_back() -> None:
    module = PretrainingModule(auxiliary=True, unet_lr=0.1)
    assert module.hparams["auxiliary"] is True
    assert module.hparams["statistics"]["s1"]["channels"] == list(AUX["s1"].channels)
    assert module.hparams["statistics"]["s2"]["med"] == list(AUX["s2"].med)
    again = PretrainingModule(**module.hparams)
    assert {name: x.shape for name, x in again.state_dict().items()} == {
        name: x.shape for name, x in module.state_dict().items()
    }
    assert again.model.decoder.get_parameter("proj_s2.weight").shape == (10, 64)
    optimizer = module.configure_optimizers()["optimizer"]
    slow = {id(parameter) for parameter in optimizer.param_groups[1]["params"]}
    terrain = module.model.encoder.get_submodule("encoder_s2.ubarn.encoder_dem")
    assert {id(parameter) for parameter in terrain.parameters()} <= slow
    counted = sum(len(group["params"]) for group in optimizer.param_groups)
    assert counted == sum(parameter.requires_grad for parameter in module.parameters())


# What weather is worth


def test_shuffled_weather_is_dealt_out_among_the_dates_of_a_sensor() -> None:
    given = aux_batch()
    other = shuffled(given, 3)
    for sensor in ("s2", "s1"):
        rows: list[Any] = []
        for one in (given, other):
            halves = [one.views[sensor + letter] for letter in "ab"]
            rows.append(np.concatenate([half.weather[~half.padded].numpy() for half in halves]))
        moved = (rows[0] != rows[1]).any(1)
        assert moved.sum() > len(moved) / 2
        order = [np.lexsort(part.T) for part in rows]
        np.testing.assert_array_equal(rows[0][order[0]], rows[1][order[1]])
    for key, view in other.views.items():
        assert torch.equal(view.images, given.views[key].images)
        assert torch.equal(view.angles, given.views[key].angles)
    again = shuffled(given, 3)
    assert all(torch.equal(again.views[key].weather, other.views[key].weather) for key in VIEWS)
    assert not all(torch.equal(shuffled(given, 4).views[key].weather, other.views[key].weather) for key in VIEWS)
    with pytest.raises(ValueError, match="no weather to shuffle"):
        shuffled(batch(), 3)


def told_by_weather() -> Batch:
    """Two places that differ in the weather of half a, and in how bright half b is; one date a view."""
    whole = aux_batch()
    assert whole.terrain is not None
    views = {key: view.each(lambda x: x[:1, :1].repeat(2, *[1] * (x.ndim - 1))) for key, view in whole.views.items()}
    views["s2b"].images[0] *= 0.5
    views["s2b"].images[1] *= 1.5
    spread = np.repeat(np.subtract(AUX_WEATHER.qmax, AUX_WEATHER.qmin), 6).astype(np.float32)
    dry = torch.from_numpy(np.repeat(np.float32(AUX_WEATHER.med), 6) - 0.3 * spread)
    for key, view in views.items():
        assert view.weather is not None
        view.weather[:] = dry
        if key == "s2a":
            view.weather[1] = dry + torch.from_numpy(0.6 * spread)
    return Batch(views, whole.names, whole.terrain[:1].repeat(2, 1, 1, 1))


def test_what_only_weather_tells_is_learned_and_lost_by_shuffling() -> None:
    given, network = told_by_weather(), model().train()
    objective = Objective(auxiliary=True, w_inv=0.0)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=2e-3)
    history = []
    for _ in range(40):
        result, _ = objective(network, given)
        optimizer.zero_grad()
        result.same["s2b"].backward()
        optimizer.step()
        history.append(result.same["s2b"].item())
        if history[-1] < history[0] / 20:
            break
    with torch.no_grad():
        true = objective(network, given)[0].same["s2b"].item()
        losses = [objective(network, shuffled(given, seed))[0].same["s2b"].item() for seed in range(6)]
    assert true < history[0] / 10, history
    assert np.mean(losses) > 2 * true, (losses, true)
