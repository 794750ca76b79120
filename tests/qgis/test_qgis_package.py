"""The zip: installed into a clean profile it is there, sets up its engine offline, and embeds."""

from __future__ import annotations

import collections
import json
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal, ogr

from helpers_qgis import OFFLINE, ROOT, Shell, one_line, untouched, wait_until
from helpers_setup import WHEELS, Kit, home, processes


def unzipped(archive: Path, profile: Path) -> Shell:
    """``qgis_process`` in a new profile, with the plugin out of the zip; no engine is named to it."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(profile / "profiles" / "default" / "python" / "plugins")
    return untouched(profile, "[PythonPlugins]\nmalice_qgis=true\n")


def test_the_zip_holds_what_it_should(archive: Path) -> None:
    assert archive.stat().st_size <= 25_000_000
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        (wheel,) = [name for name in names if name.endswith(".whl")]
        with zipfile.ZipFile(opened.open(wheel)) as engine:
            inside = engine.namelist()
    wanted = ("metadata.txt", "LICENSE", "icons/malice.png", "setup/engine.lock", "setup/engine-cuda.lock")
    for name in (*wanted, "i18n/malice_qgis_fr.qm"):
        assert f"malice_qgis/{name}" in names
    assert not [name for name in names if name.endswith((".pyc", ".toml", ".ts")) or "/tests/" in name]
    assert any(name.endswith("share/malice/models/malice-sim/model.json") for name in inside)
    assert any(name.endswith("share/malice/models/malice-aux-sim/s2_spatial.onnx") for name in inside)
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "malice_core").rglob("*.py")}
    assert modules <= set(inside)


def test_a_clean_profile_shows_the_plugin_and_says_what_to_do(archive: Path, tmp_path: Path) -> None:
    shell = unzipped(archive, tmp_path)
    listed = shell("list").stdout
    assert "malice:embed" in listed
    assert "malice:setup" in listed
    refused = shell("run", "malice:embed", "--", f"FOLDER_S2={tmp_path}", f"OUTPUT={tmp_path / 'e.tif'}")
    assert refused.returncode == 1
    assert "malice:setup" in one_line(refused.stderr)


def test_a_killed_qgis_leaves_no_process_and_the_old_engine(archive: Path, tmp_path: Path) -> None:
    """With tiny packages in place of the real ones."""
    shell = unzipped(archive, tmp_path)
    kit = Kit(tmp_path / "kit")
    plugin = tmp_path / "profiles" / "default" / "python" / "plugins" / "malice_qgis"
    shutil.copy(kit.lock, plugin / "setup" / "engine.lock")
    shutil.rmtree(plugin / "engine_source")
    shutil.copytree(kit.source, plugin / "engine_source")
    run = ("run", "malice:setup", "--", f"WHEELS={kit.wheels}")
    done = shell(*run, "ACTION=install")
    assert done.returncode == 0, done.stderr
    engines = home(tmp_path) / "engine"
    process = shell.start(*run, "ACTION=repair")
    wait_until(lambda: processes(str(engines / "2")), 30)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not processes(str(engines)), 2)
    assert (engines / "current").read_text(encoding="ascii").strip() == "1"
    assert "VERSION:\t9.1" in shell("run", "malice:setup", "--", "ACTION=check").stdout
    done = shell(*run, "ACTION=repair")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted(engines.iterdir()) if path.is_dir()] == ["2"]
    done = shell("run", "malice:setup", "--", "ACTION=remove")
    assert done.returncode == 0, done.stderr
    assert [path for path in engines.iterdir() if path.is_dir()] == []


@pytest.mark.acceptance
@pytest.mark.skipif(not WHEELS, reason="MALICE_WHEELS is not set: a folder of wheels for engine.lock")
def test_from_the_zip_to_maps_without_a_network(archive: Path, tmp_path: Path) -> None:
    """What someone does who has never opened a terminal, by the same algorithms: a clean profile, the zip, the set-up,
    a look at the images, embeddings, colours, a map of crops, and what has changed. By dialogs: test_qgis_walk.py."""
    shell = unzipped(archive, tmp_path / "a profile")
    shell.environment.update(OFFLINE)

    def step(name: str, **given: object) -> str:
        done = shell("run", f"malice:{name}", "--", *(f"{key}={value}" for key, value in given.items()))
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert "computes on openvino (cpu), onnxruntime (cpu)" in step("setup", ACTION="install", WHEELS=WHEELS)
    scene = tmp_path / "scene"
    python = home(tmp_path / "a profile") / "engine" / "1" / "bin" / "python"
    simulate = [python, "-I", "-m", "malice_core.simulate", "--size", "96", "--s2-dates", "8", "--s1-dates", "0"]
    subprocess.run([*map(str, simulate), str(scene)], check=True, capture_output=True)
    images = {"FOLDER_S2": scene / "S2", "FOLDER_SCL": scene / "SCL"}
    step("inspect", **images, REPORT=tmp_path / "images.html", TABLE=tmp_path / "dates.gpkg")
    assert "<svg" in (tmp_path / "images.html").read_text(encoding="utf-8")
    dates = ogr.Open(str(tmp_path / "dates.gpkg"))
    assert dates.GetLayer(0).GetFeatureCount() == 8
    # Everything that is not told is what the dialog offers.
    assert "model malice-sim" in step("embed", **images, MAX_CLOUD=100, OUTPUT=tmp_path / "year.tif")
    year = gdal.Open(str(tmp_path / "year.tif"))
    assert (year.RasterCount, year.RasterXSize, year.RasterYSize) == (640, 96, 96)
    middle = "2024-07-01"
    step("embed", **images, MAX_CLOUD=100, QUERIES="0", DATE_TO=middle, OUTPUT=tmp_path / "spring.tif")
    step("embed", **images, MAX_CLOUD=100, QUERIES="0", DATE_FROM=middle, OUTPUT=tmp_path / "autumn.tif")
    step("pca", INPUT=tmp_path / "year.tif", OUTPUT=tmp_path / "colours.tif")
    assert gdal.Open(str(tmp_path / "colours.tif")).RasterCount == 3
    crops = write_labels(scene / "labels.tif", tmp_path / "labels.geojson")
    made = {"OUTPUT": tmp_path / "crops.tif", "REPORT": tmp_path / "crops.html"}
    step("classify", INPUT=tmp_path / "year.tif", LABELS=tmp_path / "labels.geojson", FIELD="crop", **made)
    assert "<svg" in made["REPORT"].read_text(encoding="utf-8")
    found = gdal.Open(str(made["OUTPUT"]))
    assert set(np.unique(found.ReadAsArray())) <= set(range(1, len(crops) + 1))
    assert {one["name"] for one in json.loads(found.GetMetadataItem("MALICE_CLASSES")).values()} == crops
    step("change", BEFORE=tmp_path / "spring.tif", AFTER=tmp_path / "autumn.tif", OUTPUT=tmp_path / "change.tif")
    assert gdal.Open(str(tmp_path / "change.tif")).RasterCount == 3
    assert not list(tmp_path.glob("*.malice")) + list(tmp_path.glob("*.part"))


def write_labels(truth: Path, target: Path) -> set[str]:
    """Points with their class every few pixels, for all classes that lie at several; returns their names."""
    cover = gdal.Open(str(truth))
    left, step, _, top, _, down = cover.GetGeoTransform()
    band = cover.GetRasterBand(1)
    names = {key[6:]: name for key, name in cover.GetMetadata().items() if key.startswith("CLASS_")}
    codes = band.ReadAsArray()
    points = [(row, col, names.get(str(codes[row, col]), "")) for row in range(2, 96, 6) for col in range(2, 96, 6)]
    counts = collections.Counter(name for _, _, name in points)
    kept = {name for name, count in counts.items() if name and count >= 20}
    features = [
        {
            "type": "Feature",
            "properties": {"crop": name},
            "geometry": {"type": "Point", "coordinates": [left + (col + 0.5) * step, top + (row + 0.5) * down]},
        }
        for row, col, name in points
        if name in kept
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    target.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}), encoding="utf-8")
    return kept
