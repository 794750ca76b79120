"""Going on with a run: which checkpoints go with what is asked for now, and what they say that must be put right."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from malice_core.errors import InputError, ModelError
from malice_core.training import checkpoint
from malice_core.training.order import Loader
from malice_core.training.runstate import BATCHES, EPOCHS, EPOCHS_DONE, ORDER, ORDERED, unlike_a_run
from malice_core.training.saving import BEST


def require_fitting(path: Path, network: L.LightningModule, trainer: L.Trainer) -> dict[str, Any]:
    """Looks at all of a checkpoint before anything is done with it.

    Args:
        path: the checkpoint.
        network, trainer: that are to go on from it.

    Returns:
        Its content.

    Raises:
        InputError: if it is damaged, tampered with, or of another network.
    """
    try:
        found = checkpoint.read(path)
    except ModelError as error:
        raise InputError(f"train.resume: {error}; begin a new run if there is none") from error
    state = found.state
    if {"epoch", "global_step", "pytorch_lightning_version"} - found.facts.keys():
        raise InputError(
            f"train.resume: {path} holds weights only, no state of a run: give a run's own checkpoint, or begin a new "
            "run"
        )
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    missing, unknown = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    if missing or unknown:
        what = f"{missing[0]} is missing" if missing else f"{unknown[0]} is not in this network"
        raise InputError(
            f"train.resume: {path} is of another architecture: {what} ({len(missing)} tensors missing, {len(unknown)} "
            "unknown); resume runs with the command that began them and the same network, or begin a new run"
        )
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise InputError(
                f"train.resume: {path} is of another architecture: {name} is {state[name].shape}, here {shape}; resume "
                "it with the same network, or begin a new run"
            )
    if wild := [name for name, array in state.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]:
        raise InputError(f"train.resume: {path}: {wild[0]} is not finite, training failed before; {_cure(path)}")
    content = _load(path)
    if wrong := unlike_a_run(content, network, trainer):
        raise InputError(f"train.resume: {path} is damaged or was changed: {wrong}; {_cure(path)}")
    return content


def _cure(path: Path) -> str:
    """What to do about a checkpoint that cannot be used."""
    return f"give another one of {path.parent}, restore it from a copy, or begin a new run"


def _load(path: Path) -> dict[str, Any]:
    """All of a checkpoint; nothing in it is run. Raises InputError if it is damaged or holds anything but data."""
    try:
        with zipfile.ZipFile(path) as archive:
            # PyTorch does not look at the checksums.
            if (broken := archive.testzip()) is not None:
                raise InputError(f"train.resume: {path} is damaged: the checksum of {broken} is wrong; {_cure(path)}")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", f"{error}")
        raise InputError(
            f"train.resume: {path} holds more than numbers and text{f' ({named[1]:.60})' if named else ''}, nothing of "
            f"which was run: it is damaged or crafted; {_cure(path)}"
        ) from error
    # What zipfile and torch raise for archives that are damaged.
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, LookupError, TypeError, EOFError) as error:
        raise InputError(
            f"train.resume: {path} is damaged: {f'{error}'.partition(chr(10))[0][:150]}; {_cure(path)}"
        ) from error
    assert isinstance(content, dict), "checkpoint.read has seen to it"
    return content


def require_same_order(path: Path, content: Mapping[str, Any], trainer: L.Trainer, loader: Loader) -> None:
    """A run that goes on in the middle of an epoch must find the rest of its samples where they were.

    Args:
        path: the checkpoint, for messages.
        content: of it.
        trainer: that is to go on.
        loader: of what it is trained on.

    Raises:
        InputError: naming what is different.
    """
    loops = content["loops"]["fit_loop"]
    done, epoch = loops[BATCHES]["current"]["processed"], loops[EPOCHS_DONE]["current"]["processed"]
    if loops[BATCHES]["is_last_batch"] or not done:
        return
    # Checkpoints of earlier versions do not say it.
    now, before = _order(loader, trainer.world_size), content.get(ORDER)
    before = before if isinstance(before, dict) else now
    changed = [
        f"{told} {now[name]}, which was {before[name]}"
        for name, told in ORDERED.items()
        if before.get(name, now[name]) != now[name]
    ]
    given, sums = trainer.limit_train_batches, trainer.accumulate_grad_batches
    if isinstance(given, int) and given <= done:
        changed.append(f"train.trainer.limit_train_batches={given}")
    if done % sums:
        changed.append(f"train.trainer.accumulate_grad_batches={sums}")
    if not changed:
        return
    least = f"train.trainer.min_epochs={epoch + 1} " if (trainer.fit_loop.min_epochs or 0) > epoch + 1 else ""
    raise InputError(
        f"train.resume: {path} is in the middle of epoch {epoch}, behind {done} batches, which does not go with "
        f"{changed[0]}: leave that out; or end the epoch first ({least}train.trainer.max_epochs={epoch + 1}), and "
        "change it then"
    )


def _order(loader: Loader, processes: int) -> dict[str, int]:
    """What the order of an epoch's samples depends on, by the names in ``ORDERED``."""
    samples = len(loader.dataset)  # type: ignore[arg-type]
    seed = int(loader.sampler.seed)  # type: ignore[attr-defined]  # an Order
    return {"seed": seed, "samples": samples, "together": (loader.batch_size or 1) * processes}


