"""The numbers of one block as a file, written as they are made, and read back by bands and rows.

A file has all arrays of a block, one after the other, each in pieces of some pixels: ``(pieces, bands, pixels of a
piece)``. So whoever makes the numbers of some pixels writes them at one place, and no block is ever held in memory.
The file begins with a description as JSON. It has another name until it is whole.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core.encoder import CHUNK
from malice_core.errors import OutputError
from malice_core.outputs import Kinds

#: Bytes of the description.
HEAD = 1024
#: Arrays begin at multiples of this: numbers of all types are aligned.
ALIGNED = 64
#: Seconds to wait before a file gets its name, on Windows: whoever reads its first rows has it open for moments.
PAUSES = [0.02] * 100


class Pieces:
    """An array in pieces, (bands, height, width), read by slices.

    It is read, not mapped: of a file that is mapped, the system counts much more as memory of the process than it
    looks at.

    Args:
        file: opened to be read, and closed with this.
        start: where the pieces begin, (bands, pixels of a piece) each.
        piece: pixels of a piece.
        shape: (bands, height, width).
        dtype: of the numbers.
    """

    def __init__(
        self, file: io.FileIO, start: int, piece: int, shape: tuple[int, int, int], dtype: np.dtype[Any]
    ) -> None:
        self._file, self._start, self._piece = file, start, piece
        self.shape, self.dtype = shape, dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, place: tuple[slice, slice, slice]) -> NDArray[Any]:
        """Some bands, rows and columns.

        Raises:
            OSError: if they cannot be read.
        """
        total, height, width = self.shape
        low, high, _ = place[0].indices(total)
        start, stop, _ = place[1].indices(height)
        piece, size = self._piece, self.dtype.itemsize
        first, last = start * width // piece, -(-stop * width // piece)
        # Whole pieces, which the rows begin and end within.
        read = np.empty((last - first, high - low, piece), self.dtype)
        for number, into in enumerate(read, first):
            self._file.seek(self._start + (number * total + low) * piece * size)
            if self._file.readinto(into.reshape(-1).view(np.uint8).data) != into.nbytes:
                raise OSError(f"{self._file.name} is shorter than it was")
        found = read.transpose(1, 0, 2).reshape(high - low, -1)
        found = found[:, start * width - first * piece :][:, : (stop - start) * width]
        return found.reshape(-1, stop - start, width)[..., place[2]]

    def __del__(self) -> None:
        self._file.close()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        everything = slice(None)
        return np.asarray(self[everything, everything, everything], dtype)


class Form:
    """Where the arrays of a block lie in its file."""

    def __init__(self, shape: tuple[int, int], kinds: Kinds) -> None:
        self.shape, self.kinds = shape, kinds
        pixels = math.prod(shape)
        self.piece = min(CHUNK, pixels)
        self.pieces = -(-pixels // self.piece)
        self.starts: dict[str, int] = {}
        self.size = HEAD
        for key, (bands, dtype) in kinds.items():
            self.starts[key] = self.size
            size = self.pieces * bands * self.piece * dtype.itemsize
            self.size += -(-size // ALIGNED) * ALIGNED

    def head(self) -> bytes:
        """The description that a file begins with."""
        kinds = {key: [bands, dtype.str] for key, (bands, dtype) in self.kinds.items()}
        return json.dumps({"shape": self.shape, "kinds": kinds}).encode().ljust(HEAD)

    def pass_by(self, path: Path, key: str, rows: slice, written: bool) -> None:
        """Has the system keep some rows of an array on the disk alone, as nobody is about to read them again: its
        memory is for what comes next, and for other programs.

        Args:
            path: of the file.
            written: the disk has all of it; else it is given what there is.

        Raises:
            OSError: if the system does not do it.
        """
        bands, dtype = self.kinds[key]
        height, width = self.shape
        start, stop, _ = rows.indices(height)
        # The piece that other rows begin in is kept.
        begin, end = (row * width // self.piece * bands * self.piece * dtype.itemsize for row in (start, stop))
        if begin == end:
            return  # which would mean all that follows
        file = os.open(path, os.O_RDONLY if written else os.O_RDWR)
        try:
            if not written:
                os.fdatasync(file)
            os.posix_fadvise(file, self.starts[key] + begin, end - begin, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)

    def load(self, path: Path, key: str) -> Pieces:
        """One of the arrays of a file.

        Raises:
            OSError: if it cannot be opened.
        """
        bands, dtype = self.kinds[key]
        return Pieces(io.FileIO(path), self.starts[key], self.piece, (bands, *self.shape), dtype)


def form(path: Path) -> Form:
    """Which arrays a file has.

    Raises:
        OSError: if it is not there.
        ValueError: if it is no whole file of a block.
    """
    with open(path, "rb") as file:
        try:
            told = json.loads(file.read(HEAD))
            height, width = told["shape"]
            kinds = {key: (int(bands), np.dtype(name)) for key, (bands, name) in told["kinds"].items()}
            found = Form((int(height), int(width)), kinds)
        except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, SyntaxError) as error:
            raise ValueError(f"{path} is no block") from error
        if os.fstat(file.fileno()).st_size != found.size:
            raise ValueError(f"{path} is not whole")
    return found


def load(path: Path, key: str) -> Pieces:
    """An array of a block that is whole.

    Raises:
        OSError, ValueError: as of :func:`form`, or if it has no such array.
    """
    found = form(path)
    if key not in found.kinds:
        raise ValueError(f"{path} has no {key}")
    return found.load(path, key)


class Spool:
    """A file that is being written, by any number of threads.

    Args:
        path: of the file while it is not whole.
        final: of the whole one.
        shape: (height, width) of the block.
        kinds: its arrays.
        failed: what is raised of an error of the disk.

    Raises:
        OutputError: as ``failed`` makes it.
    """

    def __init__(
        self, path: Path, final: Path, shape: tuple[int, int], kinds: Kinds, failed: Callable[[OSError], OutputError]
    ) -> None:
        self._path, self._final, self._failed = path, final, failed
        self._form = Form(shape, kinds)
        self._lock = threading.Lock()
        try:
            self._file = open(path, "wb", buffering=0)  # noqa: SIM115  written until the block is whole
        except OSError as error:
            raise failed(error) from error
        try:
            # What fills up the last piece of an array need not be written.
            self._file.truncate(self._form.size)
            self._write(0, memoryview(self._form.head()))
        except OSError as error:
            self.discard()
            raise failed(error) from error

    def put(self, key: str, band: int, start: int, values: NDArray[Any]) -> None:
        """Takes the numbers of some bands and pixels.

        Args:
            key: of the array.
            band: the first of the bands.
            start: the first of the pixels, which a piece begins with.
            values: (bands, pixels) of one piece, all of it or up to the end of the block.

        Raises:
            OutputError: if the disk does not take them.
        """
        form = self._form
        bands, dtype = form.kinds[key]
        whole = np.ascontiguousarray(values, dtype)
        if whole.shape[1] < form.piece:
            whole = np.zeros((len(values), form.piece), dtype)
            whole[:, : values.shape[1]] = values
        number, inside = divmod(start, form.piece)
        assert not inside, f"pixel {start} is within a piece of {form.piece}"
        try:
            self._write(
                form.starts[key] + (number * bands + band) * form.piece * dtype.itemsize,
                whole.reshape(-1).view(np.uint8).data,
            )
        except OSError as error:
            raise self._failed(error) from error

    def _write(self, place: int, content: memoryview) -> None:
        with self._lock:
            self._file.seek(place)
            while content:
                # A disk that is nearly full takes a part first.
                content = content[self._file.write(content) :]

    def load(self, key: str) -> Pieces:
        """An array, of which that may be read which has been put.

        Raises:
            OSError: if it was discarded.
        """
        try:
            return self._form.load(self._path, key)
        except FileNotFoundError:
            # It may have its name by now.
            return self._form.load(self._final, key)

    def pass_by(self, key: str, rows: slice) -> None:
        """As :meth:`Form.pass_by`; not where it has its name by now."""
        self._form.pass_by(self._path, key, rows, written=False)

    def finish(self) -> None:
        """Gives the file its name, when all of it is on the disk.

        Raises:
            OutputError: if the disk does not take it; then nothing is left.
        """
        try:
            os.fsync(self._file.fileno())
            self._file.close()
            self._rename()
        except OSError as error:
            self.discard()
            raise self._failed(error) from error

    def _rename(self) -> None:
        for pause in PAUSES:
            try:
                os.replace(self._path, self._final)
            except PermissionError:
                if os.name != "nt":
                    raise
                time.sleep(pause)
            else:
                return
        os.replace(self._path, self._final)

    def discard(self) -> None:
        """Deletes it, as far as the system lets it: why is told already."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


class Held:
    """The same in memory.

    Args:
        pixels: of the block.
        kinds: its arrays.

    Attributes:
        arrays: by key: (bands, pixels).
    """

    def __init__(self, pixels: int, kinds: Kinds) -> None:
        self.arrays: Mapping[str, NDArray[Any]] = {
            key: np.empty((bands, pixels), dtype) for key, (bands, dtype) in kinds.items()
        }

    def put(self, key: str, band: int, start: int, values: NDArray[Any]) -> None:
        """As :meth:`Spool.put`, for any pixels."""
        self.arrays[key][band : band + len(values), start : start + values.shape[1]] = values
