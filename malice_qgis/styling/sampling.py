"""A few pixels of each band, from which colours are chosen: seconds on the largest raster."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from osgeo import gdal

#: Bands looked at, windows read of each, side of a window in pixels.
CANDIDATES, WINDOWS, SIDE = 64, 9, 24
#: Share of pixels left out at either end of a band's colours.
TAIL = 2.0
#: A band that varies less than this share of the strongest one is not worth a colour.
FAINT = 0.2


@dataclass(frozen=True)
class Channel:
    """A band as one colour: number from 1, and the values shown darkest and lightest."""

    band: int
    low: float
    high: float


def candidates(count: int) -> list[int]:
    """Numbers of the bands that are looked at, spread over all of them."""
    return sorted({1 + index * count // min(count, CANDIDATES) for index in range(min(count, CANDIDATES))})


def samples(dataset: gdal.Dataset, numbers: list[int]) -> np.ndarray:
    """Values (bands, pixels) at the same places of every band, NaN for nodata."""
    return np.stack([_sample(dataset, number) for number in numbers])


def span(values: np.ndarray) -> tuple[float, float] | None:
    """What is shown darkest and lightest of some values, None where there are none that differ."""
    values = values[np.isfinite(values)]
    if not values.size:
        return None
    low, high = (float(value) for value in np.percentile(values, (TAIL, 100 - TAIL)))
    if not low < high:
        low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else None


def channels(numbers: list[int], values: np.ndarray) -> tuple[Channel, ...]:
    """Three bands that vary and say different things, with the range of their values; none if there are no three.

    Args:
        numbers: of the bands.
        values: (bands, pixels), as of :func:`samples`.
    """
    # A sensor that saw none of the places that are looked at must not hide what the other saw.
    seen = np.isfinite(values)
    there = np.flatnonzero(2 * seen.sum(axis=1) >= seen.sum(axis=1).max())
    values = values[there][:, seen[there].all(axis=0)]
    if values.shape[1] < 2:
        return ()
    spread = np.subtract(*np.percentile(values, (75, 25), axis=1))
    spread = np.where(spread > 0, spread, values.std(axis=1))
    varying = np.flatnonzero(spread > FAINT * spread.max())
    if len(varying) < 3:
        varying = np.flatnonzero(spread > 0)
    if len(varying) < 3:
        return ()
    # The strongest, then twice the one least like those taken.
    strong = varying[np.argsort(-spread[varying], kind="stable")]
    likeness = np.abs(np.corrcoef(values[strong]))
    taken = [0]
    while len(taken) < 3:
        worst = likeness[:, taken].max(axis=1)
        worst[taken] = np.inf
        taken.append(int(np.argmin(worst)))
    found = []
    for index in (int(strong[position]) for position in taken):
        low, high = span(values[index]) or (0.0, 1.0)
        found.append(Channel(numbers[int(there[index])], low, high))
    return tuple(found)


def _sample(dataset: gdal.Dataset, number: int) -> np.ndarray:
    """Values of small windows spread over the raster, NaN for nodata; without gdal_array, which numpy can break."""
    band = dataset.GetRasterBand(number)
    nodata, scale, offset = band.GetNoDataValue(), band.GetScale(), band.GetOffset()
    parts = []
    steps = int(WINDOWS**0.5)
    for row in range(steps):
        for col in range(steps):
            width, height = min(SIDE, dataset.RasterXSize), min(SIDE, dataset.RasterYSize)
            left = (dataset.RasterXSize - width) * (2 * col + 1) // (2 * steps)
            top = (dataset.RasterYSize - height) * (2 * row + 1) // (2 * steps)
            raw = band.ReadRaster(left, top, width, height, buf_type=gdal.GDT_Float64)
            parts.append(np.frombuffer(raw, np.float64) if raw else np.full(width * height, np.nan))
    values = np.concatenate(parts)
    if nodata is not None:
        values = np.where(values == nodata, np.nan, values)
    return values * (1.0 if scale is None else scale) + (0.0 if offset is None else offset)
