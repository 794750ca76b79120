"""What MALICE Aux knows besides images: the weather of each date, and the terrain.

Weather becomes 32 numbers a date that are the same over the image, and are joined to its channels before the U-Net; the
terrain becomes one more token of each pixel, through a U-Net of its own that all modalities share. Source: MALICE Aux
(Kalinicheva, Dumeur, Inglada et al.). Module names give the tensor names of the published checkpoints below
``encoder_meteo``; the terrain's U-Net is ``encoder_dem``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

#: Daily variables of AgERA5, and the days of each date: four before to one after.
VARIABLES, DAYS = 8, 6
#: Numbers a date that its weather becomes, and what is inside.
WEATHER_WIDTH, WEATHER_HIDDEN = 32, 64
#: Elevation, sine of slope, cosine and sine of aspect.
TERRAIN_CHANNELS = 4


@dataclass
class Surroundings:
    """Of B places with T dates, for one modality.

    Attributes:
        weather: (B, T, 48) normalised, variable by variable, the six days of each in order.
        terrain: (B, 64, H, W) features of the terrain, of ``MaliceEncoder.surroundings``.
    """

    weather: Tensor
    terrain: Tensor


class WeatherEncoder(nn.Module):
    """The weather of a date, one such module for each modality: (…, 48) -> (…, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(VARIABLES * DAYS, WEATHER_HIDDEN),
            nn.ReLU(),
            nn.Linear(WEATHER_HIDDEN, WEATHER_HIDDEN),
            nn.ReLU(),
            nn.Linear(WEATHER_HIDDEN, WEATHER_WIDTH),
            nn.ReLU(),
        )

    def forward(self, weather: Tensor) -> Tensor:
        """(…, 48) -> (…, 32)"""
        return self.encoder(weather)  # type: ignore[no-any-return]
