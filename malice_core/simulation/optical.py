"""One Sentinel-2 L2A image of a landscape: ground, optics, air, sensor.

Borders mix by a point spread function of about 1.3 pixels; images of different dates lie up to 0.3 pixels apart (the
multitemporal registration of the mission's data quality reports); six bands are averaged to 20 m; noise is near
the signal-to-noise ratios of the instrument (Gascon et al. 2017, Remote Sens. 9:584) plus 1 % of texture. View and
sun directions change brightness by a few percent (Roy et al. 2017, Remote Sens. Environ. 199:25, for the size),
brighter with the sun behind the sensor. Slopes get light by the cosine law, bounded; part of it stays in the products.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from malice_core.bands import S2
from malice_core.simulation import spectra
from malice_core.simulation.crops import BUILDING, BY_CODE, TALL, WATER
from malice_core.simulation.noise import Floats, Image, Shape, blur, coarse, generator, wide
from malice_core.simulation.phenology import State, state
from malice_core.simulation.scene import Landscape
from malice_core.simulation.sky import classify, sky
from malice_core.simulation.solar import Sun, position

BANDS = len(S2.bands)
#: Bands delivered at 20 m.
COARSE = tuple(name in ("B05", "B06", "B07", "B8A", "B11", "B12") for name in S2.bands)
#: Path brightness of one unit of haze, brightness of thick cloud and of thin ice cloud, reflectance.
HAZE = np.array((0.100, 0.078, 0.064, 0.058, 0.051, 0.047, 0.043, 0.040, 0.016, 0.009))
CLOUD = np.array((0.86, 0.82, 0.80, 0.815, 0.825, 0.835, 0.845, 0.825, 0.53, 0.42))
CIRRUS = np.array((0.62, 0.60, 0.59, 0.59, 0.59, 0.59, 0.59, 0.58, 0.30, 0.22))
#: Share of the light on level ground that comes from the sun itself, on a clear day; what terrain correction leaves of
#: its effect on slopes.
DIRECT = np.array((0.68, 0.74, 0.79, 0.81, 0.83, 0.84, 0.85, 0.86, 0.94, 0.96))
LEFT = 0.6
#: Steps of green area at which parcels' reflectance is computed, relative; pixels lie between.
LESS, MORE = 0.55, 1.45


def sentinel2(
    land: Landscape,
    day: int,
    side: float,
    cloud: float,
    edge: bool = False,
    smooth: bool = False,
    sun: Sun | None = None,
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """One Sentinel-2 image.

    Args:
        day: 1 is 1 January of the landscape's year.
        side: what the view does to brightness: 1 with the sun behind the sensor (brighter), -1 against it.
        cloud: wanted share of cloud, 0-1.
        edge: whether the swath may end inside the scene.
        smooth: 20 m bands interpolated to 10 m instead of repeated.
        sun: where it stands; without it as 50 minutes before noon.

    Returns:
        (10, H, W) reflectance x 10000, at least 1 where observed, 0 in all bands elsewhere; (H, W) scene class.
    """
    rng = generator(land.seed, 20, land.year, day)
    if sun is None:
        sun = position(land.region.latitude, 0.0, datetime(land.year, 1, 1, 11, 10) + timedelta(days=day - 1))
    zenith = float(np.radians(sun.zenith))
    air = sky(rng, land.shape, sun, cloud, land.region.haze)
    moved = (float(rng.uniform(-0.07, 0.07)), float(rng.uniform(-0.07, 0.07)))
    tables, snow = _tables(land, day, zenith, side)
    image = np.empty((BANDS, *land.shape), np.float32)
    # What is left of the differences between dates: calibration, aerosol model, water vapour.
    gain = (1 + 0.035 * rng.standard_normal() + 0.025 * rng.standard_normal() * np.linspace(1, -1, BANDS)).astype(
        np.float32
    )
    dim = np.float32(0.62 if zenith < 1.0 else 0.55)
    water = land.labels == WATER
    texture = 1 + np.float32(0.02) * land.texture
    slopes = np.float32(LEFT) * (np.clip(land.relief.facing(*sun), 0.1, 2.2) - 1)
    slopes[water] = 0
    for band in range(BANDS):
        base, slope, bend, soil = (table[:, band][land.parcel] for table in tables)
        seen = base + land.growth * (slope + land.growth * bend) + soil * land.ground
        seen *= texture + np.float32(DIRECT[band]) * slopes
        seen = gain[band] * blur(np.maximum(seen, np.float32(0.002)), 0.12, moved)
        # Light scattered in from the neighbourhood, the more the hazier.
        seen += np.clip(0.10 + 0.3 * air.haze, 0.02, 0.4) * (wide(seen, 20) - seen) * np.float32(HAZE[band] / 0.1)
        seen *= 1 - air.shadow * dim * np.float32(1.0 if band < 8 else 0.85)
        seen += air.haze * (np.float32(HAZE[band]) - np.float32(0.1) * seen)
        seen += air.cirrus * (np.float32(CIRRUS[band]) - seen)
        seen += air.opacity * (np.float32(CLOUD[band]) * (0.85 + 0.25 * air.opacity) - seen)
        seen += (np.float32(0.0009) + np.float32(0.010) * seen) * rng.standard_normal(land.shape, dtype=np.float32)
        image[band] = coarse(seen, smooth) if COARSE[band] else seen
    scl = classify(rng, air, water, image, snow)
    inside = _swath(rng, land.shape) if edge else np.ones(land.shape, bool)
    dn = np.where(inside, np.clip(np.rint(image * np.float32(10000)), 1, 20000), 0).astype(np.uint16)
    return dn, np.where(inside, scl, 0).astype(np.uint8)


def _tables(land: Landscape, day: int, zenith: float, side: float) -> tuple[tuple[Image, ...], float]:
    """Reflectance of parcels, (P, 10): mean, first and second order in growth, soil's share; and snow cover 0-1."""
    now = state(land, day)
    soil = _soil(land, day, now)
    covers = [BY_CODE[int(code)] for code in now.code]
    chlorophyll, water, matter, structure = np.array([cover.leaf for cover in covers]).T
    factors = land.parcels.leaf
    albedo = spectra.leaf_albedo(
        chlorophyll * factors[0] * (1 - now.yellow) * (1 - 0.3 * now.stress),
        water * factors[1] * (1 - 0.35 * now.stress - 0.3 * now.yellow),
        matter * factors[2],
        0.25 * now.yellow**2,
    )
    # Crowns throw longer shadows under a low sun.
    tall = np.isin(now.code, TALL)
    structure = structure * (1 - 0.22 * tall * np.interp(np.degrees(zenith), [30, 75], [0, 1]))
    dry = _materials(land, day, [cover.dry for cover in covers])
    flower = np.stack([spectra.MATERIALS[cover.flower] for cover in covers])
    weathered = np.exp(-0.25 * land.weather.at(land.weather.top, day))
    d, f = now.dry[:, None], now.flower[:, None]

    def whole(factor: float) -> Floats:
        leaves = spectra.canopy(albedo, structure, soil, now.lai * factor)
        return np.asarray((1 - d - f) * leaves + d * dry * weathered + f * flower)

    less, mean, more = whole(LESS), whole(1.0), whole(MORE)
    # One unit of growth is 16 % of green area in fields; a parabola through three points serves all pixels.
    step = np.where([cover.annual for cover in covers], 0.17, 0.08)[:, None]
    slope = (more - less) / (MORE - LESS) * step
    bend = (more + less - 2 * mean) / 2 / (MORE - 1) ** 2 * step**2
    bare = np.exp(-1.1 * now.lai)[:, None] * (1 - d - f) * soil * 0.08
    snow = float(np.clip(land.weather.at(land.weather.snow, day) / 18, 0, 0.95))
    covered = snow * np.where(tall, 0.35, 0.95)[:, None] * (now.code != WATER)[:, None]
    light = _direction(zenith, side)
    tables = [light * ((1 - covered) * mean + covered * spectra.MATERIALS["snow"])]
    tables += [light * (1 - covered) * part for part in (slope, bend, bare)]
    return tuple(table.astype(np.float32) for table in tables), snow


