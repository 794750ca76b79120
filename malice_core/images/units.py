"""What the stored numbers mean: reflectance or DN, the +1000 offset, linear power or dB.

Decided once per run from samples of the images, never per window and whatever the area of interest is.
What cannot be right is an error that says what it looks like and how to convert it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date
from functools import partial

import numpy as np

from malice_core import processors
from malice_core.bands import Sensor
from malice_core.errors import InputError, StackError
from malice_core.grid import Window
from malice_core.images.anglenames import QUANTITIES, Quantity
from malice_core.images.opening import is_remote
from malice_core.images.reading import Layer, Pool, read_layer
from malice_core.images.sources import Findings, Source, Stored
from malice_core.images.together import READING, WAITING, each

#: From this processing baseline (04.00), in use since OFFSET_DATE, ESA adds 1000 to the DN of Sentinel-2 L2A.
OFFSET_BASELINE = 400
OFFSET_DATE = date(2022, 1, 25)
OFFSET = -1000.0

#: Plausible linear gamma0; outside it the data are probably in another unit.
GAMMA0_LOW, GAMMA0_HIGH = 1e-4, 10.0
_GAMMA0 = f"{GAMMA0_LOW:g} to {GAMMA0_HIGH:g}"

#: What there is to say of sigma0.
SIGMA0 = (
    "sigma0; the networks were trained on gamma0 (terrain-flattened), which is about 0.6 to 1.5 dB higher: embeddings "
    "are usable but shifted"
)

#: Side of the square read in the middle of an image as a sample, in pixels.
SAMPLE = 256
#: Pixels kept of it: the samples of all images are in memory together, and a share or percentile needs no more.
KEPT = 4096
#: Rasters that a thread has open meanwhile, those of an image at least.
HANDLES = 16


class Samples:
    """Physical values (stored * scale + offset) of some observed pixels of images, each image read once."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], np.ndarray | None] = {}

    def seen(self, source: Source) -> np.ndarray | None:
        """float64 (bands, n), n > 0; None of an image without an observed pixel where one was looked for, or that was
        not looked at."""
        return self._kept.get(source_key(source))

    def found(self, sources: Sequence[Source]) -> list[tuple[Source, np.ndarray]]:
        """Those of every image that has any, oldest first. Every image, because one in another unit among many would
        go unnoticed.

        Raises:
            StackError: if an image cannot be read.
        """
        ordered = sorted(sources, key=lambda source: (source.acquisition.date or date.min, source.name))
        new = [source for source in ordered if source_key(source) not in self._kept]
        # A VRT on a disk may name rasters on servers.
        remote = any(is_remote(name) for source in new for name in (*source.rasters, *source.files))
        threads = WAITING if remote else min(READING, processors.count())
        # Each thread has handles of its own.
        pool = Pool(HANDLES)
        try:
            with closing(each(partial(_sample, pool), new, threads)) as samples:
                for source, values in zip(new, samples, strict=True):
                    self._kept[source_key(source)] = values
        finally:
            pool.close()
        pairs = ((source, self.seen(source)) for source in ordered)
        return [(source, values) for source, values in pairs if values is not None]


def source_key(source: Source) -> tuple[object, ...]:
    """What tells an image from all others, whatever was decided of its units."""
    return source.name, source.rasters, source.acquisition.date, source.acquisition.orbit


def _sample(pool: Pool, source: Source) -> np.ndarray | None:
    """As :meth:`Samples.seen`."""
    stored = next((part for part in _samples_of(source, pool) if part.shape[1]), None)
    if stored is None:
        return None
    scale = np.array([[band.scale] for band in source.stored])
    offset = np.array([[band.offset] for band in source.stored])
    values: np.ndarray = stored * scale + offset
    return values


