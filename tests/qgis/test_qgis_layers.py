"""Layers become names the engine opens: dates from temporal ranges, layers that live in QGIS only, bands."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import threading
from datetime import date
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from malice_qgis import dating, layers, wrappers
from osgeo import gdal
from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsDateTimeRange,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsProject,
    QgsRasterLayer,
    QgsRasterLayerTemporalProperties,
    QgsRasterRange,
)
from qgis.PyQt.QtCore import QDate, QDateTime, QTime

from helpers_qgis import S2_BANDS, command_line, pixels


def layer_of(path: object, name: str = "", day: date | None = None, days: int = 1) -> QgsRasterLayer:
    """A layer, with a temporal range if ``day`` is given."""
    layer = QgsRasterLayer(str(path), name or Path(str(path)).stem, "gdal")
    assert layer.isValid(), path
    if day:
        begin = QDate(day.year, day.month, day.day)
        span = QgsDateTimeRange(QDateTime(begin, QTime(0, 0)), QDateTime(begin.addDays(days - 1), QTime(23, 59, 59)))
        layer.temporalProperties().setMode(dating.fixed_range())
        layer.temporalProperties().setFixedTemporalRange(span)
        layer.temporalProperties().setIsActive(True)
    return layer


def test_dates_of_temporal_ranges(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, engine: str
) -> None:
    """Images without dates in names, dated by their layers, give the same numbers as the dated ones."""
    dated, undated = (sorted((scene / name).glob("*.tif")) for name in ("S2", "undated"))
    days = [dating.days_in(path.stem)[0] for path in dated]
    chosen = [layer_of(path, day=day) for path, day in zip(undated, days, strict=True)]
    algorithm = provider.algorithm("embed").create()
    parameters = {"INPUT_S2": chosen, "MODEL": "tiny", "OUTPUT": str(tmp_path / "q.tif"), "QUERIES": "0"}
    assert algorithm.checkParameterValues(parameters, context) == (True, "")
    results, good = algorithm.run(parameters, context, QgsProcessingFeedback())
    assert good
    command_line(engine, scene, "--s2", scene / "S2", "--queries", "0", "--output", tmp_path / "s.tif")
    assert pixels(Path(results["OUTPUT"])) == pixels(tmp_path / "s.tif")


def test_a_layer_without_a_date_is_refused_by_name(context: QgsProcessingContext, scene: Path) -> None:
    path = scene / "undated" / "image a.tif"
    with pytest.raises(layers.LayerError, match="'Monday' has no date"):
        layers.sources([layer_of(path, "Monday")], context)
    with pytest.raises(layers.LayerError, match=r"'Month'.*is no day"):
        layers.sources([layer_of(path, "Month", date(2018, 1, 1), 31)], context)


def test_only_a_fixed_range_of_a_day_is_a_date(context: QgsProcessingContext, scene: Path) -> None:
    """Open ranges, other modes and inactive ranges give no date, whatever else they hold."""
    path = scene / "undated" / "image a.tif"
    begin = QDateTime(QDate(2018, 1, 5), QTime(0, 0))
    for span in (QgsDateTimeRange(begin, QDateTime()), QgsDateTimeRange(QDateTime(), begin)):
        layer = layer_of(path, "Open", date(2018, 1, 5))
        layer.temporalProperties().setFixedTemporalRange(span)
        with pytest.raises(layers.LayerError, match=r"'Open'.*….*is no day"):
            layers.sources([layer], context)
    backwards = layer_of(path, "Open", date(2018, 1, 5))
    backwards.temporalProperties().setFixedTemporalRange(QgsDateTimeRange(begin, begin.addDays(-3)))
    with pytest.raises(layers.LayerError, match="is no day"):
        layers.sources([backwards], context)
    redrawn = layer_of(path, "Redrawn", date(2018, 1, 5))
    other = getattr(Qgis, "RasterTemporalMode", None)
    other = other.RedrawLayerOnly if other else QgsRasterLayerTemporalProperties.ModeRedrawLayerOnly
    redrawn.temporalProperties().setMode(other)
    inactive = layer_of(path, "Inactive", date(2018, 1, 5))
    inactive.temporalProperties().setIsActive(False)
    for layer in (redrawn, inactive):
        with pytest.raises(layers.LayerError, match=f"'{layer.name()}' has no date"):
            layers.sources([layer], context)


NAMES = [
    *("S2_20180105", "a_2018-01-05", "x_2018005", "x_2018366", "x_20180230", "x_20131231", "x_12345678"),
    *("12018010512", "20180511", "2018-05-11_1030", "2018.05.11", "x2018_05_11y", "20180101_20180105", "none"),
    *("20180105T105031", "S2A_MSIL2A_20180511T105031_N0207_R051_T31UFS_20180511T125634"),
    *("SENTINEL2A_20180511-105029-461_L2A_T31UFS_C_V2-2", "HLS.S30.T31UFS.2018131T105031.v2.0"),
    "T31UFS_20180511T105031_B02",
]
TAGS: tuple[dict[str, str], ...] = (
    {"TIFFTAG_DATETIME": "2018:01:05 10:00:00"},
    {"TIFFTAG_DATETIME": "yesterday"},
    {"PROCESSING_DATE": "2018-01-05"},
    {"ACQUISITION_DATE": "20180105"},
    {"DATE_ACQUIRED": "2018-01-05"},
    {"NC_GLOBAL#time_coverage_start": "2018-01-05T10:00:00Z"},
    {"PRODUCT_URI": "S2A_MSIL2A_20180511T105031_N0207_R051_T31UFS_20180511T125634.SAFE"},
    {"PRODUCT_URI": "whatever"},
    {"GENERATION_TIME": "2018-01-05"},
    {"DATATAKE_1_DATATAKE_SENSING_START": "2018-05-11T10:50:31.026Z"},
    {"START_TIME": "2010-01-01"},
    {"TIFFTAG_SOFTWARE": "2018-01-05"},
    {"STOP_DATE": "2018-01-05"},
)
ENGINES_RULES = """
import json, sys
from malice_core.errors import StackError
from malice_core.images import dates
def of(name):
    try:
        found = dates.from_name(name, name).date
    except StackError:
        return "two"
    return found.isoformat() if found else ""
