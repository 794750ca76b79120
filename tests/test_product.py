"""Number types, band names and the files they end in, read back by rasterio and by Debian's GDAL."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from malice_core import geotiff, product
from malice_core.blocks import environment
from malice_core.errors import OutputError
from malice_core.grid import Block, BlockGrid, Lattice, Window
from malice_core.job import DTYPES
from malice_core.plan import disk_bytes
from malice_core.product import BlockCodes, Layout, Means
from malice_core.spool import Held

LOW, HIGH = tuple(np.linspace(-3.0, -1.0, 64)), tuple(np.linspace(1.0, 4.0, 64))
LATTICE = Lattice("EPSG:32631", 10.0, 0.0, 0.0)
#: Half a unit in the last place of each type, for values as large as these.
ERRORS = {"float32": 0.0, "float16": 2**-9, "int16": 7.0 / 65534 / 2 * 1.001, "int8": 4.0 / 127 / 2 * 1.001}


def layout(dtype: str, sensors: tuple[str, ...] = ("s2",), queries: tuple[int, ...] = (0, 3)) -> Layout:
    count = len(sensors) * len(queries)
    return Layout(sensors, queries, 64, dtype, LOW * count, HIGH * count)


@dataclass
class Embedding:
    values: np.ndarray[Any, Any]
    counts: np.ndarray[Any, Any]


def encode(kind: Layout, parts: list[Embedding]) -> dict[str, Any]:
    """All parts of a block, put in two pieces each."""
    held = Held(parts[0].counts.size, kind.kinds)
    block = BlockCodes(kind, held)
    for number, part in enumerate(parts):
        for piece in (slice(0, 2), slice(2, None)):
            block.put(number, piece.start, part.values[:, piece], part.counts[piece])
    return dict(held.arrays)


def embedding(pixels: int, seed: int = 0) -> Embedding:
    rng = np.random.default_rng(seed)
    bounds = np.array([LOW * 2, HIGH * 2])[:, :, None]
    values = (bounds[0] + rng.random((128, pixels)) * (bounds[1] - bounds[0])).astype(np.float32)
    counts = rng.integers(0, 4, pixels).astype(np.uint16)
    return Embedding(values, counts)


def test_bands_are_named_by_query_and_channel() -> None:
    assert layout("float32").names[:2] == ["Q00F00", "Q00F01"]
    assert layout("float32").names[64] == "Q03F00"
    both = layout("float32", ("s2", "s1"))
    assert both.names[0] == "S2_Q00F00"
    assert both.names[128] == "S1_Q00F00"
    assert both.bands == len(both.names) == 256


@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_mean_the_values_and_missing_pixels_are_nodata(dtype: str) -> None:
    part = embedding(500)
    # Values on the bounds must not leave the code's range.
    part.values[:, 0], part.values[:, 1] = LOW * 2, HIGH * 2
    part.counts[:2] = 1
    kind = layout(dtype)
    arrays = encode(kind, [part])
    decoded = decode(kind, arrays)
    seen = part.counts > 0
    assert np.abs(decoded[:, seen] - part.values[:, seen]).max() <= ERRORS[dtype] + 1e-7
    missing = arrays["codes"][:, ~seen]
    assert np.isnan(missing).all() if np.isnan(kind.nodata) else (missing == kind.nodata).all()
    valid = arrays["codes"][:, seen]
    assert not np.isnan(valid).any() if np.isnan(kind.nodata) else not (valid == kind.nodata).any()


def test_an_embedding_of_zeros_survives_int8() -> None:
    kind = layout("int8")
    arrays = encode(kind, [Embedding(np.zeros((128, 3), np.float32), np.array([1, 0, 2], np.uint16))])
    assert (arrays["codes"][:, [0, 2]] == 128).all()
    assert np.isfinite(arrays["scales"][:, [0, 2]]).all()
    assert np.isnan(arrays["scales"][:, 1]).all()


def decode(kind: Layout, arrays: dict[str, Any]) -> np.ndarray[Any, Any]:
    codes = arrays["codes"].astype(np.float64)
    if kind.dtype == "int16":
        scale, offset = kind.steps
        return codes * scale[:, None] + offset[:, None]  # type: ignore[no-any-return]
    if kind.dtype == "int8":
        step = kind.bands // len(kind.sensors)
        return (codes - 128) * np.repeat(arrays["scales"], step, axis=0)  # type: ignore[no-any-return]
    return codes  # type: ignore[no-any-return]


def write(
    folder: Path,
    kind: Layout,
    area: Window,
    side: int,
    cog: bool = False,
    counts: bool = True,
    computing: bool = False,
    seen: Any = True,
) -> dict[str, Any]:
    """Makes files of a random scene from blocks; returns the arrays of the whole area.

    Args:
        seen: (height, width) where there are observations.
    """
    blocks = list(BlockGrid(area, (side, side), 48, 8).blocks())
    parts = [embedding(area.pixels, seed) for seed, _ in enumerate(kind.sensors)]
    for part in parts:
        part.counts[:] *= np.broadcast_to(seen, area.shape).reshape(-1)
    whole = {key: value.reshape(-1, *area.shape) for key, value in encode(kind, parts).items()}
    load: Callable[[int, str], Any] = lambda index, key: cut(whole[key], blocks[index], area)  # noqa: E731
    output = folder / "out.tif"
    for raster in product.rasters(kind, output, folder / "counts.tif" if counts else None, {"MALICE_TEST": "yes"}):
        shares: list[float] = []
        passed: list[tuple[str, Window]] = []
        tell: Callable[[str, Window], None] = lambda key, window: passed.append((key, window))  # noqa: B023, E731
        means = Means(load, lambda: 2, lambda: None, shares.append, lambda: computing, tell)
        with environment():
            rows = list(geotiff.grow(raster, raster.path, blocks, area, LATTICE, cog, means))
        assert [row.row for row in rows] == list(range(area.row, area.end_row, rows[0].height))
        assert sum(shares) == pytest.approx(1.0)
        # Only what is not read once more.
        at_once = computing and not cog and (len(raster.bands) > 1 or area.width > product.TILE)
        assert passed == ([(raster.key, row) for row in rows] if at_once else [])
    whole["values"] = np.concatenate([part.values for part in parts]).reshape(-1, *area.shape)
    return whole


def cut(array: Any, block: Block, area: Window) -> Any:
    rows, cols = block.core.slices_in(area)
    return array[:, rows, cols]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cog", [False, True])
@pytest.mark.parametrize("computing", [False, True])
def test_files_hold_the_codes(tmp_path: Path, dtype: str, cog: bool, computing: bool) -> None:
    area = Window(-3, 5, 300, 70) if cog else Window(-3, 5, 37, 70)
    kind = layout(dtype, ("s2", "s1"))
    whole = write(tmp_path, kind, area, 24, cog, computing=computing)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.descriptions == tuple(kind.names)
        assert file.transform == LATTICE.transform(area)
        assert file.crs.to_epsg() == 32631
        assert file.tags()["MALICE_TEST"] == "yes"
        assert file.profile["tiled"]
        # Only float32 is stored as it is, unless the file travels.
        packed = cog or dtype != "float32"
        assert (None if file.compression is None else file.compression.value) == ("ZSTD" if packed else None)
        np.testing.assert_array_equal(file.read(), whole["codes"].astype(file.dtypes[0]))
        assert bool(file.overviews(1)) is cog
    with rasterio.open(tmp_path / "counts.tif") as file:
        np.testing.assert_array_equal(file.read(), whole["counts"])
        assert file.descriptions == ("S2_dates", "S1_dates")
    assert (tmp_path / "out_scale.tif").exists() is (dtype == "int8")
    assert not list(tmp_path.glob("*.flat.tif*"))


@pytest.mark.parametrize("computing", [False, True])
def test_tiles_without_any_number_take_no_room(tmp_path: Path, computing: bool) -> None:
    """As beside a satellite's swath; one observed pixel keeps its tile."""
    kind, area = layout("float32"), Window(0, 0, 300, 300)
    seen = np.zeros(area.shape, np.bool_)
    seen[200, 140] = True
    seen[256:, :] = True
    whole = write(tmp_path, kind, area, 200, computing=computing, seen=seen)
    with rasterio.open(tmp_path / "out.tif") as file:
        values = file.read()
        there = [
            [bool(file.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=128)) for col in range(3)]
            for row in range(3)
        ]
    np.testing.assert_array_equal(values.view(np.uint32), whole["codes"].view(np.uint32))
    assert there == [[False] * 3, [False, True, False], [True] * 3]
    assert (tmp_path / "out.tif").stat().st_size < 4.2 * 128 * 128 * 128 * 4


