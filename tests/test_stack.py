"""Grid of a run, observations, choice of dates, area."""

import zipfile
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest
import rasterio
from affine import Affine
from helpers_stack import LEFT, TOP, UTM, backscatter, reflectance, vrt_of, write, write_s1

from malice_core.blocks import environment
from malice_core.errors import InputError, StackError
from malice_core.grid import Window
from malice_core.images.clouds import with_clouds
from malice_core.stack import Catalog, Stack, discover


def stack_of(sensor, *paths, **options) -> Stack:
    catalog = discover(sensor, paths, **options)
    return catalog.on(catalog.lattice())


def series(folder, days, **options):
    for day in days:
        write(folder / f"S2_{day:%Y%m%d}.tif", reflectance(6, 6), **options)
    return folder


def test_lattice_is_the_earliest_images(tmp_path):
    write(tmp_path / "S2_20180601.tif", reflectance(6, 6))
    write(tmp_path / "b_20180511.tif", reflectance(6, 6), left=LEFT + 3, top=TOP + 2)
    write(tmp_path / "a_20180511.tif", reflectance(6, 6), left=LEFT + 4, top=TOP + 2)
    lattice = discover("s2", [tmp_path]).lattice()
    assert (lattice.crs, lattice.res, lattice.x0, lattice.y0) == (UTM, 10.0, 4.0, 2.0)
    catalog = discover("s2", [tmp_path])
    notes = [note for note in catalog.on(catalog.lattice()).notes if note.startswith("grid: ")]
    name = tmp_path / "a_20180511.tif"
    assert notes == [f"grid: EPSG:32631, 10 m, aligned to {name}, the earliest Sentinel-2 L2A image"]
    lattice = discover("s2", [tmp_path]).lattice(20)
    assert (lattice.res, lattice.x0, lattice.y0) == (20.0, 4.0, 2.0)
    with pytest.raises(InputError, match="--resolution -1 is not a positive"):
        discover("s2", [tmp_path]).lattice(-1)


def catalog_with(tmp_path, **options) -> Catalog:
    return discover("s2", [write(tmp_path / "S2_20180511.tif", reflectance(6, 6), **options)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 3.02, 0, -1e-4, 50.8)}, r"degrees .*-t_srs EPSG:32631"),
        ({"crs": "EPSG:4326", "transform": Affine(1e-4, 0, -70, 0, -1e-4, -33)}, r"degrees .*-t_srs EPSG:32719"),
        ({"transform": Affine(9.8, 1.7, LEFT, 1.7, -9.8, TOP)}, r"rotated .*gdalwarp"),
        ({"transform": Affine(10, 0, LEFT, 0, -20, TOP)}, r"10 x 20 m, not square; .*gdalwarp"),
        ({"crs": "EPSG:2263"}, r"not metres; reproject"),
    ],
)
def test_odd_reference_grids_are_refused(tmp_path, options, message):
    with pytest.raises(StackError, match=rf"S2_20180511\.tif: .*{message}"):
        catalog_with(tmp_path, **options).lattice()


def test_an_image_in_degrees_beside_others_is_warped(tmp_path):
    write(tmp_path / "S2_20180511.tif", reflectance(60, 60))
    place = Affine(1e-4, 0, 3.0, 0, -1e-4, 50.55)
    write(tmp_path / "S2_20180521.tif", np.full((10, 60, 60), 1234, np.uint16), crs="EPSG:4326", transform=place)
    stack = stack_of("s2", tmp_path)
    values, observed = stack.read(1, stack.extent)
    assert observed.any()
    np.testing.assert_allclose(values[:, observed], 1234, rtol=1e-6)
    assert any("EPSG:4326" in text and "warped" in text for text in stack.warnings)


def test_orbits_make_observations(tmp_path):
    for i, orbit in enumerate((161, 59, 59, None)):
        tags = {"RELATIVE_ORBIT": str(orbit)} if orbit else None
        write_s1(tmp_path / f"x{i}_20180511.tif", backscatter(6, 6, i), left=LEFT + 60 * i, tags=tags)
    write_s1(tmp_path / "y_20180512.tif", backscatter(6, 6), tags={"RELATIVE_ORBIT": "161"})
    stack = stack_of("s1", tmp_path)
    assert [o.title for o in stack.observations] == [
        "2018-05-11 orbit 59",
        "2018-05-11 orbit 161",
        "2018-05-12 orbit 161",
    ]
    assert [len(o.sources) for o in stack.observations] == [3, 1, 1]
    assert any("unknown orbit" in text for text in stack.warnings)
    assert any("mosaics" in note and "baseline" in note for note in stack.notes)
    one = stack_of("s1", tmp_path, orbit=161)
    assert [o.date.day for o in one.observations] == [11, 12]
    with pytest.raises(StackError, match="no image of relative orbit 7; orbits found: 59, 161"):
        discover("s1", [tmp_path], orbit=7)


