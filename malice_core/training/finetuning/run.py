"""A fine-tuning run from its configuration to its classifier: the work behind ``python -m malice_core.finetune``."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from numpy.typing import NDArray

from malice_core import models
from malice_core.errors import InputError, TrainingError
from malice_core.training import checkpoint, runfolder
from malice_core.training.callbacks import Curves, PlainProgress, Speed
from malice_core.training.composing import Composed
from malice_core.training.composing import show as shown
from malice_core.training.finetuning import heads, samples
from malice_core.training.finetuning.module import Scores, TuningModule, means
from malice_core.training.finetuning.pastis import Pastis
from malice_core.training.finetuning.places import Places, describe, named, unscored
from malice_core.training.finetuning.samples import PixelBatches, RandomCrops, Tiles, TuningData
from malice_core.training.finetuning.settings import COMMAND, Tuning, fixed
from malice_core.training.finetuning.sites import Site
from malice_core.training.finetuning.start import Start, put_back, write_classifier
from malice_core.training.malice import MaliceEncoder
from malice_core.training.resuming import Restore, require_fitting, require_same_order
from malice_core.training.run import device_of, fit, quiet, trainer_of
from malice_core.training.runfolder import Resume, say
from malice_core.training.saving import LastCheckpoint, StepSeed, Stop, tidy

SCORES = "scores.json"
#: Tiles from which mean and spread of embeddings are taken where the encoder is trained.
SAMPLED_TILES = 16
_SMALLER = "lower train.batch_size, train.crop_size, train.max_len or train.batch_pixels"


def finetune(
    overrides: Sequence[str], config_dir: Path | None = None, config_name: str | None = None, *, show: bool = False
) -> None:
    """Runs a fine-tuning to its end.

    Args:
        overrides: ``KEY=VALUE``.
        config_dir: the user's own YAML files.
        config_name: the file to begin with.
        show: print the configuration and do nothing.

    Raises:
        InputError: if configuration, data or model cannot be used, before anything is computed.
        OutputError: if the disk is full; the last checkpoint is whole.
        TrainingError: if the loss is not finite or memory is short.
        Cancelled: if the run was stopped by a signal; the last checkpoint was written.
    """
    if show:
        print(shown(overrides, config_dir, config_name, COMMAND), end="")
        return
    stop = Stop()
    stop.listen()
    quiet()
    composed, resume = runfolder.settle(COMMAND, overrides, config_dir, config_name, _absolute)
    settings = composed.settings
    stop.requeue = stop.requeue and settings.train.requeue
    stop.folder = None if resume is None else resume.folder
    if settings.train.threads is not None:
        torch.set_num_threads(settings.train.threads)
    start = Start.of(settings.model)
    if settings.model is None:
        # Another model may be the default one when the run goes on.
        settings.model = start.name
    if start.card is not None and (warning := models.caution(start.card)):
        say(f"note: {warning}")
    places = Pastis(settings, start.found.sensors) if settings.data.pastis else Site(settings, start.found.sensors)
    try:
        _run(composed, resume, start.for_sensors(places.sensors), places, overrides, stop)
    finally:
        places.close()
        runfolder.release()


def _absolute(settings: Tuning) -> None:
    """Makes paths absolute, those of a run that goes on too, so that the run can be resumed from anywhere."""
    data = settings.data
    for name in ("labels", "pastis"):
        if (given := getattr(data, name)) is not None:
            setattr(data, name, f"{Path(given).absolute()}")
    for name in ("s2", "s1", "scl"):
        setattr(data, name, [f"{Path(path).absolute()}" for path in data.paths(name)] or None)
    if data.dates is not None and data.dates.startswith("@"):
        data.dates = f"@{Path(data.dates[1:]).absolute()}"
    if settings.model is not None and Path(settings.model).suffix:
        path = Path(settings.model)
        settings.model = f"{path.absolute()}" if path.is_file() else settings.model


@dataclass
class _Made:
    """What is trained, and the encoder, trained or not, with its normalisation."""

    network: TuningModule
    encoder: MaliceEncoder
    normalise: torch.nn.ModuleDict


def _run(
    composed: Composed[Tuning],
    resume: Resume | None,
    start: Start,
    places: Places,
    overrides: Sequence[str],
    stop: Stop,
) -> None:
    settings = composed.settings
    own_facts = {"model": start.identity, "encoder": start.digest, "settings": fixed(settings)}
    facts = places.facts | own_facts
    if settings.mode == "full" and settings.train.crop_size > places.side:
        raise InputError(f"train.crop_size={settings.train.crop_size} is larger than the tiles: give {places.side}")
    L.seed_everything(settings.seed, workers=True, verbose=False)
    made = _made(settings, start, places)
    if resume is not None:
        # Before anything of the run is written: what is refused leaves it as it was.
        runfolder.require_same_data(resume.folder, facts)
    new = runfolder.create(composed) if resume is None else None
    folder = new.folder if new is not None else stop.folder
    assert folder is not None, "a run is new, or resumed"
    stop.folder = folder
    own = [Restore(), *_callbacks(settings, folder, stop)]
    try:
        trainer = trainer_of(settings.train.trainer.options(), settings.train.deterministic, folder, own, [])
        content = None
        if resume is not None:
            content = require_fitting(resume.checkpoint, made.network, trainer)
        described = (folder, settings.plain(), composed.subdir, overrides, facts, device_of(trainer))
        if new is not None:
            runfolder.describe(*described)
        say(f"run {folder}\n{start.identity}, {settings.mode}; {describe(places)}; {device_of(trainer)}")
        for note in [*places.notes, *unscored(places)]:
            say(f"note: {note}")
        with _enough_memory("give train.trainer.accelerator=cpu, or fewer dates"):
            data = _data(settings, made, places, trainer.strategy.root_device)
        if resume is not None and content is not None:
            require_same_order(resume.checkpoint, content, trainer, data.train_dataloader())
            # Only now: what is refused leaves the run as it was.
            put_back(resume.folder)
            runfolder.describe(*described)
            say(f"going on from {resume.checkpoint}")
    except BaseException:
        if new is not None:
            new.discard()
        raise
    fit(trainer, made.network, data, None if resume is None else resume.checkpoint, _SMALLER)
    stop.obey()
    with _enough_memory(f"train.resume={folder} train.trainer.accelerator=cpu scores the run and ends it"):
        _finish(settings, folder, start, places, made, trainer)


@contextlib.contextmanager
def _enough_memory(cure: str) -> Iterator[None]:
    """Raises:
    TrainingError: if a GPU's memory is short.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(f"out of GPU memory: {cure}") from error


