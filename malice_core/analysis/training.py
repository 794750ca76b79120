"""From labels to a trained model: labelled pixels, the test by spatial folds, and the training on all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core.analysis import labelled, legend, memories, sampling, saved, scoring, spatial, telling, windows
from malice_core.analysis.command import Progress, Run
from malice_core.analysis.embedding import Embedding
from malice_core.analysis.labelled import Pixels
from malice_core.analysis.legend import Legend
from malice_core.analysis.saved import Trained
from malice_core.errors import InputError
from malice_core.vectors import chosen, classes, numbers, read

#: A fold takes about as long as predicting so many pixels.
FIT = 20_000


@dataclass(frozen=True)
class Settings:
    """What a training is told.

    Attributes:
        numeric: predict numbers; else classes.
        method: one of ``learning.METHODS``.
        folds: 0 for no test.
        fold_size: metres; None: by the labels.
        per_place: pixels of a point or polygon at most.
        limit: pixels of a class at most; of numbers, of all.
        weights: one of ``learning.WEIGHTS``; None where the method has none.
        seed: of what is random.
    """

    numeric: bool
    method: str
    folds: int
    fold_size: float | None
    per_place: int
    limit: int
    weights: str | None
    seed: int

    def told(self) -> dict[str, Any]:
        """Those that decide what the map is."""
        limit = "pixels" if self.numeric else "per-class"
        weights = {} if self.weights is None else {"class-weights": self.weights}
        return {
            "method": self.method,
            "per-place": self.per_place,
            limit: self.limit,
            **weights,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Learnt:
    """What a run trained, and what is told of it.

    Attributes:
        trained: what predicts.
        report: see ``docs/classify.md``.
    """

    trained: Trained
    report: dict[str, Any]


def learnt(
    embedding: Embedding, labels: tuple[Path, str | None], field: str | None, settings: Settings, run: Run
) -> tuple[Learnt, Progress]:
    """Reads labels, tests by folds and trains on all.

    Args:
        labels: file, and layer of it.
        field: None: the only one there is.

    Returns:
        What was learnt; and the progress, in which a step ``predicting`` of all pixels is to come.

    Raises:
        InputError: if labels cannot be used.
    """
    layer = read(*labels)
    field = chosen(layer, field)
    known, values, of_feature = None, np.zeros(0), list[int | None]()
    if settings.numeric:
        values, of_feature = _different(numbers(layer, field), layer.path, field)
    else:
        known, of_feature = legend.of_labels(classes(layer, field), f"--field {field}: {layer.path}")
    cap = labelled.Cap(settings.per_place, settings.limit, by_label=not settings.numeric)
    moved = layer.moved(embedding.place.crs)
    pixels = labelled.find(moved, of_feature, embedding.place, cap, settings.seed, run.check)

    values_of = 1 if known is None else len(known.classes)
    workers = memories.workers(run, embedding, len(pixels.rows), settings.folds, settings.method, values_of)
    area = embedding.area.pixels
    progress = run.progress({"reading labels": area, "testing": (settings.folds + 1) * FIT, "predicting": area})
    features, pixels = _gathered(embedding, pixels, run, progress)
    if known is not None:
        known, pixels = _present(known, pixels, layer.path)
    for line in pixels.notes:
        run.reporter.warning(line)

    targets: NDArray[Any] = values[pixels.label] if known is None else pixels.label
    fit = scoring.fitting(settings.method, settings.numeric, settings.seed, settings.weights == "balanced")
    test: dict[str, Any] = {}
    if settings.folds:
        test = _tested(embedding, pixels, known, features, targets, fit, settings, workers, run, progress)
    model = fit(features.astype(np.float64), targets)
    run.check()
    progress.ended("testing")
    scores = {key: value for key, value in test.get("scores", {}).items() if isinstance(value, float)}
    trained = Trained(model, embedding.kind, settings.method, field, known, scores, saved.versions())
    report = telling.about(embedding, pixels, trained, settings.told()) | test
    report["notes"] = [*pixels.notes, *test.get("notes", [])]
    report["labels"]["file"] = layer.path.name
    return Learnt(trained, report), progress


def _different(given: list[float | None], source: Path, field: str) -> tuple[NDArray[np.float64], list[int | None]]:
    """The different numbers, ascending, and the place of each feature's among them.

    Raises:
        InputError: if there is one only.
    """
    values = sorted({one for one in given if one is not None})
    if len(values) == 1:
        raise InputError(f"--field {field}: all values in {source} are {values[0]:g}, there is nothing to learn")
    place = {value: number for number, value in enumerate(values)}
    return np.array(values), [None if one is None else place[one] for one in given]


def _gathered(embedding: Embedding, pixels: Pixels, run: Run, progress: Progress) -> tuple[NDArray[np.float32], Pixels]:
    """(n, features) of the labelled pixels that have data, and which these are."""
    kept = memories.sample_bytes(embedding, len(pixels.rows))
    height, _ = windows.plan([embedding], run.memory, run.threads, kept=kept)
    found = np.empty((len(pixels.rows), embedding.kind.features), np.float32)
    advance = progress.step("reading labels")
    sampling.gather(embedding, pixels.rows, pixels.cols, found, height, run.threads, run.check, advance)
    progress.ended("reading labels")
    there: NDArray[np.bool_] = np.asarray(np.isfinite(found).all(axis=1))
    if not there.any():
        raise InputError(f"no labelled pixel has data in {embedding.path}: label places that have")
    if there.all():
        return found, pixels
    lost = f"{int((~there).sum())} of {len(there)} labelled pixels have no data: they are left out"
    return found[there], pixels.kept(there, lost)


def _present(known: Legend, pixels: Pixels, source: Path) -> tuple[Legend, Pixels]:
    """The classes that have pixels, and pixels numbered by them.

    Raises:
        InputError: if there is one only.
    """
    present = np.unique(pixels.label)
    names = [known.names[one] for one in present]
    if len(present) < 2:
        raise InputError(f"{source}: only class {names[0]} has pixels with data, two or more are needed")
    lost = [name for name in known.names if name not in names]
    notes = (f"classes without a pixel are left out: {legend.listed(lost)}",) if lost else ()
    kept = Legend(tuple(known.classes[one] for one in present))
    return kept, replace(pixels, label=np.searchsorted(present, pixels.label), notes=pixels.notes + notes)


def _tested(
    embedding: Embedding,
    pixels: Pixels,
    known: Legend | None,
    features: NDArray[np.float32],
    targets: NDArray[Any],
    fit: scoring.Fit,
    settings: Settings,
    workers: int,
    run: Run,
    progress: Progress,
) -> dict[str, Any]:
    """The test by spatial folds, as a report has it."""
    dealt = spatial.make(
        pixels.centres,
        _of_place(pixels, known, targets),
        embedding.place,
        settings.folds,
        settings.fold_size,
        settings.seed,
    )
    telling.of_folds(pixels, known, dealt, run.reporter)
    advance = progress.step("testing")
    held = scoring.held_out(
        features,
        targets,
        dealt.fold[pixels.place],
        settings.folds,
        fit,
        workers,
        run.check,
        lambda done: advance(done * FIT),
    )
    if known is None:
        scores = scoring.of_numbers(targets, held)
    else:
        scores = scoring.of_classes(targets, held, len(known.classes))
    found = telling.tested(pixels, known, targets, dealt, held, scores)
    for line in found["notes"]:
        run.reporter.warning(line)
    telling.of_scores(scores, run.reporter)
    return found


def _of_place(pixels: Pixels, known: Legend | None, targets: NDArray[Any]) -> NDArray[np.int64]:
    """(places,) what folds are dealt by: the class of each, or the fifth of the numbers; -1 of those without pixels."""
    labels = pixels.label
    if known is None:
        labels = np.searchsorted(np.quantile(targets, [0.2, 0.4, 0.6, 0.8]), targets, side="right")
    found = np.full(len(pixels.centres), -1, np.int64)
    found[pixels.place] = labels
    return found
