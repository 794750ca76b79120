"""What a process of a cluster keeps between blocks, and what is told of one that failed."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace, TracebackType

import helpers_cluster
import numpy as np
import pytest
from helpers_embed import run, write_series

import malice_core
from malice_core import embed, memory, runtime, worker, workers
from malice_core.blocks import BlockEncoder, environment
from malice_core.errors import ClusterError, DeviceError, InputError, ModelError, OutputError
from malice_core.plan import Plan, make_plan
from malice_core.scratch import Scratch
from malice_core.spool import Spool
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
    finish = Spool.finish

    def failing(self: Spool) -> None:
        if "block_000000" in self._final.name:
            raise OutputError("full")
        finish(self)

    monkeypatch.setattr(Spool, "finish", failing)
    with Scratch(tmp_path / "e.tif", plan.fingerprint, plan.grid.core_shape, resume=False) as scratch:
        encoder, told = BlockEncoder(plan, scratch), []
        try:
            encoder.open()
            for block in plan.grid.blocks():
                try:
                    saved = encoder.encode(block, encoder.images([block]), lambda: None, lambda _: None)
                except OutputError as error:
                    told.append((block.index, str(error)))
            saved.result()  # closing gives up what has not begun
        finally:
            encoder.close()
        assert told == [(1, "full")]
        assert [scratch.finished(index) for index in range(4)] == [False, False, True, True]
        assert np.isfinite(np.array(scratch.load(3, "codes"))).all()


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


def test_graphs_that_cannot_be_opened_leave_nothing(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ModelError("openvino cannot open a graph of the model")

    closed, close = list[Plan](), Plan.close

    def closing(self: Plan) -> None:
        closed.append(self)
        close(self)

    monkeypatch.setattr("malice_core.encoders.opened", failing)
    monkeypatch.setattr(worker, "_plan", lambda *_: plan)
    monkeypatch.setattr(Plan, "close", closing)
    with pytest.raises(ModelError, match=r"^openvino cannot open a graph of the model$"):
        worker.Desk(Order("1", plan.fingerprint, f"{tmp_path}", b"", 1, named=False), None)
    assert closed == [plan]


def test_what_more_threads_than_planned_take_is_counted(plan: Plan, tmp_path: Path) -> None:
    """Each embeds pixels of its own: a worker whose memory is just what was planned for has no room for more."""
    protocol = pytest.importorskip("distributed.protocol")
    plan.backend = runtime.choose("openvino", "cpu", threads=1)
    if not plan.backend.kernel:
        pytest.skip("without machine code of our own there are no more calls than planned")
    with Scratch(tmp_path / "e.tif", plan.fingerprint, plan.grid.core_shape, resume=False) as scratch:
        given = [malice_core.__version__, plan.fingerprint, f"{scratch.folder}", protocol.serialize_bytes(plan)]

        def planned(threads: int, limit: float | None) -> Plan:
            manager = SimpleNamespace(memory_limit=limit, memory_pause_fraction=1.0)
            state = SimpleNamespace(nthreads=threads)
            made = worker._plan(Order(*given, None, named=True), SimpleNamespace(memory_manager=manager, state=state))
            made.close()
            return made

        enough = plan.budget.total
        assert planned(1, enough).backend.pixel_calls == 1
        assert planned(8, None).backend.pixel_calls == 8
        with pytest.raises(
            InputError, match=r"^may use [\d.]+ GB before it is paused, the plan needs [\d.]+ GB: start"
        ):
            planned(8, enough)
        dates = {sensor: len(stack.observations) for sensor, stack in plan.stacks.items()}
        one, all_of_it = (
            memory.embedding(plan.card, replace(plan.backend, threads=n), plan.grid, dates) for n in (1, 8)
        )
        assert all_of_it == 8 * one
        assert planned(8, enough + 7 * one).backend.threads == 8


def test_a_processor_without_products_of_bfloat16_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No version of anything gives it those; without llvmlite, on either side, one does."""
    planned = runtime.Backend("openvino", "cpu", "bfloat16", 2, 2, "bfloat16")
    for kernel, cure in (("float32", "use processors of one kind, or --precision float32"), ("", "install the same")):
        there = replace(planned, kernel=kernel)
        monkeypatch.setattr(worker.runtime, "choose", lambda *_, there=there: there)
        with pytest.raises(DeviceError, match=f"^has openvino .*, the plan was made with .*: {cure}"):
            worker._backend(planned, 2)


class Failed:
    """A future of a block that failed."""

    status, key = "error", "malice_block-run-3"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def exception(self) -> Exception:
        return self._error

    def traceback(self) -> TracebackType | None:
        return self._error.__traceback__


def loading(text: bytes) -> Callable[[], object]:
    """What a worker does with a task that names something of a module."""
    return lambda: pickle.loads(text)  # noqa: S301  ours


def computing(error: Exception) -> Callable[[], object]:
    """A block in which something is missing."""

    def failing() -> None:
        raise error

    def compute() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("distributed.get_worker", failing)
            worker.compute(Order("1", "job", "folder", b"", 1, named=True), 3)

    return compute


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (loading(b"cmalice_core.nowhere\ncompute\n."), "a worker lacks malice-core"),
        (loading(b"cmalice_core.worker\nnowhere\n."), "a worker lacks malice-core"),
        (loading(b"cnowhere\ncompute\n."), "a worker lacks malice-core"),
        (computing(ModuleNotFoundError("No module named 'malice_core.x'", name="malice_core.x")), "a worker lacks"),
        (computing(ModuleNotFoundError("No module named 'openvino'", name="openvino")), None),
        (computing(ModuleNotFoundError("No module named 'malice_core_x'", name="malice_core_x")), None),
        (computing(AttributeError("'Dataset' object has no attribute 'x'")), None),
    ],
)
def test_what_a_worker_lacks_is_told_from_what_fails_in_it(task: Callable[[], object], told: str | None) -> None:
    pytest.importorskip("distributed")
    with pytest.raises((ModuleNotFoundError, AttributeError)) as caught:
        task()
    blocks = workers._Blocks(None, None, "tcp://there:1")
    with pytest.raises(Exception, match=told or ".") as seen:
        blocks._require_good(Failed(caught.value))
    assert isinstance(seen.value, ClusterError) if told else seen.value is caught.value


#: Makes a process one of an environment where the package is not installed.
WITHOUT = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "malice_core":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Without())
"""


@pytest.mark.parametrize("who", ["worker tcp://.*", "the scheduler"])
def test_an_environment_without_the_package_is_told(tiny: str, tmp_path: Path, who: str) -> None:
    """At once: a worker that cannot load what it is given drops its connection."""
    images = write_series(tmp_path / "images", (16, 16), 1)
    job = ["--s2", images, "--model", tiny, "--queries", "0", "--output", tmp_path / "e.tif"]
    pytest.importorskip("distributed")
    (tmp_path / "cluster").mkdir()
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text(WITHOUT)
    lacking = {"PYTHONPATH": f"{tmp_path / 'without'}"}
    with helpers_cluster.cluster(tmp_path / "cluster", **(lacking if who == "the scheduler" else {})) as one:
        one.add("--no-nanny", **({"PYTHONPATH": os.pathsep.join(sys.path)} if who == "the scheduler" else lacking))
        with pytest.raises(ClusterError, match=rf"^{who} lacks malice-core [\d.]+ \(No module .*: install it") as seen:
            run(*job, "--dask", one.file)
    assert seen.value.exit_code == 2
