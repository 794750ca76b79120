"""The whole objective: against a computation pair by pair, its masks, its gradients, and that it can be learned."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers_models import published
from test_training_losses import lee_by_hand

from malice_core import bands, weights
from malice_core.errors import TrainingError
from malice_core.stack import discover
from malice_core.store.published import read

torch = pytest.importorskip("torch")
from malice_core.training.batch import VIEWS, Batch, View  # noqa: E402
from malice_core.training.malice import Malice  # noqa: E402
from malice_core.training.objective import Losses, Objective  # noqa: E402
from malice_core.training.temporal import Dropout  # noqa: E402

Array = npt.NDArray[Any]
CHANNELS = {"s2": 10, "s1": 3}
SIZE = 16


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def scene(sensor: str, days: list[int], rng: np.random.Generator) -> Array:
    """(T, bands, 16, 16) physical values: a few fields, each with its season."""
    field = np.kron(rng.integers(0, 4, (4, 4)), np.ones((4, 4), int))
    season = 0.5 + 0.5 * np.sin(np.array(days)[:, None] / 58.0 + np.arange(4))  # (T, 4 kinds of field)
    state = season[:, field][:, None]  # (T, 1, 16, 16)
    if sensor == "s2":
        level = np.linspace(500, 3000, 10).reshape(-1, 1, 1)
        return (level * (0.6 + 0.7 * state)).astype(np.float32)
    speckle = rng.gamma(8, 1 / 8, (len(days), 2, SIZE, SIZE))
    return (np.array([0.12, 0.025]).reshape(2, 1, 1) * (0.5 + state) * speckle).astype(np.float32)


def view(sensor: str, dates: list[list[int]], seed: int, cloudy: float = 0.2) -> View:
    """A view of as many places as there are lists of dates; their lengths may differ."""
    rng = np.random.default_rng(seed)
    count, longest = len(dates), max(len(days) for days in dates)
    images = np.zeros((count, longest, len(bands.SENSORS[sensor].bands), SIZE, SIZE), np.float32)
    when, padded = np.zeros((count, longest), np.int64), np.ones((count, longest), bool)
    for place, days in enumerate(dates):
        images[place, : len(days)], when[place, : len(days)] = scene(sensor, days, rng), days
        padded[place, : len(days)] = False
    observed = np.repeat(~padded, SIZE * SIZE).reshape(count, longest, SIZE, SIZE)
    clear = observed & (rng.random(observed.shape) >= (cloudy if sensor == "s2" else 0))
    return View(*(torch.from_numpy(array) for array in (images, when, padded, observed, clear)))


def batch() -> Batch:
    """Two places; the second has fewer dates, in s1b only one, which is s1a's as well."""
    return Batch(
        {
            "s2a": view("s2", [[1200, 1260, 1330], [1210, 1300]], 0),
            "s2b": view("s2", [[1230, 1290], [1220]], 1),
            "s1a": view("s1", [[1205, 1255], [1250]], 2),
            "s1b": view("s1", [[1233, 1301], [1250]], 3),
        },
        ("here", "there"),
    )


def difficult() -> Batch:
    """Everything at once: a place without Sentinel-1 in half b, a fully cloudy date, unobserved pixels with NaN."""
    given = batch()
    views = dict(given.views)
    views["s1b"] = replace(views["s1b"], padded=torch.tensor([[False, False], [True, True]]))
    for name in ("observed", "clear"):
        mask = getattr(views["s1b"], name).clone()
        mask[1] = False
        setattr(views["s1b"], name, mask)
    views["s2a"].clear[0, 1] = False
    for key in ("s2a", "s1a"):
        views[key].observed[0, 0, :5, :6] = False
        views[key].clear[0, 0, :5, :6] = False
        views[key].images[0, 0, :, :5, :6] = torch.nan
    views["s1b"].images[1] = torch.nan
    return Batch(views, given.names)


