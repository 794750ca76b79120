"""Physical values to network channels: transform, clip, centre, scale (model card), and mirror-extension.

Nothing here looks at more than the pixels it is given, so a result never depends on the tile it was computed in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core.bands import SENSORS
from malice_core.cards import Modality
from malice_core.grid import Window
from malice_core.store.statistics import ANGLES, LOG10_RANGE, LOG10_RATIO, Statistics

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]


class Normaliser:
    """Turns the bands of one sensor into the channels of one network.

    Args:
        sensor: key of the sensor whose bands come in, in ``Sensor.bands`` order.
        modality: channels, transform and statistics, of a model card or of ``store.statistics``.
    """

    def __init__(self, sensor: str, modality: Modality | Statistics) -> None:
        self._parts = parts_of(sensor, modality)
        self._transform = modality.transform
        column = (-1, 1, 1)
        self._med = np.asarray(modality.med, np.float32).reshape(column)
        self._low = np.asarray(modality.qmin, np.float32).reshape(column)
        self._high = np.asarray(modality.qmax, np.float32).reshape(column)
        self._range = self._high - self._low

    @property
    def channels(self) -> int:
        return len(self._low)

    def __call__(self, values: Float, observed: Bool, angles: Float | None = None) -> Float:
        """Network input of one date.

        Args:
            values: (bands, H, W), physical units of the sensor.
            observed: (H, W); pixels without an observation become 0 in every channel, the median's value.
            angles: of MALICE Aux, cosines and sines: (A,) of the whole date, or (A, H, W).

        Returns:
            (channels, H, W) float32: clip to [qmin, qmax], minus med, over (qmax - qmin); NaN to 0.
        """
        out = np.empty((self.channels, *values.shape[1:]), np.float32)
        logarithm = self._transform == "log10"
        # Missing pixels carry 0, whose logarithm and ratio are noise that is overwritten below.
        with np.errstate(divide="ignore", invalid="ignore"):
            for channel, parts in enumerate(self._parts):
                if len(parts) == 1:
                    out[channel] = values[parts[0]]
                else:
                    np.divide(values[parts[0]], values[parts[1]], out=out[channel])
                    if logarithm:
                        out[channel] += np.float32(LOG10_RATIO)
            bands = out[: len(self._parts)]
            if self._transform == "ln":
                np.log(bands, out=bands)
            elif logarithm:
                np.log10(np.clip(bands, *LOG10_RANGE, out=bands), out=bands)
        if len(self._parts) < self.channels:
            if angles is None:
                raise ValueError("this network takes angles")
            out[len(self._parts) :] = angles.reshape(len(angles), *((1, 1) if angles.ndim == 1 else angles.shape[1:]))
        np.clip(out, self._low, self._high, out=out)
        out -= self._med
        out /= self._range
        np.copyto(out, np.float32(0), where=np.isnan(out))
        out *= observed
        return out


def parts_of(sensor: str, modality: Modality | Statistics) -> list[tuple[int, ...]]:
    """The bands of a sensor, by index, that each channel is made of: one, or two of which it is the ratio.

    The angles of MALICE Aux, which come last, are not among them.
    """
    bands = SENSORS[sensor].bands
    return [
        tuple(bands.index(band) for band in channel.split("/"))
        for channel in modality.channels
        if channel not in ANGLES
    ]


def mirror_index(begin: int, size: int, first: int, count: int) -> NDArray[np.intp]:
    """Where pixels begin … begin+size-1 are found in a source that has pixels first … first+count-1.

    Beyond the source it is reflected without repeating its edge pixel, again and again where it is smaller
    than the distance; a source of one pixel is constant. This is ``numpy.pad(mode="reflect")`` for any distance.

    Returns:
        (size,) indices from 0 to count - 1.
    """
    if count == 1:
        return np.zeros(size, np.intp)
    period = 2 * (count - 1)
    offset = np.arange(begin - first, begin - first + size) % period
    return np.where(offset < count, offset, period - offset).astype(np.intp)


def mirrored(reading: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]) -> NDArray[Any]:
    """``reading[..., rows[:, None], cols]``, one axis after the other, which is several times as fast."""
    return reading.take(rows, axis=-2).take(cols, axis=-1)


def mirror_source(window: Window, extent: Window) -> tuple[Window, NDArray[np.intp], NDArray[np.intp]]:
    """What to read of ``extent`` so that ``window`` can be filled with its mirror-extension.

    Returns:
        The window to read (inside ``extent``), and the rows and columns of that reading that fill ``window``:
        ``filled = mirrored(reading, rows, columns)``.
    """
    rows = mirror_index(window.row, window.height, extent.row, extent.height)
    cols = mirror_index(window.col, window.width, extent.col, extent.width)
    row, col = int(rows.min()), int(cols.min())
    read = Window.between(
        extent.row + row, extent.col + col, extent.row + int(rows.max()) + 1, extent.col + int(cols.max()) + 1
    )
    return read, rows - row, cols - col
