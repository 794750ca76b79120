"""Datasets for MALICE Aux: weather, terrain and angles of patches, against the readers and by hand; what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from helpers_aux import WEATHER_DAYS, around, elevation, s1_degrees, s2_degrees, write_around
from helpers_dataset import FIRST, built, files, options, run, write_stack
from helpers_stack import write
from helpers_weather import write_daily, write_table
from test_dataset_resume import Killed, _kill_at

from malice_core import bands
from malice_core.grid import Window
from malice_core.patches.store import Dataset
from malice_core.surroundings.angles import Angles
from malice_core.surroundings.terrain import Terrain
from malice_core.surroundings.weather import Weather

pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With weather that varies in space."""
    return write_around(write_stack(tmp_path_factory.mktemp("stack")), table=False)


@pytest.fixture(scope="module")
def whole(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Patches of 24 pixels, two of which lie in two cells of the weather."""
    return built(stack, tmp_path_factory.mktemp("whole") / "d.zarr", "--patch", 24, *around(stack))


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_patches_hold_what_the_readers_give(stack: Path, whole: Dataset) -> None:
    assert whole.auxiliary
    (place,) = whole.places
    weather = Weather.open([stack / "AGERA5"])
    terrain = Terrain.open(stack / "DEM.tif", place.lattice)
    several = 0
    for n, patch in enumerate(place.patches):
        window = Window(patch.row, patch.col, 24, 24)
        stored = whole.read(0, n, "terrain")
        assert (stored.dtype, stored.shape) == (np.float32, (4, 24, 24))
        np.testing.assert_array_equal(stored, terrain.read(window))
        for key in ("s2", "s1"):
            dates = [bands.DATE_ORIGIN + timedelta(days=day) for day in place.series[key].days]
            cells = weather.values(place.lattice, window, dates)
            rows, cols = np.mgrid[window.row : window.end_row, window.col : window.end_col] // 64
            of_pixels = cells.values[rows - cells.row, cols - cells.col].astype(np.float64)
            stored = whole.read(0, n, f"{key}_weather")
            assert stored.dtype == np.float32
            np.testing.assert_allclose(stored, of_pixels.mean((0, 1)), rtol=1e-6)
            several += bool(np.abs(of_pixels - of_pixels[0, 0]).max() > 1)
    assert several == 4
    weather.close()
    terrain.close()


def test_terrain_and_angles_by_hand(whole: Dataset) -> None:
    """Of the first patch, whose first pixel is (0, 8) of the model, away from its ends."""
    (place,) = whole.places
    rows, cols = (part[1:24, 8:32] for part in np.gradient(elevation(48, 64).astype(np.float64)))
    stored = whole.read(0, 0, "terrain")[:, 1:]
    np.testing.assert_array_equal(stored[0], elevation(48, 64)[1:24, 8:32])
    np.testing.assert_allclose(stored[1], np.sin(np.arctan(np.hypot(rows, cols) / 10)), atol=1e-6)
    for key in ("s2", "s1"):
        for day, row in zip(place.series[key].days, place.series[key].angles or (), strict=True):
            date = bands.DATE_ORIGIN + timedelta(days=day)
            if key == "s1":
                wanted = [np.cos(np.radians(s1_degrees(date)))]
            else:
                zenith, azimuth, view, to = np.radians(s2_degrees(date))
                wanted = [np.cos(zenith), np.cos(azimuth), np.sin(azimuth), np.cos(view), np.cos(to), np.sin(to)]
            np.testing.assert_allclose(row, wanted, atol=1e-6)


def test_weather_of_a_table_is_kept_to_the_last_bit(stack: Path, tmp_path: Path) -> None:
    """The same everywhere, so the mean over two cells is that number, in openEO's units."""
    folder = shutil.copytree(stack, tmp_path / "stack")
    shutil.rmtree(folder / "AGERA5")
    write_table(folder / "AGERA5.csv", WEATHER_DAYS)
    data = built(folder, tmp_path / "d.zarr", "--patch", 24, *around(folder))
    read = Weather.open([folder / "AGERA5.csv"])
    days = [bands.DATE_ORIGIN + timedelta(days=day) for day in data.places[0].series["s2"].days]
    for n in range(4):
        window = Window(data.places[0].patches[n].row, data.places[0].patches[n].col, 24, 24)
        cells = read.values(data.places[0].lattice, window, days).values
        np.testing.assert_array_equal(data.read(0, n, "s2_weather"), cells[0, 0])


def test_images_and_split_are_those_of_a_dataset_without(stack: Path, whole: Dataset, tmp_path: Path) -> None:
    plain = built(stack, tmp_path / "d.zarr", "--patch", 24)
    assert not plain.auxiliary
    index = json.loads((plain.folder / "zarr.json").read_text())["attributes"]["malice_dataset"]
    assert index["format"] == 1
    content = plain.places[0].content
    assert "surroundings" not in content
    assert "angles" not in content["sensors"]["s2"]
    ours = files(whole.folder)
    for name, content in files(plain.folder).items():
        if name.count("/") > 1:  # all but the descriptions of dataset and place
            assert ours[name] == content, name
    assert plain.hash != whole.hash


def test_the_hash_is_of_weather_terrain_and_angles_too(stack: Path, whole: Dataset, tmp_path: Path) -> None:
    hashes = {whole.hash}
    assert built(stack, tmp_path / "same.zarr", "--patch", 24, *around(stack), "--memory", "1MB").hash == whole.hash
    for name in ("AGERA5", "DEM.tif", "S2_angles.csv"):
        folder = shutil.copytree(stack, tmp_path / name)
        if name == "AGERA5":
            shutil.rmtree(folder / name)
            write_table(folder / "AGERA5.csv", WEATHER_DAYS)
        elif name == "DEM.tif":
            write(folder / name, elevation(48, 64)[None] + 1, names=None, nodata=-9999.0)
        else:
            (folder / name).write_text((folder / name).read_text().replace("50.000000", "50.100000"))
        hashes.add(built(folder, tmp_path / f"{name}.zarr", "--patch", 24, *around(folder)).hash)
    assert len(hashes) == 4


def test_info_tells_and_finds_damage(whole: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", f"{whole.folder}", "--verify"]) == 0
    text = capsys.readouterr().out
    assert "terrain elevation" in text
    assert "wind_speed" in text
    assert "cos_incidence" in text
    assert run(["info", f"{whole.folder}", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)["places"][0]["surroundings"]
    low, _, high = known["s1"]["angles"]["cos_incidence"]
    assert (low, high) == pytest.approx((np.cos(np.radians(40.1)), np.cos(np.radians(35.3))), abs=1e-6)
    assert known["units"]["wind_speed"] == "m s-1"

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)

    def no_angles(place: Path) -> None:
        content = json.loads((place / "zarr.json").read_text())
        content["attributes"]["malice_place"]["sensors"]["s1"]["angles"][0] = [2.0]
        (place / "zarr.json").write_text(json.dumps(content))

    damages: dict[str, Callable[[Path], object]] = {
        "is missing or empty": lambda place: (place / "terrain/c/1/0/0/0").unlink(),
        "s1_weather": lambda place: flip(place / "s1_weather/c/1/0/0"),
        "is not what was built|damaged": lambda place: flip(place / "terrain/c/1/0/0/0"),
        "cannot be opened": lambda place: shutil.rmtree(place / "s2_weather"),
        "angles of s1": no_angles,
    }
    for number, (told, damage) in enumerate(damages.items()):
        copy = tmp_path / f"{number}.zarr"
        shutil.copytree(whole.folder, copy)
        damage(copy / whole.places[0].name)
        assert run(["info", f"{copy}", "--verify"]) == 2
        line = one_error(capsys)
        assert any(part in line for part in told.split("|")) or "is not what was built" in line, line


def test_dates_without_weather_are_dropped_or_filled(stack: Path, tmp_path: Path) -> None:
    """The last day of weather lacks for the last date of Sentinel-2, which is day 50; Sentinel-1 ends at day 51."""
    table = write_table(tmp_path / "w.csv", WEATHER_DAYS[:54])  # up to day 49
    given = around(stack)
    given[1] = f"{table}"
    dropped = built(stack, tmp_path / "drop.zarr", *given, "--weather-gaps", "drop-date")
    first = (FIRST - bands.DATE_ORIGIN).days
    assert [day - first for day in dropped.places[0].series["s2"].days] == [0, 10, 20, 30, 40]
    assert [day - first for day in dropped.places[0].series["s1"].days] == [3, 15, 27, 39]
    assert dropped.array(0, "s2").shape[1] == dropped.array(0, "s2_counts").shape[1] == 5
    # Dropped first, thinned then: as many dates as were asked for.
    thinned = built(stack, tmp_path / "thin.zarr", *given, "--weather-gaps", "drop-date", "--max-dates", 4)
    assert [day - first for day in thinned.places[0].series["s2"].days][-1] == 40
    assert len(thinned.places[0].series["s2"].days) == 4
    near = built(stack, tmp_path / "near.zarr", *given, "--weather-gaps", "nearest")
    last = near.read(0, 0, "s2_weather")[-1].reshape(8, 6)
    assert (last[:, 4] == last[:, 3]).all()
    assert (last[:, 5] == last[:, 3]).all()
    assert not (last[:, 3] == last[:, 2]).any()
    # Thinned first: what is not used needs no weather.
    built(stack, tmp_path / "less.zarr", *given, "--dates", "2023-03-01/2023-04-12")


def test_missing_angles_and_elevations_by_choice(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*around(stack)[:4], "--angles", "median"]
    data = built(stack, tmp_path / "median.zarr", *given)
    assert "the training's median is used" in capsys.readouterr().err
    assert data.places[0].series["s1"].angles == ((pytest.approx(0.7704038),),) * 5
    constant = built(stack, tmp_path / "number.zarr", *around(stack)[:-1], "38.5")
    assert constant.places[0].series["s1"].angles == ((pytest.approx(np.cos(np.radians(38.5))),),) * 5
    holes = elevation(48, 64)
    holes[10:12, 20:23] = -9999
    given = around(stack)
    given[3] = f"{write(tmp_path / 'holes.tif', holes[None], names=None, nodata=-9999.0)}"
    assert run([*options(stack, tmp_path / "d.zarr"), "--patch", "16", *given]) == 2
    assert "6 of 3072 pixels of the area have no elevation" in one_error(capsys)
    filled = built(stack, tmp_path / "filled.zarr", *given, "--dem-nodata", "fill")
    wanted = Terrain.open(tmp_path / "holes.tif", filled.places[0].lattice, "fill")
    first = filled.places[0].patches[1]
    np.testing.assert_array_equal(filled.read(0, 1, "terrain"), wanted.read(Window(first.row, first.col, 16, 16)))


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (["weather"], "no --weather: "),
        (["dem", "s1-angles"], "give --dem and --s1-angles (or --angles median) too, or none"),
        (["weather", "dem", "s2-angles"], "no --weather and no --dem and no --s2-angles"),
    ],
)
def test_a_part_is_refused(
    left: list[str], told: str, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = dict(zip(*[iter(around(stack))] * 2, strict=True))
    some = [text for option, path in given.items() if option[2:] not in left for text in (option, path)]
    assert run([*options(stack, tmp_path / "d.zarr"), "--patch", "16", *some]) == 2
    assert told in one_error(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--weather-gaps", "ignore"], "--weather-gaps"),
        (["--dem-nodata", "0"], "--dem-nodata"),
        (["--angles", "zero"], "--angles"),
        (["--s1-angles", "nowhere.csv"], "nowhere.csv"),
        (["--s2-angles", "38.5"], "only for Sentinel-1"),
        (["--dem", "nowhere.tif"], "nowhere.tif"),
        (["--weather", "nowhere"], "nowhere"),
    ],
)
def test_wrong_options_are_one_line(
    more: list[str], told: str, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*options(stack, tmp_path / "d.zarr"), "--patch", "16", *around(stack), *more]) == 2
    assert told in one_error(capsys)
    assert not list(tmp_path.iterdir())


