"""Finished blocks on disk, so that a killed run can be resumed: a folder beside the output.

``OUTPUT.malice/`` holds ``job.json`` (the journal: which job these blocks belong to), a file of each
finished block (``spool.py``; written under another name, flushed to disk and renamed, so it is there whole or not at
all), a lock, and the output while it is put together. A run on a cluster holds the lock itself, and lets its workers
save their blocks here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO

from malice_core import spool
from malice_core.errors import OutputError
from malice_core.grid import block_text
from malice_core.job import SCRATCH_SUFFIX
from malice_core.outputs import Kinds
from malice_core.placing import put_back
from malice_core.spool import Pieces, Spool

JOURNAL = "job.json"
#: Ends the names of files that are being written.
PARTIAL = ".tmp"
#: An output that is a folder waits here until the new one has its name.
REPLACED = "replaced"


def folder_of(output: Path) -> Path:
    """The scratch folder of an output file."""
    return output.with_name(output.name + SCRATCH_SUFFIX)


def size_of(output: Path) -> int:
    """Bytes in the scratch folder of ``output``; 0 when there is none."""
    total = 0
    for folder, _, names in os.walk(folder_of(output)):
        for name in names:
            # A worker of a run that is dead may rename its block just now.
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def owner_of(output: Path) -> str | None:
    """Fingerprint of the job whose finished blocks lie beside ``output``; None if there are none to be read."""
    return owner(folder_of(output))


def owner(folder: Path) -> str | None:
    """As :func:`owner_of`, of a scratch folder."""
    try:
        found = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(found)


def sides_of(output: Path, fingerprint: str) -> tuple[int, int] | None:
    """(height, width) of the finished blocks beside ``output``; None if there are none of this job."""
    folder = folder_of(output)
    if owner(folder) != fingerprint:
        return None
    try:
        height, width = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))["block"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(height), int(width)


class Blocks:
    """The finished blocks in a scratch folder.

    Args:
        folder: the scratch folder.
        fingerprint, block: as of :class:`Scratch`.
    """

    def __init__(self, folder: Path, fingerprint: str, block: tuple[int, int]) -> None:
        self.folder = folder
        self._fingerprint, self._block = fingerprint, block
        # A worker of a run that was killed may finish its block when the folder is another job's already.
        self._mark = hashlib.sha256(f"{fingerprint} {self._block}".encode()).hexdigest()[:8]
        self._held: dict[int, Spool] = {}

    def _path(self, block: int, ending: str = "block") -> Path:
        return self.folder / f"block_{block:06d}.{self._mark}.{ending}"

    def finished(self, block: int, keys: Iterable[str] = ()) -> bool:
        """True if the block is there and whole, with these arrays; a damaged block is computed again."""
        if block in self._held:
            return True
        try:
            form = spool.form(self._path(block))
        except (OSError, ValueError):
            return False
        return set(keys) <= set(form.kinds)

    def begin(self, block: int, shape: tuple[int, int], kinds: Kinds) -> Spool:
        """What takes the numbers of a block, (height, width), of these arrays.

        Raises:
            OutputError: if the disk is full or cannot be written.
        """

        def failed(error: OSError) -> OutputError:
            gone = "see who has removed the folder" if error.errno == errno.ENOENT else "free space"
            return OutputError(
                f"cannot write block {block} to {self.folder}: {error.strerror or error}; {gone}, then run again with "
                "--resume"
            )

        # A worker that was given up may still be at it: each writes under a name of its own.
        partial = self._path(block, f"{uuid.uuid4().hex[:8]}{PARTIAL}")
        return Spool(partial, self._path(block), shape, kinds, failed)

    def hold(self, block: int, numbers: Spool) -> None:
        """Has a block be finished for who asks here, though its file has no name yet, and not all of it is there."""
        self._held[block] = numbers

    def let_go(self, block: int) -> None:
        """Takes :meth:`hold` back."""
        self._held.pop(block, None)

    def load(self, block: int, key: str) -> Pieces:
        """One array of a finished block."""
        held = self._held.get(block)
        return spool.load(self._path(block), key) if held is None else held.load(key)

    def pass_by(self, block: int, key: str, rows: slice) -> None:
        """Says of some rows that they are not needed any more, unless the run is resumed. Some systems do nothing
        with that."""
        if not hasattr(os, "posix_fadvise"):
            return
        held, path = self._held.get(block), self._path(block)
        with contextlib.suppress(OSError, ValueError):
            if held is None:
                spool.form(path).pass_by(path, key, rows, written=True)
            else:
                held.pass_by(key, rows)


class Scratch(Blocks):
    """The scratch folder of one run, locked against other runs while open.

    Args:
        output: the final output file.
        fingerprint: identity of the job; blocks of another job are never mixed in.
        block: (height, width) of the blocks; they are only interchangeable with blocks of that size.
        resume: keep the blocks of the same job that are there; otherwise start anew.

    Raises:
        OutputError: if another run holds the folder, its journal is another job's (``resume``), or it
            cannot be written.
    """

    def __init__(self, output: Path, fingerprint: str, block: tuple[int, int], resume: bool) -> None:
        super().__init__(folder_of(output), fingerprint, block)
        self._output = output
        try:
            self.folder.mkdir(exist_ok=True)
            self._require_ours()
            self._lock = lock(self.folder / "lock")
            try:
                self._claim(resume)
            except BaseException:
                self._lock.close()
                raise
        except OSError as error:
            raise OutputError(f"cannot use {self.folder} for unfinished work: {error.strerror}") from error

    def _require_ours(self) -> None:
        # A run may have been killed before it had a journal, or after.
        there = (self.folder / JOURNAL).exists() or {entry.name for entry in self.folder.iterdir()} <= {
            "lock",
            f"{JOURNAL}{PARTIAL}",
        }
        if self.folder.is_symlink() or not there:
            raise OutputError(
                f"{self.folder} is needed for unfinished work, but holds something else; rename it, or choose another "
                "--output"
            )

    def _claim(self, resume: bool) -> None:
        journal = self.folder / JOURNAL
        put_back(self.folder / REPLACED, self._output)
        if resume and journal.exists():
            try:
                content = json.loads(journal.read_text(encoding="utf-8"))
                owner = content.get("fingerprint")
            except (ValueError, AttributeError) as error:
                raise OutputError(f"--resume: {journal} is damaged; run without --resume to start anew") from error
            match content.get("block"):
                case [int(height), int(width)] if isinstance(owner, str):
                    pass
                case _:
                    raise OutputError(
                        f"--resume: {journal} was written by an earlier version; run without --resume to start anew"
                    )
            if owner != self._fingerprint:
                raise OutputError(
                    f"--resume: {self.folder} belongs to another job ({owner[:12]}…, this one is "
                    f"{self._fingerprint[:12]}…: other data, dates, options or version); "
                    "run without --resume to start anew"
                )
            if (block := (height, width)) != self._block:
                there, here = block_text(block), block_text(self._block)
                raise OutputError(
                    f"--resume: the finished blocks in {self.folder} are of {there} pixels, this run's of {here}: give "
                    f"--block {there}, or run without --resume to start anew"
                )
        # Without a journal the folder would be nobody's: the new one comes before the old goes.
        write_whole(journal, json.dumps({"fingerprint": self._fingerprint, "block": self._block}).encode())
        if not resume:
            self._clear()
        # A worker of a run that is dead may finish its block, and rename it, just now.
        for left in self.folder.glob(f"*{PARTIAL}"):
            left.unlink(missing_ok=True)

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def remove(self) -> None:
        """Deletes the folder once the output is whole, its journal last: until then it is a run's."""
        with contextlib.suppress(OSError):
            self._clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self) -> None:
        """Deletes all but journal and lock."""
        for entry in self.folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name not in ("lock", JOURNAL):
                entry.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Writes a small file so that it is there whole or not at all."""
    partial = path.with_name(path.name + PARTIAL)
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def lock(path: Path) -> IO[bytes]:
    """Opens ``path`` and locks it; the system frees the lock when the process ends, however it ends.

    Raises:
        OutputError: if another process has it.
        OSError: if it cannot be opened, or the file system has no locks.
    """
    file = open(path, "ab")  # noqa: SIM115  kept open for the run
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise
        raise OutputError(f"another run is writing {path.parent}; wait for it, or choose another output") from error
    return file
