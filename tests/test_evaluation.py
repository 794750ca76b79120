"""Spatial folds, probes and their comparison, on made-up landscapes whose answer is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from malice_core import evaluate
from malice_core.errors import InputError
from malice_core.evaluation import probes, rasters
from malice_core.evaluation.comparing import compare
from malice_core.evaluation.folds import spatial_folds
from malice_core.product import scale_path

pytest.importorskip("sklearn")


def landscape(side: int = 64, seed: int = 0) -> np.ndarray:
    """(H, W) fields of 8 pixels with classes 1 to 3, a hedge of class 9 too small to count, and unlabelled strips."""
    rng = np.random.default_rng(seed)
    labels = np.kron(rng.integers(1, 4, (side // 8, side // 8)), np.ones((8, 8), int))
    labels[:, ::9] = 0
    labels[3, 10:18] = 9
    return labels


def informative(labels: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    """(6, H, W) features: each class has a mean of its own, plus noise."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(10, 6))
    return (means[labels].transpose(2, 0, 1) + noise * rng.normal(size=(6, *labels.shape))).astype(np.float32)


def write(path: Path, values: np.ndarray, left: float = 1000.0, top: float = 2000.0, **options: object) -> Path:
    profile = {"driver": "GTiff", "dtype": values.dtype, "count": len(values), "crs": "EPSG:32631", **options}
    shape = {"height": values.shape[1], "width": values.shape[2]}
    with rasterio.open(path, "w", transform=Affine(10, 0, left, 0, -10, top), **profile, **shape) as file:
        file.write(values)
    return path


def test_every_pixel_is_tested_on_once_and_never_trained_on_near() -> None:
    labels = landscape()
    folds = spatial_folds(labels, 4, block=8, guard=3)
    assert folds.classes == (1, 2, 3)
    np.testing.assert_array_equal(folds.counted, np.isin(labels, (1, 2, 3)))
    tested = np.zeros(labels.shape, int)
    for number in range(4):
        train, test = folds.split(number)
        tested += test
        assert train.any()
        assert not (train & ~folds.counted).any()
        where = np.argwhere(test)
        for row, col in np.argwhere(train)[::17]:
            assert np.abs(where - (row, col)).max(axis=1).min() > 3
        # The guard takes no more than it must.
        for row, col in np.argwhere(folds.counted & ~train & ~test)[::17]:
            assert np.abs(where - (row, col)).max(axis=1).min() <= 3
        # Whole blocks.
        blocks = test.reshape(8, 8, 8, 8).any(axis=(1, 3))
        assert not (np.kron(blocks, np.ones((8, 8), bool)) & folds.counted & ~test).any()
        for one in folds.classes:
            assert (labels[test] == one).sum() > 0
    np.testing.assert_array_equal(tested, folds.counted)


def test_folds_depend_on_labels_and_seed_only() -> None:
    labels = landscape()
    one, same, other = (spatial_folds(labels, seed=seed).fold for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_folds_refuse_what_cannot_be_split() -> None:
    with pytest.raises(InputError, match="0 classes of more than 60 labelled pixels"):
        spatial_folds(np.zeros((20, 20), int))
    with pytest.raises(InputError, match="1 classes"):
        spatial_folds(np.ones((20, 20), int))
    half = np.ones((16, 16), int)
    half[:8] = 2
    with pytest.raises(InputError, match="5 folds of 4 blocks"):
        spatial_folds(half, 5, block=8)
    # 60 pixels are not more than 60.
    edge = np.ones((20, 20), int)
    edge[0, :], edge[1, :], edge[2, :] = 2, 2, 2
    with pytest.raises(InputError, match="1 classes"):
        spatial_folds(edge)


def test_macro_f1_is_scikit_learns() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 3, 200), rng.integers(0, 5, 200)
    wanted = f1_score(truth, guess, labels=[0, 1, 2], average="macro")
    assert probes.macro_f1(truth, guess) == pytest.approx(wanted)
    assert probes.macro_f1(truth, truth) == 1.0


