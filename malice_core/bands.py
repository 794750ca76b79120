"""Sensors, their bands, the units they are read in, and the origin of dates.

One place for names and numbers that the readers, the model card and the simulator share.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

#: Day 0 of the date encoding (the launch year of Sentinel-1A), as in the published networks.
DATE_ORIGIN = date(2014, 3, 3)

#: Longest series the published encoders saw in training, per modality.
TRAINED_MAX_DATES = 60


@dataclass(frozen=True)
class Sensor:
    """One kind of input image.

    Attributes:
        key: short name, as in the command line and the model card (``s2``, ``s1``); begins with the mission.
        title: name for people.
        bands: bands read from the sources, in the order ``Stack.read`` returns them.
        unit: physical unit of the values ``Stack.read`` returns.
    """

    key: str
    title: str
    bands: tuple[str, ...]
    unit: str

    @property
    def angles(self) -> bool:
        """Whether its bands are angles of a sensor's images."""
        return self.key.endswith("_angles")

    @property
    def nearest(self) -> bool:
        """Whether a mean of two of its numbers means nothing: classes, and directions on either side of north."""
        return self.angles or self.key == "scl"


S2 = Sensor(
    "s2",
    "Sentinel-2 L2A",
    ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
    "surface reflectance x 10000",
)
S1 = Sensor("s1", "Sentinel-1 GRD", ("VV", "VH"), "linear gamma0 power")
SCL = Sensor("scl", "Sentinel-2 scene classification", ("SCL",), "class")

SENSORS = {sensor.key: sensor for sensor in (S2, S1, SCL)}

#: Angles a pixel, in degrees, by key of the sensor whose images they belong to.
ANGLES = {
    "s2": Sensor(
        "s2_angles",
        "angles of Sentinel-2",
        ("sun zenith", "sun azimuth", "view zenith", "view azimuth"),
        "degrees",
    ),
    "s1": Sensor("s1_angles", "angles of Sentinel-1", ("incidence angle",), "degrees"),
}

#: Scene classes taken as cloud or cloud shadow unless the user says otherwise (sen2cor's
#: 3 shadow, 8 and 9 cloud of medium and high probability, 10 thin cirrus).
CLOUD_CLASSES = (3, 8, 9, 10)
