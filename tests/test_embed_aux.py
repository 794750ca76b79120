"""The engine with MALICE Aux against the torch network on whole rasters, step by step."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from helpers_embed import Array, command, day_of, embedded, link, run, write_series
from helpers_weather import FACTORS, LATTICE, expected, series, write_daily, write_table

torch = pytest.importorskip("torch")

from helpers_definition import cosines, images_of, network, terrain_of, weather_of  # noqa: E402
from helpers_training import random_encoder, save_checkpoint  # noqa: E402

from malice_core import runtime  # noqa: E402
from malice_core.errors import DeviceError, MaliceError  # noqa: E402
from malice_core.store import importing  # noqa: E402
from malice_core.training.malice import MaliceEncoder  # noqa: E402

TOLERANCE = 2e-5
#: Upper left corner of the made-up images: on the lattice of ``helpers_weather``, so that cells are its.
ORIGIN = (501363.0, 5629683.0)
FIRST, COUNT = date(2020, 3, 1), 3
SHAPE = (136, 80)
#: A part of them, for what holds anywhere: 16 x 16 pixels on both sides of column 60.
PART = ("--aoi", ORIGIN[0] + 520, ORIGIN[1] - 660, ORIGIN[0] + 680, ORIGIN[1] - 500)


@pytest.fixture(scope="module")
def encoder() -> MaliceEncoder:
    return random_encoder(5, auxiliary=True)


@pytest.fixture(scope="module")
def aux_store(encoder: MaliceEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("aux")
    said: list[str] = []
    importing.import_files([save_checkpoint(encoder, folder / "aux.ckpt")], "aux", folder, say=said.append)
    assert any("graphs agree with the torch encoder" in line for line in said)
    return folder


@pytest.fixture
def aux(aux_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MALICE_MODELS", str(aux_store))
    return "aux"


# Real images


@pytest.mark.parametrize("sensor", ["s2", "s1"])
@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_real_site_with_its_own_weather_terrain_and_angles(
    testdata: Path, aux: str, encoder: MaliceEncoder, tmp_path: Path, sensor: str, runtime: str
) -> None:
    site = testdata / "data" / "site_a"
    files = sorted((site / {"s2": "S2", "s1": "S1_10m"}[sensor]).glob("*_2018*.tif"))[3::12][:8]
    folder, days = link(files, tmp_path / "images"), [day_of(path) for path in files]
    given = [f"--{sensor}", folder, "--weather", site / "AGERA5_daily.csv", "--dem", site / "DEM_COPDEM30_10m.tif"]
    given += ["--s2-angles", site / "S2_dates.csv"] if sensor == "s2" else ["--s1-angles", "39.2"]
    output = embedded(
        tmp_path / "e.tif", *given, "--model", aux, "--edge", "published", "--nodata", "zero", "--runtime", runtime
    )
    with (site / "S2_dates.csv").open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    names = ("sun_zenith", "sun_azimuth", "view_zenith_mean", "view_azimuth_mean")
    if sensor == "s2":
        angles = cosines(np.array([[float(rows[path.name][name]) for name in names] for path in files]))
    else:
        angles = np.full((len(files), 1), np.cos(np.radians(39.2)))
    images, seen = images_of(files, sensor, angles)
    with (site / "AGERA5_daily.csv").open() as file:
        daily = {date.fromisoformat(row[0]): np.array(row[1:], float) * FACTORS for row in list(csv.reader(file))[1:]}
    weather = np.array([[daily[day + timedelta(days=k)] for k in range(-4, 2)] for day in days])
    weather = weather_of(weather.transpose(0, 2, 1).reshape(len(days), 48))
    with rasterio.open(site / "DEM_COPDEM30_10m.tif") as file:
        terrain = terrain_of(file.read(1))
    maps = np.broadcast_to(weather[:, None, None], (len(days), 64, 64, 48)).copy()
    wanted = network(encoder, sensor, images, days, maps, terrain, np.ones_like(seen))
    assert np.abs(output - wanted).max() < TOLERANCE
    assert wanted.std() > 0.1


# Made-up images with weather that differs from cell to cell


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 136 x 80 pixels in several cells, weather, a DEM that ends far beyond them, angles."""
    folder = tmp_path_factory.mktemp("stack")
    for sensor, missing in (("s2", 0.1), ("s1", 0.0)):
        write_series(folder / sensor, SHAPE, COUNT, sensor=sensor, origin=ORIGIN, missing=missing, seed=3, first=FIRST)
    when = [FIRST + timedelta(days=k) for k in range(-4, 10 * COUNT)]
    write_daily(folder / "weather", when)
    write_table(folder / "weather.csv", when)
    write_dem(folder / "dem.tif")
    rows = [f"{day},{30 + i},{150 + i},{5 + i},{100 + 20 * i}" for i, day in enumerate(days_of())]
    (folder / "angles.csv").write_text(
        "\n".join(["date,sun_zenith,sun_azimuth,view_zenith,view_azimuth", *rows]) + "\n"
    )
    return folder