def _direction(zenith: float, side: float) -> Floats:
    """(10,) factors of view and sun: up to 7 % brighter with the sun behind, dimmer under a low sun.

    1 is a view somewhat with the sun: the levels of ``spectra.py`` come out right for what satellites see on average.
    """
    visible = np.array((1.0, 1.0, 1.1, 0.95, 0.75, 0.7, 0.7, 0.7, 0.85, 0.95))
    return np.asarray(1 + visible * (0.075 * (side - 0.4) * np.sin(zenith) + 0.10 * (np.cos(zenith) - 0.7)))


def _soil(land: Landscape, day: int, now: State) -> Floats:
    """(P, 10) reflectance of what is under the plants."""
    parcels, top = land.parcels, land.weather.at(land.weather.top, day)
    dry = parcels.soil.T @ spectra.SOILS * (parcels.bright * (1 - 0.12 * now.tilled))[:, None]
    soil = spectra.wet(dry, np.clip(top * (0.75 + 0.5 * parcels.other), 0, 1))
    for name in {BY_CODE[int(code)].ground for code in np.unique(now.code)} - {"soil"}:
        mine = np.array([BY_CODE[int(code)].ground == name for code in now.code])
        soil[mine] = spectra.MATERIALS[name] * (parcels.bright[mine, None] * (1 - 0.15 * top))
    flooded = now.flood[:, None] * 0.9
    return np.asarray((1 - flooded) * soil + flooded * spectra.MATERIALS["turbid"])


def _materials(land: Landscape, day: int, names: list[str]) -> Floats:
    """(P, 10) reflectance of the named materials, with the parcel's own tone."""
    parcels = land.parcels
    out = np.stack([spectra.MATERIALS[name] for name in names])
    out *= (0.88 + 0.24 * parcels.other)[:, None]
    roofs = parcels.code[1] == BUILDING
    kinds = [spectra.MATERIALS[name] for name in ("tiles", "tiles", "grey", "dark", "dark", "white")]
    # A tenth of roofs is white, the rest tiles or something grey.
    pick = np.searchsorted([0.3, 0.42, 0.66, 0.8, 0.93], parcels.mix[roofs])
    out[roofs] = np.stack(kinds)[pick] * (0.8 + 0.4 * parcels.other[roofs])[:, None]
    lakes = parcels.code[1] == WATER
    muddy = np.clip(parcels.mix[lakes] * 0.6 + 0.4 * np.sin(0.07 * day + 6 * parcels.other[lakes]) * 0.5, 0, 1)[:, None]
    out[lakes] = (1 - muddy) * spectra.MATERIALS["water"] + muddy * spectra.MATERIALS["turbid"]
    return out


def _swath(rng: np.random.Generator, shape: Shape) -> NDArray[np.bool_]:
    """(H, W): what lies inside the swath; its eastern edge wanders by date and often misses the scene."""
    height, width = shape
    y, x = np.mgrid[0:height, 0:width]
    return np.asarray(x + 0.22 * y < width * rng.uniform(0.65, 1.7) + 0.11 * height)
