"""The folder of a training run, and what it says of itself.

    RUN/config.yaml         every key with its value: what train.resume goes on with
    RUN/run.json            hash of the data, and for each start: versions, commit, device, command line
    RUN/checkpoints/        last.ckpt and the best ones
    RUN/curves.csv          a row an epoch
    RUN/model_card.json     draft of the model's card, which malice_core.export takes over; MODEL_CARD.md for people
    RUN/pictures/           reconstructions and embeddings, PNG
    RUN/.lock               empty; locked while a process writes to the folder
    RUN/tensorboard/, csv/  finer curves;  .hydra/  the configuration as Hydra composed it

Files appear under their names when they are whole. Only the first of several processes writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import lightning
import numpy as np
import torch
from omegaconf import OmegaConf

import malice_core
from malice_core import scratch
from malice_core.errors import InputError, OutputError
from malice_core.patches.store import Dataset
from malice_core.training.composing import Command, Composed, S, compose_for

CONFIG, RECORD, CARD, READABLE_CARD = "config.yaml", "run.json", "model_card.json", "MODEL_CARD.md"
CHECKPOINTS, LAST, LOCK = "checkpoints", "last.ckpt", ".lock"
#: Tells the processes that the first one starts where to work.
FOLDER = "MALICE_RUN_FOLDER"


@dataclass(frozen=True)
class Resume:
    """Where a run goes on: its folder, and the checkpoint to begin with."""

    folder: Path
    checkpoint: Path


@dataclass(frozen=True)
class New:
    """The folder of a new run.

    Attributes:
        folder: is there.
        before: names of what was in it; None: it was made for the run.
    """

    folder: Path
    before: frozenset[str] | None

    def discard(self) -> None:
        """Removes what this start made: of a run that never was, nothing could be resumed."""
        if not is_first():
            return
        if self.before is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        # The failure that led here is what is told.
        with contextlib.suppress(OSError):
            for path in [path for path in self.folder.iterdir() if path.name not in self.before]:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def is_first() -> bool:
    """Whether this is the only process of the run, or the first of several."""
    names = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK")
    return all(os.environ.get(name, "0") == "0" for name in names)


def find(given: str) -> Resume:
    """What ``train.resume`` names.

    Raises:
        InputError: if it is neither a run folder with a last checkpoint nor a checkpoint of a run.
    """
    path = Path(given)
    checkpoint = path
    if path.is_dir():
        inside = [path / CHECKPOINTS / LAST, path / LAST]
        checkpoint = next((one for one in inside if one.is_file()), inside[0])
    if path.is_dir() and (path / CONFIG).is_file() and not checkpoint.is_file():
        raise InputError(
            f"train.resume={given}: this run ended before its first checkpoint, {checkpoint}, and there is nothing to "
            "go on with: remove the folder, and begin the run again with the command that began it"
        )
    if not checkpoint.is_file():
        raise InputError(f"train.resume={given}: there is no {checkpoint}; give a run folder or one of its checkpoints")
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        if (folder / CONFIG).is_file():
            return Resume(folder.absolute(), checkpoint.absolute())
    raise InputError(f"train.resume={given}: {checkpoint.parent} is not in a run folder, {CONFIG} is missing")


def settle(
    command: Command[S],
    overrides: Sequence[str],
    config_dir: Path | None,
    config_name: str | None,
    absolute: Callable[[S], None],
) -> tuple[Composed[S], Resume | None]:
    """The configuration: of the files, or of the run that is resumed; what is given now changes either.

    Args:
        command: whose settings they are.
        overrides: ``KEY=VALUE``; ``train.resume`` names a run.
        config_dir, config_name: the user's own YAML files, and the file to begin with.
        absolute: makes the paths of settings absolute, so that the run can be resumed from anywhere.

    Raises:
        InputError: for settings that cannot be, or a run that cannot be found.
    """
    named = [text for text in overrides if text.lstrip("+").startswith("train.resume=")]
    others = [text for text in overrides if text not in named]
    given = named[-1].partition("=")[2].strip("'\"") if named else ""
    if given and given != "null":
        if config_dir is not None or config_name is not None:
            raise InputError("train.resume takes the run's own configuration: leave out --config-dir and --config-name")
        resume = find(given)
        hold(resume.folder)
        composed = compose_for(command, others, base=resume.folder / CONFIG)
        absolute(composed.settings)
        return composed, resume
    composed = compose_for(command, others, config_dir, config_name)
    settings: Any = composed.settings
    if settings.train.resume is not None:
        raise InputError("train.resume is given in a file: give it on the command line, train.resume=RUN_FOLDER")
    absolute(composed.settings)
    return composed, requeued(composed)


def requeued(composed: Composed[Any]) -> Resume | None:
    """The run that this SLURM job began before it was put back into the queue."""
    if os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        return None
    folder = composed.folder.absolute()
    checkpoint = folder / CHECKPOINTS / LAST
    if not checkpoint.is_file() or not (folder / CONFIG).is_file():
        return None
    hold(folder)
    return Resume(folder, checkpoint)


def create(composed: Composed[Any]) -> New:
    """A new folder for a run; never one with anything in it, but what this SLURM job began before it was queued again.

    Raises:
        InputError: if the folder that the user named is there, or several processes cannot agree on one.
        OutputError: if it cannot be made.
    """
    if (known := os.environ.get(FOLDER)) and not is_first():
        return New(Path(known), frozenset())
    folder, slurm = composed.folder.absolute(), "SLURM_JOB_ID" in os.environ
    started_apart = (
        int(os.environ.get("WORLD_SIZE", "1")) > 1 or getattr(composed.settings.train.trainer, "num_nodes", 1) > 1
    )
    if started_apart and not (composed.named or slurm):
        raise InputError("processes started one by one must share a run folder: give hydra.run.dir=FOLDER to all")
    if not is_first():
        return New(folder, frozenset())
    if _used(folder) and (composed.named or slurm):
        if not (folder / CONFIG).is_file():
            raise InputError(
                f"{folder} is there already and no run folder ({CONFIG} is missing): give another hydra.run.dir or "
                "run_id"
            )
        if os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
            begun = (folder / CHECKPOINTS / LAST).is_file()
            cure = f"train.resume={folder} goes on with it" if begun else "nothing was saved in it, it may be removed"
            raise InputError(f"{folder} is there already: give another hydra.run.dir or run_id; {cure}")
    number = 1
    while True:
        try:
            if _used(folder) and not (composed.named or slurm):
                raise OutputError(f"{folder} is there already")
            before = frozenset(path.name for path in folder.iterdir()) if folder.exists() else None
            folder.mkdir(parents=True, exist_ok=True)
            # Another run may be making the same folder at this very moment.
            hold(folder)
            return New(folder, before)
        except OutputError:
            if composed.named or slurm:
                raise
            number += 1
            folder = composed.folder.absolute().with_name(f"{composed.folder.name}-{number}")
        except OSError as error:
            raise OutputError(
                f"cannot make the run folder {folder}: {error.strerror}; give another output_dir"
            ) from error


#: The run folder that this process writes to, as the lock file in it.
_held: IO[bytes] | None = None


def hold(folder: Path) -> None:
    """Locks a run folder for the first process of a run, until :func:`release`, or the end of the process.

    Two runs in one folder would write into each other's checkpoints.

    Raises:
        OutputError: if another process has it.
    """
    global _held
    release()
    if not is_first():
        return
    # Some file systems of clusters have no locks, and a folder may be read-only: what cannot be written says so later.
    with contextlib.suppress(OSError):
        _held = scratch.lock(folder / LOCK)


def release() -> None:
    """Lets other processes have the run folder."""
    global _held
    if _held is not None:
        _held.close()
    _held = None


def _used(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir()))


def write_text(path: Path, text: str) -> None:
    """Writes a small file under another name and renames it.

    Raises:
        OutputError: if it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; make room and resume the run") from error


