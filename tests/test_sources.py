"""Which files are found, which belong together, and what is said when they cannot be used."""

from datetime import date

import numpy as np
import pytest
import xarray as xr
from helpers_stack import LEFT, TOP, UTM, reflectance, smooth, write, write_s1
from rasterio.crs import CRS

from malice_core.bands import S1, S2, SCL
from malice_core.errors import InputError, StackError
from malice_core.images.bandnames import band_of, band_of_file, named
from malice_core.stack import discover

DAY = date(2018, 5, 11)
SAFE = "S2A_MSIL2A_20180511T105031_N0207_R051_T31UDS_20180513T140405.SAFE"


def stack_of(sensor, *paths, **options):
    catalog = discover(sensor, paths, **options)
    return catalog.on(catalog.lattice())


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("B02", "B02"),
        ("B2", "B02"),
        ("band_2", "B02"),
        ("Band 8A", "B8A"),
        ("b8a", "B8A"),
        ("S2-L2A-B02", "B02"),
        ("B12, central wavelength 2190 nm", "B12"),
        ("FRE_B11", "B11"),
        ("blue", "B02"),
        ("nir08", "B8A"),
        ("Red Edge 1", "B05"),
        ("B02/B03", None),
        ("SCL", None),
        ("AB02", None),
        (None, None),
    ],
)
def test_names_of_s2_bands(text, band):
    assert band_of(text, S2) == band


@pytest.mark.parametrize(
    ("text", "band"),
    [
        ("VV", "VV"),
        ("vh", "VH"),
        ("Sigma0_VV", "VV"),
        ("Gamma0_VH_db", "VH"),
        ("S1-SIGMA0-VV", "VV"),
        ("VV/VH", None),
        ("HV", "HV"),
        ("angle", None),
    ],
)
def test_names_of_s1_bands(text, band):
    assert band_of(text, S1) == band


def test_names_of_files():
    assert band_of_file("T31UDS_20180511T105031_B8A_20m", S2) == "B8A"
    assert band_of_file("HLS.S30.T31UDS.2018131T105031.v2.0.B02", S2) == "B02"
    assert band_of_file("S1A_IW_GRDH_1SDV_20180511T174044_vh", S1) == "VH"
    assert band_of_file("T31UDS_20180511T105031_SCL_20m", SCL) == "SCL"


def test_numbered_bands_are_not_names():
    assert named([f"Band {i}" for i in range(1, 11)], S2) == [None] * 10
    assert named(["Band 2", "Band 3"], S2) == ["B02", "B03"]


def test_bands_by_order_only_when_their_number_is_right(tmp_path):
    data = reflectance(6, 6)
    path = write(tmp_path / "S2_20180511.tif", data, names=None)
    stack = stack_of("s2", path)
    np.testing.assert_array_equal(stack.read(0, stack.extent)[0], data)
    assert any("bands by order" in note for note in stack.notes)
    path = write(tmp_path / "more_20180511.tif", reflectance(6, 6, bands=12), names=None)
    with pytest.raises(StackError, match=r"more_20180511\.tif: none of its 12 bands .* set band descriptions B02"):
        discover("s2", [path])


def test_missing_band_is_named(tmp_path):
    names = [band for band in S2.bands if band != "B8A"]
    path = write(tmp_path / "S2_20180511.tif", reflectance(6, 6, bands=9), names=names)
    with pytest.raises(
        StackError, match=r"S2_20180511\.tif: Sentinel-2 L2A of 2018-05-11 has no band B8A; found B02, "
    ):
        discover("s2", [path])


def test_two_bands_of_one_name(tmp_path):
    path = write_s1(tmp_path / "S1_20180511.tif", np.ones((3, 4, 4), np.float32), names=("VV", "VH", "vv"))
    with pytest.raises(StackError, match="2 bands are called VV"):
        discover("s1", [path])


