"""The last block of a run: written to the output while it is computed, and while it is saved."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers_cluster import until
from helpers_embed import embedded, free_names, run, write_series
from helpers_scratch import indices

from malice_core import blocks, geotiff, plan, product
from malice_core.blocks import BlockEncoder
from malice_core.encoder import CHUNK
from malice_core.errors import ModelError, OutputError
from malice_core.product import BlockCodes
from malice_core.scratch import Scratch, folder_of
from malice_core.spool import Spool

#: Of the job: rows of blocks and of tiles, blocks in each; the last block.
SIDE, ROWS, ACROSS = 16, 3, 2
LAST = ROWS * ACROSS - 1


@pytest.fixture
def job(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A job whose output has rows of tiles as high as its blocks."""
    monkeypatch.setattr(product, "TILE", SIDE)
    images = write_series(tmp_path / "images", (SIDE * ROWS, SIDE * ACROSS), 2, missing=0.1)
    return ["--s2", images, "--model", tiny, "--block", SIDE, "--queries", "0,1", "--output", tmp_path / "e.tif"]


def computed(monkeypatch: pytest.MonkeyPatch, job: list[object]) -> list[int]:
    """Goes on with a job; returns the blocks that it computed."""
    encode, found = BlockEncoder.encode, list[int]()

    def listed(self: BlockEncoder, block: Any, *rest: Any) -> Any:
        found.append(block.index)
        return encode(self, block, *rest)

    monkeypatch.setattr(BlockEncoder, "encode", listed)
    run(*job, "--resume")
    return found


def test_the_last_block_is_written_while_it_is_computed(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of tiles as soon as its rows are there; and the others before it is saved."""
    monkeypatch.setattr(product, "TILE", 16)
    job[job.index("--block") + 1] = SIDE * ROWS
    reference = embedded(tmp_path / "whole.tif", *job[:-2])
    growing, put, finish = folder_of(tmp_path / "e.tif") / "codes.tif", BlockCodes.put, Spool.finish

    def slow(self: BlockCodes, modality: int, start: int, values: Any, counts: Any) -> None:
        if start == 2 * CHUNK:
            # Of what comes before, pieces of 8 rows, the first row of tiles is whole.
            until(lambda: growing.exists() and growing.stat().st_size > reference.nbytes // ROWS, "a row of tiles")
        put(self, modality, start, values, counts)

    def late(self: Spool) -> None:
        until(lambda: growing.stat().st_size > reference.nbytes, "nearly all tiles")
        finish(self)

    monkeypatch.setattr(BlockCodes, "put", slow)
    monkeypatch.setattr(Spool, "finish", late)
    run(*job)
    with rasterio.open(tmp_path / "e.tif") as file:
        np.testing.assert_array_equal(file.read(), reference)
    assert free_names(tmp_path) == ["e.tif", "images", "whole.tif"]


@pytest.mark.parametrize("before", [True, False])
def test_a_last_block_that_cannot_be_saved_ends_the_run(
    before: bool, job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its disk is full before the output is written or after; a run that resumes computes that block."""
    reference = embedded(tmp_path / "whole.tif", *job[:-2])
    growing, finish = folder_of(tmp_path / "e.tif") / "codes.tif", Spool.finish

    def full(self: Spool) -> None:
        if f"block_{LAST:06d}" in self._final.name:
            if not before:
                until(lambda: growing.exists() and growing.stat().st_size > reference.nbytes, "nearly all tiles")
            self.discard()
            raise OutputError("the disk is full")
        finish(self)

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "finish", full)
        with pytest.raises(OutputError, match="the disk is full"):
            run(*job)
    assert free_names(tmp_path) == ["e.tif.malice", "images", "whole.tif"]
    assert not list(folder_of(tmp_path / "e.tif").glob("*.tmp"))
    assert computed(monkeypatch, job) == [LAST]
    with rasterio.open(tmp_path / "e.tif") as file:
        np.testing.assert_array_equal(file.read(), reference)


def test_an_output_that_cannot_be_written_leaves_all_blocks(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one too."""
    reference = embedded(tmp_path / "whole.tif", *job[:-2])
    with monkeypatch.context() as patch:
        patch.setattr(geotiff, "_all_tiles", lambda *_: False)
        with pytest.raises(OutputError, match="cannot be read back"):
            run(*job)
    assert indices(tmp_path / "e.tif") == set(range(LAST + 1))
    assert computed(monkeypatch, job) == []
    with rasterio.open(tmp_path / "e.tif") as file:
        np.testing.assert_array_equal(file.read(), reference)


def test_a_block_that_is_cancelled_leaves_nothing(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the last one nor another."""
    for number in (2, LAST):
        begin, put = Scratch.begin, Spool.put

        def begun(self: Scratch, block: int, *rest: Any, number: int = number, begin: Any = begin) -> Spool:
            made: Spool = begin(self, block, *rest)
            if block == number:
                made.failing = True  # type: ignore[attr-defined]
            return made

        def failing(self: Spool, *given: Any, put: Any = put) -> None:
            if getattr(self, "failing", False):
                raise OutputError("the disk is full")
            put(self, *given)

        with monkeypatch.context() as patch:
            patch.setattr(Scratch, "begin", begun)
            patch.setattr(Spool, "put", failing)
            with pytest.raises(OutputError, match="the disk is full"):
                run(*job, "--resume")
        assert indices(tmp_path / "e.tif") == set(range(number))
        assert not list(folder_of(tmp_path / "e.tif").glob("*.tmp"))
    assert computed(monkeypatch, job) == [LAST]


def test_images_are_read_while_graphs_are_compiled(job: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    opened, read, reading = BlockEncoder.open, blocks._image, threading.Event()

    def watched(*given: Any) -> Any:
        reading.set()
        return read(*given)

    def waiting(self: BlockEncoder) -> None:
        assert reading.wait(20), "nothing is read before the graphs are there"
        opened(self)

    monkeypatch.setattr(blocks, "_image", watched)
    monkeypatch.setattr(BlockEncoder, "open", waiting)
    run(*job)


def test_graphs_that_cannot_be_opened_end_the_run(job: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ModelError("openvino cannot open a graph of the model")

    monkeypatch.setattr("malice_core.encoders.opened", failing)
    with pytest.raises(ModelError, match=r"^openvino cannot open a graph of the model$"):
        run(*job)
    assert not [one.name for one in threading.enumerate() if one.name.startswith(("read", "encode", "assemble"))]


def test_a_folder_that_goes_meanwhile_is_told(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, check, begin = tmp_path / "gone", plan.check_disk, Scratch.begin
    folder.mkdir()
    job = [*job[:-1], folder / "e.tif"]

    def before(*given: Any) -> None:
        folder.rmdir()
        check(*given)

    def within(*given: Any) -> Any:
        shutil.rmtree(folder)
        return begin(*given)

    with monkeypatch.context() as patch:
        patch.setattr(plan, "check_disk", before)
        with pytest.raises(OutputError) as told:
            run(*job)
    assert str(told.value) == f"the folder {folder} of the output was there, and is no more: No such file or directory"
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Scratch, "begin", within)
        with pytest.raises(OutputError, match="see who has removed the folder, then run"):
            run(*job)
