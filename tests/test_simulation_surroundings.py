"""Simulated terrain and angles: what images show of them, and that the files are what MALICE Aux reads."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio

from malice_core import simulate
from malice_core.grid import Lattice, Window
from malice_core.simulation import climate, crops, optical, phenology, radar, relief, scene
from malice_core.simulation.passes import Spec, s2_passes
from malice_core.simulation.series import Series
from malice_core.simulation.solar import Sun
from malice_core.surroundings.angles import Angles
from malice_core.surroundings.terrain import Terrain
from malice_core.surroundings.weather import Weather, days_of

FILES = ("AGERA5.csv", "DEM.tif", "S2_angles.csv", "S1_angles.csv")
HILLS = replace(climate.FLANDERS, relief=45.0, woods=0.2, lakes=0.03)
SPECS = {
    "flanders": Spec(height=24, width=33, s2_dates=9, s1_dates=8, seed=5),
    "drawn": Spec(height=24, width=33, s2_dates=9, s1_dates=8, seed=5, region="drawn", start=4, year=2023),
}


@pytest.fixture(scope="module", params=SPECS)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Series, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    simulate.write(SPECS[request.param], folder)
    return Series(SPECS[request.param]), folder


# --- the files


def test_weather_of_every_date_is_read(written: tuple[Series, Path]) -> None:
    series, folder = written
    weather = Weather.open([folder / "AGERA5.csv"])
    dates = [taken.when.date() for taken in (*series.s2, *series.s1)]
    begin = date(series.spec.year, series.spec.start, 1)
    assert weather.days[0] == begin - timedelta(days=4)
    assert weather.days[-1] == begin.replace(year=begin.year + 1)
    # Whatever passes there might be.
    year = [begin + timedelta(days=i) for i in range((weather.days[-1] - begin).days)]
    assert weather.check(year).report == ()
    lattice = Lattice.anchored(series.spec.crs, 10.0, *series.spec.origin)
    values = weather.values(lattice, Window(0, 0, 24, 33), dates).values
    assert not weather.warnings
    air = series.land.weather.air
    order = (air.dew, air.rain, air.light, air.most, air.temperature, air.least, air.vapour, air.wind)
    scale, shift = (100, 100, 1, 100, 100, 100, 1000, 100), (273.15, 0, 0, 273.15, 273.15, 273.15, 0, 0)
    start = date(series.spec.year - 1, 1, 1)
    for t, acquired in enumerate(dates):
        rows = values[0, 0, t].reshape(8, 6)
        for k, day in enumerate(days_of(acquired)):
            expected = [(one[(day - start).days] + s) * f for one, f, s in zip(order, scale, shift, strict=True)]
            np.testing.assert_allclose(rows[:, k], expected, atol=0.51)
    weather.close()


@pytest.mark.skipif("MALICE_TESTDATA" not in os.environ, reason="needs MALICE_TESTDATA (real weather)")
def test_the_weather_has_the_header_of_the_real_table(written: tuple[Series, Path]) -> None:
    real = Path(os.environ["MALICE_TESTDATA"]) / "data" / "site_a" / "AGERA5_daily.csv"
    header, *rows = (written[1] / "AGERA5.csv").read_text(encoding="utf-8").splitlines()
    assert header == real.read_text(encoding="utf-8").splitlines()[0]
    for row in rows:
        dew, rain, light, most, mean, least, vapour, wind = (float(cell) for cell in row.split(",")[1:])
        assert least <= mean <= most
        assert dew <= mean
        assert min(rain, light, vapour, wind) >= 0
        assert abs(vapour / (6.112 * math.exp(17.62 * (dew - 273.15) / (dew - 30.03))) - 1) < 1e-3


def test_terrain_is_read_on_the_images_grid(written: tuple[Series, Path]) -> None:
    series, folder = written
    left, top = series.spec.origin
    lattice = Lattice.anchored(series.spec.crs, 10.0, left, top)
    window = lattice.window(left, top - 240, left + 330, top)
    terrain = Terrain.open(folder / "DEM.tif", lattice)
    assert "pixel by pixel" in terrain.notes[0]
    terrain.check(window.expand(relief.MARGIN))
    elevation, slope, cosine, sine = terrain.read(window)
    ground = series.land.relief
    m = relief.MARGIN
    np.testing.assert_array_equal(elevation, ground.elevation[m:-m, m:-m])
    # The gradients that light and microwaves follow are those the network is told.
    rise = np.hypot(ground.east, ground.north)
    np.testing.assert_allclose(slope, np.sin(np.arctan(rise)), atol=2e-5)
    sloping = rise > 0.003
    assert sloping.any()
    np.testing.assert_allclose(cosine[sloping], -ground.north[sloping] / rise[sloping], atol=0.02)
    np.testing.assert_allclose(sine[sloping], -ground.east[sloping] / rise[sloping], atol=0.02)
    with rasterio.open(folder / "DEM.tif") as source:
        assert source.dtypes == ("float32",)
        assert source.crs.to_string() == series.spec.crs
        assert source.shape == (24 + 128, 33 + 128)
    terrain.close()


def test_angles_of_every_date_are_read(written: tuple[Series, Path]) -> None:
    series, folder = written
    for sensor, passes in (("s2", series.s2), ("s1", series.s1)):
        angles = Angles.open(sensor, [folder / f"{sensor.upper()}_angles.csv"])
        for orbit in ([taken.orbit for taken in passes], None):
            found = angles.of([taken.when.date() for taken in passes], orbit)
            assert not angles.warnings
            for row, taken in zip(found, passes, strict=True):
                degrees = (*taken.sun, *taken.view) if sensor == "s2" else (taken.incidence,)
                radians = [math.radians(value) for value in degrees]
                expected = [math.cos(radians[0])]
                if sensor == "s2":
                    expected += [math.cos(radians[1]), math.sin(radians[1]), math.cos(radians[2])]
                    expected += [math.cos(radians[3]), math.sin(radians[3])]
                np.testing.assert_allclose(row, expected, atol=2e-5)


def test_the_same_seed_writes_the_same_files(written: tuple[Series, Path], tmp_path: Path) -> None:
    series, folder = written
    simulate.write(series.spec, tmp_path)
    for name in FILES:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    simulate.write(replace(series.spec, seed=6, s2_dates=1, s1_dates=0), tmp_path)
    assert (folder / "AGERA5.csv").read_bytes() != (tmp_path / "AGERA5.csv").read_bytes()
    assert not (tmp_path / "S1_angles.csv").exists()  # of the scene that was there before


def test_scenes_of_before_there_was_weather_are_made_again(tmp_path: Path) -> None:
    said: list[str] = []
    (folder,) = simulate.write_many(1, tmp_path, 3, (8, 8), tell=said.append)
    assert all((folder / name).exists() for name in FILES)
    (folder / "AGERA5.csv").unlink()
    simulate.write_many(1, tmp_path, 3, (8, 8), tell=said.append)
    assert (folder / "AGERA5.csv").exists()
    simulate.write_many(1, tmp_path, 3, (8, 8), tell=said.append)
    assert ["was there" in line for line in said] == [False, False, True]


# --- terrain


def test_how_a_slope_faces_is_the_cosine_between_normal_and_direction() -> None:
    ground = scene.landscape((50, 40), 1, 2024, HILLS).relief
    normal = np.stack([-ground.east, -ground.north, np.ones_like(ground.east)]).astype(np.float64)
    normal /= np.linalg.norm(normal, axis=0)
    for zenith, azimuth in ((30.0, 150.0), (75.0, 170.0), (40.0, 260.0)):
        z, a = math.radians(zenith), math.radians(azimuth)
        towards = np.array([math.sin(z) * math.sin(a), math.sin(z) * math.cos(a), math.cos(z)])
        expected = np.tensordot(towards, normal, 1) / math.cos(z)
        np.testing.assert_allclose(ground.facing(zenith, azimuth), expected, atol=1e-5)


def test_places_are_flat_to_hilly() -> None:
    slopes = [
        float(np.degrees(np.arctan(np.hypot(ground.east, ground.north))).mean())
        for ground in (Series(Spec.draw(seed, 64, 64)).land.relief for seed in range(24))
    ]
    assert np.quantile(slopes, 0.25) < 1
    assert np.quantile(slopes, 0.95) > 4
    assert max(slopes) < 25


def test_woods_keep_to_slopes_and_water_to_low_ground() -> None:
    woods, lakes = [], []
    for seed in range(8):
        land = scene.landscape((220, 220), seed, 2024, HILLS)
        rise = np.hypot(land.relief.east, land.relief.north)
        wood = np.isin(land.labels, (crops.BROADLEAVED, crops.CONIFEROUS, crops.MIXED))
        woods.append(rise[wood].mean() / rise.mean())
        lakes.append(land.relief.height[land.labels == crops.WATER].mean() - land.relief.height.mean())
    assert np.mean(woods) > 1.1
    assert np.mean(lakes) < -0.4


def test_slopes_towards_the_sun_are_brighter_and_plains_know_none_of_it() -> None:
    for region, least, most in ((HILLS, 0.5, 1.0), (replace(HILLS, relief=0.0), -0.12, 0.12)):
        land = scene.landscape((200, 200), 3, 2024, region)
        sun = Sun(60.0, 160.0)
        dn = optical.sentinel2(land, 95, 0, 0.0, sun=sun)[0][6].astype(float)
        # Inside parcels, so that what grows where does not matter.
        rise = -np.sin(np.radians(160)) * np.asarray(land.relief.east) - np.cos(np.radians(160)) * land.relief.north
        if region.relief == 0:
            assert not rise.any()
            rise = scene.landscape((200, 200), 3, 2024, HILLS).relief.north
        size = np.bincount(land.parcel.ravel())
        keep = (size[land.parcel] > 200) & (land.labels != crops.WATER)
        inside = [
            (field - (np.bincount(land.parcel.ravel(), field.ravel()) / np.maximum(size, 1))[land.parcel])[keep]
            for field in (np.log(dn), rise.astype(float))
        ]
        assert least < np.corrcoef(*inside)[0, 1] < most


def test_slopes_towards_the_radar_are_a_little_brighter() -> None:
    land = scene.landscape((200, 200), 3, 2024, HILLS)
    flat = replace(land, relief=replace(land.relief, east=0 * land.relief.east, north=0 * land.relief.north))
    one, other = (radar.sentinel1(part, 100, False, 40.0) for part in (land, flat))
    ratio = np.log(one / other)[0]
    towards = -np.sin(np.radians(258)) * land.relief.east - np.cos(np.radians(258)) * land.relief.north
    inside = np.isfinite(ratio) & (land.labels != crops.WATER)
    assert np.corrcoef(ratio[inside], towards[inside])[0, 1] > 0.9
    assert 0.01 < ratio[inside].std() < 0.12


# --- angles


def test_backscatter_falls_as_a_power_of_the_cosine() -> None:
    land = scene.landscape((80, 80), 1, 2024)
    steep, slant = (radar._backscatter(land, 118, False, angle, np.random.default_rng(1)) for angle in (32.0, 44.0))
    state = phenology.state(land, 118)
    bare = (state.mass == 0) & (state.code == crops.BY_NAME["maize"].code)
    assert bare.any()
    ratio = (math.cos(math.radians(44)) / math.cos(math.radians(32))) ** 1.5
    np.testing.assert_allclose((slant / steep)[:, bare], ratio)
    assert (slant <= steep * (1 + 1e-12)).all()


def test_ground_is_brighter_with_the_sun_behind_the_satellite() -> None:
    passes = s2_passes(Spec(s2_dates=100))
    east, west = ({one.side for one in passes if (one.view[1] < 180) == where} for where in (True, False))
    assert min(east) > 0 > max(west)
    land = scene.landscape((60, 60), 1, 2024)
    ratios = []
    for day in range(100, 250, 30):
        behind, before = (optical.sentinel2(land, day, side, 0.0)[0][6].astype(float) for side in (1.0, -1.0))
        ratios.append(np.median(behind / before))
    assert 1.02 < np.median(ratios) < 1.15
