"""The engine as a process: kill, resume, cancel, json events, exit codes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio
from helpers_embed import command, embedded, free_names, run, write_image, write_series
from helpers_scratch import finished

from malice_core import pipeline, product
from malice_core.cancelling import GRACE_SECONDS, Cancel, watch_signals
from malice_core.errors import OutputError
from malice_core.scratch import folder_of

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "malice_core.embed", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def until_blocks(process: subprocess.Popen[str], output: Path, count: int) -> None:
    """Waits until ``count`` blocks are finished."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if len(finished(output)) >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("no block was finished in two minutes")


def written(path: Path) -> tuple[int, int]:
    """What changes when a file is written again (reading changes its time of access)."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


@pytest.fixture
def job(tiny: str, tmp_path: Path) -> list[object]:
    """A job of 25 blocks that takes some seconds."""
    images = write_series(tmp_path / "images", (80, 80), 3)
    return ["--s2", images, "--model", tiny, "--block", 16, "--queries", "0,1", "--output", tmp_path / "e.tif"]


def kill_and_resume(job: list[object], tmp_path: Path, times: int, seed: int = 0) -> None:
    """Kills the job ``times`` times at random moments of its life, resuming each time; the bands must be the same."""
    reference = embedded(tmp_path / "whole.tif", *job[:-2])
    begun = time.monotonic()
    assert command(*job, "--resume").returncode == 0
    duration = time.monotonic() - begun
    rng = random.Random(seed)
    output = tmp_path / "e.tif"
    killed = 0
    for _ in range(10 * times):
        if output.exists():
            # Whole already: begin again, so that every kill hits a run at work.
            with rasterio.open(output) as file:
                np.testing.assert_array_equal(file.read(), reference)
            output.unlink()
        if killed == times:
            break
        process, begun = start(*job, "--resume"), time.monotonic()
        try:
            process.wait(rng.uniform(0.2, 1.0) * duration)
            # Faster than thought: the machine was busy before, or a cache is warm by now.
            duration = min(duration, time.monotonic() - begun)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        process.communicate()
    assert killed == times
    last = command(*job, "--resume")
    assert last.returncode == 0, last.stderr
    with rasterio.open(output) as file:
        np.testing.assert_array_equal(file.read(), reference)
    assert free_names(tmp_path) == ["e.tif", "images", "whole.tif"]


def test_a_killed_run_is_resumed(job: list[object], tmp_path: Path) -> None:
    process = start(*job)
    until_blocks(process, tmp_path / "e.tif", 4)
    process.kill()
    process.communicate()
    assert not (tmp_path / "e.tif").exists()
    kept = {path: path.stat().st_mtime_ns for path in finished(tmp_path / "e.tif")}
    assert len(kept) >= 4
    again = start(*job, "--resume")
    until_blocks(again, tmp_path / "e.tif", len(kept) // 2 + 2)
    again.kill()
    again.communicate()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "finished blocks were computed again"
    assert command(*job, "--resume").returncode == 0
    with rasterio.open(tmp_path / "e.tif") as file:
        np.testing.assert_array_equal(file.read(), embedded(tmp_path / "whole.tif", *job[:-2]))
    assert free_names(tmp_path) == ["e.tif", "images", "whole.tif"]


@pytest.mark.acceptance
def test_ten_kills_at_random_moments(job: list[object], tmp_path: Path) -> None:
    kill_and_resume(job, tmp_path, 10)


@posix
def test_other_signals_do_not_cancel_and_signals_are_as_before_afterwards() -> None:
    cancel, before = Cancel(), signal.getsignal(signal.SIGINT)
    kept = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with watch_signals(cancel, lambda: None):
            signal.raise_signal(signal.SIGUSR1)
            time.sleep(2 * GRACE_SECONDS)
            cancel.check()
        # Nobody listens any more: the process is still there when those who left have had their time.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.raise_signal(signal.SIGINT)
        time.sleep(2 * GRACE_SECONDS)
        cancel.check()
        signal.signal(signal.SIGINT, before)
        with watch_signals(cancel, lambda: None):
            pass
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGUSR1, kept)


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_leave_within_a_second(job: list[object], tmp_path: Path, number: signal.Signals) -> None:
    process = start(*job)
    until_blocks(process, tmp_path / "e.tif", 1)
    process.send_signal(number)
    begun = time.monotonic()
    _, errors = process.communicate(timeout=20)
    assert time.monotonic() - begun < 1.0
    assert process.returncode == 3
    assert errors.strip().splitlines()[-1].startswith("error: cancelled")
    assert not (tmp_path / "e.tif").exists()


def test_a_closed_stdin_cancels_when_asked(job: list[object], tmp_path: Path) -> None:
    process = start(*job, "--cancel-on-stdin-close", stdin=subprocess.PIPE)
    until_blocks(process, tmp_path / "e.tif", 1)
    assert process.stdin is not None
    begun = time.monotonic()
    process.communicate(timeout=20)  # closes stdin
    assert time.monotonic() - begun < 1.0
    assert process.returncode == 3


def test_a_closed_stdin_is_nothing_otherwise(job: list[object], tmp_path: Path) -> None:
    assert command(*job, stdin=subprocess.DEVNULL).returncode == 0


def test_json_events(job: list[object], tmp_path: Path) -> None:
    result = command(*job, "--progress", "json")
    assert result.returncode == 0
    events = [json.loads(line) for line in result.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "done"
    assert events[-1]["files"] == [str(tmp_path / "e.tif")]
    plan = events[kinds.index("plan")]["plan"]
    assert plan["blocks"] == 25
    assert plan["memory_bytes"] > 0
    shares = [(event["done"], event["total"]) for event in events if event["event"] == "progress"]
    assert shares == sorted(shares)
    assert shares[-1][0] == shares[-1][1]
    assert any(event.get("eta_s") is not None for event in events)


def test_progress_moves_in_the_smallest_steps_of_writing() -> None:
    seen: list[int] = []
    steps: list[str] = []
    stack = SimpleNamespace(observations=range(30))
    reporter = SimpleNamespace(progress=lambda done, total, step: (seen.append(done), steps.append(step)))
    progress = pipeline.Progress(SimpleNamespace(stacks={"s2": stack}), 10, 1, reporter)  # type: ignore[arg-type]
    for _ in range(500):
        progress.assembled(0.001)
    # Blocks are computed beside.
    progress.encoded(60)
    for _ in range(500):
        progress.assembled(0.001)
    assert seen[0] == 540
    assert seen[-1] == 659
    assert seen == sorted(seen)
    assert len(set(seen)) == 61
    assert steps == ["encoding"] * 501 + ["writing"] * 501


def test_errors_are_one_line_and_one_event(tiny: str, tmp_path: Path) -> None:
    arguments = ["--s2", tmp_path / "nothing", "--model", tiny, "--output", tmp_path / "e.tif", "--progress", "json"]
    result = command(*arguments)
    assert result.returncode == 2
    event = json.loads(result.stdout)
    assert event["event"] == "error"
    assert event["code"] == 2
    assert result.stderr.strip() == f"error: {event['message']}"
    assert "nothing" in event["message"]


def test_contract() -> None:
    answer = json.loads(command("--contract").stdout)
    assert answer == {"contract": 1, "version": answer["version"]}


def test_a_whole_output_is_not_computed_again(job: list[object], tmp_path: Path) -> None:
    run(*job)
    before = written(tmp_path / "e.tif")
    run(*job, "--resume")
    assert written(tmp_path / "e.tif") == before
    with pytest.raises(OutputError, match="not written by this job"):
        run(*job, "--resume", "--nodata", "zero")
    assert written(tmp_path / "e.tif") == before
    run(*job, "--resume", "--nodata", "zero", "--overwrite")
    assert written(tmp_path / "e.tif") != before


def test_resume_replaces_nothing_it_has_not_written(job: list[object], tmp_path: Path) -> None:
    run(*job)
    foreign = tmp_path / "n.tif"
    foreign.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"n\.tif is there and was not written by this job"):
        run(*job, "--resume", "--counts", foreign)
    assert foreign.read_bytes() == b"precious"
    (tmp_path / "e.tif").write_bytes(b"precious too")
    with pytest.raises(OutputError, match=r"e\.tif is there"):
        run(*job, "--resume", "--counts", tmp_path / "new.tif")
    assert (tmp_path / "e.tif").read_bytes() == b"precious too"
    assert not (tmp_path / "new.tif").exists()


def test_a_whole_output_is_whole_however_it_is_cut_or_asked_for(job: list[object], tmp_path: Path) -> None:
    run(*job)
    before = written(tmp_path / "e.tif")
    left = folder_of(tmp_path / "e.tif")
    left.mkdir()  # killed between putting the output in place and tidying up
    with rasterio.open(tmp_path / "e.tif") as file:
        journal = {"fingerprint": file.tags()["MALICE_JOB"], "block": [16, 16]}
    (left / "job.json").write_text(json.dumps(journal))
    (left / "block_000000.a.block").write_bytes(b"left")
    run(*job, "--resume", "--block", 32, "--memory", "1GB", "--runtime", "openvino", "--threads", 1)
    assert written(tmp_path / "e.tif") == before
    assert not left.exists()


def test_a_plain_file_is_no_cloud_optimised_one(
    job: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "TILE", 32)  # of a single tile there are no overviews
    plain = embedded(tmp_path / "e.tif", *job)
    run(*job, "--format", "cog", "--resume")
    with rasterio.open(tmp_path / "e.tif") as file:
        assert file.overviews(1) == [2, 4]
        np.testing.assert_array_equal(file.read(), plain)
    before = written(tmp_path / "e.tif")
    run(*job, "--format", "cog", "--resume")
    run(*job, "--resume")
    assert written(tmp_path / "e.tif") == before


def test_other_masks_are_another_job(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "images", (16, 16), 2)
    classes = tmp_path / "scl"
    classes.mkdir()
    for seed in (1, 2):
        for path in images.glob("*.tif"):
            scl = np.random.default_rng(seed).choice([4, 9], (1, 16, 16))
            name = classes / path.name.replace("S2", "SCL")
            write_image(name, scl, ("SCL",), (500000.0, 5600000.0), "EPSG:32631", True)
        arguments = ["--s2", images, "--scl", classes, "--mask-clouds", "--model", tiny, "--queries", "0"]
        if seed == 1:
            run(*arguments, "--output", tmp_path / "e.tif")
        else:
            with pytest.raises(OutputError, match="not written by this job"):
                run(*arguments, "--output", tmp_path / "e.tif", "--resume")
    run(*arguments, "--output", tmp_path / "e.tif", "--overwrite")
    with rasterio.open(tmp_path / "e.tif") as file:
        assert file.tags()["MALICE_MASKED_CLASSES"] == "3,8,9,10"


def test_outputs_may_lie_on_different_file_systems(job: list[object], tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or os.stat(other).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("there is no second file system here")
    counts = other / f"malice_test_{os.getpid()}.tif"
    try:
        run(*job, "--counts", counts)
        with rasterio.open(counts) as file:
            assert (file.read() == 3).all()
        assert not list(other.glob(f".{counts.name}*"))
    finally:
        counts.unlink(missing_ok=True)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="there is no /proc to see handlers in")
@pytest.mark.parametrize("after", [0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_heeded_from_the_beginning(job: list[object], tmp_path: Path, number: int, after: float) -> None:
    """While the libraries are still being loaded, too: from the moment on at which ours runs, as the system tells."""
    process = start(*job)
    while not _handles(process.pid, signal.SIGTERM):
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(after)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3, errors
    assert errors.splitlines()[-1].startswith("error: cancelled")
    assert "Traceback" not in errors


def _handles(pid: int, number: int) -> bool:
    """True if a process has a handler of its own for a signal."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (number - 1) & 1)