def test_paired_interval_widens_with_shared_training() -> None:
    from scipy.stats import ttest_1samp

    one, other = np.array([0.8, 0.7, 0.9, 0.6]), np.array([0.5, 0.6, 0.6, 0.6])
    mean, half = probes.paired_difference(one, other, ratio=0.0)
    wanted = ttest_1samp(one - other, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((wanted.low, wanted.high))
    assert probes.paired_difference(one, other, ratio=0.25)[1] == pytest.approx(half * 2**0.5)


def test_scores_tell_good_features_from_noise() -> None:
    labels = landscape()
    sets = {"good": informative(labels, 0.1), "weak": informative(labels, 4.0), "noise": informative(labels * 0, 1.0)}
    found = compare(sets, labels, repeats=2)
    linear = {name: one.linear.mean() for name, one in found.scores.items()}
    neighbours = {name: one.neighbours.mean() for name, one in found.scores.items()}
    assert linear["good"] > 0.98
    assert neighbours["good"] > 0.98
    assert linear["good"] > linear["weak"] > linear["noise"]
    assert linear["noise"] < 0.45
    mean, half = found.difference("linear", "good", "noise")
    assert mean - half > 0.3
    assert len(found.scores["good"].linear) == 10


def test_scores_do_not_depend_on_scale_or_company() -> None:
    """Standardised: units do not matter. And the other sets change nothing while they have data everywhere."""
    labels = landscape()
    good = informative(labels, 2.0)
    alone = compare({"good": good}, labels, repeats=1).scores["good"]
    company = compare({"other": good * 1e4 + 77, "good": good}, labels, repeats=1).scores
    np.testing.assert_array_equal(alone.linear, company["good"].linear)
    np.testing.assert_allclose(alone.linear, company["other"].linear, atol=0.01)


def test_pixels_without_data_in_any_set_count_in_none() -> None:
    labels = landscape()
    holed = informative(labels, 0.1)
    holed[2, :20] = np.nan
    found = compare({"whole": informative(labels, 0.1), "holed": holed}, labels, repeats=1)
    assert not found.deals[0].counted[:20].any()
    with pytest.raises(InputError, match="no labelled pixel"):
        compare({"none": np.full_like(holed, np.nan)}, labels)


def test_rasters_give_what_arrays_give(tmp_path: Path) -> None:
    """Several files side by side, labels that cover another area, nodata, scales and offsets, a list of files."""
    labels = landscape()
    values = informative(labels, 1.0)
    write(tmp_path / "a.tif", values[:2])
    codes = np.round(values[2:] * 100 - 50).astype(np.int16)
    codes[:, :4, :4] = -32768
    write(tmp_path / "b.tif", codes, nodata=-32768)
    with rasterio.open(tmp_path / "b.tif", "r+") as file:
        file.scales, file.offsets = [0.01] * 4, [0.5] * 4
    (tmp_path / "list.txt").write_text("a.tif\n\nb.tif\n")
    # Labels of a larger area, with a nodata value that is a class elsewhere.
    wide = np.full((1, 80, 90), 255, np.uint8)
    wide[0, 6:70, 5:69] = np.where(labels == 0, 255, labels)
    write(tmp_path / "labels.tif", wide, left=1000.0 - 50, top=2000.0 + 60, nodata=255)
    expected = np.concatenate([values[:2], np.round(values[2:] * 100 - 50) / 100 + 0.5])
    expected[:, :4, :4] = np.nan
    sets = {"rasters": rasters.rasters(tmp_path / "list.txt"), "array": expected.astype(np.float32)}
    found = compare(sets, tmp_path / "labels.tif", repeats=1)
    np.testing.assert_array_equal(found.deals[0].counted[4:, 4:], np.isin(labels, (1, 2, 3))[4:, 4:])
    np.testing.assert_allclose(found.scores["rasters"].linear, found.scores["array"].linear, atol=1e-6)


def test_int8_embeddings_are_read_with_their_scales(tmp_path: Path) -> None:
    labels = landscape()
    values = informative(labels, 1.0)
    scale = np.abs(values.reshape(2, 3, 64, 64)).max(axis=1) / 127
    codes = (np.rint(values / np.repeat(scale, 3, axis=0)) + 128).astype(np.uint8)
    path = write(tmp_path / "e.tif", codes, nodata=0)
    write(scale_path(path), scale.astype(np.float32), nodata=np.nan)
    rows, cols = np.nonzero(labels)
    got = rasters.features([path], rasters.place_of(path), rows, cols)
    assert np.abs(got - values[:, rows, cols].T).max() <= scale.max() / 2 + 1e-6


def test_strips_give_what_whole_rasters_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", informative(landscape(), 1.0))
    rows, cols = np.nonzero(landscape())
    whole = rasters.features([path], rasters.place_of(path), rows, cols)
    monkeypatch.setattr(rasters, "STRIP_BYTES", 8 * 6 * 64 * 7)
    np.testing.assert_array_equal(rasters.features([path], rasters.place_of(path), rows, cols), whole)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = landscape()
    good = write(tmp_path / "good.tif", informative(labels, 0.5))
    noise = write(tmp_path / "noise.tif", informative(labels * 0, 1.0))
    truth = write(tmp_path / "labels.tif", np.stack([labels * 0, labels]).astype(np.uint16))
    arguments = [str(good), str(noise), "--labels", str(truth), "--band", "2", "--repeats", "2", "--folds", "4"]
    assert evaluate.main(arguments) == 0
    out = capsys.readouterr().out
    assert "good - noise: linear +" in out
    assert evaluate.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["sets"]) == ["good", "noise"]
    assert len(found["sets"]["good"]["linear"]["folds"]) == 8
    assert found["differences"][0]["mean"] > found["differences"][0]["half_of_95"]
    assert list(found["classes"]) == ["1", "2", "3"]


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = landscape()
    good = str(write(tmp_path / "good.tif", informative(labels, 0.5)))
    truth = str(write(tmp_path / "labels.tif", labels[None].astype(np.uint16)))
    shifted = str(write(tmp_path / "shifted.tif", informative(labels, 0.5), left=1003.0))
    far = str(write(tmp_path / "far.tif", labels[None].astype(np.uint16), left=90000.0))
    for arguments, culprit in (
        ([good, "--labels", truth, "--band", "7"], "has bands 1 to 1"),
        ([good, "--labels", str(tmp_path / "gone.tif")], "gone.tif"),
        ([str(tmp_path / "gone.tif"), "--labels", truth], "gone.tif"),
        ([good, shifted, "--labels", truth], "shifted.tif"),
        ([shifted, "--labels", truth], "not on the pixels"),
        ([good, "--labels", far], "does not overlap"),
        ([good, good, good, "--labels", truth], "given twice"),
        ([good, "--labels", good], "whole numbers"),
        ([good, "--labels", truth, "--folds", "1"], "a whole number, 2 to"),
        ([good, "--labels", truth, "--min-pixels", "100000"], "0 classes"),
        ([good, "--labels", truth, "--folds", "1000"], "give 2 to 64 --folds"),
        ([good], "--labels"),
    ):
        assert evaluate.main(arguments) == 2, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert culprit in line, line
    (tmp_path / "empty").mkdir()
    assert evaluate.main([str(tmp_path / "empty"), "--labels", truth]) == 2
    assert "holds no rasters" in capsys.readouterr().err