names, tags = json.load(sys.stdin)
json.dump([list(map(of, names)), [dates.from_tags(one).date is not None for one in tags]], sys.stdout)
"""


def test_dates_are_seen_where_the_engine_sees_them(engine_python: str, qgis_app: object) -> None:
    """The plugin's copy of the engine's rules says the same."""
    done = subprocess.run(
        [engine_python, "-I", "-c", ENGINES_RULES],
        input=json.dumps([NAMES, TAGS]),
        capture_output=True,
        text=True,
        check=True,
    )
    days, tagged = json.loads(done.stdout)
    for name, day in zip(NAMES, days, strict=True):
        if not dating.is_product(name):
            found = dating.days_in(name)
            assert (found[0].isoformat() if len(found) == 1 else "two" if found else "") == day, name
        else:
            assert day, name
    assert [dating.in_tags(one) for one in TAGS] == tagged


def test_what_was_set_in_qgis_only_is_refused_by_name(context: QgsProcessingContext, scene: Path) -> None:
    """CRS and nodata of a layer that its file does not know."""
    path = scene / "S2" / "S2_20180105.tif"
    moved = layer_of(path, "Moved")
    moved.setCrs(QgsCoordinateReferenceSystem("EPSG:32632"))
    with pytest.raises(layers.LayerError, match=r"'Moved' was given the CRS EPSG:32632 .* says EPSG:32631"):
        layers.sources([moved], context)
    cut = layer_of(path, "Cut")
    cut.dataProvider().setUserNoDataValue(2, [QgsRasterRange(5, 5)])
    blind = layer_of(path, "Blind")
    blind.dataProvider().setUseSourceNoDataValue(1, False)
    for layer in (cut, blind):
        with pytest.raises(layers.LayerError, match=f"'{layer.name()}' has nodata settings"):
            layers.sources([layer], context)


def test_numbered_bands_are_taken_in_their_order(
    provider: object, context: QgsProcessingContext, scene: Path, tmp_path: Path, engine: str
) -> None:
    """Descriptions Band 1 … Band 10 are numbers, not names."""
    (tmp_path / "S2").mkdir()
    for path in sorted((scene / "S2").glob("*.tif")):
        copy = tmp_path / "S2" / path.name
        shutil.copy(path, copy)
        dataset = gdal.Open(str(copy), gdal.GA_Update)
        for number in range(1, 11):
            dataset.GetRasterBand(number).SetDescription(f"Band {number}")
        dataset = None
    chosen = [layer_of(path) for path in sorted((tmp_path / "S2").glob("*.tif"))]
    output = run(provider, context, tmp_path / "q.tif", INPUT_S2=chosen)
    command_line(engine, scene, "--s2", scene / "S2", "--queries", "0", "--output", tmp_path / "s.tif")
    assert pixels(output) == pixels(tmp_path / "s.tif")


def test_a_bar_may_be_part_of_a_name(context: QgsProcessingContext, scene: Path, tmp_path: Path) -> None:
    """QGIS writes options behind a bar; folders and files may have one as well."""
    image = scene / "S2" / "S2_20180105.tif"
    (tmp_path / "a|b").mkdir()
    for name in ("S2_20180105.tif", "S2_20180105.tif|other_20180105.tif", "a|b/S2_20180105.tif"):
        path = shutil.copy(image, tmp_path / name)
        (source,) = layers.sources([layer_of(path, name)], context)
        assert source.path == str(path)
    (source,) = layers.sources([layer_of(f"{image}|option:NUM_THREADS=2", "with an option")], context)
    assert source.path == str(image)


def test_no_network_before_a_run(context: QgsProcessingContext, scene: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images on object stores are not opened to look for dates."""
    layer = layer_of(scene / "undated" / "image a.tif", "far")
    monkeypatch.setattr(layers, "open_raster", lambda _: pytest.fail("opened"))
    for system in ("/vsicurl/http://host", "/vsis3", "/vsigs", "/vsiaz", "/vsizip//vsis3_streaming"):
        assert layers._dating(layer, f"{system}/bucket/image.tif") == ("", None)