def _samples_of(source: Source, pool: Pool) -> Iterator[np.ndarray]:
    """Stored numbers (bands, n) from the middle, then from four other places of one image."""
    for down, right in ((0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25)):
        rows: list[np.ndarray] = [np.empty(0)] * len(source.stored)
        for layer in source.layers:
            raw = Layer(layer.grid, tuple(replace(band, gain=1.0, bias=0.0) for band in layer.bands))
            height, width = min(SAMPLE, layer.grid.height), min(SAMPLE, layer.grid.width)
            row, col = int((layer.grid.height - height) * down), int((layer.grid.width - width) * right)
            values, observed = read_layer(pool, raw, Window(row, col, height, width))
            for band, plane in zip(layer.bands, values, strict=True):
                rows[band.position] = plane[observed]
        # 20 m layers have fewer pixels than 10 m ones: thin all bands to one length.
        count = min(KEPT, *(len(row) for row in rows))
        picked = [row[np.linspace(0, len(row) - 1, count).astype(int)] if count else row[:0] for row in rows]
        yield np.stack(picked).astype(np.float32)


def decide(
    sources: list[Source],
    sensor: Sensor,
    findings: Findings,
    s2_offset: str = "auto",
    samples: Samples | None = None,
) -> list[Source]:
    """The sources with the gain and bias of every band set, so that reading yields the sensor's unit.

    Args:
        s2_offset: ``auto``, ``0`` or ``-1000``: what is added to Sentinel-2 DN.
        samples: takes those that are read.

    Raises:
        InputError: if ``s2_offset`` is none of these.
        StackError: if the numbers are dB, coded integers, 8 bit, … .
    """
    if s2_offset not in ("auto", "0", "-1000"):
        raise InputError(f"--s2-offset {s2_offset} is none of auto, 0, -1000")
    if sensor.key == "scl":
        return sources
    samples = samples or Samples()
    if sensor.angles:
        for source, values in samples.found(sources):
            _check_angles(values, source, sensor)
        return [_scaled(source, 1.0, 0.0) for source in sources]
    classes: dict[tuple[Stored, ...], list[Source]] = {}
    for source in sources:
        classes.setdefault(source.stored, []).append(source)
    factors: dict[tuple[Stored, ...], float] = {}
    for stored, members in classes.items():
        found = samples.found(members)
        if not found:
            findings.warn(
                f"{sensor.title}: no observed pixel in samples of {members[0].rasters[0]} and others like it; its "
                "units could not be checked"
            )
            factors[stored] = 10000.0 if sensor.key == "s2" and stored[0].scale < 0.01 else 1.0
        elif sensor.key == "s2":
            alike = {
                s2_factor(values, source.stored[0], source.rasters[0], findings): source for source, values in found
            }
            if len(alike) > 1:
                raise StackError(
                    f"{alike[10000.0].rasters[0]} holds reflectance 0-1 and {alike[1.0].rasters[0]} reflectance "
                    "x 10000; give images of one unit"
                )
            factors[stored] = next(iter(alike))
        else:
            for source, values in found:
                check_s1(values, source.stored[0], source.rasters[0], findings)
            factors[stored] = 1.0
        if any(s.scale != 1 or s.offset != 0 for s in stored):
            findings.note(
                f"{sensor.title}: scale {stored[0].scale:g} and offset {stored[0].offset:g} of the files used"
            )
    if sensor.key == "s1":
        _orbits(sources, findings)
        if any(source.sigma0 for source in sources):
            findings.note(f"Sentinel-1 GRD: the files say {SIGMA0}")
        return [_scaled(source, factors[source.stored], 0.0) for source in sources]
    offsets = _s2_offsets(sources, s2_offset, findings)
    if s2_offset == "auto":
        _check_offset(sources, factors, offsets, samples, findings)
    given = s2_offset != "auto"
    return [_scaled(s, factors[s.stored], offset, given) for s, offset in zip(sources, offsets, strict=True)]


def _scaled(source: Source, factor: float, offset: float, instead: bool = False) -> Source:
    """``source`` with gain = scale * factor and bias = file's offset * factor + ``offset`` in its bands.

    Args:
        instead: ``offset`` takes the place of the file's own where that is ESA's -1000 too.
    """
    layers = []
    for layer in source.layers:
        bands = []
        for band in layer.bands:
            stored = source.stored[band.position]
            gain = stored.scale * factor
            if abs(gain - 1) < 1e-6:  # scales are often stored as float32; DN shall come out unchanged
                gain = 1.0
            own = stored.offset * factor
            if instead and abs(own - OFFSET) < 1:
                own = 0.0
            bands.append(replace(band, gain=gain, bias=own + offset))
        layers.append(Layer(layer.grid, tuple(bands)))
    return replace(source, layers=tuple(layers))


