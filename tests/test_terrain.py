"""Elevation on the grid, slope and aspect: against formulas, numpy.gradient and GDAL; windows; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from helpers_stack import LEFT, TOP, UTM, write
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from malice_core.errors import InputError
from malice_core.grid import Lattice, Window
from malice_core.store.statistics import AUX, AUX_TERRAIN
from malice_core.surroundings.terrain import SEARCH, Terrain, normalised

LATTICE = Lattice.anchored(UTM, 10.0, LEFT, TOP)
#: The upper left pixel of the rasters here.
ROW, COL = LATTICE.window(LEFT, TOP - 10, LEFT + 10, TOP).row, LATTICE.window(LEFT, TOP - 10, LEFT + 10, TOP).col


def at(row: int, col: int, height: int, width: int) -> Window:
    """A window counted from the rasters' upper left pixel."""
    return Window(ROW + row, COL + col, height, width)


def hills(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    return 300 + 40 * np.sin(rows / 9) + 30 * np.cos(cols / 7) + rows * 0.5


def dem(path: Path, elevation: np.ndarray, **options: object) -> Path:
    given: dict[str, object] = {"names": ("elevation",), "nodata": -32767} | options
    return write(path, np.asarray(elevation, np.float32)[None], **given)  # type: ignore[arg-type]


def expected(elevation: np.ndarray, res: float = 10.0) -> np.ndarray:
    """The channels by the definition, of a whole model."""
    rows, cols = np.gradient(elevation.astype(np.float64))
    theta = np.degrees(np.arctan2(rows, -cols))
    aspect = np.empty_like(theta)
    for index, angle in np.ndenumerate(theta):
        aspect[index] = 90 - angle if angle < 0 else 450 - angle if angle > 90 else 90 - angle
    slope = np.arctan(np.sqrt(rows**2 + cols**2) / res)
    return np.stack([elevation, np.sin(slope), np.cos(np.radians(aspect)), np.sin(np.radians(aspect))])


def degrees_dem(path: Path, **options: object) -> Path:
    """A hilly model of 90 x 90 pixels of an arc second around the rasters here, in EPSG:4326."""
    rows, cols = np.mgrid[:90, :90]
    place = Affine(1 / 3600, 0, 2.995, 0, -1 / 3600, 50.56)  # 500000 5600000 is 3.0 E, 50.552 N
    return dem(path, np.round(hills(rows * 3, cols * 2)), crs="EPSG:4326", transform=place, **options)


@pytest.mark.parametrize("res", [10.0, 20.0])
@pytest.mark.parametrize("facing", range(0, 360, 45))
def test_a_plane_faces_where_it_falls(tmp_path: Path, facing: int, res: float) -> None:
    """A plane of 20 degrees that falls towards ``facing``, clockwise from north, on pixels of two sizes."""
    lattice = Lattice.anchored(UTM, res, LEFT, TOP)
    rows, cols = np.mgrid[:12, :15]
    north, east = -rows * res, cols * res
    fall = np.tan(np.radians(20))
    plane = 1000 - fall * (east * np.sin(np.radians(facing)) + north * np.cos(np.radians(facing)))
    terrain = Terrain.open(dem(tmp_path / "dem.tif", plane, res=res), lattice)
    values = terrain.read(lattice.window(LEFT, TOP - 12 * res, LEFT + 15 * res, TOP))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values[0], plane, rtol=1e-6)
    np.testing.assert_allclose(values[1], np.sin(np.radians(20)), atol=1e-5)
    np.testing.assert_allclose(values[2], np.cos(np.radians(facing)), atol=1e-4)
    np.testing.assert_allclose(values[3], np.sin(np.radians(facing)), atol=1e-4)


