"""Going over embeddings in windows, drawing pixels, and writing results."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from helpers_analysis import read, smooth, write
from helpers_embed import free_names

from malice_core import inspect
from malice_core.analysis import result as result_module
from malice_core.analysis import sampling, windows
from malice_core.analysis.embedding import Embedding
from malice_core.analysis.result import Outputs, check_names
from malice_core.cancelling import Cancel
from malice_core.errors import InputError, OutputError
from malice_core.grid import Window
from malice_core.product import Raster
from malice_core.scratch import folder_of


def nothing() -> None:
    """A check of a run that nobody cancels."""


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


def test_files_of_several_disks_appear_together_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose name is on a disk that is full keeps those from being replaced whose disk is not."""
    copy = shutil.copyfile
    other = tmp_path / "other"
    other.mkdir()
    targets = [tmp_path / "r.txt", tmp_path / "s.txt", other / "t.txt"]
    monkeypatch.setattr(result_module, "_apart", lambda path, folder: folder == other)

    def full(source: Path, target: Path) -> Path:
        copy(source, target)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for number, (copying, told) in enumerate(
        ((copy, None), (full, r"put .*t\.txt in place: No space .* choose another"))
    ):
        monkeypatch.setattr(shutil, "copyfile", copying)
        with Outputs(targets[0], Cancel()) as outputs:
            for target in targets:
                with outputs.text(target) as file:
                    file.write(f"{number}")
            if told is None:
                outputs.place()
            else:
                with pytest.raises(OutputError, match=told):
                    outputs.place()
        assert [target.read_text() for target in targets] == ["0"] * 3
        assert free_names(other) == ["t.txt"]


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
    with (
        pytest.raises(OutputError, match=r"needs up to [0-9.e-]+ GB"),
        Outputs(tmp_path / "r.tif", Cancel()) as outputs,
    ):
        outputs.raster(result(tmp_path / "r.tif"), found.place, 1)


def test_a_full_disk_is_told_and_nothing_stays(
    tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).random((16, 200, 200)).astype(np.float32)
    found = Embedding.open(write(tmp_path / "a.tif", values))

    def full(make: Callable[[Outputs], None]) -> None:
        with Outputs(small_disk / "r.tif", Cancel()) as outputs:
            make(outputs)
            outputs.place()

    def raster(outputs: Outputs) -> None:
        bands = [f"{number}" for number in range(16)]
        file = outputs.raster(Raster("", small_disk / "r.tif", "float32", bands, None, {}), found.place, 1)
        file.write(found.area, [(found.area, values)])

    def text(outputs: Outputs) -> None:
        with outputs.text(small_disk / "t.csv") as file:
            file.write("x" * 3_000_000)

    def array(outputs: Outputs) -> None:
        outputs.array("a", (1000, 1000))[:] = 1

    with pytest.raises(OutputError, match=r"needs up to [0-9.e-]+ GB"):
        full(raster)
    monkeypatch.setattr(Outputs, "_require_space", lambda self, path, size: None)
    # The last one would be the process' end, were its space not taken before it is filled in.
    for make in (raster, text, *([array] if hasattr(os, "posix_fallocate") else [])):
        with pytest.raises(OutputError, match=r"cannot write .*free space") as error:
            full(make)
        assert "\n" not in f"{error.value}"
        assert free_names(small_disk) == []


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


def test_reports_of_images_appear_together_or_not_at_all(tmp_path: Path) -> None:
    def fails() -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "a.html").write_text("old")
    with pytest.raises(InputError, match=r"cannot write .*b\.json: No space left"):
        inspect._write({tmp_path / "a.html": lambda: "new", tmp_path / "b.json": fails}, Cancel())
    assert free_names(tmp_path) == ["a.html"]
    assert (tmp_path / "a.html").read_text() == "old"