@pytest.mark.parametrize("side", [17, 129])
def test_the_disk_that_is_planned_is_that_of_whole_tiles(tmp_path: Path, side: int) -> None:
    kind, area = layout("float32"), Window(0, 0, side, side)
    write(tmp_path, kind, area, 64, counts=False)
    size = (tmp_path / "out.tif").stat().st_size
    blocks = area.pixels * kind.bands * 4
    assert size > 1.5 * blocks
    assert size + blocks < disk_bytes(kind, area, "gtiff") < 1.1 * (size + blocks) + (1 << 20)


# 33: there is room for the numbers, but not for whole tiles.
@pytest.mark.parametrize(("cog", "side"), [(False, 120), (False, 33), (True, 140)])
def test_a_full_disk_is_told_once(small_disk: Path, capfd: pytest.CaptureFixture[str], cog: bool, side: int) -> None:
    with open(small_disk / "others", "wb") as file:
        file.write(bytes(1 << 20))
    kind = layout("int8" if cog else "float32", ("s2",))
    with pytest.raises(OutputError, match="the disk is full; free space"):
        write(small_disk, kind, Window(0, 0, side, side), 64, cog)
    assert capfd.readouterr().err == ""
    assert [path.name for path in small_disk.iterdir() if path.suffix == ".tif" and "out." in path.name] == []


