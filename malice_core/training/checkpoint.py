"""Reads the tensors of a PyTorch or Lightning checkpoint, and nothing else of it.

A checkpoint is a zip archive: a pickle ``data.pkl`` that says which tensors there are, and one file of raw numbers for
each storage below ``data/``. The pickle is read by :mod:`malice_core.training.unpickling`, which runs nothing; the
numbers are read by numpy. Files come from elsewhere, so every length is checked before anything of it is taken.
"""

from __future__ import annotations

import importlib.util
import io
import math
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from malice_core.errors import ModelError
from malice_core.training import unpickling
from malice_core.training.unpickling import Record

#: The published checkpoints have about 30 MB, with their optimiser's state.
MAX_FILE = 1 << 30
#: Of the pickle, of the archive's table of contents, and of all tensors of the state together.
MAX_PICKLE, MAX_TABLE, MAX_TENSORS = 8 << 20, 8 << 20, 256 << 20
#: What to do about a file that is damaged.
AGAIN = "copy it again, or give another checkpoint"
#: Element types by the name of torch's storage class. bfloat16 is the upper half of a float32.
_TYPES = {
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "DoubleStorage": "f8",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
}
#: Formats that are no zip archive: PyTorch's before version 1.6 begins with the pickle of a magic number, the one
#: before that is a tar archive.
_OLD_PICKLE, _TAR = b"l\xfc\x9cF\xf9 j\xa8P\x19.", b"ustar"


@dataclass(frozen=True)
class Checkpoint:
    """What is read of a checkpoint.

    Attributes:
        state: the state dict: tensors by name, as numpy arrays in their own type (bfloat16 as float32).
        skipped: names in the state dict that hold no tensor of a known type.
        hyper_parameters: of Lightning, as :func:`malice_core.training.unpickling.loads` gives them.
        facts: what Lightning writes beside the tensors, such as ``epoch``, for the model card.
    """

    state: dict[str, npt.NDArray[Any]]
    skipped: tuple[str, ...]
    hyper_parameters: Mapping[str, Any]
    facts: dict[str, str]


