"""Reading embeddings for tools, going over them in windows, drawing pixels, and writing results."""

from __future__ import annotations

import itertools
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from helpers_analysis import LEFT, TOP, Array, read, smooth, write
from helpers_embed import free_names

from malice_core.analysis import sampling, windows
from malice_core.analysis.embedding import Embedding, Kind
from malice_core.analysis.result import Outputs, check_names
from malice_core.cancelling import Cancel
from malice_core.errors import InputError, OutputError
from malice_core.grid import Window
from malice_core.product import Raster
from malice_core.scratch import folder_of

SHAPE = (75, 140)
#: Largest error of a type, values being within -2 and 2.
ERRORS = {"float32": 0.0, "float16": 0.001, "int16": 4 / 65534 / 2 * 1.01, "int8": 2 / 127 / 2 * 1.01}


def nothing() -> None:
    """A check of a run that nobody cancels."""


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
    path = write(tmp_path / "e.tif", smooth(8, (200, 200)))
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


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (31, 129), (300, 400), (128, 128)])
def test_windows_are_runs_of_one_order_of_cells(shape: tuple[int, int]) -> None:
    area = Window(0, 0, *shape)
    order = windows.cells(area)
    covered = np.zeros(shape, int)
    for cell in order:
        rows, cols = cell.slices_in(area)
        covered[rows, cols] += 1
    assert (covered == 1).all()
    for sides in ((32, 128), (64, 128), (128, 128), (128, 256), (128, 512), (256, 512), (512, 512)):
        if sides[0] > windows.STRIP and sides[1] < shape[1]:
            continue
        cut = [cell for window in windows.windows(area, sides) for cell in windows.cells(window)]
        assert cut == order, sides


def test_windows_fit_the_memory(tmp_path: Path) -> None:
    found = Embedding.open(write(tmp_path / "e.tif", smooth(64, (300, 300))))
    fixed = windows.PROGRAM_BYTES
    sides = [windows.plan([found], fixed + (size << 20), 1) for size in (5, 8, 16, 32, 64, 128)]
    assert sides[0] == (32, 128)
    assert sides[-1] == (512, 384)
    assert sorted(sides, key=lambda one: one[0] * one[1]) == sides
    assert len(set(sides)) > 3
    assert windows.plan([found], fixed + (128 << 20), 1, kept=123 << 20) == sides[0]
    with pytest.raises(InputError, match=r"--memory 0\.29 GB is too little: 0\.\d+ GB"):
        windows.plan([found], 290_000_000, 1, kept=100 << 20)


@pytest.mark.parametrize("sides", [(32, 128), (64, 128), (128, 256), (384, 384)])
def test_work_gets_every_pixel_once_and_in_order(tmp_path: Path, sides: tuple[int, int]) -> None:
    values = smooth(4, (300, 300))
    one = Embedding.open(write(tmp_path / "a.tif", values))
    two = Embedding.open(write(tmp_path / "b.tif", 2 * values.clip(-1, 1)))
    seen: list[Window] = []
    out = np.full((300, 300), np.nan, np.float32)
    for window, results in windows.over(
        [one, two],
        windows.windows(one.area, sides),
        lambda cell, a, b: (a.values[1] + b.values[2]).reshape(cell.shape),
        3,
        nothing,
    ):
        for cell, found in results:
            assert window.contains(cell)
            seen.append(cell)
            out[cell.slices_in(one.area)] = found
    assert seen == windows.cells(one.area)
    np.testing.assert_array_equal(out, values[1] + 2 * values[2].clip(-1, 1))


def test_an_error_in_the_work_ends_the_threads(tmp_path: Path) -> None:
    found = Embedding.open(write(tmp_path / "a.tif", smooth(4, (300, 300))))

    def work(cell: Window, pixels: object) -> None:
        if cell.row > 100:
            raise InputError("no")

    walk = windows.over([found], windows.windows(found.area, (32, 128)), work, 2, nothing)
    with pytest.raises(InputError, match="no"):
        list(itertools.chain.from_iterable(results for _, results in walk))
    walk.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("read", "work"))]


