"""Terrain of MALICE Aux: elevation on the grid of a run, and slope and aspect of it.

Source: the terrain channels of the published MALICE Aux, whose gradients are those of ``numpy.gradient``. The elevation
model is brought to the grid by cubic convolution, one pixel at a time, and what is derived at a pixel depends on its
four neighbours only: any window gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS

from malice_core.errors import InputError, StackError
from malice_core.grid import Lattice, Window
from malice_core.images.files import local_files
from malice_core.images.netcdf import grid_of
from malice_core.images.opening import open_raster
from malice_core.images.reading import Band, Layer, Mosaic, Pool, crs_name
from malice_core.images.resample import STRIP, Coordinates
from malice_core.store.statistics import AUX_TERRAIN, Statistics
from malice_core.surroundings.cubic import cubic

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Channels of :meth:`Terrain.read`.
CHANNELS = AUX_TERRAIN.channels

#: Elevations on land, in metres, with room to spare; what lies beyond is nodata nobody declared, or another unit.
LOWEST, HIGHEST = -500.0, 9000.0

#: How far ``nodata="fill"`` looks for an elevation, in pixels of the grid. Bounded, so that what fills a pixel can be
#: read with its window.
SEARCH = 64

#: Side of the squares :meth:`Terrain.check` reads at a time, in pixels.
SQUARE = 1024

_METRES = ("", "m", "metre", "metres", "meter", "meters")


@dataclass(frozen=True)
class Terrain:
    """An elevation model on the lattice of a run. Reading is thread-safe.

    Attributes:
        path: what GDAL opens.
        lattice: the run's grid.
        fill: nodata is filled from the nearest elevations instead of refused.
        mosaic: the band that is read.
        offset: (row, column) on the lattice of the model's first pixel where its pixels are the lattice's, else None.
        steps: samples of the model a pixel takes the mean of, along each side; 1 unless the model is finer.
        files: local files it depends on.
        notes: what was decided, one line each.
    """

    path: str
    lattice: Lattice
    fill: bool
    mosaic: Mosaic
    offset: tuple[int, int] | None
    steps: int
    files: tuple[str, ...]
    notes: list[str]
    pool: Pool
    coordinates: Coordinates = field(default_factory=Coordinates)

    @classmethod
    def open(cls, path: str | Path, lattice: Lattice, nodata: str = "error", band: int | None = None) -> Terrain:
        """Opens an elevation model.

        A model whose pixels are the lattice's is read as it is. Any other is interpolated by cubic convolution between
        its pixel centres (as GDAL's ``cubic``), bilinearly where one of the 16 pixels is missing; where it is finer
        than the lattice, a pixel is the mean of samples spread over it.

        Args:
            path: any raster GDAL opens, in any CRS; metres above sea level.
            nodata: ``error`` refuses pixels without elevation; ``fill`` gives them the mean, weighted by inverse
                distance, of the nearest elevations to the north, south, west and east, up to ``SEARCH`` pixels away.
            band: which band holds the elevation, from 1; needed only where there are several.

        Raises:
            InputError: if an option is wrong, the lattice is not in metres, or the file cannot be read, has several
                bands, no place on Earth, or values that are no elevations in metres.
        """
        if nodata not in ("error", "fill"):
            raise InputError(f"nodata of the DEM '{nodata}' is none of error, fill")
        crs = CRS.from_user_input(lattice.crs)
        if crs.is_geographic or crs.linear_units_factor[1] != 1:
            unit = "degrees" if crs.is_geographic else crs.linear_units
            raise InputError(
                f"the grid {lattice.crs:.60} is in {unit}: slopes need pixels in metres; reproject the images to UTM "
                "with gdalwarp -t_srs"
            )
        name = str(path)
        layer, gain = _layer(name, band)
        mosaic, grid, coordinates = Mosaic(((layer, 0, 0),)), layer.grid, Coordinates()
        offset, steps = None, 1
        if grid.crs == crs_name(lattice.crs) and lattice.holds(grid.transform):
            offset = (
                round((lattice.y0 - grid.transform.f) / lattice.res),
                round((grid.transform.c - lattice.x0) / lattice.res),
            )
            note = f"DEM: {name}, pixel by pixel"
        else:
            steps = max(1, round(coordinates.ratio(lattice, grid)))
            how = "interpolated (cubic)" if steps == 1 else f"mean of {steps} x {steps} samples (cubic) a pixel"
            note = f"DEM: {name}, {how}"
        notes = [note] + ([f"DEM: its numbers times {gain:g} as the file says"] if gain != 1 else [])
        terrain = cls(
            name, lattice, nodata == "fill", mosaic, offset, steps, local_files(name), notes, Pool(), coordinates
        )
        try:
            terrain._try()
        except BaseException:
            terrain.close()
            raise
        return terrain

    def check(self, window: Window) -> None:
        """Reads ``window`` once, square by square, and refuses it if a run over it would fail.

        Raises:
            InputError: saying how much of the area the model does not cover, how many pixels have no elevation (or
                none near enough to fill them), or which value is no elevation.
            StackError: if the file cannot be read.
        """
        outside = without = 0
        for square in squares(window):
            around = square.expand(1)  # what read() needs
            core = square.slices_in(around)
            elevation, inside = self._elevation(around)
            missing = np.isnan(elevation[core])
            outside += int((~inside[core]).sum())
            without += int((missing & inside[core]).sum())
        self._refuse(window, outside, without)

    def read(self, window: Window) -> Float:
        """The terrain in ``window``, the same whatever windows an area is read in.

        Differences are central, and one-sided where the model ends: at its border, and beside pixels that have no
        elevation (and are not filled). The window's border is no end: one pixel more is read on each side. A pixel
        without neighbours along an axis is flat along it.

        Args:
            window: pixels of the lattice, all of which the model covers.

        Returns:
            float32 (4, H, W): elevation in metres; sine of the slope; cosine and sine of the aspect, the direction the
            slope faces, clockwise from grid north. Flat ground faces west, as in training.

        Raises:
            InputError: if pixels of the window are not covered or have no elevation.
            StackError: if the file cannot be read.
        """
        around = window.expand(1)
        elevation, inside = self._elevation(around)
        core = window.slices_in(around)
        missing = np.isnan(elevation[core])
        if missing.any():
            outside = int((~inside[core]).sum())
            self._refuse(window, outside, int(missing.sum()) - outside)
        rows, cols = (_gradient(elevation, axis)[core] for axis in (0, 1))
        return derived(elevation[core], rows, cols, self.lattice.res)

    def close(self) -> None:
        """Closes the open rasters; to be called when no thread reads any more."""
        self.pool.close()

    def _elevation(self, window: Window) -> tuple[Float, Bool]:
        """Elevation float32 (H, W), filled if asked, NaN where there is none; and bool (H, W): the model covers it.

        Raises:
            InputError: if a value is no elevation in metres.
        """
        elevation, inside = self._stored(window)
        _refuse_implausible(elevation, self.path)
        if self.fill and (np.isnan(elevation) & inside).any():
            around = window.expand(SEARCH)
            wide, within = self._stored(around)
            # What no run reads as elevation is no reason to refuse this window; neither may it fill anything.
            wide[_implausible(wide)] = np.nan
            elevation = _filled(wide, within)[window.slices_in(around)]
        return elevation, inside

    def _stored(self, window: Window) -> tuple[Float, Bool]:
        """As :meth:`_elevation`, before filling, whatever the values are."""
        if self.offset is not None:
            row, col = self.offset
            place = Window(window.row - row, window.col - col, *window.shape)
            values, seen = self.mosaic.read(self.pool, place)
            elevation = np.where(seen, values[0], np.float32(np.nan))
            inside = np.zeros(window.shape, bool)
            part = place.intersect(self.mosaic.extent)
            if part.pixels:
                inside[part.slices_in(place)] = True
        else:
            elevation, inside = np.empty(window.shape, np.float32), np.empty(window.shape, bool)
            height = max(1, STRIP // (window.width * self.steps**2))
            for row in range(window.row, window.end_row, height):
                strip = Window(row, window.col, min(height, window.end_row - row), window.width)
                elevation[strip.slices_in(window)], inside[strip.slices_in(window)] = self._strip(strip)
        return elevation, inside

    def _strip(self, window: Window) -> tuple[Float, Bool]:
        """As :meth:`_stored`, interpolated, at once."""
        total, seen, inside = np.zeros(window.shape), np.zeros(window.shape, int), np.zeros(window.shape, int)
        for i in range(self.steps**2):
            down, right = (i // self.steps + 0.5) / self.steps, (i % self.steps + 0.5) / self.steps
            rows, cols = self.coordinates.of(self.lattice, window, self.mosaic.grid, down, right)
            values, observed, covered = cubic(self.mosaic, self.pool, rows, cols)
            total += values
            seen += observed
            inside += covered
        # As with images: a pixel is there if half of it is.
        enough = 2 * seen >= self.steps**2
        mean = np.where(enough, total / np.maximum(seen, 1), np.nan).astype(np.float32)
        return mean, (2 * inside >= self.steps**2) | enough

    def _refuse(self, window: Window, outside: int, without: int) -> None:
        if outside:
            # Rounded down, so that no area is called covered that is not.
            share = math.floor(1000 * (window.pixels - outside) / window.pixels) / 10
            raise InputError(
                f"{self.path}: this DEM covers {share:g}% of the area, {outside} of its {window.pixels} pixels lie "
                "beyond its end; give a DEM that covers all of it, or a smaller area"
            )
        if without and self.fill:
            raise InputError(
                f"{self.path}: {without} pixels of the area have no elevation and none within {SEARCH} pixels to fill "
                "them from; fill them with gdal_fillnodata -md 1000, or give another DEM"
            )
        if without:
            raise InputError(
                f"{self.path}: {without} of {window.pixels} pixels of the area have no elevation (nodata or NaN); fill "
                "them with --dem-nodata fill or gdal_fillnodata, or give another DEM"
            )

    def _try(self) -> None:
        """Reads the middle of the model and four other places, so that a wrong file is refused before a run begins."""
        grid = self.mosaic.grid
        height, width = min(256, grid.height), min(256, grid.width)
        for down, right in ((0.5, 0.5), (0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (1.0, 0.0)):
            row, col = int((grid.height - height) * down), int((grid.width - width) * right)
            values, seen = self.mosaic.read(self.pool, Window(row, col, height, width))
            _refuse_implausible(values[0][seen], self.path)


def normalised(values: Float, statistics: Statistics = AUX_TERRAIN) -> Float:
    """What the network gets of :meth:`Terrain.read`'s channels.

    Args:
        values: float32 (4, H, W), physical.
        statistics: one number a channel.

    Returns:
        float32 (4, H, W): clip to [qmin, qmax], minus med, over (qmax - qmin); NaN to 0.
    """
    med, low, high = (
        np.asarray(numbers, np.float32).reshape(-1, 1, 1)
        for numbers in (statistics.med, statistics.qmin, statistics.qmax)
    )
    return np.nan_to_num((np.clip(values, low, high) - med) / (high - low), nan=0.0)


def derived(elevation: Float, rows: Double, cols: Double, res: float) -> Float:
    """The four channels, from elevation and its differences along rows (southwards) and columns (eastwards).

    Args:
        elevation: (H, W), metres.
        rows, cols: (H, W), metres a pixel.
        res: side of a pixel in metres (the published code has 10 here, the size of its pixels).

    Returns:
        float32 (4, H, W): elevation, sin slope, cos aspect, sin aspect.
    """
    slope = np.arctan(np.hypot(rows, cols) / res)
    # The sign of a zero decides where flat ground faces: adding 0 makes all zeros positive, as numpy.gradient's are.
    theta = np.degrees(np.arctan2(rows + 0.0, -(cols + 0.0)))
    aspect = np.radians(np.where(theta > 90, 450 - theta, 90 - theta))
    return np.stack([elevation, np.sin(slope), np.cos(aspect), np.sin(aspect)]).astype(np.float32)


def _gradient(elevation: Float, axis: int) -> Double:
    """Differences along an axis, float64 (H, W), as ``numpy.gradient``'s, with an end of data at every NaN; NaN where
    there is no elevation. What lies outside of the array counts as missing."""
    margin = [(1, 1) if i == axis else (0, 0) for i in (0, 1)]
    padded = np.pad(elevation.astype(np.float64), margin, constant_values=np.nan)
    count = elevation.shape[axis]
    before, here, after = (padded.take(np.arange(i, i + count), axis) for i in (0, 1, 2))
    no_before, no_after = np.isnan(before), np.isnan(after)
    ends = np.where(no_before, here, before), np.where(no_after, here, after)
    result: Double = (ends[1] - ends[0]) / np.where(no_before | no_after, 1.0, 2.0)
    return result


def _filled(elevation: Float, inside: Bool) -> Float:
    """``elevation`` with NaN replaced, where ``inside``, from the nearest numbers along row and column, at most
    ``SEARCH`` pixels away; see :meth:`Terrain.open`. Beyond its end a model is not continued."""
    total, weight = np.zeros(elevation.shape), np.zeros(elevation.shape)
    for axis in (0, 1):
        for step in (1, -1):
            turned = np.flip(elevation, axis) if step < 0 else elevation
            line = np.arange(elevation.shape[axis]).reshape((-1, 1) if axis == 0 else (1, -1))
            # -1: no number yet; taken there is one from the other end, which gets no weight.
            last = np.maximum.accumulate(np.where(np.isnan(turned), -1, line), axis)
            distance = line - last
            near = (last >= 0) & (distance > 0) & (distance <= SEARCH)
            share = np.where(near, 1.0 / np.maximum(distance, 1), 0.0)
            value = np.where(near, np.take_along_axis(turned, last, axis), 0.0)
            part = (share * value, share) if step > 0 else (np.flip(share * value, axis), np.flip(share, axis))
            total += part[0]
            weight += part[1]
    wanted = np.isnan(elevation) & inside & (weight > 0)
    return np.where(wanted, total / np.where(wanted, weight, 1.0), elevation).astype(np.float32)


def squares(window: Window) -> Iterator[Window]:
    """``window`` in parts that can be held in memory."""
    for row in range(window.row, window.end_row, SQUARE):
        for col in range(window.col, window.end_col, SQUARE):
            yield Window(row, col, SQUARE, SQUARE).intersect(window)


def _implausible(elevation: Float) -> Bool:
    """Where values lie beyond LOWEST … HIGHEST; NaN does not."""
    wrong: Bool = (elevation < LOWEST) | (elevation > HIGHEST)
    return wrong


def _refuse_implausible(elevation: Float, path: str) -> None:
    wrong = elevation[_implausible(elevation)]
    if wrong.size:
        value = float(wrong[np.abs(wrong).argmax()])
        raise InputError(
            f"{path}: {value:g} is no elevation in metres ({LOWEST:g} to {HIGHEST:g}); if it means nodata, declare it "
            f"with gdal_edit -a_nodata {value:g}, else convert the DEM to metres with gdal_calc"
        )


def _layer(path: str, band: int | None) -> tuple[Layer, float]:
    """The band with the elevation, and what its numbers are multiplied with.

    Raises:
        InputError: see :meth:`Terrain.open`.
    """
    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder; give one raster, of several tiles the one that gdalbuildvrt makes")
    with open_raster(path) as dataset:
        index = _band(dataset, path, band)
        if dataset.dtypes[index - 1].startswith("complex"):
            raise InputError(f"{path}: holds complex numbers, no elevations; give a DEM in metres")
        unit = (dataset.units[index - 1] or "").strip()
        if unit.lower() not in _METRES:
            raise InputError(
                f"{path}: its elevations are in '{unit}', not metres; convert it with gdal_calc, and set the unit with "
                "gdal_edit -units m"
            )
        if dataset.driver != "netCDF":  # there, GDAL does not find every georeference that grid_of does
            if dataset.crs is None:
                raise StackError(f"{path}: has no coordinate reference system; set it with gdal_edit -a_srs EPSG:…")
            if dataset.transform.is_identity:
                raise StackError(f"{path}: has no georeference; set it with gdal_edit -a_ullr")
        nodata = dataset.nodatavals[index - 1]
        gain, bias = float(dataset.scales[index - 1]), float(dataset.offsets[index - 1])
        mask = any(flag.name in ("per_dataset", "alpha") for flag in dataset.mask_flag_enums[index - 1])
    grid, flip = grid_of(path)
    fills = () if nodata is None or not math.isfinite(nodata) else (float(nodata),)
    return Layer(grid, (Band(0, path, index, fills, False, mask, gain, bias, flip),)), gain


def _band(dataset: rasterio.DatasetReader, path: str, band: int | None) -> int:
    """The number of the band to read."""
    if dataset.count == 0:
        example = f", such as {dataset.subdatasets[0]}" if dataset.subdatasets else ""
        raise InputError(f"{path}: holds {len(dataset.subdatasets)} rasters; give the one with the elevation{example}")
    if band is not None and not 1 <= band <= dataset.count:
        raise InputError(f"{path}: has no band {band}, only 1 to {dataset.count}")
    if band is None and dataset.count > 1:
        shown = ", ".join(f"{i} {name or '(no name)'}" for i, name in enumerate(dataset.descriptions[:6], 1))
        raise InputError(
            f"{path}: has {dataset.count} bands ({shown}), a DEM has one; take the elevation out with gdal_translate "
            "-b 1"
        )
    return 1 if band is None else band