def _check_angles(values: np.ndarray, source: Source, sensor: Sensor) -> None:
    """Refuses what is no angle in degrees; ``values`` (bands, n) after the file's own scale."""
    for quantity, row in zip(QUANTITIES[sensor.key[:2]], values, strict=True):
        refuse_angles(quantity, row, source.rasters[0])
    # The sun at the time of passes is never near the zenith, and no radar looks down.
    if (highest := float(values[0].max())) <= 1.6:
        raise StackError(
            f"{source.rasters[0]}: {sensor.bands[0]} is at most {highest:g}: radians, cosines or another band? give "
            "degrees"
        )


def refuse_angles(quantity: Quantity, degrees: np.ndarray, source: str) -> None:
    """Refuses angles of pixels that cannot be; NaN is none.

    Raises:
        StackError: naming ``source`` and the worst value.
    """
    wrong = degrees[~quantity.fits(degrees) & ~np.isnan(degrees)]
    if wrong.size:
        worst = float(wrong[np.abs(wrong - (quantity.low + quantity.high) / 2).argmax()])
        raise StackError(
            f"{source}: {quantity.name} is {worst:g}, possible are {quantity.low:g} to {quantity.high:g} degrees; "
            "declare the value as nodata (gdal_edit -a_nodata), or give degrees"
        )


def s2_factor(values: np.ndarray, stored: Stored, file: str, findings: Findings) -> float:
    """10000 if ``values`` (bands, n) are reflectance, 1 if they are reflectance x 10000.

    Args:
        stored: how they are stored.
        file: where, for messages.

    Raises:
        StackError: if they are neither.
    """
    high = float(np.percentile(values, 98))
    if np.dtype(stored.dtype).itemsize == 1 and stored.scale == 1:
        raise StackError(f"{file}: 8 bit numbers are no surface reflectance; give the L2A product, not a picture of it")
    if high <= 2.5:
        if np.dtype(stored.dtype).kind != "f" and stored.scale == 1:
            raise StackError(
                f"{file}: 98 % of its whole numbers are at most {high:g}; wanted is surface reflectance x 10000"
            )
        findings.note("Sentinel-2 L2A: values are reflectance 0-1 and were multiplied by 10000")
        return 10000.0
    if high < 60 or high > 30000:
        findings.warn(
            f"{file}: 98 % of the values are below {high:.4g}; surface reflectance x 10000 is mostly 100 to 10000: "
            "check the unit"
        )
    return 1.0


def check_s1(values: np.ndarray, stored: Stored, file: str, findings: Findings) -> None:
    """Refuses dB and codes; ``values`` are (VV, VH) x n after the file's own scale; else as :func:`s2_factor`."""
    middle = float(np.median(values))
    if np.mean(values < 0) > 0.5:
        if middle < -60:
            times = 10 ** round(np.log10(-middle / 13))  # land is around -13 dB
            raise StackError(
                f"{file}: Sentinel-1 values around {middle:.0f} look like dB x {times}; convert them to linear gamma0 "
                f"with 10**(value/{10 * times})"
            )
        raise StackError(
            f"{file}: Sentinel-1 values are mostly negative (around {middle:.1f}), so dB; convert them to linear "
            "gamma0 with 10**(dB/10)"
        )
    if middle > GAMMA0_HIGH:
        kind = np.dtype(stored.dtype)
        if kind.kind in "iu" and stored.scale == 1:
            decibel = 20 * np.log10(middle) - 83
            raise StackError(
                f"{file}: Sentinel-1 values are coded integers ({kind.name}, around {middle:.0f}); if they are "
                f"openEO's, dB = 20*log10(DN) - 83 (here {decibel:.1f} dB): convert them to linear "
                "gamma0 with 10**(dB/10)"
            )
        raise StackError(
            f"{file}: Sentinel-1 values around {middle:.4g} are no linear gamma0 ({_GAMMA0}); give calibrated gamma0"
        )
    if middle < 1e-5 or np.mean((values >= GAMMA0_LOW) & (values <= GAMMA0_HIGH)) < 0.5:
        findings.warn(
            f"{file}: Sentinel-1 values around {middle:.3g}; linear gamma0 is mostly {_GAMMA0}: check the calibration"
        )


