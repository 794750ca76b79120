"""No result depends on how the work was cut: blocks, areas of interest, files, warps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from helpers_embed import Array, embedded, link, run, split, write_image, write_series
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from malice_core import simulate

TOLERANCE = 1e-5
#: How far the end of a file is felt: the network's reach, plus the rest of a block of 8.
REACH = 52


def largest(a: Array, b: Array) -> float:
    assert a.shape == b.shape
    assert (np.isnan(a) == np.isnan(b)).all()
    return float(np.nanmax(np.abs(a - b)))


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    row=st.integers(-20, 20),
    col=st.integers(-20, 20),
    block=st.sampled_from([8, 16, 24, 64]),
)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_do_not_show(
    tiny: str,
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    row: int,
    col: int,
    block: int,
) -> None:
    compare_blocks(tiny, tmp_path_factory.mktemp("t"), (height, width), (row, col), [block])


@pytest.mark.acceptance
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 200),
    row=st.integers(-20, 20),
    col=st.integers(-20, 20),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_do_not_show_on_larger_rasters(
    malice: str, tmp_path_factory: pytest.TempPathFactory, height: int, width: int, row: int, col: int
) -> None:
    compare_blocks(malice, tmp_path_factory.mktemp("t"), (height, width), (row, col), [8, 16, "24x64", 64], dates=1)


def compare_blocks(
    model: str,
    folder: Path,
    shape: tuple[int, int],
    shift: tuple[int, int],
    blocks: Sequence[int | str],
    dates: int = 3,
) -> None:
    origin = (500000.0 + 10 * shift[1], 5600000.0 - 10 * shift[0])
    images = write_series(folder / "s2", shape, dates, origin=origin, missing=0.05, seed=shape[0])
    arguments = ["--s2", images, "--model", model, "--queries", "0,7"]
    whole = embedded(folder / "whole.tif", *arguments, "--block", 512)
    for block in blocks:
        cut = embedded(folder / f"{block}.tif", *arguments, "--block", block)
        assert largest(whole, cut) < TOLERANCE, f"block {block}"


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_blocks_do_not_show_on_real_data(
    testdata: Path, malice: str, tmp_path: Path, sensor: str, everywhere: str
) -> None:
    source = testdata / "data" / "site_a" / ("S2" if sensor == "s2" else "S1_10m")
    images = link(sorted(source.glob("*_2018*.tif"))[::12][:8], tmp_path / "images")
    arguments = [f"--{sensor}", images, "--model", malice, "--device", everywhere]
    whole = embedded(tmp_path / "whole.tif", *arguments, "--block", 64)
    for block in (16, 24):
        assert largest(whole, embedded(tmp_path / f"{block}.tif", *arguments, "--block", block)) < TOLERANCE
    # The smallest blocks compute a hundred times their pixels: a part does.
    with rasterio.open(tmp_path / "whole.tif") as file:
        box = area((file.transform.c, file.transform.f), 21, 13, 20, 24)
    part = embedded(tmp_path / "8.tif", *arguments, "--block", 8, "--aoi", *box)
    assert largest(part, whole[:, 21:41, 13:37]) < TOLERANCE


def area(origin: tuple[float, float], row: int, col: int, height: int, width: int) -> list[float]:
    left, top = origin[0] + 10 * col, origin[1] - 10 * row
    return [left, top - 10 * height, left + 10 * width, top]


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_areas_of_interest_and_mosaics_agree_with_the_whole_scene(
    tiny: str, tmp_path: Path, sensor: str, everywhere: str
) -> None:
    origin = (500010.0, 5600030.0)
    images = write_series(tmp_path / "images", (100, 200), 3, sensor=sensor, origin=origin)
    arguments = ["--model", tiny, "--queries", "2", "--block", 64, "--device", everywhere]
    whole = embedded(tmp_path / "whole.tif", f"--{sensor}", images, *arguments)

    for number, (row, col, height, width) in enumerate([(3, 5, 61, 90), (31, 67, 67, 111)]):
        box = area(origin, row, col, height, width)
        part = embedded(tmp_path / f"{number}.tif", f"--{sensor}", images, *arguments, "--aoi", *box)
        assert largest(part, whole[:, row : row + height, col : col + width]) < TOLERANCE

    halves = split(images, tmp_path / "halves", 97)
    mosaic = embedded(tmp_path / "mosaic.tif", f"--{sensor}", halves, *arguments)
    assert largest(mosaic, whole) < TOLERANCE

    left = link(sorted(halves.glob("*_left.tif")), tmp_path / "left")
    alone = embedded(tmp_path / "alone.tif", f"--{sensor}", left, *arguments)
    assert largest(alone[..., : 97 - REACH], whole[..., : 97 - REACH]) < TOLERANCE
    assert largest(alone, whole[..., :97]) > 1e-3, "near the cut the half must differ, or this test sees nothing"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated 400 x 400 scene, its Sentinel-1 once more in the neighbouring UTM zone."""
    folder = tmp_path_factory.mktemp("scene")
    simulate.write(simulate.Spec(height=400, width=400, s2_dates=4, s1_dates=4), folder / "scene")
    neighbour = folder / "zone32"
    neighbour.mkdir()
    for path in sorted((folder / "scene" / "S1").glob("*.tif")):
        with rasterio.open(path) as file:
            left, bottom, right, top = rasterio.warp.transform_bounds(file.crs, "EPSG:32632", *file.bounds)
            values, names = file.read(), file.descriptions
        # The same numbers on other ground: what is compared is the cut, not the landscape.
        pad = [(0, 0)] + [(0, int(size / 10) + 60 - 400) for size in (top - bottom, right - left)]
        origin = (left // 10 * 10 - 300, top // 10 * 10 + 300)
        write_image(neighbour / path.name, np.pad(values, pad, mode="reflect"), names, origin, "EPSG:32632", False)
    return folder


@pytest.mark.acceptance
@pytest.mark.parametrize("kind", ["s2", "s1", "warped"])
def test_a_scene_of_400_pixels_can_be_cut_anyhow(malice: str, scene: Path, tmp_path: Path, kind: str) -> None:
    s2, s1 = scene / "scene" / "S2", scene / "scene" / "S1"
    images = {"s2": s2, "s1": s1, "warped": scene / "zone32"}[kind]
    # The lattice of the warped run is that of its Sentinel-2.
    base = ["--s2", s2] if kind == "warped" else []
    option = "--s2" if kind == "s2" else "--s1"
    arguments = [*base, "--model", malice, "--queries", "3"]
    whole = embedded(tmp_path / "whole.tif", option, images, *arguments)
    with rasterio.open(tmp_path / "whole.tif") as file:
        assert file.shape == (400, 400)
        origin = (file.transform.c, file.transform.f)

    parts = []
    for number, (row, col, height, width) in enumerate([(13, 21, 211, 187), (101, 95, 199, 243)]):
        box = area(origin, row, col, height, width)
        parts.append(embedded(tmp_path / f"{number}.tif", option, images, *arguments, "--aoi", *box))
        assert largest(parts[-1], whole[:, row : row + height, col : col + width]) < TOLERANCE
    assert largest(parts[0][:, 88:, 74:], parts[1][:, :123, :113]) < TOLERANCE

    halves = split(images, tmp_path / "halves", 203)
    mosaic = embedded(tmp_path / "mosaic.tif", option, halves, *arguments)
    assert largest(mosaic, whole) < TOLERANCE

    if kind != "warped":
        left = link(sorted(halves.glob("*_left.tif")), tmp_path / "left")
        alone = embedded(tmp_path / "alone.tif", option, left, *arguments)
        assert largest(alone[..., : 203 - REACH], whole[..., : 203 - REACH]) < TOLERANCE


@pytest.mark.parametrize("resolution", [10.0, 20.0])
def test_warped_stacks_do_not_depend_on_the_cut(tiny: str, tmp_path: Path, resolution: float) -> None:
    """Sentinel-1 in the neighbouring UTM zone (and at 20 m) under a Sentinel-2 lattice."""
    origin = (700000.0, 5600000.0)
    s2 = write_series(tmp_path / "s2", (90, 120), 2, origin=origin)
    with rasterio.open(next(s2.glob("*.tif"))) as file:
        box = rasterio.warp.transform_bounds(file.crs, "EPSG:32632", *file.bounds)
    start = (np.floor(box[0] / 100) * 100 - 500, np.ceil(box[3] / 100) * 100 + 500)
    size = int((box[2] - box[0] + 1100) / 10), int((box[3] - box[1] + 1100) / 10)
    s1 = write_series(tmp_path / "s1", (size[1], size[0]), 2, sensor="s1", origin=start, crs="EPSG:32632")
    arguments = ["--s2", s2, "--model", tiny, "--queries", "2", "--resolution", resolution]
    whole = embedded(tmp_path / "whole.tif", *arguments, "--s1", s1, "--block", 256)
    assert np.isfinite(whole).all()
    cut = embedded(tmp_path / "cut.tif", *arguments, "--s1", s1, "--block", 40)
    assert largest(whole, cut) < TOLERANCE
    if resolution == 10:
        box = area(origin, 21, 17, 50, 73)
        part = embedded(tmp_path / "aoi.tif", *arguments, "--s1", s1, "--aoi", *box)
        assert largest(part, whole[:, 21:71, 17:90]) < TOLERANCE
    halves = split(s1, tmp_path / "halves", size[0] // 2 + 3)
    mosaic = embedded(tmp_path / "mosaic.tif", *arguments, "--s1", halves, "--block", 64)
    assert largest(mosaic, whole) < TOLERANCE


def test_dates_missing_in_one_half_leave_the_other_unchanged(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "images", (40, 180), 6)
    gaps = tmp_path / "gaps"
    gaps.mkdir()
    for number, path in enumerate(sorted(images.glob("*.tif"))):
        with rasterio.open(path) as file:
            values, profile, names = file.read(), file.profile, file.descriptions
        if number % 2:
            values[:, :, :80] = 0
        with rasterio.open(gaps / path.name, "w", **profile) as file:
            file.write(values)
            file.descriptions = names
    without = link(sorted(images.glob("*.tif"))[::2], tmp_path / "without")
    arguments = ["--model", tiny, "--queries", "1"]
    masked = embedded(tmp_path / "masked.tif", "--s2", gaps, *arguments, "--counts", tmp_path / "n.tif")
    full = embedded(tmp_path / "full.tif", "--s2", images, *arguments)
    fewer = embedded(tmp_path / "fewer.tif", "--s2", without, *arguments)
    assert largest(masked[..., 80 + REACH :], full[..., 80 + REACH :]) < TOLERANCE
    # Where three of six dates are missing the result is that of the other three.
    assert largest(masked[..., : 80 - REACH], fewer[..., : 80 - REACH]) < TOLERANCE
    zeroed = embedded(tmp_path / "zeroed.tif", "--s2", gaps, *arguments, "--nodata", "zero")
    assert largest(zeroed[..., : 80 - REACH], fewer[..., : 80 - REACH]) > 1e-3
    with rasterio.open(tmp_path / "n.tif") as file:
        counts = file.read(1)
    assert (counts[:, :80] == 3).all()
    assert (counts[:, 80:] == 6).all()


def test_masked_clouds_are_missing_observations(tiny: str, tmp_path: Path) -> None:
    """Against the same images with the cloudy pixels set to nodata by hand; classes on 20 m pixels."""
    images = write_series(tmp_path / "images", (44, 60), 3)
    blanked, classes = tmp_path / "blanked", tmp_path / "scl"
    blanked.mkdir()
    classes.mkdir()
    rng = np.random.default_rng(5)
    for path in sorted(images.glob("*.tif")):
        scl = rng.choice([4, 5, 8, 10], (22, 30), p=[0.5, 0.3, 0.1, 0.1]).astype(np.uint8)
        with rasterio.open(path) as file:
            values, profile, names, box = file.read(), file.profile, file.descriptions, file.transform
        write_image(
            classes / path.name.replace("S2", "SCL"), scl[None], ("SCL",), (box.c, box.f), "EPSG:32631", True, 20.0
        )
        values[:, np.isin(scl.repeat(2, 0).repeat(2, 1), (8, 10))] = 0
        with rasterio.open(blanked / path.name, "w", **profile) as file:
            file.write(values)
            file.descriptions = names
    arguments = ["--model", tiny, "--queries", "1"]
    masked = embedded(tmp_path / "a.tif", "--s2", images, *arguments, "--scl", classes, "--mask-clouds", "--block", 24)
    by_hand = embedded(tmp_path / "b.tif", "--s2", blanked, *arguments)
    plain = embedded(tmp_path / "c.tif", "--s2", images, *arguments)
    assert largest(masked, by_hand) < TOLERANCE
    assert np.nanmax(np.abs(masked - plain)) > 1e-3


def test_pixels_without_any_observation_are_nodata(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "images", (30, 30), 2)
    for path in images.glob("*.tif"):
        with rasterio.open(path, "r+") as file:
            values = file.read()
            values[:, 4:9, 7:11] = 0
            file.write(values)
    output = embedded(tmp_path / "e.tif", "--s2", images, "--model", tiny, "--queries", "0", "--nodata", "zero")
    missing = np.isnan(output)
    assert missing[:, 4:9, 7:11].all()
    assert missing.sum() == 64 * 5 * 4


def test_both_modalities_are_concatenated(tiny: str, tmp_path: Path) -> None:
    """S1 covers only a part: its bands are nodata elsewhere, S2's are not."""
    s2 = write_series(tmp_path / "s2", (40, 48), 2)
    s1 = write_series(tmp_path / "s1", (30, 20), 3, sensor="s1", origin=(500080.0, 5599900.0))
    arguments = ["--model", tiny, "--queries", "4"]
    both = embedded(tmp_path / "both.tif", "--s2", s2, "--s1", s1, *arguments)
    only = embedded(tmp_path / "s2.tif", "--s2", s2, *arguments)
    radar = embedded(tmp_path / "s1.tif", "--s1", s1, *arguments)
    assert both.shape == (128, 40, 48)
    np.testing.assert_array_equal(both[:64], only)
    assert largest(both[64:, 10:40, 8:28], radar) < TOLERANCE
    assert np.isnan(both[64:, :10]).all()
    assert np.isnan(both[64:, :, 28:]).all()


def test_outputs_are_the_same_for_any_number_of_threads(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "images", (70, 50), 4)
    arguments = ["--s2", images, "--model", tiny, "--block", 24]
    one = embedded(tmp_path / "1.tif", *arguments, "--threads", 1)
    two = embedded(tmp_path / "2.tif", *arguments, "--threads", 2)
    np.testing.assert_array_equal(one, two)


def test_an_output_among_the_images_is_no_image(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "images", (16, 16), 2)
    arguments = ["--s2", images, "--model", tiny, "--queries", "0", "--dtype", "int8", "--overwrite"]
    first = embedded(images / "year_20180301.tif", *arguments, "--counts", images / "n_20180401.tif")
    (images / "year_20180301.tif.malice").mkdir()
    np.testing.assert_array_equal(embedded(images / "year_20180301.tif", *arguments), first)


def test_orbits_of_the_plan_can_be_given_back(tiny: str, tmp_path: Path) -> None:
    """Two orbits a day, thinned: the list must bring back the same observations, not both of each day."""
    origin = (500000.0, 5600000.0)
    folder = tmp_path / "s1"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for day in range(1, 25, 3):
        for orbit in (59, 161):
            path = folder / f"S1_202401{day:02d}_R{orbit:03d}.tif"
            write_image(path, rng.uniform(0.01, 0.3, (2, 16, 16)), ("VV", "VH"), origin, "EPSG:32631", False)
            with rasterio.open(path, "r+") as file:
                file.update_tags(RELATIVE_ORBIT=orbit)
    arguments = ["--s1", folder, "--model", tiny, "--output", tmp_path / "a.tif"]
    first = run(*arguments, "--max-dates", 5, dry_run=True).plans[0]
    (tmp_path / "dates.txt").write_text(first["text"])
    second = run(*arguments, "--dates", f"@{tmp_path / 'dates.txt'}", dry_run=True).plans[0]
    seen = [[(d["date"], d["orbit"]) for d in plan["modalities"]["s1"]["dates"]] for plan in (first, second)]
    assert len(seen[0]) == 5
    assert seen[0] == seen[1]
    assert first["fingerprint"] == second["fingerprint"]


def test_dates_of_the_plan_can_be_given_back(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "images", (16, 16), 6)
    first = run("--s2", images, "--model", tiny, "--output", tmp_path / "a.tif", "--max-dates", 3, dry_run=True)
    listed = tmp_path / "dates.txt"
    listed.write_text(first.plans[0]["text"])
    second = run("--s2", images, "--model", tiny, "--output", tmp_path / "a.tif", "--dates", f"@{listed}", dry_run=True)
    dates = [[d["date"] for d in r.plans[0]["modalities"]["s2"]["dates"]] for r in (first, second)]
    assert len(dates[0]) == 3
    assert dates[0] == dates[1]
