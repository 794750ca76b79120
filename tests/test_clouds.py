"""Cloud shares and masks against counts by hand."""

from datetime import date

import numpy as np
import pytest
from helpers_stack import LEFT, reflectance, write

from malice_core.bands import CLOUD_CLASSES
from malice_core.errors import InputError, StackError
from malice_core.grid import Window
from malice_core.images.clouds import with_clouds
from malice_core.stack import discover

DAYS = [date(2018, 5, 11), date(2018, 5, 21), date(2018, 5, 31)]


@pytest.fixture
def pair(tmp_path):
    """Three dates of images, and their classification at 20 m: clear, a quarter cloudy, all cloudy."""
    classes = np.full((3, 10, 10), 4, np.uint8)
    classes[1, :5, :5], classes[2] = 9, 8
    classes[1, 9, 9] = 0
    for day, plane in zip(DAYS, classes, strict=True):
        write(tmp_path / "s2" / f"S2_{day:%Y%m%d}.tif", reflectance(20, 20))
        write(tmp_path / "scl" / f"SCL_{day:%Y%m%d}.tif", plane[None], names=("SCL",), res=20)
    catalog = discover("s2", [tmp_path / "s2"])
    lattice = catalog.lattice()
    return catalog.on(lattice), discover("scl", [tmp_path / "scl"]).on(lattice), classes


def shares(s2, scl, area, classes) -> list[float | None]:
    stack = with_clouds(s2, scl, area, max_cloud=None, classes=classes, mask=False)
    return [observation.cloud_percent for observation in stack.observations]


def test_shares(pair):
    s2, scl, _ = pair
    assert shares(s2, scl, s2.extent, CLOUD_CLASSES) == pytest.approx([0, 100 * 25 / 99, 100])
    corner = s2.extent.expand(-7)  # pixels 7 … 12: 3 of 6 rows and columns are cloudy
    assert shares(s2, scl, corner, CLOUD_CLASSES)[1] == pytest.approx(25)
    assert shares(s2, scl, s2.extent, (4,))[0] == 100
    with pytest.raises(StackError, match="--scl: no date of Sentinel-2 L2A"):
        shares(s2, scl, Window(0, 0, 5, 5), CLOUD_CLASSES)
    with pytest.raises(InputError, match="--cloud-classes 3,12"):
        shares(s2, scl, s2.extent, (3, 12))


def test_strips_add_up(pair, monkeypatch):
    s2, scl, _ = pair
    expected = shares(s2, scl, s2.extent, CLOUD_CLASSES)
    monkeypatch.setattr("malice_core.images.clouds.STRIP", 60)
    assert shares(s2, scl, s2.extent, CLOUD_CLASSES) == expected


def test_dates_above_the_limit_are_left_out(pair):
    s2, scl, _ = pair
    kept = with_clouds(s2, scl, s2.extent, max_cloud=30, classes=CLOUD_CLASSES, mask=False)
    assert [o.date for o in kept.observations] == DAYS[:2]
    assert kept.observations[1].cloud_percent == pytest.approx(2500 / 99)
    assert any("1 of 3 dates left out" in note and "2018-05-31 (100 %)" in note for note in kept.notes)
    assert kept.read(1, kept.extent)[1].all()  # nothing is masked
    strict = with_clouds(s2, scl, s2.extent, max_cloud=25, classes=CLOUD_CLASSES, mask=False)
    assert [o.date for o in strict.observations] == DAYS[:1]
    late = s2.select(start=DAYS[2])
    with pytest.raises(StackError, match=r"all 1 dates are cloudier than --max-cloud 30 .*2018-05-31"):
        with_clouds(late, scl, s2.extent, max_cloud=30, classes=CLOUD_CLASSES, mask=False)
    with pytest.raises(InputError, match="--max-cloud 101"):
        with_clouds(s2, scl, s2.extent, max_cloud=101, classes=CLOUD_CLASSES, mask=False)


def test_masked_pixels_are_missing(pair):
    s2, scl, classes = pair
    masked = with_clouds(s2, scl, s2.extent, max_cloud=None, classes=CLOUD_CLASSES, mask=True)
    for i in range(3):
        values, observed = masked.read(i, masked.extent)
        clear = ~np.isin(classes[i], CLOUD_CLASSES).repeat(2, 0).repeat(2, 1)
        np.testing.assert_array_equal(observed, clear)
        np.testing.assert_array_equal(values, s2.read(i, s2.extent)[0] * clear)
    part = s2.extent.expand(-3)
    np.testing.assert_array_equal(masked.read(1, part)[1], masked.read(1, s2.extent)[1][3:-3, 3:-3])
    kept = masked.select(end=DAYS[1])
    assert not kept.read(1, kept.extent)[1].all()  # a selection keeps the mask


def test_dates_without_classification(pair, tmp_path):
    s2, scl, _ = pair
    some = scl.select(end=DAYS[1])
    kept = with_clouds(s2, some, s2.extent, max_cloud=10, classes=CLOUD_CLASSES, mask=True)
    assert [o.date for o in kept.observations] == [DAYS[0], DAYS[2]]
    assert kept.observations[1].cloud_percent is None
    assert kept.read(1, kept.extent)[1].all()
    assert any("no scene classification in the area on 2018-05-31" in text for text in kept.warnings)
    write(tmp_path / "other" / "SCL_20190511.tif", np.full((1, 20, 20), 4, np.uint8), names=("SCL",))
    other = discover("scl", [tmp_path / "other"]).on(s2.lattice)
    with pytest.raises(StackError, match=r"no date of Sentinel-2 L2A .* is classified; .*2019-05-11|--scl: no date"):
        with_clouds(s2, other, s2.extent, max_cloud=30, classes=CLOUD_CLASSES, mask=False)


def test_two_tiles_count_together(tmp_path):
    for i, value in enumerate((4, 9)):
        write(tmp_path / "s2" / f"t{i}_20180511.tif", reflectance(20, 20), left=LEFT + 200 * i)
        plane = np.full((1, 10, 10), value, np.uint8)
        write(tmp_path / "scl" / f"SCL_t{i}_20180511.tif", plane, names=("SCL",), res=20, left=LEFT + 200 * i)
    catalog = discover("s2", [tmp_path / "s2"])
    s2, scl = catalog.on(catalog.lattice()), discover("scl", [tmp_path / "scl"]).on(catalog.lattice())
    assert shares(s2, scl, s2.extent, CLOUD_CLASSES) == [50.0]
    masked = with_clouds(s2, scl, s2.extent, max_cloud=60, classes=CLOUD_CLASSES, mask=True)
    _, observed = masked.read(0, masked.extent)
    assert observed[:, :20].all()
    assert not observed[:, 20:].any()


def test_real_shares(testdata):
    """SOURCES.md: 54 dates have at least 90 % of the classes 4, 5, 6, 7, 11 in the site's table."""
    site = testdata / "data" / "site_a"
    catalog = discover("s2", [site / "S2"])
    s2, scl = catalog.on(catalog.lattice()), discover("scl", [site / "SCL"]).on(catalog.lattice())
    clear = shares(s2, scl, s2.extent, (4, 5, 6, 7, 11))
    assert sum(share is not None and share >= 90 for share in clear) == 54
