"""openEO cubes of image series, and openEO's local runner cut into chunks as apply_neighborhood does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray
from helpers_embed import Array, embedded

#: All that a user's file needs to hold.
UDF = "from malice_core.openeo_udf import apply_datacube\n"

#: Of another order of additions; where nothing of the kind happens, as here on one machine, the numbers are the same.
TOLERANCE = 1e-5
QUERIES = [0, 7]


def cube_of(folder: Path, dtype: Any = np.float32) -> xarray.DataArray:
    """The dated GeoTIFFs of a folder, (t, bands, y, x), as openEO gives them."""
    days, images = [], []
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as file:
            images.append(file.read().astype(dtype))
            names, transform = list(file.descriptions), file.transform
        digits = re.search(r"(\d{4})(\d{2})(\d{2})", path.name)
        assert digits is not None
        days.append(np.datetime64("-".join(digits.groups()), "ns"))
    height, width = images[0].shape[1:]
    return xarray.DataArray(
        np.stack(images),
        dims=("t", "bands", "y", "x"),
        coords={
            "t": days,
            "bands": names,
            "y": transform.f - 10 * (np.arange(height) + 0.5),
            "x": transform.c + 10 * (np.arange(width) + 0.5),
        },
    )


def run(cube: xarray.DataArray | Path, **context: Any) -> xarray.DataArray:
    """One chunk through openEO's own runner."""
    import openeo
    from openeo.udf import execute_local_udf

    result = execute_local_udf(openeo.UDF(code=UDF, context=context), cube)
    (found,) = result.get_datacube_list()
    array: xarray.DataArray = found.get_array()
    return array


def neighbourhoods(
    cube: xarray.DataArray, first: tuple[int, int], count: int, size: int, overlap: int, **context: Any
) -> Array:
    """``count`` x ``count`` chunks from pixel ``first`` on, each with its overlap, which is cut off again.

    Returns:
        (bands, count·size, count·size), the chunks put together.
    """
    rows = []
    for row in range(first[0], first[0] + count * size, size):
        parts = []
        for col in range(first[1], first[1] + count * size, size):
            chunk = cube[..., row - overlap : row + size + overlap, col - overlap : col + size + overlap]
            assert chunk.shape[2:] == (size + 2 * overlap,) * 2
            result = run(chunk, size=size, overlap=overlap, **context)
            parts.append(result.values[:, overlap:-overlap, overlap:-overlap])
        rows.append(np.concatenate(parts, axis=2))
    return np.concatenate(rows, axis=1)


def engine(folder: Path, *arguments: object) -> Array:
    output = folder.parent / "engine.tif"
    queries = ",".join(map(str, QUERIES))
    return embedded(output, *arguments, "--model", "malice-sim", "--queries", queries, "--overwrite")


def largest(a: Array, b: Array) -> float:
    assert a.shape == b.shape
    assert (np.isnan(a) == np.isnan(b)).all()
    assert np.isfinite(a).any()
    return float(np.nanmax(np.abs(a - b)))


def embed(cube: Any, **context: Any) -> Any:
    return run(cube, model="malice-sim", queries=QUERIES, **context)
