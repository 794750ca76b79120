"""The journal: blocks are whole or absent, jobs are never mixed, runs exclude each other."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_scratch import begun, save

from malice_core.errors import OutputError
from malice_core.scratch import Scratch, folder_of, size_of


def arrays(value: int) -> dict[str, np.ndarray]:
    return {"codes": np.full((2, 3, 4), value, np.int16), "counts": np.full((1, 3, 4), value, np.uint16)}


def test_finished_blocks_are_found_again(tmp_path: Path) -> None:
    output = tmp_path / "e.tif"
    with Scratch(output, "job", (8, 8), resume=False) as scratch:
        save(scratch, 7, arrays(5))
    with Scratch(output, "job", (8, 8), resume=True) as scratch:
        assert scratch.finished(7)
        assert not scratch.finished(6)
        np.testing.assert_array_equal(scratch.load(7, "codes"), arrays(5)["codes"])
        np.testing.assert_array_equal(scratch.load(7, "counts"), arrays(5)["counts"])
    assert size_of(output) > arrays(5)["codes"].nbytes


def test_without_resume_old_blocks_are_gone(tmp_path: Path) -> None:
    output = tmp_path / "e.tif"
    with Scratch(output, "job", (8, 8), resume=False) as scratch:
        save(scratch, 0, arrays(1))
    with Scratch(output, "job", (8, 8), resume=False) as scratch:
        assert not scratch.finished(0)


def test_half_a_block_is_no_block(tmp_path: Path) -> None:
    """What a kill before it has its name leaves behind."""
    output = tmp_path / "e.tif"
    with Scratch(output, "job", (8, 8), resume=False) as scratch:
        begun(scratch, 0, arrays(1))
        (scratch.folder / "block_000001.mark.a.tmp").write_bytes(b"half")
    with Scratch(output, "job", (8, 8), resume=True) as scratch:
        assert not scratch.finished(0)
        assert not scratch.finished(1)
        assert sorted(path.name for path in scratch.folder.iterdir()) == ["job.json", "lock"]


def test_another_jobs_blocks_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "e.tif"
    with Scratch(output, "one", (8, 8), resume=False) as scratch:
        save(scratch, 0, arrays(1))
    with pytest.raises(OutputError, match="belongs to another job"):
        Scratch(output, "two", (8, 8), resume=True)
    with Scratch(output, "one", (8, 8), resume=True) as scratch:
        assert scratch.finished(0), "a refused resume must not delete anything"


def test_blocks_of_another_size_are_refused(tmp_path: Path) -> None:
    with Scratch(tmp_path / "e.tif", "one", (8, 8), resume=False):
        pass
    with pytest.raises(OutputError, match="are of 8 pixels, this run's of 8x16: give --block 8, or run without"):
        Scratch(tmp_path / "e.tif", "one", (8, 16), resume=True)


def test_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "e.tif"
    with Scratch(output, "one", (8, 8), resume=False) as scratch:
        (scratch.folder / "job.json").write_text("{")
    with pytest.raises(OutputError, match="is damaged"):
        Scratch(output, "one", (8, 8), resume=True)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "is damaged"),
        ('"one"', "is damaged"),
        ('{"fingerprint": "one", "block": 8}', "was written by an earlier version; run without --resume"),
        ('{"fingerprint": "one", "block": [8]}', "was written by an earlier version"),
        ('{"fingerprint": "one", "block": ["8", "8"]}', "was written by an earlier version"),
        ('{"fingerprint": 3, "block": [8, 8]}', "was written by an earlier version"),
        ("{}", "was written by an earlier version"),
    ],
)
def test_a_journal_of_another_form_is_refused(tmp_path: Path, content: str, told: str) -> None:
    output = tmp_path / "e.tif"
    with Scratch(output, "one", (8, 8), resume=False) as scratch:
        (scratch.folder / "job.json").write_text(content)
    with pytest.raises(OutputError, match=told):
        Scratch(output, "one", (8, 8), resume=True)
    with Scratch(output, "one", (8, 8), resume=False):
        pass


@pytest.mark.parametrize("resume", [False, True])
def test_a_worker_of_a_dead_run_may_rename_its_block_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    output, unlink, renamed = tmp_path / "e.tif", Path.unlink, []
    with Scratch(output, "one", (8, 8), resume=False) as scratch:
        (scratch.folder / "block_000001.mark.a.tmp").write_bytes(b"nearly whole")

    def late(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".tmp":
            renamed.append(path.rename(path.with_suffix(".block")))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", late)
    with Scratch(output, "one", (8, 8), resume=resume) as scratch:
        assert renamed
        assert not list(scratch.folder.glob("*.tmp"))


def test_the_size_of_a_scratch_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, while it is looked at."""
    output, walk = tmp_path / "e.tif", os.walk
    with Scratch(output, "one", (8, 8), resume=False) as scratch:
        save(scratch, 0, arrays(1))
        before = size_of(output)
        (scratch.folder / "block_000001.mark.a.tmp").write_bytes(b"nearly whole")

    def late(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        for found in walk(folder):
            for name in Path(found[0]).glob("*.tmp"):
                name.rename(name.with_suffix(".block"))
            yield found

    monkeypatch.setattr(os, "walk", late)
    assert size_of(output) == before
    assert size_of(output) == before + len(b"nearly whole")
    assert size_of(tmp_path / "other.tif") == 0


def test_two_runs_exclude_each_other_and_a_killed_one_does_not(tmp_path: Path) -> None:
    output = tmp_path / "e.tif"
    code = (
        "import sys, time; from pathlib import Path; from malice_core.scratch import Scratch\n"
        "held = Scratch(Path(sys.argv[1]), 'job', (8, 8), False); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, output], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "held"
        with pytest.raises(OutputError, match="another run"):
            Scratch(output, "job", (8, 8), resume=True)
        other.kill()
        other.wait()
    with Scratch(output, "job", (8, 8), resume=True) as scratch:
        scratch.remove()
    assert not folder_of(output).exists()


class Killed(BaseException):
    """Stands for the end of the process."""


def _kill_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ends the program at the number-th change of a name on disk."""
    calls = itertools.count()

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(calls) == number:
                raise Killed
            return real(*arguments, **named)

        return call

    for name in ("unlink", "rmdir", "replace"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize("what", ["begun anew", "removed", "made"])
def test_killed_while_it_is_deleted_it_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """At each change of a name on disk; until nothing is left of it the folder is known as a run's."""
    output = tmp_path / "e.tif"

    def anew() -> None:
        with Scratch(output, "job", (8, 8), resume=False) as scratch:
            for block in range(3 if what != "made" else 0):
                save(scratch, block, arrays(block))
            if what == "removed":
                scratch.remove()

    for number in itertools.count():
        shutil.rmtree(folder_of(output), ignore_errors=True)
        if what != "made":
            with Scratch(output, "old", (8, 8), resume=False) as scratch:
                save(scratch, 0, arrays(1))
                (scratch.folder / "e.tif").write_bytes(b"an output, half")
        ended = True
        with monkeypatch.context() as patch:
            _kill_at(patch, number)
            try:
                anew()
            except Killed:
                ended = False
        with Scratch(output, "new", (8, 8), resume=False) as scratch:
            assert not scratch.finished(0)
            assert sorted(path.name for path in scratch.folder.iterdir()) == ["job.json", "lock"], number
        if ended:
            break
    assert number >= (1 if what == "made" else 5)


def test_a_scratch_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    folder_of(tmp_path / "e.tif").write_text("a file in the way")
    with pytest.raises(OutputError, match="cannot use"):
        Scratch(tmp_path / "e.tif", "job", (8, 8), resume=False)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "e.tif")
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="holds something else"):
        Scratch(tmp_path / "e.tif", "job", (8, 8), resume=False)
    assert (folder / "thesis.txt").read_text() == "precious"
    assert [entry.name for entry in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("size", [0, 50, 1024, 2000])
def test_a_damaged_block_is_no_block(tmp_path: Path, size: int) -> None:
    with Scratch(tmp_path / "e.tif", "job", (8, 8), resume=False) as scratch:
        save(scratch, 0, {"codes": np.zeros((64, 8, 8), np.float32)})
        assert scratch.finished(0)
        assert not scratch.finished(0, ["codes", "counts"])
        (path,) = scratch.folder.glob("block_000000.*.block")
        whole = path.read_bytes()
        path.write_bytes(whole + b"more")
        assert not scratch.finished(0)
        path.write_bytes(whole[:size])
        assert not scratch.finished(0)
        assert not scratch.finished(1, ["codes", "counts"])