@posix
def test_a_stdin_that_was_never_open_is_an_end_of_stdin(job: list[object], tmp_path: Path) -> None:
    line = " ".join(f"'{argument}'" for argument in job)
    result = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m malice_core.embed {line} --cancel-on-stdin-close <&-"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 3
    assert "Traceback" not in result.stderr


def test_paths_the_output_encoding_lacks(tiny: str, tmp_path: Path) -> None:
    images = write_series(tmp_path / "中文", (16, 16), 1)
    arguments = ["--s2", images, "--model", tiny, "--queries", "0", "--overwrite", "--output", images / ".." / "é.tif"]
    for progress in ("json", "text"):
        result = command(
            *arguments, "--progress", progress, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, encoding="cp1252"
        )
        assert result.returncode == 0, result.stderr


def test_changed_images_are_another_job(job: list[object], tmp_path: Path) -> None:
    process = start(*job)
    until_blocks(process, tmp_path / "e.tif", 1)
    process.kill()
    process.communicate()
    image = sorted((tmp_path / "images").iterdir())[0]
    with rasterio.open(image, "r+") as file:
        file.write(file.read() + 1)
    with pytest.raises(OutputError, match="belongs to another job"):
        run(*job, "--resume")
    run(*job)
    assert free_names(tmp_path) == ["e.tif", "images"]


