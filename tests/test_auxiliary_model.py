"""Models of MALICE Aux in the store: imported from published names, their card, and when they are the default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_models import write_random_model

torch = pytest.importorskip("torch")

from helpers_training import random_encoder, save_checkpoint  # noqa: E402

from malice_core import cards, models, runtime  # noqa: E402
from malice_core.encoder import WeatherEncoder  # noqa: E402
from malice_core.errors import ModelError  # noqa: E402
from malice_core.store import agreement, importing, states  # noqa: E402
from malice_core.store.statistics import AUX, AUX_TERRAIN, AUX_WEATHER  # noqa: E402
from malice_core.surroundings.inputs import CellWeather  # noqa: E402
from malice_core.training.malice import MaliceEncoder  # noqa: E402

TERRAIN = "ubarn.encoder_dem.my_model.out_conv.conv.conv.0.bias"


@pytest.fixture(scope="module")
def encoder() -> MaliceEncoder:
    return random_encoder(7, auxiliary=True)


@pytest.fixture(scope="module")
def store(encoder: MaliceEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    importing.import_files([save_checkpoint(encoder, folder / "aux.ckpt")], "aux", folder, say=lambda _: None)
    return folder


def arrays(encoder: MaliceEncoder) -> dict[str, Any]:
    return {name: tensor.numpy().copy() for name, tensor in encoder.state_dict().items()}


def test_the_card_says_what_the_network_eats(store: Path) -> None:
    card = cards.read(store / "aux")
    assert card.surroundings is not None
    assert (card.surroundings.weather, card.surroundings.terrain) == (AUX_WEATHER, AUX_TERRAIN)
    for sensor, modality in card.modalities.items():
        assert modality.channels == AUX[sensor].channels
        assert modality.transform == AUX[sensor].transform
        assert modality.angles == AUX[sensor].channels[-6 if sensor == "s2" else -1 :]
        assert card.graph_path(sensor, "terrain").name == "terrain.onnx"
    assert cards.parse(json.loads(json.dumps(cards.to_json(card))), "again", card.folder) == card
    assert max(agreement.between_runtimes(card).values()) <= agreement.TOLERANCE


def test_cells_have_the_biases_of_their_weather(store: Path) -> None:
    """However many cells an image has, and in whatever order its rows and columns go through them."""
    backend = runtime.choose("onnxruntime", "cpu", "float32", 1)
    encode = WeatherEncoder(cards.read(store / "aux"), "s2", backend, (600, 100))
    values = np.random.default_rng(0).standard_normal((11, 2, 48)).astype(np.float32)
    rows, cols = np.arange(600)[::-1] // 55, np.arange(100) // 50
    given = encode(CellWeather(values, rows, cols))
    assert {name: array.shape for name, array in given.items()} == encode.shapes
    assert np.array_equal(given["rows"], rows)
    assert np.array_equal(given["cols"], cols)
    line = np.zeros(600, np.intp), np.zeros(100, np.intp)
    for i, j in np.ndindex(11, 2):
        alone = encode(CellWeather(values[i : i + 1, j : j + 1], *line))
        assert np.array_equal(given["bias"][0, i, j], alone["bias"][0, 0, 0])
        assert alone["bias"][0, 0, 0].any()
        assert not alone["bias"][0, 1:].any()


def test_cards_of_malice_stay_as_they_were(tmp_path: Path) -> None:
    content = cards.to_json(write_random_model(tmp_path))
    assert "surroundings" not in content
    assert all("weather" not in modality for modality in content["modalities"].values())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.pop("surroundings"), "with angles where the card has surroundings"),
        (lambda c: c["surroundings"].pop("graph"), "surroundings.graph is missing"),
        (lambda c: c["surroundings"]["weather"]["channels"].reverse(), "surroundings.weather.channels"),
        (lambda c: c["surroundings"]["terrain"]["med"].pop(), "surroundings.terrain.med"),
        (lambda c: c["surroundings"].update(snow=1), "surroundings.snow is not a field"),
        (lambda c: c["modalities"]["s1"].pop("weather"), "modalities.s1.weather is missing"),
        (lambda c: c["modalities"]["s2"]["channels"].reverse(), "modalities.s2.channels"),
        (lambda c: c["modalities"]["s1"].update(transform="log2"), "modalities.s1.transform is 'log2'"),
        (lambda c: c["surroundings"]["graph"].update(file="../terrain.onnx"), "surroundings.graph.file"),
    ],
)
def test_a_card_that_is_wrong_is_named(store: Path, change: Any, told: str) -> None:
    content = json.loads((store / "aux" / cards.FILE_NAME).read_text())
    change(content)
    with pytest.raises(ModelError) as caught:
        cards.parse(content, "model.json")
    assert told in str(caught.value)


def test_a_damaged_terrain_graph_is_told(store: Path, tmp_path: Path) -> None:
    content = json.loads((store / "aux" / cards.FILE_NAME).read_text())
    content["surroundings"]["graph"]["sha256"] = "0" * 64
    card = cards.parse(content, "model.json", store / "aux")
    with pytest.raises(ModelError, match=r"terrain\.onnx is damaged"):
        agreement.between_runtimes(card)


def test_the_terrain_may_be_under_one_name(encoder: MaliceEncoder) -> None:
    state = arrays(encoder)
    one = {name: array for name, array in state.items() if "encoder_s1.ubarn.encoder_dem" not in name}
    found, whole = (states.encoders(given, None, "x.ckpt") for given in (one, state))
    assert found.auxiliary
    assert found.state.keys() == whole.state.keys()
    for name, array in whole.state.items():
        np.testing.assert_array_equal(found.state[name], array)
    state[f"encoder_s1.{TERRAIN}"] = state[f"encoder_s1.{TERRAIN}"] + 1
    with pytest.raises(ModelError, match="sensors share one terrain U-Net"):
        states.encoders(state, None, "x.ckpt")


def test_what_lacks_is_listed(encoder: MaliceEncoder) -> None:
    state = {name: array for name, array in arrays(encoder).items() if "encoder_s2.ubarn.encoder_meteo" not in name}
    said: list[str] = []
    with pytest.raises(ModelError, match="6 tensors are missing"):
        states.encoders(state, None, "x.ckpt", said.append)
    assert "encoder_s2.ubarn.encoder_meteo.encoder.4.bias" in said[0]


def test_a_model_that_needs_more_than_images_is_no_default(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, folder = tmp_path / "plain", tmp_path / "tagged"
    write_random_model(plain, "zz-tiny")
    monkeypatch.setattr(models, "search_path", lambda: [folder, plain])
    content = json.loads((store / "aux" / cards.FILE_NAME).read_text()) | {"tags": ["demo"]}
    (folder / "aux").mkdir(parents=True)
    (folder / "aux" / cards.FILE_NAME).write_text(json.dumps(content))
    card = json.loads((plain / "zz-tiny" / cards.FILE_NAME).read_text()) | {"tags": ["demo"]}
    (plain / "zz-tiny" / cards.FILE_NAME).write_text(json.dumps(card))
    assert models.default().name == "zz-tiny"
