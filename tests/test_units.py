"""Reflectance or DN, the +1000 offset, dB and codes: detected, told, converted or refused."""

import numpy as np
import pytest
import rasterio
from helpers_stack import backscatter, reflectance, write, write_s1

from malice_core.bands import S1, S2
from malice_core.errors import InputError, StackError
from malice_core.images.sources import missing_values
from malice_core.stack import Stack, discover

OLD = "S2A_MSIL2A_20180511T105031_N0207_R051_T31UDS_20180513T140405.tif"
NEW = "S2A_MSIL2A_20220511T105031_N0400_R051_T31UDS_20220513T140405.tif"


def stack_of(sensor, *paths, **options) -> Stack:
    catalog = discover(sensor, paths, **options)
    return catalog.on(catalog.lattice())


def read(stack: Stack, index: int = 0) -> np.ndarray:
    return stack.read(index, stack.extent)[0]


def test_reflectance_from_0_to_1_is_multiplied(tmp_path):
    data = reflectance(8, 8).astype(np.float32) / 10000
    data[:, 0, 0] = np.nan
    write(tmp_path / "S2_20180511.tif", data, nodata=float("nan"))
    stack = stack_of("s2", tmp_path)
    values, observed = stack.read(0, stack.extent)
    np.testing.assert_allclose(values[:, observed], data[:, observed] * 10000, rtol=1e-6)
    assert any("multiplied by 10000" in note for note in stack.notes)


def test_bright_reflectance_is_still_reflectance(tmp_path):
    data = np.full((10, 8, 8), 1.4, np.float32)  # a cloud, brighter than white
    write(tmp_path / "S2_20180511.tif", data)
    np.testing.assert_allclose(read(stack_of("s2", tmp_path)), 14000, rtol=1e-6)


def test_scale_and_offset_of_the_file(tmp_path):
    data = reflectance(8, 8) + 1000
    data[:, 0, 0] = 0
    write(tmp_path / NEW, data, scale=1e-4, offset=-0.1)
    stack = stack_of("s2", tmp_path)
    values, observed = stack.read(0, stack.extent)
    assert observed.sum() == 63
    # Removed once: the processing baseline in the name must not remove it again.
    np.testing.assert_allclose(values[:, observed], data[:, observed] - 1000.0, atol=1e-2)
    assert any("scale 0.0001 and offset -0.1" in note for note in stack.notes)


def test_scale_without_offset_gives_the_stored_dn(tmp_path):
    data = reflectance(8, 8)
    write(tmp_path / "S2_20180511.tif", data, scale=np.float64(np.float32(1e-4)))
    np.testing.assert_array_equal(read(stack_of("s2", tmp_path)), data)


def test_offset_by_processing_baseline(tmp_path):
    old, new = reflectance(8, 8), reflectance(8, 8, seed=1) + 1000
    new[:, 0, 0] = 0
    new[3, 1, 1] = 0  # missing in one band of an observed pixel: stays 0
    write(tmp_path / OLD, old)
    write(tmp_path / NEW, new)
    stack = stack_of("s2", tmp_path)
    np.testing.assert_array_equal(read(stack, 0), old)
    np.testing.assert_array_equal(read(stack, 1), np.where(new == 0, 0, new - 1000.0))
    assert any("1000 subtracted from 1 of 2 images" in note for note in stack.notes)
    assert not stack.warnings
    for offset in ("0", "-1000"):
        stack = stack_of("s2", tmp_path, s2_offset=offset)
        np.testing.assert_array_equal(read(stack, 1), np.where(new == 0, 0, new + float(offset)))
    with pytest.raises(InputError, match="--s2-offset 1000 is none of"):
        discover("s2", [tmp_path], s2_offset="1000")