def _made(settings: Tuning, start: Start, places: Places) -> _Made:
    train, given = settings.train, settings.head
    head = heads.make(given.kind, 10 * len(places.sensors), len(places.legend.classes), given.queries, given.heads)
    encoder, normalise = start.encoder(), start.normalise()
    rates: dict[str, Any] = {"lr": train.lr, "encoder_lr": train.encoder_lr, "weight_decay": train.weight_decay}
    if settings.mode == "full":
        more: dict[str, Any] = {"halo": places.halo, "statistics": start.statistics}
        network = TuningModule(head, encoder, normalise, **more, **rates)
    else:
        network = TuningModule(head, None, {}, **rates)
    return _Made(network, encoder, torch.nn.ModuleDict(normalise))


def _data(settings: Tuning, made: _Made, places: Places, device: torch.device) -> TuningData:
    """What is trained on; the head learns mean and spread of its input from it."""
    train, head = settings.train, made.network.head
    encoder, on_device = made.encoder.to(device), made.normalise.to(device)
    if settings.mode == "full":
        head.standardise(_some(places, encoder, on_device))
        crops = RandomCrops(places, train.crop_size, train.max_len, settings.seed)
        return TuningData(crops, Tiles(places, "val"), train.batch_size, settings.seed)
    options: dict[str, Any] = {"most": settings.data.max_pixels, "seed": settings.seed, "tell": say}
    found = samples.embed_splits(places, encoder, on_device, ("train", "val"), **options)
    head.standardise(found["train"].features.numpy())
    seen = np.bincount(found["train"].target.numpy(), minlength=len(places.legend.classes))
    if unseen := named(places.legend, seen == 0):
        say(f"note: no pixel of {unseen} is trained on (not observed, or not drawn): the classifier cannot tell them")
    batches = PixelBatches(found["train"], train.batch_pixels, settings.seed)
    return TuningData(batches, PixelBatches(found["val"], train.batch_pixels, None), 1, settings.seed)


def _some(places: Places, encoder: MaliceEncoder, normalise: torch.nn.ModuleDict) -> NDArray[np.float32]:
    """(N, features) embeddings of some training tiles."""
    tiles = places.tiles("train")
    parts = []
    for tile in tiles[:: math.ceil(len(tiles) / SAMPLED_TILES)]:
        views = {sensor: places.view(tile, sensor) for sensor in places.sensors}
        parts.append(samples.embedded(places.halo, encoder, normalise, views, places.target(tile, "train")).features)
    features: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
    if not len(features):
        raise InputError("no labelled pixel of train was observed by every sensor: do the images cover the labels?")
    return features


