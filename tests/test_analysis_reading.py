"""Embeddings as tools read them: any type and format, what they say of themselves, and what is none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from helpers_analysis import LEFT, TOP, Array, smooth, write
from helpers_embed import run as embed
from helpers_embed import write_series

from malice_core.analysis.embedding import Embedding, Kind
from malice_core.errors import InputError
from malice_core.grid import Window

SHAPE = (75, 140)
#: Largest error of a type, values being within -2 and 2.
ERRORS = {"float32": 0.0, "float16": 0.001, "int16": 4 / 65534 / 2 * 1.01, "int8": 2 / 127 / 2 * 1.01}


def whole(embedding: Embedding) -> tuple[Array, Array]:
    """(features, rows, columns) and (rows, columns), in one read."""
    with embedding.reader() as reader:
        pixels = reader.read(embedding.area)
    return pixels.values.reshape(-1, *embedding.place.shape), pixels.there.reshape(embedding.place.shape)


@pytest.mark.parametrize("name", ["e.tif", "e.vrt", "e.zarr", "cog.tif"])
@pytest.mark.parametrize("dtype", list(ERRORS))
def test_every_type_and_format_is_decoded(tmp_path: Path, dtype: str, name: str) -> None:
    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    values = smooth(2 * 2 * 4, SHAPE)
    gone = {"s2": np.zeros(SHAPE, bool), "s1": np.zeros(SHAPE, bool)}
    gone["s2"][3:7, 100:] = True
    gone["s1"][5:9, :30] = True
    sensors, queries = ("s2", "s1"), (3, 0)
    path = tmp_path / name
    write(path, values, dtype=dtype, sensors=sensors, queries=queries, missing=gone, cog=name == "cog.tif")
    found = Embedding.open(path)
    assert found.kind == Kind("tiny", "0123456789abcdef", sensors, queries, 4)
    assert found.dtype == dtype
    assert found.place.shape == SHAPE
    assert found.place.transform == Affine(10, 0, LEFT, 0, -10, TOP)
    assert found.place.crs.to_epsg() == 32631
    assert [day.isoformat() for day in found.dates["s1"]] == ["2024-03-01", "2024-06-01"]
    decoded, there = whole(found)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(there, ~(gone["s2"] | gone["s1"]))
    assert np.isnan(decoded[:, ~there]).all()
    assert np.abs(decoded - values)[:, there].max() <= ERRORS[dtype]
    with found.reader() as reader:
        part = reader.read(Window(2, 90, 33, 41))
    np.testing.assert_array_equal(part.values.reshape(-1, 33, 41), decoded[:, 2:35, 90:131])
    np.testing.assert_array_equal(part.there.reshape(33, 41), there[2:35, 90:131])


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("name", ["e.tif", "e.vrt", "e.zarr"])
def test_what_embed_writes_is_opened(tiny: str, tmp_path: Path, name: str, dtype: str) -> None:
    if name.endswith("zarr"):
        pytest.importorskip("zarr")
    s2 = write_series(tmp_path / "s2", (24, 16), 2, missing=0.3)
    s1 = write_series(tmp_path / "s1", (24, 16), 3, sensor="s1")
    kind = {"e.tif": "gtiff", "e.vrt": "vrt", "e.zarr": "zarr"}[name]
    images = ("--s2", s2, "--s1", s1, "--model", tiny, "--queries", "4,1")
    embed("--output", tmp_path / name, *images, "--dtype", dtype, "--format", kind)
    embed("--output", tmp_path / "plain.tif", *images)
    found, plain = Embedding.open(tmp_path / name), Embedding.open(tmp_path / "plain.tif")
    found.kind.require(plain.kind, "one", "other")
    found.require_grid(plain)
    assert (found.kind.model, found.kind.sensors, found.kind.queries, found.kind.width) == (
        tiny,
        ("s2", "s1"),
        (4, 1),
        64,
    )
    assert [len(found.dates[sensor]) for sensor in ("s2", "s1")] == [2, 3]
    with rasterio.open(tmp_path / "plain.tif") as file:
        exact = file.read()
        assert tuple(found.kind.names) == file.descriptions
    values, there = whole(found)
    np.testing.assert_array_equal(there, np.isfinite(exact).all(axis=0))
    assert not there.all()
    largest = np.nanmax(np.abs(exact))
    assert np.nanmax(np.abs(values - np.where(there, exact, np.nan))) <= (0 if dtype == "float32" else largest / 250)
    told = found.provenance("_AFTER")
    assert told["MALICE_SOURCE_AFTER"] == name
    assert told["MALICE_DATES_S1_AFTER"].count(",") == 2
    assert "Copernicus" in told["MALICE_CREDITS_AFTER"]


def test_what_is_no_embedding_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "e.tif", smooth(8, (20, 20)))

    def refused(path: Path, words: str) -> None:
        with pytest.raises(InputError, match=words) as error:
            Embedding.open(path)
        assert "\n" not in f"{error.value}"
        assert path.name in f"{error.value}"

    refused(tmp_path / "none.tif", "not there")
    refused(tmp_path / "none.zarr", "not there")
    (tmp_path / "text.tif").write_text("no raster")
    refused(tmp_path / "text.tif", "cannot open")
    (tmp_path / "empty.zarr").mkdir()
    refused(tmp_path / "empty.zarr", "cannot open")
    with rasterio.open(path) as file:
        profile, tags, names, values = file.profile, file.tags(), file.descriptions, file.read()

    def copy(name: str, bands: int, tags: dict[str, str], names: Any, **options: Any) -> Path:
        with rasterio.open(tmp_path / name, "w", **{**profile, "count": bands, **options}) as file:
            file.write(values[:bands].astype(options.get("dtype", "float32")))
            file.update_tags(**tags)
            file.descriptions = names
        return tmp_path / name

    assert Embedding.open(copy("good.tif", 8, tags, names)).kind.features == 8
    refused(copy("plain.tif", 8, {}, names), "no embedding.*MALICE_MODEL_ID")
    refused(copy("tool.tif", 8, tags | {"MALICE_TOOL": "pca"}, names), "result of malice_core.pca")
    refused(copy("unnamed.tif", 8, tags, (None,) * 8), "Q00F00")
    swapped = (names[1], names[0], *names[2:])
    refused(copy("swapped.tif", 8, tags, swapped), "only some bands")
    refused(copy("double.tif", 8, tags, names, dtype="float64", predictor=1), "float64.*MALICE_DTYPE says float32")
    refused(copy("turned.tif", 8, tags, names, transform=Affine(10, 1, 0, 1, -10, 0)), "rotated")
    whole_number = {"dtype": "int16", "nodata": -32768, "predictor": 2}
    refused(copy("scaleless.tif", 8, tags | {"MALICE_DTYPE": "int16"}, names, **whole_number), "lost its band scales")


def test_a_file_with_a_part_of_the_bands_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "e.tif", smooth(2 * 4, (9, 9)), queries=(1, 5))
    with rasterio.open(path) as file:
        profile, tags, names, values = file.profile, file.tags(), file.descriptions, file.read()
    with rasterio.open(tmp_path / "part.tif", "w", **{**profile, "count": 3}) as file:
        file.write(values[[0, 1, 4]])
        file.update_tags(**tags)
        file.descriptions = (names[0], names[1], names[4])
    with pytest.raises(InputError, match="only some bands"):
        Embedding.open(tmp_path / "part.tif")


def test_scales_of_int8_must_be_the_embeddings_own(tmp_path: Path) -> None:
    path = write(tmp_path / "e.tif", smooth(8, (20, 20)), dtype="int8")
    other = write(tmp_path / "o.tif", smooth(8, (20, 20), 1), dtype="int8")
    assert Embedding.open(path).files == [path, tmp_path / "e_scale.tif"]
    os.replace(tmp_path / "o_scale.tif", tmp_path / "e_scale.tif")
    with pytest.raises(InputError, match=r"e_scale\.tif holds the scales of another"):
        Embedding.open(path)
    with pytest.raises(InputError, match=r"o_scale\.tif, are not there"):
        Embedding.open(other)


def test_a_damaged_tile_is_said_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "e.tif", smooth(8, (200, 200)), cog=True)
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : 2 * len(content) // 3] = bytes(len(content) // 3)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot (read|open) .*e\.tif") as error:
        whole(Embedding.open(path))
    assert "\n" not in f"{error.value}"


def test_kinds_differ_in_one_line_that_names_both() -> None:
    one = Kind("malice", "aaaa", ("s2", "s1"), (0, 3), 64)
    assert Kind.read(one.plain()) == one
    one.require(Kind("renamed", "aaaa", ("s2", "s1"), (0, 3), 64), "a.tif", "b.tif")
    for other, words in (
        (
            Kind("other", "bbbb", ("s2", "s1"), (0, 3), 64),
            r"a\.tif is of model malice \(aaaa\), b\.tif of other \(bbbb\)",
        ),
        (Kind("malice", "aaaa", ("s2",), (0, 3), 64), r"sensors S2\+S1, b\.tif of S2"),
        (Kind("malice", "aaaa", ("s2", "s1"), (3, 0), 64), r"queries 0,3, b\.tif of 3,0"),
    ):
        with pytest.raises(InputError, match=words):
            one.require(other, "a.tif", "b.tif")
    plain = one.plain()
    for damaged in ({}, [], plain | {"width": 0}, plain | {"sensors": ["s3"]}, plain | {"queries": []}):
        with pytest.raises(ValueError, match="which model"):
            Kind.read(damaged)