@pytest.mark.parametrize(("factor", "scale"), [(1, 1e-4), (1e-4, None)])
def test_offset_by_processing_baseline_in_any_scale(tmp_path, factor, scale):
    data = reflectance(8, 8) + 1000
    data[:, 0, 0] = 0
    stored = data if factor == 1 else (data * factor).astype(np.float32)
    write(tmp_path / NEW, stored, scale=scale)
    stack = stack_of("s2", tmp_path)
    values, observed = stack.read(0, stack.extent)
    assert observed.sum() == 63
    np.testing.assert_allclose(values[:, observed], data[:, observed] - 1000.0, atol=2e-3)
    assert not stack.warnings
    kept = stack_of("s2", tmp_path, s2_offset="0")
    np.testing.assert_allclose(kept.read(0, kept.extent)[0], data, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "tags", "added"),
    [
        (NEW, {"BOA_ADD_OFFSET": "0"}, 0),
        (NEW, {"RADIO_ADD_OFFSET": "0"}, 0),
        (NEW, {"RADIO_ADD_OFFSET": "0", "BOA_ADD_OFFSET": "-1000"}, -1000),
        (OLD, {"BOA_ADD_OFFSET_B02": "-1000", "BOA_ADD_OFFSET_B03": "-1000.0"}, -1000),
        ("S2_20220511.tif", {"BOA_ADD_OFFSET_VALUES_LIST": "-1000 -1000 -1000"}, -1000),
        ("S2_20220511.tif", {"BOA_ADD_OFFSET": "-0.1"}, -1000),
    ],
)
def test_offset_tags_come_before_the_baseline(tmp_path, name, tags, added):
    data = reflectance(8, 8) + 1000
    write(tmp_path / name, data, tags=tags)
    stack = stack_of("s2", tmp_path)
    np.testing.assert_array_equal(read(stack), data + float(added))
    assert any("tag BOA_ADD_OFFSET or RADIO_ADD_OFFSET" in note for note in stack.notes)
    for given in ("0", "-1000"):
        np.testing.assert_array_equal(read(stack_of("s2", tmp_path, s2_offset=given)), data + float(given))


def test_offset_tags_of_bands(tmp_path):
    path = write(tmp_path / NEW, reflectance(8, 8))
    with rasterio.open(path, "r+") as target:
        for i in target.indexes:
            target.update_tags(i, BOA_ADD_OFFSET="0")
    np.testing.assert_array_equal(read(stack_of("s2", path)), reflectance(8, 8))
    with rasterio.open(path, "r+") as target:
        target.update_tags(3, BOA_ADD_OFFSET="-1000")
    with pytest.raises(StackError, match=r"tags name several offsets \(-1000, 0\); say which one with --s2-offset"):
        stack_of("s2", path)
    np.testing.assert_array_equal(read(stack_of("s2", path, s2_offset="0")), reflectance(8, 8))


@pytest.mark.parametrize(("given", "added"), [("auto", -1000), ("0", 0), ("-1000", -1000)])
def test_the_option_takes_the_place_of_the_files_offset(tmp_path, given, added):
    data = reflectance(8, 8) + 1000
    write(tmp_path / NEW, data, scale=1e-4, offset=-0.1, tags={"BOA_ADD_OFFSET": "-1000"})
    np.testing.assert_allclose(read(stack_of("s2", tmp_path, s2_offset=given)), data + float(added), atol=1e-2)


def test_baseline_in_the_tags(tmp_path):
    data = reflectance(8, 8) + 1000
    write(tmp_path / "S2_20220511.tif", data, tags={"PROCESSING_BASELINE": "04.00"})
    np.testing.assert_array_equal(read(stack_of("s2", tmp_path)), data - 1000.0)


@pytest.mark.parametrize(
    "name", ["SENTINEL2B_20240511-105036-462_L2A_T31TCJ_C_V4-0", "HLS.S30.T31UDS.2024131T105031.v4.0"]
)
def test_other_makers_add_no_offset(tmp_path, name):
    data = reflectance(8, 8)
    write(tmp_path / f"{name}.tif", data)
    stack = stack_of("s2", tmp_path)
    np.testing.assert_array_equal(read(stack), data)
    assert not stack.warnings


