"""``malice_core.sample``: the numbers at points, exactly, with the points' attributes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_analysis import LEFT, RES, TOP, Array, events, process, run, smooth, write
from helpers_embed import free_names
from rasterio.warp import transform_geom

from malice_core import sample
from malice_core.errors import InputError, OutputError

SHAPE = (150, 290)


@pytest.fixture(scope="module")
def values() -> Array:
    return smooth(8, SHAPE)


@pytest.fixture
def embedding(tmp_path: Path, values: Array) -> Path:
    gone = np.zeros(SHAPE, bool)
    gone[10] = True
    return write(tmp_path / "e.tif", values, missing=gone)


#: Rows and columns, with parts of pixels; the last is outside, the one before has no data.
SPOTS = [(0.01, 0.01), (149.99, 289.99), (70.5, 3.25), (3.9, 200.1), (3.1, 200.9), (10.5, 7.5), (150.01, 7.5)]


def places(path: Path, *more: dict[str, Any]) -> Path:
    """Points in longitude and latitude."""
    features = [
        {
            "type": "Feature",
            "geometry": transform_geom("EPSG:32631", "OGC:CRS84", {"type": "Point", "coordinates": [x, y]}),
            "properties": {"number": number, "name": f'wheat, "{number}" é', "empty": None, "flag": True},
        }
        for number, (x, y) in enumerate((LEFT + col * RES, TOP - row * RES) for row, col in SPOTS)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [*features, *more]}), encoding="utf-8")
    return path


def wanted(values: Array) -> list[Array | None]:
    """(bands,) at each spot."""
    return [values[:, int(row), int(col)] if int(row) not in (10, 150) else None for row, col in SPOTS]


@pytest.mark.parametrize("memory", ["300MB", "2GB"])
def test_a_table_has_the_numbers_at_points(tmp_path: Path, embedding: Path, values: Array, memory: str) -> None:
    points, output = places(tmp_path / "p.geojson"), tmp_path / "t.csv"
    recorder = run(sample, "--input", embedding, "--points", points, "--output", output, "--memory", memory)
    assert recorder.warnings == ["2 of 7 points are outside, or have no data: their values are empty"]
    assert recorder.files == [f"{output}"]
    with open(output, encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    bands = [f"Q00F{number:02d}" for number in range(8)]
    assert names == ["number", "name", "empty", "flag", "x", "y", *bands]
    assert len(rows) == len(SPOTS)
    for number, (row, numbers) in enumerate(zip(rows, wanted(values), strict=True)):
        assert row[:4] == [f"{number}", f'wheat, "{number}" é', "", "true"]
        assert 2.9 < float(row[4]) < 3.1
        assert 50 < float(row[5]) < 51
        if numbers is None:
            assert row[6:] == [""] * 8
        else:
            np.testing.assert_array_equal(np.array(row[6:], np.float32), numbers)
            assert max(map(len, row[6:])) <= 14


def test_geojson_is_what_the_standard_says(tmp_path: Path, embedding: Path, values: Array) -> None:
    nowhere = {"type": "Feature", "geometry": None, "properties": {"number": 99}}
    pair = {"type": "MultiPoint", "coordinates": [[3.001, 50.54], [3.002, 50.54]]}
    points = places(tmp_path / "p.geojson", nowhere, {"type": "Feature", "geometry": pair, "properties": None})
    run(sample, "--input", embedding, "--points", points, "--output", tmp_path / "t.geojson", "--prefix", "y_")
    content = json.loads((tmp_path / "t.geojson").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    given = json.loads(points.read_text(encoding="utf-8"))["features"]
    assert len(content["features"]) == len(SPOTS) + 3
    for one, source, numbers in zip(content["features"], given, wanted(values), strict=False):
        assert one["geometry"] == source["geometry"]
        assert one["properties"]["name"] == source["properties"]["name"]
        found = [one["properties"][f"y_Q00F{number:02d}"] for number in range(8)]
        if numbers is None:
            assert found == [None] * 8
        else:
            np.testing.assert_array_equal(np.array(found, np.float32), numbers)
    assert content["features"][len(SPOTS)]["geometry"] is None
    assert content["features"][len(SPOTS)]["properties"]["y_Q00F00"] is None
    assert [one["geometry"]["coordinates"] for one in content["features"][-2:]] == pair["coordinates"]
    # What is written can be sampled again, under another prefix.
    again = ("--input", embedding, "--points", tmp_path / "t.geojson", "--output", tmp_path / "u.csv")
    with pytest.raises(InputError, match=r"has a field Y_Q00F00 already.*--prefix"):
        run(sample, *again, "--prefix", "Y_")
    run(sample, *again)
    with open(tmp_path / "u.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert row["y_Q00F03"] == "" or np.float32(row["y_Q00F03"]) == np.float32(row["Q00F03"])


@pytest.mark.parametrize("name", ["t.vrt", "t.zarr", "t.tif"])
def test_numbers_are_decoded(tmp_path: Path, values: Array, name: str) -> None:
    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    embedding = write(tmp_path / name, values, dtype="int8")
    points, output = places(tmp_path / "p.geojson"), tmp_path / "o.csv"
    run(sample, "--input", embedding, "--points", points, "--output", output)
    with open(output, encoding="utf-8", newline="") as file:
        row = list(csv.reader(file))[3]
    np.testing.assert_allclose(np.array(row[6:], np.float32), values[:, 70, 3], atol=2 / 127)


def test_attributes_keep_their_names(tmp_path: Path, embedding: Path) -> None:
    feature = {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [3.01, 50.54]},
        "properties": {"x": 7, "list": [1, "é"]},
    }
    (tmp_path / "p.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    run(sample, "--input", embedding, "--points", tmp_path / "p.geojson", "--output", tmp_path / "t.csv")
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["x"], row["x_of_point"], row["y"]) == ("7", "3.01", "50.54")
    assert json.loads(row["list"]) == [1, "é"]


def test_all_points_may_be_outside(tmp_path: Path, embedding: Path) -> None:
    shape = {"type": "Point", "coordinates": [10, 10]}
    feature = {"type": "Feature", "geometry": shape, "properties": {"n": 1}}
    (tmp_path / "p.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    arguments = ("--input", embedding, "--points", tmp_path / "p.geojson", "--output", tmp_path / "t.csv")
    recorder = run(sample, *arguments)
    assert recorder.warnings == ["1 of 1 points are outside, or have no data: their values are empty"]
    with open(tmp_path / "t.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["n"] == "1"
    assert row["Q00F07"] == ""


def test_what_cannot_be_is_refused(tmp_path: Path, embedding: Path) -> None:
    points = places(tmp_path / "p.geojson")
    square = {"type": "Polygon", "coordinates": [[[3, 50], [3.1, 50], [3.1, 50.1], [3, 50]]]}
    polygons = places(tmp_path / "q.geojson", {"type": "Feature", "geometry": square, "properties": {}})
    nothing = tmp_path / "n.geojson"
    nothing.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    before = free_names(tmp_path)
    start = ("--input", embedding, "--output", tmp_path / "t.csv", "--points")
    for arguments, words in (
        ([*start, polygons], r"--points: .*q\.geojson has polygons: give points"),
        ([*start, nothing], r"--points: .*n\.geojson has no points"),
        ([*start, tmp_path / "none.gpkg"], "--points: cannot read"),
        (["--input", embedding, "--points", points, "--output", points, "--overwrite"], "is an input"),
        (["--input", embedding, "--points", points, "--output", tmp_path / "t.xlsx"], r"ends in \.csv or \.geojson"),
        (["--input", points, *start[2:], points], "cannot open|no embedding"),
    ):
        with pytest.raises((InputError, OutputError), match=words):
            run(sample, *arguments)
    assert free_names(tmp_path) == before


def test_the_command_line(tmp_path: Path, embedding: Path) -> None:
    points = places(tmp_path / "p.geojson")
    arguments = ("--input", embedding, "--points", points, "--output", tmp_path / "t.csv", "--progress", "json")
    done = process("sample", *arguments)
    assert done.returncode == 0, done.stderr
    assert {event["event"] for event in events(done.stdout)} == {"progress", "warning", "done"}
    assert free_names(tmp_path) == ["e.tif", "p.geojson", "t.csv"]
