"""Embeds some pixels of an area with a torch encoder, as ``malice_core.embed`` does with a model's graphs.

For labelled pixels: scores as pre-training goes, and fine-tuning. Dates go through the U-Net one by one, so that
memory does not grow with the images.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malice_core.bands import DATE_ORIGIN
from malice_core.features import mirror_source, mirrored
from malice_core.grid import Window
from malice_core.stack import Stack
from malice_core.training.batch import View
from malice_core.training.malice import MaliceEncoder, UBarn
from malice_core.training.normalise import Normalise
from malice_core.training.temporal import additive_mask

#: Pixels times dates of which the transformer computes at once.
CHUNK = 1 << 17


def read_view(stack: Stack, window: Window) -> View:
    """All dates of a window, mirrored beyond the images; B is 1."""
    read, rows, cols = mirror_source(window, stack.extent)
    images, masks = [], []
    for index in range(len(stack.observations)):
        values, observed = stack.read(index, read)
        images.append(torch.from_numpy(mirrored(values, rows, cols)))
        masks.append(torch.from_numpy(mirrored(observed, rows, cols)))
    days = torch.tensor([[(one.date - DATE_ORIGIN).days for one in stack.observations]])
    seen = torch.stack(masks)[None]
    return View(torch.stack(images)[None], days, torch.zeros_like(days, dtype=torch.bool), seen, seen)


@torch.no_grad()
def embed(
    encoders: MaliceEncoder, normalise: Normalise, sensor: str, view: View, wanted: NDArray[np.bool_], halo: int
) -> Tensor:
    """Embeds some pixels of a block, leaving out what was not observed, as ``malice_core.embed`` does.

    Args:
        encoders: in evaluation mode.
        normalise: of the sensor.
        view: one place with all its dates, larger than the block by ``halo`` on all sides; on any device.
        wanted: (H, W) of the block.
        halo: pixels; 0: beyond its edge the network reflects.

    Returns:
        (N, 640), row by row of the block.
    """
    encoder = encoders.get_submodule(f"encoder_{sensor}").ubarn
    assert isinstance(encoder, UBarn)
    device = next(encoders.parameters()).device
    inside = slice(halo, -halo or None)
    pixels = torch.from_numpy(wanted).to(device)
    count = view.days.shape[1]
    tokens = torch.empty(int(pixels.sum()), count, 64, device=device)
    for t in range(count):
        date = view.each(lambda part: part[:, t : t + 1]).to(device)  # noqa: B023  called at once
        features = encoder.patch_encoding.hss_encoding(normalise(date)[0])[0, :, inside, inside]
        tokens[:, t] = features[:, pixels].T + encoder.patch_encoding.pe_encoding(date.days[0])
    valid = view.observed[0, :, inside, inside].to(device)[:, pixels].T
    some = max(1, CHUNK // count)
    parts = []
    for x, seen in zip(torch.split(tokens, some), torch.split(valid, some), strict=True):
        mask = additive_mask(seen)
        latent = encoders.common_temp_proj(encoder.temporal_encoder(x, mask), mask, sensor)
        # A pixel that was never observed has no embedding: zeros, at the same pixels for all weights.
        parts.append(torch.where(seen.any(1)[:, None], latent.flatten(1).float(), 0.0))
    return torch.cat(parts)