def model(seed: int = 0, dropout: float = 0.0) -> Malice:
    torch.manual_seed(seed)
    return Malice(CHANNELS, dropout)


def numbers(result: Losses) -> dict[str, float]:
    values = {name: getattr(result, name).item() for name in ("total", "inv", "rec", "cosine")}
    for name in ("same", "cross", "median"):
        values |= {f"{name}_{key}": value.item() for key, value in getattr(result, name).items()}
    return values


def by_hand(network: Malice, given: Batch, w_cross: float, encoder_mask: str) -> dict[str, float]:
    """The objective view by view in evaluation mode: every latent and every decoding in a call of its own, the
    losses in numpy."""
    objective = Objective()
    images, latents, on = {}, {}, {}
    for key, part in given.views.items():
        images[key] = objective.normalise[key[:2]](part)
        valid = {"padded": None, "observed": part.observed, "clear": part.clear}[encoder_mask]
        latents[key] = network.encoder(key[:2], images[key], part.days, part.padded, valid).permute(0, 3, 4, 1, 2)
        shown = (~part.padded)[:, :, None, None] & (part.observed | True if valid is None else valid)
        on[key] = shown.any(1).numpy()
    values: dict[str, float] = {}
    opposite = {"s2a": ("s2b", "s1a"), "s2b": ("s2a", "s1b"), "s1a": ("s1b", "s2a"), "s1b": ("s1a", "s2b")}
    for key, sources in opposite.items():
        target, mask, edge = images[key].double().numpy(), given.views[key].clear.numpy(), 0
        if key.startswith("s1"):
            edge = 3
            seen = given.views[key].observed.numpy()
            small = np.zeros((*target.shape[:3], SIZE - 6, SIZE - 6))
            for place, day, band in np.ndindex(*target.shape[:3]):
                if seen[place, day].any():
                    power = np.exp(target[place, day, band])
                    small[place, day, band] = np.log(lee_by_hand(power, seen[place, day], 7))
            target, mask = small, mask[:, :, 3:-3, 3:-3]
        for name, source in zip(("same", "cross"), sources, strict=True):
            got = network.decoder(key[:2], latents[source][None], given.views[key].days)[0]
            got = got.permute(0, 4, 3, 1, 2).double().numpy()[..., edge : SIZE - edge, edge : SIZE - edge]
            usable = mask & on[source][:, None, edge : SIZE - edge, edge : SIZE - edge]
            chosen = np.broadcast_to(usable[:, :, None], target.shape)
            values[f"{name}_{key}"] = np.mean((got - target)[chosen] ** 2) if chosen.any() else 0.0
        chosen = np.broadcast_to(mask[:, :, None], target.shape)
        values[f"median_{key}"] = np.mean(target[chosen] ** 2) if chosen.any() else 0.0
    projected = {key: network.projector(latent.flatten(0, 3)).view(latent.shape) for key, latent in latents.items()}
    pairs = []
    for a, b in (("s1a", "s2a"), ("s1b", "s2b"), ("s1a", "s1b"), ("s2a", "s2b")):
        difference = (projected[a] - projected[b]).double().numpy()[:, 3:-3, 3:-3]
        both = (on[a] & on[b])[:, 3:-3, 3:-3]
        pairs.append(np.mean(difference[both] ** 2) if both.any() else 0.0)
    values["inv"] = np.mean(pairs)
    values["rec"] = sum((1 - w_cross) * values[f"same_{key}"] + w_cross * values[f"cross_{key}"] for key in VIEWS) / 8
    values["total"] = 0.7 * values["inv"] + 1.3 * values["rec"]
    return values


