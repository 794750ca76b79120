"""MALICE: an encoder for each modality and, for pre-training, the decoder and the frozen projector.

Source: MALICE (Kalinicheva, Dumeur, Inglada et al.), which extends ALISE (arXiv 2407.08448); the spatial and temporal
encoder of one modality is U-BARN (doi 10.1109/JSTARS.2024.3358066). MALICE Aux adds the weather of each date and the
terrain, see ``auxiliary.py``. State dicts have the tensor names of the published Lightning checkpoints: :class:`Malice`
those below ``model.``, :class:`MaliceEncoder` those below ``model.encoder.``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from malice_core.training.auxiliary import TERRAIN_CHANNELS, WEATHER_WIDTH, Surroundings, WeatherEncoder
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

    def __init__(self, channels: int, constants: int = 0) -> None:
        super().__init__()
        self.my_model = UNet(channels, constants)

    def forward(self, images: Tensor, constants: Tensor | None = None) -> Tensor:
        """(N, C, H, W), (N, K) -> (N, 64, H, W)"""
        return self.my_model(images, constants)  # type: ignore[no-any-return]


class PatchEncoding(nn.Module):
    """Every date alone, plus the code of its date."""

    def __init__(self, channels: int, constants: int = 0) -> None:
        super().__init__()
        self.hss_encoding = SpatialSpectralEncoding(channels, constants)
        self.pe_encoding = DateEncoding()

    def forward(
        self, images: Tensor, days: Tensor, padded: Tensor, part: Part = WHOLE, constants: Tensor | None = None
    ) -> Tensor:
        """(B, T, C, H, W), (B, T), (B, T) bool, (B, T, K) -> (B·H'·W', T, 64), 0 where padded; H', W' of ``part``."""
        batch, dates = padded.shape
        given = ~padded
        if not given.any():
            # One image of nothing takes part, so that every parameter has a gradient (of 0) in every process.
            given = torch.zeros_like(padded).index_fill_(1, given.new_zeros(1, dtype=torch.long), True)
        # Padding neither costs time in the U-Net nor has a share in its batch statistics. Channels last is the order
        # convolutions run fastest in, and the order the transformer wants.
        features = self.hss_encoding(
            images[given].contiguous(memory_format=torch.channels_last), None if constants is None else constants[given]
        )
        tokens = (
            features.permute(0, 2, 3, 1)[:, part[0], part[1]].flatten(1, 2) + self.pe_encoding(days[given])[:, None]
        )
        pixels: Tensor = tokens.new_zeros(batch, dates, *tokens.shape[1:])
        pixels[given] = tokens
        return pixels.transpose(1, 2).flatten(0, 1)


class UBarn(nn.Module):
    """Spatial-spectral-temporal encoder that keeps the dates.

    Args:
        channels: of the images.
        dropout: of the transformer.
        terrain: the terrain's U-Net, one for all modalities; with it, weather is encoded too.
    """

    #: Whether the transformer's inside is computed again for the gradient instead of kept.
    checkpointing = False

    def __init__(self, channels: int, dropout: float, terrain: SpatialSpectralEncoding | None = None) -> None:
        super().__init__()
        self.patch_encoding = PatchEncoding(channels, 0 if terrain is None else WEATHER_WIDTH)
        self.temporal_encoder = TemporalEncoder(dropout)
        if terrain is not None:
            self.encoder_meteo = WeatherEncoder()
            self.encoder_dem = terrain

    def forward(
        self,
        images: Tensor,
        days: Tensor,
        padded: Tensor,
        mask: Tensor,
        part: Part = WHOLE,
        surroundings: Surroundings | None = None,
    ) -> Tensor:
        """(B, T, C, H, W), (B, T), (B, T) bool, mask (B·H'·W', 1, 1, T) -> (B·H'·W', T, 64).

        With surroundings T is one more in mask and result: the terrain's token comes last.
        """
        if surroundings is None:
            pixels = self.patch_encoding(images, days, padded, part)
        else:
            pixels = self.patch_encoding(images, days, padded, part, self.encoder_meteo(surroundings.weather))
            token = surroundings.terrain[..., part[0], part[1]].permute(0, 2, 3, 1).flatten(0, 2)
            # Without the code of a date: it holds at all of them.
            pixels = torch.cat([pixels, token[:, None].to(pixels.dtype)], dim=1)
        if not (self.checkpointing and torch.is_grad_enabled()):
            return self.temporal_encoder(pixels, mask)  # type: ignore[no-any-return]
        count = max(1, CHUNK // pixels.shape[1])
        parts = zip(torch.split(pixels, count), torch.split(mask, count), strict=True)
        return torch.cat([checkpoint(self.temporal_encoder, *some, use_reentrant=False) for some in parts])


class ModalityEncoder(nn.Module):
    """Holds what one modality has to itself under its published name."""

    def __init__(self, channels: int, dropout: float, terrain: SpatialSpectralEncoding | None = None) -> None:
        super().__init__()
        self.ubarn = UBarn(channels, dropout, terrain)


class MaliceEncoder(nn.Module):
    """The encoders of all modalities.

    Args:
        channels: of the images of each sensor, such as ``{"s2": 10, "s1": 3}``; of MALICE Aux 16 and 4.
        dropout: of the transformers, in training.
        auxiliary: whether this is MALICE Aux, which also gets weather and terrain.
    """

    def __init__(self, channels: Mapping[str, int], dropout: float = 0.1, auxiliary: bool = False) -> None:
        super().__init__()
        # One terrain encoder, which every modality's state dict shows under its own name, as published.
        self._terrain = [SpatialSpectralEncoding(TERRAIN_CHANNELS)] if auxiliary else []
        for sensor, count in channels.items():
            self.add_module(f"encoder_{sensor}", ModalityEncoder(count, dropout, *self._terrain))
        self.common_temp_proj = TemporalProjector(tuple(channels))

    def ground(self, terrain: Tensor) -> Tensor:
        """Features of the terrain, which all dates and modalities of a place share: (B, 4, H, W) -> (B, 64, H, W).

        Raises:
            ValueError: if this is not MALICE Aux.
        """
        if not self._terrain:
            raise ValueError("this network takes no weather and no terrain: it is not MALICE Aux")
        features: Tensor = self._terrain[0](terrain)
        return features

    def surroundings(self, weather: Tensor, terrain: Tensor) -> Surroundings:
        """What MALICE Aux gets besides images.

        Args:
            weather: (B, T, 48) normalised, eight variables of six days.
            terrain: (B, 4, H, W) normalised.

        Raises:
            ValueError: if this is not MALICE Aux.
        """
        return Surroundings(weather, self.ground(terrain))

    def forward(
        self,
        sensor: str,
        images: Tensor,
        days: Tensor,
        padded: Tensor,
        valid: Tensor | None = None,
        surroundings: Surroundings | None = None,
    ) -> Tensor:
        """Embeds one modality.

        Args:
            sensor: ``s2`` or ``s1``.
            images: (B, T, C, H, W) normalised channels; missing observations are 0. H and W multiples of 8, at
                least 16.
            days: (B, T) days since 2014-03-03.
            padded: (B, T) bool, True where there is no date.
            valid: (B, T, H, W) bool, False where a pixel was not observed; ``None``: observed wherever not padded.
            surroundings: of the images, for MALICE Aux.

        Returns:
            (B, 10, 64, H, W). A padded or missing date changes nothing at its pixels; a pixel without any
            date gets finite, meaningless numbers.
        """
        return self.latents(sensor, images, days, padded, valid, WHOLE, surroundings).permute(0, 3, 4, 1, 2)

    def latents(
        self,
        sensor: str,
        images: Tensor,
        days: Tensor,
        padded: Tensor,
        valid: Tensor | None = None,
        part: Part = WHOLE,
        surroundings: Surroundings | None = None,
    ) -> Tensor:
        """As :meth:`forward`, in the order in which it is computed: (B, H', W', 10, 64), of the pixels in ``part``."""
        batch, dates, _, height, width = images.shape
        present = ~padded[:, :, None, None].expand(batch, dates, height, width)
        if valid is not None:
            present = present & valid
        present = present[:, :, part[0], part[1]]
        if bool(self._terrain) != (surroundings is not None):
            raise ValueError("MALICE Aux, and it alone, takes the surroundings of images")
        mask = additive_mask(present.permute(0, 2, 3, 1).flatten(0, 2))
        if surroundings is not None:
            mask = F.pad(mask, (0, 1))  # the terrain's token is never missing
        x = self.get_submodule(f"encoder_{sensor}.ubarn")(images, days, padded, mask, part, surroundings)
        latent: Tensor = self.common_temp_proj(x, mask, sensor)
        return latent.view(batch, *present.shape[2:], *latent.shape[1:])


class Malice(nn.Module):
    """What is pre-trained: encoders, decoder, and the frozen projector of the invariance loss.

    Args:
        channels: of the images of each sensor, such as ``{"s2": 10, "s1": 3}``.
        dropout: of the encoders' transformers, in training.
        checkpointing: compute the inside of the transformers again for the gradient instead of keeping it: the same
            numbers with a third of the memory, for a third more time.
        reconstructed: how many of them the decoder gives back, the first ones, where not all; MALICE Aux' angles
            are no image.
        auxiliary: whether this is MALICE Aux.
    """

    def __init__(
        self,
        channels: Mapping[str, int],
        dropout: float = 0.1,
        checkpointing: bool = False,
        reconstructed: Mapping[str, int] | None = None,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = MaliceEncoder(channels, dropout, auxiliary)
        for module in self.encoder.modules():
            if isinstance(module, UBarn):
                module.checkpointing = checkpointing
        self.decoder = MaliceDecoder(reconstructed or channels)
        # The published checkpoints keep the projector beside the encoders; an encoder for use has none.
        self.encoder.add_module("projector_emb", FrozenProjector())

    @property
    def projector(self) -> FrozenProjector:
        """The frozen projector, ``encoder.projector_emb``."""
        projector = self.encoder.get_submodule("projector_emb")
        assert isinstance(projector, FrozenProjector)
        return projector
