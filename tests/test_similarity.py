"""``malice_core.similarity`` against numpy on whole arrays, with points and polygons in any CRS."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers_analysis import LEFT, RES, TOP, Array, events, process, read, run, smooth, tags_of, write
from helpers_embed import free_names
from rasterio.warp import transform_geom

from malice_core import similarity
from malice_core.analysis import searching
from malice_core.errors import InputError, OutputError

SHAPE = (150, 290)


@pytest.fixture(scope="module")
def values() -> Array:
    return smooth(16, SHAPE)


@pytest.fixture(scope="module")
def gone() -> Array:
    return np.random.default_rng(3).random(SHAPE) < 0.1


@pytest.fixture
def embedding(tmp_path: Path, values: Array, gone: Array) -> Path:
    return write(tmp_path / "e.tif", values, missing=gone)


def point(row: float, col: float) -> dict[str, Any]:
    """A point by row and column, in EPSG:32631; .5 is the middle of a pixel."""
    return {"type": "Point", "coordinates": [LEFT + col * RES, TOP - row * RES]}


def rectangle(row: float, col: float, height: float, width: float) -> list[list[list[float]]]:
    x, y = LEFT + col * RES, TOP - row * RES
    right, bottom = x + width * RES, y - height * RES
    return [[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]]


def polygon(*where: float) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": rectangle(*where)}


def places(path: Path, shapes: Sequence[dict[str, Any] | None], rows: Sequence[dict[str, Any]] | None = None) -> Path:
    """A GeoJSON file, in longitude and latitude."""
    features = [
        {
            "type": "Feature",
            "geometry": None if shape is None else transform_geom("EPSG:32631", "OGC:CRS84", shape),
            "properties": row,
        }
        for shape, row in zip(shapes, rows or [{}] * len(shapes), strict=True)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def alike(values: Array, vector: Array, measure: str) -> Array:
    table, vector = values.astype(np.float64), vector.astype(np.float64)
    if measure == "euclidean":
        found: Array = 1 / (1 + np.sqrt(((table - vector[:, None, None]) ** 2).sum(axis=0)))
        return found
    cosine: Array = np.tensordot(vector, table, 1) / np.linalg.norm(vector) / np.linalg.norm(table, axis=0)
    return cosine


@pytest.mark.parametrize("measure", similarity.MEASURES)
def test_points_and_polygons_against_numpy(
    tmp_path: Path, embedding: Path, values: Array, gone: Array, measure: str
) -> None:
    there = np.argwhere(~gone)
    (row, col), (other_row, other_col) = there[100], there[30000]
    # Centres of rows 20 to 59 and columns 100 to 148 are inside.
    shapes = [point(row + 0.2, col + 0.9), point(other_row + 0.5, other_col + 0.5), polygon(19.6, 99.7, 40.8, 49.6)]
    file = places(tmp_path / "r.geojson", shapes, [{"kind": "a"}, {"kind": "b"}, {"kind": "a"}])
    arguments = ["--input", embedding, "--references", file, "--measure", measure]
    recorder = run(similarity, *arguments, "--output", tmp_path / "s.tif")
    assert not recorder.warnings
    assert recorder.shares[-1] == 1
    field = values[:, 20:60, 100:149][:, ~gone[20:60, 100:149]].astype(np.float64).mean(axis=1)
    every = [alike(values, vector, measure) for vector in (values[:, row, col], values[:, other_row, other_col], field)]
    found = read(tmp_path / "s.tif")
    assert np.isnan(found[:, gone]).all()
    np.testing.assert_allclose(found[0][~gone], np.max(every, axis=0)[~gone], atol=1e-6)
    assert found[0, row, col] == pytest.approx(1, abs=1e-6)
    run(similarity, *arguments, "--field", "kind", "--output", tmp_path / "k.tif")
    found = read(tmp_path / "k.tif")
    np.testing.assert_allclose(found[0][~gone], np.maximum(every[0], every[2])[~gone], atol=1e-6)
    np.testing.assert_allclose(found[1][~gone], every[1][~gone], atol=1e-6)
    with rasterio.open(tmp_path / "k.tif") as opened:
        assert opened.descriptions == ("a", "b")
    with rasterio.open(tmp_path / "s.tif") as opened:
        assert opened.descriptions == ("similarity",)
    tags = tags_of(tmp_path / "s.tif")
    assert (tags["MALICE_TOOL"], tags["MALICE_MEASURE"], tags["MALICE_REFERENCES"]) == ("similarity", measure, "3")


def test_neither_memory_nor_threads_change_a_bit(tmp_path: Path, embedding: Path) -> None:
    shapes = [polygon(3, 5, 100, 280), *(point(i + 0.5, i + 3.5) for i in range(140))]
    file = places(tmp_path / "r.geojson", shapes)
    outputs = []
    for memory, threads in (("300MB", 1), ("310MB", 3), ("2GB", 2)):
        output = tmp_path / f"{memory}.tif"
        options = ("--memory", memory, "--threads", threads)
        run(similarity, "--input", embedding, "--references", file, "--output", output, *options)
        outputs.append(read(output).tobytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_holes_parts_and_overlaps(tmp_path: Path, values: Array) -> None:
    embedding = write(tmp_path / "e.tif", values)
    hole = [*rectangle(10, 10, 20, 20), *rectangle(14, 14, 6, 6)]
    several = {"type": "MultiPolygon", "coordinates": [rectangle(50, 50, 4, 4), rectangle(12, 12, 6, 9)]}
    shapes = [{"type": "Polygon", "coordinates": hole}, several]
    file = places(tmp_path / "r.geojson", shapes, [{"n": 10}, {"n": 9}])
    run(similarity, "--input", embedding, "--references", file, "--field", "n", "--output", tmp_path / "s.tif")
    ring = np.zeros(SHAPE, bool)
    ring[10:30, 10:30], ring[14:20, 14:20] = True, False
    parts = [values[:, 50:54, 50:54], values[:, 12:18, 12:21]]
    by_part = [alike(values, part.mean(axis=(1, 2), dtype=np.float64), "cosine") for part in parts]
    found = read(tmp_path / "s.tif")
    # Numbers in their order, not that of their texts; each part of a feature is a reference.
    with rasterio.open(tmp_path / "s.tif") as opened:
        assert opened.descriptions == ("9", "10")
    np.testing.assert_allclose(found[0], np.maximum(*by_part), atol=1e-6)
    wanted = alike(values, values[:, ring].mean(axis=1, dtype=np.float64), "cosine")
    np.testing.assert_allclose(found[1], wanted, atol=1e-6)


def test_references_without_pixels_are_left_out_and_told(tmp_path: Path, embedding: Path, gone: Array) -> None:
    (row, col), (empty_row, empty_col) = np.argwhere(~gone)[5], np.argwhere(gone)[5]
    shapes = [
        point(row + 0.5, col + 0.5),
        point(-3, 20),
        point(empty_row + 0.5, empty_col + 0.5),
        polygon(30.6, 30.6, 0.3, 0.3),
        point(0.5, SHAPE[1] + 0.001),
        None,
        polygon(-500, -500, 100, 100),
    ]
    kinds = [{"kind": kind} for kind in ("a", "b", "a", "c", None, "d", "b")]
    file = places(tmp_path / "r.geojson", shapes, kinds)
    recorder = run(similarity, "--input", embedding, "--references", file, "--output", tmp_path / "s.tif")
    (told,) = recorder.warnings
    assert told.startswith("5 of 6 references are left out")
    options = ("--field", "kind", "--output", tmp_path / "k.tif")
    recorder = run(similarity, "--input", embedding, "--references", file, *options)
    assert recorder.warnings[0] == "1 references have no value in kind: they are left out"
    assert recorder.warnings[1].startswith("4 of 5 references")
    assert recorder.warnings[2] == "without any reference, and without a band: b, c"
    np.testing.assert_array_equal(read(tmp_path / "k.tif"), read(tmp_path / "s.tif"))


@pytest.mark.parametrize("name", ["t.vrt", "t.zarr", "t.tif"])
def test_other_formats_and_types(tmp_path: Path, embedding: Path, values: Array, gone: Array, name: str) -> None:
    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    file = places(tmp_path / "r.geojson", [polygon(40, 30, 30, 20)])
    run(similarity, "--input", embedding, "--references", file, "--output", tmp_path / "s.tif")
    other = write(tmp_path / name, values, missing=gone, dtype="int16")
    run(similarity, "--input", other, "--references", file, "--output", tmp_path / "o.tif")
    np.testing.assert_allclose(read(tmp_path / "o.tif"), read(tmp_path / "s.tif"), atol=1e-4)


def test_one_pixel_and_no_pixel(tmp_path: Path, values: Array) -> None:
    file = places(tmp_path / "r.geojson", [point(0.5, 0.5)])
    one = write(tmp_path / "one.tif", values[:, :1, :1])
    run(similarity, "--input", one, "--references", file, "--output", tmp_path / "s.tif")
    np.testing.assert_array_equal(read(tmp_path / "s.tif"), 1)
    nothing = write(tmp_path / "n.tif", values, missing=np.ones(SHAPE, bool))
    with pytest.raises(InputError, match=r"none of .*r\.geojson lies on pixels with data of .*n\.tif"):
        run(similarity, "--input", nothing, "--references", file, "--output", tmp_path / "o.tif")


def test_what_cannot_be_is_refused(tmp_path: Path, embedding: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = places(tmp_path / "r.geojson", [point(3.5, 3.5), point(9.5, 9.5)], [{"n": 1}, {"n": 2}])
    nothing = places(tmp_path / "none.geojson", [None], [{"n": 1}])
    far = places(tmp_path / "far.geojson", [point(-9000, 3), polygon(9000, 9000, 5, 5)])
    line = tmp_path / "line.geojson"
    shape = {"type": "LineString", "coordinates": [[3, 50], [4, 51]]}
    features = [{"type": "Feature", "geometry": shape, "properties": {}}]
    line.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    before = free_names(tmp_path)
    start = ("--input", embedding, "--output", tmp_path / "o.tif", "--references")
    for arguments, words in (
        ([*start, good, "--field", "m"], "--field m: .* has no such field, it has n"),
        ([*start, nothing], r"--references: .*none\.geojson has no points or polygons"),
        ([*start, far], r"none of .*far\.geojson lies on pixels with data"),
        ([*start, line], "LineString"),
        ([*start, tmp_path / "gone.geojson"], "--references: cannot read"),
        ([*start, embedding], "no file of points or polygons"),
        (["--input", embedding, "--references", good, "--output", good, "--overwrite"], "ends in .tif"),
        (["--input", embedding, "--references", good, "--output", embedding, "--overwrite"], "is an input"),
    ):
        with pytest.raises((InputError, OutputError), match=words):
            run(similarity, *arguments)
    monkeypatch.setattr(searching, "MOST", 1)
    with pytest.raises(InputError, match="has 2 values, a band each"):
        run(similarity, *start, good, "--field", "n")
    assert free_names(tmp_path) == before


def test_the_command_line(tmp_path: Path, embedding: Path) -> None:
    file = places(tmp_path / "r.geojson", [point(3.5, 3.5)])
    done = process(
        *("similarity", "--input", embedding, "--references", file, "--output", tmp_path / "s.tif"),
        *("--progress", "json"),
    )
    assert done.returncode == 0, done.stderr
    told = events(done.stdout)
    assert told[-1]["files"] == [f"{tmp_path / 's.tif'}"]
    assert free_names(tmp_path) == ["e.tif", "r.geojson", "s.tif"]