@pytest.mark.parametrize("encoder_mask", ["padded", "observed", "clear"])
@pytest.mark.parametrize(("make", "w_cross"), [(batch, 0.0), (difficult, 0.0), (difficult, 0.3)])
def test_losses_are_those_of_each_pair_by_itself(make: Any, w_cross: float, encoder_mask: str) -> None:
    network, given = model().eval(), make()
    objective = Objective(w_inv=0.7, w_rec=1.3, w_cross=w_cross, encoder_mask=encoder_mask)
    with torch.no_grad():
        wanted = by_hand(network, given, w_cross, encoder_mask)
        result, _ = objective(network, given)
    got = numbers(result)
    assert got.pop("cosine") != 0
    assert got == pytest.approx(wanted, rel=2e-5, abs=1e-7)
    assert got["same_s2a"] > 0.01


def test_losses_and_gradients_stay_finite_whatever_is_missing() -> None:
    whole = batch()
    nothing = {key: replace(part, padded=torch.ones_like(part.padded)) for key, part in whole.views.items()}
    for part in nothing.values():
        part.observed, part.clear = torch.zeros_like(part.observed), torch.zeros_like(part.clear)
        part.images = torch.full_like(part.images, torch.nan)
    no_dates = {key: part.each(lambda x: x[:, :0]) for key, part in whole.views.items()}
    cloudy = {key: replace(part, clear=torch.zeros_like(part.clear)) for key, part in whole.views.items()}
    cases = {
        "difficult": difficult().views,
        "all padded": nothing,
        "empty": no_dates,
        "no s1": {**whole.views, "s1a": nothing["s1a"], "s1b": no_dates["s1b"]},
        "no half b": {**whole.views, "s1b": nothing["s1b"], "s2b": nothing["s2b"]},
        "cloudy": cloudy,
    }
    for name, views in cases.items():
        for w_cross in (0.0, 0.5):
            network = model().train()
            result, _ = Objective(w_cross=w_cross)(network, Batch(views, whole.names))
            result.total.backward()
            values = numbers(result)
            assert np.isfinite(list(values.values())).all(), (name, values)
            for parameter in network.parameters():
                assert parameter.grad is None or parameter.grad.isfinite().all(), name
            for buffer in network.buffers():
                assert buffer.isfinite().all(), name
            if name in ("all padded", "empty"):
                assert values["total"] == 0
            elif name == "cloudy":
                assert values["rec"] == 0
                assert values["inv"] > 0
            elif name == "no s1":
                assert values["same_s1a"] == values["cross_s2a"] if w_cross else True
                assert values["same_s2a"] > 0


def test_padding_and_masked_numbers_change_nothing_in_training() -> None:
    """Batch statistics included: what is not there has no share in them."""
    given = batch()
    views = {}
    for key, part in given.views.items():
        longer = part.each(lambda x: torch.cat([x, torch.zeros_like(x[:, :1])], dim=1))
        longer.padded[:, -1] = True
        longer.images[longer.padded] = torch.nan
        longer.days[longer.padded] = 99
        views[key] = longer
    results = []
    for variant in (given, Batch(views, given.names)):
        network = model().train()
        result, _ = Objective(w_cross=0.5)(network, variant)
        result.total.backward()
        gradient = network.encoder.get_parameter(
            "encoder_s1.ubarn.patch_encoding.hss_encoding.my_model.in_conv.conv.conv.0.weight"
        ).grad
        results.append((numbers(result), gradient))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-4)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-2, atol=1e-5)


def test_invariance_trains_the_encoders_unless_blocked() -> None:
    for block in (False, True):
        network = model().train()
        result, _ = Objective(w_rec=0.0, block_gradient=block)(network, batch())
        assert result.inv > 0.01
        result.total.backward()
        for sensor in CHANNELS:
            trained = network.encoder.get_submodule(f"encoder_{sensor}").parameters()
            size = sum(float(p.grad.abs().sum()) for p in trained if p.grad is not None)
            assert (size > 1e-3) is not block


