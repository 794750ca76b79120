"""Makes a model of the store out of trained weights: ``python -m malice_core.export CKPT --name NAME``.

CKPT is a checkpoint of ``malice_core.pretrain`` (``.ckpt``), or the state dict of a network or its encoders: ``.pt``,
``.safetensors`` or ``.npz``. Only tensors are read: code in a pickle is never run. Title, licence, citation and tags of
the card come from the options, else from ``model_card.json`` in the checkpoint's run folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from malice_core import models
from malice_core.cli import Parser, run_command
from malice_core.errors import ModelError
from malice_core.training import checkpoint
from malice_core.training.checkpoint import Checkpoint

State = dict[str, npt.NDArray[Any]]

#: Types of tensors in a safetensors file that a state dict of ours can have.
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8"}
#: A run folder's card for people and programs: an object of texts, with ``tags`` a list of words.
RUN_CARD = "model_card.json"
#: A run folder's resolved configuration.
RUN_CONFIG = "config.yaml"


def read(path: Path) -> Checkpoint:
    """The state in a file of any of the kinds, told by its suffix.

    Raises:
        ModelError: if the file cannot be read, is of another kind, or holds anything but tensors.
    """
    readers: dict[str, Callable[[Path], Checkpoint]] = {
        **dict.fromkeys((".ckpt", ".pt", ".pth"), checkpoint.read),
        ".safetensors": lambda path: Checkpoint(_safetensors(path), (), {}, {}),
        ".npz": lambda path: Checkpoint(_npz(path), (), {}, {}),
    }
    if path.suffix not in readers:
        raise ModelError(f"{path}: must be {', '.join(readers)}")
    try:
        return readers[path.suffix](path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error


def _npz(path: Path) -> State:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except ValueError as error:
        raise ModelError(f"{path} is no archive of arrays: {error}") from error


def _safetensors(path: Path) -> State:
    # The format is eight bytes of header length, a JSON header and the bytes: no package is needed for it.
    content = path.read_bytes()
    try:
        size = int.from_bytes(content[:8], "little")
        header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
        header.pop("__metadata__", None)
        return {
            name: np.frombuffer(data[slice(*entry["data_offsets"])], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} is no safetensors file of float tensors, or is damaged: {error}") from error


def run_card(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """What the run folder of a checkpoint says of it: texts for the card, and tags.

    Args:
        path: the checkpoint; its run folder is the one it is in, or the one above.

    Returns:
        The texts of ``model_card.json`` (``title``, ``licence``, ``citation``, all others are provenance) and the
        sha256 of ``config.yaml``, as far as they are there.

    Raises:
        ModelError: if ``model_card.json`` is no object of texts and numbers.
    """
    texts: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    for folder in (path.absolute().parent, path.absolute().parent.parent):
        card, config = folder / RUN_CARD, folder / RUN_CONFIG
        if config.is_file():
            texts["config_sha256"] = hashlib.sha256(config.read_bytes()).hexdigest()
        if card.is_file():
            try:
                content = json.loads(card.read_text(encoding="utf-8"))
            except (ValueError, RecursionError) as error:
                raise ModelError(f"{card} is no JSON: {str(error)[:100]}") from error
            if not isinstance(content, dict):
                raise ModelError(f"{card} is no object of texts")
            if not isinstance(given := content.pop("tags", []), list):
                raise ModelError(f"{card}: tags are {given!r:.60}, must be a list of words")
            tags = tuple(map(str, given))
            for key, value in content.items():
                if not isinstance(value, str | int | float):
                    raise ModelError(f"{card}: {key} is {value!r:.60}, must be text or a number")
                texts[key] = str(value)
        if card.is_file() or config.is_file():
            break
    return texts, tags


def run(options: argparse.Namespace) -> None:
    """The command line's work."""
    checkpoint.require_torch()
    from malice_core.training import exporting

    path: Path = options.checkpoint
    found = read(path)
    texts, tags = run_card(path)
    title, licence, citation = (texts.pop(key, None) for key in ("title", "licence", "citation"))
    provenance = {"source": path.name, "sha256": _sha256(path), **found.facts, **texts}
    card = exporting.export(
        found.state,
        options.name,
        models.search_path()[0],
        title=options.title or title or f"exported from {path.name}",
        licence=options.licence or licence or "GPL-3.0-or-later",
        citation=options.citation or citation or "none",
        provenance=provenance,
        tags=tuple(dict.fromkeys([*tags, *options.tag])),
        statistics=exporting.statistics_of(found.hyper_parameters, f"{path}"),
        half=options.float16,
        overwrite=options.overwrite,
        source=f"{path}",
        say=print,
    )
    print(f"model {card.name} ({'+'.join(card.modalities)}, {card.identity}) is in {card.folder}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    one = Parser(prog="python -m malice_core.export", description="Make a model out of trained weights.")
    one.add_argument(
        "checkpoint", type=Path, metavar="CKPT", help="checkpoint (.ckpt) or state dict (.pt, .safetensors, .npz)"
    )
    one.add_argument("--name", required=True, help="of the new model")
    one.add_argument("--title", help="one line for people (default: the run's)")
    one.add_argument("--licence", help="SPDX identifier (default: the run's, else GPL-3.0-or-later)")
    one.add_argument("--citation", help="how to cite the network (default: the run's)")
    one.add_argument("--tag", action="append", default=[], metavar="WORD", help="demo: only for trying out; repeatable")
    one.add_argument("--float16", action="store_true", help="half the size on disk; computed in float32 all the same")
    one.add_argument("--overwrite", action="store_true", help="replace a model of that name")
    one.set_defaults(run=run)
    return one


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports one model; returns the exit code: 0 done, 2 bad input, 3 interrupted, 1 anything else."""
    return run_command(parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
