"""Two probes of features, by macro F1: a linear one, and nearest neighbours. Both on standardised features.

A linear probe is multinomial logistic regression with its penalty fixed, so that no setting is tuned on what is tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from malice_core.errors import InputError
from malice_core.evaluation.folds import Folds

Floats = npt.NDArray[np.floating]

#: Inverse strength of the linear probe's penalty, and the number of neighbours that vote: scikit-learn's defaults, so
#: that nothing was chosen by looking at scores. The penalty matters: a stronger one costs random weights more than
#: trained ones.
PENALTY, NEIGHBOURS = 1.0, 5
#: The fields of :class:`Scores`.
PROBES = ("linear", "neighbours")
#: Pixels to train on at most, drawn at random where there are more: the scores would hardly change.
MAX_TRAIN = 20_000


@dataclass(frozen=True, eq=False)
class Scores:
    """Macro F1 of one set of features.

    Attributes:
        width: number of features.
        linear, neighbours: (folds,) macro F1 of the two probes, of one deal or several.
    """

    width: int
    linear: npt.NDArray[np.float64]
    neighbours: npt.NDArray[np.float64]


def score(features: Floats, folds: Folds, seed: int = 0) -> Scores:
    """Both probes of features, fold by fold.

    Args:
        features: (N, F) of the pixels that count (``folds.counted``), row by row of the raster.
        folds: which pixels are trained and tested on.
        seed: of the draw of pixels to train on, where there are very many.

    Raises:
        InputError: if scikit-learn is not installed, or features are not finite.
    """
    counted = folds.counted
    classes = folds.labels[counted]
    if features.shape[0] != len(classes):
        raise ValueError(f"features of {features.shape[0]} pixels, {len(classes)} count")
    if not np.isfinite(features).all():
        raise InputError("features are NaN or infinite at pixels that count: mask these pixels first")
    # In float64 the optimiser ends after a hundred steps; in float32 it stalls before its tolerance.
    values = features.astype(np.float64)
    rng = np.random.default_rng(seed)
    linear, neighbours = np.empty(folds.count), np.empty(folds.count)
    for number in range(folds.count):
        train, test = (np.flatnonzero(mask[counted]) for mask in folds.split(number))
        if len(train) > MAX_TRAIN:
            train = np.sort(rng.choice(train, MAX_TRAIN, replace=False))
        if len(np.unique(classes[train])) < 2:
            raise InputError(
                f"fold {number} has fewer than two classes to train on: fewer --folds or a smaller --guard"
            )
        probes, one_thread = _scikit_learn(len(train))
        # The matrices are small: threads would wait for each other, on a busy machine a hundred times longer.
        with one_thread:
            for probe, result in zip(probes, (linear, neighbours), strict=True):
                guess = probe.fit(values[train], classes[train]).predict(values[test])
                result[number] = macro_f1(classes[test], guess)
    return Scores(features.shape[1], linear, neighbours)


def _scikit_learn(train: int) -> tuple[tuple[Any, Any], AbstractContextManager[Any]]:
    """The two probes for that many pixels to train on, and what keeps them to one thread."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise InputError(f"evaluation needs scikit-learn ({error}): pip install 'malice-core[train]'") from error
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=PENALTY, max_iter=1000))
    neighbours = make_pipeline(StandardScaler(), KNeighborsClassifier(min(NEIGHBOURS, train)))
    return (linear, neighbours), threadpool_limits(1)


def macro_f1(truth: npt.NDArray[Any], guess: npt.NDArray[Any]) -> float:
    """Mean over the classes in ``truth`` of F1 = 2·hits / (guessed + true).

    Args:
        truth, guess: (N,) classes.
    """
    scores = []
    for one in np.unique(truth):
        hits = np.sum((truth == one) & (guess == one))
        scores.append(2 * hits / (np.sum(truth == one) + np.sum(guess == one)))
    return float(np.mean(scores))


def paired_difference(
    one: npt.NDArray[np.float64], other: npt.NDArray[np.float64], ratio: float
) -> tuple[float, float]:
    """Mean of ``one - other`` over folds, and half the width of its 95 % interval.

    Folds share most of the pixels they are trained on, so their differences are not independent: Student's interval is
    widened as Nadeau and Bengio (2003, Machine Learning, doi 10.1023/A:1024068626366) do.

    Args:
        one, other: (folds,) scores over the same folds, two or more, of one deal or several.
        ratio: pixels tested on for each that is trained on.
    """
    from scipy.stats import t

    difference = one - other
    count = len(difference)
    half = t.ppf(0.975, count - 1) * difference.std(ddof=1) * np.sqrt(1 / count + ratio)
    return float(difference.mean()), float(half)


def joined(scores: Sequence[Scores]) -> Scores:
    """The scores of one set of features over the folds of several deals."""
    linear, neighbours = (np.concatenate([getattr(one, probe) for one in scores]) for probe in PROBES)
    return Scores(scores[0].width, linear, neighbours)
