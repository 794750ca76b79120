"""Reflectance of soils, leaves and materials in the ten Sentinel-2 bands.

Canopies: the two-stream solution for a leaf canopy over soil (Goudriaan 1977, "Crop micrometeorology"; Sellers 1985,
Int. J. Remote Sens. 6:1335): with leaf albedo w and a = sqrt(1 - w), a deep canopy reflects c = (1 - a)/(1 + a), and
light dies with exp(-2 K a LAI). Leaf albedo falls exponentially with pigments, water and dry matter, as in PROSPECT
(Jacquemoud and Baret 1990, Remote Sens. Environ. 34:75), with one effective coefficient a band. Hence red edge,
near and shortwave infrared move together as they do in leaves: chlorophyll shifts B04, B05 and a little B06, water
B11 and B12, structure all of them. Soil darkens with moisture exponentially, more so in the shortwave infrared
(Lobell and Asner 2002, Soil Sci. Soc. Am. J. 66:722).

The coefficients were chosen so that a standard leaf gives the usual crop spectrum; soils and materials are round
numbers of the usual shape (as in the ASTER/ECOSTRESS and USGS libraries), not copied spectra.
"""

from __future__ import annotations

import numpy as np

from malice_core.simulation.noise import Floats

#: Effective absorption of a standard leaf, in the order of ``bands.S2``: chlorophyll, carotenoids and walls, water,
#: dry matter, brown pigments.
CHLOROPHYLL = np.array((1.55, 1.22, 1.95, 1.02, 0.16, 0.025, 0.0, 0.0, 0.0, 0.0))
WALLS = np.array((0.62, 0.15, 0.04, 0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.02))
WATER = np.array((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.005, 0.012, 0.40, 0.79))
MATTER = np.array((0.05, 0.05, 0.05, 0.05, 0.045, 0.045, 0.045, 0.045, 0.12, 0.28))
BROWN = np.array((2.6, 1.9, 1.3, 1.0, 0.75, 0.55, 0.40, 0.33, 0.03, 0.03))

#: Dry soils, reflectance: loess, sand, dark chernozem, red clay, chalk, peat.
SOILS = np.array((
    (.076, .105, .136, .161, .175, .188, .200, .214, .310, .275),
    (.110, .150, .195, .220, .240, .255, .268, .280, .385, .345),
    (.044, .060, .076, .090, .102, .112, .122, .132, .215, .195),
    (.052, .080, .145, .180, .195, .205, .215, .225, .320, .275),
    (.150, .195, .235, .257, .272, .284, .296, .306, .385, .345),
    (.036, .047, .060, .075, .086, .097, .107, .117, .178, .145),
))  # fmt: skip
#: How fast each band darkens when the soil gets wet.
DARKENS = np.array((0.50, 0.50, 0.50, 0.50, 0.50, 0.50, 0.51, 0.52, 0.64, 0.80))

#: Reflectance of everything else.
MATERIALS = {name: np.array(values) for name, values in {
    "straw": (.078, .112, .152, .192, .228, .252, .272, .290, .365, .275),
    "stover": (.062, .090, .122, .155, .190, .210, .228, .245, .300, .205),
    "litter": (.050, .072, .090, .118, .152, .172, .188, .208, .270, .210),
    "twigs": (.036, .050, .058, .084, .115, .135, .150, .168, .180, .115),
    "peat": (.035, .047, .060, .078, .092, .102, .112, .122, .130, .090),
    "meadow": (.032, .070, .045, .115, .270, .330, .350, .370, .225, .120),
    "flower": (.055, .110, .110, .170, .330, .390, .420, .430, .220, .120),
    "rape flower": (.045, .175, .160, .240, .400, .460, .490, .500, .235, .125),
    "sun flower": (.040, .125, .150, .215, .370, .420, .445, .455, .230, .125),
    "flax flower": (.080, .100, .085, .140, .300, .370, .400, .415, .215, .115),
    "fruit flower": (.150, .175, .165, .220, .360, .410, .430, .440, .230, .130),
    "water": (.035, .042, .028, .024, .019, .017, .015, .014, .008, .006),
    "turbid": (.055, .085, .080, .078, .052, .048, .042, .036, .012, .008),
    "roof": (.100, .120, .155, .175, .185, .195, .205, .215, .240, .215),
    "tiles": (.070, .090, .150, .185, .205, .220, .230, .245, .280, .250),
    "grey": (.150, .160, .165, .170, .175, .180, .185, .190, .195, .185),
    "white": (.300, .320, .330, .335, .335, .335, .335, .335, .320, .270),
    "dark": (.055, .060, .065, .068, .072, .076, .080, .084, .100, .095),
    "asphalt": (.085, .095, .102, .108, .115, .120, .127, .135, .145, .138),
    "gravel": (.160, .190, .220, .238, .250, .258, .266, .274, .320, .295),
    "plastic": (.230, .250, .255, .270, .300, .315, .330, .335, .280, .200),
    "snow": (.860, .850, .840, .830, .820, .800, .780, .750, .110, .080),
}.items()}  # fmt: skip


def leaf_albedo(chlorophyll: Floats, water: Floats, matter: Floats, brown: Floats) -> Floats:
    """Albedo of leaves, (P, 10), of amounts relative to a standard leaf, (P,) each."""
    amounts = (chlorophyll, np.ones_like(water), water, matter, brown)
    absorbs = (CHLOROPHYLL, WALLS, WATER, MATTER, BROWN)
    return np.asarray(0.97 * np.exp(-sum(np.multiply.outer(a, k) for a, k in zip(amounts, absorbs, strict=True))))


def canopy(albedo: Floats, structure: Floats, soil: Floats, lai: Floats) -> Floats:
    """Reflectance of leaves over soil, (P, 10).

    Args:
        albedo: (P, 10) of the leaves. structure: (P,) share of light that crowns and rows do not shadow.
        soil: (P, 10) reflectance below. lai: (P,) green area index.
    """
    a = np.sqrt(1 - albedo)
    deep = (1 - a) / (1 + a)
    through = np.exp(-1.3 * a * lai[:, None])  # K = 0.65: leaves of all directions
    below = (soil - deep) / (1 - soil * deep)
    whole = (deep + below * through**2 / 1.0) / (1 + deep * below * through**2)
    # Structure dims where there is a canopy to throw shadow.
    closed = 1 - np.exp(-0.8 * lai)[:, None]
    return np.asarray(whole * (1 - closed * (1 - structure[:, None])))


def wet(soil: Floats, moisture: Floats | float) -> Floats:
    """Soil (P, 10) darkened by surface moisture 0-1, (P,) or one number."""
    level = np.asarray(moisture, np.float64).reshape(-1, 1)
    return np.asarray(soil * np.exp(-0.95 * DARKENS * level))
