"""Clouds and their shadows, cirrus and haze on a date, and what sen2cor would say of them.

Clouds are thresholds of fractal noise (invented, but with the power-law look of cloud fields); shadows fall away from
the sun by the height of the cloud. The scene classes are derived from the same fields with the errors known of sen2cor
(missed thin cloud, bright ground taken for cloud, thin shadow missed, "unclassified"; see Skakun et al. 2022, Remote
Sens. Environ. 274:112990, for how often masks err); the error rates are invented.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malice_core.simulation.noise import Image, Shape, coarse, noise
from malice_core.simulation.solar import Sun


@dataclass(frozen=True)
class Sky:
    """The air over a scene, (H, W) each.

    Attributes:
        opacity: of clouds, 0-1. shadow: of them on the ground, 0-1. cirrus: opacity of high ice cloud, 0-1.
        haze: aerosol left after atmospheric correction; negative where too much was taken off.
    """

    opacity: Image
    shadow: Image
    cirrus: Image
    haze: Image


def sky(rng: np.random.Generator, shape: Shape, sun: Sun, cloud: float, haze: float) -> Sky:
    """The air of one date.

    Args:
        cloud: wanted share of cloud, 0-1. haze: mean aerosol of the region.
    """
    height, width = shape
    # Shadows fall from clouds towards the sun, ``down`` and ``right`` of a pixel, which can stand outside the scene.
    far = np.tan(np.radians(min(sun.zenith, 72.0))) * rng.uniform(60, 160)
    down, right = round(-far * np.cos(np.radians(sun.azimuth))), round(far * np.sin(np.radians(sun.azimuth)))
    if cloud <= 0:
        seen = behind = np.zeros(shape)
    else:
        field = noise(rng, (height + abs(down), width + abs(right)), rng.uniform(40, 130), 5)
        here, there = (
            tuple(
                slice(max(sign * step, 0), max(sign * step, 0) + side)
                for step, side in ((down, height), (right, width))
            )
            for sign in (-1, 1)
        )
        if cloud >= 1:
            depth = field - field.min() + 0.5
        else:  # the threshold is set on the scene itself, so that the wanted share comes out
            depth = np.maximum(field - np.quantile(field[here], 1 - cloud) + 0.02, 0)
        opacity = 1 - 1 / (1 + rng.uniform(2.0, 7) * depth) ** 2
        seen, behind = opacity[here], opacity[there]
    left = haze * float(rng.standard_gamma(0.8)) * 1.25 - 0.03 * float(rng.standard_gamma(1.0))
    air = left + (0.02 + 0.3 * abs(left)) * noise(rng, shape, 150, 2)
    thin = np.zeros(shape)
    if rng.random() < 0.22:
        streaks = noise(rng, shape, 120, 3)
        thin = np.minimum(rng.uniform(0.04, 0.2) * np.maximum(streaks + rng.uniform(-0.5, 1.0), 0), 0.5)
    parts = (seen, behind * (1 - seen), thin, air)
    return Sky(*(part.astype(np.float32) for part in parts))


def classify(
    rng: np.random.Generator, air: Sky, water: NDArray[np.bool_], image: NDArray[np.float32], snow: float
) -> NDArray[np.uint8]:
    """Scene classes as of sen2cor, (H, W).

    2 dark, 3 shadow, 4 vegetation, 5 bare, 6 water, 7 unclassified, 8 and 9 cloud, 10 cirrus, 11 snow.

    Args:
        water: (H, W) where water lies. image: (10, H, W) reflectance 0-1 as seen. snow: share of the ground under it.
    """
    shape = water.shape
    green, red, nir, swir = image[1], image[2], image[6], image[8]
    ndvi = (nir - red) / np.maximum(nir + red, 0.01)
    limit = rng.uniform(0.30, 0.42)
    scl = np.where(ndvi > limit, 4, 5)
    scl[(ndvi > limit - 0.12) & (ndvi <= limit) & (red > 0.04)] = 7
    scl[(nir < 0.13) & (red < 0.06) & ~water] = 2
    scl[water & (ndvi < 0.25) & (nir < 0.15)] = 6
    if snow > 0.05:
        scl[((green - swir) / np.maximum(green + swir, 0.01) > 0.42) & (green > 0.25)] = 11
    wavy = (0.05 * noise(rng, shape, 25, 2)).astype(np.float32)
    scl[coarse(air.shadow) > rng.uniform(0.4, 0.9) + wavy] = 3
    thick, high = coarse(air.opacity), coarse(air.cirrus)
    scl[high > rng.uniform(0.06, 0.25) + wavy] = 10
    medium = rng.uniform(0.11, 0.42)
    scl[(thick > 0.5 * medium) & (thick <= medium) & (scl != 3)] = 7
    scl[thick > medium + wavy] = 8
    scl[thick > rng.uniform(0.45, 0.72) + wavy] = 9
    # Bright roofs and dry soil are at times taken for cloud.
    if rng.random() < 0.5:
        scl[(coarse(image[0]) > rng.uniform(0.17, 0.26)) & (scl != 11) & (scl != 9)] = 8
    return scl.astype(np.uint8)
