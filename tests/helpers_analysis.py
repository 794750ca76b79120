"""Embeddings for tests of the tools, written by the product's own writers but made up, and runs of the tools."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from helpers_embed import Recorder

from malice_core import geotiff
from malice_core.analysis import command
from malice_core.cancelling import Cancel
from malice_core.cube import Store
from malice_core.grid import Block, Lattice
from malice_core.mosaic import Mosaic
from malice_core.product import BlockCodes, Layout, Means, rasters
from malice_core.spool import Held

Array = npt.NDArray[Any]
#: Upper left corner of the embeddings, EPSG:32631.
LEFT, TOP, RES = 500000.0, 5600000.0, 10.0


def smooth(features: int, shape: tuple[int, int], seed: int = 0) -> Array:
    """(features, rows, columns) float32 between -2 and 2: waves that features share in part, and noise."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    waves = np.stack([np.sin(rng.uniform(0.02, 0.3) * rows + rng.uniform(0.02, 0.3) * cols + i) for i in range(6)])
    mixed = np.einsum("fw,wrc->frc", rng.normal(0, 0.4, (features, 6)), waves)
    mixed += rng.normal(0, 0.1, (features, *shape)) + rng.normal(0, 0.3, (features, 1, 1))
    values: Array = mixed.clip(-2, 2).astype(np.float32)
    return values


def write(
    path: Path,
    values: Array,
    *,
    dtype: str = "float32",
    sensors: Sequence[str] = ("s2",),
    queries: Sequence[int] = (0,),
    missing: Array | Mapping[str, Array] | None = None,
    model: str = "tiny",
    model_id: str = "0123456789abcdef",
    origin: tuple[float, float] = (LEFT, TOP),
    year: int = 2024,
    cog: bool = False,
) -> Path:
    """Writes an embedding as embed does; the format is by the name.

    Args:
        values: (sensors · queries · width, rows, columns).
        missing: (rows, columns) pixels without data, of all sensors or by sensor.
    """
    bands = len(values)
    layout = Layout(
        tuple(sensors),
        tuple(queries),
        bands // len(sensors) // len(queries),
        dtype,
        (-2.0,) * bands,
        (2.0,) * bands,
    )
    lattice = Lattice.anchored("EPSG:32631", RES, *origin)
    left, top = origin
    height, width = values.shape[1:]
    area = lattice.window(left, top - height * RES, left + width * RES, top)
    held = Held(area.pixels, layout.kinds)
    codes = BlockCodes(layout, held)
    for index, sensor in enumerate(sensors):
        gone = missing.get(sensor) if isinstance(missing, Mapping) else missing
        counts = np.where(np.zeros(area.shape, bool) if gone is None else gone, 0, 5).astype(np.uint16).ravel()
        step = bands // len(sensors)
        codes.put(index, 0, values[index * step : (index + 1) * step].reshape(step, -1).astype(np.float32), counts)
    arrays = {key: content.reshape(-1, *area.shape) for key, content in held.arrays.items()}
    tags = {
        "MALICE_JOB": f"job of {path.name} {year}",
        "MALICE_MODEL": model,
        "MALICE_MODEL_ID": model_id,
        "MALICE_CREDITS": f"Contains modified Copernicus Sentinel data {year}",
        **{f"MALICE_DATES_{sensor.upper()}": f"{year}-03-01,{year}-06-01" for sensor in sensors},
        **layout.tags(path),
    }
    blocks = [Block(0, area, area)]

    def load(index: int, key: str) -> Array:
        return arrays[key]

    means = Means(load, lambda: 1, lambda: None, lambda share: None, lambda: False, lambda key, window: None)
    parts = rasters(layout, path, None, tags)
    place: Any = (blocks, area, lattice)
    folder = path.with_name(path.name + ".grows")
    if path.suffix == ".zarr":
        store = Store(tuple(parts), tuple(sensors), *place, path, folder, path.with_name("aside"))
        store.begin()
        for piece in range(len(store.pieces)):
            deque(store.write(piece, means), 0)  # to its end
        store.place()
        return path
    for raster in parts:
        if path.suffix == ".vrt" and raster.key == "codes":
            mosaic = Mosaic(raster, "f" * 64, *place, path, folder)
            mosaic.begin()
            for piece in range(len(mosaic.pieces)):
                deque(mosaic.write(piece, means), 0)
            mosaic.place()
            folder.rmdir()
        else:
            deque(geotiff.grow(raster, raster.path, blocks, area, lattice, cog, means), 0)
    return path


def run(tool: ModuleType, *arguments: object) -> Recorder:
    """Runs a tool in this process; errors are raised as they are."""
    recorder = Recorder()
    options = tool.parser().parse_args([str(argument) for argument in arguments])
    command.execute(options, tool.run, recorder, Cancel())
    return recorder


def read(path: Path) -> Array:
    """(bands, rows, columns)"""
    with rasterio.open(path) as file:
        values: Array = file.read()
    return values


def tags_of(path: Path) -> dict[str, str]:
    with rasterio.open(path) as file:
        return dict(file.tags())


def process(tool: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a tool's command line as users do."""
    line = [sys.executable, "-m", f"malice_core.{tool}", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]