def days_of() -> list[date]:
    return [FIRST + timedelta(days=10 * i) for i in range(COUNT)]


def elevation(rows: int, cols: int, margin: int) -> Array:
    """Hills around the images, which begin at (margin, margin)."""
    y, x = np.mgrid[-margin : rows - margin, -margin : cols - margin]
    return (300 + 80 * np.sin(y / 17) + 60 * np.cos(x / 23) + 0.3 * x).astype(np.float32)


def write_dem(path: Path, values: Array | None = None, margin: int = 64, **options: Any) -> Path:
    values = elevation(SHAPE[0] + 2 * margin, SHAPE[1] + 2 * margin, margin) if values is None else values
    place = Affine(10, 0, ORIGIN[0] - 10 * margin, 0, -10, ORIGIN[1] + 10 * margin)
    profile = {"driver": "GTiff", "dtype": "float32", "count": 1, "crs": "EPSG:32631", "transform": place, **options}
    with rasterio.open(path, "w", height=values.shape[-2], width=values.shape[-1], **profile) as file:
        file.write(values.reshape(-1, *values.shape[-2:]))
    return path


def inputs(stack: Path, *sensors: str, weather: str | Path = "weather", **other: object) -> list[object]:
    options: dict[str, object] = {"weather": stack / weather, "dem": stack / "dem.tif"}
    options |= {"s2-angles": stack / "angles.csv"} if "s2" in sensors else {}
    options |= {"s1-angles": 37} if "s1" in sensors else {}
    options |= other
    named = [part for name, value in options.items() if value is not None for part in (f"--{name}", value)]
    return [part for sensor in sensors for part in (f"--{sensor}", stack / sensor)] + named


def test_weather_terrain_and_mirrored_edges_are_as_defined(
    stack: Path, aux: str, encoder: MaliceEncoder, tmp_path: Path
) -> None:
    """Every input is mirrored beyond the images: the network without an edge sees what is padded here by hand."""
    output = embedded(tmp_path / "e.tif", *inputs(stack, "s2", "s1"), "--model", aux, "--block", 64)
    area, margin = LATTICE.window(ORIGIN[0], ORIGIN[1] - 10 * SHAPE[0], ORIGIN[0] + 10 * SHAPE[1], ORIGIN[1]), 48 + 8
    # Blocks are anchored in coordinates: the padding begins at a multiple of 8.
    top, left = margin + area.row % 8, margin + area.col % 8
    bottom, right = (-(side + begun) % 8 + margin for side, begun in zip(SHAPE, (top, left), strict=True))
    pads = ((top, bottom), (left, right))

    def padded(values: Array, axes: int = 2) -> Array:
        return np.pad(values, [(0, 0)] * (values.ndim - axes) + list(pads), mode="reflect")

    cells = expected(area, days_of())
    rows, cols = (np.arange(begin, end) // 64 for begin, end in ((area.row, area.end_row), (area.col, area.end_col)))
    weather = weather_of(cells[(rows - rows[0])[:, None], cols - cols[0]].transpose(2, 0, 1, 3))
    assert len(set(rows)) > 2 <= len(set(cols))
    weather = np.pad(weather, [(0, 0), *pads, (0, 0)], mode="reflect")
    terrain = padded(terrain_of(elevation(SHAPE[0] + 2, SHAPE[1] + 2, 1))[:, 1:-1, 1:-1])
    angles = {"s2": cosines(np.array([[30 + i, 150 + i, 5 + i, 100 + 20 * i] for i in range(COUNT)], float))}
    angles["s1"] = np.full((COUNT, 1), np.cos(np.radians(37)))
    for number, sensor in enumerate(("s2", "s1")):
        images, seen = images_of(sorted((stack / sensor).glob("*.tif")), sensor, angles[sensor])
        wanted = network(encoder, sensor, padded(images), days_of(), weather, terrain, padded(seen))
        wanted = wanted[:, top : top + SHAPE[0], left : left + SHAPE[1]]
        there = seen.any(axis=0)
        got = output[640 * number : 640 * (number + 1)]
        assert np.abs(got - wanted)[:, there].max() < TOLERANCE
        assert np.isnan(got[:, ~there]).all()


def test_bfloat16_is_near(stack: Path, aux: str, tmp_path: Path) -> None:
    """Terrain and weather go another way into the network than images do."""
    try:
        runtime.choose("openvino", "cpu", "bfloat16")
    except DeviceError as error:
        pytest.skip(f"{error}")
    given = [*inputs(stack, "s2", "s1"), "--model", aux, "--runtime", "openvino", "--precision"]
    exact, found = (embedded(tmp_path / f"{name}.tif", *given, name) for name in ("float32", "bfloat16"))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(exact))
    assert 1e-5 < np.nanmax(np.abs(found - exact)) < 0.2 * np.nanstd(exact)


