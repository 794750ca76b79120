"""Sizes on the command line, the choice of blocks, and (long) the bound against what a run really takes."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers_embed import run, write_series

from malice_core import cards, cube, flags, geotiff, memory, simulate
from malice_core.errors import InputError
from malice_core.grid import BlockGrid, Window
from malice_core.product import Layout
from malice_core.scratch import Scratch


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2e9),
        ("2G", 2e9),
        ("800MB", 8e8),
        ("1.5gb", 1.5e9),
        ("1GiB", 2**30),
        (".5 TB", 5e11),
        ("1234567", 1234567),
    ],
)
def test_sizes(text: str, size: float) -> None:
    assert flags.size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "2 GBs", "1e9", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="--memory"):
        flags.size(text)


def test_more_memory_gives_larger_blocks_within_the_bound(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "images", (600, 600), 3)
    pixels, bounds = [], []
    for size in ("500MB", "700MB", "2GB"):
        recorder = run(
            *("--s2", images, "--model", tiny, "--output", tmp_path / "e.tif", "--memory", size), dry_run=True
        )
        pixels.append(math.prod(recorder.plans[0]["block"]))
        bounds.append(recorder.plans[0]["memory_bytes"])
        assert bounds[-1] <= flags.size(size)
    assert pixels == sorted(pixels)
    assert pixels[0] < pixels[-1]


@pytest.mark.parametrize(
    ("area", "clip"),
    [
        (Window(0, 0, 512, 512), False),
        (Window(-3, 5, 10980, 700), False),
        (Window(7, 7, 1, 90), False),
        (Window(3, 3, 512, 80), True),
        (Window(5, -3, 10976, 700), True),
    ],
)
def test_blocks_that_see_the_fewest_pixels_are_tried_first(store: Path, area: Window, clip: bool) -> None:
    card = cards.read(store / "tiny")
    if clip:
        area = Window(area.row, area.col, area.height // 8 * 8, area.width // 8 * 8)
    shapes = memory.shapes(area, card, clip)
    grids = [BlockGrid(area, shape, card.halo, card.stride, clip) for shape in shapes]
    seen = [grid.count * math.prod(grid.input_shape) for grid in grids]
    assert seen == sorted(seen)
    # No shape is missing, however the sides are wished for.
    wished = {
        BlockGrid(area, sides, card.halo, card.stride, clip).core_shape
        for sides in itertools.product(range(8, 513, 56), repeat=2)
    }
    assert wished <= set(shapes) == {grid.core_shape for grid in grids}
    assert max(map(max, shapes)) <= 512
    coarse = memory.shapes(area.snap(16), replace(card, stride=16))
    assert all(side % 16 == 0 for shape in coarse for side in shape)


def test_resumed_blocks_keep_their_sides_where_they_fit(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "images", (600, 600), 3)

    def planned(size: str, *options: object) -> dict[str, Any]:
        given = ("--s2", images, "--model", tiny, "--output", tmp_path / "e.tif", "--memory", size, *options)
        return run(*given, dry_run=True).plans[0]

    large, small = planned("2GB"), planned("600MB")
    assert large["fingerprint"] == small["fingerprint"]
    assert large["block"] != small["block"]
    for first, then, kept in ((large, "600MB", False), (small, "2GB", True)):
        with Scratch(tmp_path / "e.tif", first["fingerprint"], tuple(first["block"]), resume=False):
            pass
        again = planned(then, "--resume")
        assert (again["block"] == first["block"]) == kept
        assert again["memory_bytes"] <= flags.size(then)
        assert planned(then)["block"] == (large if then == "2GB" else small)["block"], "without --resume"
    assert planned("2GB", "--resume", "--block", 64)["block"] == [64, 64]
    # Of another job.
    assert planned("2GB", "--resume", "--max-dates", 2)["block"] != small["block"]


def test_what_an_output_takes_while_blocks_are_computed_is_planned(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "images", (64, 64), 2)
    found = {}
    for ending, format in (("tif", "gtiff"), ("tif", "cog"), ("vrt", "vrt"), ("zarr", "zarr")):
        job = ("--s2", images, "--model", tiny, "--output", tmp_path / f"e.{ending}", "--format", format)
        found[format] = run(*job, dry_run=True).plans[0]["memory_bytes"]
    strips = 4 * geotiff.STRIP_BYTES + 17 * 640
    assert found["gtiff"] == found["cog"] == found["vrt"]
    assert found["zarr"] - found["gtiff"] == memory.ZARR_BYTES + cube.PIECE_BYTES - strips
    # A whole Sentinel-2 tile: where its tiles are is a list of 80 MB; of a VRT only some are open.
    layout, area = Layout(("s2",), (0,), 640, "float32", (0.0,) * 640, (1.0,) * 640), Window(0, 0, 10980, 10980)
    whole, tiles = (memory.piece_bytes(format, layout, area) for format in ("gtiff", "vrt"))
    assert whole == 4 * geotiff.STRIP_BYTES + 17 * 640 * 86**2
    assert tiles == 4 * geotiff.STRIP_BYTES + 17 * 640 * 16 * 86


def test_a_block_larger_than_the_memory_is_computed_with_a_warning(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "images", (300, 300), 2)
    recorder = run(
        *("--s2", images, "--model", tiny, "--output", tmp_path / "e.tif", "--memory", "400MB", "--block", 304),
        dry_run=True,
    )
    assert any("--block 304 needs about" in warning for warning in recorder.warnings)


def peak_and_bound(*arguments: object) -> tuple[float, float]:
    """(measured, printed) GB of one run of the command line."""
    # A process counts the memory of the one that started it, up to its exec, as its own peak: not this one, then.
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", measure, sys.executable, "-m", "malice_core.embed", *map(str, arguments)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    bound = re.search(r"# memory +at most ([0-9.]+) GB", text)
    kilobytes = re.search(r"^peak (\d+)$", text, re.MULTILINE)
    assert bound
    assert kilobytes
    return int(kilobytes[1]) * 1024 / 1e9, float(bound[1])


@pytest.mark.acceptance
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_both_sensors_stay_under_the_bound(malice: str, tmp_path: Path, runtime: str) -> None:
    s2 = write_series(tmp_path / "s2", (200, 200), 40)
    s1 = write_series(tmp_path / "s1", (200, 200), 40, sensor="s1")
    arguments = ["--s2", s2, "--s1", s1, "--model", malice, "--memory", "1GB", "--runtime", runtime]
    peak, bound = peak_and_bound(*arguments, "--output", tmp_path / "e.tif")
    assert peak < bound <= 1.0


@pytest.mark.acceptance
@pytest.mark.timeout(3000)
def test_a_large_run_stays_under_its_bound(malice: str, tmp_path: Path) -> None:
    """1024 x 1024 pixels and 60 dates, with the default of 2 GB."""
    scene = tmp_path / "scene"
    simulate.write(simulate.Spec(height=1024, width=1024, s2_dates=60, s1_dates=0), scene)
    peak, bound = peak_and_bound("--s2", scene / "S2", "--model", malice, "--output", tmp_path / "e.tif")
    assert peak < bound
    assert peak < 2.5
