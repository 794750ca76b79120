"""Dates, orbits and processing baselines out of names, tags and time axes."""

from datetime import date, datetime

import pytest

from malice_core.errors import StackError
from malice_core.images.dates import from_name, from_product, from_tags, from_time_axis, relative_orbit

DAY = date(2018, 5, 11)


@pytest.mark.parametrize(
    ("name", "day", "orbit", "baseline", "maker"),
    [
        # The generation date at the end is another day: sensing counts.
        ("S2A_MSIL2A_20180511T105031_N0207_R051_T31UDS_20180513T140405.SAFE", DAY, 51, 207, "esa"),
        ("S2B_MSIL2A_20220511T105031_N0400_R051_T31UDS_20220511T140405", date(2022, 5, 11), 51, 400, "esa"),
        ("S2C_MSIL2A_20250511T105031_N0511_R008_T31UDS_20250511T140405.tif", date(2025, 5, 11), 8, 511, "esa"),
        ("S2A_MSIL2A_20180511T105031_N9999_R051_T31UDS_20230513T140405.SAFE", DAY, 51, None, "esa"),
        ("T31UDS_20180511T105031_B02_10m.jp2", DAY, None, None, "esa"),
        ("L2A_T31UDS_20180511T105031_B8A_20m.jp2", DAY, None, None, "esa"),
        ("SENTINEL2A_20180511-105036-462_L2A_T31TCJ_C_V2-2_FRE_B8A.tif", DAY, None, 202, "theia"),
        ("HLS.S30.T31UDS.2018131T105031.v2.0.B02.tif", DAY, None, 200, "hls"),
        ("20180511T105031_20180512T105324_T31UDS.tif", DAY, None, None, "earth engine"),
        (
            "S1A_IW_GRDH_1SDV_20180511T174044_20180512T174109_021861_025BF0_ABCD.SAFE",
            DAY,
            (21861 - 73) % 175 + 1,
            None,
            "esa",
        ),
        ("s1a-iw-grd-vv-20180511t174044-20180511t174109-021861-025bf0-001.tiff", DAY, 89, None, "esa"),
        (
            "OPERA_L2_RTC-S1_T069-147170-IW1_20180511T054108Z_20231201T010101Z_S1A_30_v1.0_VV.tif",
            DAY,
            69,
            None,
            "opera",
        ),
        ("s1a_31TCH_vv_DES_110_20180511txxxxxx_GammaNaughtRTC.tif", DAY, 110, None, "s1tiling"),
        ("S1A_IW_20180511T174044_DVP_RTC10_G_gpuned_ABCD_VV.tif", DAY, None, None, ""),
    ],
)
def test_product_names(name, day, orbit, baseline, maker):
    found = from_product(name)
    assert found is not None
    assert (found.date, found.orbit, found.baseline, found.maker) == (day, orbit, baseline, maker)


def test_orbit_direction_of_s1tiling():
    found = from_product("s1b_31TCH_vh_ASC_030_20180511t060000.tif")
    assert found is not None
    assert found.direction == "ascending"


@pytest.mark.parametrize(
    ("platform", "absolute", "relative"),
    [
        ("S1B", 27, 1),
        ("S1C", 172, 1),
        ("s1a", 74, 2),
        ("S1A", 73, 1),
        ("S1A", 247, 175),
        ("S1A", 248, 1),
        ("S1D", 5, None),
    ],
)
def test_relative_orbit(platform, absolute, relative):
    assert relative_orbit(platform, absolute) == relative


@pytest.mark.parametrize(
    "name",
    [
        "S2_20180511",
        "openEO_2018-05-11Z",
        "scene_2018.05.11_b",
        "x20180511T105031",
        "x20180511105031_10m",
        "2018131",
        "a_2018131_2018-05-11",
        "20180511_20180511",
        "mosaic_99999999_20180511",
    ],
)
def test_dates_in_unknown_names(name):
    assert from_name(name, "file").date == DAY


@pytest.mark.parametrize("name", ["image", "S2_20181311", "20130511", "2018400", "12018051123", "1801_B02"])
def test_no_date(name):
    assert from_name(name, "file").date is None


def test_two_dates_in_an_unknown_name_are_an_error():
    with pytest.raises(StackError, match=r"here\.tif: two dates .* 2018-05-11 and 2018-06-11; rename"):
        from_name("S2_20180611_20180511", "here.tif")


def test_tags():
    found = from_tags({"TIFFTAG_DATETIME": "2026:01:01 00:00:00", "ACQUISITION_UTC": "2018-05-11T10:55:18Z"})
    assert found.date == DAY  # the TIFF's own date can be the date of writing: it comes last
    assert from_tags({"TIFFTAG_DATETIME": "2018:05:11 10:55:18"}).date == DAY
    found = from_tags({"RELATIVE_ORBIT_INFERRED": "59", "PROCESSING_BASELINE": "N0509", "pass": "DESCENDING"})
    assert (found.orbit, found.baseline, found.direction) == (59, 509, "descending")
    found = from_tags({"sat:relative_orbit": "161", "s2:processing_baseline": "04.00", "sat:orbit_state": "ascending"})
    assert (found.orbit, found.baseline, found.direction) == (161, 400, "ascending")
    uri = "S2A_MSIL2A_20180511T105031_N0207_R051_T31UDS_20180513T140405.SAFE"
    found = from_tags({"PRODUCT_URI": uri})
    assert (found.date, found.orbit, found.baseline) == (DAY, 51, 207)
    assert from_tags({"RELATIVE_ORBIT": "999", "AREA_OR_POINT": "Area"}).orbit is None


@pytest.mark.parametrize(
    ("values", "units", "expected"),
    [
        ([0, 1.5], "days since 1990-01-01", [datetime(1990, 1, 1), datetime(1990, 1, 2, 12)]),
        ([60], "seconds since 2017-08-01 17:32:36", [datetime(2017, 8, 1, 17, 33, 36)]),
        ([24], "hours since 2018-05-10T00:00:00Z", [datetime(2018, 5, 11)]),
        ([10**15], "nanoseconds since 2018-05-11", [datetime(2018, 5, 22, 13, 46, 40)]),
    ],
)
def test_time_axis(values, units, expected):
    assert from_time_axis(values, units, "proleptic_gregorian", "f") == expected


@pytest.mark.parametrize(
    ("units", "calendar"), [("fortnights since 2018-01-01", ""), ("days since 2018-01-01", "360_day")]
)
def test_time_axis_refused(units, calendar):
    with pytest.raises(StackError, match=r"^f: the time axis"):
        from_time_axis([0], units, calendar, "f")