def test_no_number_depends_on_blocks_or_area(stack: Path, aux: str, tmp_path: Path) -> None:
    given = [*inputs(stack, "s2", "s1"), "--model", aux]
    whole = embedded(tmp_path / "whole.tif", *given)
    cut = embedded(tmp_path / "64.tif", *given, "--block", 64)
    np.testing.assert_allclose(cut, whole, rtol=0, atol=1e-5)
    x, y = ORIGIN[0] + 330, ORIGIN[1] - 910
    for block in (24, 512):
        part = embedded(tmp_path / f"{block}.tif", *given, "--aoi", x, y, x + 400, y + 500, "--block", block)
        np.testing.assert_allclose(part, whole[:, 41:91, 33:73], rtol=0, atol=1e-5)
    other = embedded(tmp_path / "onnx.tif", *given, "--runtime", "onnxruntime")
    np.testing.assert_allclose(other, whole, rtol=0, atol=TOLERANCE)


def test_the_token_of_the_terrain_is_the_same_whatever_else_is_embedded(stack: Path, aux: str, tmp_path: Path) -> None:
    both = embedded(tmp_path / "both.tif", *inputs(stack, "s2", "s1"), "--model", aux, *PART)
    for number, sensor in enumerate(("s2", "s1")):
        alone = embedded(tmp_path / f"{sensor}.tif", *inputs(stack, sensor), "--model", aux, *PART)
        np.testing.assert_array_equal(alone, both[640 * number : 640 * (number + 1)])


def test_all_surroundings_matter(stack: Path, aux: str, tmp_path: Path) -> None:
    first = embedded(tmp_path / "e.tif", *inputs(stack, "s2"), "--model", aux, *PART)
    flat = write_dem(tmp_path / "flat.tif", np.full((264, 208), 300, np.float32))
    others = {"dem": flat, "weather": stack / "weather.csv", "s2-angles": None}
    for name, value in others.items():
        more = ["--angles", "median"] if value is None else []
        got = embedded(tmp_path / f"{name}.tif", *inputs(stack, "s2", **{name: value}), *more, "--model", aux, *PART)
        assert np.nanmean(np.abs(got - first)) > 1e-3, name


def test_the_raster_says_what_was_used(stack: Path, aux: str, tmp_path: Path) -> None:
    recorder = run("--output", tmp_path / "e.tif", *inputs(stack, "s2", "s1"), "--model", aux, "--block", 32, *PART)
    with rasterio.open(tmp_path / "e.tif") as file:
        tags = file.tags()
    assert "Copernicus Climate Change Service" in tags["MALICE_CREDITS"]
    assert tags["MALICE_NORMALISATION_S1"].startswith("VV: log10, clip")
    assert "cos_incidence: clip" in tags["MALICE_NORMALISATION_S1"]
    assert tags["MALICE_NORMALISATION_TERRAIN"].startswith("dem_data: clip [26.0")
    for text in (f"all six days of all {COUNT} dates", "DEM:", "angles: S1, 1 record"):
        assert text in tags["MALICE_RULES"], text
        assert any(text in note for note in recorder.plans[0]["notes"]), text
    assert not [w for w in recorder.warnings if "weather" in w]


# Angles a pixel


