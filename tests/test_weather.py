"""Weather: every layout against an independent formula, units, gaps, tiling, and what a user can get wrong."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from helpers_weather import (
    AREA,
    COLUMNS,
    COPERNICUS,
    FACTORS,
    LATTICE,
    OPENEO,
    TYPICAL,
    days,
    expected,
    field,
    flat,
    series,
    write_copernicus,
    write_cube,
    write_daily,
    write_raster,
    write_table,
)

from malice_core.errors import InputError
from malice_core.grid import Window
from malice_core.store.statistics import AUX_WEATHER
from malice_core.surroundings.agera5 import KEYS, variable_of, variable_of_file
from malice_core.surroundings.weather import Weather, normalised

WHEN = days(9)
DATES = [WHEN[4], WHEN[7]]


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_daily(tmp_path_factory.mktemp("daily"), WHEN)


def _cube(path: Path, upwards: bool = False) -> Path:
    planes = np.stack([field(day) for day in WHEN], axis=1)
    return write_cube(path, dict(zip(OPENEO, planes, strict=True)), WHEN, upwards=upwards)


@pytest.mark.parametrize("layout", ["daily", "copernicus", "upwards", "rasters", "cube", "cube upwards", "list"])
def test_every_layout_gives_the_interpolated_values(layout: str, daily: Path, tmp_path: Path) -> None:
    if layout in ("daily", "list"):
        path = daily
    elif layout.startswith("cube"):
        path = _cube(tmp_path / "cube.nc", upwards="upwards" in layout)
    elif layout == "rasters":
        path = tmp_path / "rasters"
        for day in WHEN:
            for name, plane in zip(COPERNICUS, field(day), strict=True):
                write_raster(path / f"{name}_C3S-glob-agric_AgERA5_{day:%Y%m%d}_final-v1.1.tif", plane[None], [None])
    else:
        path = write_copernicus(tmp_path / "store", WHEN, upwards=layout == "upwards")
    if layout == "list":
        path = tmp_path / "weather.txt"
        path.write_text("# weather\n" + "\n".join(map(str, sorted(daily.iterdir()))))
    weather = Weather.open([path])
    assert weather.days == tuple(WHEN)
    assert not weather.warnings
    found = weather.values(LATTICE, AREA, DATES)
    assert found.values.dtype == np.float32
    assert found.values.shape == (6, 7, 2, 48)
    assert (found.row, found.col) == (AREA.row // 64, AREA.col // 64)
    np.testing.assert_allclose(found.values, expected(AREA, DATES), rtol=2e-6)
    weather.close()


def test_a_table_holds_for_the_whole_area(tmp_path: Path) -> None:
    for sign in ",;\t":
        weather = Weather.open([write_table(tmp_path / "weather.csv", WHEN, sign=sign)])
        found = weather.values(LATTICE, AREA, DATES).values
        wanted = [np.stack([series(day + timedelta(days=k)) for k in range(-4, 2)], 1) for day in DATES]
        assert np.ptp(found, axis=(0, 1)).max() == 0
        np.testing.assert_allclose(found[0, 0], (np.stack(wanted) * FACTORS[:, None]).reshape(2, 48), rtol=1e-7)
    assert "table" in " ".join(weather.describe())
    assert weather.files() == [str(tmp_path / "weather.csv")]


def test_a_decimal_comma_is_read(tmp_path: Path) -> None:
    path = write_table(tmp_path / "weather.csv", WHEN, sign=";")
    path.write_text(path.read_text().replace(".", ","))
    found = Weather.open([path]).values(LATTICE, AREA, DATES[:1]).values
    np.testing.assert_allclose(found[0, 0, 0].reshape(8, 6)[:, 4], series(DATES[0]) * FACTORS, rtol=1e-7)


@pytest.mark.parametrize("made", [field, flat])
def test_any_two_windows_agree_on_their_cells(made: object, tmp_path: Path) -> None:
    weather = Weather.open([write_daily(tmp_path, WHEN, made)])
    whole = weather.values(LATTICE, AREA, DATES)
    for window in (Window(AREA.row + 70, AREA.col + 3, 90, 200), AREA.expand(-64), Window(AREA.row, AREA.col, 1, 1)):
        alone = Weather.open([tmp_path])
        part = alone.values(LATTICE, window, DATES)
        assert part.row * 64 <= window.row < (part.row + 1) * 64
        rows, cols = (slice(a - b, a - b + n) for a, b, n in zip(part[1:], whole[1:], part.values.shape, strict=False))
        assert np.array_equal(part.values, whole.values[rows, cols])


def test_a_constant_field_gives_exactly_the_published_numbers(tmp_path: Path) -> None:
    found = Weather.open([write_daily(tmp_path, WHEN, flat)]).values(LATTICE, AREA, DATES).values
    wanted = (TYPICAL.astype(np.float32).astype(np.float64) * FACTORS).astype(np.float32)
    assert wanted[4] == 28815
    assert np.array_equal(found, np.broadcast_to(np.repeat(wanted, 6), found.shape))


def test_normalised_is_clipped_centred_and_scaled() -> None:
    assert AUX_WEATHER.channels == KEYS
    low, high, med = (np.repeat(n, 6) for n in (AUX_WEATHER.qmin, AUX_WEATHER.qmax, AUX_WEATHER.med))
    for values, wanted in (
        (med, 0 * med),
        (low - 1e6, (low - med) / (high - low)),
        (high * 9, (high - med) / (high - low)),
    ):
        np.testing.assert_allclose(normalised(values.astype(np.float32)), wanted, atol=1e-6)
    assert normalised(np.full((2, 48), np.nan, np.float32)).tolist() == np.zeros((2, 48)).tolist()
    values = np.full((3, 48), 7, np.float32)
    normalised(values)
    assert (values == 7).all()


UNITS = {
    "°C": ((0, 3, 4, 5), lambda v: v - 273.15, "°C"),
    "kPa": ((6,), lambda v: v / 10, "kPa"),
    "Pa": ((6,), lambda v: v * 100, "from Pa"),
    "MJ": ((2,), lambda v: v / 1e6, "MJ m-2 d-1"),
    "openEO": (range(8), lambda v: np.round(v * FACTORS), "K x 100"),
}


@pytest.mark.parametrize("name", UNITS)
def test_units_are_told_by_their_values_and_converted(name: str, tmp_path: Path) -> None:
    which, convert, said = UNITS[name]
    plain = ("dew_temp", "prec", "sol_rad", "temp_max", "temp_mean", "temp_min", "vap_press", "wind_speed")
    lines = ["day," + ",".join(plain)]
    for day in WHEN:
        values = series(day)
        every = convert(values)
        lines.append(f"{day:%Y%m%d}," + ",".join(repr(float((every if i in which else values)[i])) for i in range(8)))
    path = tmp_path / "weather.csv"
    path.write_text("\n".join(lines))
    weather = Weather.open([path])
    assert said in " ".join(weather.describe())
    assert not weather.warnings
    found = weather.values(LATTICE, AREA, DATES[:1]).values[0, 0, 0].reshape(8, 6)[:, 4]
    np.testing.assert_allclose(found, series(DATES[0]) * FACTORS, rtol=2e-3 if name == "openEO" else 1e-6)


def test_a_frosty_place_in_hpa_is_not_taken_for_kpa(tmp_path: Path) -> None:
    """2 hPa and 2 kPa are both possible; the dew point tells."""
    cold = TYPICAL - np.array([21, 0, 0, 21, 21, 21, 8.4, 0])  # 260 K: about 2 hPa
    for vapour, wanted in ((2.0, "hPa"), (0.2, "kPa")):
        row = ",".join(map(str, [*cold[:6], vapour, 4.0]))
        path = tmp_path / f"{wanted}.csv"
        names = [name.split(" ")[0] for name in COLUMNS]
        path.write_text(f"date,{','.join(names)}\n" + "\n".join(f"{day},{row}" for day in WHEN))
        weather = Weather.open([path])
        assert weather.units["vap_press"].name == wanted
        assert weather.values(LATTICE, AREA, DATES).values[0, 0, 0, 36] == pytest.approx(2000)


def test_a_declared_unit_that_the_values_deny_is_warned_of(tmp_path: Path) -> None:
    header = [name.replace("[K]", "[°C]") for name in COLUMNS]
    weather = Weather.open([write_table(tmp_path / "weather.csv", WHEN, header=header)])
    assert len(weather.warnings) == 4
    assert "declared in °C" in weather.warnings[0]


def test_gaps(tmp_path: Path) -> None:
    when = [day for day in days(30) if day.day not in (11, 12, 20)]
    weather = Weather.open([write_table(tmp_path / "weather.csv", when)])
    assert "3 missing between" in weather.describe()[0]
    fine, one, two, late = date(2020, 1, 6), date(2020, 1, 10), date(2020, 1, 14), date(2020, 2, 3)
    assert weather.check([fine]).dates == (fine,)
    with pytest.raises(
        InputError, match=r"2 days are missing \(2020-01-11, 2020-01-12\), which 2 of 3 dates need;.*gaps"
    ):
        weather.check([fine, one, two])
    with pytest.raises(InputError, match="is missing"):
        weather.values(LATTICE, AREA, [one])
    dropped = weather.check([fine, one, two], "drop-date")
    assert dropped.dates == (fine,)
    assert dropped.report[1] == "2020-01-14: left out, no weather on 2020-01-11, 2020-01-12"
    with pytest.raises(InputError, match="leaves none"):
        weather.check([one], "drop-date")
    with pytest.raises(InputError, match="none of error, nearest, drop-date"):
        weather.check([one], "skip")
    near = weather.check([fine, two, late], "nearest")
    assert near.dates == (fine, two, late)
    assert (
        near.report[0]
        == "2020-01-14: 2020-01-11 has the weather of 2020-01-10, 2020-01-12 has the weather of 2020-01-13"
    )
    assert "at most 5 days away" in near.summary
    got = weather.values(LATTICE, AREA, [two], "nearest").values[0, 0, 0].reshape(8, 6)
    wanted = np.stack([series(date(2020, 1, day)) for day in (10, 10, 13, 13, 14, 15)], 1)
    np.testing.assert_allclose(got[:, [0, 1, 2, 3, 4, 5]], wanted * FACTORS[:, None], rtol=1e-7)


def test_missing_neighbours_are_left_out(tmp_path: Path) -> None:
    """With nodata in half of the pixels the others count; with nodata in all the day's file is named."""

    def holed(day: date) -> np.ndarray:
        values = flat(day)
        values[:, ::2] = -9999 if day.day % 2 else np.nan
        return values

    found = Weather.open([write_daily(tmp_path / "holed", WHEN, holed)]).values(LATTICE, AREA, DATES).values
    assert np.ptp(found, axis=(0, 1, 2)).max() == 0
    write_daily(tmp_path / "empty", WHEN)
    write_raster(tmp_path / "empty" / "AGERA5_20200104.tif", np.full_like(flat(WHEN[0]), -9999))
    with pytest.raises(InputError, match=r"of 2020-01-04 is missing around x 50.*AGERA5_20200104.tif.*--weather-gaps"):
        Weather.open([tmp_path / "empty"]).values(LATTICE, AREA, DATES)


