"""Bands read together but each by itself are as when they are read alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from malice_core.grid import Window
from malice_core.images.reading import Band, Grid, Layer, Pool, read_each, read_layer

PLACE = Affine(10, 0, 500000, 0, -10, 5600000)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_each_band_is_as_read_alone(tmp_path: Path, dtype: str) -> None:
    """Holes of one band are no holes of another one, whatever says that they are: nodata, zero, NaN or a mask."""
    grid, window = Grid("EPSG:32631", PLACE, 9, 12), Window(2, 3, 5, 7)
    shape = (grid.height, grid.width)
    rng = np.random.default_rng(4)
    bands = []
    for name in ("a", "b"):
        planes = rng.integers(-9, 9, (3, *shape)).astype(dtype)
        if dtype == "float32":
            planes[1, rng.random(shape) < 0.2] = np.nan
        profile = {"driver": "GTiff", "height": grid.height, "width": grid.width, "count": 3, "dtype": dtype}
        with rasterio.open(tmp_path / f"{name}.tif", "w", crs=grid.crs, transform=PLACE, **profile) as file:
            file.write(planes)
            if name == "b":
                file.write_mask(rng.random(shape) < 0.8)
        first = Band(0, f"{tmp_path / name}.tif", 3, fills=(-9.0, 4.0), zero=False, mask=name == "b")
        bands += [first, replace(first, index=1, zero=True, gain=0.1, bias=5.0), replace(first, index=2, fills=())]
    pool = Pool()
    values, observed = read_each(pool, bands, grid, window)
    for band, plane, seen in zip(bands, values, observed, strict=True):
        alone, where = read_layer(pool, Layer(grid, (band,)), window)
        np.testing.assert_array_equal(plane, alone[0])
        np.testing.assert_array_equal(seen, where)
    assert len({seen.tobytes() for seen in observed}) > 3
    pool.close()