@pytest.mark.skipif(not shutil.which("gdal_translate"), reason="Debian's gdal-bin is not installed")
@pytest.mark.parametrize("dtype", DTYPES)
def test_gdal_of_debian_reads_the_values_they_mean(tmp_path: Path, dtype: str) -> None:
    """Through another program, another GDAL: ``gdal_translate -unscale`` to plain floats."""
    area = Window(0, 0, 40, 56)
    kind = layout(dtype)
    whole = write(tmp_path, kind, area, 64)
    flat = tmp_path / "flat.bin"
    subprocess.run(
        ["gdal_translate", "-q", "-unscale", "-ot", "Float64", "-of", "ENVI", tmp_path / "out.tif", flat], check=True
    )
    read = np.fromfile(flat, np.float64).reshape(kind.bands, *area.shape)
    if dtype == "int8":
        scales = tmp_path / "scales.bin"
        subprocess.run(
            ["gdal_translate", "-q", "-ot", "Float64", "-of", "ENVI", tmp_path / "out_scale.tif", scales], check=True
        )
        read = (read - 128) * np.fromfile(scales, np.float64).reshape(1, *area.shape)
    seen = whole["counts"][0] > 0
    error = np.abs(read[:, seen] - whole["values"][:, seen]).max()
    assert error <= ERRORS[dtype] + 1e-6
    info = json.loads(
        subprocess.run(["gdalinfo", "-json", tmp_path / "out.tif"], check=True, capture_output=True).stdout
    )
    band = info["bands"][0]
    assert band["description"] == "Q00F00"
    nodata = float(band["noDataValue"])
    assert nodata == kind.nodata or (np.isnan(nodata) and np.isnan(kind.nodata))
    if dtype == "int16":
        assert band["scale"] == pytest.approx(kind.steps[0][0])
        assert band["offset"] == pytest.approx(kind.steps[1][0])
