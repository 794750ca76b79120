"""A trained classifier or regression in one file, ``NAME.skops``: scikit-learn's pipeline and what it is of.

skops keeps objects as JSON and numpy arrays in a zip file, and makes only objects of types it is told to; nothing is a
pickle. Every type in a file is compared with :data:`TYPES` before anything is made of it, and what scikit-learn does
not check itself (trees that point beyond their ends) is checked afterwards.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from malice_core.analysis.embedding import Kind
from malice_core.analysis.learning import METHODS
from malice_core.analysis.legend import Legend
from malice_core.errors import InputError, ModelError, OutputError

SUFFIX, SCHEMA = ".skops", 1
#: All types a file may have.
TYPES = frozenset(
    {
        *(f"builtins.{name}" for name in ("dict", "list", "tuple", "str", "int", "float", "bool", "NoneType")),
        *(f"numpy.{name}" for name in ("ndarray", "dtype", "float32", "float64", "int32", "int64", "bool_", "bool")),
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._ridge.Ridge",
        "sklearn.neighbors._classification.KNeighborsClassifier",
        "sklearn.neighbors._regression.KNeighborsRegressor",
        "sklearn.ensemble._forest.RandomForestClassifier",
        "sklearn.ensemble._forest.RandomForestRegressor",
        "sklearn.tree._classes.DecisionTreeClassifier",
        "sklearn.tree._classes.DecisionTreeRegressor",
        "sklearn.tree._tree.Tree",
    }
)
#: Which of them skops does not trust unless it is told.
_TREE = "sklearn.tree._tree.Tree"
#: Bytes of a file's description, and of all that is in it, unpacked.
MAX_SCHEMA, MAX_BYTES = 256 << 20, 4 << 30


@dataclass(frozen=True)
class Trained:
    """What a file holds.

    Attributes:
        model: scikit-learn's pipeline.
        kind: the embeddings it takes.
        method: one of ``learning.METHODS``.
        field: name of the labels' field.
        legend: the classes; None where it predicts numbers.
        scores: what its test gave, for people; empty without one.
        versions: of the packages it was made with.
    """

    model: Any
    kind: Kind
    method: str
    field: str
    legend: Legend | None
    scores: dict[str, Any]
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Of this process."""
    import sklearn

    import malice_core

    return {"malice_core": malice_core.__version__, "scikit-learn": sklearn.__version__}


