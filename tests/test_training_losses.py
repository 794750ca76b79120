"""Each loss, the decoder and the normalisation against independent numpy computations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from malice_core.bands import SENSORS
from malice_core.cards import Graph, Modality
from malice_core.features import Normaliser
from malice_core.store.statistics import AUX, MALICE, Statistics

torch = pytest.importorskip("torch")
from malice_core.training import losses  # noqa: E402
from malice_core.training.batch import View  # noqa: E402
from malice_core.training.decoder import FrozenProjector, MaliceDecoder  # noqa: E402
from malice_core.training.normalise import Normalise  # noqa: E402

Array = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


# Normalisation


@pytest.mark.parametrize("network", [MALICE, AUX])
@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_normalisation_is_the_engines(sensor: str, network: dict[str, Statistics]) -> None:
    rng = np.random.default_rng(0)
    shape = (2, 3, len(SENSORS[sensor].bands), 9, 8)
    top = 8000 if sensor == "s2" else 0.6
    images = (rng.random(shape) * top).astype(np.float32)
    images[0, 0, 0, 0, 0], images[0, 0, :, 1, 1], images[0, 1, 1, 2, 2] = np.nan, 0, -1
    observed = rng.random((2, 3, 9, 8)) > 0.2
    padded = np.array([[False, False, True], [False, False, False]])
    observed[padded] = False
    images *= observed[:, :, None]
    known, graph = network[sensor], Graph("a.onnx", "0" * 64)
    angles = rng.uniform(-1, 1, (2, 3, 6 if sensor == "s2" else 1)).astype(np.float32) if network is AUX else None
    card = Modality(
        known.channels, known.transform, known.med, known.qmin, known.qmax, graph, graph, (0.0,) * 64, (1.0,) * 64
    )
    wanted = np.stack(
        [
            [
                Normaliser(sensor, card)(images[b, t], observed[b, t], None if angles is None else angles[b, t])
                for t in range(3)
            ]
            for b in range(2)
        ]
    )
    given = (tensor(images), torch.zeros(2, 3), tensor(padded), tensor(observed), tensor(observed))
    view = View(*given, angles=None if angles is None else tensor(angles))
    for statistics in (known, card):
        got = Normalise(sensor, statistics)(view).numpy()
        assert got.dtype == np.float32
        if sensor == "s2":
            np.testing.assert_array_equal(got, wanted)
        else:  # numpy's and torch's logarithms differ in the last bit
            np.testing.assert_allclose(got, wanted, rtol=0, atol=5e-7)
    assert np.abs(wanted).max() > 0.3
    assert (wanted[0, 2] == 0).all()
    assert view.images.isnan().any(), "the batch itself is left as it was"


# Mean square errors


def test_masked_mse_is_the_mean_over_what_the_mask_leaves() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 2, 4, 3, 5)).astype(np.float32)
    mask = rng.random((2, 4, 1, 5)) > 0.5
    mask[1] = False
    a[0][~np.broadcast_to(mask[0], a[0].shape)] = np.nan
    b[1] = np.inf
    full = np.broadcast_to(mask, a.shape)
    leaf = tensor(a).requires_grad_()
    got = losses.masked_mse(leaf, tensor(b), tensor(mask), keep=1)
    np.testing.assert_allclose(got.detach(), [np.mean((a[0] - b[0])[full[0]] ** 2), 0.0], rtol=1e-6)
    got.sum().backward()
    # The second half of the batch is all masked: NaN and infinity there leave no trace.
    gradient = leaf.grad.numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[~full] == 0).all()
    expected = 2 * (a[0] - b[0]) / full[0].sum()
    np.testing.assert_allclose(gradient[0][full[0]], expected[full[0]], rtol=1e-5)


def test_masked_mse_over_nothing_is_zero_with_a_zero_gradient() -> None:
    leaf = torch.full((3, 0), 2.0).requires_grad_()
    assert losses.masked_mse(leaf, torch.zeros(3, 0), torch.ones(3, 0, dtype=torch.bool)) == 0
    leaf = torch.full((3, 2), torch.nan).requires_grad_()
    loss = losses.masked_mse(leaf, torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert (leaf.grad == 0).all()


@pytest.mark.parametrize("w_cross", [0.0, 0.25, 1.0])
def test_reconstructions_are_weighted_and_divided_by_eight(w_cross: float) -> None:
    same, cross = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([5.0, 7.0, 11.0, 13.0])
    wanted = sum((1 - w_cross) * s + w_cross * c for s, c in zip((1, 2, 3, 4), (5, 7, 11, 13), strict=True)) / 8
    assert losses.reconstruction(same, cross, w_cross).item() == pytest.approx(wanted)
    if w_cross == 0:
        assert losses.reconstruction(same, None).item() == pytest.approx(10 / 8)
    assert losses.total(torch.tensor(0.5), torch.tensor(2.0), 3.0, 0.25).item() == pytest.approx(2.0)


# Despeckling


def lee_by_hand(power: Array, observed: Array, window: int) -> Array:
    """Lee's filter of one band (H, W), pixel by pixel, in float64."""
    edge = window // 2
    out = np.empty((power.shape[0] - 2 * edge, power.shape[1] - 2 * edge))
    for row in range(out.shape[0]):
        for col in range(out.shape[1]):
            cut = slice(row, row + window), slice(col, col + window)
            values = power[cut][observed[cut]].astype(np.float64)
            m, v = values.mean(), values.var(ddof=1)
            c = np.sqrt(v) / (m + 1e-5)
            w = max(0.0, 1 - 0.25**2 / c**2) + 1e-5
            out[row, col] = w * power[row + edge, col + edge] + (1 - w) * m
    return out