def test_checkpointing_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("malice_core.training.malice.CHUNK", 1000)  # several pieces, the last one shorter
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        network = Malice(CHANNELS, 0.0, checkpointing).train()
        result, _ = Objective()(network, batch())
        result.total.backward()
        results.append((result.total.item(), [p.grad for p in network.parameters() if p.grad is not None]))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    for one, other in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_dropout_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout = Dropout(0.1).train()
    x = torch.ones(1003, 101)
    dropped = dropout(x)
    assert (dropped == 0).float().mean().item() == pytest.approx(0.1, abs=0.003)
    assert dropped.mean().item() == pytest.approx(1, abs=0.004)
    assert dropped.max().item() == pytest.approx(1 / 0.9, rel=1e-4)
    assert not dropout(x).equal(dropped)
    assert dropout.eval()(x) is x


def test_reconstructions_come_as_images() -> None:
    given = difficult()
    network = model().train()
    result, pictures = Objective()(network, given, images=True)
    assert set(pictures) == set(VIEWS) == set(result.cross)
    for key, part in pictures.items():
        dates, edge = given.views[key].padded.shape[1], 3 if key.startswith("s1") else 0
        shape = (2, dates, CHANNELS[key[:2]], SIZE - 2 * edge, SIZE - 2 * edge)
        assert part.true.shape == part.same.shape == part.cross.shape == shape
        assert part.mask.shape == (2, dates, *shape[-2:])
        squares = ((part.true - part.same) ** 2)[part.mask[:, :, None].expand(shape)]
        if key != "s1a":  # of which one place has no latent in half b
            assert squares.mean().item() == pytest.approx(result.same[key].item(), rel=1e-5)
    # Out of training the other sensor's reconstructions are computed at weight 0 too, for the log.
    result, none = Objective()(network.train(), given)
    assert none is None
    assert not result.cross


def test_wrong_options_are_named() -> None:
    for options, culprit in (
        ({"w_cross": 1.5}, "w_cross 1.5"),
        ({"lee_window": 4}, "lee_window 4"),
        ({"encoder_mask": "cloudy"}, "encoder_mask 'cloudy'"),
        ({"stride": 0}, "stride 0"),
    ):
        with pytest.raises(ValueError, match=culprit):
            Objective(**options)


def test_bfloat16_agrees_with_float32() -> None:
    results = []
    for enabled in (False, True):
        network = model().train()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            result, _ = Objective(w_cross=0.5)(network, difficult())
        assert result.total.dtype == torch.float32
        result.total.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
        results.append(numbers(result))
    assert results[1] == pytest.approx(results[0], rel=0.1, abs=0.02)
    # Targets are never rounded to bfloat16.
    assert results[1]["median_s1a"] == pytest.approx(results[0]["median_s1a"], rel=1e-6)


def test_one_small_batch_is_learned_by_heart() -> None:
    """The loss falls by 10 within 200 steps; the projector stays as it was. Without dropout, whose noise would stay."""
    network, given = model().train(), batch()
    frozen = {name: value.clone() for name, value in network.projector.named_parameters()}
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    objective, history = Objective(), []
    for _ in range(200):
        result, _ = objective(network, given)
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
        history.append(result.total.item())
        if history[-1] < history[0] / 10:
            break
    assert history[-1] < history[0] / 10, history[::20]
    assert all((value == frozen[name]).all() for name, value in network.projector.named_parameters())


# Lightning


