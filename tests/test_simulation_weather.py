"""Simulated weather, sun and orbits: they obey physics, resemble a real place, and drive what the sensors see."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from malice_core.errors import InputError
from malice_core.simulation import climate, crops, optical, orbits, phenology, radar, scene, solar
from malice_core.simulation import weather as land_weather
from malice_core.simulation.daily import Daily, daily, length
from malice_core.simulation.passes import Spec, s1_passes, s2_passes
from malice_core.simulation.series import Series

FLANDERS = climate.FLANDERS


def several(count: int = 6) -> list[tuple[climate.Region, Daily]]:
    """A year of Flanders and of drawn regions."""
    regions = [FLANDERS, *(climate.drawn(seed) for seed in range(count - 1))]
    return [(region, daily(region, 7, 2021, 2021)) for region in regions]


# --- the sun


def test_the_sun_stands_where_the_reference_algorithm_says() -> None:
    """The example of Reda and Andreas (2004, Solar Energy 76:577): zenith 50.11162 with 0.016 degrees of refraction."""
    zenith, azimuth = solar.position(39.742476, -105.1786, datetime(2003, 10, 17, 19, 30, 30))
    assert abs(zenith - 50.1276) < 0.01
    assert abs(azimuth - 194.34024) < 0.01


def test_the_sun_of_the_solstices_follows_from_geometry() -> None:
    for when, declination in ((datetime(2024, 6, 20, 20, 51), 23.436), (datetime(2024, 12, 21, 9, 20), -23.436)):
        # Of a whole day the least zenith angle is latitude - declination, in the south.
        places = [solar.position(50.8, longitude, when) for longitude in np.arange(-180, 180, 0.05)]
        noon = min(places, key=lambda sun: sun.zenith)
        assert abs(noon.zenith - (50.8 - declination)) < 0.01
        assert abs(noon.azimuth - 180) < 0.1


def test_a_days_light_is_the_integral_of_the_suns_height() -> None:
    for latitude in (37.0, 50.8, 58.0):
        for month in (1, 4, 7, 10):
            minutes = [datetime(2023, month, 15) + timedelta(minutes=5 * i) for i in range(288)]
            up = [max(math.cos(math.radians(solar.position(latitude, 0, when).zenith)), 0) for when in minutes]
            number = minutes[0].timetuple().tm_yday
            near = 1 + 0.0334 * math.cos(2 * math.pi * (number - 3) / 365.25)  # perihelion is on 3 January
            expected = 1361 * near * sum(up) * 300
            assert abs(float(solar.extraterrestrial(latitude, np.array(number))) / expected - 1) < 0.005


@pytest.mark.skipif("MALICE_TESTDATA" not in os.environ, reason="needs MALICE_TESTDATA (real images)")
def test_sun_and_passes_are_those_of_real_images() -> None:
    path = Path(os.environ["MALICE_TESTDATA"]) / "data" / "site_a" / "S2_dates.csv"
    for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
        when = datetime.fromisoformat(row["acquisition_utc"].rstrip("Z"))
        sun = solar.position(50.816, 3.024, when)
        # The metadata have the mean of a tile of 110 km.
        assert abs(sun.zenith - float(row["sun_zenith"])) < 0.4
        assert abs(sun.azimuth - float(row["sun_azimuth"])) < 4
        mine = min(orbits.S2_ORBITS, key=lambda orbit: abs(orbit.view[1] - float(row["view_azimuth_mean"])))
        assert abs(mine.view[0] - float(row["view_zenith_mean"])) < 0.3
        assert abs(mine.view[1] - float(row["view_azimuth_mean"])) < 6  # two satellites, which differ


# --- orbits


def test_geometry_gives_the_passes_over_belgium() -> None:
    """Sentinel-2 comes 10:51 and 11:01 UTC with the satellite 8 degrees east and 5 west; Sentinel-1 17:32 and 17:41."""

    def minutes(at: object) -> float:
        return at.hour * 60 + at.minute + at.second / 60  # type: ignore[attr-defined]

    assert abs(orbits.zenith(110.0, orbits.S2_HEIGHT) - 8.97) < 0.05  # by hand: atan(110 / 786) + 110 / 6371
    for orbit, east in zip(orbits.S2_ORBITS, (-99.0, 64.0), strict=True):
        assert abs(orbits.zenith(abs(east), orbits.S2_HEIGHT) - orbit.view[0]) < 0.3
        at = orbits.clock(10.5, orbits.S2_TILT, 50.8, 3.02, east)
        assert abs(minutes(at) - minutes(orbit.at)) < 6
    for orbit in orbits.S1_ORBITS:
        at = orbits.clock(18.0, orbits.S1_TILT, 50.8, 3.02, orbits.distance(orbit.incidence, orbits.S1_HEIGHT))
        assert abs(minutes(at) - minutes(orbit.at)) < 3
    for incidence in (30.0, 38.0, 45.0):
        beside = orbits.distance(incidence, orbits.S1_HEIGHT)
        assert abs(orbits.zenith(beside, orbits.S1_HEIGHT) - incidence) < 1e-9


def test_drawn_scenes_see_the_sun_of_a_morning_and_stay_within_the_swaths() -> None:
    sides = set()
    for seed in range(40):
        spec = Spec.draw(seed)
        for taken in s2_passes(spec):
            assert 0 <= taken.view[0] < 11.5
            assert 105 < taken.sun.azimuth < 178  # before noon
            assert taken.sun.zenith < 88
            sides.add(taken.view[1] > 180)
            # Local mean solar time, whatever the zone.
            local = taken.when.hour + taken.when.minute / 60 + spec.longitude / 15
            assert 10.5 < local < 12
        incidence = {taken.incidence for taken in s1_passes(spec)}
        assert all(30 <= angle <= 46 for angle in incidence)
        assert len(incidence) == len({taken.orbit for taken in s1_passes(spec)})
    assert sides == {True, False}


def test_an_origin_that_is_nowhere_is_named() -> None:
    with pytest.raises(InputError, match="--origin 9e\\+07"):
        Spec(region="drawn", origin=(9e7, 5640000.0)).check()


# --- weather


def test_weather_hangs_together() -> None:
    for region, air in several():
        assert (air.least <= air.temperature).all()
        assert (air.temperature <= air.most).all()
        assert (air.dew <= air.temperature).all()
        assert (air.rain >= 0).all()
        assert (air.wind > 0).all()
        assert ((air.cloud >= 0) & (air.cloud <= 1)).all()
        # Bolton (1980, Mon. Weather Rev. 108:1046) has other constants of the same curve.
        np.testing.assert_allclose(air.vapour, 6.112 * np.exp(17.67 * air.dew / (air.dew + 243.5)), rtol=0.005)
        share = air.light / solar.extraterrestrial(region.latitude, np.arange(1, 366))
        assert ((share > 0.03) & (share < 0.8)).all()
        assert np.corrcoef(share, air.cloud)[0, 1] < -0.8
        wet = air.rain > 2
        assert share[wet].mean() < share[~wet].mean() - 0.08
        assert np.corrcoef(share, air.most - air.least)[0, 1] > 0.4
        rest = air.temperature - region.mean - region.swing * -np.cos(2 * np.pi * (np.arange(1, 366) - 16) / 365.25)
        assert 0.6 < np.corrcoef(rest[1:], rest[:-1])[0, 1] < 0.95
        assert abs(air.temperature.mean() - region.mean) < 2.5


def test_a_year_of_weather_is_the_same_whatever_years_are_asked_for() -> None:
    first, second = daily(FLANDERS, 3, 2019, 2021), daily(FLANDERS, 3, 2021, 2022)
    assert len(first.rain) == 365 + 366 + 365
    for one in fields(Daily):
        np.testing.assert_allclose(getattr(first, one.name)[-365:], getattr(second, one.name)[:365], rtol=1e-9)
    assert np.abs(daily(FLANDERS, 4, 2019, 2021).rain - first.rain).sum() > 100
    # Over New Years as over other days.
    whole = daily(FLANDERS, 3, 2001, 2060)
    ends = np.cumsum([length(year) for year in range(2001, 2060)])
    step = np.abs(np.diff(whole.temperature))
    assert step[ends - 1].mean() < 1.3 * step.mean()


@pytest.mark.skipif("MALICE_TESTDATA" not in os.environ, reason="needs MALICE_TESTDATA (real weather)")
def test_flanders_has_the_weather_of_a_belgian_site() -> None:
    path = Path(os.environ["MALICE_TESTDATA"]) / "data" / "site_a" / "AGERA5_daily.csv"
    rows = [row for row in csv.reader(path.read_text(encoding="utf-8").splitlines()) if row]
    days = [date.fromisoformat(row[0]) for row in rows[1:]]
    year = [i for i, day in enumerate(days) if date(2017, 11, 1) <= day < date(2018, 11, 1)]
    dew, rain, light, most, mean, least, vapour, wind = np.array([row[1:] for row in rows[1:]], float)[year].T
    number = np.array([days[i].timetuple().tm_yday for i in year])
    real = {
        "light": light / solar.extraterrestrial(50.8, number),
        "range": most - least,
        "dry": mean - dew,
        "wind": wind,
    }
    airs = [daily(FLANDERS, seed, 2018, 2018) for seed in range(10)]
    ours = {
        "light": np.concatenate([air.light / solar.extraterrestrial(50.8, np.arange(1, 366)) for air in airs]),
        "range": np.concatenate([air.most - air.least for air in airs]),
        "dry": np.concatenate([air.temperature - air.dew for air in airs]),
        "wind": np.concatenate([air.wind for air in airs]),
    }
    for name, values in real.items():
        for q in (0.1, 0.5, 0.9):
            one, other = np.quantile(values, q), np.quantile(ours[name], q)
            assert abs(one - other) < 0.25 * np.quantile(values, 0.9), (name, q, one, other)
    # They average hours, over which the curve bends.
    ratio = vapour / (6.112 * np.exp(17.62 * (dew - 273.15) / (dew - 30.03)))
    assert abs(np.median(ratio) - 1) < 0.01
    assert 0.25 < np.mean(np.concatenate([air.rain for air in airs]) > 1) < 0.45
    assert 0.25 < np.mean(rain > 1) < 0.45


def test_evaporation_is_makkinks() -> None:
    air = daily(FLANDERS, 1, 2022, 2022)
    day = 180
    t = air.temperature[day]
    slope = 4098 * 0.6108 * math.exp(17.27 * t / (t + 237.3)) / (t + 237.3) ** 2  # FAO-56 eq. 13, kPa per kelvin
    expected = 0.65 * slope / (slope + 0.0665) * air.light[day] / 1e6 / 2.45
    assert abs(land_weather.evaporation(air)[day] / expected - 1) < 0.01
    assert 450 < land_weather.evaporation(air).sum() < 750  # the normal of Belgium is 500 to 650 mm


# --- weather drives what is seen


def test_clouds_come_on_dark_days() -> None:
    for spec in (Spec(s2_dates=140), replace(Spec.draw(4), max_cloud=1.0)):
        weather = Series(spec).land.weather
        taken = s2_passes(spec)
        numbers = [one.day(spec.year) for one in taken]
        top = solar.extraterrestrial(spec.land.latitude, np.array([one.when.timetuple().tm_yday for one in taken]))
        share = np.array([weather.at(weather.air.light, number) for number in numbers]) / top
        assert np.corrcoef(share, [one.cloud for one in taken])[0, 1] < -0.5


def greenup(land: scene.Landscape, names: tuple[str, ...]) -> dict[str, float]:
    """Mean day at which the fields of each crop reach a green area of 2.5."""
    days = range(70, 220, 2)
    lai = np.stack([phenology.state(land, day).lai for day in days])
    found = {}
    for name in names:
        mine = land.parcels.code[scene.SEASONS.index(0)] == crops.BY_NAME[name].code
        reached = lai[:, mine & (lai.max(axis=0) > 3)] > 2.5
        assert reached.shape[1] > 3
        found[name] = float(np.array(days)[reached.argmax(axis=0)].mean())
    return found


def test_a_warm_year_is_green_earlier_than_a_cold_one() -> None:
    land = scene.landscape((200, 200), 2, 2022)
    springs = []
    for year in range(2001, 2061, 4):  # all have 365 days
        weather = land_weather.weather(FLANDERS, 2, year)
        spring = weather.air.temperature[weather.before : weather.before + 130].mean()
        # Without drought, which takes leaves in warm years.
        springs.append((spring, replace(weather, stress=0 * weather.stress)))
    springs.sort(key=lambda pair: pair[0])
    (cold, late), (warm, early) = springs[0], springs[-1]
    assert warm - cold > 1.5
    crop_names = ("winter wheat", "sugar beet", "maize")
    slow, quick = (greenup(replace(land, weather=one), crop_names) for one in (late, early))
    for name in crop_names:
        # 2.5 days a kelvin is what European phenology shows (Menzel et al. 2006, Glob. Change Biol. 12:1969).
        assert slow[name] - quick[name] > 2.5 * (warm - cold)


def test_a_dry_spell_takes_leaves() -> None:
    land = scene.landscape((120, 120), 2, 2022)
    air = land.weather.air
    dry = replace(air, rain=air.rain * (np.arange(len(air.rain)) < land.weather.before + 110))
    thirsty = replace(land, weather=land_weather.respond(dry, FLANDERS, 2022))
    meadow = land.parcels.code[1] == crops.MEADOW
    assert phenology.state(thirsty, 200).lai[meadow].mean() < 0.8 * phenology.state(land, 200).lai[meadow].mean()
    np.testing.assert_array_equal(phenology.state(thirsty, 100).lai, phenology.state(land, 100).lai)


def test_a_rainy_day_raises_vv_of_bare_soil_and_darkens_it() -> None:
    land = scene.landscape((200, 200), 1, 2024)
    day = 100
    i = land.weather.before + day - 1
    drizzle, poured = land.weather.air.rain.copy(), land.weather.air.rain.copy()
    drizzle[i - 12 : i + 1] = 0
    poured[i - 12 : i + 1] = 0
    poured[i] = 15
    dry, wet = (
        replace(land, weather=land_weather.respond(replace(land.weather.air, rain=rain), FLANDERS, 2024))
        for rain in (drizzle, poured)
    )
    bare = (land.labels == crops.BY_NAME["sugar beet"].code) | (land.labels == crops.BY_NAME["maize"].code)
    assert bare.sum() > 500
    after, before = (np.nanmean(radar.sentinel1(one, day, False)[0, bare]) for one in (wet, dry))
    assert 1.4 < after / before < 4
    bright = [optical.sentinel2(one, day, 0, 0.0)[0][:, bare].mean(axis=1) for one in (dry, wet)]
    assert (bright[1] < 0.93 * bright[0]).all()


def test_wind_raises_waves() -> None:
    region = replace(FLANDERS, lakes=0.2)
    land = scene.landscape((210, 210), 3, 2024, region)
    water = land.labels == crops.WATER
    levels, winds = [], []
    for day in range(1, 366, 9):
        levels.append(np.log(np.nanmean(radar.sentinel1(land, day, False)[0, water])))
        winds.append(np.log(land.weather.at(land.weather.air.wind, day)))
    assert np.corrcoef(levels, winds)[0, 1] > 0.5
