"""Builds of datasets that are killed or stopped: nothing half-built is taken for whole, and resuming ends the same."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers_dataset import built, files, options, run, write_stack

from malice_core import dataset
from malice_core.patches import beside, build
from malice_core.patches.store import Dataset

pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stack(tmp_path_factory.mktemp("stack"))


@pytest.fixture(scope="module")
def whole(stack: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return built(stack, tmp_path_factory.mktemp("whole") / "d.zarr")


class Killed(BaseException):
    """Stands for the end of the process."""


def _kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> Callable[[], int]:
    """Ends the program at the number-th change of a name on disk or line of the journal."""
    calls = itertools.count()
    replace, rmtree, entry = os.replace, shutil.rmtree, build._entry

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            # Not in Zarr's thread, which would go on without us: a process that is killed is tested below.
            if threading.current_thread() is threading.main_thread() and next(calls) == number:
                raise Killed
            return real(*arguments, **named)

        return call

    monkeypatch.setattr(build.os, "replace", counted(replace))
    monkeypatch.setattr(build.shutil, "rmtree", counted(rmtree))
    monkeypatch.setattr(build, "_entry", counted(entry))
    return lambda: next(calls)


@pytest.mark.parametrize("mode", ["new", "append", "overwrite"])
def test_killed_anywhere_and_resumed_it_ends_the_same(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_stack(tmp_path / "first", 16, 32)
    second = write_stack(tmp_path / "second", 16, 32, seed=1, shift=100)
    more = {"new": ["--patch", 16], "append": ["--append"], "overwrite": ["--patch", 16, "--overwrite"]}[mode]
    old, expected = tmp_path / "old.zarr", tmp_path / "expected.zarr"
    if mode != "new":
        built(first, old)
        shutil.copytree(old, expected)
    assert run(options(second, expected, *more)) == 0

    folder, ends = tmp_path / "d.zarr", False
    for number in itertools.count():
        for path in (folder, tmp_path / "d.zarr.malice"):
            shutil.rmtree(path, ignore_errors=True)
        if mode != "new":
            shutil.copytree(old, folder)
        with monkeypatch.context() as patch:
            _kill_at(patch, number)
            try:
                assert run(options(second, folder, *more)) == 0
                ends = True
            except Killed:
                pass
        if folder.exists() and not ends:
            # Whatever is there is a whole dataset: the old one, or the new one.
            assert Dataset(folder).hash in {Dataset(path).hash for path in (old, expected) if path.exists()}
            assert run(["info", f"{folder}", "--verify"]) == 0
        assert run(options(second, folder, *more, "--resume")) == 0
        assert files(folder) == files(expected), number
        assert not (tmp_path / "d.zarr.malice").exists()
        if ends:
            break
    assert number > 5


def _places(tmp_path: Path) -> tuple[list[str], Path, Path]:
    """The command for two places, the dataset that it is to replace, and what it gives."""
    for i, name in enumerate("ab"):
        write_stack(tmp_path / "all" / name, 16, 32, seed=i, shift=100 * i)
    old, expected = tmp_path / "old.zarr", tmp_path / "expected.zarr"
    built(write_stack(tmp_path / "other", 16, 32, seed=2, shift=300), old)
    command = ["build", "--places", f"{tmp_path / 'all'}", "--patch", "16", "--output"]
    assert run([*command, f"{expected}"]) == 0
    return command, old, expected


@pytest.mark.parametrize("mode", ["new", "overwrite"])
def test_places_that_are_killed_anywhere_leave_the_dataset_as_it_was(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, old, expected = _places(tmp_path)
    folder, ends = tmp_path / "d.zarr", False
    command += [f"{folder}", *(["--overwrite"] if mode == "overwrite" else [])]
    for number in itertools.count():
        for path in (folder, tmp_path / "d.zarr.malice"):
            shutil.rmtree(path, ignore_errors=True)
        if mode == "overwrite":
            shutil.copytree(old, folder)
        with monkeypatch.context() as patch:
            _kill_at(patch, number)
            try:
                assert run(command) == 0
                ends = True
            except Killed:
                pass
        if folder.exists():
            assert files(folder) in (files(old), files(expected)), number
        assert run([*command, "--resume"]) == 0
        assert files(folder) == files(expected), number
        assert not (tmp_path / "d.zarr.malice").exists()
        if ends:
            break
    assert number > 10


def test_a_place_that_fails_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, _, folder = _places(tmp_path)
    before = files(folder)
    image = next((tmp_path / "all" / "b" / "S2").iterdir())
    whole = image.read_bytes()
    image.write_bytes(whole[:900])
    command += [f"{folder}", "--overwrite"]
    assert run(command) == 2
    assert image.name in capsys.readouterr().err
    assert files(folder) == before
    # Other builds do not go on with it, and one that starts anew is not hindered by it.
    assert run(options(tmp_path / "all" / "a", folder, "--patch", 16, "--overwrite", "--resume")) == 2
    assert "belongs to a build of several places" in capsys.readouterr().err
    image.write_bytes(whole)
    (tmp_path / "all" / "c").mkdir()
    write_stack(tmp_path / "all" / "c", 16, 32, seed=4, shift=500)
    assert run([*command, "--resume"]) == 0
    assert [place.name for place in Dataset(folder).places] == ["a", "b", "c"]
    assert run(options(tmp_path / "other", folder, "--patch", 16, "--overwrite")) == 0
    assert len(Dataset(folder).places) == 1


def test_what_fails_in_a_place_is_not_told_as_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what the folder of the whole build itself cannot be written for is."""
    command, _, _ = _places(tmp_path)
    command += [f"{tmp_path / 'd.zarr'}"]

    def failing(*arguments: Any, **options: Any) -> None:
        raise OSError(5, "Input/output error", "image.tif")

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "_add_places", failing)
        assert run(command) == 1
    told = capsys.readouterr().err
    assert "image.tif" in told
    assert "cannot write" not in told
    assert "free space" not in told
    assert not (tmp_path / "d.zarr.malice").exists()
    with monkeypatch.context() as patch:
        patch.setattr(beside, "restore", failing)
        assert run(command) == 2
    assert "cannot write image.tif: Input/output error; free space" in capsys.readouterr().err