def test_despeckled_is_lee_on_the_exponential() -> None:
    rng = np.random.default_rng(2)
    # From uniform to strongly structured: both branches of the filter.
    images = (rng.normal(0, 1, (2, 2, 3, 16, 18)) * np.linspace(0.02, 0.8, 18)).astype(np.float32)
    observed = np.ones((2, 2, 16, 18), bool)
    observed[1, 1, :5, :7] = False
    images[1, 1, :, :5, :7] = np.nan
    got = losses.despeckled(tensor(images), tensor(observed)).numpy()
    assert got.shape == (2, 2, 3, 10, 12)
    inside = observed[:, :, 3:-3, 3:-3]
    for place, date, band in np.ndindex(2, 2, 3):
        power = np.exp(images[place, date, band].astype(np.float64))
        wanted = np.log(lee_by_hand(power, observed[place, date], 7))
        seen = inside[place, date]
        np.testing.assert_allclose(got[place, date, band][seen], wanted[seen], atol=2e-5)
    left = np.abs(got[0, 0, 0] - images[0, 0, 0, 3:-3, 3:-3])
    assert left[:, 0].max() > 5 * got[0, 0, 0, :, 0].std(), "uniform ground is smoothed"


def test_despeckling_survives_constant_and_missing_windows() -> None:
    images = torch.zeros(1, 2, 3, 16, 16)
    images[0, 1] = torch.nan
    observed = torch.ones(1, 2, 16, 16, dtype=torch.bool)
    observed[0, 1] = False
    observed[0, 1, 8, 8] = True
    images[0, 1, :, 8, 8] = 1.5
    got = losses.despeckled(images, observed)
    np.testing.assert_allclose(got[0, 0], 0.0, atol=1e-6)
    np.testing.assert_allclose(got[0, 1, :, 5, 5], 1.5, atol=1e-6)


# Decoder


