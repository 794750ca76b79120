"""Blocks computed by workers of dask: the numbers of a local run, whoever is killed; errors in one line."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio

pytest.importorskip("distributed")
pytest.importorskip("cryptography")

from helpers_aux import around, write_around
from helpers_cluster import (
    Cluster,
    alive,
    cluster,
    finished,
    require_same_when_sent,
    served,
    start,
    until,
    until_blocks,
    workers_of,
)
from helpers_dataset import FIRST
from helpers_embed import command, embedded, free_names, run, write_series
from helpers_gpu import stand_in

from malice_core import embed, geotiff, pipeline, worker
from malice_core import workers as client
from malice_core.assembling import Assembler
from malice_core.blocks import environment
from malice_core.errors import ClusterError, InputError, MaliceError, OutputError, StackError
from malice_core.grid import Block
from malice_core.pipeline import Progress, _encode_blocks
from malice_core.plan import Plan, make_plan
from malice_core.product import Means, Steps
from malice_core.scratch import Scratch, folder_of

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.fixture
def job(tiny: str, tmp_path: Path) -> list[object]:
    """A job of 25 blocks that takes some seconds."""
    images = write_series(tmp_path / "images", (80, 80), 3)
    return ["--s2", images, "--model", tiny, "--block", 16, "--queries", "0,1", "--output", tmp_path / "e.tif"]


@pytest.fixture(scope="module")
def remote(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler with one worker, which looks for models elsewhere."""
    with cluster(tmp_path_factory.mktemp("cluster"), MALICE_MODELS="/nowhere") as one:
        one.add("--no-nanny", "--memory-limit", "2GB")
        yield one


def same(output: Path, reference: np.ndarray[Any, Any]) -> None:
    with rasterio.open(output) as file:
        np.testing.assert_array_equal(file.read(), reference)


# The same numbers


def test_local_processes_give_the_numbers_of_a_local_run(tiny: str, tmp_path: Path) -> None:
    s2 = write_series(tmp_path / "s2", (40, 56), 3, missing=0.1)
    s1 = write_series(tmp_path / "s1", (40, 56), 2, sensor="s1")
    given = ["--s2", s2, "--s1", s1, "--model", tiny, "--block", 16, "--queries", "0,3", "--dtype", "int8"]
    for name, more in (("here", ()), ("dask", ("--dask", "local:2", "--progress", "json"))):
        result = command(*given, "--counts", tmp_path / f"{name}_n.tif", "--output", tmp_path / f"{name}.tif", *more)
        assert result.returncode == 0, result.stderr
    for suffix in (".tif", "_n.tif", "_scale.tif"):
        with rasterio.open(tmp_path / f"here{suffix}") as file:
            same(tmp_path / f"dask{suffix}", file.read())
            with rasterio.open(tmp_path / f"dask{suffix}") as other:
                assert file.tags()["MALICE_JOB"] == other.tags()["MALICE_JOB"]
    events = [json.loads(line) for line in result.stdout.splitlines()]
    (plan,) = [event["plan"] for event in events if event["event"] == "plan"]
    assert plan["dask"] == "local:2"
    assert "in each of 2 processes" in plan["backend"]
    shares = [(event["done"], event["total"]) for event in events if event["event"] == "progress"]
    assert shares == sorted(shares)
    assert shares[-1][0] == shares[-1][1]
    # Not a word but the plan's warnings, which are told twice.
    assert [line for line in result.stderr.splitlines() if not line.startswith("warning: ")] == []


