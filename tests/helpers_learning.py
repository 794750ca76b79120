"""A made-up embedding of fields with classes and numbers, labels of some of them, and scikit-learn called directly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from helpers_analysis import LEFT, TOP, Array, smooth, write

SHAPE, FEATURES, FIELD = (75, 140), 16, 8
#: Classes by number, as they are sorted.
CROPS = ("grass", "maize", "wheat")


def kinds(shape: tuple[int, int] = SHAPE) -> Array:
    """(rows, columns) class of each pixel, from 0, in fields of 8 x 8."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    found: Array = (rows // FIELD + cols // FIELD) % 3
    return found


def features(seed: int = 0, shape: tuple[int, int] = SHAPE, apart: float = 0.3) -> Array:
    """(features, rows, columns) in which classes overlap somewhat; the classes are the same for all seeds."""
    centres = np.random.default_rng(7).normal(0, apart, (3, FEATURES))
    values = smooth(FEATURES, shape, seed) * 0.8 + centres[kinds(shape)].transpose(2, 0, 1)
    found: Array = values.clip(-2, 2).astype(np.float32)
    return found


def embedding(path: Path, seed: int = 0, shape: tuple[int, int] = SHAPE, **options: Any) -> Path:
    return write(path, features(seed, shape), **options)


def square(row: int, col: int, height: int, width: int, inside: float = 2.0) -> dict[str, Any]:
    """A polygon around whole pixels, a little inside of their edges."""
    left, top = LEFT + 10 * col + inside, TOP - 10 * row - inside
    right, bottom = LEFT + 10 * (col + width) - inside, TOP - 10 * (row + height) + inside
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {"type": "Polygon", "coordinates": [ring]}


def point(row: int, col: int) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [LEFT + 10 * col + 5, TOP - 10 * row - 5]}


def write_labels(path: Path, rows: Sequence[tuple[dict[str, Any], dict[str, Any]]], crs: str = "EPSG:32631") -> Path:
    content = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": crs}},
        "features": [{"type": "Feature", "geometry": shape, "properties": values} for shape, values in rows],
    }
    path.write_text(json.dumps(content))
    return path


def fields() -> list[tuple[int, int]]:
    """Upper left pixels of the labelled fields: every other one, whole in the raster."""
    return [(8 * r, 8 * c) for r in range(9) for c in range(17) if (r + c) % 2 == 0]


def labels(path: Path, values: Array | None = None) -> Path:
    """Fields of 6 x 6 pixels with ``crop`` and ``cover``, the first feature's mean."""
    values = features() if values is None else values
    return write_labels(
        path,
        [
            (
                square(row + 1, col + 1, 6, 6),
                {"crop": CROPS[kinds()[row, col]], "cover": float(values[0, row : row + 8, col : col + 8].mean())},
            )
            for row, col in fields()
        ],
    )


def labelled_pixels() -> tuple[Array, Array, Array]:
    """Rows, columns, and number of the field of all labelled pixels, row by row of the raster."""
    field = np.full(SHAPE, -1)
    for number, (row, col) in enumerate(fields()):
        field[row + 1 : row + 7, col + 1 : col + 7] = number
    rows, cols = np.nonzero(field >= 0)
    return rows, cols, field[rows, cols]


def pipeline(method: str, numeric: bool) -> Any:
    """What a method is said to be, out of scikit-learn."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    last = {
        ("linear", False): LogisticRegression(max_iter=5000, class_weight="balanced"),
        ("linear", True): Ridge(),
        ("knn", False): KNeighborsClassifier(),
        ("knn", True): KNeighborsRegressor(),
        ("forest", False): RandomForestClassifier(random_state=1, class_weight="balanced"),
        ("forest", True): RandomForestRegressor(random_state=1, max_features=1 / 3),
    }[method, numeric]
    return make_pipeline(StandardScaler(), last)


def folds_of(report: dict[str, Any]) -> Array:
    """(fields,) fold of each labelled field, by the places in a report."""
    found = {(x, y): fold for x, y, fold in report["folds"]["places"]}
    return np.array([found[LEFT + 10 * col + 40, TOP - 10 * row - 40] for row, col in fields()])