def test_select_by_range_and_list(tmp_path):
    days = [date(2018, 1, 1) + timedelta(days=10 * i) for i in range(20)]
    stack = stack_of("s2", series(tmp_path, days))
    part = stack.select(start=days[3], end=days[7])
    assert [o.date for o in part.observations] == days[3:8]
    assert f"Sentinel-2 L2A: 15 of 20 observations left out by --dates ({days[0]} to {days[-1]})" in part.notes
    assert stack.select(start=days[0]).notes == stack.notes
    assert [o.date for o in stack.select(dates={(days[4], None), (days[1], None)}).observations] == [days[1], days[4]]
    with pytest.raises(
        StackError, match=r"no image from 2019-01-01 to the end; the images are from 2018-01-01 to 2018"
    ):
        stack.select(start=date(2019, 1, 1))
    with pytest.raises(StackError, match=r"no image of any of the 1 listed dates; the images"):
        stack.select(dates=[(date(2018, 1, 2), None)])
    with pytest.raises(
        StackError, match=r"--dates lists no date for Sentinel-2 L2A; add lines such as .* without --s2"
    ):
        stack.select(dates=[])


def test_select_one_of_two_orbits(tmp_path):
    for day in (11, 12):
        for orbit in (59, 161):
            tags = {"RELATIVE_ORBIT": str(orbit)}
            write_s1(tmp_path / f"x{orbit}_201805{day}.tif", backscatter(6, 6), tags=tags)
    stack = stack_of("s1", tmp_path)
    chosen = stack.select(dates={(date(2018, 5, 11), 161), (date(2018, 5, 12), None)})
    assert [o.title for o in chosen.observations] == [
        "2018-05-11 orbit 161",
        "2018-05-12 orbit 59",
        "2018-05-12 orbit 161",
    ]
    with pytest.raises(StackError, match="no image of any of the 1 listed dates"):
        stack.select(dates={(date(2018, 5, 11), 7)})


def test_thinning_is_even_in_time(tmp_path):
    # Daily for a month, then every ten days: the crowd goes first.
    days = [date(2018, 1, 1) + timedelta(days=i) for i in range(30)]
    days += [date(2018, 2, 10) + timedelta(days=10 * i) for i in range(10)]
    stack = stack_of("s2", series(tmp_path, days))
    thinned = stack.select(max_dates=14)
    kept = [o.date for o in thinned.observations]
    assert len(kept) == 14
    assert (kept[0], kept[-1]) == (days[0], days[-1])
    assert set(days[30:]) <= set(kept)
    assert max(b - a for a, b in pairwise(kept)) <= timedelta(days=20)
    assert [o.date for o in stack.select(max_dates=14).observations] == kept
    (note,) = [note for note in thinned.notes if "from 40 to 14" in note]
    out = [day for day in days if day not in kept]
    assert note.endswith(f"left out: {', '.join(map(str, out[:5]))} and 21 more")
    assert len(stack.select(max_dates=1).observations) == 1
    assert len(stack.select(max_dates=2).observations) == 2
    assert stack.select(max_dates=100).observations == stack.observations
    with pytest.raises(InputError, match="--max-dates 0"):
        stack.select(max_dates=0)


def test_area_without_outliers(tmp_path):
    for day in range(11, 16):
        write(tmp_path / f"S2_201805{day}.tif", reflectance(20, 20))
    stack = stack_of("s2", tmp_path)
    assert stack.area() == stack.extent == Window(-560000, 50000, 20, 20)
    write(tmp_path / "wide_20180516.tif", reflectance(20, 30), left=LEFT + 200)  # 2.5 times: a neighbour
    assert stack_of("s2", tmp_path).area() == Window(-560000, 50000, 20, 50)
    write(tmp_path / "lost_20180517.tif", reflectance(20, 20), left=LEFT + 5000)
    stack = stack_of("s2", tmp_path)
    with pytest.raises(StackError, match=r"lost_20180517\.tif: lies so far .* times larger; leave it out, or .* --aoi"):
        stack.area()
    assert stack.extent.width == 520  # with an area of interest it may stay
    assert stack.select(end=date(2018, 5, 16)).area().width == 50


def test_of_two_distant_images_the_later_is_named(tmp_path):
    write(tmp_path / "S2_20180511.tif", reflectance(20, 20))
    write(tmp_path / "S2_20180521.tif", reflectance(30, 30), left=LEFT + 5000)
    with pytest.raises(StackError, match=r"S2_20180521\.tif: lies so far"):
        stack_of("s2", tmp_path).area()
    write(tmp_path / "S2_20180531.tif", reflectance(20, 20), left=LEFT + 5000)
    with pytest.raises(StackError, match=r"S2_20180511\.tif: lies so far"):
        stack_of("s2", tmp_path).area()


