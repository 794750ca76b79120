"""Windows, mosaics and resampling against independent numpy and GDAL computations."""

import shutil
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from helpers_stack import LEFT, TOP, UTM, reflectance, smooth, vrt_of, write, write_s1
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points

from malice_core.bands import S2
from malice_core.blocks import environment
from malice_core.errors import StackError
from malice_core.grid import Lattice, Window
from malice_core.images.reading import Pool
from malice_core.stack import Stack, discover

NEIGHBOUR = "EPSG:32632"


def opened(paths, sensor="s2", resolution=None, lattice=None, **options) -> Stack:
    catalog = discover(sensor, paths, **options)
    return catalog.on(lattice or catalog.lattice(resolution))


@st.composite
def windows_in(draw, extent: Window):
    row = draw(st.integers(extent.row, extent.end_row - 1))
    col = draw(st.integers(extent.col, extent.end_col - 1))
    height = draw(st.integers(1, extent.end_row - row))
    width = draw(st.integers(1, extent.end_col - col))
    return Window(row, col, height, width)


def assert_same_in_windows(stack: Stack, index: int = 0, examples: int = 40) -> None:
    """Any window holds the very bits of the whole extent."""
    whole, seen = stack.read(index, stack.extent)

    @given(windows_in(stack.extent))
    @settings(max_examples=examples, deadline=None)
    def check(window):
        values, observed = stack.read(index, window)
        rows, cols = window.slices_in(stack.extent)
        np.testing.assert_array_equal(values, whole[:, rows, cols])
        np.testing.assert_array_equal(observed, seen[rows, cols])

    check()


def test_values_come_out_as_stored(tmp_path):
    data = reflectance(20, 30)
    data[:, 3, 4] = 0  # missing: nodata in every band
    data[2, 5, 6] = 0  # a dark pixel in one band is no missing pixel
    write(tmp_path / "S2_20180511.tif", data)
    stack = opened([tmp_path])
    assert stack.extent == Window(-560000, 50000, 20, 30)
    values, observed = stack.read(0, stack.extent)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, data)
    expected = np.ones((20, 30), bool)
    expected[3, 4] = False
    np.testing.assert_array_equal(observed, expected)
    assert_same_in_windows(stack)
    with pytest.raises(ValueError, match="does not lie inside"):
        stack.read(0, stack.extent.expand(1))


def test_bands_in_another_order(tmp_path):
    data = reflectance(8, 8, bands=12)
    names = ["B12", "B11", "AOT", "B8A", "B08", "B07", "B06", "B01", "B05", "B04", "B03", "B02"]
    write(tmp_path / "S2_20180511.tif", data, names=names)
    stack = opened([tmp_path])
    values, _ = stack.read(0, stack.extent)
    np.testing.assert_array_equal(values, data[[11, 10, 9, 8, 6, 5, 4, 3, 1, 0]])


def test_south_up_rasters_are_turned(tmp_path):
    data = reflectance(12, 9)
    place = rasterio.Affine(10, 0, LEFT, 0, 10, TOP - 120)
    write(tmp_path / "S2_20180511.tif", data[:, ::-1], transform=place)
    stack = opened([tmp_path])
    values, _ = stack.read(0, stack.extent)
    np.testing.assert_array_equal(values, data)
    assert_same_in_windows(stack, examples=15)


@pytest.mark.parametrize(
    ("dtype", "nodata", "missing", "kept"),
    [
        ("float32", float("nan"), [np.nan], 0.0),
        ("float32", -9999, [-9999, np.nan], 0.0),
        ("uint16", None, [65535], None),
        ("int16", -9999, [-9999], 0),
    ],
)
def test_missing_values(tmp_path, dtype, nodata, missing, kept):
    data = reflectance(6, 6).astype(dtype)
    for i, value in enumerate(missing):
        data[3, 0, i] = value  # one band is enough for what cannot be a value
    if kept is not None:
        data[:, 5, 5] = kept  # zero is a value where something else is declared
    write(tmp_path / "S2_20180511.tif", data, nodata=nodata)
    stack = opened([tmp_path])
    values, observed = stack.read(0, stack.extent)
    expected = np.ones((6, 6), bool)
    expected[0, : len(missing)] = False
    np.testing.assert_array_equal(observed, expected)
    assert not values[:, ~observed].any()
    np.testing.assert_array_equal(values[:, observed], data[:, expected].astype(np.float32))


