"""What simulated satellites see of a simulated landscape on one date.

Sentinel-2: linear mixing of spectra, 20 m bands, haze, clouds with shadow, an edge of the swath, noise.
Sentinel-1: a water-cloud model (vegetation over soil, the soil brighter when wet), rows and walls that shine
towards one of the orbits, speckle.

The spectra and backscatter values are judgement: round numbers of the usual shape for each material, then fitted
so that quantiles of whole scenes fall where those of real scenes do (the reflectance and VV/VH quantiles the
published networks are normalised with, and a 118-date Belgian sample). They are no measurements. Speckle has 4.4
looks, the equivalent number usually given for Sentinel-1 GRD of high resolution, but no spatial correlation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from malice_core.bands import S2
from malice_core.simulation.scene import BUILDING, COVERS, WATER, Floats, Landscape, Shape, generator, noise, state

#: Reflectance x 10000 of pure materials, in the order of ``bands.S2``.
SPECTRA = {
    "soil": (760, 1030, 1330, 1580, 1720, 1850, 1980, 2120, 2850, 2420),
    "crop": (240, 600, 300, 950, 3200, 4250, 4500, 4700, 1950, 900),
    "broad": (300, 800, 400, 1250, 3900, 4900, 5200, 5350, 2350, 1150),
    "grass": (310, 720, 400, 1180, 3000, 3650, 3850, 4050, 2250, 1150),
    "leaves": (210, 470, 250, 780, 2750, 3550, 3750, 3950, 1650, 700),
    "needles": (170, 310, 200, 480, 1350, 1700, 1820, 1950, 850, 380),
    "twigs": (330, 460, 540, 820, 1150, 1350, 1500, 1700, 1800, 1150),
    "litter": (480, 700, 880, 1150, 1500, 1700, 1850, 2050, 2500, 1900),
    "straw": (800, 1150, 1600, 2000, 2450, 2700, 2900, 3100, 3750, 2650),
    "flower": (480, 1500, 1350, 2100, 3700, 4300, 4600, 4700, 2200, 1150),
    "water": (350, 420, 280, 240, 190, 175, 150, 140, 80, 55),
    "tiles": (700, 900, 1500, 1850, 2050, 2200, 2300, 2450, 2800, 2500),
    "grey": (1500, 1600, 1650, 1700, 1750, 1800, 1850, 1900, 1950, 1850),
    "asphalt": (850, 950, 1020, 1080, 1150, 1200, 1270, 1350, 1450, 1380),
}
_TABLE = {name: np.array(values, np.float64) for name, values in SPECTRA.items()}
_BANDS = len(S2.bands)
#: Bands delivered at 20 m.
COARSE = np.array([name in ("B05", "B06", "B07", "B8A", "B11", "B12") for name in S2.bands])
#: Path brightness of one unit of haze, and brightness of thick cloud, x 10000, by band.
HAZE = np.array((1000, 780, 640, 580, 510, 470, 430, 400, 160, 90), np.float64)
CLOUD = np.array((8600, 8200, 8000, 8150, 8250, 8350, 8450, 8250, 5300, 4200), np.float64)
#: Equivalent number of looks of the speckle.
LOOKS = 4.4
#: Degrees north, for the sun; the scene's coordinates are not asked.
LATITUDE = 50.8
#: Azimuths the radar looks to, radians clockwise from north, of the two ascending orbits.
LOOK = (np.radians(78.0), np.radians(84.0))


def sentinel2(land: Landscape, day: int, second: bool, cloud: float) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """One Sentinel-2 image.

    Args:
        day: of the year, 1-366.
        second: taken from the second relative orbit, whose swath ends near the scene.
        cloud: wanted share of cloud, 0-1.

    Returns:
        (10, H, W) reflectance x 10000, at least 1 where observed, 0 in all bands elsewhere; (H, W) scene class.
    """
    rng = generator(land.seed, 20, land.year, day)
    image = _ground(land, day)
    opacity, shadow, haze = _sky(rng, land.shape, day, cloud)
    for band in range(_BANDS):
        seen = image[band] * (1 - shadow * (0.62 if band < 8 else 0.52))
        seen += haze * (HAZE[band] - 0.08 * seen)
        top = CLOUD[band] * (0.85 + 0.25 * opacity)
        image[band] = seen + opacity * (top - seen)
        sigma = 7 + 0.012 * image[band]
        image[band] += sigma * rng.standard_normal(land.shape)
        if COARSE[band]:
            image[band] = _coarse(image[band])
    inside = _swath(rng, land.shape) if second else np.ones(land.shape, bool)
    dn = np.where(inside, np.clip(np.rint(image), 1, 20000), 0).astype(np.uint16)

    red, nir = image[2], image[6]
    green = (nir - red) / np.maximum(nir + red, 1) > 0.35
    scl = np.where(green, 4, 5)
    scl[(land.labels == WATER) & (nir < 1500)] = 6
    scl[_coarse(shadow) > 0.3] = 3
    scl[_coarse(haze) > 0.55] = 10
    thick = _coarse(opacity)
    scl[thick > 0.2] = 8
    scl[thick > 0.55] = 9
    return dn, np.where(inside, scl, 0).astype(np.uint8)


def sentinel1(land: Landscape, day: int, second: bool) -> NDArray[np.float32]:
    """One Sentinel-1 image.

    Args:
        day: of the year, 1-366.
        second: taken from the second relative orbit.

    Returns:
        (2, H, W): VV and VH, linear gamma0; NaN where a slice ends short of the scene.
    """
    rng = generator(land.seed, 30 + second, land.year, day)
    table = _backscatter(land, day, second, rng)
    image = np.empty((2, *land.shape), np.float32)
    for i in range(2):
        ground = table[i][land.parcel] * (1 + 0.10 * land.growth + 0.07 * land.ground)
        # About 20 m on the ground, in pixels of 10 m; then speckle of its own in each channel.
        power = _blur(np.maximum(ground, 2e-4), 0.25) * rng.standard_gamma(LOOKS, land.shape) / LOOKS
        # A fixed step far below the speckle hides last-bit differences between processors.
        image[i] = np.rint(np.clip(power, 2.0**-13, 30.0) * 2.0**20) / 2.0**20
    if rng.random() < 0.12:
        image[:, _slice_end(rng, land.shape)] = np.nan
    return image


def _ground(land: Landscape, day: int) -> Floats:
    """(10, H, W): reflectance x 10000 of the ground without air, seen by the sensor's optics."""
    parcels, wet = land.parcels, land.wetness[day]
    green, dry, flower, _ = state(land, day)
    count = len(parcels.code)
    soil, rest, plant = np.zeros((count, _BANDS)), np.zeros((count, _BANDS)), np.zeros((count, _BANDS))
    for cover in COVERS:
        mine = parcels.code == cover.code
        leaf, ground = _TABLE[cover.leaf], _TABLE[cover.ground]
        g, d, f = (part[mine, None] for part in (green, dry, flower))
        tone = parcels.mix[mine, None]
        darker = 1 - 0.42 * wet if cover.ground == "soil" else 1 - 0.12 * wet
        soil[mine] = (1 - g - d - f) * ground * darker * parcels.soil[mine, None]
        if cover.code == BUILDING:
            g, d = (g + d) * tone, (g + d) * (1 - tone)
        rest[mine] = g * leaf * (0.88 + 0.24 * tone) + d * _TABLE[cover.dry] + f * _TABLE["flower"]
        # Where plants do better, leaves replace ground; it shows most in half-closed stands.
        patchy = 0.16 if cover.share else 0.05
        plant[mine] = patchy * g * (1.25 - g) * (leaf - ground * darker) * (cover.code != WATER)
    # Tall stands cast shadow on themselves when the sun is low.
    low_sun = np.interp(np.degrees(_sun(day)), [30, 75], [0.0, 0.30])
    tall = np.isin(parcels.code, [cover.code for cover in COVERS if "wood" in cover.name or cover.code == BUILDING])
    dim = (1 - low_sun * tall)[:, None]
    soil, rest, plant = soil * dim, rest * dim, plant * dim
    image = np.empty((_BANDS, *land.shape))
    for band in range(_BANDS):
        mixed = soil[:, band][land.parcel] * (1 + 0.06 * land.ground) + rest[:, band][land.parcel]
        image[band] = _blur(np.maximum(mixed + plant[:, band][land.parcel] * land.growth, 20), 0.12)
    return image


