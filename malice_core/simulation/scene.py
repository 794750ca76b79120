"""The simulated landscape: what grows where, and what state it is in on a day.

Fields are cut out of the plane by straight lines, as land was divided, with roads and hedges along some of
the cuts; woods, a stream with meadows, ponds and villages are laid over them. Every kind of cover has a
calendar of key days; parcels follow it a little earlier or later and a little better or worse. What a sensor
makes of a state is not decided here, see ``simulate.py``.

All numbers in this file are judgement: typical western European practice (sowing, flowering, mowing, harvest),
chosen so that the images come out in the range of real ones. They are no measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Shape = tuple[int, int]

#: One key day of a calendar: day of year, then cover fractions 0-1 of green leaves, dry (straw, litter or bare
#: twigs) and flowers, then standing plant mass relative to the cover's own maximum (for the radar).
Key = tuple[int, float, float, float, float]


@dataclass(frozen=True)
class Cover:
    """One kind of land cover.

    Attributes:
        code: value in ``labels.tif``.
        name: for people and ``labels.csv``.
        colour: red, green, blue 0-255 of the label raster.
        leaf, dry: names of the spectra (``simulate.SPECTRA``) of its green and its dry part.
        ground: name of the spectrum where neither covers the ground.
        radar: VV and VH of the full canopy, linear gamma0, then attenuation of VV and VH by it (water-cloud
            model, two-way exponents).
        keys: the calendar, by day, from day 1 to day 366.
        share: relative share among fields; 0 for what is not sown in fields.
        mown: days of year on which it is cut.
    """

    code: int
    name: str
    colour: tuple[int, int, int]
    leaf: str
    dry: str
    ground: str
    radar: tuple[float, float, float, float]
    keys: tuple[Key, ...]
    share: float = 0.0
    mown: tuple[int, ...] = ()


def _always(green: float, dry: float, mass: float) -> tuple[Key, ...]:
    return (1, green, dry, 0.0, mass), (366, green, dry, 0.0, mass)


# fmt: off
COVERS = (
    Cover(1, "winter wheat", (222, 184, 90), "crop", "straw", "soil", (0.045, 0.016, 2.4, 1.3), (
        (1, .30, 0, 0, .10), (60, .36, 0, 0, .15), (95, .62, 0, 0, .30), (125, .95, 0, 0, .80), (158, .95, 0, 0, 1.0),
        (175, .75, .15, 0, .95), (193, .08, .82, 0, .70), (207, .03, .90, 0, .50), (210, .02, .48, 0, .05),
        (238, .09, .30, 0, .05), (245, 0, .06, 0, 0), (292, 0, .02, 0, 0), (322, .13, 0, 0, .03), (366, .28, 0, 0, .09),
    ), share=30),
    Cover(2, "winter barley", (240, 214, 140), "crop", "straw", "soil", (0.05, 0.017, 2.2, 1.3), (
        (1, .38, 0, 0, .12), (60, .42, 0, 0, .18), (88, .70, 0, 0, .40), (112, .96, 0, 0, .90), (140, .92, 0, 0, 1.0),
        (155, .60, .30, 0, .90), (172, .05, .85, 0, .60), (186, .02, .88, 0, .50), (189, .02, .45, 0, .05),
        (222, .05, .20, 0, .02), (245, .20, .05, 0, .10), (272, .82, 0, 0, .45), (322, .74, 0, 0, .50),
        (366, .42, .12, 0, .30),
    ), share=10),
    Cover(3, "rapeseed", (250, 230, 30), "crop", "straw", "soil", (0.15, 0.052, 2.0, 1.6), (
        (1, .58, 0, 0, .20), (60, .52, .05, 0, .20), (88, .78, 0, 0, .45), (106, .85, 0, .08, .70),
        (116, .40, 0, .58, .85), (131, .42, 0, .52, .90), (143, .85, 0, .08, 1.0), (168, .80, .08, 0, 1.0),
        (188, .15, .70, 0, .85), (201, .03, .85, 0, .70), (204, .03, .45, 0, .06), (230, .12, .25, 0, .05),
        (244, 0, .05, 0, 0), (275, .28, 0, 0, .06), (322, .70, 0, 0, .20), (366, .60, 0, 0, .20),
    ), share=8),
    Cover(4, "maize", (230, 130, 30), "crop", "straw", "soil", (0.17, 0.038, 1.8, 1.5), (
        (1, .06, .22, 0, .02), (95, .12, .15, 0, .02), (113, 0, .04, 0, 0), (142, .04, 0, 0, .01), (158, .2, 0, 0, .1),
        (175, .68, 0, 0, .40), (195, .95, 0, 0, .85), (248, .90, .03, 0, 1.0), (268, .55, .35, 0, .90),
        (281, .28, .58, 0, .80), (284, .01, .38, 0, .04), (305, .02, .20, 0, .02), (335, .10, .03, 0, .03),
        (366, .18, 0, 0, .05),
    ), share=18),
    Cover(5, "sugar beet", (190, 80, 160), "broad", "straw", "soil", (0.20, 0.048, 1.8, 1.6), (
        (1, .45, .10, 0, .20), (62, .30, .20, 0, .10), (78, 0, .06, 0, 0), (112, .02, 0, 0, 0), (140, .25, 0, 0, .12),
        (162, .80, 0, 0, .60), (180, .95, 0, 0, 1.0), (285, .88, .02, 0, 1.0), (314, .80, .05, 0, .95),
        (318, .10, .12, 0, .03), (366, .03, .04, 0, 0),
    ), share=9),
    Cover(6, "potato", (130, 60, 40), "broad", "straw", "soil", (0.21, 0.055, 1.7, 1.6), (
        (1, .25, .15, 0, .06), (82, .20, .12, 0, .05), (98, 0, .02, 0, 0), (138, .05, 0, 0, .02), (156, .55, 0, 0, .40),
        (172, .93, 0, 0, .95), (195, .93, 0, .03, 1.0), (228, .78, .10, 0, .80), (244, .25, .45, 0, .40),
        (258, .02, .25, 0, .08), (262, 0, .05, 0, 0), (288, .02, 0, 0, 0), (318, .28, 0, 0, .06), (366, .36, 0, 0, .10),
    ), share=9),
    Cover(7, "meadow", (120, 200, 90), "grass", "litter", "soil", (0.10, 0.022, 2.0, 1.6), (
        (1, .66, .22, 0, .35), (75, .72, .16, 0, .40), (105, .88, .06, 0, .60), (132, .95, .02, .02, .95),
        (200, .88, .07, 0, .70), (235, .85, .10, 0, .65), (300, .86, .08, 0, .60), (366, .68, .20, 0, .40),
    ), share=10, mown=(139, 186, 236, 278)),
    Cover(8, "pasture", (160, 220, 130), "grass", "litter", "soil", (0.095, 0.021, 2.0, 1.6), (
        (1, .62, .26, 0, .45), (80, .68, .20, 0, .45), (125, .90, .05, 0, .60), (185, .78, .15, 0, .55),
        (225, .66, .26, 0, .50), (270, .82, .10, 0, .55), (366, .64, .24, 0, .45),
    ), share=6),
    Cover(9, "broadleaved wood", (20, 120, 40), "leaves", "twigs", "litter", (0.145, 0.036, 3.0, 3.0), (
        (1, .14, .70, 0, .95), (96, .16, .68, 0, .95), (112, .50, .40, 0, 1.0), (130, .93, .05, 0, 1.0),
        (215, .90, .06, 0, 1.0), (272, .78, .16, 0, 1.0), (298, .48, .42, 0, .95), (318, .18, .66, 0, .95),
        (366, .14, .70, 0, .95),
    )),
    Cover(10, "coniferous wood", (0, 70, 50), "needles", "twigs", "litter", (0.115, 0.027, 3.0, 3.0),
          _always(.90, .06, 1.0)),
    Cover(11, "water", (40, 90, 200), "water", "water", "water", (0.012, 0.0014, 9.0, 9.0), _always(1, 0, 1.0)),
    Cover(12, "building", (200, 30, 40), "tiles", "grey", "asphalt", (0.42, 0.075, 9.0, 9.0), _always(.45, .35, 1.0)),
    Cover(13, "road", (90, 90, 90), "asphalt", "asphalt", "asphalt", (0.035, 0.006, 9.0, 9.0), _always(1, 0, 1.0)),
    Cover(14, "garden", (180, 200, 60), "grass", "leaves", "asphalt", (0.16, 0.035, 1.6, 1.6), (
        (1, .42, .12, 0, .8), (90, .46, .14, 0, .8), (130, .55, .30, 0, .9), (200, .48, .30, 0, .9),
        (270, .50, .28, 0, .9), (320, .44, .14, 0, .8), (366, .42, .12, 0, .8),
    )),
)
# fmt: on
BY_NAME = {cover.name: cover for cover in COVERS}
MEADOW, PASTURE = BY_NAME["meadow"].code, BY_NAME["pasture"].code
BROADLEAVED, CONIFEROUS = BY_NAME["broadleaved wood"].code, BY_NAME["coniferous wood"].code
WATER, BUILDING = BY_NAME["water"].code, BY_NAME["building"].code
ROAD, GARDEN = BY_NAME["road"].code, BY_NAME["garden"].code


def generator(*key: int) -> np.random.Generator:
    """The stream of random numbers of ``key``: the same on every machine, independent of all other keys."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def noise(rng: np.random.Generator, shape: Shape, scale: float, octaves: int = 1) -> Floats:
    """Smooth random field of about zero mean and unit standard deviation.

    Cubic B-splines over random knots: only sums and products, so that machines agree to the last bits.

    Args:
        shape: (H, W) in pixels.
        scale: distance of the knots in pixels; halves with each octave, as does the amplitude.

    Returns:
        (H, W) float64.
    """
    total, power = np.zeros(shape), 0.0
    for octave in range(octaves):
        step, gain = max(scale / 2**octave, 1.0), 0.5**octave
        field = rng.standard_normal((int(shape[0] / step) + 5, int(shape[1] / step) + 5))
        for axis in (0, 1):
            # A random phase, so that knots of octaves and fields do not line up.
            position = np.arange(shape[axis]) / step + rng.random()
            knot = position.astype(np.int64)
            f = position - knot
            weights = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
            field = sum(
                np.take(field, knot + i, axis=axis) * np.expand_dims(w / 6, 1 - axis) for i, w in enumerate(weights)
            )
        # 0.48: mean squared sum of the B-spline weights, once for each axis.
        total += gain * field / 0.48
        power += gain**2
    return np.asarray(total / np.sqrt(power))