def test_zero_is_missing_in_backscatter_whatever_is_declared(tmp_path):
    data = np.full((2, 5, 5), 0.1, np.float32)
    data[:, 0, 0], data[0, 1, 1], data[1, 2, 2] = 0, np.nan, 0
    write_s1(tmp_path / "S1_20180511.tif", data)
    stack = opened([tmp_path], "s1")
    _, observed = stack.read(0, stack.extent)
    assert (observed[0, 0], observed[1, 1], observed[2, 2]) == (False, False, True)
    assert observed.sum() == 23


def test_mosaic_takes_whole_pixels_in_order_of_name(tmp_path):
    a, b = reflectance(10, 10, seed=1), reflectance(10, 10, seed=2)
    a[:, 4:6] = 0
    a[0, 2, 9] = 0  # dark in one band: still a's pixel, in all bands
    write(tmp_path / "tile_a_20180511.tif", a)
    write(tmp_path / "tile_b_20180511.tif", b, left=LEFT + 50, top=TOP - 20)
    stack = opened([tmp_path])
    assert len(stack.observations) == 1
    assert stack.extent == Window(-560000, 50000, 12, 15)
    expected, seen = np.zeros((10, 12, 15)), np.zeros((12, 15), bool)
    expected[:, 2:, 5:], seen[2:, 5:] = b, True
    from_a = np.zeros((12, 15), bool)
    from_a[:10, :10] = a.any(axis=0)
    expected[:, from_a] = a[:, a.any(axis=0)]
    values, observed = stack.read(0, stack.extent)
    np.testing.assert_array_equal(observed, seen | from_a)
    np.testing.assert_array_equal(values, expected * observed)
    assert_same_in_windows(stack)


def test_newest_baseline_comes_first_in_a_mosaic(tmp_path):
    old, new = reflectance(10, 10, seed=1), reflectance(10, 10, seed=2) + 1000
    write(tmp_path / "S2A_MSIL2A_20180511T105031_N0207_R051_T31UDS_20180511T140405.tif", old)
    write(tmp_path / "S2A_MSIL2A_20180511T105031_N0500_R051_T31UES_20230511T140405.tif", new, left=LEFT + 50)
    stack = opened([tmp_path])
    values, _ = stack.read(0, stack.extent)
    np.testing.assert_array_equal(values[:, :, 5:], new - 1000.0)
    np.testing.assert_array_equal(values[:, :, :5], old[:, :, :5])


def test_20_m_bands_are_interpolated(tmp_path):
    """Against the textbook formula for a factor of two: weights 3/4 and 1/4 in each direction."""
    coarse = reflectance(12, 10)
    write(tmp_path / "S2_20180511.tif", coarse, res=20)
    stack = opened([tmp_path])
    assert stack.extent.shape == (24, 20)
    assert any("20 m pixels" in text and "trained" in text for text in stack.warnings)
    values, observed = stack.read(0, stack.extent)
    padded = np.pad(coarse.astype(float), ((0, 0), (1, 1), (1, 1)), mode="edge")
    expected = np.empty((10, 24, 20))
    for i in range(2):
        for j in range(2):
            r, c = slice(2 * i, 12 + 2 * i), slice(2 * j, 10 + 2 * j)
            centre = padded[:, 1:-1, 1:-1]
            rows, cols, both = padded[:, r, 1:-1], padded[:, 1:-1, c], padded[:, r, c]
            expected[:, i::2, j::2] = (9 * centre + 3 * rows + 3 * cols + both) / 16
    assert observed.all()
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert_same_in_windows(stack)


def test_missing_pixels_do_not_bleed(tmp_path):
    coarse = np.full((10, 8, 8), 3000, np.uint16)
    coarse[:, 3, 3] = 0
    write(tmp_path / "S2_20180511.tif", coarse, res=20)
    stack = opened([tmp_path])
    values, observed = stack.read(0, stack.extent)
    expected = np.ones((16, 16), bool)
    expected[6:8, 6:8] = False
    np.testing.assert_array_equal(observed, expected)
    np.testing.assert_allclose(values[:, observed], 3000, rtol=1e-6)


