"""The model store: where models are looked for, and its command line.

A model is a folder with a card (``model.json``, see ``cards.py``) and its ONNX graphs. ``python -m malice_core.models
list | info NAME | install NAME | import FILE… --name NAME | verify NAME``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from malice_core import cards
from malice_core.cards import Card
from malice_core.errors import ModelError
from malice_core.modelwriter import check_name


def user_folder() -> Path:
    """The store in the user's data folder: where models are written unless ``MALICE_MODELS`` says otherwise."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "malice" / "models"


def search_path() -> list[Path]:
    """Folders that hold models, in the order they are searched; ``install`` and ``import`` write to the first.

    The folders of ``MALICE_MODELS`` (a path list), the user's data folder, ``models/`` of the installation.
    """
    chosen = [Path(entry) for entry in os.environ.get("MALICE_MODELS", "").split(os.pathsep) if entry]
    return [*chosen, user_folder(), Path(__file__).resolve().parents[1] / "models"]


def scan() -> tuple[list[Card], list[str]]:
    """The cards of all models in the store, by name, and one line for each card that cannot be read.

    Of models with the same name only the first on the search path counts, as in :func:`load`.
    """
    found: dict[str, Card | None] = {}
    problems = []
    for store in search_path():
        for path in sorted(store.glob(f"[!.]*/{cards.FILE_NAME}")):
            name = path.parent.name
            if name in found:
                continue
            try:
                found[name] = _read(path.parent)
            except ModelError as error:
                found[name] = None
                problems.append(str(error))
    return [card for _, card in sorted(found.items()) if card], problems


def installed() -> list[Card]:
    """The cards of all usable models, by name; damaged ones are left out (:func:`scan` says why)."""
    return scan()[0]


def load(name: str) -> Card:
    """The card of the model ``name``.

    Raises:
        ModelError: if the name is not usable, the model is not installed (with a list of those that are, and how to
            get one) or its card is damaged.
    """
    check_name(name)
    for store in search_path():
        if (store / name / cards.FILE_NAME).exists():
            return _read(store / name)
    there = ", ".join(card.name for card in installed()) or "none"
    raise ModelError(
        f"model {name} is not installed (installed: {there}): python -m malice_core.models install malice, or "
        f"import FILE… --name {name}, gets one; models are looked for in {os.pathsep.join(map(str, search_path()))}"
    )


def _read(folder: Path) -> Card:
    card = cards.read(folder)
    if card.name != folder.name:
        raise ModelError(f"{folder}: the card says this is model {card.name!r}; rename the folder to that")
    return card