def describe(
    folder: Path,
    settings: dict[str, Any],
    subdir: str | None,
    overrides: Sequence[str],
    data: dict[str, Any],
    device: str,
) -> None:
    """Writes configuration and record of a start.

    Args:
        settings: as plain containers.
        subdir: folder in it for the command line's changes, None for none.
        data: what is trained on, see :func:`require_same_data`; kept as it was at the run's first start.
        device: in words.

    Raises:
        InputError: if the record is damaged.
    """
    content = {**settings, "train": {**settings["train"], "resume": None}}
    write_text(folder / CONFIG, OmegaConf.to_yaml(OmegaConf.create(content)))
    if subdir is not None:
        number = len(list((folder / subdir).glob("overrides*.yaml")))
        name = f"overrides_{number}.yaml" if number else "overrides.yaml"
        write_text(folder / subdir / name, OmegaConf.to_yaml(OmegaConf.create(list(overrides))))
    record = read_record(folder) or {"data": data, "starts": []}
    record["starts"].append(_environment(device) | {"command": list(overrides)})
    write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")


def read_record(folder: Path) -> dict[str, Any] | None:
    """``run.json``, or None if there is none.

    Raises:
        InputError: if it is damaged.
    """
    path = folder / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        (
            content["data"]["hash"],
            content["starts"][-1],
            content["starts"].append,
            content["data"].get("settings", {}).get,
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error!r}): resume from a copy of the run folder") from error
    assert isinstance(content, dict)
    return content