def test_doubts_about_the_offset(tmp_path):
    data = reflectance(8, 8)
    write(tmp_path / "in" / "S2_20220511.tif", data + 1000)
    assert any("give --s2-offset -1000" in text for text in stack_of("s2", tmp_path / "in").warnings)
    write(tmp_path / "out" / "S2_20220511.tif", data)
    write(tmp_path / "early" / "S2_20210511.tif", data + 1000)
    for folder in ("out", "early"):
        assert not stack_of("s2", tmp_path / folder).warnings
    write(tmp_path / "twice" / NEW, data)
    assert any("give --s2-offset 0" in text for text in stack_of("s2", tmp_path / "twice").warnings)


def test_what_is_no_reflectance(tmp_path):
    rng = np.random.default_rng(0)
    write(tmp_path / "a" / "S2_20180511.tif", rng.integers(1, 256, (10, 8, 8)).astype(np.uint8))
    with pytest.raises(StackError, match="8 bit numbers are no surface reflectance"):
        discover("s2", [tmp_path / "a"])
    write(tmp_path / "b" / "S2_20180511.tif", rng.integers(1, 3, (10, 8, 8)).astype(np.int16))
    with pytest.raises(StackError, match="wanted is surface reflectance x 10000"):
        discover("s2", [tmp_path / "b"])


def test_linear_backscatter_is_left_alone(tmp_path):
    data = backscatter(8, 8)
    write_s1(tmp_path / "S1_20180511.tif", data)
    stack = stack_of("s1", tmp_path)
    np.testing.assert_array_equal(read(stack), data)
    assert not stack.warnings


def decibel() -> np.ndarray:
    return 10 * np.log10(backscatter(8, 8))


@pytest.mark.parametrize(
    ("stored", "nodata", "scale", "message"),
    [
        (decibel(), None, None, r"mostly negative .* so dB; convert them to linear gamma0 with 10\*\*\(dB/10\)"),
        ((decibel() * 10000).astype(np.int32), 0, None, r"look like dB x 10000; .* 10\*\*\(value/100000\)"),
        ((decibel() * 1000).astype(np.int32), 0, None, r"look like dB x 1000; .* 10\*\*\(value/10000\)"),
        ((decibel() * 100).astype(np.int16), 0, None, r"look like dB x 100; .* 10\*\*\(value/1000\)"),
        ((decibel() * 10000).astype(np.int32), 0, 1e-4, r"so dB"),
        (
            (10 ** ((decibel() + 83) / 20)).astype(np.uint16),
            0,
            None,
            r"coded integers \(uint16, .*20\*log10\(DN\) - 83",
        ),
        (backscatter(8, 8) * 1e5, None, None, r"no linear gamma0"),
    ],
)
def test_decibel_and_codes_are_refused(tmp_path, stored, nodata, scale, message):
    path = write_s1(tmp_path / "S1_20180511.tif", stored, nodata=nodata, scale=scale)
    with pytest.raises(StackError, match=rf"S1_20180511\.tif: .*{message}"):
        discover("s1", [path])


def test_real_coded_cube(testdata):
    with pytest.raises(StackError, match=r"coded integers \(uint16.*20\*log10"):
        discover("s1", [testdata / "data" / "openeo_cubes" / "worldcereal_preprocessed_inputs.nc"])
    site = testdata / "data" / "site_a" / "original_nc"
    with pytest.raises(StackError, match="so dB"):
        discover("s1", sorted(site.glob("S1_*.nc")))


def test_samples_go_on_where_images_are_empty(tmp_path):
    """Units are told from whatever image holds data, wherever in it."""
    empty = np.full((2, 300, 300), np.nan, np.float32)
    for day in range(11, 19):
        data = empty.copy()
        if day == 16:
            data[:, :20, :20] = -12.0
        write_s1(tmp_path / f"S1_201805{day}.tif", data)
    with pytest.raises(StackError, match="so dB"):
        discover("s1", [tmp_path])


