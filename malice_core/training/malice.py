"""MALICE's encoders: one for each modality and the temporal projector whose queries they share.

Source: MALICE (Kalinicheva, Dumeur, Inglada et al.), which extends ALISE (arXiv 2407.08448); the spatial and temporal
encoder of one modality is U-BARN (doi 10.1109/JSTARS.2024.3358066). The state dict has the tensor names of the
published Lightning checkpoints below ``model.encoder.``.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from malice_core.training.temporal import DateEncoding, TemporalEncoder, TemporalProjector, additive_mask
from malice_core.training.unet import UNet


class SpatialSpectralEncoding(nn.Module):
    """Holds the U-Net under its published name."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.my_model = UNet(channels)

    def forward(self, images: Tensor) -> Tensor:
        """(B, T, C, H, W) -> (B, T, 64, H, W)"""
        features: Tensor = self.my_model(images.flatten(0, 1))
        return features.view(*images.shape[:2], *features.shape[1:])


class PatchEncoding(nn.Module):
    """Every date alone, plus the code of its date."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hss_encoding = SpatialSpectralEncoding(channels)
        self.pe_encoding = DateEncoding()

    def forward(self, images: Tensor, days: Tensor) -> Tensor:
        """(B, T, C, H, W), (B, T) -> (B, T, 64, H, W)"""
        return self.hss_encoding(images) + self.pe_encoding(days)[..., None, None]  # type: ignore[no-any-return]


class UBarn(nn.Module):
    """Spatial-spectral-temporal encoder that keeps the dates."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.patch_encoding = PatchEncoding(channels)
        self.temporal_encoder = TemporalEncoder(dropout)

    def forward(self, images: Tensor, days: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C, H, W), (B, T), mask (B·H·W, 1, 1, T) -> (B·H·W, T, 64)"""
        x = self.patch_encoding(images, days)
        pixels = x.permute(0, 3, 4, 1, 2).flatten(0, 2)
        return self.temporal_encoder(pixels, mask)  # type: ignore[no-any-return]


class ModalityEncoder(nn.Module):
    """The part of the encoder that one modality has to itself."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.ubarn = UBarn(channels, dropout)

    def forward(self, images: Tensor, days: Tensor, mask: Tensor) -> Tensor:
        """(B, T, C, H, W), (B, T), mask (B·H·W, 1, 1, T) -> (B·H·W, T, 64)"""
        return self.ubarn(images, days, mask)  # type: ignore[no-any-return]


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
        batch, dates, _, height, width = images.shape
        present = ~padded[:, :, None, None].expand(batch, dates, height, width)
        if valid is not None:
            present = present & valid
        mask = additive_mask(present.permute(0, 2, 3, 1).flatten(0, 2))
        x = self.get_submodule(f"encoder_{sensor}")(images, days, mask)
        latent: Tensor = self.common_temp_proj(x, mask, sensor)
        return latent.view(batch, height, width, *latent.shape[1:]).permute(0, 3, 4, 1, 2)
