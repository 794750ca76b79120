"""One Sentinel-1 GRD image of a landscape, VV and VH.

Vegetation over soil as in the water-cloud model (Attema and Ulaby 1978, Radio Sci. 13:357): a canopy that sends back
and attenuates, over soil that is brighter when wet or rough. Bare soil spans about 5 dB in VV with moisture (as Oh et
al. 1992 and field studies find for C band), falls by 3-4 dB when frozen; wet snow takes 3 dB. Speckle is gamma with 4.4
equivalent looks, the number of IW GRD of high resolution (Sentinel-1 product specification), and correlated between
neighbours, because 10 m pixels sample a resolution of about 20 m. Backscatter falls with incidence as a power of its
cosine (Ulaby, Moore and Fung 1982); of the slopes terrain flattening (Small 2011, IEEE TGRS 49:3081) leaves a little.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malice_core.simulation.crops import BUILDING, BY_CODE, GARDEN, WATER
from malice_core.simulation.noise import Floats, Image, Shape, blur, generator
from malice_core.simulation.phenology import state
from malice_core.simulation.scene import Landscape

#: Equivalent number of looks of the speckle.
LOOKS = 4.4
#: Weight of the neighbours in the filter of complex amplitude: intensities of neighbouring pixels correlate by 0.46.
CORRELATES = 0.26
#: Azimuth the radar looks to on an ascending pass, radians clockwise from north, of a first and a second orbit.
LOOK = (np.radians(78.0), np.radians(84.0))
#: Incidence that ``crops.py`` holds for, degrees; powers of its cosine in gamma0, of soil and of canopies in VV.
REFERENCE, SOIL_POWER, CANOPY_POWER = 38.0, 1.5, 0.45
#: Power of how a slope faces the radar that terrain flattening leaves, VV and VH.
LEFT = (0.35, 0.25)


def sentinel1(land: Landscape, day: int, second: bool, incidence: float = REFERENCE) -> NDArray[np.float32]:
    """One Sentinel-1 image.

    Args:
        day: 1 is 1 January of the landscape's year.
        second: taken from the second relative orbit.
        incidence: angle at the scene, degrees (gamma0 keeps a little of its effect).

    Returns:
        (2, H, W): VV and VH, linear gamma0; NaN where a slice ends short of the scene.
    """
    rng = generator(land.seed, 30 + second, land.year, day)
    table = _backscatter(land, day, second, incidence, rng)
    built = np.isin(land.labels, (BUILDING, GARDEN))
    # Houses and trees keep their place from date to date; fields have little of it.
    rugged = np.exp(np.where(built, np.float32(0.45), np.float32(0.06)) * land.texture)
    facing = np.clip(land.relief.facing(incidence, float(np.degrees(LOOK[second])) + 180), 0.3, 2.5)
    facing[land.labels == WATER] = 1
    image = np.empty((2, *land.shape), np.float32)
    for i in range(2):
        ground = table[i].astype(np.float32)[land.parcel] * (1 + np.float32(0.09) * land.growth) * rugged
        ground *= (1 + np.float32(0.06) * land.ground) * facing ** np.float32(LEFT[i])
        # About 20 m on the ground, in pixels of 10 m; then speckle of its own in each channel.
        power = blur(np.maximum(ground, np.float32(2e-4)), 0.22) * _speckle(rng, land.shape)
        # A fixed step far below the speckle hides last-bit differences between processors.
        image[i] = np.rint(np.clip(power, 2.0**-13, 30.0) * 2.0**20) / 2.0**20
    if rng.random() < 0.06:
        image[:, _slice_end(rng, land.shape)] = np.nan
    return image


def _speckle(rng: np.random.Generator, shape: Shape) -> Image:
    """(H, W) of mean 1 and variance 1 / LOOKS, correlated between neighbours.

    The mean of intensities of complex Gaussian amplitudes, each filtered as the processor's point spread does: four
    whole looks and a fifth of the weight w that makes (4 + w)^2 / (4 + w^2) equal to LOOKS.
    """
    fifth = (4 - np.sqrt(16 - (LOOKS - 1) * (4 * LOOKS - 16))) / (LOOKS - 1)
    total = np.zeros(shape, np.float32)
    for weight in (1.0, 1.0, 1.0, 1.0, fifth):
        for part in rng.standard_normal((2, shape[0] + 2, shape[1] + 2), dtype=np.float32):
            total += np.float32(weight) * blur(part, CORRELATES)[1:-1, 1:-1] ** 2
    power = 2 * (4 + fifth) * (2 * CORRELATES**2 + (1 - 2 * CORRELATES) ** 2) ** 2
    return total / np.float32(power)


def _backscatter(land: Landscape, day: int, second: bool, incidence: float, rng: np.random.Generator) -> Floats:
    """(2, P): VV and VH of every parcel, linear gamma0."""
    parcels, weather = land.parcels, land.weather
    now = state(land, day)
    frozen = weather.at(weather.frozen, day)
    wet = np.clip(weather.at(weather.top, day) * (0.8 + 0.4 * parcels.other), 0, 1) * (1 - 0.85 * frozen)
    # Rows across the look direction send more back, roofs and walls much more.
    turned = np.abs(np.cos(parcels.rows + LOOK[second])) ** 6
    slant = float(np.cos(np.radians(incidence)) / np.cos(np.radians(REFERENCE)))
    rough = parcels.rough * (0.8 + 0.5 * now.tilled)
    soil = rough * (0.038 + 0.128 * wet) * (1 + 0.3 * turned) * slant**SOIL_POWER
    soil = (1 - 0.85 * now.flood) * soil
    covers = [BY_CODE[int(code)] for code in now.code]
    vv, vh, lose_vv, lose_vh = np.array([cover.radar for cover in covers]).T
    # Rain or dew on leaves, and frozen twigs.
    damp = (1 + 0.12 * weather.at(weather.top, day)) * (1 - 0.35 * frozen)
    tone = 0.9 + 0.28 * parcels.mix
    built, water = now.code == BUILDING, now.code == WATER
    # Wall and ground make a corner: strong where it faces the radar, by house.
    corner = 0.25 + 2.6 * turned + 1.1 * parcels.mix**4
    canopy_vv = 1.14 * vv * tone * damp * np.where(built, corner, 1.0) * slant**CANOPY_POWER
    canopy_vh = 1.32 * vh * tone * damp * np.where(built, 0.6 + 0.5 * corner, 1.0)
    # Waves: the hour's wind is not the day's.
    wind = (weather.at(weather.air.wind, day) / 3.6) ** 1.6 * np.exp(0.5 * rng.standard_normal())
    canopy_vv, canopy_vh = (np.where(water, part * wind, part) for part in (canopy_vv, canopy_vh))
    ground = (soil, soil * (0.10 + 0.055 * np.clip(rough, 0, 2)))
    out = np.empty((2, len(covers)))
    for i, (full, lose, below) in enumerate(zip((canopy_vv, canopy_vh), (lose_vv, lose_vh), ground, strict=True)):
        through = np.exp(-lose * now.mass)
        out[i] = full * (1 - through) + below * through
    melting = weather.at(weather.snow, day) > 3 and weather.at(weather.air.temperature, day) > 0.5
    return out * np.where(built | water | (not melting), 1.0, 0.5)


def _slice_end(rng: np.random.Generator, shape: Shape) -> NDArray[np.bool_]:
    """(H, W): a strip at the southern edge."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width]
    return np.asarray(y - 0.19 * x > height * rng.uniform(0.75, 0.95) - 0.095 * width)
