"""Principal components of embeddings: the fit, exact over all pixels of any raster, and the file that keeps it.

Means and cross products are summed in float64, cell by cell, each about its own mean (Chan, Golub and LeVeque 1983,
Algorithms for computing the sample variance, doi 10.1080/00031305.1983.10483115): one pass, and no digits are lost
however far the mean is from zero.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import malice_core
from malice_core.analysis import fits
from malice_core.analysis.embedding import Floats, Kind
from malice_core.errors import InputError

Doubles = NDArray[np.float64]
SCHEMA = 1
#: Percentiles of a component that are shown darkest and lightest.
STRETCH = (2.0, 98.0)
#: Bins a standard deviation, and how many of these to either side: beyond of 8 lie at most 1/64 of all pixels
#: (Chebyshev's inequality), so that both percentiles are within.
BINS, REACH = 256, 8


@dataclass
class Moments:
    """Number, mean and scatter (sum of products of deviations from the mean) of pixels.

    Attributes:
        mean: (features,)
        scatter: (features, features)
    """

    count: int
    mean: Doubles
    scatter: Doubles

    @classmethod
    def none(cls, features: int) -> Moments:
        """Of no pixels."""
        return cls(0, np.zeros(features), np.zeros((features, features)))

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """Of (features, pixels)."""
        given = values.astype(np.float64)
        features, count = given.shape
        if not count:
            return cls.none(features)
        mean = given.mean(axis=1)
        given -= mean[:, None]
        return cls(count, mean, given @ given.T)

    def add(self, other: Moments) -> None:
        """Takes other pixels in."""
        if not other.count:
            return
        total = self.count + other.count
        apart = other.mean - self.mean
        self.scatter += other.scatter
        self.scatter += np.outer(apart * (self.count * other.count / total), apart)
        self.mean += apart * (other.count / total)
        self.count = total


def moments_bytes(features: int, threads: int) -> int:
    """Memory that summing moments and the fit take: those of some cells, the sum, and what finding axes needs."""
    return 8 * features * features * (threads + 8)


def histogram_bytes(components: int, threads: int) -> int:
    """Memory that counting values takes."""
    return components * 2 * REACH * BINS * (4 * (threads + 2) + 8)


@dataclass(frozen=True)
class Components:
    """A fit.

    Attributes:
        kind: of the embeddings it is of.
        mean: (features,)
        axes: (components, features) unit vectors, by falling variance; of each the largest number is positive.
        variances: (components,) along the axes.
        ratios: (components,) share of the variance of all features.
        pixels: that it was fitted on.
        stretch: of each component, low and high end of colours: percentiles of the raster it was fitted on.
        source: for people: file and dates.
    """

    kind: Kind
    mean: Doubles
    axes: Doubles
    variances: Doubles
    ratios: Doubles
    pixels: int
    stretch: tuple[tuple[float, float], ...]
    source: Mapping[str, Any]

    @classmethod
    def fitted(cls, kind: Kind, moments: Moments, count: int, source: Mapping[str, Any], name: str) -> Components:
        """The first components of some pixels.

        Args:
            name: of the raster, for messages.

        Raises:
            InputError: if there are too few pixels.
        """
        if moments.count <= count:
            raise InputError(
                f"{name} has {moments.count} pixels with data, {count} components need at least {count + 1}: give a "
                "larger area, or fewer --components"
            )
        variances, vectors = np.linalg.eigh(moments.scatter / (moments.count - 1))
        variances, axes = variances[::-1].clip(0), vectors.T[::-1][:count]
        # An axis has two directions: the one is taken in which its largest number is positive.
        largest = axes[np.arange(count), np.abs(axes).argmax(axis=1)]
        axes = axes * np.where(largest < 0, -1.0, 1.0)[:, None]
        total = float(variances.sum())
        ratios = variances[:count] / total if total > 0 else np.zeros(count)
        return cls(kind, moments.mean, axes, variances[:count], ratios, moments.count, (), dict(source))

    @property
    def count(self) -> int:
        return len(self.axes)

    def first(self, count: int) -> Components:
        """Only some components."""
        return replace(
            self,
            axes=self.axes[:count],
            variances=self.variances[:count],
            ratios=self.ratios[:count],
            stretch=self.stretch[:count],
        )

    def of(self, values: Floats) -> Doubles:
        """(components, pixels) of (features, pixels)."""
        given = values.astype(np.float64)
        given -= self.mean[:, None]
        return self.axes @ given

    def histograms(self, found: Doubles) -> NDArray[np.int32]:
        """(components, bins) of (components, pixels), see :func:`percentiles`."""
        spread = np.sqrt(self.variances)[:, None]
        scaled = np.divide(found, spread, out=np.zeros_like(found), where=spread > 0)
        bins = np.floor((scaled + REACH) * BINS).clip(0, 2 * REACH * BINS - 1).astype(np.int64)
        return np.stack([np.bincount(one, minlength=2 * REACH * BINS) for one in bins]).astype(np.int32)

    def stretched(self, histograms: NDArray[np.int64]) -> Components:
        """With the stretch that histograms of all pixels give."""
        spread = np.sqrt(self.variances)
        ends = tuple(
            (percentile(one, STRETCH[0]) * scale, percentile(one, STRETCH[1]) * scale)
            for one, scale in zip(histograms, spread.tolist(), strict=True)
        )
        return replace(self, stretch=ends)

    @property
    def identity(self) -> str:
        """16 hex digits that change whenever the colours of an embedding do."""
        return hashlib.sha256(json.dumps(self._numbers()).encode()).hexdigest()[:16]

    def _numbers(self) -> dict[str, Any]:
        return {
            "embedding": self.kind.plain(),
            "mean": self.mean.tolist(),
            "components": self.axes.tolist(),
            "explained_variance": self.variances.tolist(),
            "explained_variance_ratio": self.ratios.tolist(),
            "stretch": [list(one) for one in self.stretch],
        }

    def text(self) -> str:
        """As it is kept in a file."""
        head = {"schema": SCHEMA, "tool": "pca", "version": malice_core.__version__, "identity": self.identity}
        return (
            json.dumps(head | {"pixels": self.pixels, "source": dict(self.source)} | self._numbers(), indent=1) + "\n"
        )

    @classmethod
    def read(cls, path: Path) -> Components:
        """Reads a fit.

        Raises:
            InputError: if the file is none.
        """
        content = fits.content(path, "pca", SCHEMA)
        try:
            kind = Kind.read(content.get("embedding"))
            mean, axes, variances, ratios, stretch = (
                np.array(content[name], np.float64)
                for name in ("mean", "components", "explained_variance", "explained_variance_ratio", "stretch")
            )
            count = len(axes)
            shapes = [one.shape for one in (mean, axes, variances, ratios, stretch)]
            if count == 0 or shapes != [(kind.features,), (count, kind.features), (count,), (count,), (count, 2)]:
                raise ValueError(f"its arrays have the shapes {shapes}")
            if not all(np.isfinite(one).all() for one in (mean, axes, variances, ratios, stretch)):
                raise ValueError("it has numbers that are not finite")
            if (variances < 0).any():
                raise ValueError("it has negative variances")
            ends = tuple((float(low), float(high)) for low, high in stretch)
            return cls(kind, mean, axes, variances, ratios, int(content["pixels"]), ends, dict(content["source"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"--fit {path} is damaged: {error}; write it again with --save-fit") from error


def percentile(histogram: NDArray[np.int64], percent: float) -> float:
    """A percentile, in standard deviations, out of counts by bin; within one, values are taken to be spread evenly."""
    total = int(histogram.sum())
    if not total:
        return 0.0
    below = np.cumsum(histogram)
    wanted = percent / 100 * total
    place = int(np.searchsorted(below, wanted))
    before = float(below[place] - histogram[place])
    return (place + (wanted - before) / float(histogram[place])) / BINS - REACH
