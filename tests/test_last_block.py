"""The last block of a run: written to the output while it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers_cluster import until
from helpers_embed import embedded, free_names, run, write_series

from malice_core import product
from malice_core.blocks import BlockEncoder
from malice_core.errors import OutputError
from malice_core.scratch import Scratch, folder_of

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


def test_the_last_block_is_written_while_it_is_saved(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both from memory: neither waits for the other, and nothing is found there afterwards."""
    reference = embedded(tmp_path / "whole.tif", *job[:-2])
    growing, held, save = folder_of(tmp_path / "e.tif") / "codes.tif", list[Scratch](), Scratch.save

    def slow(self: Scratch, block: int, arrays: Any) -> None:
        if block == LAST:
            held.append(self)
            assert self.finished(block, ("codes", "counts"))
            until(lambda: growing.exists() and growing.stat().st_size > reference.nbytes, "nearly all tiles")
        save(self, block, arrays)

    monkeypatch.setattr(Scratch, "save", slow)
    run(*job)
    with rasterio.open(tmp_path / "e.tif") as file:
        np.testing.assert_array_equal(file.read(), reference)
    (scratch,) = held
    assert not scratch.finished(LAST)
    assert free_names(tmp_path) == ["e.tif", "images", "whole.tif"]


@pytest.mark.parametrize("before", [True, False])
def test_a_last_block_that_cannot_be_saved_ends_the_run(
    before: bool, job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its disk is full before the output is written or after; a run that resumes computes that block."""
    reference = embedded(tmp_path / "whole.tif", *job[:-2])
    growing, save = folder_of(tmp_path / "e.tif") / "codes.tif", Scratch.save

    def full(self: Scratch, block: int, arrays: Any) -> None:
        if block == LAST:
            if not before:
                until(lambda: growing.exists() and growing.stat().st_size > reference.nbytes, "nearly all tiles")
            raise OutputError("the disk is full")
        save(self, block, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(Scratch, "save", full)
        with pytest.raises(OutputError, match="the disk is full"):
            run(*job)
    assert free_names(tmp_path) == ["e.tif.malice", "images", "whole.tif"]
    assert computed(monkeypatch, job) == [LAST]
    with rasterio.open(tmp_path / "e.tif") as file:
        np.testing.assert_array_equal(file.read(), reference)
