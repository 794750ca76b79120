"""Where the scene lies: a region is a climate and a style of land.

``FLANDERS`` is the one of the demonstration; ``drawn`` takes one for Europe between 37 and 58 degrees north. Parameters
are judgement, near European climate normals. ``daily.py`` makes weather of them, ``weather.py`` says what it does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from malice_core.simulation.noise import generator


@dataclass(frozen=True)
class Region:
    """Climate and style of a place.

    Attributes:
        latitude: degrees north.
        mean, swing: yearly mean of temperature and half its seasonal range, degrees Celsius.
        rain: millimetres a year. summer: relative surplus (or deficit, negative) of rain in July against January.
        clear: share of Sentinel-2 dates with little cloud.
        haze: mean of the aerosol that atmospheric correction leaves, 1 = a hazy day.
        field: median size of a field, pixels; spread: standard deviation of its logarithm; strips: how many times
            longer than wide fields may be.
        woods, lakes, heath: shares of the land; hedges: chance of a hedge at a border; towns: built-up places in 16
            square kilometres; grass: share of fields that are permanent grass; orchards: of orchards, vines, olives.
        stream: whether a stream runs through.
        conifers: -1 none to 1 only. irrigated: share of summer crops that never thirst.
        soils: weights of the soils in ``spectra.SOILS``. varied: how much crops' shares vary between scenes.
        wind: yearly mean, m s-1. altitude: metres above the sea. relief: standard deviation of elevation, metres.
    """

    latitude: float
    mean: float
    swing: float
    rain: float
    summer: float
    clear: float
    haze: float
    field: float
    spread: float
    strips: float
    woods: float
    lakes: float
    heath: float
    hedges: float
    towns: float
    grass: float
    orchards: float
    stream: bool
    conifers: float
    irrigated: float
    soils: tuple[float, ...]
    varied: float
    wind: float
    altitude: float
    relief: float


#: Mild, moist, small fields on loess: the landscape of the demonstration.
FLANDERS = Region(
    latitude=50.8, mean=10.5, swing=7.5, rain=820, summer=0.0, clear=0.48, haze=0.1, field=330, spread=0.6, strips=1.0,
    woods=0.13, lakes=0.003, heath=0.0, hedges=0.10, towns=1.0, grass=0.16, orchards=0.02, stream=True, conifers=0.35,
    irrigated=0.1, soils=(1, 0, 0, 0, 0, 0), varied=0.15, wind=3.6, altitude=40.0, relief=4.0,
)  # fmt: skip


def drawn(seed: int) -> Region:
    """The region of ``seed``."""
    rng = generator(seed, 50)
    latitude = float(rng.uniform(37, 58))
    inland = float(rng.random())
    south = float(np.clip((46 - latitude) / 8, 0, 1))
    # Half the places are plains (below 6 m), one in eight has hills.
    relief = float(np.exp(np.clip(generator(seed, 51).normal(1.8, 1.3), 0.0, 4.2)))
    mean = 10.5 + 0.52 * (50.8 - latitude) - 1.5 * inland + float(rng.normal(0, 0.8))
    rain = float(np.clip(rng.normal(820 - 200 * inland - 170 * south, 130), 350, 1400))
    return Region(
        latitude=latitude,
        mean=float(np.clip(mean, 4.5, 18)),
        swing=7.0 + 4.5 * inland + float(rng.normal(0, 0.5)),
        rain=rain,
        summer=float(0.5 * inland - 0.85 * south + rng.normal(0, 0.1)),
        clear=float(np.clip(0.42 + 0.28 * south + 0.1 * inland + rng.normal(0, 0.06), 0.3, 0.85)),
        haze=float(rng.uniform(0.02, 0.2)),
        field=float(np.exp(rng.normal(5.6, 0.7))),
        spread=float(rng.uniform(0.3, 0.95)),
        strips=float(rng.choice([1.0, 1.0, 1.6, 2.5, 4.0])),
        woods=float(np.clip(rng.beta(1.0, 5.0), 0.0, 0.7)),
        lakes=float(rng.choice([0, 0, 0, 0.004, 0.03])),
        heath=float(rng.choice([0, 0, 0.02, 0.08])),
        hedges=float(rng.choice([0.0, 0.05, 0.12, 0.4])),
        towns=float(rng.choice([0.3, 1.0, 2.5, 8.0])),
        grass=float(rng.beta(1.2, 5.0)),
        orchards=float(rng.choice([0.0, 0.02, 0.06, 0.25], p=[0.4, 0.3, 0.2, 0.1])),
        stream=bool(rng.random() < 0.4),
        conifers=float(rng.uniform(-1, 1)),
        irrigated=float(np.clip(rng.uniform(0, 0.3) + 0.5 * south, 0, 0.8)),
        soils=tuple(float(weight) for weight in rng.dirichlet([0.7, 0.4, 0.35, 0.3, 0.25, 0.15])),
        varied=1.0,
        wind=3.9 - 1.2 * inland + float(rng.uniform(-0.5, 0.7)),
        altitude=30.0 + 250.0 * inland * float(rng.random()) + 4.0 * relief,
        relief=relief,
    )