def write_safe(folder, data, coarse, name=SAFE, day="20180511T105031"):
    inner = folder / name / "GRANULE" / f"L2A_T31UDS_A006178_{day}" / "IMG_DATA"
    for band, plane in zip(("B02", "B03", "B04", "B08"), data, strict=True):
        write(inner / "R10m" / f"T31UDS_{day}_{band}_10m.tif", plane[None], names=None)
    for band, plane in zip(("B05", "B06", "B07", "B8A", "B11", "B12"), coarse, strict=True):
        write(inner / "R20m" / f"T31UDS_{day}_{band}_20m.tif", plane[None], names=None, res=20)
    for band in ("B02", "SCL", "AOT", "TCI", "B01"):  # the finer B02 must win, the others are not wanted
        write(inner / "R20m" / f"T31UDS_{day}_{band}_20m.tif", np.full((1, 5, 5), 4, np.uint8), names=None, res=20)


def test_safe_folders(tmp_path):
    data, coarse = reflectance(10, 10, bands=4), reflectance(5, 5, bands=6)
    write_safe(tmp_path, data, coarse)
    stack = stack_of("s2", tmp_path)
    observation = stack.observations[0]
    assert (len(stack.observations), observation.date, observation.orbit) == (1, DAY, 51)
    assert observation.title == "2018-05-11 orbit 51"
    values, _ = stack.read(0, stack.extent)
    np.testing.assert_array_equal(values[[0, 1, 2, 6]], data)
    assert any("by the names of the files" in note for note in stack.notes)
    assert any("Sentinel-2" in note and "names" in note and "dates" in note for note in stack.notes)
    scl = discover("scl", [tmp_path]).on(stack.lattice)
    assert (scl.observations[0].date, scl.observations[0].orbit) == (DAY, 51)
    assert (scl.read(0, scl.extent)[0] == 4).all()


def test_newest_baseline_of_a_product_is_used(tmp_path):
    old, new = reflectance(10, 10, bands=4), reflectance(10, 10, bands=4, seed=1) + 1000
    write_safe(tmp_path, old, reflectance(5, 5, bands=6))
    newer = SAFE.replace("N0207", "N0500").replace("20180513", "20230513")
    write_safe(tmp_path, new, reflectance(5, 5, bands=6) + 1000, newer)
    stack = stack_of("s2", tmp_path)
    assert len(stack.observations) == 1
    values, _ = stack.read(0, stack.extent)
    np.testing.assert_array_equal(values[[0, 1, 2, 6]], new - 1000.0)
    assert any("baselines 02.07 and 05.00" in text for text in stack.warnings)


def test_theia_folders(tmp_path):
    name = "SENTINEL2A_20180511-105036-462_L2A_T31TCJ_C_V2-2"
    data = reflectance(6, 6).astype(np.int16)
    for band, plane in zip(S2.bands, data, strict=True):
        short = band.replace("B0", "B")
        write(tmp_path / name / f"{name}_FRE_{short}.tif", plane[None], names=None, nodata=-10000)
        write(tmp_path / name / f"{name}_SRE_{short}.tif", plane[None] + 1, names=None, nodata=-10000)
    write(tmp_path / name / "MASKS" / f"{name}_CLM_R1.tif", data[:1], names=None)
    stack = stack_of("s2", tmp_path)
    assert [o.date for o in stack.observations] == [DAY]
    np.testing.assert_array_equal(stack.read(0, stack.extent)[0], data)


def test_hls_files(tmp_path):
    data = reflectance(6, 6).astype(np.int16)
    for band, plane in zip(S2.bands, data, strict=True):
        path = tmp_path / f"HLS.S30.T31UDS.2018131T105031.v2.0.{band}.tif"
        write(path, plane[None], names=None, nodata=-9999, scale=0.0001)
    write(tmp_path / "HLS.S30.T31UDS.2018131T105031.v2.0.Fmask.tif", data[:1], names=None)
    stack = stack_of("s2", tmp_path)
    assert [o.date for o in stack.observations] == [DAY]
    np.testing.assert_array_equal(stack.read(0, stack.extent)[0], data)


