"""The ground's elevation and slopes, and the light or microwaves that fall on them.

Fractal hills of a region's height, with a valley along the stream. How a slope faces the sun or a radar is the usual
cosine of the angle between its normal and the direction there (Teillet et al. 1982, Can. J. Remote Sens. 8:84).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from malice_core.simulation.climate import Region
from malice_core.simulation.noise import Floats, Image, Shape, generator, noise

#: Pixels by which the elevation model is larger than the images on each side, as models of a real place are.
MARGIN = 64
#: Side of a pixel, metres.
PIXEL = 10.0


@dataclass(frozen=True)
class Relief:
    """Terrain of a scene.

    Attributes:
        elevation: (H + 2 MARGIN, W + 2 MARGIN) metres above the sea, in steps of a centimetre.
        east, north: (H, W) metres it rises a metre eastwards and northwards.
        height: (H, W) of about zero mean and unit deviation over many scenes: high or low for the region.
    """

    elevation: Image
    east: Image
    north: Image
    height: Image

    def facing(self, zenith: float, azimuth: float) -> Image:
        """How much more a slope gets from a direction than level ground does, (H, W): the cosine of the angle between
        them over that of the zenith angle; negative where it looks away.

        Args:
            zenith, azimuth: of the direction, degrees, clockwise from north.
        """
        a, steep = np.radians(azimuth), np.tan(np.radians(min(zenith, 85.0)))
        up = 1 - self.east * np.float32(steep * np.sin(a)) - self.north * np.float32(steep * np.cos(a))
        return np.asarray(up / np.sqrt(1 + self.east**2 + self.north**2), np.float32)


def relief(shape: Shape, seed: int, region: Region, stream: Floats) -> Relief:
    """The terrain of ``seed``.

    Args:
        shape: (H, W) of the images, pixels.
        stream: (H, W) distance from the stream, pixels; infinite without one.
    """
    rng = generator(seed, 70)
    whole = (shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN)
    hills = noise(rng, whole, float(rng.uniform(90, 200)), 4)
    # The valley that the stream has cut, a few hundred metres wide.
    depth, wide = 0.5 + region.relief / 30, float(rng.uniform(14, 28))
    hills -= depth * np.exp(-((np.pad(stream, MARGIN, mode="edge") / wide) ** 2))
    elevation = np.rint(100 * (region.altitude + region.relief * hills)) / 100
    core = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    north, east = (np.gradient(elevation, PIXEL * sign, axis=axis)[core] for axis, sign in ((0, -1), (1, 1)))
    parts = (elevation, east, north, hills[core])
    return Relief(*(part.astype(np.float32) for part in parts))
