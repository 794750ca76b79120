"""Graphs of stored models that come from anywhere, with a card that fits: none is trusted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from helpers_models import write_random_model

from malice_core import cards, models
from malice_core.errors import ModelError


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store."""
    monkeypatch.setenv("MALICE_MODELS", f"{tmp_path / 'store'}")
    return tmp_path / "store"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of ``models`` that must fail with exit code 2."""
    assert models.main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def changed(store: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    """Writes a model whose spatial graph is another one, with a card whose sha256 fits."""
    path = write_random_model(store, sensors=("s1",)).graph_path("s1", "spatial")
    content = path.read_bytes()
    model = onnx.ModelProto.FromString(content)
    change(model)
    path.write_bytes(model.SerializeToString())
    text = (store / "tiny" / cards.FILE_NAME).read_text()
    old, new = (hashlib.sha256(data).hexdigest() for data in (content, path.read_bytes()))
    (store / "tiny" / cards.FILE_NAME).write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.graph.node[5].input.__setitem__(0, "\x1b[31mnowhere"),
        lambda model: model.graph.node[5].ClearField("input"),
        lambda model: model.graph.initializer.pop(),
        lambda model: model.graph.initializer[0].dims.append(2),
        lambda model: model.ClearField("opset_import"),
        lambda model: setattr(model.graph.initializer[0], "data_type", 99),
        lambda model: setattr(model.graph.initializer[0], "data_type", onnx.TensorProto.DOUBLE),
        lambda model: setattr(model.graph.initializer[0], "data_type", onnx.TensorProto.INT32),
        lambda model: model.graph.initializer[0].dims.__setitem__(0, -1),
    ],
    ids=[
        "nothing makes it",
        "no input",
        "no weight",
        "another shape",
        "no version",
        "no type",
        "another type",
        "whole numbers",
        "below zero",
    ],
)
def test_a_stored_graph_that_is_not_sound_is_refused(
    store: Path, capsys: pytest.CaptureFixture[str], change: Callable[[onnx.ModelProto], object]
) -> None:
    """Runtimes would stumble over it, each in words of its own."""
    changed(store, change)
    said = refused(capsys, "verify", "tiny")
    assert "no sound ONNX graph" in said
    assert said.strip().isprintable()
    with pytest.raises(ModelError, match="no sound ONNX graph"):
        models.load("tiny").graph_bytes("s1", "spatial")


def test_a_stored_graph_that_points_to_other_files_is_refused(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model from elsewhere, with a card whose sha256 fits: a runtime would read any file it names."""

    def elsewhere(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        (store / "secret.bin").write_bytes(weight.raw_data)
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../secret.bin")

    changed(store, elsewhere)
    assert "lies in another file ('../secret.bin')" in refused(capsys, "verify", "tiny")
    with pytest.raises(ModelError, match="external data is refused"):
        models.load("tiny").graph_bytes("s1", "spatial")