def test_what_does_not_cover_the_patches_is_refused(
    stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    far = write_around(tmp_path / "far", shift=20)
    given = around(stack)
    given[3] = f"{far / 'DEM.tif'}"
    assert run([*options(stack, tmp_path / "d.zarr"), "--patch", "16", *given]) == 2
    assert "this DEM covers" in one_error(capsys)
    given = around(stack)
    given[1] = f"{write_table(tmp_path / 'w.csv', WEATHER_DAYS[5:])}"
    assert run([*options(stack, tmp_path / "d.zarr"), "--patch", "16", *given]) == 2
    line = one_error(capsys)
    assert "Sentinel-2" in line
    assert "--weather-gaps nearest or drop-date" in line


def test_all_places_of_a_dataset_have_them_or_none(
    stack: Path, whole: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_around(write_stack(tmp_path / "other", 48, 64, seed=3, shift=500), shift=500)
    folder = tmp_path / "d.zarr"
    shutil.copytree(whole.folder, folder)
    assert run(options(other, folder, "--append", "--name", "other")) == 2
    assert "for this one too" in one_error(capsys)
    plain = built(stack, tmp_path / "plain.zarr", "--patch", 24).folder
    assert run([*options(other, plain, "--append", "--name", "other"), *around(other)]) == 2
    assert "begun without weather" in one_error(capsys)
    assert run([*options(other, folder, "--append", "--name", "other"), *around(other)]) == 0
    both = Dataset(folder)
    assert [place.name for place in both.places] == [whole.places[0].name, "other"]
    assert both.auxiliary
    assert run(["info", f"{folder}", "--verify"]) == 0


def test_weather_of_another_year_is_the_same_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = write_around(write_stack(tmp_path / "stack", 16, 32), 16, 32, table=False)
    given = [*options(stack, tmp_path / "d.zarr", *around(stack), "--patch", 16)]
    assert run(given) == 0
    before = files(tmp_path / "d.zarr")
    write_daily(stack / "AGERA5", [day + timedelta(days=400) for day in WEATHER_DAYS[:3]])
    assert run([*given, "--resume"]) == 0
    assert files(tmp_path / "d.zarr") == before
    capsys.readouterr()
    write_daily(stack / "AGERA5", WEATHER_DAYS[4:5])
    assert run([*given, "--resume"]) == 2
    assert "was not built by this command" in one_error(capsys)


def test_places_have_them_in_their_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = tmp_path / "all"
    for i, name in enumerate("ab"):
        write_around(write_stack(places / name, 32, 32, seed=i, shift=500 * i), 32, 32, shift=500 * i)
    # The other names.
    (places / "b" / "AGERA5.csv").rename(places / "b" / "AGERA5_daily.csv")
    (places / "b" / "DEM.tif").rename(places / "b" / "DEM_10m.tif")
    (places / "b" / "S2_angles.csv").rename(places / "b" / "S2_dates.csv")
    command = ["build", "--places", f"{places}", "--output", f"{tmp_path / 'd.zarr'}", "--patch", "16"]
    assert run(command) == 0
    data = Dataset(tmp_path / "d.zarr")
    assert data.auxiliary
    for n, shift in enumerate((0, 500)):
        first = data.places[n].patches[0]
        terrain = Terrain.open(places / "ab"[n] / ("DEM.tif", "DEM_10m.tif")[n], data.places[n].lattice)
        np.testing.assert_array_equal(data.read(n, 0, "terrain"), terrain.read(Window(first.row, first.col, 16, 16)))
        assert first.col == 50000 + shift
    capsys.readouterr()
    shutil.copy(places / "b" / "DEM_10m.tif", places / "b" / "DEM_20m.tif")
    assert run([*command, "--overwrite"]) == 2
    assert "DEM_10m.tif, DEM_20m.tif" in one_error(capsys)
    for name in ("DEM_10m.tif", "DEM_20m.tif"):
        (places / "b" / name).unlink()
    assert run([*command, "--overwrite"]) == 2
    assert f"{places / 'b'}: no --dem" in one_error(capsys)
    # What is given for all places takes the place of what lies in the folders.
    (places / "b" / "S1_angles.csv").unlink()
    assert run([*command, "--overwrite", "--dem", f"{places / 'a' / 'DEM.tif'}", "--s1-angles", "38.5"]) == 2
    assert "this DEM covers 0%" in one_error(capsys)
    (places / "b" / "AGERA5_daily.csv").unlink()
    assert run([*command, "--overwrite"]) == 2
    assert "1 of 2 folders have no weather" in one_error(capsys)


def test_killed_anywhere_and_resumed_it_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = write_around(write_stack(tmp_path / "stack", 16, 32), 16, 32)
    expected = built(stack, tmp_path / "expected.zarr", *around(stack)).folder
    command = [*options(stack, tmp_path / "d.zarr", "--patch", 16), *around(stack)]
    for number in (1, 3, 5):
        with monkeypatch.context() as patch:
            _kill_at(patch, number)
            with pytest.raises(Killed):
                run(command)
        assert run([*command, "--resume"]) == 0
        assert files(tmp_path / "d.zarr") == files(expected), number
        shutil.rmtree(tmp_path / "d.zarr")
    with monkeypatch.context() as patch:
        _kill_at(patch, 3)
        with pytest.raises(Killed):
            run(command)
    assert run([*command, "--resume", "--weather-gaps", "nearest"]) == 2


def test_a_small_real_scene(testdata: Path, tmp_path: Path) -> None:
    """Weather of a table, Copernicus DEM, angles of the products; Sentinel-1's incidence is a number an orbit."""
    site = testdata / "data" / "site_a"
    command = ["build", "--s2", f"{site / 'S2'}", "--s1", f"{site / 'S1_10m'}", "--patch", "32"]
    command += ["--weather", f"{site / 'AGERA5_daily.csv'}", "--dem", f"{site / 'DEM_COPDEM30_10m.tif'}"]
    command += ["--s2-angles", f"{site / 'S2_dates.csv'}", "--s1-angles", "161=39.1", "59=34.2"]
    command += ["--weather-gaps", "drop-date", "--max-dates", "12", "--output", f"{tmp_path / 'd.zarr'}"]
    assert run(command) == 0
    data = Dataset(tmp_path / "d.zarr")
    (place,) = data.places
    weather = Weather.open([site / "AGERA5_daily.csv"])
    terrain = Terrain.open(site / "DEM_COPDEM30_10m.tif", place.lattice)
    given = {"s2": [site / "S2_dates.csv"], "s1": ["161=39.1", "59=34.2"]}
    for key, series in place.series.items():
        dates = [bands.DATE_ORIGIN + timedelta(days=day) for day in series.days]
        assert len(dates) == 12
        angles = Angles.open(key, given[key]).of(dates, series.orbits)
        np.testing.assert_array_equal(np.array(series.angles, np.float32), angles)
        for n, patch in enumerate(place.patches):
            window = Window(patch.row, patch.col, 32, 32)
            cells = weather.values(place.lattice, window, dates).values
            np.testing.assert_array_equal(data.read(0, n, f"{key}_weather"), cells[0, 0])
            np.testing.assert_array_equal(data.read(0, n, "terrain"), terrain.read(window))