@pytest.mark.parametrize("res", [5.0, 2.5])
def test_finer_pixels_are_averaged(tmp_path, res):
    times = int(10 / res)
    fine = reflectance(10 * times, 8 * times)
    fine[:, :times, :times] = 0
    write(tmp_path / "S2_20180511.tif", fine, res=res)
    stack = opened([tmp_path])
    values, observed = stack.read(0, stack.extent)
    means = fine.reshape(10, 10, times, 8, times).mean(axis=(2, 4))
    assert observed.sum() == 79
    assert not observed[0, 0]
    np.testing.assert_allclose(values[:, observed], means[:, observed], rtol=1e-6)
    assert_same_in_windows(stack, examples=15)


def field_in_neighbour_zone(folder, parts, bands=10):
    """A smooth scene in the neighbouring UTM zone, in files of the given (row, col, height, width)."""
    x, y = transform_points(UTM, NEIGHBOUR, [499000.0 + 300000], [5600000.0])
    left, top = round(x[0], -1), round(y[0], -1)
    for i, (row, col, height, width) in enumerate(parts):
        r, c = np.mgrid[row : row + height, col : col + width]
        data = smooth(r, c, bands).round().astype(np.uint16)
        data[:, ((r > 30) & (r < 36) & (c > 55) & (c < 66))] = 0
        write(folder / f"part{i}_20180511.tif", data, left=left + 10 * col, top=top - 10 * row, crs=NEIGHBOUR)
    return folder


def lattice_of_zone() -> Lattice:
    return Lattice.anchored(UTM, 10.0, 0.0, 0.0)


def test_warped_windows_and_agreement_with_gdal(tmp_path):
    field_in_neighbour_zone(tmp_path, [(0, 0, 90, 120)])
    stack = opened([tmp_path], lattice=lattice_of_zone())
    assert any("EPSG:32632" in text and "warped" in text for text in stack.warnings)
    whole, seen = stack.read(0, stack.extent)
    # The bounding box is larger than the scene, which lies turned in it.
    assert 0.9 < seen.sum() / (90 * 120 - 5 * 10) < 1.1
    with (
        rasterio.open(next(tmp_path.glob("*.tif"))) as source,
        WarpedVRT(
            source,
            crs=UTM,
            transform=stack.lattice.transform(stack.extent),
            height=stack.extent.height,
            width=stack.extent.width,
            resampling=Resampling.bilinear,
            tolerance=1e-7,
            dtype="float32",
            XSCALE="1",
            YSCALE="1",
        ) as warped,
    ):
        expected = warped.read()
    both = seen & (expected != 0).all(axis=0)
    assert both.sum() > 0.98 * seen.sum()
    assert np.abs(whole - expected)[:, both].max() < 0.05  # DN
    assert_same_in_windows(stack, examples=60)


def test_strips_do_not_show(tmp_path, monkeypatch):
    field_in_neighbour_zone(tmp_path, [(0, 0, 60, 70)])
    stack = opened([tmp_path], lattice=lattice_of_zone())
    expected = stack.read(0, stack.extent)
    monkeypatch.setattr("malice_core.images.resample.STRIP", 700)
    got = stack.read(0, stack.extent)
    np.testing.assert_array_equal(got[0], expected[0])
    np.testing.assert_array_equal(got[1], expected[1])


def test_halves_mosaicked_then_warped_agree_with_the_whole(tmp_path):
    one = field_in_neighbour_zone(tmp_path / "one", [(0, 0, 90, 120)])
    two = field_in_neighbour_zone(tmp_path / "two", [(0, 0, 90, 61), (0, 61, 50, 59), (50, 61, 40, 59)])
    whole, parts = opened([one], lattice=lattice_of_zone()), opened([two], lattice=lattice_of_zone())
    assert whole.extent == parts.extent
    a, seen_a = whole.read(0, whole.extent)
    b, seen_b = parts.read(0, parts.extent)
    np.testing.assert_array_equal(seen_a, seen_b)
    assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


