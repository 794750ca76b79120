"""Angles of dates: every kind of file gives the same cosines and sines; what is missing or impossible is named."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from malice_core.errors import InputError
from malice_core.store.statistics import AUX
from malice_core.surroundings.angles import Angles

DAY = date(2018, 5, 11)
#: Sun zenith, sun azimuth, view zenith, view azimuth.
DEGREES = (35.0, 155.0, 8.0, 285.0)


def channels(sun_zenith: float, sun_azimuth: float, view_zenith: float, view_azimuth: float) -> list[float]:
    sz, sa, vz, va = np.radians([sun_zenith, sun_azimuth, view_zenith, view_azimuth])
    return [np.cos(sz), np.cos(sa), np.sin(sa), np.cos(vz), np.cos(va), np.sin(va)]


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def item(path: Path, name: str = "S2A_MSIL2A_20180511T105031_N0207_R051_T31UDS_x", **properties: object) -> Path:
    given = {"datetime": "2018-05-11T10:50:31Z"} | {key.replace("__", ":"): value for key, value in properties.items()}
    path.write_text(json.dumps({"type": "Feature", "id": name, "properties": given}))
    return path


def _angles(zenith: object, azimuth: object) -> str:
    return f'<ZENITH_ANGLE unit="deg">{zenith}</ZENITH_ANGLE><AZIMUTH_ANGLE unit="deg">{azimuth}</AZIMUTH_ANGLE>'


def _grid(name: str, zenith: str, azimuth: str, attributes: str = "") -> str:
    def values(kind: str, text: str) -> str:
        rows = "".join(f"<VALUES>{row}</VALUES>" for row in text.split("|"))
        return f"<{kind}><COL_STEP>5000</COL_STEP><Values_List>{rows}</Values_List></{kind}>"

    return f"<{name} {attributes}>{values('Zenith', zenith)}{values('Azimuth', azimuth)}</{name}>"


def granule(path: Path, sun: Sequence[object] | None, views: Sequence[Sequence[object]], grids: str = "") -> Path:
    """The parts of an ``MTD_TL.xml`` that matter, spelt as in ESA's products."""
    mean_sun = f"<Mean_Sun_Angle>{_angles(*sun)}</Mean_Sun_Angle>" if sun else ""
    mean_views = "".join(
        f'<Mean_Viewing_Incidence_Angle bandId="{i}">{_angles(*view)}</Mean_Viewing_Incidence_Angle>'
        for i, view in enumerate(views)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>'
        '<n1:Level-2A_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd">'
        '<n1:General_Info><SENSING_TIME metadataLevel="Standard">2018-05-11T10:53:28.458Z</SENSING_TIME>'
        "</n1:General_Info>"
        f'<n1:Geometric_Info><Tile_Angles metadataLevel="Standard">{grids}{mean_sun}'
        f"<Mean_Viewing_Incidence_Angle_List>{mean_views}</Mean_Viewing_Incidence_Angle_List>"
        "</Tile_Angles></n1:Geometric_Info></n1:Level-2A_Tile_ID>"
    )
    return path


