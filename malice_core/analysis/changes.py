"""Change between two embeddings: distances, how significant they are, and where they are large.

**Significance.** Where nothing changed, two embeddings still differ, by weather, dates and noise: by a vector that is
taken to be normal, of any covariance and mean. Its squared length is a weighted sum of squares of normal numbers, which
a scaled chi-square distribution, a · chi2(n), comes near to (Satterthwaite 1946, An approximate distribution of
estimates of variance components, doi 10.2307/3002019; Box 1954, doi 10.1214/aoms/1177728786). The squared distance is
of this kind, and so is the cosine distance, half the squared distance of vectors of length 1. Scale and degrees of
freedom are those that have the quartile and the median of all pixels: of the lower half, which change hardly reaches
while it is rare. The significance of a pixel is the share of unchanged pixels, by that distribution, that are nearer:
1 - p. Pixels that changed move quartile and median up, which makes it smaller.

**Threshold.** Otsu's: of all distances, the one that splits them into two groups with the largest variance between them
(Otsu 1979, doi 10.1109/TSMC.1979.4310076).

Both are taken from one histogram of all pixels, with bins of a fixed relative width: counts, which are the same in any
order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from malice_core.analysis.embedding import Floats

Counts = NDArray[np.int64]
#: Leading bits of a float32 that make its bin: its exponent and eleven binary digits, steps of less than 0.05 %.
SHIFT = 23 - 11
#: Of distances from 0 to the largest number.
BINS = (0x7F800000 >> SHIFT) + 1
#: Parts of the unchanged that are compared with the distribution.
QUARTILE, MEDIAN = 0.25, 0.5
#: Degrees of freedom that are looked for.
FREEDOM = (0.02, 1e6)


def distances(before: Floats, after: Floats, measure: str) -> Floats:
    """(pixels,) distance of (features, pixels): ``euclidean``, or ``cosine``: 1 - cosine, 0 to 2."""
    one, other = before.astype(np.float64), after.astype(np.float64)
    if measure == "cosine":
        # As half the squared distance of unit vectors: 1 - cosine would lose its digits where the two are alike.
        for vectors in (one, other):
            length = np.sqrt(np.einsum("fp,fp->p", vectors, vectors))
            vectors /= np.where(length > 0, length, 1)
    one -= other
    squares = np.einsum("fp,fp->p", one, one)
    found: Floats = (squares / 2 if measure == "cosine" else np.sqrt(squares)).astype(np.float32)
    return found


def squared(distance: NDArray[np.floating], measure: str) -> NDArray[np.float64]:
    """What is distributed as chi-square, up to its scale."""
    exact = distance.astype(np.float64)
    return exact if measure == "cosine" else exact * exact


def histogram(distance: Floats) -> Counts:
    """(BINS,) of distances, which are not negative."""
    counts: Counts = np.bincount(distance.view(np.uint32) >> np.uint32(SHIFT), minlength=BINS)
    return counts


def edges(bins: NDArray[np.integer]) -> NDArray[np.float64]:
    """Lower ends of bins."""
    whole = np.minimum(bins.astype(np.uint64) << np.uint64(SHIFT), np.uint64(0x7F7FFFFF)).astype(np.uint32)
    found: NDArray[np.float64] = whole.view(np.float32).astype(np.float64)
    return found


def quantile(counts: Counts, share: float) -> float:
    """The distance below which a share of the pixels is; within a bin, they are taken to be spread evenly."""
    below = np.cumsum(counts)
    wanted = share * float(below[-1])
    place = int(np.searchsorted(below, wanted))
    low, high = edges(np.array([place, place + 1]))
    part = (wanted - float(below[place] - counts[place])) / float(counts[place])
    return float(low + part * (high - low))


def otsu(counts: Counts) -> float | None:
    """The threshold by Otsu; None where all distances are in one bin."""
    used = np.flatnonzero(counts)
    if len(used) < 2:
        return None
    numbers, ends = counts[used].astype(np.float64), edges(used + 1)
    middles = (edges(used) + ends) / 2
    below, total = np.cumsum(numbers), numbers.sum()
    sums = np.cumsum(numbers * middles)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (sums[-1] / total * below - sums) ** 2 / (below * (total - below))
    # The last one splits nothing off.
    end = np.float32(ends[np.argmax(between[:-1])])
    # A distance at the end of a bin belongs to the next one: it is above the threshold.
    return float(np.nextafter(end, np.float32(0)))


@dataclass(frozen=True)
class Unchanged:
    """The distribution of unchanged pixels: squared distances are ``scale`` times chi-square of ``freedom``."""

    measure: str
    scale: float
    freedom: float

    @classmethod
    def of(cls, counts: Counts, measure: str) -> Unchanged | None:
        """By quartile and median of all pixels; None where these tell nothing (no pixels, all alike, or many at 0)."""
        if not counts.sum():
            return None
        ends = np.array([quantile(counts, QUARTILE), quantile(counts, MEDIAN)])
        quartile, median = squared(ends, measure).tolist()
        # Within a bin nothing is known of how they differ.
        if counts[0] > QUARTILE * counts.sum() or median < quartile * 1.001:
            return None
        # The ratio of median to quartile falls with the degrees of freedom: halve their logarithm's range.
        low, high = np.log(FREEDOM).tolist()
        for _ in range(60):
            middle = (low + high) / 2
            halves = special.gammaincinv(np.exp(middle) / 2, (QUARTILE, MEDIAN))
            low, high = (middle, high) if halves[1] * quartile > median * halves[0] else (low, middle)
        freedom = float(np.exp((low + high) / 2))
        return cls(measure, float(median / (2 * special.gammaincinv(freedom / 2, MEDIAN))), freedom)

    @property
    def text(self) -> str:
        """For people."""
        what = "distance" if self.measure == "cosine" else "squared distance"
        return f"{what} / {self.scale:.6g} as chi-square of {self.freedom:.6g} degrees of freedom"

    def significance(self, distance: Floats) -> Floats:
        """1 - p of distances, NaN where these are."""
        given = squared(distance, self.measure) / self.scale
        found: Floats = special.gammainc(self.freedom / 2, given / 2).astype(np.float32)
        return found