def test_images_of_different_units_are_refused(tmp_path):
    for day, factor in ((11, 1), (12, 1), (13, 1e-4)):
        write(tmp_path / "s2" / f"S2_201805{day}.tif", (reflectance(8, 8) * factor).astype(np.float32))
    with pytest.raises(
        StackError, match=r"20180513\.tif holds reflectance 0-1 and .*2018051[12]\.tif reflectance x 10000"
    ):
        discover("s2", [tmp_path / "s2"])
    write_s1(tmp_path / "s1" / "S1_20180511.tif", backscatter(8, 8))
    write_s1(tmp_path / "s1" / "S1_20180512.tif", decibel())
    write_s1(tmp_path / "s1" / "S1_20180513.tif", backscatter(8, 8))
    with pytest.raises(StackError, match=r"S1_20180512\.tif: .*so dB"):
        discover("s1", [tmp_path / "s1"])


def test_stack_without_any_observed_pixel_warns(tmp_path):
    write_s1(tmp_path / "S1_20180511.tif", np.full((2, 8, 8), np.nan, np.float32))
    assert any("units could not be checked" in text for text in stack_of("s1", tmp_path).warnings)


def test_sigma0_and_descending_are_told(tmp_path):
    data = backscatter(8, 8)
    write_s1(tmp_path / "S1_20180511.tif", data, names=("Sigma0_VV", "Sigma0_VH"), tags={"PASS": "DESCENDING"})
    stack = stack_of("s1", tmp_path)
    assert any("sigma0" in note and "gamma0" in note for note in stack.notes)
    assert any("descending" in text for text in stack.warnings)
    write_s1(tmp_path / "S1_20180512.tif", data, tags={"PASS": "ASCENDING"})
    assert any("mixed" in text and "--s1-orbit" in text for text in stack_of("s1", tmp_path).warnings)


def test_values_that_mean_missing():
    assert missing_values(S2, None, "uint16") == ((65535.0,), True)
    assert missing_values(S2, 0, "uint16") == ((65535.0,), True)
    assert missing_values(S2, float("nan"), "float32") == ((), False)
    assert missing_values(S2, None, "int16") == ((-1.0,), True)
    assert missing_values(S2, 65535, "int16") == ((-1.0,), False)
    assert missing_values(S1, None, "int16") == ((), True)
    assert missing_values(S2, -10000, "int16") == ((-10000.0,), False)
    assert missing_values(S2, 1e20, "uint8") == ((), False)  # cannot occur in the type
    assert missing_values(S1, float("nan"), "float32") == ((), True)


@pytest.mark.parametrize(
    ("dtype", "fill", "note"),
    [("int16", -1, "65535, read as -1 in int16, taken as"), ("uint16", 65535, "65535 taken as")],
)
def test_undeclared_65535_of_a_geotiff_is_missing_and_told(tmp_path, dtype, fill, note):
    data = reflectance(8, 8).astype(dtype)
    data[4, 2, 2] = data[:, 5, 5] = fill
    write(tmp_path / "S2_20180511.tif", data, nodata=None)
    stack = stack_of("s2", tmp_path)
    assert np.argwhere(~stack.read(0, stack.extent)[1]).tolist() == [[2, 2], [5, 5]]
    assert [text for text in stack.notes if note in text]
    write(tmp_path / "declared" / "S2_20180511.tif", data, nodata=fill)
    assert not [text for text in stack_of("s2", tmp_path / "declared").notes if "taken as missing" in text]


def test_openeo_nodata_is_missing(testdata):
    """65535 is missing in openEO's unsigned cubes, and the fill value GDAL makes up (32769) is not."""
    cube = testdata / "data" / "openeo_cubes" / "gfmap_cdse_sentinel2_l2a.nc"
    catalog = discover("scl", [cube])
    assert all(32769.0 not in band.fills for s in catalog.sources for layer in s.layers for band in layer.bands)
