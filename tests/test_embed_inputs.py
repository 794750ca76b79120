"""Every bad input ends in exit code 2, one line that names the culprit and the cure, and no output."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from helpers_embed import S2_BANDS, command, free_names, run, write_image, write_series

from malice_core.errors import DeviceError, InputError, MaliceError, ModelError, OutputError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_series(tmp_path / "images", (24, 24), 3)


def refused(tmp_path: Path, *arguments: object, match: str, output: Path | None = None) -> MaliceError:
    """Runs, expects an :class:`InputError` in one line that matches, and no output."""
    output = output or tmp_path / "e.tif"
    before = free_names(output.parent) if output.parent.is_dir() else None
    with pytest.raises(InputError, match=match) as caught:
        run("--output", output, *arguments)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    if before is not None:
        assert free_names(output.parent) == before
    return caught.value


def test_nothing_given(tiny: str, tmp_path: Path) -> None:
    refused(tmp_path, "--model", tiny, match="give --s2 and/or --s1")


def test_no_such_file(tiny: str, tmp_path: Path) -> None:
    refused(tmp_path, "--s2", tmp_path / "gone.tif", "--model", tiny, match=r"gone\.tif")


@pytest.mark.parametrize(
    "arguments",
    [["--s2", "gone.tif"], ["--block", "9"], ["--model", "none"], ["--dates", "@none"], ["--memory", "1MB"]],
)
def test_a_process_that_refuses_ends_with_2_and_one_line(
    tiny: str, tmp_path: Path, images: Path, arguments: list[str]
) -> None:
    output = tmp_path / "e.tif"
    base = ["--model", tiny, *(["--s2", images] if "--s2" not in arguments else [])]
    result = command(*base, *arguments, "--output", output)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith("error: ")
    assert not output.exists()


def test_empty_folder(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path, "--s2", tmp_path / "empty", "--model", tiny, match="empty")


def test_unreadable_file(tiny: str, tmp_path: Path, images: Path) -> None:
    (images / "S2_20180601.tif").write_bytes(b"II*\0 this is no image")
    refused(tmp_path, "--s2", images, "--model", tiny, match=r"S2_20180601\.tif")


def test_truncated_file(tiny: str, tmp_path: Path, images: Path) -> None:
    path = sorted(images.iterdir())[0]
    path.write_bytes(path.read_bytes()[:300])
    refused(tmp_path, "--s2", images, "--model", tiny, match=path.name)


@pytest.mark.parametrize(
    ("file", "missing"),
    [("worldcereal_preprocessed_inputs.nc", "B8A"), ("gfmap_cdse_sentinel2_l2a.nc", "B02")],
)
def test_missing_bands_of_real_cubes(testdata: Path, tiny: str, tmp_path: Path, file: str, missing: str) -> None:
    cube = testdata / "data" / "openeo_cubes" / file
    refused(tmp_path, "--s2", cube, "--model", tiny, match=missing)


def test_unreadable_dates(tiny: str, tmp_path: Path, images: Path) -> None:
    (images / "S2_20180105.tif").rename(images / "monday.tif")
    refused(tmp_path, "--s2", images, "--model", tiny, match=r"monday\.tif")


@pytest.mark.parametrize(
    ("dates", "match"),
    [
        ("2020-01-01/2020-12-31", "2018-01-05"),
        ("2018-01-01", "START/END"),
        ("2018-13-01/2018-12-31", "2018-13-01"),
        ("2018-12-31/2018-01-01", "swap"),
        ("@missing.txt", r"missing\.txt"),
    ],
)
def test_dates_that_fit_nothing(tiny: str, tmp_path: Path, images: Path, dates: str, match: str) -> None:
    refused(tmp_path, "--s2", images, "--model", tiny, "--dates", dates, match=match)


def test_listed_dates_must_be_there(tiny: str, tmp_path: Path, images: Path) -> None:
    listed = tmp_path / "dates.txt"
    listed.write_text("S2 2018-01-05\nS2 2018-01-06  # not there\n")
    refused(tmp_path, "--s2", images, "--model", tiny, "--dates", f"@{listed}", match="2018-01-06")
    listed.write_text("S2 2018-01-05\nyesterday\n")
    refused(tmp_path, "--s2", images, "--model", tiny, "--dates", f"@{listed}", match="line 2: 'yesterday'")


def test_one_date_only_warns(tiny: str, tmp_path: Path, images: Path) -> None:
    recorder = run(
        *("--s2", images, "--model", tiny, "--dates", "2018-01-05/2018-01-05", "--output", tmp_path / "e.tif"),
        *("--queries", "0"),
    )
    assert any("one date only" in warning for warning in recorder.warnings)
    assert (tmp_path / "e.tif").exists()


@pytest.mark.parametrize(("factor", "match"), [("db", "dB"), ("coded", "dB")])
def test_backscatter_in_other_units(tiny: str, tmp_path: Path, factor: str, match: str) -> None:
    folder = tmp_path / "s1"
    folder.mkdir()
    rng = np.random.default_rng(0)
    values = rng.normal(-12, 3, (2, 24, 24))
    if factor == "coded":
        values = 10 ** ((values + 83) / 20)
    for day in (5, 17, 29):
        origin = (500000.0, 5600000.0)
        write_image(folder / f"S1_201801{day:02d}.tif", values, ("VV", "VH"), origin, "EPSG:32631", factor == "coded")
    refused(tmp_path, "--s1", folder, "--model", tiny, match=match)


def test_another_crs_is_warped_with_a_warning(tiny: str, tmp_path: Path, images: Path) -> None:
    with rasterio.open(sorted(images.iterdir())[0]) as file:
        left, bottom, right, top = rasterio.warp.transform_bounds(file.crs, "EPSG:32632", *file.bounds)
    size = (int((right - left) / 10) + 40, int((top - bottom) / 10) + 40)
    other = write_series(
        tmp_path / "s1",
        (size[1], size[0]),
        2,
        sensor="s1",
        origin=(left // 10 * 10 - 200, top // 10 * 10 + 200),
        crs="EPSG:32632",
    )
    recorder = run(
        *("--s2", images, "--s1", other, "--model", tiny, "--queries", "0", "--output", tmp_path / "e.tif"),
    )
    assert any("32632" in warning for warning in recorder.warnings), recorder.warnings


def test_names_that_are_too_long(tiny: str, tmp_path: Path, images: Path) -> None:
    for length in (240, 300):
        output = tmp_path / f"{'n' * length}.tif"
        refused(tmp_path, "--s2", images, "--model", tiny, "--output", output, match="the name is too long")


def test_scales_replace_no_file_of_somebody_else(tiny: str, tmp_path: Path, images: Path) -> None:
    theirs = tmp_path / "e_scale.tif"
    theirs.write_bytes(b"not ours")
    given = ("--dtype", "int8", "--overwrite", "--output", tmp_path / "e.tif")
    refused(tmp_path, "--s2", images, "--model", tiny, *given, match=r"e_scale\.tif, which was not written by embed")
    assert theirs.read_bytes() == b"not ours"


def test_areas_outside_the_data(tiny: str, tmp_path: Path, images: Path) -> None:
    refused(tmp_path, "--s2", images, "--model", tiny, "--aoi", 0, 0, 100, 100, match="lies outside")
    refused(tmp_path, "--s2", images, "--model", tiny, "--aoi", 100, 0, 0, 100, match="is empty")
    refused(tmp_path, "--s2", images, "--model", tiny, "--aoi", 3, 50, 3.1, 50.1, "--aoi-crs", "EPSG:9", match="EPSG:9")
    beyond = ("--aoi", "-1e300", "-1e300", "1e300", "1e300", "--aoi-crs", "EPSG:4326")
    refused(tmp_path, "--s2", images, "--model", tiny, *beyond, match="EPSG:4326: .*cannot")
    elsewhere = write_series(tmp_path / "far", (24, 24), 2, sensor="s1", origin=(600000.0, 5700000.0))
    refused(tmp_path, "--s2", images, "--s1", elsewhere, "--model", tiny, match="outside the S1 images")


@pytest.mark.parametrize(
    ("crs", "transform", "match"),
    [
        ("EPSG:4326", Affine(1e-4, 0, 3.0, 0, -1e-4, 50.0), "degree"),
        ("EPSG:32631", Affine(10, 2, 500000, 2, -10, 5600000), "rotated"),
        (None, Affine(10, 0, 500000, 0, -10, 5600000), "coordinate reference system"),
    ],
)
def test_grids_that_are_no_lattice(tiny: str, tmp_path: Path, crs: str | None, transform: Affine, match: str) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    profile = {"driver": "GTiff", "height": 24, "width": 24, "count": 10, "dtype": "uint16", "nodata": 0}
    for day in (5, 15):
        with rasterio.open(folder / f"S2_201801{day:02d}.tif", "w", crs=crs, transform=transform, **profile) as file:
            file.write(np.full((10, 24, 24), 1000, np.uint16))
            file.descriptions = S2_BANDS
    refused(tmp_path, "--s2", folder, "--model", tiny, match=match)


def test_outputs_that_cannot_be(tiny: str, tmp_path: Path, images: Path) -> None:
    base = ["--s2", images, "--model", tiny]
    refused(tmp_path, *base, output=tmp_path / "no" / "e.tif", match="does not exist")
    refused(tmp_path, *base, output=tmp_path / "e.png", match=r"ends in \.tif")
    (tmp_path / "there.tif").write_text("precious")
    refused(tmp_path, *base, output=tmp_path / "there.tif", match="--overwrite")
    assert (tmp_path / "there.tif").read_text() == "precious"
    refused(tmp_path, *base, "--counts", tmp_path / "e.tif", match="the same file")
    (tmp_path / "sub").mkdir()
    refused(tmp_path, *base, "--counts", tmp_path / "sub" / ".." / "e.tif", match="the same file")
    (tmp_path / "link").symlink_to(tmp_path)
    refused(tmp_path, *base, "--counts", tmp_path / "link" / "e.tif", match="the same file")
    os.mkfifo(tmp_path / "pipe.tif")
    refused(tmp_path, *base, "--overwrite", output=tmp_path / "pipe.tif", match="is a pipe or a device")
    image = sorted(images.iterdir())[0]
    before = image.read_bytes()
    refused(tmp_path, "--s2", image, "--model", tiny, "--overwrite", output=image, match="both an input and an output")
    refused(tmp_path, *base, "--overwrite", output=image, match="both an input and an output")
    assert image.read_bytes() == before


def test_a_disk_too_small_is_said_before_computing(tiny: str, images: Path, small_disk: Path) -> None:
    error = refused(small_disk, "--s2", images, "--model", tiny, output=small_disk / "e.tif", match="GB free")
    assert isinstance(error, OutputError)


def test_a_disk_that_fills_up_in_the_middle(
    tiny: str, images: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("malice_core.plan.check_disk", lambda *_: None)
    with pytest.raises(OutputError, match="free space") as caught:
        run("--s2", images, "--model", tiny, "--output", small_disk / "e.tif")
    assert "\n" not in str(caught.value)
    assert not (small_disk / "e.tif").exists()


@pytest.mark.parametrize("name", ["nothing", "../../etc", "a/b"])
def test_unknown_models(tmp_path: Path, images: Path, tiny: str, name: str) -> None:
    error = refused(tmp_path, "--s2", images, "--model", name, match="model")
    assert isinstance(error, ModelError)


def test_a_damaged_graph(tmp_path: Path, images: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers_models import write_random_model

    card = write_random_model(tmp_path / "models", sensors=("s2",))
    monkeypatch.setenv("MALICE_MODELS", str(tmp_path / "models"))
    graph = card.graph_path("s2", "spatial")
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(ModelError, match="is damaged"):
        run("--s2", images, "--model", "tiny", "--output", tmp_path / "e.tif")
    assert not (tmp_path / "e.tif").exists()


def test_a_modality_the_model_does_not_have(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers_models import write_random_model

    write_random_model(tmp_path / "models", sensors=("s1",))
    monkeypatch.setenv("MALICE_MODELS", str(tmp_path / "models"))
    refused(tmp_path, "--s2", images, "--model", "tiny", match="no S2 encoder")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--block", "12"], "--block 12"),
        (["--block", "16x12"], "--block 16x12"),
        (["--block", "16x"], "'' is not"),
        (["--block", "8x8x8"], "8x8x8' is not a block"),
        (["--block", "0"], "'0' is not"),
        (["--queries", "0,10"], "--queries 10"),
        (["--queries", "1,1"], "twice"),
        (["--memory", "much"], "--memory much"),
        (["--memory", "10MB"], "too little"),
        (["--max-cloud", "30"], "--scl"),
        (["--max-cloud", "130"], "'130' is not"),
        (["--scl", "x"], "x"),
        (["--edge", "wrap"], "wrap"),
        (["--resolution", "-10"], "'-10' is not"),
        (["--dtype", "float64"], "float64"),
        (["--s1-orbit", "200"], "'200' is not"),
        (["--aoi", "1", "2", "3"], "--aoi"),
        (["--aoi-crs", "EPSG:4326"], "without --aoi"),
        (["--edge", "published", "--aoi", "500000", "5599950", "500050", "5600000"], "multiples of 8"),
        (["--frobnicate"], "--frobnicate"),
        (["--s1-orbit", "59"], "--s1-orbit 59 without"),
        (["--cloud-classes", "8,9"], "--cloud-classes needs"),
        (["--scl", ""], "an empty path"),
        (["--resolution", "1000"], "'1000' is not"),
        (["--aoi", "0", "0", "1e9", "1e9"], "too large"),
        (["--aoi", "-1e5", "-1E5", "-.5", "-1"], "lies outside"),
    ],
)
def test_options_out_of_range(tiny: str, tmp_path: Path, images: Path, arguments: list[str], match: str) -> None:
    refused(tmp_path, "--s2", images, "--model", tiny, *arguments, match=match)


def test_a_device_that_is_not_there_lists_what_was_found(tiny: str, tmp_path: Path, images: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine may have a CUDA device")
    error = refused(tmp_path, "--s2", images, "--model", tiny, "--device", "cuda", match="CPUExecutionProvider")
    assert isinstance(error, DeviceError)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(tiny: str, tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    refused(tmp_path, "--s2", images, "--model", tiny, output=folder / "e.tif", match="cannot be written")
