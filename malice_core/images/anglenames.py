"""Which angle of sun or view a column, a property, a band or a file name means."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Ratio of Sentinel-2's distance from the centre of the Earth to the Earth's radius (786 km over 6371 km).
S2_DISTANCE = 1.1234


@dataclass(frozen=True)
class Quantity:
    """One angle.

    Attributes:
        name: for people.
        low, high: degrees within which it can be.
        circular: a direction: averages are of unit vectors, and 360 is 0.
        highest: of a single pixel, where that is more than ``high``.
    """

    name: str
    low: float
    high: float
    circular: bool = False
    highest: float = 0.0

    def fits(self, degrees: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Where the angles of pixels are possible; nowhere where they are NaN."""
        possible: NDArray[np.bool_] = (degrees >= self.low) & (degrees <= max(self.high, self.highest))
        return possible


SUN_ZENITH, SUN_AZIMUTH = Quantity("sun zenith", 0, 90), Quantity("sun azimuth", -180, 360, True)
VIEW_ZENITH, VIEW_AZIMUTH = Quantity("view zenith", 0, 90), Quantity("view azimuth", -180, 360, True)
# Slopes in the radar's shadow face away from it.
INCIDENCE = Quantity("incidence angle", 0, 90, highest=180)

#: By key of the sensor whose images they belong to, in the order of the network's channels.
QUANTITIES = {"s2": (SUN_ZENITH, SUN_AZIMUTH, VIEW_ZENITH, VIEW_AZIMUTH), "s1": (INCIDENCE,)}


def _same(degrees: float) -> float:
    return degrees


def _of_elevation(degrees: float) -> float:
    return 90.0 - degrees


def _of_off_nadir(degrees: float) -> float:
    # At the sensor, not on the ground, where the curved Earth makes the same ray steeper: 10.3 degrees are 11.6.
    return math.degrees(math.asin(min(1.0, S2_DISTANCE * math.sin(math.radians(degrees)))))


#: Names of an angle in the spelling of :func:`words`, best first: of tables (also Earth Engine's and Sentinel Hub's),
#: of STAC's view extension, and of the properties of some of its catalogues (s2:mean_solar_zenith …).
NAMES: dict[Quantity, tuple[tuple[tuple[str, ...], Callable[[float], float]], ...]] = {
    SUN_ZENITH: ((("sun zenith", "sza"), _same), (("sun elevation", "view sun elevation"), _of_elevation)),
    SUN_AZIMUTH: ((("sun azimuth", "saa"), _same), (("view sun azimuth",), _same)),
    VIEW_ZENITH: (
        (("view zenith", "vza"), _same),
        (("incidence zenith", "view incidence zenith"), _same),
        (("view incidence", "incidence"), _same),
        (("off nadir", "view off nadir"), _of_off_nadir),
    ),
    VIEW_AZIMUTH: ((("view azimuth", "vaa"), _same), (("incidence azimuth", "view incidence azimuth"), _same)),
    # Earth Engine's band is called "angle" and no more; three are of SNAP.
    INCIDENCE: (
        (("incidence", "local incidence", "view incidence", "ellipsoid incidence", "lia", "angle"), _same),
        (("projected local incidence", "incidence from ellipsoid"), _same),
    ),
}
_SYNONYMS = {"solar": "sun", "viewing": "view", "sensor": "view", "satellite": "view", "zen": "zenith", "az": "azimuth"}
_SYNONYMS |= {"inc": "incidence"}
_NO_MEANING = {"mean", "average", "avg", "angle", "angles", "deg", "degree", "degrees", "in", "s2", "s1"}


def words(name: str) -> tuple[str, bool]:
    """A name as :data:`NAMES` spells it, and whether it is of one band among several (``…_B8A``)."""
    parts = re.findall(r"[a-z0-9/]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    banded = len(parts) > 1 and re.fullmatch(r"b\d{1,2}a?", parts[-1]) is not None
    kept = [_SYNONYMS.get(part, part) for part in parts[: len(parts) - banded] if part not in _NO_MEANING]
    if "angle" in parts and not any(part.isalpha() for part in kept):
        kept.insert(0, "angle")
    return " ".join(kept), banded


def angle_of(name: str, sensor: str, part: bool = False) -> str | None:
    """Name of the :class:`Quantity` that a band means, as it is stored, None if it is none.

    Args:
        sensor: ``s2`` or ``s1``.
        part: the name may hold other words too, as those of files do.
    """
    spelt = f" {words(name)[0]} "
    for quantity in QUANTITIES[sensor]:
        for known, convert in NAMES[quantity]:
            # A raster's numbers are taken as they are.
            if convert is _same and any(f" {one} " in spelt if part else f" {one} " == spelt for one in known):
                return quantity.name
    return None