def sources(folder: Path) -> dict[str, Path]:
    """The same angles in every kind of file."""
    sz, sa, vz, va = DEGREES
    stac = {"view__sun_elevation": 90 - sz, "view__sun_azimuth": sa, "view__azimuth": va}
    off_nadir = np.degrees(np.arcsin(np.sin(np.radians(vz)) / 1.1234))
    sun_grid = _grid("Sun_Angles_Grid", f"{sz - 1} {sz}|{sz} {sz + 1}", f"{sa} {sa - 2}|{sa + 2} {sa}")
    view_grids = "".join(
        _grid("Viewing_Incidence_Angles_Grids", f"{z} NaN|NaN {z}", f"{a} NaN|NaN {a}", f'bandId="{b}" detectorId="7"')
        for b, z, a in ((0, vz - 1, va - 4), (1, vz + 1, va + 4))
    )
    earth_engine = "system:index,MEAN_SOLAR_ZENITH_ANGLE,MEAN_SOLAR_AZIMUTH_ANGLE,MEAN_INCIDENCE_ZENITH_ANGLE_B2"
    earth_engine += ",MEAN_INCIDENCE_ZENITH_ANGLE_B8A,MEAN_INCIDENCE_AZIMUTH_ANGLE_B2,MEAN_INCIDENCE_AZIMUTH_ANGLE_B8A"
    return {
        "csv": table(
            folder / "a.csv",
            "file,acquisition_utc,share,sun_zenith,sun_azimuth,view_zenith_mean,view_azimuth_mean",
            f"S2_20180511.tif,2018-05-11T10:53:28Z,0.5,{sz},{sa},{vz},{va}",
        ),
        "semicolons": table(folder / "b.csv", "Date;SZA;SAA;VZA;VAA", "2018-05-11;35,0;155,0;8,0;285,0"),
        "sentinel hub": table(
            folder / "c.csv",
            "file,sunZenithAngles,sunAzimuthAngles,viewZenithMean,viewAzimuthMean",
            f"S2A_MSIL2A_20180511T105031_N0207_R051_T31UDS_20180511T130000.SAFE,{sz},{sa},{vz},{va - 360}",
        ),
        "earth engine": table(
            folder / "d.csv",
            earth_engine,
            f"20180511T105031_20180511T105026_T31UDS,{sz},{sa},{vz - 1},{vz + 1},{va - 4},{va + 4}",
        ),
        "stac": item(folder / "e.json", **stac, view__incidence_angle=vz, view__off_nadir=1.0),
        "stac off nadir": item(folder / "f.json", **stac, view__off_nadir=off_nadir),
        "planetary computer": item(
            folder / "g.json",
            s2__mean_solar_zenith=sz,
            s2__mean_solar_azimuth=sa,
            view__sun_elevation=0.0,  # the zenith goes before it
            view__incidence_angle=vz,
            view__azimuth=va,
        ),
        "granule": granule(folder / "h.xml", (sz, sa), [(vz - 1, va - 4), (vz + 1, va + 4), ("NaN", "NaN")]),
        "granule's grids": granule(folder / "i.xml", None, [], sun_grid + view_grids),
    }


def test_every_source_gives_the_same(tmp_path: Path) -> None:
    for name, path in sources(tmp_path).items():
        angles = Angles.open("s2", [path])
        values = angles.of([DAY])
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, [channels(*DEGREES)], atol=2e-6, err_msg=name)
        assert angles.files == (str(path),)
        assert angles.warnings == []
    assert angles.channels == AUX["s2"].channels[-6:]


def test_incidence_of_sentinel_1(tmp_path: Path) -> None:
    days = [date(2017, 8, 1), date(2017, 8, 6), date(2017, 8, 7)]
    orbits = [161, 59, 161]
    wanted = np.cos(np.radians([[39.0], [33.5], [39.0]]))
    rows = [f"{day},{orbit},{39.0 if orbit == 161 else 33.5}" for day, orbit in zip(days, orbits, strict=True)]
    per_date = table(tmp_path / "dates.csv", "date,relative_orbit,incidence_angle", *rows)
    np.testing.assert_allclose(Angles.open("s1", [per_date]).of(days), wanted, atol=1e-6)
    per_orbit = table(tmp_path / "orbits.csv", "relative_orbit,local_incidence_angle", "161,39", "59,33.5")
    for given in ([per_orbit], ["161=39", "59:33.5"], [33.5, "161=39"]):
        np.testing.assert_allclose(Angles.open("s1", given).of(days, orbits), wanted, atol=1e-6)
    np.testing.assert_allclose(Angles.open("s1", [39]).of(days), np.full((3, 1), np.cos(np.radians(39))), atol=1e-6)
    stac = item(tmp_path / "s1.json", "S1A_IW_GRDH", view__incidence_angle=38.25)
    np.testing.assert_allclose(Angles.open("s1", [stac]).of([DAY]), [[np.cos(np.radians(38.25))]], atol=1e-6)
    with pytest.raises(InputError, match=r"missing incidence angle of 2017-08-06 orbit 59; add to --s1-angles"):
        Angles.open("s1", ["161=39"]).of(days, orbits)
    for given, whose in ((["38", "39"], "all dates"), (["161=39", "38", "161=40"], "relative orbit 161")):
        with pytest.raises(InputError, match=f"there is an angle of {whose} already"):  # not their mean
            Angles.open("s1", given)


