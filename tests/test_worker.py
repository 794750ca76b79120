"""What a process of a cluster keeps between blocks, and does not keep when one of them failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from helpers_embed import Array, write_series

from malice_core import embed, worker
from malice_core.blocks import BlockEncoder, environment
from malice_core.errors import OutputError
from malice_core.plan import Plan, make_plan
from malice_core.scratch import Blocks, Scratch
from malice_core.worker import Order


@pytest.fixture
def plan(tiny: str, tmp_path: Path) -> Iterator[Plan]:
    """Of four blocks."""
    images = write_series(tmp_path / "images", (32, 32), 2)
    given = ["--s2", images, "--model", tiny, "--block", 16, "--queries", "0", "--output", tmp_path / "e.tif"]
    with environment():
        plan = make_plan(embed.job_of(embed.parser().parse_args([*map(str, given)])))
        yield plan
        plan.close()


def test_a_block_that_cannot_be_saved_fails_no_more_than_the_next(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is where a run that does not wait for each block is told of it."""
    save = Blocks.save

    def failing(self: Blocks, block: int, arrays: Mapping[str, Array]) -> None:
        if block == 0:
            raise OutputError("full")
        save(self, block, arrays)

    monkeypatch.setattr(Blocks, "save", failing)
    with Scratch(tmp_path / "e.tif", plan.fingerprint, plan.grid.core_shape, resume=False) as scratch:
        encoder, told = BlockEncoder(plan, scratch), []
        try:
            for block in plan.grid.blocks():
                try:
                    encoder.encode(block, encoder.images([block]), lambda: None, lambda _: None)
                except OutputError as error:
                    told.append((block.index, str(error)))
        finally:
            encoder.close()
        assert told == [(1, "full")]
        assert [scratch.finished(index) for index in range(4)] == [False, False, True, True]
        assert np.isfinite(scratch.load(3, "codes")).all()


class Desk:
    """In the place of a real one."""

    def __init__(self, order: Order, worker: object) -> None:
        self.order, self.users, self.failed, self.closed = order, 0, False, False

    def close(self) -> None:
        self.closed = True


def test_a_desk_is_kept_for_the_next_block_unless_one_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "Desk", Desk)
    monkeypatch.setattr(worker, "_current", None)
    order = Order("1", "job", "folder", b"", 1, named=False)

    def desk() -> AbstractContextManager[worker.Desk]:
        return worker._desk(order, None, lambda: None)

    with desk() as first, desk() as second:
        assert second is first
    with desk() as third:
        assert third is first
        with pytest.raises(OutputError, match="full"), desk():
            raise OutputError("full")
        assert not vars(first)["closed"], "a block is still computed on it"
    assert vars(first)["closed"]
    with desk() as fresh:
        assert fresh is not first
        assert not vars(fresh)["closed"]
    assert worker._timer is not None
    worker._timer.cancel()
