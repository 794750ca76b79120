"""The model store: where models are looked for, and its command line.

A model is a folder with a card (``model.json``, see ``cards.py``) and its ONNX graphs. ``python -m malice_core.models
list | info NAME | install NAME | import FILE… --name NAME | verify NAME``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from malice_core import cards
from malice_core.cards import Card
from malice_core.cli import Parser, run_command
from malice_core.errors import ModelError
from malice_core.store.modelwriter import check_name

#: The published model: taken where several are installed and none is named.
PREFERRED = "malice"


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
    checkout = Path(__file__).resolve().parents[1]
    # Installed from a wheel, the package lies among others, and a folder "models" beside it is somebody else's: the
    # wheel brings those for trying out into the environment's share folder.
    in_checkout = (checkout / "pyproject.toml").is_file()
    own = checkout / "models" if in_checkout else Path(sys.prefix) / "share" / "malice" / "models"
    return [*chosen, user_folder(), own]


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


def default() -> Card:
    """The model that is meant where none is named.

    The only one installed, ``malice`` where there are several; those tagged ``demo`` count only where there is no
    other.

    Raises:
        ModelError: if there is none, or several and none is ``malice``.
    """
    found = {card.name: card for card in installed()}
    serious = {name: card for name, card in found.items() if cards.DEMO not in card.tags}
    if PREFERRED in serious:
        return serious[PREFERRED]
    if len(serious) > 1:
        raise ModelError(f"several models are installed ({', '.join(serious)}): choose one by name")
    # Of several models for trying out one that needs no more than images.
    for card in sorted((serious or found).values(), key=lambda card: card.surroundings is not None):
        return card
    raise ModelError(
        "no model is installed: python -m malice_core.models install malice gets the published one "
        f"(looked for in {os.pathsep.join(map(str, search_path()))})"
    )


def caution(card: Card) -> str:
    """What a user of a model must be told, or an empty text."""
    if cards.DEMO not in card.tags:
        return ""
    return (
        f"model {card.name} was trained on simulated scenes, for trying out; install malice for real work: "
        "python -m malice_core.models install malice"
    )


def _read(folder: Path) -> Card:
    card = cards.read(folder)
    if card.name != folder.name:
        raise ModelError(f"{folder}: the card says this is model {card.name!r}; rename the folder to that")
    return card


def summary(card: Card) -> dict[str, Any]:
    """What ``list --json`` and ``info --json`` say of a model: its card, its folder and its identity."""
    return {**cards.to_json(card), "folder": str(card.folder), "identity": card.identity}


def _list(options: argparse.Namespace) -> None:
    found, problems = scan()
    if options.json:
        print(json.dumps({"models": [summary(card) for card in found], "problems": problems}))
        return
    for card in found:
        tags = f"  [{', '.join(card.tags)}]" if card.tags else ""
        print(f"{card.name}  {'+'.join(card.modalities)}  {card.title}  ({card.licence}){tags}  {card.folder}")
    for problem in problems:
        print(f"damaged: {problem}", file=sys.stderr)
    if not found:
        print("no models: python -m malice_core.models install malice gets the published one")


def _info(options: argparse.Namespace) -> None:
    card = load(options.name)
    if options.json:
        print(json.dumps(summary(card)))
        return
    print(f"{card.name}: {card.title}\nlicence: {card.licence}\ncitation: {card.citation}\nfolder: {card.folder}")
    print(f"identity: {card.identity}\nembedding: {card.queries} queries x {card.width} channels a modality")
    print(f"stride {card.stride}, halo {card.halo} pixels, days since {card.date_origin}")
    for sensor, modality in card.modalities.items():
        logarithm = "" if modality.transform == "none" else f", {modality.transform}"
        print(f"{sensor}: {' '.join(modality.channels)}{logarithm}")
    if card.surroundings is not None:
        print(f"weather: {' '.join(card.surroundings.weather.channels)}")
        print(f"terrain: {' '.join(card.surroundings.terrain.channels)}")
    if card.tags:
        print(f"tags: {', '.join(card.tags)}")
    for key, value in card.provenance.items():
        print(f"{key}: {value}")


def _import(options: argparse.Namespace) -> None:
    # The graph packages take a second to import; list and info, which the plugin calls, do without.
    from malice_core.store import importing

    importing.import_files(options.files, options.name, search_path()[0], overwrite=options.overwrite)


def _install(options: argparse.Namespace) -> None:
    from malice_core.store import importing

    importing.install(options.name, search_path()[0], overwrite=options.overwrite)


def _verify(options: argparse.Namespace) -> None:
    from malice_core.store import agreement

    card = load(options.name)
    differences = agreement.between_runtimes(card)
    for sensor, worst in differences.items():
        print(f"{sensor}: graphs whole, runtimes agree within {worst:.1e}")
    print(f"model {card.name} is good ({card.identity}, {card.folder})")


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    top = Parser(prog="python -m malice_core.models", description="List, install, import and check models.")
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)
    one = commands.add_parser("list", help="all models that are installed")
    one.add_argument("--json", action="store_true", help="one JSON object")
    one.set_defaults(run=_list)
    one = commands.add_parser("info", help="what is known of a model")
    one.add_argument("name")
    one.add_argument("--json", action="store_true", help="one JSON object")
    one.set_defaults(run=_info)
    one = commands.add_parser("install", help="download a known model (malice) and import it")
    one.add_argument("name")
    one.add_argument("--overwrite", action="store_true", help="replace a model of that name")
    one.set_defaults(run=_install)
    one = commands.add_parser("import", help="make a model of published ONNX files, one a modality, or a checkpoint")
    one.add_argument("files", nargs="+", type=Path, metavar="FILE")
    one.add_argument("--name", required=True, help="of the new model")
    one.add_argument("--overwrite", action="store_true", help="replace a model of that name")
    one.set_defaults(run=_import)
    one = commands.add_parser("verify", help="check a model's files and run it in every runtime")
    one.add_argument("name")
    one.set_defaults(run=_verify)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0 done, 2 bad input, 3 interrupted, 1 anything else."""
    return run_command(parser(), arguments)


if __name__ == "__main__":
    sys.exit(main())
