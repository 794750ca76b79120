"""A model by name, or wherever it lies: a folder, or a zip of one, as services bring files along with a job."""

from __future__ import annotations

import tempfile
import zipfile
from functools import lru_cache
from pathlib import Path, PurePosixPath

from malice_core import cards, models
from malice_core.cards import Card
from malice_core.errors import ModelError

#: Bytes of one file of a model; the largest graphs have some megabytes.
LARGEST = 1 << 28


def located(given: str | None) -> Card:
    """The card of the model that ``given`` means.

    Args:
        given: a folder with ``model.json`` in it or in its only subfolder that has one; a zip of such a folder; the
            name of an installed model; None: the one that is meant where none is named.

    Raises:
        ModelError: if there is no model, or it cannot be read.
    """
    if given is None:
        return models.default()
    path = Path(given)
    if path.is_dir():
        return cards.read(
            _only(given, sorted([*path.glob(cards.FILE_NAME), *path.glob(f"*/{cards.FILE_NAME}")])).parent
        )
    if path.is_file():
        return cards.read(Path(_unpacked(str(path.resolve()), path.stat().st_mtime_ns).name))
    if path.name != given or path.suffix == ".zip":
        raise ModelError(f"{given}: no such folder or zip with a model; in {Path.cwd()} there are {_listed()}")
    return models.load(given)


def _only(given: str, found: list[Path]) -> Path:
    if len(found) != 1:
        raise ModelError(f"{given} holds {len(found)} files {cards.FILE_NAME}, must be 1: give the folder of one model")
    return found[0]


def _listed() -> str:
    names = sorted(entry.name for entry in Path.cwd().iterdir())
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "") if names else "no files"


@lru_cache(maxsize=4)
def _unpacked(path: str, changed: int) -> tempfile.TemporaryDirectory[str]:
    """The model in a zip, in a folder that is there until it is forgotten; ``changed`` tells versions of the zip apart.

    Raises:
        ModelError: if it is no zip of one model, or too large.
    """
    folder: tempfile.TemporaryDirectory[str] = tempfile.TemporaryDirectory(prefix="malice_model_")
    try:
        with zipfile.ZipFile(path) as archive:
            inside = [PurePosixPath(name) for name in archive.namelist()]
            card = _only(path, [Path(name) for name in inside if name.name == cards.FILE_NAME])
            for member in inside:
                # Only what lies beside the card, under its plain name: nothing is written outside the folder.
                if Path(member).parent != card.parent or member.suffix not in (".json", ".onnx"):
                    continue
                if archive.getinfo(str(member)).file_size > LARGEST:
                    raise ModelError(f"{path}: {member} is too large for a file of a model")
                (Path(folder.name) / member.name).write_bytes(archive.read(str(member)))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ModelError(f"{path}: neither a folder nor a whole zip of a model: {error}") from error
    return folder