def test_workers_of_a_scheduler_give_the_numbers_of_a_local_run(
    job: list[object], remote: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the model nor relative names are where the worker would look for them."""
    reference = embedded(tmp_path / "whole.tif", *job[:-2])
    monkeypatch.chdir(tmp_path)
    relative = ["--s2", "images", *job[2:-2], "--overwrite", "--output", "e.tif"]
    address = json.loads(remote.file.read_text())["address"]
    for where in (remote.file, address):
        told = run(*relative, "--dask", where)
        same(tmp_path / "e.tif", reference)
        assert f"on the workers of {where}, with their threads" in told.plans[0]["text"]
        assert told.shares == sorted(told.shares)
        assert told.shares[-1] == 1
    assert free_names(tmp_path) == ["e.tif", "images", "whole.tif"]


def test_images_may_lie_on_a_server(job: list[object], remote: Cluster, tmp_path: Path) -> None:
    reference = embedded(tmp_path / "whole.tif", *job[:-2])
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    with served(tmp_path / "images") as address:
        (tmp_path / "list.txt").write_text("".join(f"{address}/{name}\n" for name in names))
        run("--s2", tmp_path / "list.txt", *job[2:], "--dask", remote.file)
        same(tmp_path / "e.tif", reference)
        same_here = embedded(tmp_path / "h.tif", "--s2", *(f"{address}/{name}" for name in names), *job[2:-2])
        np.testing.assert_array_equal(same_here, reference)
        for path, wrong in (("", "folder on a server"), ("list.txt", "a file of this machine")):
            with pytest.raises(StackError, match=wrong):
                run("--s2", f"{address}/{path}", *job[2:], "--overwrite")


def test_a_plan_with_surroundings_can_be_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALICE_MODELS", raising=False)
    images = write_series(tmp_path / "images", (48, 64), 2, first=FIRST)
    write_around(tmp_path, table=False)
    given = ["--s2", images, *around(tmp_path, "s2"), "--model", "malice-aux-sim", "--queries", "0", "--block", 32]
    options = embed.parser().parse_args([*map(str, given), "--output", f"{tmp_path / 'e.tif'}"])
    with environment():
        require_same_when_sent(make_plan(embed.job_of(options)), tmp_path)


# Processes that end too early


@posix
def test_a_killed_worker_costs_no_more_than_its_block(job: list[object], tmp_path: Path) -> None:
    process = start(*job, "--dask", "local:2")
    until_blocks(process, tmp_path / "e.tif", 1)
    (first, second), kept = workers_of(process), {path: path.stat().st_ino for path in finished(tmp_path / "e.tif")}
    first.send_signal(signal.SIGKILL)
    until_blocks(process, tmp_path / "e.tif", len(kept) + 4)
    assert kept.items() <= {path: path.stat().st_ino for path in finished(tmp_path / "e.tif")}.items()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert [line for line in errors.splitlines() if not line.startswith("warning: S2: the dates span")] == []
    same(tmp_path / "e.tif", embedded(tmp_path / "whole.tif", *job[:-2]))
    until(lambda: not alive([first, second]), "end of the workers", 5)
    assert free_names(tmp_path) == ["e.tif", "images", "whole.tif"]


@posix
def test_a_killed_client_takes_its_processes_along_and_is_resumed(job: list[object], tmp_path: Path) -> None:
    process = start(*job, "--dask", "local:2")
    until_blocks(process, tmp_path / "e.tif", 3)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(workers_of(process)) == 2
    process.kill()
    process.communicate()
    until(lambda: not alive(children), "end of the client's processes", 10)
    kept = {path: path.stat().st_ino for path in finished(tmp_path / "e.tif")}
    again = start(*job, "--resume", "--dask", "local:1")
    until_blocks(again, tmp_path / "e.tif", len(kept) + 2)
    assert kept == {path: path.stat().st_ino for path in kept}, "finished blocks were computed again"
    again.kill()
    again.communicate()
    # Where blocks were computed is of no matter to them.
    run(*job, "--resume")
    same(tmp_path / "e.tif", embedded(tmp_path / "whole.tif", *job[:-2]))
    assert free_names(tmp_path) == ["e.tif", "images", "whole.tif"]


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_cancel_leaves_no_process(job: list[object], tmp_path: Path, number: signal.Signals) -> None:
    # On a machine that others keep busy a second is not always one: of three runs the fastest counts.
    assert any(_cancelled(job, tmp_path, number) < 1.0 for _ in range(3))


def _cancelled(job: list[object], tmp_path: Path, number: signal.Signals) -> float:
    """Seconds from a signal to a run's end, which is as it should be."""
    # Blocks of a run before would be taken for this one's, which would be stopped while it loads its libraries.
    shutil.rmtree(folder_of(tmp_path / "e.tif"), ignore_errors=True)
    process = start(*job, "--dask", "local:2")
    until_blocks(process, tmp_path / "e.tif", 1)
    children = psutil.Process(process.pid).children(recursive=True)
    # As a terminal does: to all of them.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    begun = time.monotonic()
    assert process.wait(20) == 3
    seconds = time.monotonic() - begun
    until(lambda: not alive(children), "end of the workers", 5)
    _, errors = process.communicate()
    assert [line for line in errors.splitlines() if not line.startswith("warning: ")] == [
        "error: cancelled; finished blocks are kept, run again with --resume to go on"
    ]
    assert finished(tmp_path / "e.tif")
    assert not (tmp_path / "e.tif").exists()
    return seconds


def long_job(tmp_path: Path, block: int) -> list[object]:
    """A job whose blocks take a minute, or more memory than there may be."""
    images = write_series(tmp_path / "many", (16, 16), 40)
    area = ["--aoi", 500000, 5590000, 505120, 5600000, "--nodata", "zero", "--queries", "0"]
    return ["--s2", images, "--model", "tiny", *area, "--block", block, "--output", tmp_path / "long.tif"]


def test_the_worker_of_a_killed_client_stops(job: list[object], remote: Cluster, tmp_path: Path) -> None:
    process = start(*long_job(tmp_path, 256), "--dask", remote.file)
    until(lambda: list(folder_of(tmp_path / "long.tif").glob("*.onnx")), "graphs")
    time.sleep(5)
    assert process.poll() is None, process.communicate()
    process.kill()
    process.communicate()
    # The worker is free for others long before its block is done.
    begun = time.monotonic()
    run(*job, "--dask", remote.file)
    assert time.monotonic() - begun < 25
    assert not finished(tmp_path / "long.tif")


def test_a_block_that_kills_workers_ends_the_run(job: list[object], tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    preload = tmp_path / "cluster" / "killing.py"
    preload.write_text("import os\nfrom malice_core import worker\nworker.Desk.compute = lambda *_: os._exit(1)\n")
    with cluster(tmp_path / "cluster", DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as one:
        one.add("--preload", preload)
        with pytest.raises(
            MaliceError, match=r"1 workers? died .* block \d+: out of memory\? give a smaller --memory"
        ) as seen:
            run(*job, "--dask", one.file)
    assert seen.value.exit_code == 1


# Errors


def error_of(*arguments: object) -> tuple[int, str]:
    """Exit code and line of a run that fails."""
    result = command(*arguments)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, result.stderr
    return result.returncode, lines[0]


@pytest.mark.parametrize(
    ("dask", "more", "wrong"),
    [
        ("local:0", (), "'0' is not a number of processes"),
        ("local:two", (), "'two' is not a number of processes"),
        ("", (), "an empty path"),
        ("tcp://127.0.0.1:9", (), r"tcp://127\.0\.0\.1:9: no scheduler answers there"),
        ("tcp://", (), r"tcp://: no scheduler answers there.*missing port"),
        ("tls://127.0.0.1:9", (), r"tls://127\.0\.0\.1:9: no scheduler answers there.*ssl_context"),
        ("ftp://127.0.0.1:9", (), r"ftp://127\.0\.0\.1:9: no scheduler answers there.*unknown address scheme"),
        ("nowhere.json", (), r"nowhere\.json is neither local\[:N\], nor an address"),
        ("tcp://127.0.0.1:9", ("--threads", 2), "--threads 2: with --dask tcp.* drop it"),
    ],
)
def test_what_is_no_cluster_is_told(
    job: list[object], dask: str, more: tuple[object, ...], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECTING", 0.5)
    with pytest.raises(InputError, match=wrong) as seen:
        run(*job, "--dask", dask, *more)
    assert seen.value.exit_code == 2
    assert "\n" not in str(seen.value)


def test_a_file_that_is_of_no_scheduler_is_told(job: list[object], tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("[]")
    assert error_of(*job, "--dask", tmp_path / "s.json") == (
        2,
        f"error: --dask {tmp_path / 's.json'}: is no file of dask scheduler --scheduler-file",
    )


@pytest.mark.parametrize("package", ["distributed", "cryptography"])
def test_a_missing_package_is_told(job: list[object], package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else there(name))
    with pytest.raises(ClusterError, match=rf"needs the package {package}: pip install 'malice-core\[dask\]'"):
        run(*job, "--dask", "local")
    if package == "cryptography":
        # Connections to other schedulers are as these have them.
        monkeypatch.setattr(client, "CONNECTING", 0.5)
        with pytest.raises(ClusterError, match="no scheduler answers"):
            run(*job, "--dask", "tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    ("given", "computing", "writing"),
    [
        (["--dask", "local:4"], 1, 5),
        (["--dask", "local:2", "--threads", 4], 2, 4),
        (["--dask", "tcp://127.0.0.1:9"], 2, 5),
        (["--threads", 3], 3, 1),
        ([], 5, 1),
        (["--device", "cuda"], 5, 5),
    ],
)
def test_the_result_is_put_together_with_all_threads_that_do_not_compute(
    job: list[object], given: list[object], computing: int, writing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few a process has; beside graphs that use all of them, with one."""
    monkeypatch.setattr("malice_core.processors.count", lambda: 5)
    if "cuda" in given:
        stand_in(monkeypatch)
    seen: list[int] = []
    means: list[Means] = []
    begun = threading.Event()

    def here(plan: Plan, todo: list[Block], scratch: Scratch, progress: Progress, to: Assembler, *_: object) -> None:
        seen.append(plan.backend.threads)
        _encode_blocks(plan, todo, scratch, progress, to)
        assert begun.wait(60)  # writing, before it is told that all is computed

    def written(*given: Any) -> Steps:
        seen.append(given[-1].threads())
        means.append(given[-1])
        begun.set()
        return grow(*given)

    grow = geotiff.grow
    monkeypatch.setattr(client, "encode", here)
    monkeypatch.setattr(client, "_address", str)
    monkeypatch.setattr(pipeline, "_encode_blocks", here)
    monkeypatch.setattr(geotiff, "grow", written)
    run(*job, *given, "--block", 80)
    assert seen == [computing, writing]
    assert means[0].threads() == max(computing, writing)


def test_a_plan_needs_no_cluster(job: list[object], tmp_path: Path) -> None:
    told = run(*job, "--dask", "tcp://nowhere:9", dry_run=True).plans[0]
    assert told["dask"] == "tcp://nowhere:9"
    assert ", in each process" in told["text"]
    assert free_names(tmp_path) == ["images"]


def test_dask_is_not_loaded_without_the_option(job: list[object]) -> None:
    program = (
        "import sys\nfrom malice_core import embed\nassert embed.main(sys.argv[1:]) == 0\n"
        "assert not {'dask', 'distributed'} & set(sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, job)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_without_workers_it_waits_for_a_while(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "WAITING", 3.0)
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster") as one:
        with pytest.raises(ClusterError, match="no worker for 3 seconds; start some") as seen:
            run(*job, "--dask", one.file)
        assert seen.value.exit_code == 2


def test_a_scheduler_that_goes_is_told(job: list[object], tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    with cluster(tmp_path / "cluster") as one:
        one.add("--no-nanny")
        process = start(*job, "--dask", one.file)
        until_blocks(process, tmp_path / "e.tif", 1)
        one.close()
        _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith(f"error: --dask {one.file}: the scheduler is gone")
    assert "Traceback" not in errors


def ordered(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Has the client send other orders."""
    make = worker.Order
    monkeypatch.setattr(worker, "Order", lambda **given: make(**(given | changes)))


def test_a_worker_that_does_not_see_the_folder_is_told(
    job: list[object], remote: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered(monkeypatch, folder="/not/there/e.tif.malice")
    with pytest.raises(OutputError, match=r"^worker tcp://.*: does not see /not/there/e\.tif\.malice, where"):
        run(*job, "--dask", remote.file)


def test_a_worker_of_another_version_is_told(
    job: list[object], remote: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered(monkeypatch, version="9.9")
    with pytest.raises(InputError, match=r"^worker tcp://.*: has malice-core [\d.]+, the run 9\.9: install"):
        run(*job, "--dask", remote.file)


def test_a_module_that_a_block_misses_is_named(job: list[object], tmp_path: Path) -> None:
    """It is no missing malice-core."""
    (tmp_path / "cluster").mkdir()
    preload = tmp_path / "cluster" / "early.py"
    preload.write_text("from malice_core import worker\nworker.Desk.compute = lambda *_: __import__('nowhere')\n")
    with cluster(tmp_path / "cluster") as one:
        one.add("--no-nanny", "--preload", preload)
        with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere'"):
            run(*job, "--dask", one.file)


def test_a_worker_with_too_little_memory_is_told(tiny: str, remote: Cluster, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^worker tcp://.*: may use 1\.60 GB .* the plan needs [2-9]\.\d+ GB"):
        run(*long_job(tmp_path, 512), "--dask", remote.file)


@pytest.mark.parametrize("field", ["runtime", "precision"])
def test_a_worker_that_computes_otherwise_is_told(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it would compute with must be what was planned, by name and version."""
    planned = worker.runtime.choose(threads=3)
    assert worker._backend(planned, 1) == replace(planned, threads=1, streams=1)
    assert worker._backend(replace(planned, streams=1), 2).streams == 1
    other = replace(planned, **{field: {"runtime": "onnxruntime", "precision": "bfloat16"}[field]})
    monkeypatch.setattr(worker.runtime, "choose", lambda *_: planned)
    with pytest.raises(InputError, match=r"has openvino .*, the plan was made with .*: install the same"):
        worker._backend(other, 2)


def test_an_image_that_is_gone_ends_the_run(job: list[object], tmp_path: Path) -> None:
    process = start(*job, "--dask", "local:1")
    until(lambda: list(folder_of(tmp_path / "e.tif").glob("*.onnx")), "graphs")
    image = sorted((tmp_path / "images").iterdir())[1]
    image.unlink()  # a worker takes longer to start
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = [line for line in errors.splitlines() if not line.startswith("warning: ")]
    assert line.startswith(f"error: cannot open {image}: ")
    assert not (tmp_path / "e.tif").exists()