def decoded_by_hand(state: dict[str, Array], sensor: str, tokens: Array, day: float) -> Array:
    """The published formula for one pixel and one date, in float64 but for the angles: (10, 64) -> (C,)."""
    i = np.arange(64)
    angle = np.float32(day) / (1000.0 ** (2 * (i // 2) / 64)).astype(np.float32)
    query = np.concatenate([np.where(i % 2 == 0, np.sin(angle), np.cos(angle)), state[f"q_decod_{sensor}"]])
    q = (state["meta_decoder.cross_attn.fc1_q.weight"] @ query).reshape(2, 64)
    k = (tokens @ state["meta_decoder.cross_attn.fc1_k.weight"].T).reshape(10, 2, 64)
    heads = []
    for head in range(2):
        score = k[:, head] @ q[head] / 8.0
        share = np.exp(score - score.max())
        heads.append(share / share.sum() @ tokens[:, 32 * head : 32 * head + 32])
    return state[f"proj_{sensor}.weight"] @ np.concatenate(heads) + state[f"proj_{sensor}.bias"]


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_decoder_is_the_published_formula(sensor: str) -> None:
    torch.manual_seed(3)
    decoder = MaliceDecoder({"s2": 10, "s1": 3})
    state = {name: value.double().numpy() for name, value in decoder.state_dict().items()}
    latents = torch.randn(2, 2, 3, 4, 10, 64)
    days = torch.tensor([[1200, 1350, 4400], [7, 0, 900]])
    with torch.no_grad():
        got = decoder(sensor, latents, days).numpy()
    assert got.shape == (2, 2, 3, 4, 10 if sensor == "s2" else 3, 3)
    for view, place, row, col, date in np.ndindex(2, 2, 3, 4, 3):
        tokens = latents[view, place, row, col].double().numpy()
        wanted = decoded_by_hand(state, sensor, tokens, float(days[place, date]))
        np.testing.assert_allclose(got[view, place, row, col, :, date], wanted, atol=5e-6)
    assert got.std(axis=-1).mean() > 0.01, "dates differ"


# Invariance


def projected_by_hand(state: dict[str, Array], tokens: Array) -> Array:
    """(N, 64) through Linear, batch norm on the batch's statistics, ReLU, Linear, in float64."""
    x = tokens.astype(np.float64) @ state["layers.0.weight"].T + state["layers.0.bias"]
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * state["layers.1.weight"] + state["layers.1.bias"]
    return np.maximum(x, 0) @ state["layers.3.weight"].T


@pytest.mark.parametrize("same_mod_loss", [True, False])
def test_invariance_is_the_mean_over_pairs_of_views(same_mod_loss: bool) -> None:
    torch.manual_seed(4)
    rng = np.random.default_rng(4)
    projector = FrozenProjector().train()
    state = {name: value.double().numpy() for name, value in projector.state_dict().items()}
    arrays = {sensor: rng.normal(size=(2, 2, 9, 10, 10, 64)).astype(np.float32) for sensor in ("s2", "s1")}
    on = {sensor: np.ones((2, 2, 9, 10), bool) for sensor in arrays}
    on["s1"][1, 0] = False  # place 0 has no date in s1b
    on["s2"][0, 1, 4, 5] = False
    arrays["s1"][1, 0] = np.nan  # and its latent means nothing
    latents = {key: tensor(value) for key, value in arrays.items()}
    seen = {key: tensor(value) for key, value in on.items()}
    got = losses.invariance(losses.project(projector, latents, seen), seen, same_mod_loss)

    flat, mask = np.stack([arrays["s2"], arrays["s1"]]), np.stack([on["s2"], on["s1"]])
    projected = np.zeros(flat.shape)
    projected[mask] = projected_by_hand(state, flat[mask].reshape(-1, 64)).reshape(-1, 10, 64)
    pairs = [((1, 0), (0, 0)), ((1, 1), (0, 1))]
    if same_mod_loss:
        pairs += [((1, 0), (1, 1)), ((0, 0), (0, 1))]
    inside = np.zeros((9, 10), bool)
    inside[3:-3, 3:-3] = True
    values = [np.mean((projected[a] - projected[b])[mask[a] & mask[b] & inside] ** 2) for a, b in pairs]
    assert got.item() == pytest.approx(np.mean(values), rel=1e-5)


def test_the_gradient_passes_the_frozen_projector_unless_blocked() -> None:
    torch.manual_seed(5)
    projector = FrozenProjector().train()
    before = {name: value.clone() for name, value in projector.named_parameters()}
    assert before
    assert not any(parameter.requires_grad for parameter in projector.parameters())
    for block in (False, True):
        leaves = {sensor: torch.randn(2, 1, 8, 8, 10, 64, requires_grad=True) for sensor in ("s2", "s1")}
        seen = {sensor: torch.ones(2, 1, 8, 8, dtype=torch.bool) for sensor in leaves}
        loss = losses.invariance(losses.project(projector, leaves, seen, block), seen)
        assert loss > 0
        assert loss.requires_grad is not block
        if not block:
            loss.backward()
            for leaf in leaves.values():
                inside = leaf.grad[:, :, 3:-3, 3:-3].abs().amin(dim=(0, 1, 2, 3))
                assert (inside > 0).float().mean() > 0.9
    assert all((value == before[name]).all() for name, value in projector.named_parameters())
    assert projector.layers[1].num_batches_tracked == 2


def test_invariance_of_nothing_is_zero() -> None:
    projector = FrozenProjector().train()
    latents = {sensor: torch.full((2, 1, 8, 8, 10, 64), torch.nan, requires_grad=True) for sensor in ("s2", "s1")}
    seen = {sensor: torch.zeros(2, 1, 8, 8, dtype=torch.bool) for sensor in latents}
    assert losses.invariance(losses.project(projector, latents, seen), seen) == 0
    assert losses.cosine(latents, seen) == 0
    assert projector.layers[1].running_var.isfinite().all()


def test_cosine_is_of_whole_embeddings() -> None:
    rng = np.random.default_rng(6)
    s2, s1 = rng.normal(size=(2, 2, 1, 8, 9, 10, 64)).astype(np.float32)
    on = np.ones((2, 1, 8, 9), bool)
    on[0, 0, 4, 4] = False
    s1[0, 0, 4, 4] = np.nan
    a, b = s2[:, :, 3:-3, 3:-3].reshape(-1, 640), s1[:, :, 3:-3, 3:-3].reshape(-1, 640)
    values = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    seen = {"s2": torch.ones(2, 1, 8, 9, dtype=torch.bool), "s1": tensor(on)}
    got = losses.cosine({"s2": tensor(s2), "s1": tensor(s1)}, seen)
    assert got.item() == pytest.approx(np.nanmean(values), abs=1e-6)
