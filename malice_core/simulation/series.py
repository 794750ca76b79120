"""A simulated series of both sensors in memory, image by image: what training reads without writing files."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from malice_core.simulation import optical, radar
from malice_core.simulation.crops import COVERS
from malice_core.simulation.noise import generator
from malice_core.simulation.passes import Pass, Spec, s1_passes, s2_passes
from malice_core.simulation.scene import Landscape, landscape

#: Cover names by the codes of :attr:`Series.labels`.
CLASSES = {cover.code: cover.name for cover in COVERS}


class Series:
    """A scene of ``spec``; every image is made when asked for, the same whatever was asked before.

    Use as::

        series = Series(Spec.draw(seed=7))
        for i, taken in enumerate(series.s2):
            reflectance, scl = series.sentinel2(i)      # (10, H, W) uint16, (H, W) uint8; taken.when, taken.orbit
        for i, taken in enumerate(series.s1):
            power = series.sentinel1(i)                 # (2, H, W) float32: VV, VH

    Attributes:
        spec: what was asked for.
        s2, s1: the passes by date: time, relative orbit, cloud share, angles.
    """

    def __init__(self, spec: Spec) -> None:
        spec.check()
        self.spec = spec
        self.s2: list[Pass] = s2_passes(spec)
        self.s1: list[Pass] = s1_passes(spec)
        # Users interpolate or repeat the 20 m bands; the demonstration repeats.
        self._smooth = spec.region == "drawn" and bool(generator(spec.seed, 63).random() < 0.5)

    @cached_property
    def land(self) -> Landscape:
        """The ground, its parcels, its relief and its weather."""
        return landscape((self.spec.height, self.spec.width), self.spec.seed, self.spec.year, self.spec.land)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(H, W) cover codes (``CLASSES``) of the harvest that falls into the series."""
        return self.land.classes(0 if self.spec.start <= 6 else 1)

    def sentinel2(self, i: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """Image ``i`` of ``s2``: (10, H, W) reflectance x 10000, 0 = nodata; (H, W) scene classes of sen2cor."""
        taken = self.s2[i]
        day = taken.day(self.spec.year)
        return optical.sentinel2(self.land, day, taken.side, taken.cloud, taken.second, self._smooth, taken.sun)

    def sentinel1(self, i: int) -> NDArray[np.float32]:
        """Image ``i`` of ``s1``: (2, H, W) VV and VH, linear gamma0, NaN = nodata."""
        taken = self.s1[i]
        return radar.sentinel1(self.land, taken.day(self.spec.year), taken.second, taken.incidence)
