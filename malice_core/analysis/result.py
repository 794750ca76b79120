"""What a tool writes: rasters and other files, under temporary names until all of them are whole.

They grow in the folder ``OUTPUT.malice`` beside the output, which other runs keep out of while its lock is held. A run
that fails or is cancelled deletes it; one that is killed leaves it to the next.
"""

from __future__ import annotations

import atexit
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # GDAL's own errors reach us unwrapped from closing
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from malice_core import scratch
from malice_core.cancelling import Cancel
from malice_core.errors import OutputError
from malice_core.evaluation.rasters import Place
from malice_core.grid import Window
from malice_core.placing import not_placed, part_of, place_file, require_folder
from malice_core.product import Raster, creation

#: Marks a folder as one of a tool, and is locked while it runs.
LOCK = "tool.lock"
CURE = "free space, or choose another --output"


def check_names(outputs: Mapping[str, Path | None], inputs: Iterable[Path], overwrite: bool) -> None:
    """Refuses outputs that cannot be written, before anything is read.

    Args:
        outputs: by option; None where it was not given. One of ``--output`` and ``--probability`` is a GeoTIFF.
        inputs: files and folders that are read.
        overwrite: files that exist are replaced.

    Raises:
        OutputError: that names the option.
    """
    sources = [path.resolve() for path in inputs]
    seen: dict[Path, str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        require_folder(option, path)
        real = path.resolve()
        if any(real == source or source in real.parents for source in sources):
            raise OutputError(f"{option} {path} is an input: give another name")
        if path.is_dir():
            raise OutputError(f"{option} {path} is a folder; give a file name")
        if path.exists() and not overwrite:
            raise OutputError(f"{option} {path} exists already: give --overwrite to replace it, or another name")
        if (other := seen.setdefault(real, option)) != option:
            raise OutputError(f"{option} and {other} are the same file {path}: give them different names")


def require_suffix(option: str, path: Path, suffixes: Sequence[str]) -> None:
    """Raises:
    OutputError: if a name does not end as it has to.
    """
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"{option} {path}: give a name that ends in {' or '.join(suffixes)}")