def test_an_existing_output_survives_a_run_that_fails(job: list[object], tmp_path: Path) -> None:
    output = tmp_path / "e.tif"
    output.write_bytes(b"precious")
    process = start(*job, "--overwrite")
    until_blocks(process, output, 1)
    process.kill()
    process.communicate()
    assert output.read_bytes() == b"precious"
    run(*job, "--overwrite", "--resume")
    with rasterio.open(output) as file:
        assert file.count == 128


def test_a_file_cut_short_in_the_middle_of_a_run_names_itself(job: list[object], tmp_path: Path) -> None:
    image = sorted((tmp_path / "images").iterdir())[1]
    image.write_bytes(image.read_bytes()[:-20000])
    result = command(*job)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert image.name in result.stderr
    assert not (tmp_path / "e.tif").exists()


def test_what_lay_beside_a_replaced_output_goes(tiny: str, tmp_path: Path) -> None:
    """Overviews, statistics and georeference of the old file would be read as the new one's."""
    images = write_series(tmp_path / "S2", (24, 24), 2)
    output = tmp_path / "e.tif"
    arguments = ("--s2", images, "--model", tiny, "--queries", "0", "--output", output, "--overwrite")
    run(*arguments)
    beside = [output.with_name(output.name + suffix) for suffix in (".ovr", ".aux.xml", ".msk")]
    for path in beside:
        path.write_text("of the old one")
    run(*arguments)
    assert not any(path.exists() for path in beside)
    with rasterio.open(output) as file:
        assert file.crs.to_epsg() == 32631