def _sun(day: int) -> float:
    """Zenith angle of the sun half an hour before noon, radians."""
    latitude = np.radians(LATITUDE)
    height = np.radians(-23.44) * np.cos(2 * np.pi * (day + 10) / 365.25)
    hour = np.radians(-10.0)
    return float(
        np.arccos(np.sin(latitude) * np.sin(height) + np.cos(latitude) * np.cos(height) * np.cos(hour)),
    )


def _sky(rng: np.random.Generator, shape: Shape, day: int, cloud: float) -> tuple[Floats, Floats, Floats]:
    """Cloud opacity 0-1, shadow 0-1 and haze (about 0-1.5), each (H, W)."""
    height, width = shape
    # The sun stands in the south-south-east: shadows fall from clouds ``down`` and ``right`` of a pixel, which can
    # stand outside the scene.
    far = np.tan(min(_sun(day), np.radians(72))) * rng.uniform(60, 160)
    down, right = round(far * 0.94), round(far * 0.34)
    field = noise(rng, (height + down, width + right), rng.uniform(50, 130), 5)
    scene = slice(0, height), slice(0, width)
    if cloud <= 0:
        depth = np.zeros_like(field)
    elif cloud >= 1:
        depth = field - field.min() + 0.5
    else:  # the threshold is set on the scene itself, so that the wanted share comes out
        depth = np.maximum(field - np.quantile(field[scene], 1 - cloud) + 0.02, 0)
    opacity = 1 - 1 / (1 + rng.uniform(2.5, 7) * depth) ** 2
    behind = opacity[down:, right:]
    seen = opacity[scene]
    clear = 0.05 + 0.05 * float(rng.standard_gamma(1.0))
    haze = np.full(shape, clear) * (1 + 0.25 * noise(rng, shape, 150, 2))
    if rng.random() < 0.2:
        haze += 0.45 * np.maximum(noise(rng, shape, 120, 3) + 0.2, 0)
    return seen, behind * (1 - seen), np.maximum(haze, 0.0)