def require() -> Any:
    """The package skops.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import skops.io
    except ImportError as error:
        raise InputError(f"classifiers are saved with skops ({error}): pip install 'malice-core[analysis]'") from error
    return skops.io


def save(trained: Trained, path: Path) -> None:
    """Writes a file.

    Raises:
        OutputError: if the disk does not take it.
    """
    about = {
        "schema": SCHEMA,
        "kind": trained.kind.plain(),
        "method": trained.method,
        "field": trained.field,
        "classes": None if trained.legend is None else trained.legend.plain(),
        "scores": trained.scores,
        "versions": trained.versions,
    }
    try:
        require().dump({"about": json.dumps(about), "model": trained.model}, path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another name"
        ) from error


def load(path: Path) -> tuple[Trained, list[str]]:
    """Reads a file; and what a user should know of it, one line each.

    Raises:
        ModelError: if it cannot be read, is none of ours, or holds what it must not.
    """
    skops = require()
    try:
        # Read once: what was looked at is what is loaded.
        with path.open("rb") as file:
            packed = file.read(MAX_BYTES + 1)
        _require_known(path, packed)
        with warnings.catch_warnings():
            # scikit-learn's own warning of another version is told below, in one line.
            warnings.simplefilter("ignore")
            content = skops.loads(packed, trusted=[_TREE])
        about = json.loads(content["about"])
        trained = _trained(about, content["model"])
        _require_sound(trained)
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"cannot read --classifier {path}: {error.strerror or error}") from error
    # What is damaged makes zipfile, skops, numpy and scikit-learn raise errors of many kinds.
    except Exception as error:
        raise ModelError(
            f"--classifier {path} is damaged, or was not saved by --save-classifier ({type(error).__name__}: "
            f"{error!s:.200}): train it again"
        ) from error
    return trained, _about_versions(path, trained)


def _require_known(path: Path, content: bytes) -> None:
    """Raises ModelError if there is a type in a file that is not one of :data:`TYPES`, or too much of it."""
    if len(content) > MAX_BYTES:
        raise ModelError(f"--classifier {path} is larger than any classifier: it is damaged, or something else")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if sum(one.file_size for one in entries) > MAX_BYTES or archive.getinfo("schema.json").file_size > MAX_SCHEMA:
            raise ModelError(f"--classifier {path} is larger than any classifier: it is damaged or crafted")
        schema = json.loads(archive.read("schema.json"))
    for name in _types(schema):
        if name not in TYPES:
            raise ModelError(
                f"--classifier {path} holds {name:.100}, which is no part of a classifier: it is refused; use files of "
                "malice_core.classify and malice_core.regress only"
            )


def _types(schema: Any) -> Iterator[str]:
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "__class__" in one or "__module__" in one or "__loader__" in one:
                yield f"{one.get('__module__')}.{one.get('__class__')}"
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _trained(about: Any, model: Any) -> Trained:
    match about:
        case {
            "schema": int(schema),
            "kind": kind,
            "method": str(method),
            "field": str(field),
            "classes": classes,
            "scores": dict(scores),
            "versions": {"malice_core": str(own), "scikit-learn": str(other)},
        } if method in METHODS:
            if schema != SCHEMA:
                raise ValueError(f"it is of schema {schema}, this version reads {SCHEMA}")
            legend = None if classes is None else Legend.read(classes)
            made_with = {"malice_core": own, "scikit-learn": other}
            return Trained(model, Kind.read(kind), method, field, legend, scores, made_with)
    raise ValueError("its description lacks fields")


def _require_sound(trained: Trained) -> None:
    """Raises ValueError if the pipeline is not as :mod:`learning` makes it, or would read beyond its arrays."""
    from malice_core.analysis import learning

    numeric, features = trained.legend is None, trained.kind.features
    wanted = learning.estimator(trained.method, numeric, 1, 0, False)
    steps = trained.model.steps
    if [type(step) for _, step in steps] != [type(step) for _, step in wanted.steps]:
        raise ValueError(f"it holds {[type(step).__name__ for _, step in steps]}, not {trained.method}")
    last = steps[-1][1]
    if trained.method == "knn":
        _require_neighbours(last, features, numeric)
    if trained.method == "forest":
        for tree in last.estimators_:
            _require_tree(tree.tree_, features)
    # What any pixel gives: shapes that do not fit fail here and not in the middle of a raster.
    probe = np.zeros((2, features))
    if numeric:
        result = learning.numbers(trained.model, probe)
        sound = result.shape == (2,)
    else:
        assert trained.legend is not None
        count = len(trained.legend.classes)
        result = learning.shares(trained.model, probe)
        known = np.asarray(last.classes_)
        sound = result.shape == (2, len(known)) and known.tolist() == list(range(count))
    if not sound or not np.isfinite(result).all():
        raise ValueError("what it predicts does not fit its classes")


def _require_neighbours(last: Any, features: int, numeric: bool) -> None:
    """Raises ValueError if neighbours have classes there are none of: scikit-learn would write beyond an array."""
    points, labels = np.asarray(last._fit_X), np.asarray(last._y)
    if points.ndim != 2 or points.shape[1] != features or labels.shape != (len(points),):
        raise ValueError("its neighbours do not fit the embedding")
    if not np.isfinite(points).all() or not np.isfinite(labels).all():
        raise ValueError("its neighbours hold what is no number")
    if not numeric and not ((labels >= 0) & (labels < len(last.classes_))).all():
        raise ValueError("its neighbours have classes that there are none of")
    if not 1 <= int(last.n_neighbors) <= len(points) or last._fit_method != "brute":
        raise ValueError("it does not look for neighbours as it should")


def _require_tree(tree: Any, features: int) -> None:
    """Raises ValueError if a tree points beyond its nodes or features, or in circles."""
    count = tree.node_count
    left, right, feature = tree.children_left, tree.children_right, tree.feature
    inner = left != -1
    own = np.arange(count)
    # Children come after their parent: so every way down ends.
    forward = (left > own) & (left < count) & (right > own) & (right < count)
    if count < 1 or not forward[inner].all() or not ((feature >= 0) & (feature < features))[inner].all():
        raise ValueError("a tree in it points beyond its ends")
    if tree.n_outputs != 1 or not np.isfinite(tree.value).all():
        raise ValueError("a tree in it holds what is no number")


def _about_versions(path: Path, trained: Trained) -> list[str]:
    given, own = trained.versions["scikit-learn"], versions()["scikit-learn"]
    if given == own:
        return []
    return [
        f"{path.name} was trained with scikit-learn {given}, this is {own}: results may differ slightly; train it "
        "again to be sure"
    ]