def test_two_orbits_of_one_day_are_told_apart(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "date,orbit,incidence_angle", f"{DAY},59,33", f"{DAY},161,39")
    angles = Angles.open("s1", [path])
    values = angles.of([DAY, DAY], [161, 59])
    np.testing.assert_allclose(values[:, 0], np.cos(np.radians([39, 33])), atol=1e-6)
    with pytest.raises(InputError, match=r"angles of 2018-05-11 are of the orbits 59, 161, and the image does not say"):
        angles.of([DAY])


def test_directions_are_averaged_as_directions(tmp_path: Path) -> None:
    """Two tiles of one day whose azimuths lie on both sides of north."""
    header = "date,sun_zenith,sun_azimuth,view_zenith,view_azimuth"
    path = table(tmp_path / "a.csv", header, f"{DAY},30,150,4,350", f"{DAY},32,160,6,10")
    np.testing.assert_allclose(Angles.open("s2", [path]).of([DAY]), [channels(31, 155, 5, 0)], atol=1e-6)
    path = table(tmp_path / "b.csv", header, f"{DAY},30,150,4,90", f"{DAY},32,160,6,270")
    with pytest.raises(InputError, match="missing view azimuth of 2018-05-11"):
        Angles.open("s2", [path]).of([DAY])


def test_dates_come_in_the_order_asked(tmp_path: Path) -> None:
    header = "date,sun_zenith,sun_azimuth,view_zenith,view_azimuth"
    days = [date(2018, 1, day) for day in (5, 2, 9)]
    path = table(tmp_path / "a.csv", header, *(f"{day},{20 + day.day},150,4,100" for day in sorted(days)))
    values = Angles.open("s2", [path]).of(days)
    np.testing.assert_allclose(values[:, 0], np.cos(np.radians([25, 22, 29])), atol=1e-6)
    assert Angles.open("s2", [path]).of([]).shape == (0, 6)


def test_what_is_missing_is_named_or_replaced_by_the_median(tmp_path: Path) -> None:
    path = table(
        tmp_path / "a.csv",
        "date,sun_zenith,sun_azimuth,view_zenith,view_azimuth",
        "2018-05-11,35,155,8,285",
        "2018-05-14,36,156,,nan",
    )
    days = [DAY, date(2018, 5, 14), *(date(2018, 6, day) for day in range(1, 8))]
    with pytest.raises(InputError) as failure:
        Angles.open("s2", [path]).of(days)
    assert str(failure.value) == (
        "Sentinel-2 L2A: missing view zenith, view azimuth of 2018-05-14; sun zenith, sun azimuth, view zenith, "
        "view azimuth of 2018-06-01, 2018-06-02, 2018-06-03, 2018-06-04, 2018-06-05 and 2 more; add to --s2-angles, or "
        "take the training's median with --angles median"
    )
    angles = Angles.open("s2", [path], "median")
    for _ in range(2):  # the warning is given once
        values = angles.of(days)
        (warning,) = angles.warnings
    assert "missing view zenith, view azimuth of 2018-05-14" in warning
    assert "the training's median is used" in warning
    np.testing.assert_allclose(values[0], channels(*DEGREES), atol=1e-6)
    np.testing.assert_allclose(values[1, :3], channels(36, 156, 0, 0)[:3], atol=1e-6)
    np.testing.assert_allclose(values[1, 3:], AUX["s2"].med[13:], rtol=1e-6)
    np.testing.assert_allclose(values[2:], np.tile(AUX["s2"].med[10:], (7, 1)), rtol=1e-6)