def test_module_steps_logs_and_stops_at_nan() -> None:
    from lightning.pytorch import Trainer

    from malice_core.training.module import PretrainingModule

    module = PretrainingModule(dropout=0.0)
    assert module.hparams["lr"] == 1e-3
    assert module.hparams["statistics"]["s1"]["channels"] == ["VH", "VV", "VH/VV"]
    assert all(name.startswith(("model.encoder.", "model.decoder.")) for name in module.state_dict())
    again = PretrainingModule(**module.hparams)
    assert again.objective.normalise["s1"].low.equal(module.objective.normalise["s1"].low)
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = torch.utils.data.DataLoader([batch()], batch_size=None)
    trainer.fit(module, loader, loader)
    logged = trainer.callback_metrics
    for stage in ("train", "val"):
        for name in ("total_loss", "rec", "inv", "rec_vs_median", "cosine_s1_s2", "rec/s2a", "rec/s1b"):
            assert torch.isfinite(logged[f"{stage}/{name}"]), name
    assert "val/cross/s2a" in logged
    optimizer = trainer.optimizers[0]
    # Epoch 1 of a first cycle of two: half-way down the cosine.
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-3)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == sum(
        p.requires_grad for p in module.parameters()
    )
    with torch.no_grad():
        module.model.decoder.get_parameter("proj_s2.bias").fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"train step 1 .*here, there"):
        module.training_step(batch(), 0)


# Published encoders on real images


def load_published(network: Malice) -> None:
    """Folded weights into the torch encoders: their batch norms are set to cancel exactly what they divide by."""
    state = network.encoder.state_dict()
    for sensor, channels in CHANNELS.items():
        for name, array in read(published(sensor)).weights.items():
            key = {
                "temp_proj.Q": "common_temp_proj.Q",
                "temp_proj.fc1_k.weight": f"common_temp_proj.ca_{sensor}.fc1_k.weight",
            }.get(name, f"encoder_{sensor}.{name}")
            state[key] = torch.from_numpy(array)
        for name in weights.convolutions(channels):
            key = f"encoder_{sensor}.{weights.batch_norm_of(name)}.running_var"
            state[key] = torch.full_like(state[key], 1.0 - weights.EPSILON)
    network.encoder.load_state_dict(state)


def real_views(testdata: Path) -> dict[str, View]:
    """Two halves, each of every eighth date, of site_a in both sensors (64 x 64 pixels)."""
    site, views = testdata / "data" / "site_a", {}
    clouds = discover("scl", [site / "SCL"])
    lattice = window = None
    for sensor, folder in (("s2", "S2"), ("s1", "S1_10m")):
        catalog = discover(sensor, [site / folder])
        lattice = lattice or catalog.lattice()
        stack = catalog.on(lattice)
        scl = clouds.on(lattice)
        window = window or stack.extent
        for half, letter in enumerate("ab"):
            columns: list[list[Any]] = [[], [], [], []]
            for index in range(4 * half, len(stack.observations), 8):
                values, observed = stack.read(index, window)
                day: date = stack.observations[index].date
                clear = observed.copy()
                for other in range(len(scl.observations)):
                    if sensor == "s2" and scl.observations[other].date == day:
                        classes, known = scl.read(other, window)
                        clear &= ~(known & np.isin(classes[0], bands.CLOUD_CLASSES))
                for column, value in zip(
                    columns, (values, (day - bands.DATE_ORIGIN).days, observed, clear), strict=True
                ):
                    column.append(value)
            images, days, observed, clear = (torch.from_numpy(np.stack(column))[None] for column in columns)
            views[f"{sensor}{letter}"] = View(images, days, torch.zeros_like(days, dtype=torch.bool), observed, clear)
        stack.close()
    clouds.close()
    return views


def test_published_encoders_on_real_images(testdata: Path) -> None:
    network = model().eval()
    load_published(network)
    given = Batch(real_views(testdata), ("site_a",))
    with torch.no_grad():
        result, _ = Objective()(network, given)
    values = numbers(result)
    print({name: round(value, 4) for name, value in values.items()})
    print({key: tuple(part.images.shape) for key, part in given.views.items()})
    assert np.isfinite(list(values.values())).all()
    # What the published statistics make of these images has a spread of a fraction of 1.
    assert all(0.003 < values[f"median_{key}"] < 0.3 for key in VIEWS)
    # Sentinel-1 and Sentinel-2 embeddings of one place do not point the same way (measured elsewhere: 0.03).
    assert abs(values["cosine"]) < 0.15