def test_10_and_20_m_bands_of_one_image(tmp_path):
    fine, coarse = reflectance(20, 20, bands=4), reflectance(10, 10, bands=6)
    coarse[:, 0, 0] = 0
    write(tmp_path / "S2_20180511_10m.tif", fine, names=("B02", "B03", "B04", "B08"))
    write(tmp_path / "S2_20180511_20m.tif", coarse, names=("B05", "B06", "B07", "B8A", "B11", "B12"), res=20)
    stack = opened([tmp_path])
    values, observed = stack.read(0, stack.extent)
    expected = np.ones((20, 20), bool)
    expected[:2, :2] = False  # a pixel without half of its bands is missing
    np.testing.assert_array_equal(observed, expected)
    np.testing.assert_array_equal(values[[0, 1, 2, 6]], fine * observed)
    assert any("B05 B06 B07 B8A B11 B12" in text and "20 m" in text for text in stack.warnings)
    assert_same_in_windows(stack, examples=15)


def test_shifted_grid_is_interpolated_half_way(tmp_path):
    data = reflectance(8, 8)
    write(tmp_path / "S2_20180511.tif", data)
    write(tmp_path / "S2_20180512.tif", data, left=LEFT + 5)
    stack = opened([tmp_path])
    values, observed = stack.read(1, stack.extent)
    # Centres of the lattice lie on the borders between the shifted pixels.
    assert observed[:, 1:8].all()
    np.testing.assert_allclose(values[:, :, 1:8], (data[:, :, :-1] / 2 + data[:, :, 1:] / 2), rtol=1e-6)
    assert any("between the pixels" in text for text in stack.warnings)


def test_classes_are_never_mixed(tmp_path):
    classes = np.random.default_rng(0).integers(1, 12, (1, 10, 10)).astype(np.uint8)
    write(tmp_path / "SCL_20180511.tif", classes, names=("SCL",), res=20)
    stack = opened([tmp_path], "scl", lattice=lattice_of_zone())
    values, observed = stack.read(0, stack.extent)
    assert observed.all()
    np.testing.assert_array_equal(values[0], classes[0].repeat(2, 0).repeat(2, 1))
    assert_same_in_windows(stack, examples=15)


@pytest.mark.parametrize("internal", [True, False])
def test_own_mask_of_a_raster_is_obeyed(tmp_path, internal):
    data = reflectance(6, 6)
    path = write(tmp_path / "S2_20180511.tif", data, nodata=None)
    mask = np.full((6, 6), 255, np.uint8)
    mask[2] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as target:
        target.write_mask(mask)
    assert path.with_name(path.name + ".msk").exists() != internal
    with environment(), opened([tmp_path]) as stack, ThreadPoolExecutor(1) as pool:
        np.testing.assert_array_equal(stack.read(0, stack.extent)[1], mask != 0)
        np.testing.assert_array_equal(pool.submit(stack.read, 0, stack.extent).result()[1], mask != 0)


def test_masks_behind_a_vrt_are_obeyed(tmp_path):
    """GDAL opens the sources of a VRT when it is read, so the environment of that moment counts."""
    path = write(tmp_path / "in" / "source.tif", reflectance(6, 6), nodata=None)
    mask = np.full((6, 6), 255, np.uint8)
    mask[2] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as target:
        target.write_mask(mask)
    vrt = vrt_of(tmp_path / "S2_20180511.vrt", "in/source.tif", bands=10, mask=True)
    with environment(), opened([vrt]) as stack, ThreadPoolExecutor(1) as pool:
        np.testing.assert_array_equal(pool.submit(stack.read, 0, stack.extent).result()[1], mask != 0)
        np.testing.assert_array_equal(stack.read(0, stack.extent)[1], mask != 0)


