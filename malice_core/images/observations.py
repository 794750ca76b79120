"""Which images make one observation, and how they are put together on the lattice of a run.

Files of one date: same or unknown orbit are mosaicked, different orbits are two observations. A pixel is taken
from the first image that observed it; images with the newest processing baseline come first, then by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from malice_core.bands import Sensor
from malice_core.grid import Lattice, Window
from malice_core.images.reading import Mosaic, Pool, crs_name
from malice_core.images.resample import Coordinates, Placement
from malice_core.images.sources import Findings, Source


@dataclass(frozen=True)
class Group:
    """Images of one observation whose pixels match, so that they can be mosaicked before resampling.

    Attributes:
        sources: in order of priority.
        placements: one for each grid the bands come in (10 m, 20 m); together all bands.
    """

    sources: tuple[Source, ...]
    placements: tuple[Placement, ...]

    @property
    def extent(self) -> Window:
        whole = self.placements[0].extent
        for placement in self.placements[1:]:
            whole = whole.union(placement.extent)
        return whole

    def source_extent(self, index: int) -> Window:
        """The lattice's pixels that one source covers (its bounding box when it is warped)."""
        first = self.placements[0]
        layer, row, col = first.mosaic.layers[index]
        if first.offset is not None:
            down, right = first.offset
            return Window(down + row, right + col, layer.grid.height, layer.grid.width)
        return Placement.of(Mosaic(((layer, 0, 0),)), first.lattice, first.nearest).extent

    def read(self, pool: Pool, coordinates: Coordinates, bands: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values (bands, H, W) and observed (H, W); observed where all grids of the bands are.

        A pixel that only the 10 m or only the 20 m bands saw is missing too: the bands without data would reach the
        network as reflectance 0.
        """
        if len(self.placements) == 1 and self.placements[0].mosaic.positions == tuple(range(bands)):
            return self.placements[0].read(pool, coordinates, window)
        values = np.empty((bands, *window.shape), np.float32)
        observed = np.ones(window.shape, bool)
        for placement in self.placements:
            data, seen = placement.read(pool, coordinates, window)
            values[list(placement.mosaic.positions)] = data
            observed &= seen
        values[:, ~observed] = 0.0
        return values, observed


@dataclass(frozen=True)
class Observation:
    """What one pass of a satellite saw.

    Attributes:
        date: UTC day.
        orbit: relative orbit, None if unknown.
        title: for people.
        sources: the images it is made of, in order of priority.
        groups: how they are read.
        extent: bounding box on the lattice.
        cloud_percent: share of cloudy pixels over the run's area, None if not known.
    """

    date: date
    orbit: int | None
    title: str
    sources: tuple[Source, ...]
    groups: tuple[Group, ...]
    extent: Window
    cloud_percent: float | None = None

    @property
    def files(self) -> list[str]:
        """All files it depends on, as of :class:`Source`, sorted."""
        return sorted({file for source in self.sources for file in source.files})

    def read(self, pool: Pool, coordinates: Coordinates, bands: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Values float32 (bands, H, W), 0 where not observed, and observed bool (H, W), in any window."""
        values: np.ndarray | None = None
        observed = np.zeros(window.shape, bool)
        for group in self.groups:
            if not group.extent.intersect(window).pixels or observed.all():
                continue
            data, seen = group.read(pool, coordinates, bands, window)
            if values is None:
                values, observed = data, seen
                continue
            np.copyto(values, data, where=seen & ~observed)
            observed = observed | seen
        if values is None:
            values = np.zeros((bands, *window.shape), np.float32)
        return values, observed

    def describe(self) -> dict[str, Any]:
        return {
            "date": self.date.isoformat(),
            "orbit": self.orbit,
            "title": self.title,
            "files": [file for source in self.sources for file in source.rasters],
            "cloud_percent": self.cloud_percent,
        }


def observe(sources: Sequence[Source], sensor: Sensor, lattice: Lattice, findings: Findings) -> tuple[Observation, ...]:
    """The observations ``sources`` make on ``lattice``, by date, then orbit.

    Raises:
        StackError: if a source cannot be brought to the lattice's CRS.
    """
    by_date: dict[date, list[Source]] = {}
    for source in sources:
        assert source.acquisition.date is not None
        by_date.setdefault(source.acquisition.date, []).append(source)
    observations, mosaics = [], 0
    for day in sorted(by_date):
        orbits = sorted({s.acquisition.orbit for s in by_date[day] if s.acquisition.orbit is not None})
        if len(orbits) > 1 and any(s.acquisition.orbit is None for s in by_date[day]):
            findings.warn(
                f"{sensor.title}: {day} has images of orbits {', '.join(map(str, orbits))} and of unknown orbit, which "
                f"are put to orbit {orbits[0]}"
            )
        passes: list[int | None] = [*orbits] or [None]
        for orbit in passes:
            # An image of unknown orbit belongs to the (first) known one.
            same = [s for s in by_date[day] if (s.acquisition.orbit or passes[0]) == orbit]
            same.sort(key=lambda s: (-(s.acquisition.baseline or 0), s.name, s.rasters))
            mosaics += len(same) > 1
            groups = _groups(same, sensor, lattice)
            extent = groups[0].extent
            for group in groups[1:]:
                extent = extent.union(group.extent)
            title = f"{day}" if orbit is None else f"{day} orbit {orbit}"
            observations.append(Observation(day, orbit, title, tuple(same), groups, extent))
    if mosaics:
        findings.note(
            f"{sensor.title}: {mosaics} observations are mosaics; a pixel is the first image's that saw it, newest "
            "processing baseline first, then by name"
        )
    _explain(observations, sensor, lattice, findings)
    return tuple(observations)


def _groups(sources: Sequence[Source], sensor: Sensor, lattice: Lattice) -> tuple[Group, ...]:
    """Puts sources whose grids match, band by band, into one group; order of first members is kept."""
    found: list[tuple[list[Source], list[list[tuple[int, int]]]]] = []
    for source in sources:
        for members, shifts in found:
            between = _shifts(members[0], source)
            if between is not None:
                members.append(source)
                shifts.append(between)
                break
        else:
            found.append(([source], [[(0, 0)] * len(source.layers)]))
    groups = []
    for members, shifts in found:
        placements = []
        for number in range(len(members[0].layers)):
            layers = tuple((s.layers[number], *shift[number]) for s, shift in zip(members, shifts, strict=True))
            placements.append(Placement.of(Mosaic(layers), lattice, nearest=sensor.nearest))
        groups.append(Group(tuple(members), tuple(placements)))
    return tuple(groups)


def _shifts(first: Source, other: Source) -> list[tuple[int, int]] | None:
    """Shifts of ``other``'s layers against ``first``'s, None if they do not match."""
    if len(first.layers) != len(other.layers):
        return None
    shifts = []
    for mine, theirs in zip(first.layers, other.layers, strict=True):
        shift = mine.grid.shift(theirs.grid)
        if shift is None or mine.positions != theirs.positions:
            return None
        shifts.append(shift)
    return shifts


def _explain(observations: Sequence[Observation], sensor: Sensor, lattice: Lattice, findings: Findings) -> None:
    """Says what is resampled, and how."""
    how = "nearest neighbour" if sensor.nearest else "bilinear"
    foreign: dict[str, list[Source]] = {}
    coarse: dict[tuple[float, tuple[int, ...]], list[Source]] = {}
    shifted: list[Source] = []
    for group in (group for observation in observations for group in observation.groups):
        for placement in group.placements:
            if placement.offset is not None:
                continue
            grid = placement.mosaic.grid
            if grid.crs != crs_name(lattice.crs):
                foreign.setdefault(grid.crs, []).extend(group.sources)
            elif abs(grid.res - lattice.res) > 1e-6 * lattice.res:
                coarse.setdefault((round(grid.res, 3), placement.mosaic.positions), []).extend(group.sources)
            else:
                shifted.extend(group.sources)
    for crs, members in foreign.items():
        files = list(dict.fromkeys(member.rasters[0] for member in members))
        findings.warn(
            f"{sensor.title}: {len(files)} images (such as {files[0]}) are in {crs:.60} and are warped ({how}) to "
            f"{lattice.crs:.60}"
        )
    for (res, positions), members in coarse.items():
        whole = len(positions) == len(sensor.bands)
        which = "all bands" if whole else "bands " + " ".join(sensor.bands[i] for i in positions)
        text = f"{sensor.title}: {which} of {len(members)} images have {res:g} m pixels and are resampled ({how}"
        if res < lattice.res and not sensor.nearest:
            text += f", mean of {round(lattice.res / res) ** 2} samples a pixel"
        text += f") to {lattice.res:g} m"
        if whole and not sensor.nearest and res > lattice.res:
            text += "; the networks were trained on images of 10 m"
        if sensor.nearest:
            findings.note(text)  # classes always come at 20 m, angles as they like
        else:
            findings.warn(text)
    if shifted:
        findings.warn(
            f"{sensor.title}: {len(shifted)} images (such as {shifted[0].rasters[0]}) lie between the pixels of the "
            f"run's grid and are resampled ({how})"
        )
