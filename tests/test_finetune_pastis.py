"""Folders in PASTIS-R's layout as places of fine-tuning."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("hydra")
pytest.importorskip("torchmetrics")

from helpers_finetune import settings, write_pastis  # noqa: E402

from malice_core.errors import InputError  # noqa: E402
from malice_core.training.finetuning.pastis import Pastis  # noqa: E402
from malice_core.training.finetuning.places import SPLITS  # noqa: E402

BOTH = ("s2", "s1")


def test_pastis_gives_what_numpy_computes(tmp_path: Path) -> None:
    folder = write_pastis(tmp_path / "p")
    places = Pastis(settings(f"data.pastis={folder}"), BOTH)
    assert [places.name(tile) for tile in range(5)] == [f"patch {100 + i}" for i in range(5)]
    assert [one.name for one in places.legend.classes] == ["background", "meadow", "soft winter wheat"]
    assert ([one.code for one in places.legend.classes], places.legend.nodata) == ([0, 1, 2], 255)
    for tile in range(5):
        split = ["train", "train", "train", "val", "test"][tile]
        s2 = np.load(folder / "DATA_S2" / f"S2_{100 + tile}.npy").astype(np.float64)
        s1 = np.load(folder / "DATA_S1A" / f"S1A_{100 + tile}.npy").astype(np.float64)
        raw = np.load(folder / "ANNOTATIONS" / f"TARGET_{100 + tile}.npy")[0].astype(int)
        np.testing.assert_array_equal(places.target(tile, split), np.where(raw == 19, -1, raw))
        for other in set(SPLITS) - {split}:
            assert (places.target(tile, other) == -1).all()
        optical, radar = places.view(tile, "s2"), places.view(tile, "s1")
        lost = (s2 == 0).all(1) | (s2 == -10000).all(1)
        np.testing.assert_array_equal(optical.observed[0].numpy(), ~lost)
        np.testing.assert_allclose(optical.images[0].numpy(), np.where(lost[:, None], 0, s2))
        dead = np.isnan(s1[:, 0])
        np.testing.assert_array_equal(radar.observed[0].numpy(), ~dead)
        np.testing.assert_allclose(
            radar.images[0].numpy(), np.where(dead[:, None], 0, 10 ** (s1[:, :2] / 10)), rtol=1e-5
        )
        # 2018-09-24 is day 1666 since 2014-03-03; dates go by their number, not as they lie in the file.
        assert optical.days.tolist() == [[1666, 1706, 1765, 1855]]
        assert radar.days.tolist() == [[1673, 1685, 1770]]
    cut = places.crop(0, "s2", slice(0, 16), slice(0, 16))
    assert torch.equal(cut.images, places.view(0, "s2").images)


def test_pastis_folders_that_cannot_be_used(tmp_path: Path) -> None:
    folder = write_pastis(tmp_path / "p")
    one = folder / "DATA_S2" / "S2_100.npy"

    def told(*given: str, have: tuple[str, ...] = BOTH) -> str:
        with pytest.raises(InputError) as error:
            Pastis(settings(f"data.pastis={folder}", *given), have)
        return str(error.value)

    assert "no patch" in told("data.train_folds=[7]", "data.val_folds=[8]", "data.test_folds=[]")
    assert "0 classes to train on" in told("data.train_folds=[7]", "data.val_folds=[4]")
    assert "no S1 encoder" in told(have=("s2",))
    assert "taken whole" in told("data.max_dates=3")
    assert "named twice" in told("data.val_folds=[1]")
    radar, optical = (folder / "DATA_S1A" / "S1A_100.npy", np.load(folder / "DATA_S1A" / "S1A_100.npy")), np.load(one)
    np.save(radar[0], 10 ** (radar[1] / 10))
    assert "DATA_S1A" in told()
    np.save(radar[0], radar[1])
    np.save(one, optical / np.float32(10000))
    assert "reflectance x 10000" in told()
    np.save(one, optical)
    np.save(one, np.load(one)[:3])
    assert "S2_100.npy" in told()
    np.save(one, np.array([{"a": 1}], object), allow_pickle=True)
    assert "S2_100.npy" in told()
    (folder / "DATA_S1A").rename(folder / "DATA_S1D")
    assert "data.sensors=[s2]" in told()
    target = folder / "ANNOTATIONS" / "TARGET_101.npy"
    np.save(target, np.zeros((3, 12, 16), np.uint8))
    assert "TARGET_101.npy" in told("data.sensors=[s2]")
    target.unlink()
    assert "TARGET_101.npy" in told("data.sensors=[s2]")
    meta = folder / "metadata.geojson"
    content = json.loads(meta.read_text())
    content["features"][2]["properties"]["dates-S2"] = {"0": 20189999}
    meta.write_text(json.dumps(content))
    assert "feature 2" in told("data.sensors=[s2]")
    meta.write_text("[]")
    assert "metadata.geojson" in told("data.sensors=[s2]")
    meta.unlink()
    assert "metadata.geojson" in told("data.sensors=[s2]")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"Fold": 1.5}, "1.5 is no whole number"),
        ({"Fold": float("inf")}, "feature 0"),
        ({"ID_PATCH": "../x"}, "feature 0"),
        ({"dates-S2": [20180924] * 4}, "feature 0"),
        ({"dates-S2": "[" * 100_000}, "feature 0"),
        ({"ID_PATCH": 101}, "holds patch 101 twice"),
    ],
)
def test_metadata_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    """A patch that is there twice could be trained on and tested on; part of a fold is none."""
    folder = write_pastis(tmp_path / "p")
    path = folder / "metadata.geojson"
    content = json.loads(path.read_text())
    content["features"][0]["properties"] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=re.escape(told)):
        Pastis(settings(f"data.pastis={folder}"), BOTH)


def test_labels_are_not_folded_into_smaller_numbers(tmp_path: Path) -> None:
    folder = write_pastis(tmp_path / "p")
    target = np.ones((1, 16, 16), np.int64)
    target[0, :8] = 2**32 + 2
    np.save(folder / "ANNOTATIONS" / "TARGET_100.npy", target)
    with pytest.raises(InputError, match=r"TARGET_100\.npy has labels beyond"):
        Pastis(settings(f"data.pastis={folder}"), BOTH)


def test_void_is_never_a_class(tmp_path: Path) -> None:
    folder = write_pastis(tmp_path / "p")
    plain = Pastis(settings(f"data.pastis={folder}"), BOTH)
    less = Pastis(settings(f"data.pastis={folder}", "ignore_index=0"), BOTH)
    assert (plain.legend.labels, less.legend.labels) == ((0, 1, 2), (1, 2))
    for tile in range(5):
        split = ["train", "train", "train", "val", "test"][tile]
        np.testing.assert_array_equal(less.target(tile, split), (plain.target(tile, split) - 1).clip(min=-1))


@pytest.mark.parametrize("change", ["gone", "cut", "zip", "dates", "bands", "side", "text"])
def test_every_image_is_looked_at_before_anything_is_computed(tmp_path: Path, change: str) -> None:
    """Also those of the patches that test; only headers are read."""
    folder = write_pastis(tmp_path / "p")
    path = folder / "DATA_S1A" / "S1A_104.npy"
    values = np.load(path)
    if change == "gone":
        path.unlink()
    elif change == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif change == "zip":
        path.write_bytes(b"PK\3\4 and no more")
    else:
        changed = {"dates": values[:2], "bands": values[:, :2], "side": values[..., :8], "text": values.astype("U4")}
        np.save(path, changed[change])
    with pytest.raises(InputError, match=r"S1A_104\.npy"):
        Pastis(settings(f"data.pastis={folder}"), BOTH)
    # The images of a sensor that is not used are not asked for.
    Pastis(settings(f"data.pastis={folder}", "data.sensors=[s2]"), BOTH)


def test_images_are_part_of_the_hash(tmp_path: Path) -> None:
    folder = write_pastis(tmp_path / "p")

    def digest(*given: str) -> str:
        found = Pastis(settings(f"data.pastis={folder}", *given), BOTH).facts["hash"]
        assert isinstance(found, str)
        return found

    before = digest()
    assert digest() == before
    assert digest("data.sensors=[s2]") != before
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert Pastis(settings(f"data.pastis={moved}"), BOTH).facts["hash"] == before
    path = folder / "DATA_S2" / "S2_102.npy"
    np.save(path, np.load(path).astype(np.float64))
    assert digest() != before


def test_what_differs_from_prediction_is_told(tmp_path: Path) -> None:
    folder = write_pastis(tmp_path / "p")
    told = Pastis(settings(f"data.pastis={folder}", "class_names={1: grass, 77: oats}"), BOTH).notes
    assert any("sigma0" in note and "gamma0" in note for note in told)
    assert "class_names: no pixel has the label 77" in told
    assert not any("sigma0" in n for n in Pastis(settings(f"data.pastis={folder}", "data.sensors=[s2]"), BOTH).notes)