def _swath(rng: np.random.Generator, shape: Shape) -> NDArray[np.bool_]:
    """(H, W): what lies inside the swath; its eastern edge wanders by date and often misses the scene."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width]
    return np.asarray(x + 0.22 * y < width * rng.uniform(0.65, 1.7) + 0.11 * height)


def _slice_end(rng: np.random.Generator, shape: Shape) -> NDArray[np.bool_]:
    """(H, W): a strip at the southern edge."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width]
    return np.asarray(y - 0.19 * x > height * rng.uniform(0.75, 0.95) - 0.095 * width)


def _backscatter(land: Landscape, day: int, second: bool, rng: np.random.Generator) -> Floats:
    """(2, P): VV and VH of every parcel, linear gamma0."""
    parcels, wet = land.parcels, land.wetness[day]
    _, _, _, mass = state(land, day)
    # Rows across the look direction send more back, roofs and walls much more.
    facing = np.abs(np.cos(parcels.rows + LOOK[second])) ** 6
    soil_vv = parcels.rough * (0.040 + 0.135 * wet) * (1 + 0.35 * facing) * (1.06 if second else 0.94)
    out = np.empty((2, len(parcels.code)))
    for cover in COVERS:
        mine = parcels.code == cover.code
        vv, vh, lose_vv, lose_vh = cover.radar
        soil = {0: soil_vv[mine], 1: soil_vv[mine] * 0.13}
        for i, (full, lose) in enumerate(((vv, lose_vv), (vh, lose_vh))):
            through = np.exp(-lose * mass[mine])
            canopy = full * (0.98 + 0.28 * parcels.mix[mine]) * (1 + 0.12 * wet)
            out[i, mine] = canopy * (1 - through) + soil[i] * through
        if cover.code == BUILDING:
            # Wall and ground make a corner: strong where it faces the radar, by house.
            corner = 0.25 + 2.6 * facing[mine] + 1.1 * parcels.mix[mine] ** 4
            out[:, mine] *= np.stack([corner, 0.6 + 0.5 * corner])
        if cover.code == WATER:
            out[:, mine] *= np.exp(0.7 * rng.standard_normal())  # wind
    return out


def _blur(image: Floats, side: float) -> Floats:
    """Blurs (H, W) by the weights (side, 1 - 2 side, side) along both axes; edges repeat."""
    padded = np.pad(image, 1, mode="edge")
    rows = side * (padded[:-2] + padded[2:]) + (1 - 2 * side) * padded[1:-1]
    return side * (rows[:, :-2] + rows[:, 2:]) + (1 - 2 * side) * rows[:, 1:-1]


def _coarse(image: Floats) -> Floats:
    """(H, W) averaged over 2 x 2 pixels and repeated, as 20 m bands on the 10 m grid."""
    height, width = image.shape
    even = np.pad(image, ((0, height % 2), (0, width % 2)), mode="edge")
    mean = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    return np.repeat(np.repeat(mean, 2, axis=0), 2, axis=1)[:height, :width]