def _callbacks(settings: Tuning, folder: Path, stop: Stop) -> list[Callback]:
    """What happens beside training, in the order in which it does."""
    train, speed = settings.train, Speed()
    monitor = f"val/{train.monitor}"
    made: list[Callback] = [StepSeed(settings.seed), speed]
    if train.patience:
        made.append(EarlyStopping(monitor, patience=train.patience, mode="max"))
    made.append(Curves(folder, None))
    made.append(PlainProgress(speed))
    made.append(LastCheckpoint(folder, train.every_n_train_steps, stop))
    made.append(
        ModelCheckpoint(
            folder / runfolder.CHECKPOINTS,
            filename=f"best-{{epoch:03d}}-{{{monitor}:.4f}}",
            auto_insert_metric_name=False,
            monitor=monitor,
            mode="max",
            save_top_k=1,
            save_on_train_epoch_end=False,
            # An epoch that is done again after a kill takes the place of its file.
            enable_version_counter=False,
        )
    )
    return made


def _finish(settings: Tuning, folder: Path, start: Start, places: Places, made: _Made, trainer: L.Trainer) -> None:
    """Takes the best epoch, scores it, and writes the classifier."""
    tidy(trainer)
    best = trainer.checkpoint_callback
    assert isinstance(best, ModelCheckpoint)
    path = Path(best.best_model_path)
    if not path.is_file():
        more = f"train.resume={folder} train.trainer.max_epochs={trainer.current_epoch + 1}"
        raise InputError(
            f"the best checkpoint in {folder / runfolder.CHECKPOINTS} is gone: {more} trains on, or begin a new run"
        )
    network, device = made.network, trainer.strategy.root_device
    state = checkpoint.read(path).state
    network.load_state_dict({name: torch.from_numpy(np.array(state[name])) for name in network.state_dict()})
    network.to(device).eval()
    encoder = network.encoder if network.encoder is not None else made.encoder.to(device)
    found: dict[str, Any] = {"best_epoch": _epoch_of(path), "monitor": f"val/{settings.train.monitor}"}
    for split, scores in _scored(places, encoder, network, start, device).items():
        found[split] = _plain(scores, places)
    runfolder.write_text(folder / SCORES, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    told = {
        f"{split}_{name}": f"{found[split]['mean'][name]:.4f}"
        for split in ("val", "test")
        if split in found
        for name in ("iou", "f1", "accuracy")
    }
    provenance = {
        "source": f"malice_core.finetune, {start.identity}",
        "mode": settings.mode,
        "head": settings.head.kind,
        "data_hash": places.facts["hash"],
        **told,
    }
    trained = network.encoder.cpu() if network.encoder is not None else None
    write_classifier(folder, start, trained, network.head.cpu(), places.legend, provenance, places.series)
    values = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items())
    say(f"done after {trainer.current_epoch} epochs, best epoch {found['best_epoch']}: {values}")
    images = " ".join(f"--{sensor} PATH" for sensor in places.sensors)
    say(f"python -m malice_core.finetune predict {folder} {images} --output classes.tif uses it")


def _scored(
    places: Places, encoder: MaliceEncoder, network: TuningModule, start: Start, device: torch.device
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Scores of all labelled pixels of val and test, tile by tile; of a split without any there are none."""
    normalise = torch.nn.ModuleDict(start.normalise()).to(device)
    scores = {split: Scores(network.head.classes).to(device) for split in ("val", "test")}
    counts = dict.fromkeys(scores, 0)
    for tile in range(len(places)):
        targets = {split: places.target(tile, split) for split in scores}
        for split, found in samples.by_split(places, encoder, normalise, tile, targets).items():
            with torch.inference_mode():
                scores[split].add(network.head(found.features), found.target)
            counts[split] += len(found.target)
    return {split: one.result() for split, one in scores.items() if counts[split]}


def _plain(scores: dict[str, NDArray[np.float64]], places: Places) -> dict[str, Any]:
    """Scores as plain containers: means, by class, and the confusion matrix (a row a true class)."""
    confusion = scores["confusion"].astype(np.int64)
    return {
        "pixels": int(confusion.sum()),
        "mean": means(scores),
        "classes": {
            one.name: {"code": one.code, "pixels": int(confusion[index].sum())}
            | {
                name: None if np.isnan(scores[name][index]) else float(scores[name][index])
                for name in ("iou", "f1", "accuracy")
            }
            for index, one in enumerate(places.legend.classes)
        },
        "confusion": confusion.tolist(),
    }


def _epoch_of(path: Path) -> int:
    return int(path.name.split("-")[1])