def test_tags_beside_a_raster_count_and_none_is_written(tmp_path, testdata):
    """QGIS and GDAL keep nodata and names of bands in .aux.xml; inputs and their folders stay as they are."""
    data = reflectance(6, 6)
    data[:, 3, 4] = 7
    path = write(tmp_path / "S2_20180511.tif", data[::-1], names=None, nodata=None)
    planes = "".join(
        f'<PAMRasterBand band="{i}"><Description>{name}</Description><NoDataValue>7</NoDataValue></PAMRasterBand>'
        for i, name in enumerate(S2.bands[::-1], 1)
    )
    path.with_name(path.name + ".aux.xml").write_text(f"<PAMDataset>{planes}</PAMDataset>")
    vrt_of(tmp_path / "vrt" / "S2_20180521.vrt", "../S2_20180511.tif", bands=10)
    cube = testdata / "data" / "openeo_cubes" / "gfmap_cdse_sentinel2_l2a.nc"
    shutil.copy(cube, tmp_path / "cube.nc")

    def state():
        return {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    before = state()
    with environment():
        with opened([path]) as stack:
            values, observed = stack.read(0, stack.extent)
        for sensor, given in (("s2", tmp_path / "vrt"), ("scl", tmp_path / "cube.nc")):
            with opened([given], sensor) as other:
                other.read(0, other.extent)
                other.files()
    assert np.argwhere(~observed).tolist() == [[3, 4]]
    np.testing.assert_array_equal(values[:, observed], data[:, observed])
    assert state() == before


def test_opening_in_threads_leaves_the_filters_of_warnings(tmp_path, monkeypatch):
    """They belong to the process; two pools that change and restore them at once would leave them changed."""
    path = str(write(tmp_path / "a.tif", reflectance(4, 4)))
    inside, done, real = threading.Event(), threading.Event(), rasterio.open

    def slow(*args, **options):
        if threading.current_thread().name == "first":
            inside.set()
            done.wait(0.3)  # until the second one is inside too, if nothing keeps it out
        else:
            done.set()
            first.join(1)
        return real(*args, **options)

    before = list(warnings.filters)
    monkeypatch.setattr(rasterio, "open", slow)
    first = threading.Thread(target=Pool().open, args=(path,), name="first")
    second = threading.Thread(target=Pool().open, args=(path,), name="second")
    first.start()
    inside.wait(1)
    second.start()
    first.join()
    second.join()
    assert list(warnings.filters) == before


def test_pixels_that_only_one_layer_saw_are_missing(tmp_path):
    fine, coarse = reflectance(4, 4, 4), reflectance(2, 2, 6)
    fine[:, 0, 0] = 0
    fine[1, 3, 0] = 0  # one dark band is no missing pixel
    coarse[:, 1, 1] = 0
    write(tmp_path / "a_20180511_10m.tif", fine, names=("B02", "B03", "B04", "B08"))
    write(tmp_path / "a_20180511_20m.tif", coarse, names=("B05", "B06", "B07", "B8A", "B11", "B12"), res=20)
    stack = opened([tmp_path])
    values, observed = stack.read(0, stack.extent)
    expected = np.ones((4, 4), bool)
    expected[0, 0] = False
    expected[2:, 2:] = False
    np.testing.assert_array_equal(observed, expected)
    assert (values[:, ~observed] == 0).all()


def test_truncated_file_fails_with_its_name(tmp_path):
    path = write(tmp_path / "S2_20180511.tif", reflectance(200, 200))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(StackError, match=r"S2_20180511\.tif.*(damaged|whole)"):
        opened([tmp_path])


def test_file_damaged_outside_the_samples_fails_on_reading(tmp_path):
    path = write(tmp_path / "S2_20180511.tif", reflectance(600, 600), compress="deflate")
    content = bytearray(path.read_bytes())
    begin, end = int(0.8 * len(content)), int(0.9 * len(content))  # strips of late rows
    content[begin:end] = bytes(end - begin)
    path.write_bytes(content)
    stack = opened([tmp_path])
    with pytest.raises(StackError, match=r"cannot read .*S2_20180511\.tif.* damaged"):
        stack.read(0, stack.extent)


def test_threads_read_the_same(tmp_path):
    for day in range(11, 19):
        write(tmp_path / f"S2_201805{day}.tif", reflectance(40, 40, seed=day))
    with opened([tmp_path]) as stack:
        parts = [Window(-560000 + 8 * i, 50000 + 5 * i, 8, 12) for i in range(5)]
        jobs = [(i, part) for i in range(8) for part in parts] * 3
        expected = [stack.read(*job)[0] for job in jobs]
        with ThreadPoolExecutor(4) as pool:
            for got, wanted in zip(pool.map(lambda job: stack.read(*job)[0], jobs), expected, strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_pool_stays_bounded(tmp_path):
    pool = Pool(limit=2)
    paths = [str(write(tmp_path / f"{i}.tif", reflectance(4, 4))) for i in range(4)]
    handles = [pool.open(path) for path in paths]
    assert [handle.closed for handle in handles] == [True, True, False, False]
    assert pool.open(paths[3]) is handles[3]
    pool.close()
    assert all(handle.closed for handle in handles)
