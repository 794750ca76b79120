"""Where training begins: as published, or with tokens that stand for seasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from malice_core.training import starting  # noqa: E402
from malice_core.training.malice import Malice  # noqa: E402
from malice_core.training.module import PretrainingModule  # noqa: E402
from malice_core.training.temporal import DateEncoding  # noqa: E402

CHANNELS = {"s2": 10, "s1": 3}


def network(how: str) -> Malice:
    torch.manual_seed(0)
    model = Malice(CHANNELS, dropout=0.0).eval()
    starting.start(model, how)
    return model


def shares(model: Malice, sensor: str, days: torch.Tensor) -> torch.Tensor:
    """(10, T): how much a date of a series has in each token, by what changes when its features change alone."""
    encoded = DateEncoding()(days)[None]
    mask = torch.zeros(1, 1, 1, len(days))
    x = torch.nn.functional.layer_norm(encoded, (64,)).requires_grad_()
    tokens = model.encoder.common_temp_proj(x, mask, sensor)[0]
    found = []
    for token in tokens:
        (gradient,) = torch.autograd.grad(token[63], x, retain_graph=True)
        # The values are the features themselves: the gradient of a channel that no key listens to is its share, give
        # or take what the rest of the keys does.
        found.append(gradient[0, :, 63])
    return torch.stack(found)


def test_both_date_encodings_have_the_season_pair() -> None:
    days = torch.arange(0, 6000)
    encoder, decoder = DateEncoding()(days), DateEncoding(64, 1000.0)(days)
    mine = encoder[:, starting.ENCODER_PAIR : starting.ENCODER_PAIR + 2]
    theirs = decoder[:, starting.DECODER_PAIR : starting.DECODER_PAIR + 2]
    assert torch.allclose(mine, theirs, atol=2e-4)
    # A period above a year: the days of one year are all different.
    turns = torch.atan2(mine[:, 0], mine[:, 1])
    period = 2 * np.pi / float((turns[1] - turns[0]) % (2 * np.pi))
    assert 366 < period < 500


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_tokens_begin_as_seasons(sensor: str) -> None:
    days = torch.arange(3000, 3366, 6)
    random, seasons = (shares(network(how), sensor, days).detach() for how in starting.STARTS)
    # Even: hardly more than 1/T for any date. Seasons: half of a token is of two months.
    assert random.max() < 3 / len(days)
    best = seasons.topk(10, dim=1).values.sum(1)
    assert (best > 0.5).all()
    middle = (seasons * days).sum(1) / seasons.sum(1)
    assert len({round(float(day) / 20) for day in middle}) >= 7


def test_the_decoder_asks_for_the_season_of_a_date() -> None:
    model = network("seasons")
    days = torch.arange(3000, 3366, 6)
    x = torch.nn.functional.layer_norm(DateEncoding()(days)[None], (64,))
    latents = model.encoder.common_temp_proj(x, torch.zeros(1, 1, 1, len(days)), "s2")[None, None, None]
    # It begins with the median; with a band that is a channel of the tokens, a date gets that of the dates around it.
    assert (model.decoder("s2", latents, days[None]) == 0).all()
    with torch.no_grad():
        model.decoder.proj_s2.weight[0, starting.ENCODER_PAIR] = 1.0
    told = model.decoder("s2", latents, days[None])[0, 0, 0, 0, 0].detach().numpy()
    assert np.corrcoef(told, x[0, :, starting.ENCODER_PAIR].numpy())[0, 1] > 0.95


def test_random_is_left_as_it_is_and_another_start_is_refused() -> None:
    torch.manual_seed(0)
    plain = Malice(CHANNELS, dropout=0.0).state_dict()
    assert all(torch.equal(plain[name], tensor) for name, tensor in network("random").state_dict().items())
    with pytest.raises(ValueError, match="start 'warm'"):
        starting.start(Malice(CHANNELS), "warm")


def test_rates_of_unets_and_of_the_first_steps() -> None:
    module = PretrainingModule(lr=0.01, unet_lr=0.1, warmup_steps=4, start="seasons")
    (optimizer,), _ = _configured(module)
    rates = {id(part): group["lr"] for group in optimizer.param_groups for part in group["params"]}
    named = {name: rates[id(part)] for name, part in module.model.named_parameters() if part.requires_grad}
    assert len(named) == len(rates)
    for name, rate in named.items():
        assert rate == pytest.approx(0.001 if ".hss_encoding." in name else 0.01), name
    # The first of four steps has a quarter of the rate, and the scheduler's rate stays as it was.
    stepped: list[list[float]] = []
    module.optimizer_step(0, 0, _Recorder(optimizer.param_groups, stepped))
    assert stepped == [[pytest.approx(0.0025), pytest.approx(0.00025)]]
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.001]


class _Recorder:
    """An optimiser that notes its rates instead of stepping."""

    def __init__(self, groups: list[dict[str, Any]], stepped: list[list[float]]) -> None:
        self.param_groups, self.stepped = groups, stepped

    def step(self, closure: Any = None) -> None:
        self.stepped.append([group["lr"] for group in self.param_groups])


def _configured(module: PretrainingModule) -> tuple[list[torch.optim.Optimizer], list[object]]:
    found = module.configure_optimizers()
    assert isinstance(found, dict)
    return [found["optimizer"]], [found["lr_scheduler"]]
