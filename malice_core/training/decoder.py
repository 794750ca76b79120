"""What pre-training adds to the encoders: the decoder, and the projector of the invariance loss.

Source: MALICE (Kalinicheva, Dumeur, Inglada et al.), which extends ALISE (arXiv 2407.08448). Module names give the
tensor names of the published checkpoints below ``model.decoder.`` and ``model.encoder.projector_emb.``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from malice_core.training.temporal import QUERY_HEADS, SPREAD, WIDTH, DateEncoding

#: Period base of the decoder's date encoding (the encoder's is 10000), and width of a modality's learned vector.
BASE, MODALITY_WIDTH = 1000.0, 16


class QueryKeyLayers(nn.Module):
    """The projections of the decoder's attention; the attention itself is in :class:`MaliceDecoder`."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1_k = nn.Linear(WIDTH, QUERY_HEADS * WIDTH, bias=False)
        self.fc1_q = nn.Linear(WIDTH + MODALITY_WIDTH, QUERY_HEADS * WIDTH, bias=False)
        nn.init.normal_(self.fc1_k.weight, std=SPREAD)


class MetaDecoder(nn.Module):
    """Holds the attention's projections under their published name."""

    def __init__(self) -> None:
        super().__init__()
        self.cross_attn = QueryKeyLayers()


class MaliceDecoder(nn.Module):
    """Reconstructs the images of any dates of either sensor from the latent tokens of a pixel.

    Args:
        channels: of the images of each sensor, such as ``{"s2": 10, "s1": 3}``.
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.meta_decoder = MetaDecoder()
        self.pe_encoding = DateEncoding(WIDTH, BASE)
        for sensor, count in channels.items():
            query = torch.randn(MODALITY_WIDTH) * (2.0 / MODALITY_WIDTH) ** 0.5
            self.register_parameter(f"q_decod_{sensor}", nn.Parameter(query))
            self.add_module(f"proj_{sensor}", nn.Linear(WIDTH, count))

    def queries(self, sensor: str, days: Tensor) -> Tensor:
        """What asks for the images of dates: (B, T) days since 2014-03-03 -> (B, T, 2, 64)."""
        modality = self.get_parameter(f"q_decod_{sensor}").expand(*days.shape, -1)
        code = torch.cat([self.pe_encoding(days), modality], dim=-1)
        return self.meta_decoder.cross_attn.fc1_q(code).view(*days.shape, QUERY_HEADS, WIDTH)  # type: ignore[no-any-return]

    def forward(self, sensor: str, latents: Tensor, days: Tensor) -> Tensor:
        """Reconstructs one sensor's images at B places, from several latents of each.

        The published decoder computes, at every pixel, softmax(q·k/√64) over the tokens for each head, joins the
        heads' mixtures of token halves, and projects them linearly. Dates are few and pixels are many, so here the
        key layer moves to the queries and the last projection to the tokens: the same numbers for a third of the
        products.

        Args:
            sensor: ``s2`` or ``s1``.
            latents: (V, B, H, W, 10, 64), V latents of each place.
            days: (B, T) wanted dates, days since 2014-03-03.

        Returns:
            (V, B, H, W, C, T) normalised channels.
        """
        views, batch, height, width, tokens, _ = latents.shape
        dates = days.shape[1]
        key = self.meta_decoder.cross_attn.fc1_k.weight.view(QUERY_HEADS, WIDTH, WIDTH)
        asked = torch.einsum("bthd,hdc->bcht", self.queries(sensor, days) / WIDTH**0.5, key)
        # One product of (V·H·W·10, 64) and (64, 2·T) for each place.
        scores = latents.flatten(2, 4) @ asked.flatten(2).unsqueeze(0).to(latents.dtype)
        scores = scores.view(-1, tokens, QUERY_HEADS, dates)
        shares = scores.softmax(dim=1).flatten(1, 2)

        project = self.get_submodule(f"proj_{sensor}")
        assert isinstance(project, nn.Linear)
        half = WIDTH // QUERY_HEADS
        weight = project.weight.view(-1, QUERY_HEADS, half)
        values = torch.einsum("pkhd,chd->pckh", latents.reshape(-1, tokens, QUERY_HEADS, half), weight).flatten(2)
        images = torch.baddbmm(project.bias[:, None].to(values.dtype), values, shares.to(values.dtype))
        return images.view(views, batch, height, width, -1, dates)


class FrozenProjector(nn.Module):
    """Random projection in which the invariance loss compares latent tokens; its parameters are never trained.

    The gradient goes through it to the tokens. Its batch norm is on batch statistics in training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH, bias=False)
        )
        self.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, 64) -> (N, 64)"""
        return self.layers(tokens)  # type: ignore[no-any-return]
