"""Saved classifiers: other models and versions, and files that must not be loaded."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skops")

from helpers_analysis import run, write
from helpers_learning import embedding, features, labels

from malice_core import classify, regress
from malice_core.analysis import learning, saved
from malice_core.errors import InputError, ModelError


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with classifiers by all methods, and a regression."""
    folder = tmp_path_factory.mktemp("trained")
    embedding(folder / "e.tif")
    labels(folder / "l.geojson")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "TREES", 5)
        for tool, field, method, name in (
            *((classify, "crop", method, method) for method in learning.METHODS),
            (regress, "cover", "linear", "numbers"),
        ):
            run(
                tool,
                *("--input", folder / "e.tif", "--labels", folder / "l.geojson", "--field", field, "--folds", 0),
                *(
                    "--method",
                    method,
                    "--output",
                    folder / f"{name}.tif",
                    "--save-classifier",
                    folder / f"{name}.skops",
                ),
            )
    return folder


def test_another_model_or_other_queries_are_refused(tmp_path: Path, trained: Path) -> None:
    values = features()
    for name, options, told in (
        ("m", {"model": "other", "model_id": "f" * 16}, r"linear\.skops is of model tiny .*m\.tif of other"),
        ("q", {"queries": (3,)}, "queries"),
        ("s", {"sensors": ("s1",)}, "sensors"),
    ):
        write(tmp_path / f"{name}.tif", values, **options)
        with pytest.raises(InputError, match=told):
            run(
                classify,
                *("--input", tmp_path / f"{name}.tif", "--classifier", trained / "linear.skops"),
                *("--output", tmp_path / "c.tif"),
            )
    with pytest.raises(InputError, match=r"predicts numbers: use python -m malice_core\.regress"):
        run(
            classify,
            *("--input", trained / "e.tif", "--classifier", trained / "numbers.skops", "--output", tmp_path / "c.tif"),
        )
    assert not (tmp_path / "c.tif").exists()


def test_another_version_of_scikit_learn_is_told(tmp_path: Path, trained: Path) -> None:
    found, warnings = saved.load(trained / "linear.skops")
    assert warnings == []
    found.versions["scikit-learn"] = "1.5.0"
    saved.save(found, tmp_path / "old.skops")
    recorder = run(
        classify,
        *("--input", trained / "e.tif", "--classifier", tmp_path / "old.skops", "--output", tmp_path / "c.tif"),
    )
    assert len(recorder.warnings) == 1
    assert "trained with scikit-learn 1.5.0" in recorder.warnings[0]


def test_an_embedding_unlike_those_of_training_is_told(tmp_path: Path, trained: Path) -> None:
    """Its mean is compared, in standard deviations, root mean square over features."""
    values = features()
    found, _ = saved.load(trained / "linear.skops")
    scale = found.model.steps[0][1]
    for shift, told in ((0.0, False), (0.6, True)):
        moved = (values + np.float32(shift)).astype(np.float32)
        path = write(tmp_path / f"e{shift}.tif", moved)
        recorder = run(
            classify, "--input", path, "--classifier", trained / "linear.skops", "--output", tmp_path / f"c{shift}.tif"
        )
        off = (moved.reshape(16, -1).mean(axis=1, dtype=np.float64) - scale.mean_) / scale.scale_
        size = float(np.sqrt((off**2).mean()))
        assert (size > 1) == told
        assert [f"its mean is {size:.1f} standard deviations off" in line for line in recorder.warnings] == [
            True
        ] * told


class Foreign:
    """No part of any classifier."""


def crafted(trained: Path, target: Path, how: str) -> None:
    """A file that must not be loaded."""
    import skops.io

    found, _ = saved.load(trained / ("knn.skops" if how == "neighbours" else "forest.skops"))
    last = found.model.steps[-1][1]
    if how == "type":
        found.model.steps[0] = ("scale", Foreign())
    elif how == "function":
        # As it would be written by hand: skops itself dumps no such thing.
        source = zipfile.ZipFile(trained / "linear.skops")
        with zipfile.ZipFile(target, "w") as archive:
            for entry in source.infolist():
                content = source.read(entry)
                if entry.filename == "schema.json":
                    content = content.replace(b'"StandardScaler"', b'"system"').replace(
                        b'"sklearn.preprocessing._data"', b'"os"'
                    )
                archive.writestr(entry, content)
        return
    elif how in ("children", "circle", "feature"):
        tree = last.estimators_[2].tree_
        state = tree.__getstate__()
        inner = int(np.flatnonzero(tree.children_left >= 0)[-1])
        name, value = {"children": ("left_child", 10**6), "circle": ("right_child", 0), "feature": ("feature", 16)}[how]
        state["nodes"][name][inner] = value
        tree.__setstate__(state)
    elif how == "neighbours":
        last._y[3] = 10**6
    elif how == "steps":
        found.model.steps.pop(0)
    elif how == "text":
        skops.io.dump({"about": "{}", "model": found.model}, target)
        return
    saved.save(found, target)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("type", r"holds test_saved\.Foreign, which is no part of a classifier"),
        ("function", r"holds os\.system, which is no part"),
        ("children", "points beyond its ends"),
        ("circle", "points beyond its ends"),
        ("feature", "points beyond its ends"),
        ("neighbours", "classes that there are none of"),
        ("steps", "not forest"),
        ("text", "lacks fields"),
    ],
)
def test_crafted_files_are_refused(tmp_path: Path, trained: Path, how: str, told: str) -> None:
    crafted(trained, tmp_path / "bad.skops", how)
    with pytest.raises(ModelError, match=told) as error:
        saved.load(tmp_path / "bad.skops")
    assert "bad.skops" in f"{error.value}"
    assert "\n" not in f"{error.value}"


def test_damaged_files_are_refused(tmp_path: Path, trained: Path) -> None:
    whole = (trained / "linear.skops").read_bytes()
    path = tmp_path / "bad.skops"
    for content in (b"", b"no zip", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="damaged, or was not saved"):
            saved.load(path)
