"""Pixels of labelled places, spatial folds, and scores, against computations of their own."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from helpers_analysis import LEFT, TOP, Array
from helpers_learning import point, square
from rasterio.crs import CRS

from malice_core.analysis import labelled, scoring, spatial
from malice_core.analysis.labelled import Cap, Pixels
from malice_core.analysis.scoring import Held
from malice_core.errors import InputError
from malice_core.evaluation.rasters import Place
from malice_core.vectors import Feature, Layer

GRID = Place.of(Path("e.tif"), CRS.from_epsg(32631), Affine(10, 0, LEFT, 0, -10, TOP), (60, 80))
ALL = Cap(10**6, 10**6)


def layer(*shapes: dict[str, Any]) -> Layer:
    features = []
    for shape in shapes:
        rings = [[(x, y) for x, y in ring] for ring in shape["coordinates"]] if shape["type"] == "Polygon" else []
        features.append(Feature([rings] if rings else [], [] if rings else [tuple(shape["coordinates"])], {}))
    return Layer(Path("l.geojson"), "EPSG:32631", features)


def inside(ring: list[list[float]]) -> Array:
    """(rows, columns) whether a pixel's centre is in a ring, by the even-odd rule."""
    y, x = np.mgrid[: GRID.shape[0], : GRID.shape[1]]
    x, y = LEFT + 10 * x + 5, TOP - 10 * y - 5
    odd = np.zeros(GRID.shape, bool)
    for (x0, y0), (x1, y1) in itertools.pairwise(ring):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            odd ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return odd


def numbered(found: Pixels) -> Array:
    """(rows, columns) label of each pixel, -1 for none."""
    values = np.full(GRID.shape, -1)
    values[found.rows, found.cols] = found.label
    return values


def test_pixels_are_those_whose_centre_is_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    slanted = [[LEFT + 33, TOP - 41], [LEFT + 390, TOP - 87], [LEFT + 251, TOP - 422], [LEFT + 33, TOP - 41]]
    hole = [[LEFT + 160, TOP - 120], [LEFT + 263, TOP - 131], [LEFT + 222, TOP - 240], [LEFT + 160, TOP - 120]]
    shapes = [{"type": "Polygon", "coordinates": [slanted, hole]}, point(50, 70), square(52, 3, 4, 6)]
    wanted = np.where(inside(slanted) & ~inside(hole), 0, -1)
    wanted[50, 70] = 1
    wanted[52:56, 3:9] = 0
    first = labelled.find(layer(*shapes), [0, 1, 0], GRID, ALL, 1)
    np.testing.assert_array_equal(numbered(first), wanted)
    assert first.notes == ()
    assert (np.diff(first.rows * 80 + first.cols) > 0).all()
    # Whatever is looked at at once, the same pixels are drawn.
    few = labelled.find(layer(*shapes), [0, 1, 0], GRID, Cap(40, 50), 1)
    assert np.bincount(few.place).tolist() == [50 - (few.place == 2).sum(), 1, (few.place == 2).sum()]
    monkeypatch.setattr(labelled, "STRIP_PIXELS", 80 * 3)
    for cap, one in ((ALL, first), (Cap(40, 50), few)):
        again = labelled.find(layer(*shapes), [0, 1, 0], GRID, cap, 1)
        for name in ("rows", "cols", "place", "label"):
            np.testing.assert_array_equal(getattr(again, name), getattr(one, name))
    other = labelled.find(layer(*shapes), [0, 1, 0], GRID, Cap(40, 50), 2)
    assert not np.array_equal(other.rows, few.rows)


def test_pixels_of_two_labels_are_left_out_and_counted() -> None:
    shapes = [square(0, 0, 6, 6), square(2, 2, 6, 6), square(4, 4, 6, 6), square(40, 40, 4, 4), square(41, 41, 9, 9)]
    found = labelled.find(layer(*shapes), [1, 0, 1, 2, 2], GRID, ALL, 1)
    wanted = np.full((6, *GRID.shape), -1)
    for number, (begin, side, label) in enumerate([(0, 6, 1), (2, 6, 0), (4, 6, 1), (40, 4, 2), (41, 9, 2)]):
        wanted[number, begin : begin + side, begin : begin + side] = label
    several = [set(wanted[:, r, c]) - {-1} for r in range(60) for c in range(80)]
    expected = np.array([next(iter(one)) if len(one) == 1 else -1 for one in several]).reshape(GRID.shape)
    np.testing.assert_array_equal(numbered(found), expected)
    doubtful = sum(len(one) > 1 for one in several)
    assert found.notes == (f"{doubtful} pixels are of places with different labels: they are left out",)
    # A pixel of two places of one label is there once, of the first.
    assert found.place[(found.rows == 42) & (found.cols == 42)].tolist() == [3]


def test_places_without_a_pixel_are_told() -> None:
    tiny = {
        "type": "Polygon",
        "coordinates": [[[LEFT + 1, TOP - 1], [LEFT + 3, TOP - 1], [LEFT + 3, TOP - 3], [LEFT + 1, TOP - 1]]],
    }
    found = labelled.find(layer(tiny, square(5, 5, 2, 2), point(-3, 4), point(5, 80)), [0, 1, 0, 0], GRID, ALL, 1)
    assert found.notes[0].startswith("3 of 4 points and polygons have no pixel")
    with pytest.raises(InputError, match="do they overlap"):
        labelled.find(layer(point(-3, 4)), [0], GRID, ALL, 1)
    with pytest.raises(InputError, match="no point or polygon with a value"):
        labelled.find(layer(point(3, 4)), [None], GRID, ALL, 1)