def write_angles(folder: Path, planes: Array, day: date, names: tuple[str, ...], **options: Any) -> None:
    folder.mkdir(exist_ok=True)
    write_dem(folder / f"ANGLES_{day:%Y%m%d}.tif", planes, 0, count=len(planes), **options)
    with rasterio.open(folder / f"ANGLES_{day:%Y%m%d}.tif", "r+") as file:
        file.descriptions = names


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_angles_a_pixel_from_rasters(aux: str, encoder: MaliceEncoder, tmp_path: Path, sensor: str) -> None:
    folder = write_series(tmp_path / "images", (40, 32), COUNT, sensor=sensor, origin=ORIGIN, first=FIRST)
    when = [FIRST + timedelta(days=k) for k in range(-4, 10 * COUNT)]
    dem, weather = write_dem(tmp_path / "dem.tif"), write_table(tmp_path / "weather.csv", when)
    rng = np.random.default_rng(0)
    names = ("viewZenithMean", "viewAzimuthMean", "sunZenithAngles", "sunAzimuthAngles") if sensor == "s2" else ("LIA",)
    made = []
    for day in days_of():
        degrees = rng.uniform(5, 60, (len(names), 40, 32)).astype(np.float32)
        write_angles(tmp_path / "angles", degrees, day, names)
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        made.append(np.stack([cos[2], cos[3], sin[3], cos[0], cos[1], sin[1]]) if sensor == "s2" else cos)
    given = [f"--{sensor}", folder, "--weather", weather, "--dem", dem, f"--{sensor}-angles", tmp_path / "angles"]
    given += ["--model", aux, "--edge", "published", "--nodata", "zero"]
    output = embedded(tmp_path / "e.tif", *given)
    images, seen = images_of(sorted(folder.glob("*.tif")), sensor, np.stack(made))
    daily = np.array([[series(day + timedelta(days=k)) * FACTORS for k in range(-4, 2)] for day in days_of()])
    numbers = weather_of(daily.transpose(0, 2, 1).reshape(COUNT, 48))
    maps = np.broadcast_to(numbers[:, None, None], (COUNT, 40, 32, 48)).copy()
    terrain = terrain_of(elevation(42, 34, 1))[:, 1:-1, 1:-1].copy()
    wanted = network(encoder, sensor, images, days_of(), maps, terrain, np.ones_like(seen))
    assert np.abs(output - wanted).max() < TOLERANCE
    assert np.abs(embedded(tmp_path / "8.tif", *given, "--block", 8) - output).max() < 1e-5


# What is missing or wrong


def fails(*arguments: object) -> str:
    with pytest.raises(MaliceError) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_what_is_missing_is_named(stack: Path, aux: str, tmp_path: Path) -> None:
    end = ["--model", aux, "--output", tmp_path / "e.tif"]
    assert "give --weather and --dem" in fails(*inputs(stack, "s2", weather="", dem=None)[:2], *end)
    assert "give --dem" in fails(*inputs(stack, "s2", dem=None), *end)
    line = fails(*inputs(stack, "s2", **{"s2-angles": None}), *end)
    assert "--s2-angles" in line
    assert "--angles median" in line
    text = (stack / "angles.csv").read_text().splitlines(keepends=True)
    (tmp_path / "some.csv").write_text("".join(text[:-1]))
    assert f"of {days_of()[-1]}" in fails(*inputs(stack, "s2", **{"s2-angles": tmp_path / "some.csv"}), *end)
    assert "--s1-angles without S1" in fails(*inputs(stack, "s2"), "--s1-angles", 37, *end)
    shifted = write_dem(tmp_path / "shifted.tif", np.full((264, 100), 300, np.float32))
    assert "of the area" in (line := fails(*inputs(stack, "s2", dem=shifted), *end))
    assert "covers " in line
    degrees = write_dem(tmp_path / "degrees.tif", crs="EPSG:4326", transform=Affine(1e-4, 0, 3.0, 0, -1e-4, 50.9))
    assert "covers" in fails(*inputs(stack, "s2", dem=degrees), *end)
    assert not list(tmp_path.glob("e.tif*"))


def test_images_alone_are_for_malice(stack: Path, tiny: str, tmp_path: Path) -> None:
    line = fails(*inputs(stack, "s2"), "--model", tiny, "--output", tmp_path / "e.tif")
    assert "takes no --weather, --dem, --s2-angles" in line


