"""Accuracy on held-out folds: every labelled pixel is predicted by a model that was trained on the other folds only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core.analysis import learning
from malice_core.errors import InputError

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Fit = Callable[[Floats, NDArray[Any]], Any]


@dataclass(frozen=True)
class Held:
    """What models said of the pixels they were not trained on.

    Attributes:
        predicted: (pixels,) number of the class, or number; -1 or NaN where a pixel could not be tested.
        fold: (pixels,) the fold that tests it.
        tested: (pixels,) False where the class of a pixel was in no other fold.
        ratio: pixels tested on for each that is trained on, mean over folds.
    """

    predicted: NDArray[Any]
    fold: Indices
    tested: NDArray[np.bool_]
    ratio: float


def held_out(
    values: NDArray[np.floating],
    targets: NDArray[Any],
    fold: Indices,
    count: int,
    fit: Fit,
    threads: int,
    check: Callable[[], None],
    advance: Callable[[int], None] = lambda folds: None,
) -> Held:
    """Trains without each fold in turn, and predicts it.

    Args:
        values: (pixels, features).
        targets: (pixels,) numbers of classes (integers), or numbers to predict.
        fold: (pixels,) from 0.
        count: of folds.
        fit: trains on values and targets.
        threads: folds that are worked on at once.
        check: raises when the run was cancelled.
        advance: told how many folds are done.

    Raises:
        InputError: if a fold leaves fewer than two classes to train on.
    """
    classes = np.issubdtype(targets.dtype, np.integer)
    predicted = np.full(len(targets), -1 if classes else np.nan, np.int64 if classes else np.float64)
    tested = np.ones(len(targets), np.bool_)
    ratios = np.empty(count)

    def work(number: int) -> None:
        test = fold == number
        train = ~test
        if classes:
            known = np.unique(targets[train])
            if len(known) < 2:
                raise InputError(
                    f"fold {number + 1} leaves one class to train on: give fewer --folds, a smaller --fold-size, or "
                    "label more places of each class"
                )
            # No model can say what it has never seen: such pixels tell nothing of it.
            tested[test] = np.isin(targets[test], known)
        model = fit(values[train].astype(np.float64), targets[train])
        predicted[test] = model.predict(values[test].astype(np.float64))
        ratios[number] = test.sum() / train.sum()

    with ThreadPoolExecutor(max(1, min(threads, count)), "fold") as pool:
        waiting = {pool.submit(work, number) for number in range(count)}
        try:
            while waiting:
                done, waiting = wait(waiting, 0.1, "FIRST_COMPLETED")
                check()
                for one in done:
                    one.result()
                    advance(1)
        finally:
            for one in waiting:
                one.cancel()
    if classes:
        predicted[~tested] = -1
    return Held(predicted, fold, tested, float(ratios.mean()))


def interval(scores: Sequence[float], ratio: float) -> float | None:
    """Half the width of the 95 % interval of a mean over folds; None of one fold.

    Folds share most of what they are trained on: Student's interval is widened as Nadeau and Bengio (2003, Machine
    Learning, doi 10.1023/A:1024068626366) do.
    """
    from scipy.stats import t

    if len(scores) < 2:
        return None
    spread = float(np.std(scores, ddof=1))
    return float(t.ppf(0.975, len(scores) - 1) * spread * np.sqrt(1 / len(scores) + ratio))


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def of_classes(truth: Indices, held: Held, count: int) -> dict[str, Any]:
    """Scores of classes.

    Args:
        truth: (pixels,) number of the class of each.
        held: what was said of them.
        count: of classes.

    Returns:
        ``confusion``: rows are labels, columns what was predicted; by class ``users_accuracy`` (precision),
        ``producers_accuracy`` (recall), ``f1``, None where a class was not tested; ``overall_accuracy``, ``macro_f1``,
        ``folds`` of both, ``interval``: half the width of the overall accuracy's; ``untested`` pixels.
    """
    matrix = np.zeros((count, count), np.int64)
    np.add.at(matrix, (truth[held.tested], held.predicted[held.tested]), 1)
    folds = []
    for number in np.unique(held.fold):
        here = held.tested & (held.fold == number)
        part = np.zeros_like(matrix)
        np.add.at(part, (truth[here], held.predicted[here]), 1)
        folds.append({"pixels": int(here.sum()), **_overall(part)})
    whole = _overall(matrix)
    accuracies = [one["overall_accuracy"] for one in folds if one["overall_accuracy"] is not None]
    return {
        **whole,
        "interval": interval(accuracies, held.ratio),
        "folds": folds,
        "confusion": matrix.tolist(),
        "by_class": _by_class(matrix),
        "tested": int(held.tested.sum()),
        "untested": int((~held.tested).sum()),
    }


def _by_class(matrix: Indices) -> list[dict[str, float | int | None]]:
    found = []
    for one in range(len(matrix)):
        hits, labelled, said = int(matrix[one, one]), int(matrix[one].sum()), int(matrix[:, one].sum())
        found.append(
            {
                "pixels": labelled,
                "users_accuracy": _ratio(hits, said) if labelled else None,
                "producers_accuracy": _ratio(hits, labelled),
                "f1": _ratio(2 * hits, labelled + said) if labelled else None,
            }
        )
    return found


def _overall(matrix: Indices) -> dict[str, float | None]:
    scores = [one["f1"] for one in _by_class(matrix) if one["f1"] is not None]
    return {
        "overall_accuracy": _ratio(int(np.trace(matrix)), int(matrix.sum())),
        "macro_f1": float(np.mean(scores)) if scores else None,
    }


def of_numbers(truth: Floats, held: Held) -> dict[str, Any]:
    """Scores of numbers: root mean square error, mean absolute error, R², bias (predicted - observed), and by fold."""
    folds = []
    for number in np.unique(held.fold):
        here = held.fold == number
        folds.append({"pixels": int(here.sum()), **_errors(truth[here], held.predicted[here])})
    return {
        **_errors(truth, held.predicted),
        "interval": interval([one["rmse"] for one in folds if one["rmse"] is not None], held.ratio),
        "folds": folds,
        "tested": len(truth),
        "untested": 0,
    }


def _errors(truth: Floats, predicted: Floats) -> dict[str, float | None]:
    error = predicted - truth
    spread = float(((truth - truth.mean()) ** 2).sum())
    return {
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
        "r2": 1 - float((error**2).sum()) / spread if spread else None,
        "bias": float(error.mean()),
    }


def fitting(method: str, numeric: bool, seed: int, balanced: bool) -> Fit:
    """What trains, for :func:`held_out` and for the whole."""
    return lambda values, targets: learning.trained(method, numeric, values, targets, seed, balanced)
