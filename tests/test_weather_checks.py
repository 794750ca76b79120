"""Weather that is read when a run is planned: what is missing or cannot be, and rasters that go round the Earth."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from helpers_weather import (
    AREA,
    COLUMNS,
    FACTORS,
    LATTICE,
    OPENEO,
    days,
    field,
    flat,
    series,
    write_daily,
    write_raster,
    write_table,
)
from rasterio.warp import transform as transform_points

from malice_core.errors import InputError
from malice_core.grid import Lattice
from malice_core.images.reading import Grid
from malice_core.surroundings.cells import locate
from malice_core.surroundings.weather import Weather

WHEN = days(9)
DATES = [WHEN[4], WHEN[7]]


@pytest.mark.parametrize("west", [0, -180, 355])
def test_a_place_is_found_whatever_longitudes_are_counted_from(west: int, tmp_path: Path) -> None:
    """The area lies on the meridian of Greenwich, where a raster from 0 to 360 begins and ends."""
    lattice = Lattice.anchored("EPSG:32631", 10.0, 240003.0, 5629683.0)
    area = lattice.window(240003, 5599683, 320003, 5629683)
    cols = 10 if west == 355 else 360
    place = Affine(1, 0, west - 0.5, 0, -1, 53.5)
    for day in WHEN:
        write_raster(tmp_path / f"{day}.tif", field(day, 6, cols), OPENEO, place=place)
    weather = Weather.open([tmp_path])
    weather.verify(lattice, area, DATES)
    found = weather.values(lattice, area, DATES[:1])
    height, width = found.values.shape[:2]
    i, j = np.mgrid[found.row : found.row + height, found.col : found.col + width]
    x, y = lattice.x0 + (j * 64 + 32) * 10.0, lattice.y0 - (i * 64 + 32) * 10.0
    lon, lat = (
        np.reshape(v, x.shape)
        for v in transform_points("EPSG:32631", "EPSG:4326", x.ravel().tolist(), y.ravel().tolist())
    )
    assert lon.min() < -0.3
    assert lon.max() > 0.3
    plane = field(DATES[0], 6, cols).astype(np.float64)
    r, c = 53 - lat, (lon - west) % 360
    row, col = np.floor(r).astype(int), np.floor(c).astype(int)
    v, u = r - row, c - col
    wanted = (plane[:, row, col % 360] * (1 - u) + plane[:, row, (col + 1) % 360] * u) * (1 - v)
    wanted += (plane[:, row + 1, col % 360] * (1 - u) + plane[:, row + 1, (col + 1) % 360] * u) * v
    got = found.values[:, :, 0].reshape(height, width, 8, 6)[..., 4]
    np.testing.assert_allclose(got, wanted.transpose(1, 2, 0) * FACTORS, rtol=2e-6)


def test_everything_needed_is_read_when_a_run_is_planned(tmp_path: Path) -> None:
    """What would stop a run after hours stops it now; days that no date needs do not matter."""
    when = days(16)
    fine, late = [when[4]], [when[4], when[14]]
    write_daily(tmp_path, when)
    odd = when[11]  # none of those that tell the units
    one = tmp_path / f"AGERA5_{odd:%Y%m%d}.tif"
    celsius = field(odd) - np.array([273.15, 0, 0, 273.15, 273.15, 273.15, 0, 0])[:, None, None]
    holes = np.where(np.arange(8)[:, None, None] == 4, -9999, field(odd))
    for values, message in ((holes, f"mean temperature of {odd} is missing"), (celsius, "impossible in K")):
        write_raster(one, values.astype(np.float32))
        weather = Weather.open([tmp_path])
        weather.verify(LATTICE, AREA, fine)
        with pytest.raises(InputError, match=message):
            weather.verify(LATTICE, AREA, late)


def _changed(path: Path, when: list[date], change: object) -> Weather:
    """A table with ``change(day, values)``, read."""
    lines = ["date," + ",".join(COLUMNS)]
    lines += [f"{day}," + ",".join(f"{v:.9g}" for v in change(day, series(day))) for day in when]  # type: ignore[operator]
    path.write_text("\n".join(lines))
    weather = Weather.open([path])
    weather.verify(LATTICE, AREA, when[4:-1])
    return weather


def test_one_day_in_another_unit_is_found_by_its_dew_point(tmp_path: Path) -> None:
    """1.04 is a vapour pressure in hPa as well as in kPa."""

    def kilo(day: date, values: np.ndarray) -> np.ndarray:
        return np.where(np.arange(8) == 6, values / (10 if day == WHEN[3] else 1), values)

    with pytest.raises(
        InputError, match=r"vapour pressure of 2020-01-04 is 1\.\d+ hPa, but \d+\.?\d* hPa .* 1 of 9 days"
    ):
        _changed(tmp_path / "a.csv", WHEN, kilo)


def test_exchanged_columns_and_a_dry_year_are_warned_of(tmp_path: Path) -> None:
    assert not _changed(tmp_path / "a.csv", WHEN, lambda _, values: values).warnings
    swapped = _changed(tmp_path / "b.csv", WHEN, lambda _, values: values[[0, 1, 2, 5, 4, 3, 6, 7]])
    assert any("minimum temperature is above mean temperature on" in line for line in swapped.warnings)
    metres = _changed(tmp_path / "c.csv", days(80), lambda _, values: values / np.where(np.arange(8) == 1, 1000, 1))
    assert any("metres" in line for line in metres.warnings)


def test_watts_of_a_dark_month_are_not_taken_for_megajoules(tmp_path: Path) -> None:
    header = [name.replace("J m-2 d-1", "W m**-2") for name in COLUMNS]
    path = write_table(tmp_path / "weather.csv", WHEN, header=header)
    lines = path.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    for row in cells[1:]:
        row[3] = f"{float(row[3]) / 86400 / 10:.4f}"  # around 14 W m-2
    path.write_text("\n".join(",".join(row) for row in cells))
    with pytest.raises(InputError, match=r"solar radiation is declared in 'W m\*\*-2'"):
        Weather.open([path])


def test_a_constant_field_round_the_earth_stays_constant(tmp_path: Path) -> None:
    lattice = Lattice.anchored("EPSG:32631", 10.0, 240003.0, 5629683.0)
    area = lattice.window(240003, 5609683, 320003, 5629683)
    for day in WHEN:
        values = np.broadcast_to(flat(day)[:, :1, :1], (8, 6, 360)).copy()
        write_raster(tmp_path / f"{day}.tif", values, OPENEO, place=Affine(1, 0, -0.5, 0, -1, 53.5))
    assert np.ptp(Weather.open([tmp_path]).values(lattice, area, DATES).values, axis=(0, 1, 2)).max() == 0


def test_weather_in_a_projection_that_does_not_reach_the_images_is_one_line() -> None:
    """GDAL's own error, which is none of rasterio's: images on the side of the Earth that a satellite does not see."""
    grid = Grid("+proj=geos +h=35785831 +lon_0=140", Affine(3000, 0, -5.5e6, 0, -3000, 5.5e6), 3700, 3700)
    with pytest.raises(InputError, match=r"weather: coordinates cannot be brought .* gdalwarp") as caught:
        locate(Lattice("EPSG:32631", 10.0, 500000.0, 5600000.0), grid, 0, 0)
    assert "\n" not in str(caught.value)