def test_units_of_weather_are_told_or_converted(stack: Path, aux: str, tmp_path: Path) -> None:
    text = (stack / "weather.csv").read_text().splitlines()
    kelvin = np.array([[float(x) for x in line.split(",")[1:]] for line in text[1:]])
    celsius = kelvin.copy()
    celsius[:, [0, 3, 4, 5]] -= 273.15
    head = text[0].replace("[K]", "[°C]")
    rows = [",".join([line[:10], *(f"{x:.9g}" for x in row)]) for line, row in zip(text[1:], celsius, strict=True)]
    (tmp_path / "celsius.csv").write_text("\n".join([head, *rows]) + "\n")
    wanted = embedded(tmp_path / "k.tif", *inputs(stack, "s2", weather="weather.csv"), "--model", aux, *PART)
    recorder = run(
        "--output",
        tmp_path / "c.tif",
        *inputs(stack, "s2", weather=f"{tmp_path / 'celsius.csv'}"),
        "--model",
        aux,
        *PART,
    )
    with rasterio.open(tmp_path / "c.tif") as file:
        np.testing.assert_allclose(file.read(), wanted, rtol=0, atol=1e-4)
    assert any("°C" in note for note in recorder.plans[0]["notes"])


def test_days_of_weather_that_are_missing(stack: Path, aux: str, tmp_path: Path) -> None:
    lost = days_of()[1] - timedelta(days=2)
    lines = (stack / "weather.csv").read_text().splitlines(keepends=True)
    (tmp_path / "gap.csv").write_text("".join(line for line in lines if not line.startswith(f"{lost}")))
    given = [*inputs(stack, "s2", weather=f"{tmp_path / 'gap.csv'}"), "--model", aux, *PART]
    assert f"1 day is missing ({lost})" in fails(*given, "--output", tmp_path / "e.tif")
    recorder = run(*given, "--output", tmp_path / "near.tif", "--weather-gaps", "nearest")
    assert any("nearest day" in warning for warning in recorder.warnings)
    recorder = run(*given, "--output", tmp_path / "drop.tif", "--weather-gaps", "drop-date")
    with rasterio.open(tmp_path / "drop.tif") as file:
        kept = [day.isoformat() for day in days_of() if day != days_of()[1]]
        assert file.tags()["MALICE_DATES_S2"].split(",") == kept
        dropped = file.read()
    (tmp_path / "dates.txt").write_text("\n".join(kept) + "\n")
    listed = embedded(
        tmp_path / "listed.tif",
        *inputs(stack, "s2", weather="weather.csv"),
        "--model",
        aux,
        "--dates",
        f"@{tmp_path / 'dates.txt'}",
        *PART,
    )
    np.testing.assert_array_equal(dropped, listed)


def test_a_run_with_other_weather_is_another_run(stack: Path, aux: str, tmp_path: Path) -> None:
    given = [*inputs(stack, "s2"), *PART, "--model", aux, "--output", tmp_path / "e.tif"]
    run(*given)
    run(*given, "--resume")  # whole already
    with pytest.raises(MaliceError, match="was not written by this job"):
        run(*inputs(stack, "s2", weather="weather.csv"), *PART, *given[-4:], "--resume")


def test_files_of_another_year_do_not_make_another_run(stack: Path, aux: str, tmp_path: Path) -> None:
    """They are found, and none of their numbers is read for the dates of the run."""
    when = [FIRST + timedelta(days=k) for k in range(-4, 10 * COUNT)]
    weather = write_daily(tmp_path / "weather", when)
    names = ("viewZenithMean", "viewAzimuthMean", "sunZenithAngles", "sunAzimuthAngles")
    planes = np.full((4, 40, 32), 30, np.float32)
    for day in days_of():
        write_angles(tmp_path / "angles", planes, day, names)
    given = [*inputs(stack, "s2", weather=weather, **{"s2-angles": tmp_path / "angles"}), *PART, "--angles", "median"]
    given += ["--model", aux, "--output", tmp_path / "e.tif"]
    run(*given)
    later = FIRST + timedelta(days=400)
    write_daily(weather, [later + timedelta(days=k) for k in range(-4, 2)])
    write_angles(tmp_path / "angles", planes, later, names)
    run(*given, "--resume")  # whole already
    write_daily(weather, when[5:6])
    with pytest.raises(MaliceError, match="was not written by this job"):
        run(*given, "--resume")


def test_one_line_in_the_shell(stack: Path, aux: str, tmp_path: Path) -> None:
    done = command(*inputs(stack, "s2", dem=tmp_path / "no.tif"), "--model", aux, "--output", tmp_path / "e.tif")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "no.tif" in done.stderr
