"""Normalisation statistics of the published MALICE encoders.

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
            x 10000; Sentinel-1: natural logarithm of linear power (of the plain ratio for VH/VV).
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