def _orbits(sources: Sequence[Source], findings: Findings) -> None:
    directions = {source.acquisition.direction for source in sources} - {""}
    if len(directions) == 2:
        findings.warn(
            "Sentinel-1 GRD: ascending and descending images are mixed; the networks were trained on ascending ones: "
            "choose one orbit with --s1-orbit"
        )
    elif directions == {"descending"}:
        findings.warn("Sentinel-1 GRD: the images are descending; the networks were trained on ascending ones")


def _s2_offsets(sources: Sequence[Source], s2_offset: str, findings: Findings) -> list[float]:
    """What is added to the reflectance x 10000 of each source, whatever the scale it is stored in."""
    if s2_offset != "auto":
        if s2_offset != "0":
            findings.note("Sentinel-2 L2A: 1000 subtracted from all images, as --s2-offset says")
        return [float(s2_offset)] * len(sources)
    offsets = [_s2_offset(source) for source in sources]
    total, by_tag = len(sources), [source.acquisition.add_offsets is not None for source in sources]
    for value in sorted({offset for offset, told in zip(offsets, by_tag, strict=True) if told}):
        count = sum(told and offset == value for offset, told in zip(offsets, by_tag, strict=True))
        findings.note(
            f"Sentinel-2 L2A: {value:+g} added to {count} of {total} images, as their tag BOA_ADD_OFFSET or "
            "RADIO_ADD_OFFSET says"
            if value
            else f"Sentinel-2 L2A: no offset in {count} of {total} images that have the tag BOA_ADD_OFFSET or "
            "RADIO_ADD_OFFSET: it is 0, or the file's own offset removes it"
        )
    count = sum(offset != 0 and not told for offset, told in zip(offsets, by_tag, strict=True))
    if count:
        findings.note(
            f"Sentinel-2 L2A: 1000 subtracted from {count} of {total} images (processing baseline 04.00 or newer)"
        )
    return offsets


def _s2_offset(source: Source) -> float:
    """What metadata say is to be added to reflectance x 10000: the file's own offset (nothing left to add), then
    tags, then the processing baseline.

    Raises:
        StackError: if the tags name several offsets.
    """
    known = source.acquisition
    if any(stored.offset != 0 for stored in source.stored):
        return 0.0
    if known.add_offsets is not None:
        if len(known.add_offsets) > 1:
            raise StackError(
                f"{source.rasters[0]}: its tags name several offsets ({', '.join(f'{v:g}' for v in known.add_offsets)})"
                "; say which one with --s2-offset"
            )
        return known.add_offsets[0]
    new = known.baseline is not None and known.baseline >= OFFSET_BASELINE
    return OFFSET if new and known.maker not in ("theia", "hls") else 0.0


def offset_left(values: np.ndarray) -> bool:
    """True if no band of reflectance x 10000 (bands, n) has values below 1000: the offset seems to be in them."""
    return float(np.percentile(values, 1, axis=1).min()) >= 1000


def _check_offset(
    sources: Sequence[Source],
    factors: dict[tuple[Stored, ...], float],
    offsets: Sequence[float],
    samples: Samples,
    findings: Findings,
) -> None:
    """Warns where the numbers contradict the offset that was chosen by metadata or for want of them."""
    groups: dict[tuple[tuple[Stored, ...], float], list[Source]] = {}
    for source, offset in zip(sources, offsets, strict=True):
        day = source.acquisition.date
        recent = day is not None and day >= OFFSET_DATE and source.acquisition.maker not in ("theia", "hls")
        if offset or recent:
            groups.setdefault((source.stored, offset), []).append(source)
    for (stored, offset), members in groups.items():
        found = samples.found(members)
        if not found:
            continue
        values = np.concatenate([values for _, values in found], axis=1) * factors[stored]
        file, below = members[0].rasters[0], float(np.mean(values < 1000))
        if offset and below > 0.1:
            findings.warn(
                f"{file}: 1000 is subtracted as its metadata say, but {below:.0%} of the values are below "
                "1000; if the offset was removed before, give --s2-offset 0"
            )
        if not offset and offset_left(values):
            findings.warn(
                f"{file}: from {OFFSET_DATE} on, and no band has values below 1000: the offset of processing baseline "
                "04.00 seems to be in the data; if so, give --s2-offset -1000"
            )
