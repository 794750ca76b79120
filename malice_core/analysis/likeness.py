"""Whether an embedding is like those something was learnt from: another year or season can lie elsewhere in the space.

The network knows the day of every image, so that embeddings of the same fields differ between years. What was learnt in
one year is then wrong in another, without a sign in the map; the mean over all pixels gives it away.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from malice_core.analysis.embedding import Floats

Doubles = NDArray[np.float64]
#: Standard deviations that the mean may be off, root mean square over features. Measured on the simulated scene of
#: docs/classify.md: 0.09 in the year of the labels, 2.1 in the next one.
FAR = 1.0


class Likeness:
    """Compares the mean of pixels with that of others; may be added to from several threads.

    Args:
        mean, deviation: (features,) of those that were learnt from.
    """

    def __init__(self, mean: Doubles, deviation: Doubles) -> None:
        self._mean, self._deviation = mean, np.where(deviation > 0, deviation, 1.0)
        self._sum, self._count, self._lock = np.zeros(len(mean)), 0, threading.Lock()

    def add(self, values: Floats | Doubles) -> None:
        """Takes (features, pixels) with data."""
        total = values.sum(axis=1, dtype=np.float64)
        with self._lock:
            self._sum += total
            self._count += values.shape[1]

    def shift(self) -> float:
        """Standard deviations that the mean is off, root mean square over features; 0 without pixels."""
        if not self._count:
            return 0.0
        off = (self._sum / self._count - self._mean) / self._deviation
        return float(np.sqrt((off**2).mean()))

    def warnings(self, what: str, embedding: str, cure: str) -> list[str]:
        """One line, if pixels are far from those learnt from.

        Args:
            what: the classifier or fit.
            embedding: the pixels' name.
            cure: what to do.
        """
        if (shift := self.shift()) <= FAR:
            return []
        return [
            f"{embedding} is unlike what {what} was learnt from (its mean is {shift:.1f} standard deviations off; "
            f"another year, season or choice of dates?): the result is probably wrong; {cure}"
        ]