def test_an_area_beyond_the_weather_is_refused_with_its_share(daily: Path) -> None:
    weather = Weather.open([daily])
    weather.verify(LATTICE, AREA, DATES)
    wide = Window(AREA.row, AREA.col, 64, 64 * 200)  # 128 km eastwards; the weather ends at 3.7 degrees
    for ask in (lambda: weather.verify(LATTICE, wide, DATES), lambda: weather.values(LATTICE, wide, DATES)):
        with pytest.raises(InputError, match=r"tif: (5|6)\d% of the area is not covered"):
            ask()


def test_a_raster_as_large_as_the_area_covers_it(tmp_path: Path) -> None:
    """openEO's cubes have weather in the image's own pixels, and the centre of a cell may lie outside them."""
    left, _, _, top = LATTICE.bounds(AREA)
    place = Affine(10, 0, left, 0, -10, top)
    values = np.broadcast_to(TYPICAL[:, None, None], (8, *AREA.shape)).astype(np.float32)
    for day in WHEN:
        write_raster(tmp_path / f"{day}.tif", values, crs="EPSG:32631", place=place)
    assert Weather.open([tmp_path]).values(LATTICE, AREA, DATES).values[0, 0, 0, 24] == 28815


def test_one_pixel_or_one_row_of_the_store_has_a_place(tmp_path: Path) -> None:
    """GDAL makes no georeference of a single latitude or longitude."""
    for rows, cols in ((1, 1), (1, 12), (8, 1)):
        planes = np.stack([field(day, rows, cols) for day in WHEN], axis=1)
        path = write_cube(tmp_path / f"{rows}{cols}.nc", dict(zip(OPENEO, planes, strict=True)), WHEN)
        weather = Weather.open([path])
        grid = next(iter(weather._entries[WHEN[0]].values())).grid
        assert grid is not None
        assert (grid.transform.c, grid.transform.f) == pytest.approx((2.5, 51.2))
        if cols == 1:
            with pytest.raises(InputError, match="100% of the area is not covered"):
                weather.values(LATTICE, AREA, DATES)
        if (rows, cols) == (8, 1):
            from malice_core.images.reading import Layer, read_layer

            entry = weather._entries[WHEN[0]]["temp_mean"]
            read, _ = read_layer(weather._pool, Layer(grid, (entry.band,)), Window(0, 0, 8, 1))  # type: ignore[arg-type]
            assert np.array_equal(read[0], field(WHEN[0], 8, 1)[4])