def test_flat_ground_faces_west_as_in_training(tmp_path: Path) -> None:
    flat = np.full((9, 9), 345.3)
    read = Terrain.open(dem(tmp_path / "same.tif", flat), LATTICE).read(at(0, 0, 9, 9))
    for channel, value in enumerate((345.3, 0.0, 0.0, -1.0)):
        np.testing.assert_allclose(read[channel], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("res", [25.0, 4.0])
def test_flat_ground_stays_flat_when_it_is_resampled(tmp_path: Path, res: float) -> None:
    """A rounding error of elevation would turn every pixel of a plain into some other direction."""
    side = int(300 / res)
    terrain = Terrain.open(dem(tmp_path / "dem.tif", np.full((side, side), 345.3), res=res, left=LEFT + 3), LATTICE)
    read = terrain.read(at(1, 1, 20, 20))
    assert np.array_equal(read[0], np.full((20, 20), np.float32(345.3)))
    assert not read[1].any()
    np.testing.assert_allclose(read[3], -1.0)


def test_channels_are_those_of_numpy_gradient(tmp_path: Path) -> None:
    """Central inside, one-sided at the border of the model; a window's border is none."""
    elevation = hills(*np.mgrid[:30, :26]).astype(np.float32)
    terrain = Terrain.open(dem(tmp_path / "dem.tif", elevation), LATTICE)
    whole = expected(elevation)
    np.testing.assert_allclose(terrain.read(at(0, 0, 30, 26)), whole, atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(terrain.read(at(4, 7, 8, 9)), whole[:, 4:12, 7:16], atol=1e-6, rtol=1e-6)


def test_a_model_of_one_row_is_flat_across_it(tmp_path: Path) -> None:
    terrain = Terrain.open(dem(tmp_path / "dem.tif", np.arange(8.0)[None]), LATTICE)
    read = terrain.read(at(0, 0, 1, 8))
    np.testing.assert_allclose(read[1], np.sin(np.arctan(0.1)), atol=1e-6)
    np.testing.assert_allclose(read[3], -1.0, atol=1e-6)


@pytest.mark.parametrize("fill", [False, True])
def test_no_result_depends_on_the_windows_read(tmp_path: Path, fill: bool) -> None:
    """A model in degrees, warped to UTM, with holes where they may be filled: the same bits whatever the windows."""
    path = degrees_dem(tmp_path / "dem.tif")
    if fill:
        with rasterio.open(path, "r+") as target:
            data = target.read(1)
            data[30:36, 38:47] = -32767
            data[50, 31] = -32767
            target.write(data, 1)
    terrain = Terrain.open(path, LATTICE, "fill" if fill else "error")
    whole = terrain.read(at(2, 3, 150, 110))
    assert np.isfinite(whole).all()
    for height, width in ((1, 1), (17, 31), (64, 64), (150, 7)):
        step = (41, 29) if height == 1 else (height, width)
        for row in range(0, 150, step[0]):
            for col in range(0, 110, step[1]):
                part = at(2 + row, 3 + col, min(height, 150 - row), min(width, 110 - col))
                read = Terrain.open(path, LATTICE, "fill" if fill else "error") if row == col == 0 else terrain
                same = whole[:, row : row + part.height, col : col + part.width]
                assert np.array_equal(read.read(part), same), part


def test_warping_is_gdals_cubic(tmp_path: Path) -> None:
    path = degrees_dem(tmp_path / "dem.tif")
    window = at(2, 3, 150, 110)
    ours = Terrain.open(path, LATTICE).read(window)[0]
    options = {"crs": UTM, "transform": LATTICE.transform(window), "height": 150, "width": 110}
    with (
        rasterio.open(path) as source,
        WarpedVRT(source, resampling=Resampling.cubic, tolerance=1e-7, XSCALE="1", YSCALE="1", **options) as vrt,
    ):
        np.testing.assert_allclose(ours, vrt.read(1), atol=2e-3)


def test_a_finer_model_is_averaged(tmp_path: Path) -> None:
    fine = hills(*np.mgrid[:60, :80] / 2) + np.random.default_rng(0).normal(0, 3, (60, 80))
    terrain = Terrain.open(dem(tmp_path / "dem.tif", fine, res=5.0), LATTICE)
    mean = fine.reshape(30, 2, 40, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(terrain.read(at(0, 0, 30, 40))[0], mean, atol=1e-3)
    assert any("mean of 2 x 2" in note for note in terrain.notes)


def test_stored_numbers_are_scaled_and_rows_turned(tmp_path: Path) -> None:
    decimetres = np.round(hills(*np.mgrid[:12, :14]) * 10)
    upside_down = {"transform": Affine(10, 0, LEFT, 0, 10, TOP - 120), "scale": 0.1}
    terrain = Terrain.open(dem(tmp_path / "dem.tif", decimetres[::-1], **upside_down), LATTICE)
    np.testing.assert_allclose(terrain.read(at(0, 0, 12, 14))[0], decimetres / 10, rtol=1e-6)
    assert any("0.1" in note for note in terrain.notes)


def test_an_area_the_model_does_not_cover_is_refused(tmp_path: Path) -> None:
    path = dem(tmp_path / "dem.tif", hills(*np.mgrid[:30, :25]))
    for choice in ("error", "fill"):  # filling does not continue a model beyond its end
        terrain = Terrain.open(path, LATTICE, choice)
        terrain.check(at(0, 0, 30, 25))
        with pytest.raises(InputError, match=r"dem\.tif: this DEM covers 83\.3% of the area, 150 of its 900 pixels"):
            terrain.check(at(0, 0, 30, 30))
        with pytest.raises(InputError, match=r"covers 0% .*give a DEM that covers all of it"):
            terrain.read(at(500, 500, 8, 8))
    elsewhere = degrees_dem(tmp_path / "degrees.tif")
    with pytest.raises(InputError, match=r"covers 0% of the area"):
        Terrain.open(elsewhere, LATTICE).check(at(0, 5000, 8, 8))


def test_pixels_without_elevation_are_refused(tmp_path: Path) -> None:
    elevation = hills(*np.mgrid[:30, :25])
    elevation[10:12, 5:8] = -32767
    elevation[20, 20] = np.nan
    terrain = Terrain.open(dem(tmp_path / "dem.tif", elevation), LATTICE)
    with pytest.raises(
        InputError, match=r"dem\.tif: 7 of 750 pixels of the area have no elevation .*--dem-nodata fill"
    ):
        terrain.check(at(0, 0, 30, 25))
    with pytest.raises(InputError, match="1 of 25 pixels"):
        terrain.read(at(18, 18, 5, 5))
    # Beside a hole differences are one-sided, as at the border of the model.
    read = terrain.read(at(12, 0, 5, 25))
    down = elevation[13, 6] - elevation[12, 6]
    right = (elevation[12, 7] - elevation[12, 5]) / 2
    assert read[1][0, 6] == pytest.approx(np.sin(np.arctan(np.hypot(down, right) / 10)), abs=1e-5)


def test_filling_takes_the_nearest_elevations_along_rows_and_columns(tmp_path: Path) -> None:
    elevation = np.full((40, 40), 100.0)
    elevation[:, 20:] = 200.0
    hole = elevation.copy()
    hole[18:23, 15:25] = -32767
    read = Terrain.open(dem(tmp_path / "dem.tif", hole), LATTICE, "fill").read(at(0, 0, 40, 40))[0]
    # (20, 16): north and south 100 at 3 pixels, west 100 at 2, east 200 at 9.
    weights = np.array([1 / 3, 1 / 3, 1 / 2, 1 / 9])
    assert read[20, 16] == pytest.approx((weights @ [100, 100, 100, 200]) / weights.sum(), rel=1e-6)
    assert np.array_equal(read[hole > 0], elevation[hole > 0])


def test_a_hole_too_wide_to_fill_is_refused(tmp_path: Path) -> None:
    side = 2 * SEARCH + 40
    elevation = np.full((side, side), 50.0)
    elevation[10:-10, 10:-10] = -32767
    terrain = Terrain.open(dem(tmp_path / "dem.tif", elevation), LATTICE, "fill")
    terrain.check(at(0, 0, side, 10 + SEARCH))
    with pytest.raises(InputError, match=rf"400 pixels .* none within {SEARCH} pixels .*gdal_fillnodata"):
        terrain.check(at(0, 0, side, side))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": -32768.0}, r"dem\.tif: -32768 is no elevation .* gdal_edit -a_nodata -32768"),
        ({"value": 25000.0}, r"25000 is no elevation in metres \(-500 to 9000\)"),
        ({"crs": None}, r"dem\.tif: has no coordinate reference system; .*gdal_edit -a_srs"),
        ({"transform": Affine.identity()}, r"no georeference"),
        ({"unit": "ft"}, r"elevations are in 'ft', not metres; convert"),
        ({"bands": 2}, r"has 2 bands \(1 elevation, 2 slope\), a DEM has one"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_what_is_no_elevation_model_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    elevation = hills(*np.mgrid[:20, :20]).astype(np.float32)[None]
    elevation[:, 10, 10] = change.pop("value", 300.0)
    bands, unit = change.pop("bands", 1), change.pop("unit", "m")
    path = tmp_path / "dem.tif"
    write(path, np.repeat(elevation, bands, axis=0), names=("elevation", "slope"), nodata=None, **change)
    with rasterio.open(path, "r+") as target:
        target.units = [unit] * bands
    with pytest.raises(InputError, match=message) as failure:
        Terrain.open(path, LATTICE)
    assert "\n" not in str(failure.value)


def test_wrong_options_and_files_are_refused(tmp_path: Path) -> None:
    path = dem(tmp_path / "dem.tif", hills(*np.mgrid[:20, :20]))
    with pytest.raises(InputError, match="'zero' is none of error, fill"):
        Terrain.open(path, LATTICE, "zero")
    with pytest.raises(InputError, match=r"no band 2, only 1 to 1"):
        Terrain.open(path, LATTICE, band=2)
    with pytest.raises(InputError, match=r"EPSG:4326 is in degrees: slopes need pixels in metres; .*UTM"):
        Terrain.open(path, Lattice("EPSG:4326", 1e-4, 0.0, 0.0))
    with pytest.raises(InputError, match=r"EPSG:2263 is in US survey foot"):
        Terrain.open(path, Lattice("EPSG:2263", 10.0, 0.0, 0.0))
    with pytest.raises(InputError, match=r"cannot open .*nothing\.tif"):
        Terrain.open(tmp_path / "nothing.tif", LATTICE)
    with pytest.raises(InputError, match=r"is a folder; .*gdalbuildvrt"):
        Terrain.open(tmp_path, LATTICE)
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(InputError, match=r"cannot open .*text\.tif"):
        Terrain.open(tmp_path / "text.tif", LATTICE)


def test_a_band_can_be_chosen(tmp_path: Path) -> None:
    data = np.stack([np.zeros((9, 9)), hills(*np.mgrid[:9, :9])]).astype(np.float32)
    write(tmp_path / "two.tif", data, names=("a", "b"), nodata=None)
    terrain = Terrain.open(tmp_path / "two.tif", LATTICE, band=2)
    assert np.array_equal(terrain.read(at(0, 0, 9, 9))[0], data[1])
    assert terrain.files == (str(tmp_path / "two.tif"),)


def test_normalised_channels(tmp_path: Path) -> None:
    values = np.array([[345.299, 5000, np.nan], [0.1, 0.1, 0.1], [0, 0, 0], [-1, -1, -1]], np.float32)[:, None]
    out = normalised(values)
    assert out.dtype == np.float32
    assert out[0, 0, 0] == pytest.approx(0, abs=1e-6)
    med, low, high = AUX_TERRAIN.med, AUX_TERRAIN.qmin, AUX_TERRAIN.qmax
    assert out[0, 0, 1] == pytest.approx((high[0] - med[0]) / (high[0] - low[0]))
    assert out[0, 0, 2] == 0
    assert out[3, 0, 0] == pytest.approx((low[3] - med[3]) / (high[3] - low[3]))


def test_the_real_model(testdata: Path) -> None:
    """Copernicus DEM, on the grid of the images, and the same at 20 m, which is interpolated."""
    site = testdata / "data" / "site_a"
    with rasterio.open(site / "DEM_COPDEM30_10m.tif") as source:
        elevation, bounds = source.read(1).astype(np.float32), source.bounds
        lattice = Lattice.anchored(UTM, 10.0, bounds.left, bounds.top)
        assert CRS.from_user_input(UTM) == source.crs
    window = lattice.window(*bounds)
    terrain = Terrain.open(site / "DEM_COPDEM30_10m.tif", lattice)
    terrain.check(window)
    values = terrain.read(window)
    np.testing.assert_allclose(values, expected(elevation), atol=1e-6, rtol=1e-6)
    flat = values[1] == 0
    assert flat.mean() > 0.1
    np.testing.assert_allclose(values[3][flat], -1.0)
    coarse = Terrain.open(site / "DEM_COPDEM30_20m.tif", lattice)
    coarse.check(window)
    assert np.abs(coarse.read(window)[0] - elevation).mean() < 0.5
    with pytest.raises(InputError, match="covers"):
        terrain.check(window.expand(1))


def test_the_statistics_are_the_published_ones(testdata: Path) -> None:
    file = testdata / "spec" / "stats.json"
    if not file.exists():
        pytest.skip("MALICE_TESTDATA holds no spec/stats.json")
    published = json.loads(file.read_text())["malice_aux"]
    for table, key in ((AUX["s2"], "s2"), (AUX["s1"], "s1"), (AUX_TERRAIN, "dem")):
        assert list(table.channels) == published[key]["bands"]
        for word in ("med", "qmin", "qmax"):
            assert list(getattr(table, word)) == published[key][word]
