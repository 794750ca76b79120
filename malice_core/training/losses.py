"""The losses of MALICE's pre-training, each a function.

All of them look through masks: what a mask excludes may be NaN and changes neither a loss nor a gradient, and a mean
over nothing is 0. They compute in float32, whatever autocast says. Source: MALICE (Kalinicheva, Dumeur, Inglada et
al.), ALISE (arXiv 2407.08448).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from malice_core.training.decoder import FrozenProjector

#: Of the published runs: window of the Lee filter and frame of the invariance loss, in pixels.
LEE_WINDOW, FRAME = 7, 3
#: Coefficient of variation of speckle, below which the Lee filter takes a window for uniform.
LEE_CU = 0.25
EPSILON = 1e-5


def masked_mse(predicted: Tensor, target: Tensor, mask: Tensor, keep: int = 0) -> Tensor:
    """Mean square difference where ``mask`` is True.

    Args:
        predicted, target, mask: shapes that broadcast to a common one, N dimensions; mask bool.
        keep: how many leading dimensions the result keeps.

    Returns:
        float32, the first ``keep`` dimensions; 0 where the mask leaves nothing.
    """
    difference = predicted.float() - target.float()
    # Before squaring: the gradient of a square at NaN is NaN, even times 0.
    squares = torch.where(mask, difference, 0.0).square()
    inner = tuple(range(keep, squares.ndim))
    count = mask.expand_as(squares).sum(inner)
    return squares.sum(inner) / count.clamp(min=1)


def lee(power: Tensor, observed: Tensor, window: int = LEE_WINDOW, cu: float = LEE_CU) -> Tensor:
    """Lee's filter: the mean where a window is uniform, the pixel where it is not.

    Window mean m and unbiased variance v are of observed pixels only; where all are, this is the published filter:
    c = √v / (m + 1e-5); w = max(0, 1 - cu² / c²) + 1e-5; result w·x + (1 - w)·m.

    Args:
        power: (N, C, H, W), linear.
        observed: (N, 1, H, W) bool.
        window: side in pixels, odd.
        cu: coefficient of variation of speckle.

    Returns:
        (N, C, H - window + 1, W - window + 1).
    """
    edge = window // 2
    share = F.avg_pool2d(observed.float(), window, 1).clamp(min=1.0 / window**2)
    x = torch.where(observed, power, 0.0)
    mean = F.avg_pool2d(x, window, 1) / share
    count = share * window**2
    # A window of one pixel has no variance: 0 makes it uniform.
    variance = (F.avg_pool2d(x * x, window, 1) / share - mean * mean).clamp(min=0.0) * count / (count - 1).clamp(min=1)
    weight = (1.0 - cu**2 * (mean + EPSILON).square() / variance).clamp(min=0.0) + EPSILON
    centre = x[..., edge : x.shape[-2] - edge, edge : x.shape[-1] - edge]
    return weight * centre + (1.0 - weight) * mean


@torch.no_grad()
def despeckled(images: Tensor, observed: Tensor, window: int = LEE_WINDOW) -> Tensor:
    """Sentinel-1's target: the Lee filter on exp(normalised logarithm), then the logarithm.

    Args:
        images: (B, T, C, H, W) normalised.
        observed: (B, T, H, W) bool.
        window: side in pixels, odd.

    Returns:
        (B, T, C, H - window + 1, W - window + 1): half a window is cropped on all sides.
    """
    with torch.autocast(images.device.type, enabled=False):
        smooth = lee(images.float().flatten(0, 1).exp(), observed.flatten(0, 1).unsqueeze(1), window)
        return smooth.log().view(*images.shape[:2], *smooth.shape[1:])


def crop(maps: Tensor, edge: int, rows: int) -> Tensor:
    """Without ``edge`` pixels on all sides; ``rows`` is the dimension of the rows, the columns follow."""
    for dim in (rows, rows + 1):
        maps = maps.narrow(dim, edge, maps.shape[dim] - 2 * edge)
    return maps


def project(
    projector: FrozenProjector, latents: Mapping[str, Tensor], seen: Mapping[str, Tensor], block_gradient: bool = False
) -> dict[str, Tensor]:
    """All latent tokens through the frozen projector, in one call: its batch statistics are of all views together.

    Args:
        projector: frozen; in training mode it takes batch statistics.
        latents: (2, B, H, W, 10, 64) of halves a and b, by sensor.
        seen: (2, B, H, W) bool, False where a view has no date and its latent no meaning, by sensor.
        block_gradient: compute without gradient, as the published runs did: the loss then trains nothing.

    Returns:
        (2, B, H, W, 10, 64) by sensor; 0 where not seen.
    """
    stacked = torch.stack(list(latents.values()))
    mask = torch.stack(list(seen.values()))
    # dtype and gradient of the result are those of the projection.
    tokens = stacked[mask].flatten(0, 1)
    result = torch.zeros_like(stacked)
    if len(tokens):
        with torch.set_grad_enabled(torch.is_grad_enabled() and not block_gradient):
            projected = projector(tokens.detach() if block_gradient else tokens)
        result = result.to(projected.dtype)
        result[mask] = projected.view(-1, *stacked.shape[-2:])
    return dict(zip(latents, result, strict=True))


def invariance(
    tokens: Mapping[str, Tensor], seen: Mapping[str, Tensor], same_mod_loss: bool = True, frame: int = FRAME
) -> Tensor:
    """How far views of one place lie apart.

    Args:
        tokens: (2, B, H, W, 10, 64) projected latent tokens of halves a and b, keys ``s2`` and ``s1``.
        seen: (2, B, H, W) bool, where a view has a date, same keys.
        same_mod_loss: whether the halves of one sensor are compared as well.
        frame: pixels left out on all sides.

    Returns:
        Scalar: mean of the mean square differences s1a-s2a, s1b-s2b and, with ``same_mod_loss``, s1a-s1b, s2a-s2b.
    """
    (s2, s1), (on2, on1) = (
        [crop(by_sensor[sensor], frame, rows=2) for sensor in ("s2", "s1")] for by_sensor in (tokens, seen)
    )
    pairs = [masked_mse(s1, s2, (on1 & on2)[..., None, None], keep=1)]
    if same_mod_loss:
        pairs += [masked_mse(x[0], x[1], (on[0] & on[1])[..., None, None])[None] for x, on in ((s1, on1), (s2, on2))]
    return torch.cat(pairs).mean()


def cosine(latents: Mapping[str, Tensor], seen: Mapping[str, Tensor], frame: int = FRAME) -> Tensor:
    """Cosine between a pixel's Sentinel-1 and Sentinel-2 embeddings of 640 numbers, mean over pixels.

    Args:
        latents: (2, B, H, W, 10, 64) by sensor.
        seen: (2, B, H, W) bool by sensor.
        frame: pixels left out on all sides.

    Returns:
        Scalar, without gradient; 0 where no pixel is seen by both.
    """
    s2, s1 = (crop(latents[sensor].detach().float().flatten(-2), frame, rows=2) for sensor in ("s2", "s1"))
    both = crop(seen["s2"] & seen["s1"], frame, rows=2)
    similar = torch.where(both, F.cosine_similarity(s2, s1, dim=-1), 0.0)
    return similar.sum() / both.sum().clamp(min=1)


def reconstruction(same: Tensor, cross: Tensor | None, w_cross: float = 0.0) -> Tensor:
    """The four views' reconstruction losses to one: (4,), (4,) -> sum of (1 - w_cross)·same + w_cross·cross over 8.

    Args:
        same, cross: mean square error of each view reconstructed from its own and from the other sensor.
        w_cross: weight of the other sensor; ``cross`` may be None where it is 0.
    """
    views = same if cross is None or w_cross == 0 else (1.0 - w_cross) * same + w_cross * cross
    return views.sum() / 8


def total(inv: Tensor, rec: Tensor, w_inv: float = 1.0, w_rec: float = 1.0) -> Tensor:
    """What is minimised: w_inv·inv + w_rec·rec."""
    return w_inv * inv + w_rec * rec
