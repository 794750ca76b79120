"""Physical values to network channels on the training device: ``features.Normaliser`` for whole views at once, and what
``surroundings.weather`` and ``surroundings.terrain`` call normalised."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from malice_core.cards import Modality
from malice_core.features import parts_of
from malice_core.store.statistics import LOG10_RANGE, LOG10_RATIO, Statistics
from malice_core.training.batch import View


class Scale(nn.Module):
    """Clips to [qmin, qmax], subtracts med and divides by (qmax - qmin); NaN becomes 0, the median's value.

    Args:
        statistics: a number for each channel.
        shape: of a channel's number beside the values, such as (-1, 1, 1) for those of images.
        times: each channel has so many neighbours with the same number.
    """

    med: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, statistics: Statistics | Modality, shape: tuple[int, ...], times: int = 1) -> None:
        super().__init__()
        # Not part of the state: checkpoints hold the network's tensors only.
        for name, values in (("med", statistics.med), ("low", statistics.qmin), ("high", statistics.qmax)):
            numbers = torch.tensor(values).repeat_interleave(times).view(shape)
            self.register_buffer(name, numbers, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """The same shape."""
        scaled = (values.clamp(self.low, self.high) - self.med) / (self.high - self.low)
        return torch.where(values.isnan(), 0.0, scaled)


class Normalise(nn.Module):
    """Turns the bands of one sensor into the channels of its network.

    Args:
        sensor: key of the sensor whose bands come in, in ``Sensor.bands`` order.
        statistics: channels, transform and statistics, of a model card or of ``store.statistics``.

    Attributes:
        bands: how many of the channels, the first ones, are made of bands; the others are angles.
    """

    def __init__(self, sensor: str, statistics: Statistics | Modality) -> None:
        super().__init__()
        self.scale = Scale(statistics, (-1, 1, 1))
        parts = parts_of(sensor, statistics)
        self.bands = len(parts)
        self._first = [part[0] for part in parts]
        self._ratios = [channel for channel, part in enumerate(parts) if len(part) == 2]
        self._divisors = [part[1] for part in parts if len(part) == 2]
        self._transform, self._angles = statistics.transform, len(parts) < len(statistics.channels)

    def forward(self, view: View) -> Tensor:
        """Network input.

        Args:
            view: T dates of B places, physical values.

        Returns:
            (B, T, channels, H, W) float32: clip to [qmin, qmax], minus med, over (qmax - qmin); 0, the median's
            value, where that is NaN and where nothing was observed.
        """
        values = view.images[:, :, self._first]
        if self._ratios:
            values[:, :, self._ratios] /= view.images[:, :, self._divisors]
        if self._transform == "ln":
            values = values.log()
        elif self._transform == "log10":
            values[:, :, self._ratios] += LOG10_RATIO
            values = values.clamp(*LOG10_RANGE).log10()
        if self._angles:
            if view.angles is None:
                raise ValueError("this network takes angles")
            angles = view.angles[..., None, None].expand(*view.angles.shape, *values.shape[3:])
            values = torch.cat([values, angles], dim=2)
        return torch.where(view.observed.unsqueeze(2), self.scale(values), 0.0)
