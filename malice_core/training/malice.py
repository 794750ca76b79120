"""MALICE: an encoder for each modality and, for pre-training, the decoder and the frozen projector.

Source: MALICE (Kalinicheva, Dumeur, Inglada et al.), which extends ALISE (arXiv 2407.08448); the spatial and temporal
encoder of one modality is U-BARN (doi 10.1109/JSTARS.2024.3358066). State dicts have the tensor names of the published
Lightning checkpoints: :class:`Malice` those below ``model.``, :class:`MaliceEncoder` those below ``model.encoder.``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from malice_core.training.decoder import FrozenProjector, MaliceDecoder
from malice_core.training.temporal import DateEncoding, TemporalEncoder, TemporalProjector, additive_mask
from malice_core.training.unet import UNet

#: Pixels times dates of which the transformer's inside is in memory at once where it is not kept.
CHUNK = 1 << 15
#: Rows and columns whose dates are encoded further, after the U-Net has seen all.
Part = tuple[slice, slice]
WHOLE: Part = (slice(None), slice(None))


class SpatialSpectralEncoding(nn.Module):
    """Holds the U-Net under its published name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.my_model = UNet(channels)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 64, H, W)"""
        return self.my_model(images)  # type: ignore[no-any-return]


class PatchEncoding(nn.Module):
    """Every date alone, plus the code of its date."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hss_encoding = SpatialSpectralEncoding(channels)
        self.pe_encoding = DateEncoding()

    def forward(self, images: Tensor, days: Tensor, padded: Tensor, part: Part = WHOLE) -> Tensor:
        """(B, T, C, H, W), (B, T), (B, T) bool -> (B·H'·W', T, 64), zeros where padded; H', W' of ``part``."""
        batch, dates = padded.shape
        given = ~padded
        if not given.any():
            # One image of nothing takes part, so that every parameter has a gradient (of 0) in every process.
            given = torch.zeros_like(padded).index_fill_(1, given.new_zeros(1, dtype=torch.long), True)
        # Padding neither costs time in the U-Net nor has a share in its batch statistics. Channels last is the order
        # convolutions run fastest in, and the order the transformer wants.
        features = self.hss_encoding(images[given].contiguous(memory_format=torch.channels_last))
        tokens = (
            features.permute(0, 2, 3, 1)[:, part[0], part[1]].flatten(1, 2) + self.pe_encoding(days[given])[:, None]
        )
        pixels: Tensor = tokens.new_zeros(batch, dates, *tokens.shape[1:])
        pixels[given] = tokens
        return pixels.transpose(1, 2).flatten(0, 1)


class UBarn(nn.Module):
    """Spatial-spectral-temporal encoder that keeps the dates."""

    #: Whether the transformer's inside is computed again for the gradient instead of kept.
    checkpointing = False

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.patch_encoding = PatchEncoding(channels)
        self.temporal_encoder = TemporalEncoder(dropout)

    def forward(self, images: Tensor, days: Tensor, padded: Tensor, mask: Tensor, part: Part = WHOLE) -> Tensor:
        """(B, T, C, H, W), (B, T), (B, T) bool, mask (B·H'·W', 1, 1, T) -> (B·H'·W', T, 64)"""
        pixels = self.patch_encoding(images, days, padded, part)
        if not (self.checkpointing and torch.is_grad_enabled()):
            return self.temporal_encoder(pixels, mask)  # type: ignore[no-any-return]
        some = max(1, CHUNK // pixels.shape[1])
        parts = zip(torch.split(pixels, some), torch.split(mask, some), strict=True)
        return torch.cat([checkpoint(self.temporal_encoder, *part, use_reentrant=False) for part in parts])


class ModalityEncoder(nn.Module):
    """The part of the encoder that one modality has to itself."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.ubarn = UBarn(channels, dropout)

    def forward(self, images: Tensor, days: Tensor, padded: Tensor, mask: Tensor, part: Part = WHOLE) -> Tensor:
        """(B, T, C, H, W), (B, T), (B, T) bool, mask (B·H'·W', 1, 1, T) -> (B·H'·W', T, 64)"""
        return self.ubarn(images, days, padded, mask, part)  # type: ignore[no-any-return]


class MaliceEncoder(nn.Module):
    """The encoders of all modalities.

    Args:
        channels: of the images of each sensor, such as ``{"s2": 10, "s1": 3}``.
        dropout: of the transformers, in training.
    """

    def __init__(self, channels: Mapping[str, int], dropout: float = 0.1) -> None:
        super().__init__()
        for sensor, count in channels.items():
            self.add_module(f"encoder_{sensor}", ModalityEncoder(count, dropout))
        self.common_temp_proj = TemporalProjector(tuple(channels))

    def forward(self, sensor: str, images: Tensor, days: Tensor, padded: Tensor, valid: Tensor | None = None) -> Tensor:
        """Embeds one modality.

        Args:
            sensor: ``s2`` or ``s1``.
            images: (B, T, C, H, W) normalised channels; missing observations are 0. H and W multiples of 8, at
                least 16.
            days: (B, T) days since 2014-03-03.
            padded: (B, T) bool, True where there is no date.
            valid: (B, T, H, W) bool, False where a pixel was not observed; ``None``: observed wherever not padded.

        Returns:
            (B, 10, 64, H, W). A padded or missing date changes nothing at its pixels; a pixel without any
            date gets finite, meaningless numbers.
        """
        return self.latents(sensor, images, days, padded, valid).permute(0, 3, 4, 1, 2)

    def latents(
        self,
        sensor: str,
        images: Tensor,
        days: Tensor,
        padded: Tensor,
        valid: Tensor | None = None,
        part: Part = WHOLE,
    ) -> Tensor:
        """As :meth:`forward`, in the order in which it is computed: (B, H', W', 10, 64), of the pixels in ``part``."""
        batch, dates, _, height, width = images.shape
        present = ~padded[:, :, None, None].expand(batch, dates, height, width)
        if valid is not None:
            present = present & valid
        present = present[:, :, part[0], part[1]]
        mask = additive_mask(present.permute(0, 2, 3, 1).flatten(0, 2))
        x = self.get_submodule(f"encoder_{sensor}")(images, days, padded, mask, part)
        latent: Tensor = self.common_temp_proj(x, mask, sensor)
        return latent.view(batch, *present.shape[2:], *latent.shape[1:])


class Malice(nn.Module):
    """What is pre-trained: encoders, decoder, and the frozen projector of the invariance loss.

    Args:
        channels: of the images of each sensor, such as ``{"s2": 10, "s1": 3}``.
        dropout: of the encoders' transformers, in training.
        checkpointing: compute the inside of the transformers again for the gradient instead of keeping it: the same
            numbers with a third of the memory, for a third more time.
    """

    def __init__(self, channels: Mapping[str, int], dropout: float = 0.1, checkpointing: bool = False) -> None:
        super().__init__()
        self.encoder = MaliceEncoder(channels, dropout)
        for module in self.encoder.modules():
            if isinstance(module, UBarn):
                module.checkpointing = checkpointing
        self.decoder = MaliceDecoder(channels)
        # The published checkpoints keep the projector beside the encoders; an encoder for use has none.
        self.encoder.add_module("projector_emb", FrozenProjector())

    @property
    def projector(self) -> FrozenProjector:
        """The frozen projector, ``encoder.projector_emb``."""
        projector = self.encoder.get_submodule("projector_emb")
        assert isinstance(projector, FrozenProjector)
        return projector
