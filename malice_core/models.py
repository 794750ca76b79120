"""The model store: where models are looked for, and its command line.

A model is a folder with a card (``model.json``, see ``cards.py``) and its ONNX graphs. ``python -m malice_core.models
list | info NAME | install NAME | import FILE… --name NAME | verify NAME | remove NAME``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from malice_core import cards
from malice_core.cancelling import Cancel
from malice_core.cards import Card
from malice_core.cli import Parser
from malice_core.errors import ModelError, OutputError
from malice_core.reporting import Reporter
from malice_core.store import known
from malice_core.store.modelwriter import check_name

#: The published model: taken where several are installed and none is named.
PREFERRED = "malice"
CANCELLED = "cancelled; the models are as they were"


def user_folder() -> Path:
    """The store in the user's data folder: where models are written unless ``MALICE_MODELS`` says otherwise."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "malice" / "models"


def _shipped() -> Path:
    """The folder of models that came with this installation."""
    checkout = Path(__file__).resolve().parents[1]
    # Installed from a wheel, the package lies among others, and a folder "models" beside it is somebody else's: the
    # wheel brings those for trying out into the environment's share folder.
    in_checkout = (checkout / "pyproject.toml").is_file()
    return checkout / "models" if in_checkout else Path(sys.prefix) / "share" / "malice" / "models"


def search_path() -> list[Path]:
    """Folders that hold models, in the order they are searched; ``install`` and ``import`` write to the first.

    The folders of ``MALICE_MODELS`` (a path list), the user's data folder, ``models/`` of the installation.
    """
    chosen = [Path(entry) for entry in os.environ.get("MALICE_MODELS", "").split(os.pathsep) if entry]
    return [*chosen, user_folder(), _shipped()]


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
    """What ``list --json`` and ``info --json`` say of a model: its card, folder, identity and size, and whether it can
    be removed."""
    folder = card.folder
    assert folder is not None, "a card of the store knows its folder"
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return {
        **cards.to_json(card),
        "folder": str(folder),
        "identity": card.identity,
        "bytes": size,
        "removable": not _obstacle(folder),
    }


def _obstacle(folder: Path) -> str:
    """Why the model in a folder cannot be removed, "" if it can."""
    if folder.parent == _shipped():
        return f"it ships with this installation ({folder.parent})"
    if not all(os.access(path, os.W_OK | os.X_OK) for path in (folder, folder.parent)):
        return f"{folder.parent} cannot be written to"
    return ""


def remove(name: str) -> str:
    """Deletes an installed model, also a damaged one; returns what there is to say.

    Raises:
        ModelError: if there is none of that name, it ships with the installation, or lies with files of other kinds.
        OutputError: if it cannot be deleted.
    """
    check_name(name)
    folder = next((store / name for store in search_path() if (store / name / cards.FILE_NAME).exists()), None)
    if folder is None:
        load(name)  # says what is installed
        raise ModelError(f"model {name} is not installed")
    obstacle = _obstacle(folder)
    if obstacle:
        raise ModelError(f"model {name} cannot be removed: {obstacle}")
    foreign = [
        path.name for path in sorted(folder.iterdir()) if path.suffix != ".onnx" and path.name != cards.FILE_NAME
    ]
    if foreign:
        raise ModelError(f"{folder} holds {foreign[0]} too, which is no part of a model: move it away first")
    # The dot hides what is left of it should this end half-way.
    aside = folder.with_name(f".{name}.old.{os.getpid()}")
    try:
        if folder.is_symlink():
            folder.unlink()
        else:
            os.rename(folder, aside)
            shutil.rmtree(aside)
    except OSError as error:
        raise OutputError(f"cannot remove {folder}: {error.strerror or error}") from error
    other = next((card for card in installed() if card.name == name), None)
    after = f"; model {name} is that of {other.folder} now" if other is not None else ""
    return f"model {name} was removed from {folder.parent}{after}"


def _whole(card: Card) -> bool:
    """True if all graphs are what the card says."""
    try:
        for sensor, modality in card.modalities.items():
            for kind in ("spatial", "temporal", *(("weather", "terrain") if modality.weather else ())):
                card.graph_bytes(sensor, kind)
    except ModelError:
        return False
    return True


