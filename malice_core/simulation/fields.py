"""Geometry: how the plane is divided into fields, woods, villages, roads, hedges and water.

Fields are cut out of the plane by slightly bent lines, as land was divided, with roads and hedges along some of the
cuts. Woods, heath and lakes are blobs of smooth noise laid over them, with their own borders; stands inside a wood
follow the old cuts. A stream winds through meadows; woods prefer slopes, lakes low ground. Field sizes are log-normal,
as found for European parcels (the medians drawn, 0.7 to 12 ha, span those reported for EU member states); the rest is
invention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malice_core.simulation.climate import Region
from malice_core.simulation.crops import (
    BROADLEAVED,
    BUILDING,
    CONIFEROUS,
    GARDEN,
    GREENHOUSE,
    HEATH,
    MEADOW,
    MIXED,
    OLIVES,
    ORCHARD,
    PASTURE,
    QUARRY,
    ROAD,
    VINEYARD,
    WATER,
    WETLAND,
)
from malice_core.simulation.noise import Floats, Shape, generator, noise
from malice_core.simulation.relief import Relief, relief

Index = NDArray[np.int32]


@dataclass(frozen=True)
class Division:
    """The plane in parcels.

    Attributes:
        parcel: (H, W) int32, which parcel a pixel belongs to.
        code: (P,) cover of each, 0 for fields that change their crop.
        rows: (P,) azimuth of rows or roofs, radians.
        relief: the ground.
    """

    parcel: Index
    code: NDArray[np.uint8]
    rows: Floats
    relief: Relief


def divide(shape: Shape, seed: int, region: Region) -> Division:
    """Cuts the plane of ``seed`` into parcels."""
    rng = generator(seed, 1)
    height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    # Bent a little, so that borders are not ruled lines.
    bend = min(7.0, 0.05 * min(shape))
    u = (x + bend * noise(rng, shape, 130) + 0.35 * noise(rng, shape, 6)).ravel()
    v = (y + bend * noise(rng, shape, 130) + 0.35 * noise(rng, shape, 6)).ravel()
    villages = _villages(rng, shape, region)
    stream = _stream(rng, shape).ravel() if region.stream else np.full(height * width, 1e9)
    ground = relief(shape, seed, region, stream.reshape(shape))
    parcel = np.zeros(height * width, np.int32)
    codes: list[int] = [ROAD, BROADLEAVED, WATER]  # parcel 0: all roads; 1: all hedges; 2: all streams
    azimuths: list[float] = [0.0, 0.0, 0.0]
    stack = [(np.arange(height * width), float(rng.uniform(0, np.pi)))]
    while stack:
        pixels, azimuth = stack.pop()
        if not len(pixels):
            continue
        pu, pv = u[pixels], v[pixels]
        centre_u, centre_v = pu.mean(), pv.mean()
        built = any((centre_u - cx) ** 2 + (centre_v - cy) ** 2 < radius**2 for cx, cy, radius in villages)
        target = region.field * np.exp(region.spread * rng.standard_normal())
        if built and len(pixels) < 3000:
            target = 9.0
        if len(pixels) <= target * 1.5:
            parcel[pixels] = len(codes)
            codes.append(_use(rng, built, float(stream[pixels].min()), region))
            azimuths.append(azimuth)
            continue
        along = pu * np.cos(azimuth) + pv * np.sin(azimuth)
        across = pv * np.cos(azimuth) - pu * np.sin(azimuth)
        # Across the longer side, so that parcels stay compact, or as long as the region likes its strips.
        small = len(pixels) < 12 * region.field and not built
        turned = np.ptp(across) * (region.strips if small else 1.0) > np.ptp(along)
        position = across if turned else along
        cut = position.min() + np.ptp(position) * rng.uniform(0.36, 0.64)
        line = np.abs(position - cut)
        if len(pixels) > 22000 or (built and 110 < len(pixels) < 3000):
            border, strip = 0, line < (0.75 if built else 0.95)
        elif not built and rng.random() < region.hedges:
            border, strip = 1, line < 0.8
        else:
            border, strip = 0, np.zeros(len(pixels), bool)
        parcel[pixels[strip]] = border
        for side in (position < cut, position >= cut):
            stack.append((pixels[side & ~strip], azimuth + 0.06 * rng.standard_normal()))
    code = np.array(codes, np.uint8)
    parcel, code, rows = _overlay(rng, region, ground, parcel, code, np.array(azimuths))
    roads = parcel == 0
    parcel[(stream < 2.2) & ~roads] = 2  # roads cross on bridges
    ponds = noise(rng, shape, min(45.0, 0.3 * min(shape)), 2).ravel()
    near = stream < 60
    if near.any():
        parcel[near & (ponds > max(1.75, float(np.quantile(ponds[near], 0.97)))) & ~roads] = 2
    return Division(parcel.reshape(shape), code, rows, ground)


def _overlay(
    rng: np.random.Generator, region: Region, ground: Relief, parcel: Index, code: NDArray[np.uint8], rows: Floats
) -> tuple[Index, NDArray[np.uint8], Floats]:
    """Lays woods, heath and lakes over the fields; each becomes parcels of its own."""
    shape = ground.height.shape
    side = min(shape)
    # What is steep is left to woods, the more so where there are real hills; water stands low. Weight, of what.
    steep = np.hypot(ground.east, ground.north).ravel().astype(np.float64)
    steep = (steep / max(float(steep.mean()), 1e-6) - 1) / 0.55
    likes = {"wood": (min(0.8, region.relief / 30), steep), "lake": (1.0, -ground.height.ravel().astype(np.float64))}
    village = np.isin(code, (BUILDING, GARDEN))[parcel] | (parcel == 0)
    kind = region.conifers * 1.1 + 0.9 * noise(rng, shape, max(0.6 * side, 8.0)).ravel()
    blobs = (("wood", region.woods, 90.0, 3), ("heath", region.heath, 70.0, 3), ("lake", region.lakes, 60.0, 2))
    for name, share, scale, octaves in blobs:
        field = noise(rng, shape, min(scale, 0.35 * side), octaves).ravel()
        if share <= 0:
            continue
        if name in likes:
            weight, place = likes[name]
            field = (field + weight * place) / np.hypot(1, weight)
        # A share of the whole scene where it is large, a matter of luck where it is small.
        level = float(np.quantile(field, 1 - share)) if side > 200 else _normal_quantile(1 - share)
        inside = (field > level) & ~village
        if not inside.any():
            continue
        old, index = np.unique(parcel[inside], return_inverse=True)
        first = len(code)
        if name == "wood":
            centre = np.bincount(index, kind[inside]) / np.bincount(index) + 0.6 * rng.standard_normal(len(old))
            new = np.where(centre > 0.55, CONIFEROUS, np.where(centre > 0.15, MIXED, BROADLEAVED))
        elif name == "heath":
            new = np.where(rng.random(len(old)) < 0.7, HEATH, WETLAND)
        else:
            new = np.full(len(old), WATER)
            shore = (field > level - 0.16) & ~inside & ~village
            parcel[shore] = first + len(old)
        parcel[inside] = first + index
        code = np.concatenate([code, new.astype(np.uint8), np.array([WETLAND], np.uint8)])
        rows = np.concatenate([rows, rows[old], [0.0]])
    return parcel, code, rows


def _normal_quantile(p: float) -> float:
    """Quantile of the standard normal distribution (Shore 1982's approximation, within 0.03)."""
    q = 1 - p if p > 0.5 else p
    z = 5.5556 * (1 - float((q / (1 - q)) ** 0.1186))
    return z if p > 0.5 else -z


def _use(rng: np.random.Generator, built: bool, stream: float, region: Region) -> int:
    """What a parcel is used for; 0: a field."""
    luck, other = rng.random(2)
    if built:
        return BUILDING if luck < 0.45 else GARDEN
    if stream < 12 and luck < 0.75:
        return MEADOW if luck < 0.45 else PASTURE
    if other < region.grass:
        return MEADOW if luck < 0.6 else PASTURE
    if other < region.grass + region.orchards:
        warm = region.mean + 2 * luck
        return OLIVES if warm > 16.5 else VINEYARD if warm > 12.3 else ORCHARD
    if other > 0.994:
        return QUARRY if luck < 0.4 else GREENHOUSE
    return 0


def _villages(rng: np.random.Generator, shape: Shape, region: Region) -> list[tuple[float, float, float]]:
    """(x, y, radius) in pixels of the built-up places."""
    height, width = shape
    wanted = region.towns * height * width / 160000
    count = max(1, round(wanted)) if region.towns == 1.0 and min(shape) > 200 else int(rng.poisson(max(wanted, 0.35)))
    size = 1.0 + 0.5 * (region.towns > 2)
    return [
        (
            float(width * rng.uniform(0.1, 0.9)),
            float(height * rng.uniform(0.1, 0.9)),
            size * float(min(rng.uniform(12 if region.towns < 1 else 28, 42), 0.3 * min(shape))),
        )
        for _ in range(min(count, 60))
    ]


def _stream(rng: np.random.Generator, shape: Shape) -> Floats:
    """(H, W): distance in pixels from a winding stream that crosses the scene."""
    height, width = shape
    side = min(shape)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    x += 0.09 * side * noise(rng, shape, 0.3 * side, 2)
    y += 0.09 * side * noise(rng, shape, 0.3 * side, 2)
    azimuth = rng.uniform(0, np.pi)
    offset = 0.22 * side * (1 if rng.random() < 0.5 else -1)
    return np.asarray(np.abs((x - width / 2) * np.sin(azimuth) - (y - height / 2) * np.cos(azimuth) - offset))
