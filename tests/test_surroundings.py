"""Weather, terrain and angles of a run, checked when it is planned: what is told of what is missing around an area."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import rasterio
from affine import Affine
from helpers_embed import Array, write_image, write_series
from helpers_weather import days, write_raster, write_table

from malice_core.cards import Card
from malice_core.errors import InputError
from malice_core.grid import Window
from malice_core.job import Job
from malice_core.stack import Stack, discover
from malice_core.surroundings.inputs import Inputs

#: 160 x 160 pixels; the area of runs is the inner 40 x 40, far from the images' edge.
ORIGIN, SIDE, FIRST = (501360.0, 5629680.0), 160, date(2020, 1, 5)
CARD = cast(Card, SimpleNamespace(name="aux", halo=48, stride=8, surroundings=object()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_series(folder / "s1", (SIDE, SIDE), 2, sensor="s1", origin=ORIGIN, first=FIRST)
    write_table(folder / "weather.csv", days(20))
    write_plane(folder / "dem.tif", np.full((SIDE, SIDE), 40.0), 0)
    return folder


def write_plane(path: Path, values: Array, begin: int, name: str | None = None) -> Path:
    """A raster whose first pixel is the images' (begin, begin)."""
    path.parent.mkdir(exist_ok=True)
    at = Affine(10, 0, ORIGIN[0] + 10 * begin, 0, -10, ORIGIN[1] - 10 * begin)
    return write_raster(path, values[None].astype(np.float32), [name], crs="EPSG:32631", place=at, nodata=-9999)


def settled(place: Path, edge: str = "mirror", **options: Any) -> tuple[Inputs, Stack, Window]:
    given: dict[str, Any] = {"dem": str(place / "dem.tif"), "weather": (str(place / "weather.csv"),)}
    given |= {"s1_angles": ("39",)} | options
    job = Job(output=place / "e.tif", s1=(str(place / "s1"),), **given)
    catalog = discover("s1", job.s1)
    lattice = catalog.lattice()
    stack = catalog.on(lattice)
    row, col = stack.extent.row + 60, stack.extent.col + 60
    area = Window(row - row % 8, col - col % 8, 40, 40)
    found = Inputs.open(job, CARD, lattice, ["s1"])
    try:
        stacks = found.usable({"s1": stack})
        found.settle(stacks, area, edge)
    finally:
        found.close()
    return found, stacks["s1"], area


def test_a_dem_cut_to_the_area_is_told_what_lies_around_it(place: Path, tmp_path: Path) -> None:
    _, stack, area = settled(place)
    begin = area.row - stack.extent.row
    assert area.row - stack.extent.row == area.col - stack.extent.col
    cut = write_plane(tmp_path / "cut.tif", np.full((40, 40), 40.0), begin)
    bounds = " ".join(f"{v:.10g}" for v in stack.lattice.bounds(area.expand(48)))
    with pytest.raises(InputError, match=rf"covers 8\.6% .* is needed of {bounds} \(EPSG:32631\).*480 m around"):
        settled(place, dem=str(cut))
    settled(place, "published", dem=str(cut))  # looks at nothing around
    holed = np.full((SIDE, SIDE), 40.0)
    holed[begin - 5, begin] = -9999
    with pytest.raises(InputError, match=r"1 of 18496 pixels .*480 m around"):
        settled(place, dem=str(write_plane(tmp_path / "holed.tif", holed, 0)))
    # What is wrong with the area itself is told of it alone.
    short = write_plane(tmp_path / "short.tif", np.full((SIDE, begin + 30), 40.0), 0)
    with pytest.raises(InputError, match=r"covers 75% of the area, 400 of its 1600 pixels") as caught:
        settled(place, dem=str(short))
    assert "480 m" not in str(caught.value)


def angle_rasters(folder: Path, planes: Array, name: str = "incidence_angle", count: int = 2) -> Path:
    for i in range(count):
        day = FIRST + timedelta(days=10 * i)
        write_plane(folder / f"ANGLES_{day:%Y%m%d}.tif", planes, 0, name)
    return folder


def test_rasters_of_angles_are_checked_when_a_run_is_planned(place: Path, tmp_path: Path) -> None:
    planes = np.full((SIDE, SIDE), 39.0)
    planes[75:77, 80] = np.nan
    planes[0, :] = np.nan  # no run reads that row
    holed = str(angle_rasters(tmp_path / "holed", planes))
    with pytest.raises(InputError, match=r"none at pixels of 2 of 2 images, such as 2 pixels of .*--angles median"):
        settled(place, s1_angles=(holed,))
    found, stack, area = settled(place, s1_angles=(holed,), angles="median")
    assert any("such as 2 pixels of" in line and "median" in line for line in found.warnings)
    got = found.angles_of("s1", stack, 0, area)
    assert np.isnan(got).sum() == 2
    np.testing.assert_allclose(got[~np.isnan(got)], np.cos(np.radians(39)), rtol=1e-6)


def test_an_angle_that_cannot_be_is_found_wherever_it_is(place: Path, tmp_path: Path) -> None:
    """One undeclared nodata among thousands of pixels has a cosine too."""
    planes = np.full((SIDE, SIDE), 39.0)
    planes[61, 83] = -32768
    with pytest.raises(InputError, match=r"Sentinel-1 GRD of 2020-01-05.*incidence angle is -32768"):
        settled(place, s1_angles=(str(angle_rasters(tmp_path / "odd", planes)),))
    planes[61, 83] = 97.0  # a slope in the radar's shadow
    found, stack, area = settled(place, s1_angles=(str(angle_rasters(tmp_path / "shadow", planes)),))
    assert found.angles_of("s1", stack, 1, area).min() == pytest.approx(np.cos(np.radians(97)), abs=1e-6)


@pytest.mark.parametrize("name", ["angle", "projectedLocalIncidenceAngle", "incidenceAngleFromEllipsoid", "inc_angle"])
def test_the_images_of_sentinel_1_may_hold_the_angle_as_a_band(place: Path, tmp_path: Path, name: str) -> None:
    """Earth Engine's images have VV, VH and angle, SNAP's names are long."""
    folder = tmp_path / "s1"
    folder.mkdir()
    for path in sorted((place / "s1").iterdir()):
        with rasterio.open(path) as file:
            values = np.concatenate([file.read(), np.full((1, SIDE, SIDE), 36.5, np.float32)])
        write_image(folder / path.name, values, ("VV", "VH", name), ORIGIN, "EPSG:32631", False)
    found, stack, area = settled(place, s1_angles=(str(folder),))
    np.testing.assert_allclose(found.angles_of("s1", stack, 0, area), np.cos(np.radians(36.5)), rtol=1e-6)


def test_rasters_of_angles_that_do_not_do(place: Path, tmp_path: Path) -> None:
    few = str(angle_rasters(tmp_path / "few", np.full((SIDE, SIDE), 37.0), count=1))
    with pytest.raises(InputError, match="missing incidence angle of 2020-01-15"):
        settled(place, s1_angles=(few,))
    found, *_ = settled(place, s1_angles=(few,), angles="median")
    assert any("2020-01-15" in line and "median" in line for line in found.warnings)
    half = str(angle_rasters(tmp_path / "half", np.full((SIDE, 80), 37.0)))
    with pytest.raises(InputError, match="none at pixels of 2 of 2 images"):
        settled(place, s1_angles=(half,))
    with pytest.raises(InputError, match="radians"):
        settled(place, s1_angles=(str(angle_rasters(tmp_path / "rad", np.full((SIDE, SIDE), 0.6))),))