def _list(options: argparse.Namespace, reporter: Reporter, _: Cancel) -> None:
    found, problems = scan()
    facts = [summary(card) | ({"whole": _whole(card)} if options.check else {}) for card in found]
    told = {
        "models": facts,
        "problems": problems,
        "known": {name: {"title": one.title, "licence": one.licence} for name, one in known.REGISTRY.items()},
    }
    if options.json:
        print(json.dumps(told))
        return
    lines = []
    for card, fact in zip(found, facts, strict=True):
        tags = f"  [{', '.join(card.tags)}]" if card.tags else ""
        tags += "" if fact.get("whole", True) else "  damaged: import it again"
        lines.append(f"{card.name}  {'+'.join(card.modalities)}  {card.title}  ({card.licence}){tags}  {card.folder}")
    if not found:
        lines.append("no models: python -m malice_core.models install malice gets the published one")
    reporter.plan(told, "\n".join(lines))
    for problem in problems:
        reporter.warning(f"damaged: {problem}")


def _info(options: argparse.Namespace, reporter: Reporter, _: Cancel) -> None:
    card = load(options.name)
    if options.json:
        print(json.dumps(summary(card)))
        return
    lines = [
        f"{card.name}: {card.title}",
        f"licence: {card.licence}",
        f"citation: {card.citation}",
        f"folder: {card.folder}",
        f"identity: {card.identity}",
        f"embedding: {card.queries} queries x {card.width} channels a modality",
        f"stride {card.stride}, halo {card.halo} pixels, days since {card.date_origin}",
    ]
    for sensor, modality in card.modalities.items():
        logarithm = "" if modality.transform == "none" else f", {modality.transform}"
        lines.append(f"{sensor}: {' '.join(modality.channels)}{logarithm}")
    if card.surroundings is not None:
        lines.append(f"weather: {' '.join(card.surroundings.weather.channels)}")
        lines.append(f"terrain: {' '.join(card.surroundings.terrain.channels)}")
    if card.tags:
        lines.append(f"tags: {', '.join(card.tags)}")
    lines += [f"{key}: {value}" for key, value in card.provenance.items()]
    reporter.plan(summary(card), "\n".join(lines))


def _says(reporter: Reporter, cancel: Cancel) -> Callable[[str], None]:
    """What hands lines on, and is where a cancelled command ends."""

    def say(line: str) -> None:
        cancel.check()
        reporter.note(line)

    return say


def _import(options: argparse.Namespace, reporter: Reporter, cancel: Cancel) -> None:
    # The graph packages take a second to import; list and info, which the plugin calls, do without.
    from malice_core.store import importing

    say = _says(reporter, cancel)
    importing.import_files(options.files, options.name, search_path()[0], overwrite=options.overwrite, say=say)


def _install(options: argparse.Namespace, reporter: Reporter, cancel: Cancel) -> None:
    from malice_core.store import importing

    def advance(file: str, done: int, total: int) -> None:
        cancel.check()
        reporter.progress(done, max(total, done), f"downloading {file}")

    importing.install(
        options.name, search_path()[0], overwrite=options.overwrite, say=_says(reporter, cancel), advance=advance
    )


def _verify(options: argparse.Namespace, reporter: Reporter, cancel: Cancel) -> None:
    from malice_core.store import agreement

    card = load(options.name)
    differences = agreement.between_runtimes(card)
    for sensor, worst in differences.items():
        reporter.note(f"{sensor}: graphs whole, runtimes agree within {worst:.1e}")
    reporter.note(f"model {card.name} is good ({card.identity}, {card.folder})")


def _remove(options: argparse.Namespace, reporter: Reporter, cancel: Cancel) -> None:
    reporter.note(remove(options.name))


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    from malice_core import embed

    top = Parser(prog="python -m malice_core.models", description="List, install, import, check and remove models.")
    commands = top.add_subparsers(dest="command", required=True, parser_class=Parser)
    one = commands.add_parser("list", help="all models that are installed")
    one.add_argument("--json", action="store_true", help="one JSON object")
    one.add_argument("--check", action="store_true", help="also read all graphs: are they what the card says?")
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
    one = commands.add_parser("remove", help="delete a model")
    one.add_argument("name")
    one.set_defaults(run=_remove)
    for one in commands.choices.values():
        embed.add_talking(one)
    return top


def _start(options: argparse.Namespace, reporter: Reporter, cancel: Cancel) -> None:
    begun = time.monotonic()
    options.run(options, reporter, cancel)
    # People read the lines above; a program has to know that there are no more.
    if options.progress == "json":
        reporter.done([], time.monotonic() - begun)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0 done, 2 bad input, 3 interrupted, 1 anything else."""
    from malice_core import embed

    return embed.run_engine(arguments, parser, _start, CANCELLED)


if __name__ == "__main__":
    sys.exit(main())
