"""Blocks as files: numbers that come in pieces, from threads, are read by bands, rows and columns."""

from __future__ import annotations

import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_scratch import put

from malice_core import spool
from malice_core.errors import OutputError
from malice_core.spool import Held, Pieces, Spool

KINDS = {"codes": (5, np.dtype(np.float32)), "counts": (2, np.dtype(np.uint16)), "bytes": (3, np.dtype(np.uint8))}


def told(error: OSError) -> OutputError:
    return OutputError(f"told: {error.strerror}")


def arrays(shape: tuple[int, int]) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(math.prod(shape))
    return {
        key: (rng.integers(0, 200, (bands, *shape)) + (dtype.kind == "f") / 7).astype(dtype)
        for key, (bands, dtype) in KINDS.items()
    }


def written(path: Path, shape: tuple[int, int]) -> dict[str, np.ndarray[Any, Any]]:
    made = arrays(shape)
    numbers = Spool(path.with_suffix(".tmp"), path, shape, KINDS, told)
    put(numbers, made)
    for key, array in made.items():
        np.testing.assert_array_equal(np.array(numbers.load(key)), array)
    assert not path.exists()
    numbers.finish()
    assert not path.with_suffix(".tmp").exists()
    return made


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (16, 16), (7, 37), (20, 40), (64, 64), (2, 700)])
def test_any_part_is_what_was_put(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Of blocks of less than a piece, of pieces that end within a row, and of whole ones."""
    made = written(tmp_path / "a.block", shape)
    rng = np.random.default_rng(0)
    for key, array in made.items():
        found = spool.load(tmp_path / "a.block", key)
        assert isinstance(found, Pieces)
        assert (found.shape, found.dtype, len(found)) == (array.shape, array.dtype, len(array))
        np.testing.assert_array_equal(np.array(found), array)
        for _ in range(30):
            bounds = [sorted(rng.choice(size + 1, 2, replace=False)) for size in array.shape]
            place = tuple(slice(int(first), int(last)) for first, last in bounds)
            np.testing.assert_array_equal(found[place], array[place])


def test_threads_may_put_at_once(tmp_path: Path) -> None:
    made, path = arrays((90, 90)), tmp_path / "a.block"
    numbers = Spool(tmp_path / "a.tmp", path, (90, 90), KINDS, told)
    flat = {key: array.reshape(len(array), -1) for key, array in made.items()}

    def some(job: tuple[str, int, int]) -> None:
        key, band, start = job
        numbers.put(key, band, start, flat[key][band : band + 1, start : start + 256])

    jobs = [(key, band, start) for key, (bands, _) in KINDS.items() for band in range(bands) for start in STARTS]
    np.random.default_rng(0).shuffle(jobs)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(some, jobs))
    numbers.finish()
    for key, array in made.items():
        np.testing.assert_array_equal(np.array(spool.load(path, key)), array)


STARTS = range(0, 8100, 256)


def test_what_does_not_begin_a_piece_is_refused(tmp_path: Path) -> None:
    numbers = Spool(tmp_path / "a.tmp", tmp_path / "a", (30, 30), KINDS, told)
    with pytest.raises(AssertionError, match="pixel 300 is within a piece of 256"):
        numbers.put("codes", 0, 300, np.zeros((5, 256), np.float32))
    numbers.discard()
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_cut_or_of_something_else_is_no_block(tmp_path: Path) -> None:
    path = tmp_path / "a.block"
    written(path, (20, 40))
    whole = path.read_bytes()
    for content in (b"", whole[:500], whole[:-1], whole + b"0", b"{}" + whole[2:], b"[1]".ljust(1024), b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is no block|is not whole|Expecting value|Extra data|codec"):
            spool.form(path)
    path.write_bytes(whole)
    assert set(spool.form(path).kinds) == set(KINDS)
    with pytest.raises(ValueError, match="has no scales"):
        spool.load(path, "scales")
    with pytest.raises(FileNotFoundError):
        spool.load(tmp_path / "b.block", "codes")


def test_an_error_of_the_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="told: No such file"):
        Spool(tmp_path / "gone" / "a.tmp", tmp_path / "a", (8, 8), KINDS, told)
    numbers = Spool(tmp_path / "a.tmp", tmp_path / "gone" / "a", (8, 8), KINDS, told)
    with pytest.raises(OutputError, match="told: No such file"):
        numbers.finish()
    assert not list(tmp_path.iterdir())
    numbers = Spool(tmp_path / "a.tmp", tmp_path / "a", (8, 8), KINDS, told)

    class Full:
        """A disk that takes some bytes, and then no more."""

        def __init__(self, file: Any) -> None:
            self.file, self.left = file, 100

        def seek(self, place: int) -> None:
            self.file.seek(place)

        def write(self, content: memoryview) -> int:
            if not self.left:
                raise OSError(28, "No space left on device")
            some, self.left = content[: self.left], self.left - len(content[: self.left])
            return int(self.file.write(some))

        def close(self) -> None:
            self.file.close()

    monkeypatch.setattr(numbers, "_file", Full(numbers._file))
    with pytest.raises(OutputError, match="told: No space left on device"):
        numbers.put("codes", 0, 0, np.zeros((5, 64), np.float32))
    numbers.discard()
    assert not list(tmp_path.iterdir())


def test_in_memory_any_pieces_will_do() -> None:
    made = arrays((7, 11))
    held = Held(77, KINDS)
    for (key, array), start in itertools.product(made.items(), range(0, 77, 10)):
        held.put(key, 0, start, array.reshape(len(array), -1)[:, start : start + 10])
    for key, array in made.items():
        np.testing.assert_array_equal(held.arrays[key].reshape(array.shape), array)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system has no such call")
@pytest.mark.parametrize("whole", [True, False])
def test_rows_that_are_passed_by_leave_the_memory_and_stay(
    whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a block that is still written too, after the disk has them; not a byte of other arrays and pieces."""
    shape, made = (20, 40), arrays((20, 40))
    path = tmp_path / "a.block"
    numbers = Spool(path.with_suffix(".tmp"), path, shape, KINDS, told)
    put(numbers, made)
    if whole:
        numbers.finish()
    calls: list[tuple[str, Any]] = []
    sync, advise = os.fdatasync, os.posix_fadvise

    def take(file: int) -> None:
        calls.append(("synced", os.fstat(file).st_ino))
        sync(file)

    def advised(file: int, begin: int, length: int, advice: int) -> None:
        calls.append(("advised", (os.fstat(file).st_ino, begin, length, advice)))
        advise(file, begin, length, advice)

    monkeypatch.setattr(os, "fdatasync", take)
    monkeypatch.setattr(os, "posix_fadvise", advised)
    for rows in (slice(0, 16), slice(16, 18), slice(16, 20)):
        if whole:
            spool.form(path).pass_by(path, "codes", rows, written=True)
        else:
            numbers.pass_by("codes", rows)
    node = (path if whole else path.with_suffix(".tmp")).stat().st_ino
    # 16 rows of 40 pixels are two pieces of 256 and a half; two more end within that; with two more it is whole. The
    # last piece, which the block does not fill, is kept.
    size, dropped = 5 * 256 * 4, os.POSIX_FADV_DONTNEED
    synced = [] if whole else [("synced", node)]
    assert calls == [
        *synced,
        ("advised", (node, spool.HEAD, 2 * size, dropped)),
        *synced,
        ("advised", (node, spool.HEAD + 2 * size, size, dropped)),
    ]
    for key, array in made.items():
        again = spool.load(path, key) if whole else numbers.load(key)
        np.testing.assert_array_equal(np.array(again), array)