@dataclass(frozen=True)
class Parcels:
    """What is the same all over a parcel; arrays (P,), one entry a parcel.

    Attributes:
        code: cover code.
        shift: days it is late (negative: early).
        vigour: factor of its green cover.
        soil: factor of its soil's brightness.
        rough: factor of its soil's backscatter.
        rows: azimuth of its rows or roofs, radians.
        mix: uniform numbers 0-1 for anything that varies between parcels of a cover.
    """

    code: NDArray[np.uint8]
    shift: Floats
    vigour: Floats
    soil: Floats
    rough: Floats
    rows: Floats
    mix: Floats


@dataclass(frozen=True)
class Landscape:
    """A year's landscape.

    Attributes:
        shape: (H, W) pixels.
        seed, year: what it was made from.
        parcel: (H, W) int32, index into ``parcels``.
        parcels: see :class:`Parcels`.
        growth, ground: (H, W) float32 of about zero mean and unit deviation: patchiness inside parcels of the
            plants and of the soil.
        wetness: (367,) soil moisture 0-1 by day of year, from a random series of rain.
    """

    shape: Shape
    seed: int
    year: int
    parcel: NDArray[np.int32]
    parcels: Parcels
    growth: NDArray[np.float32]
    ground: NDArray[np.float32]
    wetness: Floats

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) cover codes."""
        return self.parcels.code[self.parcel]


def landscape(shape: Shape, seed: int, year: int) -> Landscape:
    """Makes the landscape of ``seed``; another year sows other crops in the same fields.

    Args:
        shape: (H, W) in pixels of 10 m.
    """
    parcel, code, rows = _divide(shape, seed)
    rng = generator(seed, 2, year)
    count = len(code)
    fields = code == 0
    crops = [cover for cover in COVERS if cover.share]
    share = np.cumsum([cover.share for cover in crops])
    pick = np.searchsorted(share / share[-1], rng.random(count), side="right")
    code[fields] = np.array([cover.code for cover in crops], np.uint8)[np.minimum(pick, len(crops) - 1)][fields]
    # Crops of one kind differ by a week or so, and a whole year can be early or late.
    shift = 7.0 * rng.standard_normal(count) + 5.0 * rng.standard_normal()
    parcels = Parcels(
        code=code,
        shift=np.clip(shift, -21, 21),
        vigour=np.clip(1 - 0.09 * np.abs(rng.standard_normal(count)), 0.7, 1),
        soil=np.clip(1 + 0.13 * rng.standard_normal(count), 0.65, 1.4),
        rough=np.clip(1 + 0.25 * rng.standard_normal(count), 0.45, 1.9),
        rows=rows,
        mix=rng.random(count),
    )
    rng = generator(seed, 3)
    growth = noise(rng, shape, 40, 4).astype(np.float32)
    ground = noise(rng, shape, 70, 4).astype(np.float32)
    return Landscape(shape, seed, year, parcel, parcels, growth, ground, _wetness(generator(seed, 4, year)))


def state(land: Landscape, day: int) -> Floats:
    """State of every parcel on a day of the year.

    Args:
        day: 1-366.

    Returns:
        (4, P): green, dry and flower cover and relative plant mass, each 0-1 with a sum of covers of at most 1.
    """
    parcels = land.parcels
    out = np.zeros((4, len(parcels.code)))
    for cover in COVERS:
        mine = parcels.code == cover.code
        keys = np.array(cover.keys)
        # What grows is late or early by the parcel's shift, and the ends of the year join up.
        own_day = np.clip(day - parcels.shift[mine], 1, 366)
        values = np.stack([np.interp(own_day, keys[:, 0], keys[:, i]) for i in range(1, 5)])
        for cut in cover.mown:
            # Parcels are cut on different days and not at every date; they grow again within a month.
            since = own_day - cut - 9 * (parcels.mix[mine] - 0.5)
            again = np.where(since >= 0, np.clip(since / 28, 0, 1), 1.0)
            values[1] += 0.30 * values[0] * (1 - again)
            values[0] *= 0.55 + 0.45 * again
            values[3] *= 0.35 + 0.65 * again
        if cover.share:
            values[[0, 2, 3]] *= parcels.vigour[mine]
        out[:, mine] = values
    out[:3] /= np.maximum(out[:3].sum(axis=0), 1.0)
    return out


def _wetness(rng: np.random.Generator) -> Floats:
    """Soil moisture 0-1 by day (index 0 unused): rain in spells, drying faster in summer."""
    wet, level, series = False, 0.6, np.zeros(367)
    for day in range(1, 367):
        wet = bool(rng.random() < (0.62 if wet else 0.22))
        amount = float(rng.exponential(6.0)) * wet  # millimetres
        summer = 0.5 - 0.5 * np.cos(2 * np.pi * (day - 15) / 366)
        level = min(1.0, level * (1 - 1 / (14 - 9 * summer)) + amount / 28)
        series[day] = level
    return series


def _divide(shape: Shape, seed: int) -> tuple[NDArray[np.int32], NDArray[np.uint8], Floats]:
    """Cuts the plane into parcels.

    Returns:
        parcel (H, W); cover code (P,), 0 for fields yet to be sown; azimuth of the rows (P,).
    """
    rng = generator(seed, 1)
    height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    # Bent a little, so that borders are not ruled lines.
    bend = min(7.0, 0.05 * min(shape))
    u = (x + bend * noise(rng, shape, 130) + 0.3 * noise(rng, shape, 6)).ravel()
    v = (y + bend * noise(rng, shape, 130) + 0.3 * noise(rng, shape, 6)).ravel()
    villages = _villages(rng, shape)
    stream = _stream(rng, shape).ravel()
    wood = noise(rng, shape, min(90.0, 0.35 * min(shape)), 3).ravel()
    kind = noise(rng, shape, 160).ravel()
    wood_level = np.quantile(wood, 0.86)

    parcel = np.zeros(height * width, np.int32)
    codes: list[int] = [ROAD, BROADLEAVED, WATER]  # parcel 0: all roads; 1: all hedges; 2: all water
    azimuths: list[float] = [0.0, 0.0, 0.0]
    everything = np.arange(height * width)
    stack = [(everything, float(rng.uniform(0, np.pi)))]
    while stack:
        pixels, azimuth = stack.pop()
        if not len(pixels):
            continue
        pu, pv = u[pixels], v[pixels]
        centre_u, centre_v = pu.mean(), pv.mean()
        built = any((centre_u - cx) ** 2 + (centre_v - cy) ** 2 < radius**2 for cx, cy, radius in villages)
        target = 9.0 if built and len(pixels) < 3000 else 330 * np.exp(0.6 * rng.standard_normal())
        if len(pixels) <= target * 1.5:
            cover = _use(rng, built, wood[pixels].mean() > wood_level, kind[pixels].mean(), stream[pixels].min())
            parcel[pixels] = len(codes)
            codes.append(cover)
            azimuths.append(azimuth)
            continue
        along = pu * np.cos(azimuth) + pv * np.sin(azimuth)
        across = pv * np.cos(azimuth) - pu * np.sin(azimuth)
        # Across the longer side, so that parcels stay compact.
        turned = np.ptp(across) > np.ptp(along)
        position = across if turned else along
        cut = position.min() + np.ptp(position) * rng.uniform(0.36, 0.64)
        line = np.abs(position - cut)
        if len(pixels) > 22000 or (built and 110 < len(pixels) < 3000):
            border, strip = 0, line < (0.75 if built else 0.95)
        elif not built and rng.random() < 0.10:
            border, strip = 1, line < 0.8
        else:
            border, strip = 0, np.zeros(len(pixels), bool)
        parcel[pixels[strip]] = border
        for side in (position < cut, position >= cut):
            stack.append((pixels[side & ~strip], azimuth + 0.06 * rng.standard_normal()))
    water = (stream < 2.2) & (parcel != 0)  # roads cross on bridges
    ponds = noise(rng, shape, min(45.0, 0.3 * min(shape)), 2).ravel()
    near = stream < 60
    if near.any():
        water |= near & (ponds > max(1.75, np.quantile(ponds[near], 0.97))) & (parcel != 0)
    parcel[water] = 2
    return parcel.reshape(shape), np.array(codes, np.uint8), np.array(azimuths)


def _use(rng: np.random.Generator, built: bool, wooded: bool, kind: float, stream: float) -> int:
    """What a parcel is used for; 0: a field."""
    if built:
        return BUILDING if rng.random() < 0.45 else GARDEN
    if wooded:
        return CONIFEROUS if kind + 0.8 * rng.standard_normal() > 0.5 else BROADLEAVED  # stands of both
    if stream < 12 and rng.random() < 0.75:
        return MEADOW if rng.random() < 0.6 else PASTURE
    return 0


def _villages(rng: np.random.Generator, shape: Shape) -> list[tuple[float, float, float]]:
    """(x, y, radius) in pixels: a place for about every 16 square kilometres, at least one."""
    height, width = shape
    count = max(1, round(height * width / 160000))
    return [
        (
            float(width * rng.uniform(0.2, 0.8)),
            float(height * rng.uniform(0.2, 0.8)),
            float(min(rng.uniform(28, 42), 0.18 * min(shape))),
        )
        for _ in range(count)
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