def test_the_real_site(testdata: Path) -> None:
    """Rasters, table and netCDF of one place are the same numbers, within the range of training."""
    site = testdata / "data" / "site_a"
    window = LATTICE.window(501360, 5629040, 502000, 5629680)
    dates = [date(2017, 8, 14), date(2018, 5, 11)]
    cube = next((site / "original_nc").glob("AgERA5*.nc"))
    found = [Weather.open([path]) for path in (site / "AGERA5", site / "AGERA5_daily.csv", cube)]
    assert all(len(weather.days) == 487 for weather in found)
    rasters, table, netcdf = (weather.values(LATTICE, window, dates).values for weather in found)
    np.testing.assert_allclose(rasters, table, rtol=1e-6)
    assert np.array_equal(rasters, netcdf)
    assert np.abs(normalised(rasters)).max() < 1
    assert found[1].units["vap_press"].name == "hPa"
    with pytest.raises(InputError, match="2017-07-31"):
        found[1].check([date(2017, 8, 4)])


def test_names() -> None:
    for names in (OPENEO, [name.split(" ")[0] for name in COLUMNS], COPERNICUS):
        assert tuple(variable_of(name).key for name in names) == KEYS  # type: ignore[union-attr]
    for name in ("Temperature_Air_2m_Mean_Day_Time", "Precipitation_Solid_Duration_Fraction", "elevation", "", None):
        assert variable_of(name) is None
    for stem, key in (
        ("Temperature-Air-2m-Mean-24h_C3S-glob-agric_AgERA5_20200101_final-v1.1", "temp_mean"),
        ("Vapour-Pressure-Deficit-at-Maximum-Temperature_C3S-glob-agric_AgERA5_20200101_final-v2.0", None),
        ("site_wind-speed_2020-01-01", "wind_speed"),
        ("temperature-min_20200101", "temp_min"),
    ):
        known = variable_of_file(stem)
        assert (known.key if known else None) == key