def test_one_folder_per_date(tmp_path):
    data = reflectance(6, 6)
    for day in ("2018-05-11", "2018-05-21"):
        for band, plane in zip(S2.bands, data, strict=True):
            write(tmp_path / day / f"{band}.tif", plane[None], names=None)
    assert [str(o.date) for o in stack_of("s2", tmp_path).observations] == ["2018-05-11", "2018-05-21"]
    assert [str(o.date) for o in stack_of("s2", tmp_path / "2018-05-21").observations] == ["2018-05-21"]


def test_polarisations_in_files_of_their_own(tmp_path):
    data = np.random.default_rng(0).uniform(0.01, 0.3, (2, 6, 6)).astype(np.float32)
    for band, plane in zip(("vv", "vh"), data, strict=True):
        write_s1(tmp_path / f"s1a_31TCH_{band}_ASC_030_20180511t060000.tif", plane[None], names=None)
    stack = stack_of("s1", tmp_path)
    assert stack.observations[0].orbit == 30
    np.testing.assert_array_equal(stack.read(0, stack.extent)[0], data)


def test_lists_and_gdal_names(tmp_path):
    for day in (11, 12, 13):
        write(tmp_path / "images" / f"S2_201805{day}.tif", reflectance(6, 6))
    text = tmp_path / "list.txt"
    text.write_text("# two of three\nimages/S2_20180511.tif\n\n" + str(tmp_path / "images" / "S2_20180513.tif") + "\n")
    assert [o.date.day for o in stack_of("s2", text).observations] == [11, 13]
    vrt = tmp_path / "S2_20180514.vrt"
    vrt.write_text(
        '<VRTDataset rasterXSize="6" rasterYSize="6">'
        f"<SRS>{CRS.from_string(UTM).to_wkt()}</SRS><GeoTransform>{LEFT},10,0,{TOP},0,-10</GeoTransform>"
        + "".join(
            f'<VRTRasterBand dataType="UInt16" band="{i}"><Description>{band}</Description><SimpleSource>'
            f'<SourceFilename relativeToVRT="1">images/S2_20180511.tif</SourceFilename><SourceBand>{i}</SourceBand>'
            "</SimpleSource></VRTRasterBand>"
            for i, band in enumerate(S2.bands, 1)
        )
        + "</VRTDataset>"
    )
    stack = stack_of("s2", vrt)
    np.testing.assert_array_equal(stack.read(0, stack.extent)[0], reflectance(6, 6))
    inside = (
        f"/vsisubfile/0_{(tmp_path / 'images' / 'S2_20180511.tif').stat().st_size},{tmp_path}/images/S2_20180511.tif"
    )
    assert len(stack_of("s2", inside).observations) == 1


def cube(folder, name, dims, **options):
    """A cube of 3 dates as xarray writes it; returns its path and the values (t, band, y, x)."""
    times = np.array(["2018-05-11T10:50", "2018-05-21T10:50", "2018-06-01T10:50"], "datetime64[ns]")
    rows, cols = np.mgrid[0:8, 0:9]
    values = np.stack([smooth(rows + 20 * t, cols) for t in range(3)]).round().astype(options.get("dtype", "uint16"))
    ys, xs = TOP - 10 * np.arange(8) - 5, LEFT + 10 * np.arange(9) + 5
    if options.get("ascending"):
        ys, stored = ys[::-1], values[:, :, ::-1]
    else:
        stored = values
    places = {"t": times, "y": ("y", ys, options.get("attrs", {}).get("y", {}))}
    places["x"] = ("x", xs, options.get("attrs", {}).get("x", {}))
    if dims == "bands":
        array = xr.DataArray(
            stored, dims=("t", "bands", "y", "x"), coords={**places, "bands": options.get("names", list(S2.bands))}
        )
        dataset = array.to_dataset(name="cube")
    else:
        planes = {f"S2-L2A-{band}": (("t", "y", "x"), stored[:, i]) for i, band in enumerate(S2.bands)}
        dataset = xr.Dataset(planes, coords=places)
    if options.get("crs", "mapping") == "mapping":
        dataset["crs"] = xr.DataArray(0, attrs={"crs_wkt": CRS.from_string(UTM).to_wkt(), "spatial_ref": UTM})
        for variable in dataset.data_vars:
            if variable != "crs":
                dataset[variable].attrs["grid_mapping"] = "crs"
    else:
        dataset.attrs["crs"] = "+init=epsg:32631"
        for variable in dataset.data_vars:
            dataset[variable].attrs["crs"] = "+init=epsg:32631"
    folder.mkdir(exist_ok=True)
    dataset.to_netcdf(folder / name)
    return folder / name, values


