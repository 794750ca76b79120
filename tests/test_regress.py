"""Numbers learnt from labelled places, against scikit-learn called directly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio

pytest.importorskip("sklearn")
pytest.importorskip("skops")

from helpers_analysis import read, run
from helpers_learning import (
    SHAPE,
    embedding,
    features,
    fields,
    folds_of,
    labelled_pixels,
    labels,
    pipeline,
    square,
    write_labels,
)

from malice_core import classify, regress
from malice_core.analysis import learning
from malice_core.analysis.charts import nice_ticks
from malice_core.errors import InputError


@pytest.mark.parametrize("method", learning.METHODS)
def test_the_map_and_the_test_are_scikit_learns(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.metrics import r2_score
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    monkeypatch.setattr(learning, "TREES", 20)
    values = features()
    missing = np.zeros(SHAPE, bool)
    missing[72:, 30:60] = True
    run(
        regress,
        *("--input", embedding(tmp_path / "e.tif", missing=missing), "--labels", labels(tmp_path / "l.geojson")),
        *("--field", "cover", "--method", method, "--output", tmp_path / "o.tif"),
        *("--report-json", tmp_path / "r.json", "--save-classifier", tmp_path / "m.skops"),
    )
    rows, cols, field = labelled_pixels()
    given = values[:, rows, cols].T.astype(np.float64)
    cover = np.array([float(values[0, r : r + 8, c : c + 8].mean()) for r, c in fields()])
    target = cover[field]
    model = pipeline(method, True)
    if method == "forest":
        model.set_params(randomforestregressor__n_estimators=20)
    wanted = model.fit(given, target).predict(values.reshape(len(values), -1).T.astype(np.float64))
    with rasterio.open(tmp_path / "o.tif") as file:
        assert file.descriptions == ("cover",)
        assert file.dtypes == ("float32",)
        found = file.read(1)
    np.testing.assert_array_equal(np.isnan(found), missing)
    np.testing.assert_allclose(found[~missing], wanted.reshape(SHAPE)[~missing], rtol=1e-5, atol=1e-6)
    report = json.loads((tmp_path / "r.json").read_text())
    said = cross_val_predict(
        pipeline(method, True) if method != "forest" else model,
        given,
        target,
        cv=PredefinedSplit(folds_of(report)[field]),
    )
    assert report["scores"]["r2"] == pytest.approx(r2_score(target, said), abs=1e-9)
    assert report["scores"]["rmse"] == pytest.approx(np.sqrt(np.mean((said - target) ** 2)))
    assert report["scores"]["r2"] > 0.5
    pairs = {(round(a, 9), round(b, 6)) for a, b in zip(target.tolist(), said.tolist(), strict=True)}
    assert {(round(a, 9), round(b, 6)) for a, b in report["scatter"]} <= pairs
    run(regress, "--input", tmp_path / "e.tif", "--classifier", tmp_path / "m.skops", "--output", tmp_path / "o2.tif")
    np.testing.assert_array_equal(read(tmp_path / "o2.tif")[0], found)
    with pytest.raises(InputError, match=r"predicts numbers: use python -m malice_core\.regress"):
        run(
            classify,
            "--input",
            tmp_path / "e.tif",
            "--classifier",
            tmp_path / "m.skops",
            "--output",
            tmp_path / "x.tif",
        )


def test_a_limit_of_all_pixels(tmp_path: Path) -> None:
    """So many are drawn, whatever their numbers; threads and memory change nothing."""
    embedding(tmp_path / "e.tif")
    labels(tmp_path / "l.geojson")
    found = []
    for threads, memory in ((1, "430MB"), (2, "2GB")):
        recorder = run(
            regress,
            *("--input", tmp_path / "e.tif", "--labels", tmp_path / "l.geojson", "--field", "cover", "--pixels", 500),
            *("--output", tmp_path / "o.tif", "--overwrite", "--threads", threads, "--memory", memory),
        )
        assert recorder.plans[0]["pixels"] == 500
        found.append(read(tmp_path / "o.tif").tobytes())
    assert found[0] == found[1]


def test_numbers_that_cannot_be_learnt(tmp_path: Path) -> None:
    embedding(tmp_path / "e.tif")
    for values, told in (
        (["high", 1], "holds 'high', which is no number"),
        ([2, 2.0], "all values in .* are 2, there is nothing to learn"),
        ([None, None], "no point or polygon with a value"),
    ):
        path = write_labels(tmp_path / "l.geojson", [(square(9 * i, 9, 4, 4), {"v": v}) for i, v in enumerate(values)])
        with pytest.raises(InputError, match=told):
            run(regress, "--input", tmp_path / "e.tif", "--labels", path, "--output", tmp_path / "o.tif")
        assert not (tmp_path / "o.tif").exists()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.83, 1.31), (3, 3), (0, 0), (1e-7, 3e-7), (-20, 431)])
def test_ticks_enclose_a_range(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 2 <= len(ticks) <= 9
    np.testing.assert_allclose(np.diff(ticks), ticks[1] - ticks[0], rtol=1e-6)