class Restore(Callback):
    """Puts right what a checkpoint says of best epochs and patience, before Lightning takes it over.

    Lightning drops the best epochs where the run folder has another name than before, believes that their files are
    there, goes on with the patience of before, and trains on where patience had ended the run; that is right only where
    another number of epochs is asked for than before. From a best checkpoint, which is written in validation, it would
    go on with an epoch that has no batch left.
    """

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes how many epochs were asked for, and in which order samples come."""
        checkpoint[EPOCHS] = trainer.max_epochs
        if isinstance(loader := trainer.train_dataloader, Loader):
            checkpoint[ORDER] = _order(loader, trainer.world_size)

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Changes what the checkpoint holds of the run's callbacks and of its progress."""
        loops, states = checkpoint["loops"]["fit_loop"], checkpoint["callbacks"]
        if loops[BATCHES]["is_last_batch"]:
            # As saved when the next epoch begins: the learning rate's step comes with the last batch.
            for part in loops[EPOCHS_DONE].values():
                part |= dict.fromkeys(("completed", "processed"), part["started"])
            # What logs count by: steps of the optimizer, each of which may be the sum of several batches.
            loops["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set in its constructor
            state = states.get(callback.state_key)
            if state is None:
                continue
            if isinstance(callback, ModelCheckpoint):
                found = _on_disk(callback, state, int(checkpoint["epoch"]))
                # Processes wait for each other where they disagree, and not all may see the folder.
                states[callback.state_key] = trainer.strategy.broadcast(found)
            if isinstance(callback, EarlyStopping):
                changed = checkpoint.get(EPOCHS, trainer.max_epochs) != trainer.max_epochs
                if changed and state["wait_count"] >= state["patience"]:
                    state["wait_count"] = 0
                state["patience"] = callback.patience
                trainer.should_stop |= state["wait_count"] >= callback.patience


def _on_disk(callback: ModelCheckpoint, state: dict[str, Any], epoch: int) -> dict[str, Any]:
    """A state of ``callback`` with the files that are in its folder, whatever that was called before."""
    folder = Path(f"{callback.dirpath}")
    scores = {folder / Path(path).name: score for path, score in state["best_k_models"].items()}
    there = {path: score for path, score in scores.items() if path.is_file()}
    # Killed between writing a best checkpoint, which replaced one of these, and the last: it is in its name alone.
    strays = {path: score for path in folder.glob("best-*.ckpt") if (score := _score(path, epoch)) is not None}
    strays = {path: score for path, score in strays.items() if path not in there}
    better = sorted(strays, key=lambda path: float(strays[path]), reverse=callback.mode == "max")
    there |= {path: strays[path] for path in better[: len(scores) - len(there)]}
    ranked = sorted(there, key=lambda path: float(there[path]), reverse=callback.mode == "max")
    if callback.save_top_k >= 0:
        ranked = ranked[: callback.save_top_k]
    full = bool(ranked) and len(ranked) == callback.save_top_k
    return state | {
        "dirpath": callback.dirpath,
        "best_k_models": {f"{path}": there[path] for path in ranked},
        "best_model_path": f"{ranked[0]}" if ranked else "",
        "best_model_score": there[ranked[0]] if ranked else None,
        "kth_best_model_path": f"{ranked[-1]}" if full else "",
        "kth_value": there[ranked[-1]] if full else callback.kth_value,
        "last_model_path": "",
    }


def _score(path: Path, epoch: int) -> torch.Tensor | None:
    """What the name of a best checkpoint of an epoch up to ``epoch`` says, None for other files."""
    found = BEST.fullmatch(path.name)
    if found is None or int(found[1]) > epoch:
        return None
    try:
        return torch.tensor(float(found[2]))
    except ValueError:
        return None
