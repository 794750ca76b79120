"""Drawn scenes: diverse, the same by seed, consistent between sensors and years, and near real data."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from malice_core import simulate
from malice_core.errors import InputError
from malice_core.simulation import climate, crops, noise, optical, phenology, radar, scene, spectra, weather
from malice_core.simulation.series import Series, Spec

SEEDS = range(1, 7)


@pytest.fixture(scope="module")
def drawn() -> list[Series]:
    return [Series(Spec.draw(seed, 64, 64)) for seed in SEEDS]


def test_scenes_differ_in_place_year_crops_and_dates() -> None:
    specs = [Spec.draw(seed) for seed in range(30)]
    for spec in specs:
        spec.check()
        assert 2016 <= spec.year <= 2026
    assert len({spec.origin for spec in specs}) == len(specs)
    assert len({spec.year for spec in specs}) > 6
    assert len({spec.start for spec in specs}) > 5
    assert np.std([spec.land.latitude for spec in specs]) > 4
    assert np.std([spec.land.mean for spec in specs]) > 1.5
    assert len({(spec.s2_dates, spec.s1_dates) for spec in specs}) > 20


def test_thirty_scenes_hold_nearly_all_covers() -> None:
    found = {int(code) for seed in range(30) for code in np.unique(Series(Spec.draw(seed, 96, 96)).labels)}
    assert len(found) >= 30
    assert found <= set(simulate.CLASSES)


def test_the_same_seed_is_the_same_scene_in_whatever_order_it_is_read(drawn: list[Series]) -> None:
    again = Series(Spec.draw(2, 64, 64))
    assert again.spec == drawn[1].spec
    last = len(again.s2) - 1
    for i in (last, 0, 5):
        for one, other in zip(again.sentinel2(i), drawn[1].sentinel2(i), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.sentinel1(3), drawn[1].sentinel1(3))
    np.testing.assert_array_equal(again.labels, drawn[1].labels)


def test_images_have_the_promised_form(drawn: list[Series]) -> None:
    for series in drawn:
        dn, scl = series.sentinel2(0)
        power = series.sentinel1(0)
        assert (dn.shape, dn.dtype) == ((10, 64, 64), np.uint16)
        assert (scl.shape, scl.dtype) == ((64, 64), np.uint8)
        assert (power.shape, power.dtype) == ((2, 64, 64), np.float32)
        assert set(np.unique(scl)) <= {0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
        np.testing.assert_array_equal((dn == 0).any(axis=0), scl == 0)
        inside = np.isfinite(power)
        assert ((power > 1e-4) & (power <= 30))[inside].all()


def test_dates_follow_orbits_and_span_a_year(drawn: list[Series]) -> None:
    for series in drawn:
        for passes, repeats in ((series.s2, (5, 10)), (series.s1, (6, 12))):
            days = np.array([taken.when.toordinal() for taken in passes])
            assert (np.diff(days) > 0).all()
            assert 250 < np.ptp(days) <= 366
            for orbit in {taken.orbit for taken in passes}:
                gaps = np.diff([taken.when.toordinal() for taken in passes if taken.orbit == orbit])
                assert any((gaps % repeat == 0).all() for repeat in repeats)


def test_clear_pixels_lie_near_the_published_range(drawn: list[Series]) -> None:
    median = np.array([414, 675, 570, 1132, 2374, 2744, 2885, 3016, 2003, 1117])
    low = np.array([130, 247, 168, 442, 907, 1044, 1069, 1160, 493, 299])
    high = np.array([3780, 3704, 3554, 3885, 4644, 5296, 5478, 5494, 3747, 2892])
    clear, log = [], []
    for series in drawn:
        for i in range(0, len(series.s2), 3):
            dn, scl = series.sentinel2(i)
            clear.append(dn[:, np.isin(scl, (4, 5, 6, 7))])
        powers = np.stack([series.sentinel1(i) for i in range(0, len(series.s1), 4)])
        log.append(np.nanmedian(np.log(powers), axis=(0, 2, 3)))
    seen = np.concatenate(clear, axis=1)
    assert (np.abs(np.median(seen, axis=1) / median - 1) < 0.45).all()
    assert ((seen > low[:, None] * 0.8) & (seen < high[:, None] * 1.1)).mean() > 0.92
    assert np.abs(np.mean(log, axis=0) - (-2.25, -3.76)).max() < 0.35


def test_speckle_is_gamma_of_the_stated_looks_and_correlated() -> None:
    speckle = radar._speckle(noise.generator(1), (600, 600)).astype(np.float64)
    assert abs(speckle.mean() - 1) < 0.01
    assert abs(1 / speckle.var() - radar.LOOKS) < 0.15
    rest = speckle - speckle.mean()
    assert 0.4 < (rest[:, 1:] * rest[:, :-1]).mean() / rest.var() < 0.6
    assert abs((rest[:, 4:] * rest[:, :-4]).mean() / rest.var()) < 0.02
    # Skewness of a gamma distribution of L looks: 2 / sqrt(L).
    assert abs((rest**3).mean() / rest.var() ** 1.5 - 2 / radar.LOOKS**0.5) < 0.25


def test_both_sensors_see_the_same_fields_in_the_same_state() -> None:
    """Maize emerges earlier in some fields: those are greener, and send back more VH, on the same days."""
    land = scene.landscape((300, 300), 4, 2024)
    maize = land.labels == crops.BY_NAME["maize"].code
    _, index = np.unique(land.parcel[maize], return_inverse=True)
    size = np.bincount(index)
    found = []
    for day in range(140, 196, 5):  # while it grows; then NDVI saturates
        dn, _ = optical.sentinel2(land, day, -1, 0.0)
        red, nir = dn[2].astype(float), dn[6].astype(float)
        vh = np.nanmean([radar.sentinel1(land, day + i, False)[1] for i in range(3)], axis=0)
        parts = ((nir - red) / (nir + red))[maize], np.log(vh)[maize]
        found.append([np.bincount(index, part)[size > 60] / size[size > 60] for part in parts])
    course = np.array(found)  # day, sensor, field
    assert course.shape[2] > 15
    whole = course.mean(axis=2)
    assert np.corrcoef(whole.T)[0, 1] > 0.6  # rain moves VH besides
    # What is left of a field without its own mean and without the mean course of all.
    own = course - course.mean(axis=0) - (whole - whole.mean(axis=0))[:, :, None]
    assert np.corrcoef(own[:, 0].ravel(), own[:, 1].ravel())[0, 1] > 0.3


def test_scene_classes_mostly_say_what_is_seen_and_sometimes_err(drawn: list[Series]) -> None:
    wanted, classed, missed = [], [], 0
    for series in drawn:
        for i, taken in enumerate(series.s2):
            dn, scl = series.sentinel2(i)
            seen = scl > 0
            wanted.append(taken.cloud)
            classed.append(np.isin(scl, (7, 8, 9, 10))[seen].mean())
            if (scl == 9).sum() > 50:
                assert np.median(dn[0][scl == 9]) > 2500
            if (scl == 4).sum() > 50 and taken.cloud == 0:
                red, nir = dn[2].astype(float), dn[6].astype(float)
                assert np.median((nir - red)[scl == 4] / (nir + red)[scl == 4]) > 0.3
            missed += int((np.isin(scl, (4, 5)) & (dn[0] > 2000)).sum())
    assert np.corrcoef(wanted, classed)[0, 1] > 0.75
    assert missed > 100


def test_the_next_year_of_one_scene_is_the_year_of_the_next() -> None:
    """Weather, rotation and calendars belong to calendar years: nothing depends on where a series begins."""
    region = climate.drawn(3)
    first, second = (scene.landscape((80, 80), 3, year, region) for year in (2022, 2023))
    for day in (4, 100, 190, 300):
        late, early = phenology.state(first, 365 + day), phenology.state(second, day)
        np.testing.assert_array_equal(late.code, early.code)
        np.testing.assert_allclose(late.lai, early.lai, atol=0.05)
        np.testing.assert_allclose(late.mass, early.mass, atol=0.02)


def test_nothing_jumps_at_new_year() -> None:
    land = scene.landscape((200, 200), 2, 2023)
    lai = np.stack([phenology.state(land, day).lai for day in range(340, 390)])
    step = np.abs(np.diff(lai, axis=0)).mean(axis=1)
    assert step[365 - 340] < 0.12


def test_warm_places_are_early_and_dry_ones_thirsty() -> None:
    cool, warm = (replace(climate.FLANDERS, mean=mean) for mean in (8.0, 14.0))
    early = [weather.weather(region, 1, 2024) for region in (cool, warm)]
    assert early[1].at(early[1].annual, 140) > early[0].at(early[0].annual, 140) + 14
    dry = weather.weather(replace(climate.FLANDERS, rain=350, summer=-0.8, mean=15), 1, 2024)
    home = weather.weather(climate.FLANDERS, 1, 2024)
    assert np.mean(dry.stress) > np.mean(home.stress) + 0.1
    for sky in (*early, dry, home):
        assert (np.diff(sky.annual[sky.before : sky.before + 360]) > -1.5).all()
        assert ((sky.top >= 0) & (sky.top <= 1) & (sky.root >= 0) & (sky.root <= 1)).all()
        assert 0.4 < sky.air.rain.sum() / 3 / (350 if sky is dry else 820) < 1.7


def test_snow_is_white_and_classed() -> None:
    land = scene.landscape((60, 60), 1, 2024, replace(climate.FLANDERS, mean=3.0, swing=10.0))
    snow = land.weather.snow[land.weather.before : land.weather.before + 366]
    day = int(snow.argmax()) + 1
    assert snow.max() > 15
    dn, scl = optical.sentinel2(land, day, -1, 0.0)
    assert (scl == 11).mean() > 0.4
    assert np.median(dn[0][scl == 11]) > 4 * np.median(dn[8][scl == 11])


def test_canopies_behave_as_leaves_do() -> None:
    one = np.ones(1)
    soil = spectra.SOILS[:1]

    def over(lai: float, chlorophyll: float = 1.0, water: float = 1.0) -> np.ndarray:
        leaf = spectra.leaf_albedo(chlorophyll * one, water * one, one, 0 * one)
        return spectra.canopy(leaf, one, soil, lai * one)[0]

    np.testing.assert_allclose(over(0.0), soil[0])
    ndvi = [(r[6] - r[2]) / (r[6] + r[2]) for r in (over(lai) for lai in (0, 0.5, 1, 2, 4, 6))]
    assert (np.diff(ndvi) > 0).all()
    assert ndvi[-1] > 0.85
    # Paler leaves: brighter green, red and red edge, the same near infrared. Drier leaves: brighter at 1.6 and 2.2 um.
    pale, dry, full = over(4, chlorophyll=0.5), over(4, water=0.5), over(4)
    assert (pale[1:5] > full[1:5]).all()
    np.testing.assert_allclose(pale[6:], full[6:])
    assert (dry[8:] > full[8:] * 1.1).all()
    np.testing.assert_allclose(dry[:6], full[:6])
    assert (spectra.wet(soil, 1.0) < soil).all()


def test_many_scenes_are_written_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "malice_core.simulate", "--scenes", "2", "--out", str(tmp_path), "--size", "16"]
    done = subprocess.run([*command, "--seed", "8"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    folders = sorted(tmp_path.iterdir())
    assert [folder.name for folder in folders] == ["scene_000008", "scene_000009"]
    series = Series(Spec.draw(8, 16, 16))
    with rasterio.open(folders[0] / "LABELS.tif") as source:
        np.testing.assert_array_equal(source.read(1), series.labels)
        assert source.tags()["CLASS_4"] == "maize"
        assert source.crs.to_string() == series.spec.crs
    assert len(list((folders[0] / "S2").iterdir())) == len(series.s2)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tif")}
    again = subprocess.run([*command, "--seed", "8"], capture_output=True, text=True, check=True)
    assert again.stdout.count("was there") == 2
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.tif")}
    # README.txt tells how to make it again, alone.
    text = (folders[0] / "README.txt").read_text(encoding="utf-8")
    found = re.search(r"^again with: python -m (.*) OUT (.*)$", text, re.MULTILINE)
    assert found
    subprocess.run([sys.executable, "-m", found[1], str(tmp_path / "x"), *shlex.split(found[2])], check=True)
    for path in (folders[0] / "S2").iterdir():
        with rasterio.open(path) as one, rasterio.open(tmp_path / "x" / "S2" / path.name) as other:
            np.testing.assert_array_equal(one.read(), other.read())


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--scenes", "0", "--out", "x"], "--scenes 0"),
        (["--scenes", "2"], "name one folder"),
        (["a", "--out", "b"], "name one folder"),
        (["--scenes", "2", "--out", "x", "--s2-dates", "4"], "--s2-dates"),
        (["--scenes", "2", "--out", "x", "--size", "4"], "4 pixels"),
        (["--scenes", "2", "--out", "x", "--year", "1999"], "1999"),
        (["x", "--start", "13"], "13"),
        (["x", "--max-cloud", "7"], "7"),
    ],
)
def test_bad_options_are_one_line(
    arguments: list[str], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert simulate.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert word in error
    assert not list(tmp_path.iterdir())


def test_an_unknown_region_is_named() -> None:
    with pytest.raises(InputError, match="atlantis"):
        Spec(region="atlantis").check()


@pytest.mark.skipif("MALICE_TESTDATA" not in os.environ, reason="needs MALICE_TESTDATA (real images)")
def test_bands_correlate_and_ndvi_moves_as_at_the_real_site() -> None:
    tool = Path(__file__).resolve().parents[1] / "benchmarks" / "simulated_vs_real.py"
    done = subprocess.run([sys.executable, tool, "--scenes", "3"], capture_output=True, text=True, check=True)
    apart = re.search(r"mean absolute difference: drawn ([\d.]+)", done.stdout)
    moves = re.search(r"amplitude of a pixel.*\| ([\d.]+) \| ([\d.]+) \| [\d.]+ \|", done.stdout)
    assert apart
    assert moves
    assert float(apart[1]) < 0.15
    assert abs(float(moves[1]) - float(moves[2])) < 0.15