def test_a_sample_is_what_all_pixels_give_whatever_the_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, gone = smooth(4, (300, 290)), np.random.default_rng(1).random((300, 290)) < 0.3
    found = Embedding.open(write(tmp_path / "a.tif", values, missing=gone))
    samples = [sampling.draw(found, 500, 7, *how, nothing) for how in ((32, 1), (64, 3), (128, 2))]
    for one in samples:
        assert len(one.values) == 500
        assert not one.exhaustive
        assert not gone[one.rows, one.cols].any()
        np.testing.assert_array_equal(one.values, values[:, one.rows, one.cols].T)
        np.testing.assert_array_equal(one.rows * 290 + one.cols, samples[0].rows * 290 + samples[0].cols)
    # The smallest of all numbers, by a formula of one line.
    places = np.flatnonzero(~gone)
    wanted = places[np.argsort(sampling.keys(places, 7))[:500]]
    np.testing.assert_array_equal(samples[0].rows * 290 + samples[0].cols, wanted)
    # Evenly spread: each ninth of the raster has about its share (5 standard deviations).
    ninths = np.bincount(samples[0].rows // 100 * 3 + samples[0].cols * 3 // 290, minlength=9)
    assert abs(ninths - 500 / 9).max() < 5 * np.sqrt(500 / 9)
    other = sampling.draw(found, 500, 8, 128, 2, nothing)
    assert len(np.intersect1d(other.rows * 290 + other.cols, wanted)) < 30
    everything = sampling.draw(found, 10**6, 7, 64, 2, nothing)
    assert everything.exhaustive
    assert len(everything.values) == (~gone).sum()
    # Of a large raster only some tiles are read.
    monkeypatch.setattr(sampling, "TILES", 2)
    looked: list[int] = []
    few = [sampling.draw(found, 50, 7, height, 2, nothing, looked.append) for height in (32, 128)]
    assert sum(looked) <= 2 * 2 * 128 * 128
    np.testing.assert_array_equal(few[0].values, few[1].values)
    assert len(few[0].values) == 50
    assert not few[0].exhaustive


def test_pixels_asked_for_come_in_their_order(tmp_path: Path) -> None:
    values, gone = smooth(4, (300, 290)), np.random.default_rng(1).random((300, 290)) < 0.3
    found = Embedding.open(write(tmp_path / "a.tif", values, missing=gone))
    rng = np.random.default_rng(2)
    rows, cols = rng.integers(0, 300, 200), rng.integers(0, 290, 200)
    rows[5], cols[5] = rows[6], cols[6]
    for height in (32, 128):
        out = np.zeros((200, 4), np.float32)
        sampling.gather(found, rows, cols, out, height, 2, nothing)
        np.testing.assert_array_equal(out, np.where(gone, np.nan, values)[:, rows, cols].T)


def test_a_sample_of_nothing_is_refused(tmp_path: Path) -> None:
    found = Embedding.open(write(tmp_path / "a.tif", smooth(4, (20, 20)), missing=np.ones((20, 20), bool)))
    with pytest.raises(InputError, match=r"a\.tif has no pixel with data"):
        sampling.draw(found, 5, 1, 128, 1, nothing)


def result(path: Path, dtype: str = "float32") -> Raster:
    colours = {1: (255, 0, 0, 255)} if dtype == "uint8" else None
    return Raster("", path, dtype, ["one", "two"] if dtype == "float32" else ["class"], 0, {"A": "b"}, colours=colours)


def test_results_appear_together_when_all_are_whole(tmp_path: Path) -> None:
    found = Embedding.open(write(tmp_path / "a.tif", smooth(4, (150, 200))))
    values = np.arange(2 * 150 * 200, dtype=np.float32).reshape(2, 150, 200)
    with Outputs(tmp_path / "r.tif", Cancel()) as outputs:
        main = outputs.raster(result(tmp_path / "r.tif"), found.place, 2)
        classes = outputs.raster(result(tmp_path / "c.tif", "uint8"), found.place, 2)
        outputs.file(tmp_path / "fit.json").write_text("{}")
        for window in windows.windows(found.area, (32, 128)):
            parts = [(cell, values[:, *cell.slices_in(found.area)]) for cell in windows.cells(window)]
            main.write(window, parts)
            classes.write(window, [(cell, part[0] % 7) for cell, part in parts])
        main.tag({"LATE": "tag"})
        assert free_names(tmp_path) == ["a.tif", "r.tif.malice"]
        with pytest.raises(OutputError, match="another run is writing"), Outputs(tmp_path / "r.tif", Cancel()):
            pass
        assert outputs.place() == [f"{tmp_path / name}" for name in ("r.tif", "c.tif", "fit.json")]
    assert free_names(tmp_path) == ["a.tif", "c.tif", "fit.json", "r.tif"]
    with rasterio.open(tmp_path / "r.tif") as file:
        np.testing.assert_array_equal(file.read(), values)
        assert file.descriptions == ("one", "two")
        assert file.tags()["A"] == "b"
        assert file.tags()["LATE"] == "tag"
        assert (file.crs, file.transform) == (found.place.crs, found.place.transform)
        assert file.block_shapes[0] == (128, 128)
    with rasterio.open(tmp_path / "c.tif") as file:
        np.testing.assert_array_equal(file.read(1), values[0] % 7)
        assert file.colormap(1)[1] == (255, 0, 0, 255)


def test_a_run_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    found = Embedding.open(write(tmp_path / "a.tif", smooth(4, (15, 20))))
    (tmp_path / "r.tif").write_text("old")

    def failing() -> None:
        with Outputs(tmp_path / "r.tif", Cancel()) as outputs:
            outputs.raster(result(tmp_path / "r.tif"), found.place, 2)
            raise InputError("no")

    with pytest.raises(InputError, match="no"):
        failing()
    assert free_names(tmp_path) == ["a.tif", "r.tif"]
    assert (tmp_path / "r.tif").read_text() == "old"
    # What a killed run left is the next one's; what is somebody else's is not.
    folder_of(tmp_path / "r.tif").mkdir()
    (folder_of(tmp_path / "r.tif") / "tool.lock").touch()
    (folder_of(tmp_path / "r.tif") / "0.tif").touch()
    with Outputs(tmp_path / "r.tif", Cancel()) as outputs:
        assert not outputs.temporary("0.tif").exists()
    folder_of(tmp_path / "r.tif").mkdir()
    (folder_of(tmp_path / "r.tif") / "job.json").touch()
    with pytest.raises(OutputError, match="holds something else"), Outputs(tmp_path / "r.tif", Cancel()):
        pass
    assert (folder_of(tmp_path / "r.tif") / "job.json").exists()


def test_what_was_not_written_whole_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Embedding.open(write(tmp_path / "a.tif", smooth(4, (15, 20))))

    def damaged() -> None:
        with Outputs(tmp_path / "r.tif", Cancel()) as outputs:
            raster = outputs.raster(result(tmp_path / "r.tif"), found.place, 1)
            raster.write(found.area, [(found.area, np.ones((2, 300), np.float32))])
            raster._file.write(np.zeros((1, 1), np.float32), 1, window=rasterio.windows.Window(3, 3, 1, 1))
            outputs.place()

    with pytest.raises(OutputError, match="cannot be read back"):
        damaged()
    assert free_names(tmp_path) == ["a.tif"]
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(OutputError, match=r"needs up to 0\.00 GB"), Outputs(tmp_path / "r.tif", Cancel()) as outputs:
        outputs.raster(result(tmp_path / "r.tif"), found.place, 1)


def test_outputs_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path, vrt = write(tmp_path / "e.tif", smooth(4, (9, 9)), dtype="int8"), write(tmp_path / "v.vrt", smooth(4, (9, 9)))
    files = [*Embedding.open(path).files, *Embedding.open(vrt).files]
    tile = next((tmp_path / "v_tiles").iterdir())
    (tmp_path / "link.tif").symlink_to(path)
    for output, words in (
        (path, "is an input"),
        (tmp_path / "e_scale.tif", "is an input"),
        (tile, "is an input"),
        (tmp_path / "link.tif", "is an input"),
        (tmp_path / "none" / "o.tif", "does not exist"),
        (tmp_path / "v_tiles" / ".." / "e.tif", "is an input"),
        (tmp_path / ("n" * 240 + ".tif"), "too long"),
    ):
        with pytest.raises(OutputError, match=words):
            check_names({"--output": output}, files, overwrite=True)
    (tmp_path / "old.tif").touch()
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(OutputError, match=r"--report .*old\.tif exists already.*--overwrite"):
        check_names({"--output": tmp_path / "o.tif", "--report": tmp_path / "old.tif"}, files, overwrite=False)
    check_names({"--output": tmp_path / "old.tif", "--report": None}, files, overwrite=True)
    with pytest.raises(OutputError, match="is a folder"):
        check_names({"--output": tmp_path / "folder.tif"}, files, overwrite=True)
    with pytest.raises(OutputError, match="--report and --output are the same"):
        check_names({"--output": tmp_path / "o.tif", "--report": tmp_path / "o.tif"}, files, overwrite=True)
    assert read(path).shape == (4, 9, 9)
