"""Dated observations on one grid: the images a run reads.

``discover`` finds the images behind paths, ``Catalog.lattice`` chooses the grid of the run, ``Catalog.on`` puts
the images on it, and ``Stack.read`` delivers windows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points

from malice_core.bands import ANGLES, SENSORS, Sensor
from malice_core.errors import InputError, StackError
from malice_core.grid import Lattice, Window
from malice_core.images.observations import Observation, observe
from malice_core.images.reading import Grid, Pool
from malice_core.images.resample import Coordinates
from malice_core.images.sources import Findings, Source, find
from malice_core.images.tolerance import Tolerance
from malice_core.images.units import decide

#: Pixel size the networks were trained at, in metres.
TRAINED_RES = 10.0


def discover(
    sensor: str,
    paths: Sequence[str | Path],
    *,
    s2_offset: str = "auto",
    orbit: int | None = None,
    tolerance: Tolerance | None = None,
) -> Catalog:
    """Finds all images of a sensor.

    Args:
        sensor: ``s2``, ``s1`` or ``scl``; ``s2_angles`` or ``s1_angles`` for angles a pixel.
        paths: rasters, folders, netCDF files, VRTs, text lists, or names GDAL opens.
        s2_offset: ``auto`` (by processing baseline), ``0`` or ``-1000``: what is added to Sentinel-2 DN.
        orbit: only images of this relative orbit.
        tolerance: takes what is wrong with units, which is an error without it.

    Raises:
        StackError: naming the file, what is wrong with it and what to do.
        InputError: if an option is wrong.
    """
    kinds = SENSORS | {kind.key: kind for kind in ANGLES.values()}
    if sensor not in kinds:
        raise InputError(f"sensor '{sensor}' is none of {', '.join(kinds)}")
    kind, findings = kinds[sensor], Findings()
    noted = tolerance or Tolerance()
    found = find(paths, kind, findings)
    sources = _newest(found, kind, findings)
    noted.leave_out(found, sources, "a newer processing baseline of it is there")
    if orbit is not None:
        found, sources = sources, _of_orbit(sources, orbit, kind, findings)
        noted.leave_out(found, sources, f"not of relative orbit {orbit}")
    sources.sort(key=_age)
    rules: dict[str, int] = {}
    for source in sources:
        rules[source.acquisition.rule] = rules.get(source.acquisition.rule, 0) + 1
    for rule, count in rules.items():
        findings.note(f"{kind.title}: dates from {rule} ({count} image{'s' * (count > 1)})")
    try:
        sources = decide(sources, kind, findings, s2_offset, noted.samples)
    except StackError as error:
        if tolerance is None:
            raise
        sources = tolerance.decide(sources, kind, findings, s2_offset, error)
    return Catalog(kind, tuple(sources), findings.notes, findings.warnings, Pool())


def _day(source: Source) -> date:
    day = source.acquisition.date
    assert day is not None, "sources without a date are refused when they are found"
    return day


def _age(source: Source) -> tuple[date, str, str]:
    return _day(source), source.name, source.rasters[0]


def _newest(sources: list[Source], sensor: Sensor, findings: Findings) -> list[Source]:
    """Leaves out products of which a newer processing baseline is there."""
    newest: dict[str, int] = {}
    for source in sources:
        known = source.acquisition
        if known.product and known.baseline is not None:
            newest[known.product] = max(known.baseline, newest.get(known.product, 0))
    kept = []
    for source in sources:
        known = source.acquisition
        best = newest.get(known.product)
        if best is not None and known.baseline is not None and known.baseline < best:
            findings.warn(
                f"{sensor.title}: {known.product} is there in processing baselines {known.baseline / 100:05.2f} and "
                f"{best / 100:05.2f}; the newer one is used"
            )
        else:
            kept.append(source)
    return kept


def _of_orbit(sources: list[Source], orbit: int, sensor: Sensor, findings: Findings) -> list[Source]:
    kept = [source for source in sources if source.acquisition.orbit == orbit]
    if not kept:
        known = sorted({s.acquisition.orbit for s in sources if s.acquisition.orbit is not None})
        shown = ", ".join(map(str, known)) or "none: product names or a tag RELATIVE_ORBIT must tell"
        raise StackError(f"{sensor.title}: no image of relative orbit {orbit}; orbits found: {shown}")
    unknown = sum(source.acquisition.orbit is None for source in sources)
    if unknown:
        findings.warn(f"{sensor.title}: {unknown} images of unknown orbit left out by the choice of orbit {orbit}")
    findings.note(f"{sensor.title}: only relative orbit {orbit} ({len(kept)} of {len(sources)} images)")
    return kept


@dataclass(frozen=True)
class Catalog:
    """All images of one sensor, oldest first, before a grid is chosen.

    Attributes:
        sensor: what they are images of.
        sources: by date, then name.
        notes, warnings: rules that were used, and doubts; one line each.
    """

    sensor: Sensor
    sources: tuple[Source, ...]
    notes: list[str]
    warnings: list[str]
    pool: Pool

    def lattice(self, resolution: float | None = None) -> Lattice:
        """The run's grid: CRS and alignment of the earliest image (then by name).

        Args:
            resolution: pixel size in metres; 10 where None, whatever the images have, because the networks
                were trained at 10 m.

        Raises:
            StackError: if that image has no square, north-up pixels in metres.
            InputError: if ``resolution`` is not positive.
        """
        if resolution is not None and not 0 < resolution < float("inf"):
            raise InputError(f"--resolution {resolution:g} is not a positive number of metres")
        reference = self.sources[0]
        grid = reference.grid
        _refuse_odd(grid, reference.rasters[0])
        res = TRAINED_RES if resolution is None else float(resolution)
        name = reference.rasters[0]
        note = f"grid: {grid.crs:.60}, {res:g} m, aligned to {name}, the earliest {self.sensor.title} image"
        if note not in self.notes:
            self.notes.append(note)
        return Lattice.anchored(grid.crs, res, grid.transform.c, grid.transform.f)

    def on(self, lattice: Lattice) -> Stack:
        """The observations on ``lattice``; what does not lie on it is resampled on reading.

        Raises:
            StackError: if an image cannot be brought to the lattice's CRS.
        """
        findings = Findings(list(self.notes), list(self.warnings))
        observations = observe(self.sources, self.sensor, lattice, findings)
        return Stack(self.sensor, lattice, observations, findings.notes, findings.warnings, self.pool)

    def close(self) -> None:
        """Closes the open rasters."""
        self.pool.close()


def _refuse_odd(grid: Grid, file: str) -> None:
    """Refuses a reference grid that is rotated, not square, or not in metres."""
    crs, t = CRS.from_user_input(grid.crs), grid.transform
    if crs.is_geographic:
        left, bottom, right, top = grid.bounds()
        lon, lat = transform_points(grid.crs, "EPSG:4326", [(left + right) / 2], [(bottom + top) / 2])
        zone = int((lon[0] + 180) // 6) % 60 + 1
        utm = f"EPSG:{32600 + zone if lat[0] >= 0 else 32700 + zone}"
        raise StackError(
            f"{file}: its pixels are in degrees ({grid.crs}); reproject it to metres, for example "
            f"gdalwarp -t_srs {utm} -tr 10 10 -r bilinear"
        )
    if crs.linear_units_factor[1] != 1:
        raise StackError(
            f"{file}: its CRS {grid.crs:.60} is in {crs.linear_units}, not metres; reproject it with gdalwarp"
        )
    if abs(t.b) + abs(t.d) > 1e-9 * grid.res:
        raise StackError(f"{file}: its pixels are rotated against its CRS; make it north up with gdalwarp -tr 10 10")
    if abs(t.a + t.e) > 1e-6 * abs(t.a):
        raise StackError(
            f"{file}: its pixels are {t.a:g} x {-t.e:g} m, not square; resample it with gdalwarp -tr 10 10"
        )


@dataclass(frozen=True)
class Stack:
    """One modality on the lattice of a run. Reading is thread-safe.

    Attributes:
        sensor: what it is.
        lattice: the run's grid.
        observations: by date, then orbit.
        notes: rules that were used; warnings: doubts; one line each.
    """

    sensor: Sensor
    lattice: Lattice
    observations: tuple[Observation, ...]
    notes: list[str]
    warnings: list[str]
    pool: Pool
    coordinates: Coordinates = field(default_factory=Coordinates)
    clouds: CloudMask | None = None

    @cached_property
    def extent(self) -> Window:
        """Bounding box of all sources of the observations, in global pixels."""
        whole = self.observations[0].extent
        for observation in self.observations[1:]:
            whole = whole.union(observation.extent)
        return whole

    def area(self) -> Window:
        """:attr:`extent` as the area of a run without ``--aoi``.

        Raises:
            StackError: naming the source that makes it four times larger than the others do.
        """
        groups = [group for observation in self.observations for group in observation.groups]
        parts = [(group.source_extent(i), source) for group in groups for i, source in enumerate(group.sources)]
        before: list[Window | None] = [None]
        for window, _ in parts:
            before.append(window if before[-1] is None else before[-1].union(window))
        after: Window | None = None
        worst: tuple[float, Source] | None = None
        for i in range(len(parts) - 1, -1, -1):
            window, source = parts[i]
            left = before[i]
            rest = left if after is None else after if left is None else left.union(after)
            if rest is not None and rest.pixels:
                growth = rest.union(window).pixels / rest.pixels
                # Of two images the first one is right: it gave the grid.
                if growth > 4 and (worst is None or (growth > worst[0] and i > 0)):
                    worst = growth, source
            after = window if after is None else after.union(window)
        if worst is not None:
            raise StackError(
                f"{worst[1].rasters[0]}: lies so far from the other images that it makes the area {worst[0]:.0f} times "
                "larger; leave it out, or give the area with --aoi"
            )
        return self.extent

    def read(self, index: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of observation ``index`` in ``window``.

        Returns:
            values float32 (C, H, W) in ``sensor.unit`` and the order of ``sensor.bands``, 0 where not
            observed; and observed, bool (H, W): False where every band (or every one of the 10 m or of the 20 m
            bands) is nodata, a band is NaN, no source lies, or clouds are masked.

        Raises:
            ValueError: if ``window`` does not lie inside :attr:`extent`.
            StackError: if a file cannot be read.
        """
        if not self.extent.contains(window):
            raise ValueError(f"{window} does not lie inside the stack's extent {self.extent}")
        observation = self.observations[index]
        values, observed = observation.read(self.pool, self.coordinates, len(self.sensor.bands), window)
        if self.clouds is not None:
            cloudy = observed & self.clouds.at(observation, window)
            if cloudy.any():
                values[:, cloudy] = 0.0
                observed = observed & ~cloudy
        return values, observed

    def select(
        self,
        *,
        start: date | None = None,
        end: date | None = None,
        dates: Collection[tuple[date, int | None]] | None = None,
        max_dates: int | None = None,
    ) -> Stack:
        """The observations from ``start`` to ``end`` (both included), or of ``dates``, thinned to ``max_dates``.

        Args:
            dates: (date, relative orbit); orbit None means all of that date.

        Raises:
            StackError: if no observation is left.
            InputError: if ``max_dates`` is not positive.
        """
        findings = Findings(list(self.notes), list(self.warnings))
        title, chosen = self.sensor.title, self.observations
        first, last = chosen[0].date, chosen[-1].date
        if dates is not None:
            wanted = set(dates)
            if not wanted:
                raise StackError(
                    f"--dates lists no date for {title}; add lines such as {self.sensor.key.upper()} {first}, or run "
                    f"without --{self.sensor.key}"
                )
            chosen = tuple(o for o in chosen if (o.date, None) in wanted or (o.date, o.orbit) in wanted)
            if not chosen:
                raise StackError(
                    f"{title}: no image of any of the {len(wanted)} listed dates; the images are from {first} "
                    f"to {last}: correct the list"
                )
        chosen = tuple(o for o in chosen if (start is None or start <= o.date) and (end is None or o.date <= end))
        if not chosen:
            raise StackError(
                f"{title}: no image from {start or 'the beginning'} to {end or 'the end'}; the images are from {first} "
                f"to {last}: change --dates"
            )
        kept = set(map(id, chosen))
        out = [o for o in self.observations if id(o) not in kept]
        if out:
            findings.note(
                f"{title}: {len(out)} of {len(self.observations)} observations left out by --dates ({out[0].title} to "
                f"{out[-1].title})"
            )
        if max_dates is not None:
            if max_dates < 1:
                raise InputError(f"--max-dates {max_dates} is not positive")
            if len(chosen) > max_dates:
                before, chosen = chosen, thin(chosen, max_dates)
                kept = set(map(id, chosen))
                findings.note(
                    f"{title}: thinned evenly in time from {len(before)} to {max_dates} observations; left out: "
                    + shortened([o.title for o in before if id(o) not in kept])
                )
        return replace(self, observations=chosen, notes=findings.notes, warnings=findings.warnings)

    def files(self) -> list[str]:
        """Everything the pixels come from, sorted: images, what lies behind a VRT, masks and tags beside them, and the
        scene classification when it masks. Absolute paths of local files, other names as they are."""
        found = {file for observation in self.observations for file in observation.files}
        return sorted(found.union(self.clouds.scl.files() if self.clouds is not None else ()))

    def describe(self) -> dict[str, Any]:
        """What the plan prints and the product keeps: dates with orbit, files and cloud share; rules; doubts."""
        return {
            "sensor": self.sensor.key,
            "title": self.sensor.title,
            "dates": [observation.describe() for observation in self.observations],
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }

    def close(self) -> None:
        """Closes the open rasters; to be called when no thread reads any more."""
        self.pool.close()
        if self.clouds is not None:
            self.clouds.scl.close()

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class CloudMask:
    """Cloudy pixels of a Sentinel-2 stack: those of ``classes`` in the scene classification of the same date."""

    scl: Stack
    classes: tuple[int, ...]

    def at(self, observation: Observation, window: Window) -> np.ndarray:
        """bool (H, W): the scene classification says cloud; False where there is none."""
        cloudy = np.zeros(window.shape, bool)
        for index in matching(self.scl, observation):
            part = window.intersect(self.scl.observations[index].extent)
            if part.pixels:
                classes, seen = self.scl.read(index, part)
                cloudy[part.slices_in(window)] |= seen & np.isin(classes[0].astype(np.int16), self.classes)
        return cloudy


def matching(stack: Stack, observation: Observation) -> list[int]:
    """Indices of ``stack``'s observations of the same date, and of the same orbit where both are known."""
    return [
        i
        for i, other in enumerate(stack.observations)
        if other.date == observation.date
        and (other.orbit is None or observation.orbit is None or other.orbit == observation.orbit)
    ]


def thin(observations: Sequence[Observation], count: int) -> tuple[Observation, ...]:
    """``count`` of ``observations``, as evenly spread in time as can be: again and again the one whose
    neighbours are closest together goes, never the first and the last (count 1: the middle one stays)."""
    left = list(observations)
    if count == 1:
        return (left[len(left) // 2],)
    while len(left) > max(count, 2):
        gaps = [(left[i + 1].date - left[i - 1].date).days for i in range(1, len(left) - 1)]
        del left[1 + gaps.index(min(gaps))]
    return tuple(left)


def shortened(titles: Sequence[str]) -> str:
    """The first five, and how many more."""
    return ", ".join(titles[:5]) + (f" and {len(titles) - 5} more" if len(titles) > 5 else "")


__all__ = ["Catalog", "CloudMask", "Observation", "Stack", "discover", "matching", "shortened", "thin"]
