"""The simulated scene: the same every time, in the range of real images, and safely written."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio

from malice_core import bands, simulate
from malice_core.errors import InputError, OutputError
from malice_core.simulation import crops, optical, radar, scene

SMALL = simulate.Spec(height=61, width=84, s2_dates=6, s1_dates=6)


def digest(folder: Path) -> dict[str, str]:
    """sha256 of the pixels (not of the files: compressors differ) of every raster, by name."""
    found = {}
    for path in sorted(folder.rglob("*.tif")):
        with rasterio.open(path) as source:
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(source.read().tobytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    simulate.write(SMALL, folder)
    return folder


def test_same_seed_same_pixels(small: Path, tmp_path: Path) -> None:
    simulate.write(SMALL, tmp_path)
    assert digest(small) == digest(tmp_path)
    assert len(digest(small)) == 6 + 6 + 6 + 1 + 1  # labels, elevation


def test_a_date_does_not_depend_on_what_was_made_before() -> None:
    land = scene.landscape((40, 50), 3, 2024)
    first = optical.sentinel2(land, 100, 1, 0.3), radar.sentinel1(land, 100, False)
    optical.sentinel2(land, 7, -1, 1.0)
    again = optical.sentinel2(land, 100, 1, 0.3), radar.sentinel1(land, 100, False)
    np.testing.assert_array_equal(first[0][0], again[0][0])
    np.testing.assert_array_equal(first[0][1], again[0][1])
    np.testing.assert_array_equal(first[1], again[1])


def test_another_seed_is_another_place_and_another_year_another_crop() -> None:
    one, other, later = (scene.landscape((120, 120), *which).labels for which in ((1, 2024), (2, 2024), (1, 2025)))
    assert (one != other).mean() > 0.3
    woods = [crops.BROADLEAVED, crops.CONIFEROUS, crops.WATER, crops.ROAD, crops.BUILDING]
    np.testing.assert_array_equal(np.isin(one, woods), np.isin(later, woods))
    assert (one != later).mean() > 0.2


def test_files_say_what_they_are(small: Path) -> None:
    for passes, pattern, names, dtype, nodata in (
        (simulate.s2_passes(SMALL), "S2/S2_{:%Y%m%d}.tif", bands.S2.bands, "uint16", 0),
        (simulate.s2_passes(SMALL), "SCL/SCL_{:%Y%m%d}.tif", ("SCL",), "uint8", 0),
        (simulate.s1_passes(SMALL), "S1/S1_{:%Y%m%d}_R{:03d}.tif", bands.S1.bands, "float32", np.nan),
    ):
        for taken in passes:
            with rasterio.open(small / pattern.format(taken.when, taken.orbit)) as source:
                assert source.descriptions == tuple(names)
                assert set(source.dtypes) == {dtype}
                np.testing.assert_equal(source.nodata, nodata)
                assert source.shape == (61, 84)
                assert source.crs.to_epsg() == 32631
                assert source.transform[:6] == (10, 0, 500000, 0, -10, 5640000)
                tags = source.tags()
                assert tags["TIFFTAG_DATETIME"] == f"{taken.when:%Y:%m:%d %H:%M:%S}"
                assert tags["SIMULATED"] == "yes"
                assert tags["RELATIVE_ORBIT"] == str(taken.orbit)
                if dtype == "uint16":
                    assert tags["BOA_ADD_OFFSET"] == "0"
                    assert "no offset" in tags["UNITS"]
    with rasterio.open(small / "labels.tif") as source:
        codes = {int(key[6:]): name for key, name in source.tags().items() if key.startswith("CLASS_")}
        assert set(np.unique(source.read())) <= set(codes)
    assert codes == {cover.code: cover.name for cover in crops.COVERS}
    table = (small / "labels.csv").read_text(encoding="utf-8").splitlines()
    assert table[1:] == [f"{code},{name}" for code, name in sorted(codes.items())]


def test_the_readme_says_simulated_and_repeats_the_arguments(small: Path) -> None:
    text = (small / "README.txt").read_text(encoding="utf-8")
    assert "No pixel was ever observed" in text
    assert "--size 61x84 --year 2024 --seed 1 --s2-dates 6 --s1-dates 6 --crs EPSG:32631" in text
    assert simulate.is_scene(small, "complete")


def test_dates_are_irregular_inside_the_year_and_from_two_orbits() -> None:
    for passes, count in ((simulate.s2_passes(simulate.Spec()), 24), (simulate.s1_passes(simulate.Spec()), 30)):
        days = [taken.when.date() for taken in passes]
        assert len(set(days)) == count
        assert days == sorted(days)
        assert {day.year for day in days} == {2024}
        assert len(set(np.diff([day.toordinal() for day in days]))) > 3
        assert len({taken.orbit for taken in passes}) == 2


@pytest.mark.parametrize("count", [1, 2, 5, 40, 146])
def test_about_half_of_any_number_of_dates_is_clear(count: int) -> None:
    clouds = [taken.cloud for taken in simulate.s2_passes(simulate.Spec(s2_dates=count))]
    assert len(clouds) == count
    if count > 1:
        assert 0.35 <= np.mean(np.array(clouds) < 0.3) <= 0.7


def test_missing_pixels_are_missing_everywhere(small: Path) -> None:
    land = scene.landscape((64, 64), 1, 2024)
    cut = 0
    for day in range(1, 361, 40):
        dn, scl = optical.sentinel2(land, day, 1, 0.0, edge=True)
        np.testing.assert_array_equal((dn == 0).all(axis=0), scl == 0)
        np.testing.assert_array_equal((dn == 0).any(axis=0), scl == 0)
        cut += (scl == 0).any()
        power = radar.sentinel1(land, day, True)
        np.testing.assert_array_equal(np.isnan(power[0]), np.isnan(power[1]))
    assert 0 < cut < 9


def test_clear_pixels_lie_in_the_range_of_real_images() -> None:
    """Against the 2 % and 98 % quantiles and the median the published networks are normalised with."""
    median = np.array([414, 675, 570, 1132, 2374, 2744, 2885, 3016, 2003, 1117])
    low = np.array([130, 247, 168, 442, 907, 1044, 1069, 1160, 493, 299])
    high = np.array([3780, 3704, 3554, 3885, 4644, 5296, 5478, 5494, 3747, 2892])
    land = scene.landscape((200, 200), 1, 2024)
    clear, powers = [], []
    for day in range(5, 366, 30):
        dn, scl = optical.sentinel2(land, day, -1, 0.0)
        clear.append(dn[:, np.isin(scl, (4, 5, 6))])
        powers.append(radar.sentinel1(land, day, bool(day % 2)).reshape(2, -1))
    seen = np.concatenate(clear, axis=1)
    middle = np.median(seen, axis=1)
    assert (np.abs(middle / median - 1) < 0.4).all(), middle
    assert ((seen > low[:, None] * 0.8) & (seen < high[:, None])).mean() > 0.95
    power = np.concatenate(powers, axis=1)
    power = power[:, np.isfinite(power[0])]
    vv, vh = np.log(power)
    # Medians of the published tables: VV -2.25, VH -3.76, VH/VV -1.51 (natural logarithm).
    assert abs(np.median(vv) + 2.25) < 0.35
    assert abs(np.median(vh) + 3.76) < 0.35
    assert abs(np.median(vh - vv) + 1.51) < 0.35
    assert ((vv > -3.77) & (vv < -1.03)).mean() > 0.9
    assert ((power > 1e-4) & (power < 31)).all()


def test_speckle_has_the_stated_looks() -> None:
    """Equivalent number of looks = mean^2 / variance, over one parcel of even ground."""
    land = scene.landscape((300, 300), 1, 2024)
    wood = np.bincount(land.parcel.ravel())
    wood[:3] = 0
    inside = land.parcel == wood.argmax()
    power = np.concatenate([radar.sentinel1(land, day, False)[0][inside] for day in (100, 101, 102)])
    power = power[np.isfinite(power)].astype(np.float64)
    assert abs(power.mean() ** 2 / power.var() - radar.LOOKS) < 1.0


def test_crops_have_their_seasons() -> None:
    land = scene.landscape((300, 300), 1, 2024)

    def ndvi(name: str, day: int) -> float:
        dn, _ = optical.sentinel2(land, day, -1, 0.0)
        red, nir = dn[2].astype(float), dn[6].astype(float)
        return float(np.median(((nir - red) / (nir + red))[land.labels == crops.BY_NAME[name].code]))

    assert ndvi("winter wheat", 140) > 0.75 > 0.35 > ndvi("winter wheat", 222)
    assert ndvi("maize", 225) > 0.75 > 0.35 > ndvi("maize", 130)
    assert ndvi("coniferous wood", 20) > 0.6
    assert ndvi("water", 180) < 0.1
    levels = [
        np.nanmean(radar.sentinel1(land, day, False)[:, land.labels == code], axis=1)
        for day, code in ((180, crops.WATER), (180, crops.BUILDING), (180, crops.BROADLEAVED))
    ]
    assert levels[0][0] < 0.06 < levels[2][0] < levels[1][0]
    assert levels[2][1] > 0.02


def test_rain_moves_the_backscatter_of_bare_soil() -> None:
    land = scene.landscape((150, 150), 1, 2024)
    bare = land.labels == crops.BY_NAME["sugar beet"].code
    days = range(80, 111)
    wet, dry = (
        max(days, key=lambda day: land.weather.at(land.weather.top, day)),
        min(days, key=lambda day: land.weather.at(land.weather.top, day)),
    )
    ratio = np.nanmean(radar.sentinel1(land, wet, False)[0, bare]) / np.nanmean(
        radar.sentinel1(land, dry, False)[0, bare]
    )
    assert ratio > 1.3


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"height": 7}, "7"),
        ({"width": 100000}, "100000"),
        ({"year": 1999}, "1999"),
        ({"seed": -1}, "-1"),
        ({"s2_dates": 400}, "400"),
        ({"s1_dates": -2}, "-2"),
        ({"crs": "EPSG:4326"}, "EPSG:4326"),
        ({"crs": "nonsense"}, "nonsense"),
        ({"origin": (float("nan"), 0.0)}, "nan"),
    ],
)
def test_what_cannot_be_simulated_is_named(change: dict[str, object], word: str) -> None:
    with pytest.raises(InputError, match=word):
        simulate.Spec(**change).check()  # type: ignore[arg-type]


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(OutputError, match="not empty"):
        simulate.write(SMALL, tmp_path)
    with pytest.raises(OutputError, match="is a file"):
        simulate.write(SMALL, tmp_path / "holiday.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_an_own_folder_is_replaced_and_strangers_in_it_kept(tmp_path: Path) -> None:
    tiny = simulate.Spec(height=8, width=8, s2_dates=2, s1_dates=2)
    simulate.write(tiny, tmp_path)
    (tmp_path / "S2" / "notes.txt").write_text("mine")
    (tmp_path / "S2" / "S2_19990101.tif").write_bytes(b"left from another scene")
    (tmp_path / "S2" / "S2_19990102.tif.part").write_bytes(b"left from a killed one")
    written = simulate.write(simulate.Spec(height=9, width=8, s2_dates=1, s1_dates=1), tmp_path)
    assert sorted(path.name for path in (tmp_path / "S2").iterdir()) == sorted(["notes.txt", written[0].name])


def test_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "malice_core.simulate"]
    good = [*command, str(tmp_path / "a b"), "--size", "16", "--s2-dates", "2", "--s1-dates", "1", "--seed", "5"]
    done = subprocess.run(good, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert simulate.is_scene(tmp_path / "a b", "complete")
    bad = subprocess.run([*command, str(tmp_path / "c"), "--size", "0"], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert "Traceback" not in bad.stderr
    assert not (tmp_path / "c").exists()


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_a_killed_run_leaves_no_broken_image_and_can_be_repeated(tmp_path: Path) -> None:
    spec = simulate.Spec(height=200, width=200, s2_dates=20, s1_dates=2)
    command = [sys.executable, "-m", "malice_core.simulate", str(tmp_path), "--size", "200"]
    process = subprocess.Popen(
        [*command, "--s2-dates", "20", "--s1-dates", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("S2/*.tif"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert simulate.is_scene(tmp_path)
    assert not simulate.is_scene(tmp_path, "complete")
    for path in tmp_path.rglob("*.tif"):
        with rasterio.open(path) as source:
            source.read()
    simulate.write(spec, tmp_path)
    assert simulate.is_scene(tmp_path, "complete")
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        simulate.write(SMALL, tmp_path)
    assert not list(tmp_path.rglob("*.part"))