def test_two_dates_in_a_name_are_settled_by_the_range(
    context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    path = shutil.copy(scene / "undated" / "image a.tif", tmp_path / "S2_20180101_20180131.tif")
    with pytest.raises(layers.LayerError, match="two dates"):
        layers.sources([layer_of(path)], context)
    (source,) = layers.sources([layer_of(path, day=date(2018, 1, 7))], context)
    assert source.stem == "S2_20180107"


@pytest.mark.parametrize(
    "name",
    ["S2_20180105.tif", "a_2018-01-05.tif", "x_2018005.tif", "T31UDS_20180105T105031_B02_10m.tif"],
)
def test_names_with_a_date_go_as_they_are(
    context: QgsProcessingContext, scene: Path, tmp_path: Path, name: str
) -> None:
    path = shutil.copy(scene / "undated" / "image a.tif", tmp_path / name)
    (source,) = layers.sources([layer_of(path, day=date(2020, 2, 2))], context)
    assert (source.path, source.day) == (str(path), None)


def test_dates_in_tags_go_as_they_are(context: QgsProcessingContext, scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "tagged.tif"
    gdal.Translate(str(path), str(scene / "undated" / "image a.tif"), metadataOptions=["TIFFTAG_DATETIME=2018:01:05"])
    (source,) = layers.sources([layer_of(path)], context)
    assert (source.path, source.day) == (str(path), None)


def test_a_raster_of_a_geopackage_is_dated_by_its_table(
    context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    """A GeoPackage holds 8 bits and 4 bands at most: enough for a classification."""
    package = tmp_path / "classes.gpkg"
    image = str(scene / "S2" / "S2_20180105.tif")
    classes = gdal.Translate("", image, format="MEM", bandList=[1], outputType=gdal.GDT_Byte)
    classes.GetRasterBand(1).Fill(4)
    gdal.Translate(str(package), classes, format="GPKG", creationOptions=["RASTER_TABLE=SCL_20180105"])
    layer = QgsRasterLayer(f"GPKG:{package}:SCL_20180105", "classes", "gdal")
    assert layer.isValid()
    (source,) = layers.sources([layer], context)
    assert (source.stem, source.day) == ("SCL_20180105", date(2018, 1, 5))
    made = wrappers.Wrappers(str(tmp_path / "e.tif"))
    (path,) = made.give([source], "s2")
    again = Path(path).stat().st_mtime_ns
    assert made.give([source], "s2") == [path]
    assert Path(path).stat().st_mtime_ns == again
    wrapped, original = gdal.Open(path), gdal.Open(f"GPKG:{package}:SCL_20180105")
    assert wrapped.GetMetadataItem("TIFFTAG_DATETIME") == "2018:01:05 00:00:00"
    assert wrapped.ReadRaster() == original.ReadRaster()


def test_sources_never_share_a_wrapper(context: QgsProcessingContext, scene: Path, tmp_path: Path) -> None:
    """Rasters of one name in two containers have a wrapper each; two files that would share one are refused."""
    image = str(sorted((scene / "undated").glob("*.tif"))[0])
    day = date(2018, 1, 5)
    made = wrappers.Wrappers(str(tmp_path / "e.tif"))
    for name in ("a", "b"):
        gdal.Translate(str(tmp_path / f"{name}.gpkg"), image, format="GPKG", bandList=[1], outputType=gdal.GDT_Byte,
                       creationOptions=["RASTER_TABLE=T_20180105"])  # fmt: skip
    tables = [f"GPKG:{tmp_path / name}.gpkg:T_20180105" for name in ("a", "b")]
    given = made.give([layers.Source("t", table, "T_20180105", day) for table in tables], "s2")
    assert len(set(given)) == 2
    (tmp_path / "x.tif").write_bytes(Path(image).read_bytes())
    (tmp_path / "x.tiff").write_bytes(Path(image).read_bytes())
    twice = [layers.Source("x", str(tmp_path / name), "x_20180105", day) for name in ("x.tif", "x.tiff")]
    with pytest.raises(layers.LayerError, match="same name and date"):
        made.give(twice, "s2")
    # Images and their classification may well have names that are alike.
    assert made.give(twice[:1], "s2") != made.give(twice[1:], "scl")


def test_wrappers_nobody_can_go_on_with_are_removed(
    context: QgsProcessingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a cancelled run: kept while its scratch is there, or while it is young."""
    output = tmp_path / "e.tif"
    kept = Path(wrappers.Wrappers(str(output)).path("s2.txt")).parent
    wrappers.tidy()
    assert kept.exists()
    monkeypatch.setattr(wrappers, "OLD", 0.0)
    Path(str(output) + wrappers.SCRATCH).mkdir()
    wrappers.tidy()
    assert kept.exists()
    Path(str(output) + wrappers.SCRATCH).rmdir()
    wrappers.tidy()
    assert not kept.exists()


def test_a_folder_that_vanishes_and_one_that_cannot_be_written(
    context: QgsProcessingContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another QGIS tidies too; a profile may be read-only."""
    made = wrappers.Wrappers(str(tmp_path / "e.tif"))
    folder = Path(made.path("s2.txt")).parent
    real = wrappers.os.path.getmtime

    def vanishing(path: str) -> float:
        if path == str(folder):
            shutil.rmtree(folder)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(wrappers.os.path, "getmtime", vanishing)
        wrappers.tidy()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wrappers.os, "makedirs", full)
    with pytest.raises(layers.LayerError, match=r"profile cannot be written to .*No space left"):
        made.path("s2.txt")


def test_layers_that_live_in_qgis_only_are_refused_by_name(
    context: QgsProcessingContext, scene: Path, tmp_path: Path
) -> None:
    gdal.Translate("/vsimem/S2_20180105.tif", str(scene / "S2" / "S2_20180105.tif"))
    with pytest.raises(layers.LayerError, match="'inside' is in the memory of QGIS"):
        layers.sources([layer_of("/vsimem/S2_20180105.tif", "inside")], context)
    gdal.Unlink("/vsimem/S2_20180105.tif")
    tiles = QgsRasterLayer("type=xyz&url=http://127.0.0.1:9/{z}/{x}/{y}.png", "tiles of the web", "wms")
    with pytest.raises(layers.LayerError, match=r"'tiles of the web' \(wms\)"):
        layers.sources([tiles], context)


def test_layers_of_the_project_are_found_by_id_and_name(context: QgsProcessingContext, scene: Path) -> None:
    layer = layer_of(scene / "S2" / "S2_20180105.tif", "first")
    QgsProject.instance().addMapLayer(layer)
    for given in (layer.id(), "first", [layer.id()], layer):
        (source,) = layers.sources(given, context)
        assert source.path == str(scene / "S2" / "S2_20180105.tif")
    QgsProject.instance().clear()


def test_missing_bands_are_named(context: QgsProcessingContext, scene: Path, tmp_path: Path) -> None:
    part = tmp_path / "S2_20180105.tif"
    gdal.Translate(str(part), str(scene / "S2" / "S2_20180105.tif"), bandList=[1, 2, 3, 7])
    found = layers.sources([layer_of(part, "four")], context)
    assert layers.missing_bands(found, layers.S2_BANDS).startswith("None of the chosen layers ('four' …) has the band")
    assert "B05, B06, B07, B8A, B11, B12" in layers.missing_bands(found, layers.S2_BANDS)
    whole = layers.sources([layer_of(scene / "S2" / "S2_20180115.tif")], context)
    assert layers.missing_bands(whole, layers.S2_BANDS) == ""
    radar = layers.sources([layer_of(scene / "S1" / "S1_20180105.tif")], context)
    assert layers.missing_bands(radar, layers.S1_BANDS) == ""


def run(provider: object, context: QgsProcessingContext, output: Path, **parameters: object) -> Path:
    """Runs ``malice:embed`` with one query of the model ``tiny``."""
    algorithm = provider.algorithm("embed").create()
    given = {"MODEL": "tiny", "QUERIES": "0", "OUTPUT": str(output), **parameters}
    assert algorithm.checkParameterValues(given, context) == (True, "")
    results, good = algorithm.run(given, context, QgsProcessingFeedback())
    assert good
    return Path(results["OUTPUT"])


def test_variables_of_real_netcdf_cubes_are_layers(
    provider: object, context: QgsProcessingContext, tmp_path: Path, engine: str, scene: Path, testdata: Path
) -> None:
    """The variables of the cubes, each a layer, give what the cubes and the images made of them give."""
    cubes = sorted((testdata / "data" / "site_a" / "original_nc").glob("S2_*.nc"))
    names = [name for cube in cubes for name, _ in gdal.Open(str(cube)).GetSubDatasets() if name[-3:] in S2_BANDS]
    chosen = [layer_of(name, name[-3:]) for name in names]
    assert len(chosen) == 10
    dates = {"DATE_FROM": "2018-05-01", "DATE_TO": "2018-05-10"}
    output = run(provider, context, tmp_path / "q.tif", INPUT_S2=chosen, **dates)
    options = ("--dates", "2018-05-01/2018-05-10", "--queries", "0", "--output")
    command_line(engine, scene, "--s2", *cubes, *options, tmp_path / "s.tif")
    assert pixels(output) == pixels(tmp_path / "s.tif")


def test_images_on_a_server_are_layers(
    provider: object, context: QgsProcessingContext, tmp_path: Path, engine: str, scene: Path
) -> None:
    """/vsicurl/ layers with dates in their names, and without, dated by their temporal range."""
    handler = functools.partial(RangeHandler, directory=str(scene))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"/vsicurl/http://127.0.0.1:{server.server_port}"
        dated, undated = (sorted((scene / name).glob("*.tif")) for name in ("S2", "undated"))
        days = [dating.days_in(path.stem)[0] for path in dated]
        chosen = [layer_of(f"{root}/S2/{path.name}") for path in dated[:2]]
        chosen += [
            layer_of(f"{root}/undated/{path.name.replace(' ', '%20')}", day=day)
            for path, day in zip(undated[2:], days[2:], strict=True)
        ]
        output = run(provider, context, tmp_path / "q.tif", INPUT_S2=chosen)
        server.shutdown()
    command_line(engine, scene, "--s2", scene / "S2", "--queries", "0", "--output", tmp_path / "s.tif")
    assert pixels(output) == pixels(tmp_path / "s.tif")


class RangeHandler(SimpleHTTPRequestHandler):
    """A quiet server of files that answers requests for a part, as /vsicurl/ makes them."""

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not wanted or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(content[first : last + 1])