class Outputs:
    """The files of a run, a context: leaving it deletes what was not put in place.

    Args:
        output: the main one; temporary files lie beside it.
        cancel: deletes them when the process must leave at once.

    Raises:
        OutputError: if the folder cannot be made, holds something else, or another run has it.
    """

    def __init__(self, output: Path, cancel: Cancel) -> None:
        self._folder, self._output, self._cancel = scratch.folder_of(output), output, cancel
        self._files: list[tuple[Path, Path]] = []
        self._rasters: list[ResultRaster] = []
        self._copies: list[Path] = []

    def __enter__(self) -> Outputs:
        try:
            self._folder.mkdir(exist_ok=True)
            names = {entry.name for entry in self._folder.iterdir()}
            if self._folder.is_symlink() or (names and LOCK not in names):
                raise OutputError(
                    f"{self._folder} is needed for unfinished work, but holds something else; rename it, or choose "
                    "another --output"
                )
            self._lock = scratch.lock(self._folder / LOCK)
            for entry in self._folder.iterdir():  # of a run that was killed
                if entry.name != LOCK:
                    entry.unlink()
        except OSError as error:
            raise OutputError(f"cannot use {self._folder} for unfinished work: {error.strerror}") from error
        self._cancel.deletes(self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for raster in self._rasters:
            raster.abandon()
        for copy in self._copies:
            copy.unlink(missing_ok=True)
        # Before the lock is free: what the next run puts there is not ours.
        shutil.rmtree(self._folder, ignore_errors=True)
        left = self._folder.exists()
        self._lock.close()
        if left:
            # Windows does not delete what is open, as the lock was, …
            shutil.rmtree(self._folder, ignore_errors=True)
            if self._folder.exists():
                # … or mapped to memory, as an array may be while somebody holds it.
                atexit.register(shutil.rmtree, self._folder, True)

    def temporary(self, name: str) -> Path:
        """A file that is gone when the run is over."""
        return self._folder / name

    def array(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """An array on the disk that is gone when the run is over; larger than the memory may be.

        Raises:
            OutputError: if the disk has no space for it.
        """
        path = self.temporary(f"{name}.npy")
        self._require_space(path, 4 * math.prod(shape))
        try:
            with open(path, "wb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": tuple(map(int, shape))}
                np.lib.format.write_array_header_1_0(file, header)
                size = file.tell() + 4 * math.prod(shape)
                file.truncate(size)
                if hasattr(os, "posix_fallocate"):
                    # Taken now: a disk that is full when a map is filled in ends the process without a word.
                    file.flush()
                    os.posix_fallocate(file.fileno(), 0, size)
            found: NDArray[np.float32] = np.lib.format.open_memmap(path, mode="r+")
        except OSError as error:
            raise unwritten(path, error.strerror) from error
        return found

    @contextmanager
    def text(self, target: Path) -> Iterator[TextIO]:
        """A text file, UTF-8, that is to be called ``target``.

        Raises:
            OutputError: if the disk does not take it.
        """
        try:
            with open(self.file(target), "w", encoding="utf-8", newline="") as file:
                yield file
        except OSError as error:
            raise unwritten(target, error.strerror or error) from error

    def _require_space(self, path: Path, size: int) -> None:
        if (free := shutil.disk_usage(self._folder).free) < size:
            raise OutputError(
                f"{path} needs up to {size / 1e9:.3g} GB, {self._folder.parent} has {free / 1e9:.3g} GB free: "
                "free space, or choose another --output"
            )

    def file(self, target: Path) -> Path:
        """Where to write what is to be called ``target``."""
        path = self._folder / f"{len(self._files)}{target.suffix}"
        self._files.append((path, target))
        return path

    def raster(self, raster: Raster, place: Place, threads: int) -> ResultRaster:
        """Opens a raster to be written.

        Args:
            raster: what it is; ``key`` is not used.
            place: its grid.
            threads: that pack tiles.

        Raises:
            OutputError: if the disk has no space for it, or does not take it.
        """
        size = place.shape[0] * place.shape[1] * len(raster.bands) * np.dtype(raster.dtype).itemsize
        self._require_space(raster.path, size)
        self._rasters.append(ResultRaster(raster, self.file(raster.path), place, threads))
        return self._rasters[-1]

    def place(self) -> list[str]:
        """Closes and reads back all rasters, then gives all files their names, the first last.

        Returns:
            The names.

        Raises:
            OutputError: if the disk did not take them.
            Cancelled: if the run was stopped.
        """
        for raster in self._rasters:
            raster.close(self._cancel.check)
        for path, target in self._files:
            try:
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())
            except OSError as error:
                raise unwritten(target, error.strerror) from error
        # What can fail for want of space comes before the first rename: a run puts all in place, or nothing.
        ready = [(self._beside(path, target), target) for path, target in self._files]
        self._cancel.check()
        for path, target in reversed(ready):
            place_file(path, target, CURE)
        return [str(target) for _, target in self._files]

    def _beside(self, path: Path, target: Path) -> Path:
        """A whole file, on the file system that its name is on: it is copied there where it is not.

        Raises:
            OutputError: if the disk does not take it.
        """
        partial = part_of(target)
        try:
            if not _apart(path, target.absolute().parent):
                return path
            self._copies.append(partial)
            self._cancel.deletes(partial)
            shutil.copyfile(path, partial)
        except OSError as error:
            raise not_placed(target, error, CURE) from error
        return partial


class ResultRaster:
    """One GeoTIFF that is being written, see :meth:`Outputs.raster`."""

    def __init__(self, raster: Raster, target: Path, place: Place, threads: int) -> None:
        self._raster, self._target, self._threads = raster, target, threads
        self._sums: list[tuple[RasterWindow, int]] = []
        self._file: Any = None
        try:
            self._file = rasterio.open(
                target,
                "w",
                height=place.shape[0],
                width=place.shape[1],
                count=len(raster.bands),
                dtype=raster.dtype,
                nodata=raster.nodata,
                crs=place.crs,
                transform=place.transform,
                **creation(raster.dtype, place.shape, threads),
            )
            self._file.descriptions = raster.bands
            self.tag(raster.tags)
            if raster.colours is not None:
                self._file.write_colormap(1, dict(raster.colours))
        except (RasterioError, CPLE_BaseError, OSError) as error:
            raise self._unwritten(error) from error

    def tag(self, tags: Mapping[str, str]) -> None:
        """Adds tags; may be done until the file is closed."""
        self._file.update_tags(**tags)

    def write(self, window: Window, parts: Iterable[tuple[Window, NDArray[Any]]]) -> None:
        """Writes a window, once.

        Args:
            window: on the raster.
            parts: cells that make it up, and (bands, pixels) or (pixels,) of each.

        Raises:
            OutputError: if the disk does not take it.
        """
        values = np.empty((len(self._raster.bands), *window.shape), self._raster.dtype)
        for cell, content in parts:
            rows, cols = cell.slices_in(window)
            values[:, rows, cols] = content.reshape(-1, *cell.shape)
        place = RasterWindow(window.col, window.row, window.width, window.height)
        try:
            self._file.write(values, window=place)
        except (RasterioError, CPLE_BaseError, OSError) as error:
            raise self._unwritten(error) from error
        self._sums.append((place, _sum(values)))

    def close(self, check: Callable[[], None]) -> None:
        """Closes the file and reads it back.

        Raises:
            OutputError: if it does not hold what was written.
        """
        try:
            self._file.close()
            # GDAL writes late, also in close(), where an error (a full disk) is not raised.
            with rasterio.open(self._target, num_threads=self._threads) as file:
                for window, wanted in self._sums:
                    check()
                    if _sum(file.read(window=window)) != wanted:
                        raise OSError("what was written cannot be read back, the disk may be full")
        except (RasterioError, CPLE_BaseError, OSError) as error:
            raise self._unwritten(error) from error

    def abandon(self) -> None:
        """Closes the file, whatever is in it."""
        if self._file is not None and not self._file.closed:
            try:
                self._file.close()
            except (RasterioError, CPLE_BaseError, OSError):
                # The run has failed already, and said why.
                self._file = None

    def _unwritten(self, error: object) -> OutputError:
        return unwritten(self._raster.path, error)


def unwritten(path: Path, error: object) -> OutputError:
    """What is said of an output that the disk does not take."""
    return OutputError(f"cannot write {path}: {error}; {CURE}")


def _apart(path: Path, folder: Path) -> bool:
    """Whether they are on different file systems."""
    return os.stat(path).st_dev != os.stat(folder).st_dev


def _sum(values: NDArray[Any]) -> int:
    """A checksum of numbers, bit for bit."""
    return zlib.crc32(np.ascontiguousarray(values).data)