CF = {
    "x": {"standard_name": "projection_x_coordinate", "units": "m"},
    "y": {"standard_name": "projection_y_coordinate", "units": "m"},
}


@pytest.mark.parametrize("dims", ["variables", "bands"])
@pytest.mark.parametrize("crs", ["mapping", "attribute"])
@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("attrs", [{}, CF], ids=["plain", "cf"])
def test_cubes(tmp_path, dims, crs, ascending, attrs):
    path, values = cube(tmp_path, "cube.nc", dims, crs=crs, ascending=ascending, attrs=attrs)
    stack = stack_of("s2", path)
    assert [str(o.date) for o in stack.observations] == ["2018-05-11", "2018-05-21", "2018-06-01"]
    assert stack.lattice.bounds(stack.extent) == (LEFT, TOP - 80, LEFT + 90, TOP)
    for i in range(3):
        got, observed = stack.read(i, stack.extent)
        assert observed.all()
        np.testing.assert_array_equal(got, values[i])
    part = stack.extent.expand(-2)
    rows, cols = part.slices_in(stack.extent)
    np.testing.assert_array_equal(stack.read(1, part)[0], values[1][:, rows, cols])
    assert any("time axes" in note for note in stack.notes)


@pytest.mark.parametrize(
    ("dtype", "missing"), [("uint16", (0, 65535)), ("int16", (0, -1, -32767)), ("float32", (0, np.nan, 9.96921e36))]
)
def test_missing_values_of_cubes_that_declare_none(tmp_path, dtype, missing):
    """32769, which GDAL takes for the default of unsigned cubes, is a value."""
    path, values = cube(tmp_path, "cube.nc", "variables", dtype=dtype)
    with xr.open_dataset(path, mask_and_scale=False) as old:
        new = old.load()
    for name in new.data_vars:
        new[name].attrs.pop("_FillValue", None)
        new[name].encoding["_FillValue"] = None
        if name != "crs":
            for i, value in enumerate(missing):
                new[name][0, 2, i] = np.float32(value) if dtype == "float32" else value
            if dtype == "uint16":
                new[name][0, 3, 3] = 32769
    new.to_netcdf(tmp_path / "new.nc")
    stack = stack_of("s2", tmp_path / "new.nc")
    values, observed = stack.read(0, stack.extent)
    expected = np.ones((8, 9), bool)
    expected[2, : len(missing)] = False
    np.testing.assert_array_equal(observed, expected)
    assert dtype != "uint16" or (values[:, 3, 3] == 32769).all()


def test_cube_whose_band_names_gdal_does_not_show(tmp_path):
    """Names stored as characters: by order, as the number is right, and it is said."""
    path, values = cube(tmp_path, "cube.nc", "bands", names=np.array(S2.bands, dtype="S3"))
    stack = stack_of("s2", path)
    np.testing.assert_array_equal(stack.read(2, stack.extent)[0], values[2])
    assert any("bands by order" in note for note in stack.notes)


def test_cube_of_another_sensor_in_a_folder_is_left_out(tmp_path):
    cube(tmp_path, "cube.nc", "variables")
    other = xr.Dataset({"temperature": (("y", "x"), np.ones((4, 4)))})
    other.to_netcdf(tmp_path / "weather.nc")
    catalog = discover("s2", [tmp_path])
    assert len(catalog.sources) == 3
    assert any("weather.nc: left out" in text for text in catalog.warnings)


