"""Weights out of a model's graphs: an encoder that has them computes what the graphs compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_models import write_random_model

from malice_core import models, runtime
from malice_core.errors import ModelError
from malice_core.store import agreement, modelwriter, restoring

torch = pytest.importorskip("torch")

from malice_core.store import states  # noqa: E402
from malice_core.store.statistics import MALICE  # noqa: E402
from malice_core.training import exporting  # noqa: E402


def test_the_restored_encoder_computes_what_the_graphs_do(tmp_path: Path) -> None:
    card = write_random_model(tmp_path)
    found = states.encoders(restoring.state_of(card), MALICE, "restored")
    assert found.sensors == ("s2", "s1")
    assert max(exporting.with_torch(card, found, agreement.TOLERANCE).values()) < agreement.TOLERANCE


def test_the_published_encoders_are_restored(malice: str) -> None:
    card = models.load(malice)
    found = states.encoders(restoring.state_of(card), MALICE, "restored")
    # Twice the rounding: theirs was folded, and is unfolded.
    assert max(exporting.with_torch(card, found, 2 * agreement.TOLERANCE).values()) < 2 * agreement.TOLERANCE


def test_graphs_of_restored_weights_compute_the_same(tmp_path: Path) -> None:
    card = write_random_model(tmp_path, sensors=("s1",))
    (tmp_path / "again").mkdir()
    again = modelwriter.write(
        tmp_path / "again",
        "again",
        {"s1": restoring.weights_of(card, "s1")},
        title="",
        licence="",
        citation="",
        provenance={},
    )
    backend, given = runtime.choose("onnxruntime", "cpu"), agreement.sample(3)
    difference = agreement.embed(card, "s1", given, backend) - agreement.embed(again, "s1", given, backend)
    assert np.abs(difference).max() < agreement.TOLERANCE


def test_half_precision_is_restored_as_it_is_stored(tmp_path: Path) -> None:
    card = write_random_model(tmp_path)
    folder = tmp_path / "half"
    folder.mkdir()
    encoders = {sensor: restoring.weights_of(card, sensor) for sensor in card.modalities}
    half = modelwriter.write(folder, "half", encoders, title="", licence="", citation="", provenance={}, half=True)
    found = states.encoders(restoring.state_of(half), MALICE, "half")
    assert max(exporting.with_torch(half, found, agreement.TOLERANCE).values()) < agreement.TOLERANCE


def test_foreign_graphs_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = write_random_model(tmp_path, sensors=("s1",))
    monkeypatch.setattr(restoring, "PROJECTOR", "other")
    with pytest.raises(ModelError, match=r"no weight other\.A"):
        restoring.weights_of(card, "s1")
