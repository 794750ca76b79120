"""The table of a report: one row for each date of a sensor, used or not, and what its numbers look like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

import numpy as np

from malice_core.bands import Sensor
from malice_core.images.observations import Observation, observe
from malice_core.images.sources import Findings, Source
from malice_core.images.tolerance import Tolerance
from malice_core.images.units import source_key
from malice_core.stack import Stack

#: Pixels of a sample in which one value alone is no chance.
CONSTANT = 64


@dataclass(frozen=True)
class Row:
    """One date of one sensor.

    Attributes:
        baseline: processing baseline such as ``05.09``, "" if unknown.
        direction: of the orbit, "" if unknown.
        files: rasters it is read from.
        bands: names, as the networks know them.
        pixels: sizes of pixels in metres, finest first.
        crs: of the files.
        cloud, valid: percent of the area; None where not known or not looked at.
        low, high: 2nd and 98th percentile of sampled values in the sensor's unit, all bands together.
        used: by a run.
        reason: why not, "" for those that are.
    """

    sensor: str
    date: date
    orbit: int | None
    direction: str
    baseline: str
    files: tuple[str, ...]
    bands: tuple[str, ...]
    pixels: tuple[float, ...]
    crs: tuple[str, ...]
    cloud: float | None
    valid: float | None
    low: float | None
    high: float | None
    used: bool
    reason: str


def left_out(stack: Stack, tolerance: Tolerance) -> list[Row]:
    """Rows of images that are no observations of a run."""
    rows = []
    reasons: dict[str, list[Source]] = {}
    for source, why in tolerance.left_out:
        reasons.setdefault(why, []).append(source)
    for why, sources in reasons.items():
        for o in observe(sources, stack.sensor, stack.lattice, Findings()):
            rows.append(row_of(stack.sensor, tolerance, o, False, why))
    return rows


def row_of(sensor: Sensor, tolerance: Tolerance, o: Observation, used: bool, reason: str) -> Row:
    """The row of an observation, but for the share of the area that it saw."""
    faults = [tolerance.faults[key] for key in map(source_key, o.sources) if key in tolerance.faults]
    known = [source.acquisition for source in o.sources]
    layers = [layer for source in o.sources for layer in source.layers]
    low, high = _range(tolerance, o)
    numbers = sorted({a.baseline for a in known if a.baseline is not None}, reverse=True)
    return Row(
        sensor=sensor.key,
        date=o.date,
        orbit=o.orbit,
        direction=next((a.direction for a in known if a.direction), ""),
        baseline=", ".join(f"{number / 100:05.2f}" for number in numbers),
        files=tuple(dict.fromkeys(file for source in o.sources for file in source.rasters)),
        bands=sensor.bands,
        pixels=tuple(sorted({round(layer.grid.res, 3) for layer in layers})),
        crs=tuple(dict.fromkeys(layer.grid.crs for layer in layers)),
        cloud=o.cloud_percent,
        valid=None,
        low=low,
        high=high,
        used=used and not faults,
        reason=reason or (f"refused: {faults[0]}" if faults else ""),
    )


def _range(tolerance: Tolerance, o: Observation) -> tuple[float | None, float | None]:
    """2nd and 98th percentile of the samples of an observation, in the sensor's unit; of refused ones as stored."""
    parts = []
    for source in o.sources:
        values = tolerance.samples.seen(source)
        if values is None:
            continue
        for layer in source.layers:
            for band in layer.bands:
                stored = source.stored[band.position]
                # From the file's physical values to the unit: gain and bias were decided of stored ones.
                raw = (values[band.position] - stored.offset) / stored.scale
                parts.append(raw * band.gain + band.bias)
    if not parts:
        return None, None
    low, high = np.percentile(np.concatenate(parts), [2, 98])
    return float(low), float(high)


def constant_bands(series: Iterable[tuple[Stack, Tolerance]]) -> list[str]:
    """Warnings of bands that hold one value alone."""
    found: dict[tuple[str, str], list[str]] = {}
    for stack, tolerance in series:
        sensor = stack.sensor
        for source in (source for o in stack.observations for source in o.sources):
            values = tolerance.samples.seen(source)
            if values is None or values.shape[1] < CONSTANT:
                continue
            for position in np.flatnonzero(values.min(axis=1) == values.max(axis=1)):
                found.setdefault((sensor.title, sensor.bands[position]), []).append(source.rasters[0])
    return [
        f"{title}: band {band} holds one value alone in {len(files)} image{'s' * (len(files) > 1)}, such as "
        f"{files[0]}: it may be broken or a placeholder; leave the date out, or get the image again"
        for (title, band), files in found.items()
    ]