def _table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "weather.csv"
    path.write_text(text, encoding="utf-8")
    return path


ROW = ",".join(map(str, TYPICAL))
HEAD = "date," + ",".join(COLUMNS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty; write a header"),
        (HEAD.replace("date", "when"), r"no column with the date; call one column 'date'.*found: when, dewpoint"),
        (f"{HEAD}\n2020-01-02,{ROW}\n2020-01-02,{ROW}", r"2020-01-02 in line 3 is there twice \(line 2\); sort"),
        (f"{HEAD}\n2020-01-02,{ROW}\n2020-01-01,{ROW}", r"2020-01-01 in line 3 comes after 2020-01-02 .*sort the rows"),
        (f"{HEAD}\nsoon,{ROW}", r"'soon' in line 2 is no date; write YYYY-MM-DD"),
        (f"{HEAD}\n2020-01-02,{ROW},7", r"line 2 has 10 values, its header 9"),
        (f"{HEAD}\n2020-01-02,{ROW.replace('3.0', 'wet', 1)}", r"'wet' in line 2, column 'precipitation_flux', is no"),
        (f"{HEAD}\n2020-01-02,{ROW.replace('3.0', 'inf', 1)}", r"is not finite"),
        (HEAD, r"has a header in line 1 and no row"),
        (HEAD.replace(",wind_speed", ",gusts") + f"\n2020-01-02,{ROW}", r"no wind speed in .*found: date, dew.*gusts"),
        (HEAD.replace("wind_speed", "tmax") + f"\n2020-01-02,{ROW}", r"'temperature_max' and 'tmax' are both maximum"),
        (
            f"{HEAD}\n2020-01-02,{ROW.replace('288.15', '900')}",
            r"mean temperature is 900 to 900, which is no K, °C or K x",
        ),
        (f"{HEAD}\n2020-01-02,{ROW.replace('12000000.0', '140')}", r"solar radiation is 140 to 140, which is no J"),
        (
            f"{HEAD.replace('m s-1', 'km h-1')}\n2020-01-02,{ROW}",
            r"wind speed is declared in 'km h-1', which is not m s-1",
        ),
        (
            f"{HEAD}\n2020-01-02,{ROW.replace('288.15', '')}",
            r"the column 'temperature_mean' has no value in any row",
        ),
    ],
)
def test_bad_tables_are_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Weather.open([_table(tmp_path, text)])
    assert "\n" not in str(caught.value)