def require_same_data(folder: Path, data: dict[str, Any]) -> None:
    """Compares with how the run in a folder was begun.

    Args:
        folder: of the run.
        data: ``hash`` of the data and its ``path``; where the run has them, ``encoder``, a digest of the weights it
            begins with, with ``model``, their name for people, and ``settings`` that cannot change, by key.

    Raises:
        InputError: if it was begun with something else, or its record is damaged.
    """
    record = read_record(folder)
    if record is None:
        return
    before: dict[str, Any] = record["data"]
    if before["hash"] != data["hash"]:
        raise InputError(
            f"{data['path']} is not what {folder} was trained on (hash {data['hash'][:12]}, was "
            f"{before['hash'][:12]}): give that dataset, or begin a new run"
        )
    # Records of earlier versions lack these.
    if "encoder" in data and before.get("encoder", data["encoder"]) != data["encoder"]:
        raise InputError(
            f"{data['model']} is not what {folder} was begun with ({before.get('model')}): give that as model, or "
            "begin a new run"
        )
    known = before.get("settings", {})
    for key, value in data.get("settings", {}).items():
        if known.get(key, value) != value:
            raise InputError(
                f"{key}={value} does not go with {folder}, which was begun with {known[key]}: leave it out, or begin a "
                "new run"
            )


def facts_of(data: Dataset) -> dict[str, Any]:
    """What ``run.json`` says of a dataset of patches."""
    counts = {split: len(data.of_split(split)) for split in ("train", "val", "test")}
    return {"hash": data.hash, "path": f"{data.folder.absolute()}", "places": len(data.places), "patches": counts}


def _environment(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "malice_core": malice_core.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
        "threads": torch.get_num_threads(),
    }
    return found | commit()


def commit() -> dict[str, Any]:
    """Commit of the code and whether it was changed since, where it lies in a git checkout."""
    root = Path(malice_core.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return {}
    try:
        git = ["git", "-C", f"{root}"]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        state = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", "malice_core"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": head.stdout.strip(), "changed": bool(state.stdout.strip())}


def say(text: str) -> None:
    """A line for people on stdout, from the first process."""
    if is_first():
        print(text, flush=True)
    sys.stdout.flush()