def test_a_killed_process_resumes(stack: Path, whole: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "d.zarr"
    command = [sys.executable, "-m", "malice_core.dataset", *options(stack, folder, "--patch", 16)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = tmp_path / "d.zarr.malice" / "patches.jsonl"
    until = time.monotonic() + 60
    while not (journal.exists() and journal.stat().st_size) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    process.kill()
    process.wait()
    if journal.exists():
        with open(journal, "ab") as file:  # a line cut short
            file.write(b'{"patch": 3, "kep')
        (tmp_path / "d.zarr.malice" / "whole.zarr" / "zarr.0123.partial").write_bytes(b"{")
    assert run(options(stack, folder, "--patch", 16, "--resume")) == 0
    assert files(folder) == files(whole.folder)


def test_ctrl_c_ends_with_exit_code_3(stack: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "malice_core.dataset", *options(stack, tmp_path / "d.zarr", "--patch", 16)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (tmp_path / "d.zarr.malice").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if (tmp_path / "d.zarr").exists():
        pytest.skip("it was finished before the signal came")
    assert process.returncode == 3
    assert errors.splitlines()[-1].startswith("error: cancelled")
    assert run(["info", f"{tmp_path / 'd.zarr'}"]) == 2
    assert run(options(stack, tmp_path / "d.zarr", "--patch", 16, "--resume")) == 0


def test_resume_is_for_the_same_build_only(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        _kill_at(patch, 9)
        with pytest.raises(Killed):
            run(options(stack, tmp_path / "d.zarr", "--patch", 16))
    assert run(["info", f"{tmp_path / 'd.zarr'}"]) == 2
    assert "--resume" in capsys.readouterr().err
    assert run(options(stack, tmp_path / "d.zarr", "--patch", 24, "--resume")) == 2
    assert "belongs to another build" in capsys.readouterr().err
    assert run(options(stack, tmp_path / "d.zarr", "--patch", 24)) == 0
    assert Dataset(tmp_path / "d.zarr").patch == 24
