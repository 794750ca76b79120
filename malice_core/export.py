"""Makes a model of the store out of trained weights: ``python -m malice_core.export STATE --name NAME``.

STATE is the state dict of ``training.malice.MaliceEncoder``, with or without the prefix ``encoder.`` of a whole
network: ``.safetensors``, ``.npz`` or ``.pt`` (tensors only: code in a pickle is never run).
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

from malice_core import cards, models, weights
from malice_core.cards import Card
from malice_core.cli import Parser, run_command
from malice_core.errors import ModelError
from malice_core.store import agreement, modelwriter

State = dict[str, npt.NDArray[Any]]

#: Types of tensors in a safetensors file that a state dict of ours can have.
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8"}


def read_state(path: Path) -> State:
    """Tensors by name out of a file.

    Raises:
        ModelError: if the file cannot be read, is of another kind, or holds anything but tensors.
    """
    readers: dict[str, Callable[[Path], State]] = {".npz": _npz, ".safetensors": _safetensors, ".pt": _torch}
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


def _torch(path: Path) -> State:
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ModelError(f"{path} holds more than tensors, or is damaged: {str(error)[:200]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelError(f"{path} is no state dict: save module.state_dict()")
    return {
        name: tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy() for name, tensor in state.items()
    }


def export(
    state: State,
    name: str,
    store: Path,
    *,
    title: str,
    licence: str,
    citation: str,
    provenance: dict[str, str],
    overwrite: bool = False,
) -> Card:
    """Writes the graphs and the card of ``store/name``; the model appears only if all runtimes agree on it.

    Args:
        state: of ``training.malice.MaliceEncoder``.
        name, store, overwrite: as in ``importing.import_files``.
        title, licence, citation, provenance: fields of the card.

    Raises:
        ModelError: if a tensor is missing, unknown or damaged, or the model exists and ``overwrite`` is false.
        OutputError: if the store cannot be written.
    """
    state = {key.removeprefix("encoder."): array for key, array in state.items()}
    sensors = sorted({key.split(".")[0].removeprefix("encoder_") for key in state if key.startswith("encoder_")})
    encoders = {sensor: weights.from_state(state, sensor, name) for sensor in sensors}
    if not encoders:
        raise ModelError(f"{name}: no tensor encoder_s2.… or encoder_s1.…: this is no state of a MALICE encoder")
    with modelwriter.new_model(store, name, overwrite) as folder:
        card = modelwriter.write(
            folder, name, encoders, title=title, licence=licence, citation=citation, provenance=provenance
        )
        agreement.between_runtimes(card)
    return cards.read(store / name)


def run(options: argparse.Namespace) -> None:
    """The command line's work."""
    state = read_state(options.state)
    digest = hashlib.sha256(options.state.read_bytes()).hexdigest()
    store = models.search_path()[0]
    card = export(
        state,
        options.name,
        store,
        title=options.title or f"exported from {options.state.name}",
        licence=options.licence,
        citation=options.citation,
        provenance={"source": options.state.name, "sha256": digest},
        overwrite=options.overwrite,
    )
    print(f"model {card.name} ({'+'.join(card.modalities)}, {card.identity}) is in {card.folder}")


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    one = Parser(prog="python -m malice_core.export", description="Make a model out of trained weights.")
    one.add_argument("state", type=Path, metavar="STATE", help="state dict: .safetensors, .npz or .pt")
    one.add_argument("--name", required=True, help="of the new model")
    one.add_argument("--title", help="one line for people")
    one.add_argument("--licence", default="GPL-3.0-or-later", help="SPDX identifier (default: %(default)s)")
    one.add_argument("--citation", default="none", help="how to cite the network")
    one.add_argument("--overwrite", action="store_true", help="replace a model of that name")
    one.set_defaults(run=run)
    return one


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports one model; returns the exit code: 0 done, 2 bad input, 3 interrupted, 1 anything else."""
    return run_command(parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