def test_folds_are_squares_of_the_crs_and_places_are_whole() -> None:
    rng = np.random.default_rng(0)
    centres = np.column_stack([LEFT + rng.uniform(0, 3000, 200), TOP - rng.uniform(0, 2000, 200)])
    labels = rng.integers(0, 3, 200)
    labels[:4] = -1
    folds = spatial.make(centres, labels, GRID, 4, 300, 1)
    assert (folds.fold[:4] == -1).all()
    squares: dict[tuple[int, int], set[int]] = {}
    for (x, y), fold in zip(centres[4:].tolist(), folds.fold[4:].tolist(), strict=True):
        squares.setdefault((int(x // 300), int(y // 300)), set()).add(fold)
    assert all(len(one) == 1 for one in squares.values())
    assert {
        tuple(one): {fold} for one, fold in zip(folds.squares.tolist(), folds.square_fold.tolist(), strict=True)
    } == squares
    # Every label in every fold, about evenly.
    for label in range(3):
        assert np.bincount(folds.fold[labels == label], minlength=4).min() > 8
    # A degree is many metres.
    degrees = Place(CRS.from_epsg(4326), 0, 0, (1e-4, -1e-4), (10, 10))
    assert spatial.make(centres / 111_320, labels, degrees, 4, 300, 1).side == pytest.approx(300 / 111_320)


def test_the_side_of_squares_is_chosen_by_the_labels() -> None:
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 10_000, (300, 2))
    folds = spatial.make(centres, np.arange(300) % 3, GRID, 5, None, 1)
    assert folds.metres == 2000  # 25 squares; 5000 leaves 4, fewer than four a fold
    # A label that lies in one corner only asks for narrower ones.
    labels = np.arange(300) % 3
    labels[(centres < 2000).all(axis=1)] = 3
    assert spatial.make(centres, labels, GRID, 5, None, 1).metres < 2000
    with pytest.raises(InputError, match=r"in 1 squares of 50000 m, fewer than --folds 5: give .* smaller --fold-size"):
        spatial.make(centres, labels, GRID, 5, 50_000, 1)
    with pytest.raises(InputError, match=r"in 1 squares of 50 m.*--folds 0"):
        spatial.make(centres[:1], labels[:1], GRID, 5, None, 1)


def held(predicted: Array, fold: Array, tested: Array | None = None) -> Held:
    return Held(predicted, fold, np.ones(len(fold), bool) if tested is None else tested, 0.25)


def test_scores_of_classes_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, fold = rng.integers(0, 4, 500), rng.integers(0, 5, 500)
    said = np.where(rng.random(500) < 0.6, truth, rng.integers(0, 4, 500))
    found = scoring.of_classes(truth, held(said, fold), 4)
    np.testing.assert_array_equal(found["confusion"], metrics.confusion_matrix(truth, said))
    assert found["overall_accuracy"] == pytest.approx(metrics.accuracy_score(truth, said))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(truth, said, average="macro"))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(truth, said)
    for one, wanted in zip(found["by_class"], zip(support, precision, recall, f1, strict=True), strict=True):
        assert list(one.values()) == pytest.approx(wanted)
    each = [metrics.accuracy_score(truth[fold == k], said[fold == k]) for k in range(5)]
    assert [one["overall_accuracy"] for one in found["folds"]] == pytest.approx(each)
    # Student's quantile of four degrees of freedom is 2.776.
    assert found["interval"] == pytest.approx(2.7764 * np.std(each, ddof=1) * np.sqrt(0.2 + 0.25), rel=1e-4)
    # A class that could not be tested has no share.
    tested = truth != 3
    found = scoring.of_classes(truth, held(np.where(tested, said, -1), fold, tested), 4)
    assert found["by_class"][3] == {"pixels": 0, "users_accuracy": None, "producers_accuracy": None, "f1": None}
    assert (found["tested"], found["untested"]) == (int(tested.sum()), int((~tested).sum()))
    assert found["overall_accuracy"] == pytest.approx(metrics.accuracy_score(truth[tested], said[tested]))


def test_scores_of_numbers_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, fold = rng.normal(5, 2, 300), rng.integers(0, 3, 300)
    said = truth * 0.8 + rng.normal(0, 1, 300)
    found = scoring.of_numbers(truth, held(said, fold))
    assert found["rmse"] ** 2 == pytest.approx(metrics.mean_squared_error(truth, said))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, said))
    assert found["r2"] == pytest.approx(metrics.r2_score(truth, said))
    assert found["bias"] == pytest.approx(said.mean() - truth.mean())
    assert found["folds"][1]["rmse"] ** 2 == pytest.approx(
        metrics.mean_squared_error(truth[fold == 1], said[fold == 1])
    )
    constant = scoring.of_numbers(np.full(300, 2.0), held(said, fold))
    assert constant["r2"] is None