def test_gdal_name_of_one_variable(tmp_path):
    tmp_path = tmp_path / "a folder"
    tmp_path.mkdir()
    times = np.array(["2018-05-11", "2018-05-21"], "datetime64[ns]")
    coords = {"t": times, "y": TOP - 10 * np.arange(4) - 5, "x": LEFT + 10 * np.arange(5) + 5}
    dataset = xr.Dataset({"SCL": (("t", "y", "x"), np.full((2, 4, 5), 4, np.uint8))}, coords=coords)
    dataset.SCL.attrs["crs"] = dataset.attrs["crs"] = UTM
    dataset.to_netcdf(tmp_path / "a.nc")
    assert len(stack_of("scl", f"NETCDF:{tmp_path / 'a.nc'}:SCL").observations) == 2


def bad(tmp_path, case):
    folder = tmp_path / case
    folder.mkdir()
    data = reflectance(6, 6)
    if case == "list":
        (folder / "list.txt").write_text("# nothing\n")
        return folder / "list.txt"
    if case == "unreadable":
        (folder / "S2_20180511.tif").write_text("no image")
    if case == "crs":
        write(folder / "S2_20180511.tif", data, crs=None)
    if case == "date":
        write(folder / "image.tif", data)
    if case == "dates":
        write(folder / "S2_20180511_20190511.tif", data)
    if case == "complex":
        write(folder / "S2_20180511.tif", data + 1j)
    if case == "other":
        write_s1(folder / "S1A_20180511.tif", np.ones((2, 6, 6), np.float32))
    return folder / "none" if case == "absent" else folder


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("absent", r"none: no such file or folder; check the path, put it in quotes .* give the folder"),
        ("empty", r"empty: no raster \(\.tif .* in this folder"),
        ("list", r"list\.txt: lists no path; write"),
        ("unreadable", r"cannot open .*S2_20180511\.tif: .* is it a raster, and whole\?"),
        ("crs", r"S2_20180511\.tif: has no coordinate reference system; set it"),
        ("date", r"image\.tif: no date in its name or tags; rename it"),
        ("dates", r"S2_20180511_20190511\.tif: two dates in the name .* rename"),
        ("complex", r"S2_20180511\.tif: holds complex numbers"),
        ("other", r"other: none of its 1 rasters \(such as S1A_20180511\.tif\) looks like Sentinel-2"),
    ],
)
def test_bad_paths(tmp_path, case, message):
    with pytest.raises(InputError, match=message) as caught:
        discover("s2", [bad(tmp_path, case)])
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_real_cubes_without_all_bands(testdata):
    cubes = testdata / "data" / "openeo_cubes"
    with pytest.raises(StackError, match=r"worldcereal_preprocessed_inputs\.nc: .* has no band B8A; found B02"):
        discover("s2", [cubes / "worldcereal_preprocessed_inputs.nc"])
    with pytest.raises(StackError, match=r"gfmap_cdse_sentinel2_l2a\.nc: .* no band B02, B03, .*; found B04, B08, B11"):
        discover("s2", [cubes / "gfmap_cdse_sentinel2_l2a.nc"])


def test_real_netcdf_equals_real_geotiffs(testdata):
    site = testdata / "data" / "site_a"
    tiffs = stack_of("s2", site / "S2")
    cubes = discover("s2", sorted((site / "original_nc").glob("S2_*.nc"))).on(tiffs.lattice)
    assert [o.date for o in cubes.observations] == [o.date for o in tiffs.observations]
    assert cubes.extent == tiffs.extent
    for i in (0, 60, 117):
        expected, got = tiffs.read(i, tiffs.extent)[0], cubes.read(i, cubes.extent)[0]
        for band in (0, 1, 2, 6):  # the 10 m ones; GeoTIFFs repeat 20 m pixels where we interpolate
            np.testing.assert_array_equal(got[band], expected[band])
    assert discover("s1", [site / "S1_10m"]).sources[0].acquisition.orbit == 161