def test_image_outside_the_projection(tmp_path):
    write(tmp_path / "S2_20180511.tif", reflectance(20, 20))
    write(tmp_path / "S2_20180521.tif", reflectance(20, 20), left=4e7, top=3e8, crs="EPSG:3857")
    with pytest.raises(StackError, match=r"S2_20180521\.tif: lies outside"):
        stack_of("s2", tmp_path)


def test_extent_of_a_selection(tmp_path):
    write(tmp_path / "S2_20180511.tif", reflectance(6, 6))
    write(tmp_path / "S2_20180521.tif", reflectance(6, 6), left=LEFT + 60)
    stack = stack_of("s2", tmp_path)
    assert stack.extent == Window(-560000, 50000, 6, 12)
    later = stack.select(start=date(2018, 5, 12))
    assert later.extent == Window(-560000, 50006, 6, 6)
    _, observed = stack.read(0, stack.extent)
    assert observed[:, :6].all()
    assert not observed[:, 6:].any()


def test_describe_is_plain_data(tmp_path):
    import json

    stack = stack_of("s2", series(tmp_path, [date(2018, 5, 11), date(2018, 5, 21)]))
    content = json.loads(json.dumps(stack.describe()))
    assert [entry["date"] for entry in content["dates"]] == ["2018-05-11", "2018-05-21"]
    assert content["dates"][0]["files"] == [str(tmp_path / "S2_20180511.tif")]
    assert content["sensor"] == "s2"


def test_files_of_a_stack(tmp_path, monkeypatch):
    """Sources of VRTs in VRTs, masks beside them, .aux.xml, archives, relative names, the classification."""
    inner = write(tmp_path / "deep" / "d & e.tif", reflectance(6, 6), nodata=None)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(inner, "r+") as target:
        target.write_mask(np.full((6, 6), 255, np.uint8))
    beside = [inner.with_name(inner.name + ".msk")]
    inner_vrt = vrt_of(tmp_path / "inner.vrt", "deep/d &amp; e.tif", bands=10, mask=True)
    outer = vrt_of(tmp_path / "S2_20180511.vrt", "inner.vrt", bands=10)
    plain = write(tmp_path / "S2_20180521.tif", reflectance(6, 6))
    tags = plain.with_name(plain.name + ".aux.xml")
    tags.write_text("<PAMDataset><Metadata><MDI key='A'>b</MDI></Metadata></PAMDataset>")
    packed = write(tmp_path / "S2_20180531.tif", reflectance(6, 6))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(packed, "in/S2_20180531.tif")
    classes = write(tmp_path / "SCL_20180521.tif", np.full((1, 6, 6), 4, np.uint8), names=("SCL",))
    monkeypatch.chdir(tmp_path)
    with environment():
        paths = [outer.name, plain.name, f"/vsizip/{tmp_path}/a.zip/in/S2_20180531.tif"]
        stack = stack_of("s2", *paths)
        scl = discover("scl", [classes.name]).on(stack.lattice)
        masked = with_clouds(stack, scl, stack.extent, max_cloud=None, classes=(3,), mask=True)
    assert stack.observations[0].files == sorted(map(str, [outer, inner_vrt, inner, *beside]))
    assert stack.observations[1].files == sorted(map(str, [plain, tags]))
    assert stack.observations[2].files == [str(tmp_path / "a.zip")]
    assert stack.files() == sorted(file for o in stack.observations for file in o.files)
    assert masked.files() == sorted([*stack.files(), str(classes)])


def test_files_of_a_cube(testdata):
    cube = testdata / "data" / "openeo_cubes" / "gfmap_cdse_sentinel2_l2a.nc"
    catalog = discover("scl", [cube])
    assert catalog.on(catalog.lattice()).files() == [str(cube)]


def test_real_stacks(testdata):
    site = testdata / "data" / "site_a"
    s2, s1 = discover("s2", [site / "S2"]), discover("s1", [site / "S1"])
    lattice = s2.lattice()
    with s2.on(lattice) as images, s1.on(lattice) as radar:
        assert (len(images.observations), len(radar.observations)) == (118, 159)
        assert images.extent == radar.extent == Window(-562968, 50136, 64, 64)
        assert any("20 m pixels" in text for text in radar.warnings)
        assert any("sigma0" in note for note in radar.notes)
        assert {o.orbit for o in radar.observations} == {59, 161}
        values, observed = images.read(74, images.extent)
        assert observed.all()
        assert 200 < values.mean() < 5000
    year = images.select(start=date(2018, 1, 1), end=date(2018, 12, 31))
    assert len(year.observations) == 91