def _bad(name: str, folder: Path) -> tuple[list[Path], str]:
    day = WHEN[0]
    tif = folder / "AGERA5_20200101.tif"
    if name == "nothing":
        return [folder / "nowhere"], r"nowhere: no such file or folder"
    if name == "empty folder":
        return [folder], r"no raster and no table .* in this folder"
    if name == "no path":
        return [], r"no path given for the weather"
    if name == "no date":
        return [write_raster(folder / "weather.tif", field(day))], r"weather.tif: no date in its name or tags"
    if name == "two dates":
        return [write_raster(folder / "w_20200101_20200102.tif", field(day))], r"two dates in its name"
    if name == "no names":
        return [write_raster(tif, field(day), [None] * 8)], r"none of its 8 bands has a name; set band descriptions"
    if name == "variable missing":
        return [write_raster(tif, field(day)[:7])], r"no wind speed in .*found: dewpoint-temp.*wanted.*wind_speed"
    if name == "twice":
        write_daily(folder, [day])
        return [folder, write_raster(folder / "copy" / "20200101.tif", field(day))], r"is there twice, also in .*leave"
    if name == "no CRS":
        return [write_raster(tif, field(day), crs=None)], r"does not say where it lies \(no CRS\)"
    if name == "damaged":
        tif.write_bytes(b"II*\0nothing")
        return [tif], r"cannot open .*AGERA5_20200101.tif"
    if name == "truncated":
        write_raster(tif, field(day, 200, 200))
        tif.write_bytes(tif.read_bytes()[:300000])
        return [tif], r"(cannot (read|open)|damaged)"
    if name == "only nodata":
        return [write_raster(tif, np.full((8, 3, 3), -9999, np.float32))], r"dew point temperature holds no value"
    if name == "hourly":
        hours = {name: np.stack([field(day)[i]] * 2) for i, name in enumerate(OPENEO)}
        return [write_cube(folder / "hours.nc", hours, [day, day])], r"is there twice, one value a day is wanted"
    assert name == "other variable"
    return [write_raster(tif, field(day)[:1], ["elevation"])], r"no dew point temperature, .*found: AGERA5_20200101"


@pytest.mark.parametrize(
    "name",
    [
        *("nothing", "empty folder", "no path", "no date", "two dates", "no names", "variable missing", "twice"),
        *("no CRS", "damaged", "truncated", "only nodata", "hourly", "other variable"),
    ],
)
def test_bad_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    paths, message = _bad(name, tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        Weather.open(paths)
    assert "\n" not in str(caught.value)


def test_a_day_in_another_unit_is_refused_when_it_is_read(tmp_path: Path) -> None:
    """Units are decided once; one stray day among hundreds is found where it is read."""
    when = days(40)
    write_daily(tmp_path, when)
    stray = field(when[14])
    stray[[0, 3, 4, 5]] -= 273.15
    write_raster(tmp_path / f"AGERA5_{when[14]:%Y%m%d}.tif", stray)
    weather = Weather.open([tmp_path])
    with pytest.raises(InputError, match=r"20200115.tif: dew point temperature of 2020-01-15 is .*impossible in K"):
        weather.values(LATTICE, AREA, [when[15]])


def test_days_without_all_variables_and_other_files_are_warned_of(tmp_path: Path) -> None:
    write_daily(tmp_path, WHEN)
    write_raster(tmp_path / "AGERA5_20200108.tif", field(WHEN[7])[:7])
    write_raster(tmp_path / "AGERA5_20200120.tif", field(WHEN[7])[:1], ["elevation"])
    weather = Weather.open([tmp_path])
    assert len(weather.days) == 8
    assert re.search(r"1 day lacks wind speed: 2020-01-08; taken as missing", " ".join(weather.warnings))
    assert "1 file left out" in " ".join(weather.warnings)
    assert len(weather.files()) == 8


def test_days_that_never_come_together_are_refused(tmp_path: Path) -> None:
    for day, part in ((WHEN[0], slice(0, 4)), (WHEN[1], slice(4, 8))):
        write_raster(tmp_path / f"{day}.tif", field(day)[part], OPENEO[part])
    with pytest.raises(
        InputError, match=r"2 days lack dew point.*2020-01-01, 2020-01-02; no day has all eight variables"
    ):
        Weather.open([tmp_path])
