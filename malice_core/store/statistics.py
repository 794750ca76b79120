"""Normalisation statistics of the published MALICE and MALICE Aux encoders.

Source: the statistics files distributed with the published MALICE models (openeo_malice, Evoland Land Monitoring
Evolution project), of the training set's bands after the transform named here. A channel enters the network as
(clip(value, qmin, qmax) - med) / (qmax - qmin).
"""

from __future__ import annotations

from dataclasses import dataclass

from malice_core.bands import S2


@dataclass(frozen=True)
class Statistics:
    """Normalisation of one sensor's channels, in the order the network has them.

    Attributes:
        channels, transform: as in the model card (``cards.Modality``).
        med, qmin, qmax: median and robust range per channel, after the transform. Sentinel-2: surface reflectance
            x 10000; Sentinel-1: natural logarithm of linear power (of the plain ratio for VH/VV). MALICE Aux:
            see its tables.
    """

    channels: tuple[str, ...]
    transform: str
    med: tuple[float, ...]
    qmin: tuple[float, ...]
    qmax: tuple[float, ...]


#: By sensor key, Sentinel-2 first: the order of modalities in cards and outputs.
MALICE = {
    "s2": Statistics(
        S2.bands,
        "none",
        (414.0, 675.0, 570.0, 1132.0, 2374.0, 2744.0, 2885.0, 3016.0, 2003.0, 1117.0),
        (130.0, 247.0, 168.0, 442.0, 907.0, 1044.0, 1069.0, 1160.0, 493.0, 299.0),
        (3780.0, 3704.0, 3554.0, 3885.0, 4644.0, 5296.0, 5478.0, 5494.0, 3747.0, 2892.0),
    ),
    "s1": Statistics(
        ("VH", "VV", "VH/VV"),
        "ln",
        (-3.7551794052124023, -2.246965169906616, -1.5142076015472412),
        (-5.7809295654296875, -3.768258810043335, -3.211071252822876),
        (-2.4399311542510986, -1.0318946838378906, -0.174086332321167),
    ),
}

#: Channels of the angles, in the network's order; after the bands of their sensor in :data:`AUX`.
S2_ANGLES = ("cos_sun_zen", "cos_sun_az", "sin_sun_az", "cos_view_zen", "cos_view_az", "sin_view_az")
S1_ANGLES = ("cos_incidence",)
ANGLES = (*S2_ANGLES, *S1_ANGLES)

#: ``log10`` is of linear power clipped to this range; a ratio gets LOG10_RATIO more before, and is clipped alike.
LOG10_RANGE, LOG10_RATIO = (1e-4, 2.0), 1e-5

#: MALICE Aux, by sensor key. The transform is of the bands alone, never of the cosines and sines. VV and VH are not in
#: MALICE's order.
AUX = {
    "s2": Statistics(
        (*S2.bands, *S2_ANGLES),
        "none",
        (
            *(417.0, 667.0, 571.0, 1118.0, 2302.0, 2644.0, 2783.0, 2903.0, 1905.0, 1059.0),
            *(0.7431448101997375, -0.9396926164627075, 0.3420202136039734),
            *(0.9925461411476135, -0.01745235174894333, 0.6946584582328796),
        ),
        (
            *(119.0, 223.0, 157.0, 391.0, 795.0, 918.0, 930.0, 1015.0, 368.0, 230.0),
            *(0.3420201539993286, -0.9848077297210693, 0.17364829778671265),
            *(0.9816271662712097, -0.6691306829452515, -0.9993908405303955),
        ),
        (
            *(5436.0, 5312.0, 5180.0, 5430.0, 5561.0, 5698.0, 5844.0, 5760.0, 3685.0, 2888.0),
            *(0.8987940549850464, -0.838670551776886, 0.5446390509605408),
            *(0.9993908405303955, 0.6156615018844604, 0.9998477101325989),
        ),
    ),
    "s1": Statistics(
        ("VV", "VH", "VH/VV", *S1_ANGLES),
        "log10",
        (-0.9671186208724976, -1.6097209453582764, -0.6400625705718994, 0.7704038023948669),
        (-1.6232051849365234, -2.4282705783843994, -1.3512961864471436, 0.39574891328811646),
        (-0.38241294026374817, -0.9166959524154663, 0.0, 0.9257873296737671),
    ),
}

#: MALICE Aux' terrain: elevation in metres, and what is derived of it (``surroundings/terrain.py``).
AUX_TERRAIN = Statistics(
    ("dem_data", "sin_slope", "cos_aspect", "sin_aspect"),
    "none",
    (345.2990417480469, 0.10651609301567078, 0.02537093125283718, 0.008985517546534538),
    (26.011276245117188, 0.007958950474858284, -0.9880567789077759, -0.9883748886969421),
    (1674.464599609375, 0.5679880976676941, 0.9896059036254883, 0.9880805611610413),
)

#: MALICE Aux' weather: AgERA5 as openEO stores it, temperatures in K x 100, precipitation in mm x 100, radiation in
#: J m-2, vapour pressure in hPa x 1000, wind in m s-1 x 100 (``surroundings/weather.py``). One number a variable, for
#: each of its six days.
AUX_WEATHER = Statistics(
    ("dew_temp", "prec", "sol_rad", "temp_max", "temp_mean", "temp_min", "vap_press", "wind_speed"),
    "none",
    (
        *(27947.66015625, 52.0, 12552083.0, 28816.84375, 28393.2578125, 27982.5546875),
        *(9618.49609375, 245.69976806640625),
    ),
    (
        26655.541015625,
        0.0,
        1932976.0,
        27373.390625,
        27058.60546875,
        26730.759765625,
        3799.3720703125,
        106.55682373046875,
    ),
    (
        28883.90234375,
        1277.0,
        25775438.0,
        30177.75,
        29600.291015625,
        29064.443359375,
        17743.544921875,
        567.7232666015625,
    ),
)