def read(path: Path) -> Checkpoint:
    """Reads ``torch.save``'s file of a Lightning checkpoint or of a plain state dict.

    Raises:
        ModelError: if the file cannot be read, is in another format, is damaged, or holds no state dict.
    """
    try:
        with _Bounded(path, MAX_TABLE) as file:
            _refuse_other_formats(file, path)
            with zipfile.ZipFile(file) as archive:
                file.limit = MAX_TENSORS
                return _read(_Archive(archive, path), path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    # What zipfile raises for archives that are damaged, encrypted or of an unknown version.
    except (zipfile.BadZipFile, struct.error, RuntimeError, ValueError, EOFError, OverflowError, MemoryError) as error:
        raise ModelError(
            f"{path} is damaged, cut off or no checkpoint of PyTorch ({str(error)[:200]}): {AGAIN}"
        ) from error


def require_torch() -> None:
    """For what compares a checkpoint's network with a model's graphs.

    Raises:
        ModelError: if torch is not installed, saying how it gets there.
    """
    if importlib.util.find_spec("torch") is None:
        raise ModelError("checkpoints are checked with PyTorch, which is not here: pip install 'malice-core[train]'")


class _Bounded(io.FileIO):
    """A file that refuses to be read by more than ``limit`` bytes at once, as a crafted table of contents asks for."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(path)
        self.limit = limit

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = max(0, os.fstat(self.fileno()).st_size - self.tell())
        if size > self.limit:
            raise zipfile.BadZipFile(f"a part of {size} bytes")
        return super().read(size) or b""


def _refuse_other_formats(file: _Bounded, path: Path) -> None:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > MAX_FILE:
        raise ModelError(f"{path} has {size >> 20} MB: a checkpoint of MALICE has about 30, at most 1024 are read")
    begin = file.read(512)
    file.seek(0)
    if _OLD_PICKLE in begin[:32] or begin[257:262] == _TAR:
        raise ModelError(
            f"{path} is in the format of PyTorch before 1.6, which is not read: load it where you trust it, and "
            "torch.save it again"
        )
    if begin[:2] != b"PK":
        found = f"begins with {begin[:8]!r}" if begin else "is empty"
        raise ModelError(f"{path} is no checkpoint of PyTorch: these are zip archives, this {found}; {AGAIN}")


class _Archive:
    """The files of a zip archive that torch.save wrote: below one folder, uncompressed."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self.archive, self.path = archive, path
        self.entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in self.entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1 or len(self.entries) != len(archive.infolist()):
            raise ModelError(f"{path} is a zip archive, but no checkpoint of PyTorch: it has {len(pickles)} data.pkl")
        self.root = pickles[0].removesuffix("data.pkl")
        if f"{self.root}constants.pkl" in self.entries:
            raise ModelError(f"{path} is a TorchScript program, not a checkpoint: give the .ckpt it was made from")
        self.order = ">" if self.read("byteorder", 6) == b"big" else "<"

    def read(self, name: str, limit: int) -> bytes | None:
        """The bytes of one file, or None if it is not there."""
        entry = self.entries.get(self.root + name)
        if entry is None:
            return None
        # PyTorch never compresses: so a small file cannot become a huge one here.
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ModelError(f"{self.path}: {name!r:.60} is compressed or encrypted, which PyTorch does not do")
        if entry.file_size > limit:
            raise ModelError(f"{self.path}: {name!r:.60} has {entry.file_size} bytes, at most {limit} are read")
        return self.archive.read(entry)


def _read(archive: _Archive, path: Path) -> Checkpoint:
    content = archive.read("data.pkl", MAX_PICKLE)
    assert content is not None, "found by its name"
    try:
        root = unpickling.loads(content)
    except unpickling.Unreadable as error:
        raise ModelError(f"{path}: its pickle cannot be read ({error}): it is damaged or crafted; {AGAIN}") from error
    if not isinstance(root, dict):
        raise ModelError(f"{path} holds no state dict: save module.state_dict() or a Lightning checkpoint")
    lightning = isinstance(root.get("state_dict"), dict)
    named: dict[str, Any] = root["state_dict"] if lightning else root
    records = {name: value for name, value in named.items() if isinstance(value, Record)}
    others = tuple(name for name in named if name not in records)
    if others and not lightning:
        raise ModelError(f"{path} holds more than tensors ({others[0]!r:.60}), and is no Lightning checkpoint either")
    if not records:
        raise ModelError(f"{path}: its state dict holds no tensors")
    unknown = tuple(name for name, record in records.items() if record.storage.kind not in _TYPES)
    hyper = root.get("hyper_parameters") if lightning else None
    return Checkpoint(
        state=_arrays(archive, {name: records[name] for name in records if name not in unknown}, path),
        skipped=others + unknown,
        hyper_parameters=hyper if isinstance(hyper, dict) else {},
        facts=_facts(root) if lightning else {},
    )


def _facts(root: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key in ("epoch", "global_step", "pytorch-lightning_version"):
        value = root.get(key)
        if (type(value) is int and abs(value) < 1 << 62) or (type(value) is str and len(value) < 40):
            found[key.replace("-", "_")] = str(value)
    return found


def _arrays(archive: _Archive, records: Mapping[str, Record], path: Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors' numbers; a storage that several of them share is read once."""
    storages: dict[str, npt.NDArray[Any]] = {}
    left, result = MAX_TENSORS, {}
    for name, record in records.items():
        storage, where = record.storage, f"{path}: tensor {name!r:.100}"
        element = np.dtype(archive.order + _TYPES[storage.kind])
        if storage.key not in storages:
            raw = archive.read(f"data/{storage.key}", left)
            if raw is None:
                raise ModelError(f"{where} lies in data/{storage.key:.40}, which is not in the archive")
            left -= len(raw)
            storages[storage.key] = np.frombuffer(raw, np.uint8)
        numbers = storages[storage.key]
        if numbers.size != storage.count * element.itemsize:
            raise ModelError(
                f"{where} lies in data/{storage.key:.40}, which has {numbers.size} bytes and must have {storage.count} "
                f"numbers of {element.itemsize}"
            )
        left -= 8 * math.prod(record.size)
        array = _view(numbers.view(element), record, where, left)
        if storage.kind == "BFloat16Storage":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        result[name] = np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(record.size)
    return result


def _view(numbers: npt.NDArray[Any], record: Record, where: str, left: int) -> npt.NDArray[Any]:
    """The tensor within its storage, all of it inside."""
    size, stride = record.size, record.stride
    shape = f"size {size!s:.60}, stride {stride!s:.60}, offset {record.offset}"
    reach = record.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    # More elements than the storage has would be the same numbers again and again: state dicts hold no such tensor.
    if 0 not in size and (reach > numbers.size or math.prod(size) > numbers.size):
        raise ModelError(f"{where} reaches beyond its {numbers.size} stored numbers: {shape}")
    if left < 0:
        raise ModelError(f"{where}: the tensors have more than {MAX_TENSORS >> 20} MB together")
    if 0 in size:
        return np.zeros(size, numbers.dtype)
    steps = [step * numbers.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(numbers[record.offset :], size, steps, writeable=False)
