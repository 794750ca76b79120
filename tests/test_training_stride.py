"""The objective at every so many-th pixel only."""

from __future__ import annotations

import pytest
from test_training_objective import SIZE, batch, model, numbers

torch = pytest.importorskip("torch")

from malice_core.training.losses import despeckled  # noqa: E402
from malice_core.training.objective import Objective  # noqa: E402


def test_with_a_stride_the_losses_are_means_over_a_lattice_of_pixels() -> None:
    network, given = model().train(), batch()
    for part in network.modules():
        # Batch statistics would be of both encoders' calls.
        if isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            part.eval()
    objective = Objective(w_rec=1.0, w_inv=1.0, stride=3)
    with torch.no_grad():
        whole = {sensor: Objective().encode(network, sensor, given) for sensor in ("s2", "s1")}
        torch.manual_seed(5)
        result, _ = objective(network, given)
        torch.manual_seed(5)
        rows, cols = objective._part(network, given)
    assert {rows.start, cols.start} <= {3, 4, 5}
    assert (rows.stop, rows.step) == (SIZE - 3, 3)
    # The same numbers out of all pixels' latents: a stride leaves out, and changes nothing of what stays.
    series = whole["s1"]
    target = despeckled(series.images, series.observed)
    predicted = network.decoder("s1", series.latents.roll(2, 0)[None], series.days)[0].permute(0, 4, 3, 1, 2)
    inside = (..., slice(rows.start - 3, rows.stop - 3, 3), slice(cols.start - 3, cols.stop - 3, 3))
    errors = (predicted.detach()[..., 3:-3, 3:-3] - target)[inside].square()
    mask = series.clear[..., 3:-3, 3:-3][inside].unsqueeze(2).expand_as(errors)
    for half, key in enumerate(("s1a", "s1b")):
        chosen = slice(2 * half, 2 * half + 2)
        assert result.same[key].item() == pytest.approx(errors[chosen][mask[chosen]].mean().item(), rel=1e-4)
    similar = torch.nn.functional.cosine_similarity(
        *(part.latents[:, rows, cols].flatten(-2) for part in whole.values()), dim=-1
    )
    assert result.cosine.item() == pytest.approx(similar.mean().item(), rel=1e-4)


def test_a_stride_is_for_training_only() -> None:
    network = model().eval()
    with torch.no_grad():
        one, many = (numbers(Objective(stride=stride)(network, batch())[0]) for stride in (1, 4))
    assert one == many