def test_without_angles(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no angles given; MALICE Aux needs sun zenith, .* --angles median"):
        Angles.open("s2", [])
    angles = Angles.open("s1", [], "median")
    np.testing.assert_allclose(angles.of([DAY]), [[AUX["s1"].med[3]]], rtol=1e-6)
    assert "incidence angle of 2018-05-11" in angles.warnings[0]


def test_a_folder_of_products_or_items(tmp_path: Path) -> None:
    product = "S2A_MSIL2A_20180511T105031_N0207_R051_T31UDS_20180511T130000.SAFE"
    granule(tmp_path / "p" / product / "GRANULE" / "L2A_T31UDS" / "MTD_TL.xml", DEGREES[:2], [DEGREES[2:]])
    angles = Angles.open("s2", [tmp_path / "p"])
    np.testing.assert_allclose(angles.of([DAY]), [channels(*DEGREES)], atol=1e-6)
    assert angles.records[0].orbit == 51
    items = tmp_path / "q"
    items.mkdir()
    sources(items)
    for path in items.glob("[!efg].*"):
        path.unlink()
    assert len(Angles.open("s2", [items]).records) == 3
    with pytest.raises(InputError, match="no angles in this folder"):
        Angles.open("s1", [tmp_path])


def test_a_collection_of_items(tmp_path: Path) -> None:
    features = []
    for day, azimuth in ((11, 150), (14, 160)):
        view = {"view:sun_elevation": 50, "view:sun_azimuth": azimuth, "view:incidence_angle": 5, "view:azimuth": 100}
        features.append(
            {"id": "x", "properties": {"start_datetime": f"2018-05-{day}T10:50:31Z", "datetime": None} | view}
        )
    (tmp_path / "all.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    values = Angles.open("s2", [tmp_path / "all.json"]).of([date(2018, 5, 14), DAY])
    np.testing.assert_allclose(values, [channels(40, 160, 5, 100), channels(40, 150, 5, 100)], atol=1e-6)


HEADER = "date,sun_zenith,sun_azimuth,view_zenith,view_azimuth"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((HEADER, "2018-05-11,95,155,8,285"), r"a\.csv, line 2: sun zenith of 2018-05-11 is 95, possible are 0 to 90 "),
        ((HEADER, "2018-05-11,35,155,-8,285"), r"view zenith of 2018-05-11 is -8, possible are 0 to 90"),
        ((HEADER, "2018-05-11,35,-200,8,285"), r"sun azimuth of 2018-05-11 is -200, possible are -180 to 360"),
        ((HEADER, "2018-05-11,35,155,8,361"), r"view azimuth of 2018-05-11 is 361"),
        ((HEADER, "2018-05-11,35,x,8,285"), r"a\.csv, line 2: sun_azimuth of 2018-05-11 is 'x', no number"),
        ((HEADER, "11 May,35,155,8,285"), r"a\.csv, line 2: no date in '11 May'; write it as YYYY-MM-DD"),
        (
            (HEADER, "2018-05-11,0.6,2.7,0.1,4.9"),
            r"sun zenith is at most 0\.6 on all dates: radians or cosines\? .*degrees",
        ),
        ((HEADER,), r"a\.csv: has no header line and rows"),
        (("date,share", "2018-05-11,1"), r"no angle among its columns date, share; wanted are date and, .* sun_zenith"),
        (("sun_zenith,x", "35,1"), r"no column of dates among sun_zenith, x; add one called date"),
        (("date,sun_zenith,SZA", "2018-05-11,35,35"), r"sun_zenith, SZA all name the sun zenith; keep one of them"),
        (("date,orbit,sza", "2018-05-11,300,35"), r"relative orbit '300' is none of 1 to 175"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message) as failure:
        Angles.open("s2", [table(tmp_path / "a.csv", *lines)])
    assert "\n" not in str(failure.value)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    def refused(path: object, message: str, sensor: str = "s2") -> None:
        with pytest.raises(InputError, match=message):
            Angles.open(sensor, [path])  # type: ignore[list-item]

    refused(tmp_path / "no.csv", r"no\.csv: no such file or folder")
    refused(table(tmp_path / "a.json", "{"), r"a\.json: is no JSON")
    refused(table(tmp_path / "b.json", "[]"), "holds no STAC item")
    refused(table(tmp_path / "c.json", '{"type": "Feature"}'), "is no STAC item")
    refused(table(tmp_path / "d.json", '{"properties": {}, "id": "x"}'), "'x' has no datetime")
    refused(item(tmp_path / "e.json", view__sun_elevation=-14), r"sun zenith of 2018-05-11 is 104, possible are 0")
    refused(table(tmp_path / "a.tif", ""), "angles a pixel, in bands of rasters, cannot be used")
    refused(table(tmp_path / "a.doc", ""), "no kind of file with angles; give a CSV")
    refused(38.5, "one number is only for Sentinel-1")
    refused(138.5, r"--s1-angles 138\.5: incidence angle is 138\.5, possible are 0 to 90", "s1")
    refused("200=38.5", "relative orbit 200 is none of 1 to 175", "s1")
    refused(0.77, "radians or cosines", "s1")
    (tmp_path / "f.csv").write_bytes(b"date,sun_zenith\n2018-05-11,\xff\n")
    refused(tmp_path / "f.csv", "no UTF-8 text")
    with pytest.raises(InputError, match="'scl' has no angles"):
        Angles.open("scl", [])
    with pytest.raises(InputError, match="--angles zero is none of error, median"):
        Angles.open("s2", [], "zero")


def test_wrong_metadata_of_granules_is_refused(tmp_path: Path) -> None:
    def refused(text: str | bytes, message: str) -> None:
        path = tmp_path / "MTD_TL.xml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(InputError, match=rf"MTD_TL\.xml: {message}"):
            Angles.open("s2", [path])

    refused("<a>", "is no whole XML")
    refused("<a/>", "has no Tile_Angles; give the MTD_TL.xml of the granule")
    entity = '<?xml version="1.0" encoding="{}"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'
    refused(entity.format("UTF-8"), "declares a document type")
    refused(entity.format("UTF-16").encode("utf-16"), "declares a document type")  # whatever the bytes look like
    refused(granule(tmp_path / "a.xml", (95, 155), [(8, 285)]).read_text(), "sun zenith of 2018-05-11 is 95")
    refused(granule(tmp_path / "a.xml", (35, "x"), [(8, 285)]).read_text(), "sun azimuth of 2018-05-11 is 'x'")
    text = granule(tmp_path / "a.xml", (35, 155), [(8, 285)]).read_text()
    refused(text.replace("SENSING_TIME", "OTHER_TIME"), "has no SENSING_TIME")


def test_the_real_tables(testdata: Path) -> None:
    site = testdata / "data" / "site_a"
    with (site / "S2_dates.csv").open() as file:
        rows = list(csv.DictReader(file))
    days = [date.fromisoformat(row["acquisition_utc"][:10]) for row in rows]
    names = ("sun_zenith", "sun_azimuth", "view_zenith_mean", "view_azimuth_mean")
    wanted = [channels(*(float(row[name]) for name in names)) for row in rows]
    values = Angles.open("s2", [site / "S2_dates.csv"]).of(days)
    assert values.shape == (118, 6)
    np.testing.assert_allclose(values, wanted, atol=1e-6)
    low, high = np.array(AUX["s2"].qmin[10:]), np.array(AUX["s2"].qmax[10:])
    assert ((values > low - 0.1) & (values < high + 0.1)).mean() > 0.9
    with pytest.raises(InputError, match=r"S1_dates\.csv: no angle among its columns file, .* incidence_angle"):
        Angles.open("s1", [site / "S1_dates.csv"])
