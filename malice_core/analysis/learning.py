"""The methods that learn classes or numbers from embeddings: scikit-learn's, with settings that are the same for all.

``linear`` is a logistic regression, or a ridge regression for numbers; ``knn`` looks at the nearest labelled pixels;
``forest`` is a random forest. Embeddings are standardised first, band by band. Settings are scikit-learn's defaults
where there was no reason against, so that nothing was chosen by looking at scores. Results do not depend on threads:
every computation has one, and several run side by side.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from malice_core.errors import InputError, MaliceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

METHODS = ("linear", "knn", "forest")
WEIGHTS = ("balanced", "none")
#: Inverse strength of the logistic regression's penalty, the ridge's penalty, neighbours, trees.
PENALTY, RIDGE, NEIGHBOURS, TREES = 1.0, 1.0, 5, 100
#: Steps of the optimiser at most; some hundred are usual.
STEPS = 2000


@contextmanager
def one_thread() -> Iterator[None]:
    """Has scikit-learn compute in the thread that calls it, and raise what it would warn of.

    Raises:
        InputError: if it is not installed.
    """
    try:
        # Libraries that are loaded later would not be limited.
        for name in ("cluster", "ensemble", "linear_model", "neighbors"):
            importlib.import_module(f"sklearn.{name}")
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise InputError(f"this needs scikit-learn ({error}): pip install 'malice-core[analysis]'") from error
    from sklearn.exceptions import ConvergenceWarning

    # Filters belong to the process, and folds are trained side by side: they are set once, not by each.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        # Said by scikit-learn where classes have few pixels each; the report tells how many.
        warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
        yield


def estimator(method: str, numeric: bool, count: int, seed: int, balanced: bool) -> Any:
    """An untrained pipeline.

    Args:
        method: one of :data:`METHODS`.
        numeric: predicts numbers; else classes.
        count: pixels it will be trained on.
        seed: of what is random in it.
        balanced: rare classes weigh as much as frequent ones.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    weight = "balanced" if balanced else None
    neighbours: dict[str, Any] = {"n_neighbors": min(NEIGHBOURS, count), "algorithm": "brute"}
    made: dict[tuple[str, bool], Any] = {
        ("linear", False): lambda: LogisticRegression(C=PENALTY, max_iter=STEPS, class_weight=weight),
        ("linear", True): lambda: Ridge(alpha=RIDGE),
        ("knn", False): lambda: KNeighborsClassifier(**neighbours),
        ("knn", True): lambda: KNeighborsRegressor(**neighbours),
        ("forest", False): lambda: RandomForestClassifier(TREES, random_state=seed, class_weight=weight),
        # A third of the features a split, as Breiman had it for regression; all of them, the default, takes too long.
        ("forest", True): lambda: RandomForestRegressor(TREES, random_state=seed, max_features=1 / 3),
    }
    return Pipeline([("scale", StandardScaler()), (method, made[method, numeric]())])


def trained(method: str, numeric: bool, values: Floats, targets: NDArray[Any], seed: int, balanced: bool = True) -> Any:
    """A pipeline that was trained, inside of :func:`one_thread`.

    Args:
        values: (pixels, features).
        targets: (pixels,) classes or numbers.

    Raises:
        MaliceError: if the optimiser did not end.
    """
    from sklearn.exceptions import ConvergenceWarning

    model = estimator(method, numeric, len(values), seed, balanced)
    try:
        return model.fit(values, targets)
    except ConvergenceWarning as error:
        raise MaliceError(
            f"--method linear did not settle in {STEPS} steps ({error}): are bands of the embedding constant or "
            "very large? Try --method forest"
        ) from error


def shares(model: Any, values: Floats) -> Floats:
    """(pixels, classes) probabilities, classes as in ``model.classes_``."""
    found: Floats = model.predict_proba(values)
    return found


def numbers(model: Any, values: Floats) -> Floats:
    """(pixels,) predicted numbers."""
    found: Floats = model.predict(values)
    return found
