"""The landscape: parcels, what is sown in them in which year, how they differ, and the weather over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malice_core.simulation.climate import FLANDERS, Region
from malice_core.simulation.crops import COVERS, WATERED
from malice_core.simulation.fields import divide
from malice_core.simulation.noise import Floats, Image, Shape, generator, noise
from malice_core.simulation.relief import Relief
from malice_core.simulation.weather import Weather, weather

#: Crop years known of a landscape, relative to its year: the stubble of January needs the one before, autumn the next.
SEASONS = (-1, 0, 1, 2)


@dataclass(frozen=True)
class Parcels:
    """What is the same all over a parcel; arrays (P,) or, where said, (4, P) with an entry a season of ``SEASONS``.

    Attributes:
        code: (4, P) cover codes. shift: (4, P) days it is late (negative: early). vigour: (4, P) factor of leaves.
        catch: (4, P) whether a catch crop follows that year's harvest.
        leaf: (3, P) factors of its leaves' chlorophyll, water and dry matter.
        soil: (6, P) weights of the soils of ``spectra.SOILS``. bright: factor of the soil's brightness.
        rough: factor of the soil's backscatter. rows: azimuth of rows or roofs, radians.
        watered: whether it is irrigated. mix, other: uniform numbers 0-1 for anything else that varies.
    """

    code: NDArray[np.uint8]
    shift: Floats
    vigour: Floats
    catch: NDArray[np.bool_]
    leaf: Floats
    soil: Floats
    bright: Floats
    rough: Floats
    rows: Floats
    watered: NDArray[np.bool_]
    mix: Floats
    other: Floats


@dataclass(frozen=True)
class Landscape:
    """A place over a year (and the autumn before, and the year after).

    Attributes:
        shape: (H, W) pixels of 10 m. seed, year, region: what it was made from.
        parcel: (H, W) int32, index into ``parcels``.
        growth, ground: (H, W) of about zero mean and unit deviation: patchiness inside parcels of the plants and of
            the soil. texture: (H, W), likewise, from pixel to pixel (crowns, houses).
        relief: elevation and slopes. weather: daily.
    """

    shape: Shape
    seed: int
    year: int
    region: Region
    parcel: NDArray[np.int32]
    parcels: Parcels
    growth: Image
    ground: Image
    texture: Image
    relief: Relief
    weather: Weather

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) cover codes of the scene's year."""
        return self.classes(0)

    def classes(self, season: int) -> NDArray[np.uint8]:
        """(H, W) cover codes of the harvest ``season`` years after the scene's year (-1 to 2)."""
        code: NDArray[np.uint8] = self.parcels.code[SEASONS.index(season)]
        return np.asarray(code[self.parcel], np.uint8)


def landscape(shape: Shape, seed: int, year: int, region: Region = FLANDERS) -> Landscape:
    """Makes the landscape of ``seed``; another year has other crops in the same fields, and other weather.

    Args:
        shape: (H, W) in pixels of 10 m.
    """
    division = divide(shape, seed, region)
    parcel, rows = division.parcel, division.rows
    count = len(division.code)
    rng = generator(seed, 2)
    # A soil of its own at every place, changing over some hundred metres.
    weights = np.array(region.soils)[:, None] * np.exp(0.9 * rng.standard_normal((len(region.soils), count)))
    pixels = np.bincount(parcel.ravel(), minlength=count)
    slow = noise(rng, shape, 60, 2).ravel()
    local = np.bincount(parcel.ravel(), slow, minlength=count) / np.maximum(pixels, 1)
    bright = np.exp(0.10 * rng.standard_normal(count) + 0.08 * local)
    seasons = [_season(division.code, seed, year + offset, region) for offset in SEASONS]
    parcels = Parcels(
        code=np.stack([season[0] for season in seasons]),
        shift=np.stack([season[1] for season in seasons]),
        vigour=np.stack([season[2] for season in seasons]),
        catch=np.stack([season[3] for season in seasons]),
        leaf=np.exp(np.array([0.12, 0.08, 0.10])[:, None] * rng.standard_normal((3, count))),
        soil=weights / weights.sum(axis=0),
        bright=np.clip(bright, 0.6, 1.5),
        rough=np.clip(np.exp(0.28 * rng.standard_normal(count)), 0.4, 2.2),
        rows=rows,
        watered=rng.random(count) < region.irrigated,
        mix=rng.random(count),
        other=rng.random(count),
    )
    fixed = generator(seed, 3)
    growth = 0.75 * noise(fixed, shape, 40, 4) + 0.66 * noise(generator(seed, 5, year), shape, 24, 3)
    ground = noise(fixed, shape, 70, 4)
    texture = fixed.standard_normal(shape, dtype=np.float32)
    return Landscape(
        shape, seed, year, region, parcel, parcels, growth.astype(np.float32), ground.astype(np.float32), texture,
        division.relief, weather(region, seed, year),
    )  # fmt: skip


def _season(
    fixed: NDArray[np.uint8], seed: int, year: int, region: Region
) -> tuple[NDArray[np.uint8], Floats, Floats, NDArray[np.bool_]]:
    """Crops of one harvest year: codes, shifts, vigour, catch crops, each (P,)."""
    place, rng = generator(seed, 6), generator(seed, 7, year)
    count = len(fixed)
    crops = [cover for cover in COVERS if cover.annual]
    share = np.array([cover.share * np.exp(-(((region.mean - cover.warm) / cover.width) ** 2)) for cover in crops])
    # Farmers of a place prefer some crops, whatever the climate allows.
    share = np.cumsum(share * np.exp(region.varied * place.standard_normal(len(crops))))
    pick = np.searchsorted(share / share[-1], rng.random(count), side="right")
    code = np.where(
        fixed == 0, np.array([cover.code for cover in crops], np.uint8)[np.minimum(pick, len(crops) - 1)], fixed
    )
    # Crops of one kind differ by a week or so from field to field, and by some days from place to place.
    offsets = 4.0 * generator(seed, 8, year).standard_normal(256)
    shift = np.clip(6.5 * rng.standard_normal(count) + offsets[code], -20, 20)
    vigour = np.clip(1.06 - 0.17 * np.abs(rng.standard_normal(count)), 0.4, 1.2)
    catch = rng.random(count) < place.uniform(0.15, 0.75)
    return code.astype(np.uint8), shift, vigour, catch


def watered(parcels: Parcels, code: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(P,): where the crop ``code`` (P,) is irrigated."""
    return parcels.watered & np.isin(code, WATERED)
