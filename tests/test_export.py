"""Trained weights to models: agreement with torch, the card, float16 weights, and models for trying out."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers_models import published, random_weights, write_random_model

from malice_core import cards, export, graphs, models
from malice_core.errors import ModelError
from malice_core.runtime import choose
from malice_core.store import agreement, modelwriter, states
from malice_core.store.published import read
from malice_core.store.statistics import AUX, MALICE

torch = pytest.importorskip("torch")
from helpers_training import CHANNELS, random_encoder  # noqa: E402

from malice_core.training import exporting, starting  # noqa: E402
from malice_core.training.malice import Malice, MaliceEncoder  # noqa: E402

torch.set_num_threads(1)
CODE = Path(__file__).resolve().parents[1]


def arrays(encoder: MaliceEncoder, prefix: str = "") -> dict[str, np.ndarray]:
    return {f"{prefix}{name}": tensor.numpy() for name, tensor in encoder.state_dict().items()}


def run(encoder: MaliceEncoder, sensor: str, given: agreement.Sample) -> np.ndarray:
    with torch.no_grad():
        output = encoder(
            sensor,
            torch.from_numpy(given.images)[None],
            torch.from_numpy(given.days)[None],
            torch.from_numpy(given.padded)[None],
        )
    return output[0].numpy()


def save_safetensors(path: Path, state: dict[str, np.ndarray]) -> None:
    header, data = {}, b""
    for name, array in state.items():
        kind = {"float32": "F32", "int64": "I64"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store; nothing of this computer's own models is seen."""
    monkeypatch.setenv("MALICE_MODELS", str(tmp_path / "store"))
    monkeypatch.setattr(models, "user_folder", lambda: tmp_path / "user")
    # Models that ship with the project are no part of these tests.
    monkeypatch.setattr(models, "search_path", lambda: [tmp_path / "store"])
    return tmp_path / "store"


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_exported_graphs_agree_with_torch(
    store: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = random_encoder()
    path = tmp_path / f"state{suffix}"
    if suffix == ".pt":
        torch.save(encoder.state_dict(), path)
    elif suffix == ".npz":
        np.savez(path, **arrays(encoder))
    else:
        save_safetensors(path, arrays(encoder, "encoder."))
    assert export.main([str(path), "--name", "trained"]) == 0, capsys.readouterr().err
    card = models.load("trained")
    assert list(card.modalities) == ["s2", "s1"]
    if suffix != ".npz":
        return
    for sensor, channels in CHANNELS.items():
        given = agreement.sample(channels)
        wanted = run(encoder, sensor, given)
        assert wanted.std() > 0.3
        for runtime in ("onnxruntime", "openvino"):
            got = agreement.embed(card, sensor, given, choose(runtime, "cpu"))
            assert np.abs(got - wanted).max() <= 1e-5


def test_the_trainers_checkpoint_becomes_a_model(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning's own file, with statistics of its own, in a run folder with a card and a configuration."""
    lightning = pytest.importorskip("lightning.pytorch")
    from dataclasses import replace

    from malice_core.training.module import PretrainingModule

    own = {**MALICE, "s1": replace(MALICE["s1"], med=(-3.0, -2.0, -1.0))}
    module = PretrainingModule(statistics=own)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    trainer.save_checkpoint(path)
    told = {"title": "my model", "licence": "CC-BY-4.0", "tags": ["demo"], "data": "three scenes", "val_loss": 0.25}
    (tmp_path / "run" / export.RUN_CARD).write_text(json.dumps(told))
    (tmp_path / "run" / export.RUN_CONFIG).write_text("lr: 0.001\n")
    assert export.main([str(path), "--name", "mine", "--citation", "nobody"]) == 0, capsys.readouterr().err
    card = models.load("mine")
    assert list(card.modalities) == ["s2", "s1"]
    assert card.modalities["s1"].med == (-3.0, -2.0, -1.0)
    assert (card.title, card.licence, card.citation, card.tags) == ("my model", "CC-BY-4.0", "nobody", ("demo",))
    assert card.provenance["data"] == "three scenes"
    assert card.provenance["val_loss"] == "0.25"
    assert len(card.provenance["config_sha256"]) == 64
    assert card.provenance["epoch"] == "0"
    assert "torch encoder" in card.provenance["s1_difference"]
    given = agreement.sample(3)
    wanted = run(module.model.encoder.eval(), "s1", given)
    got = agreement.embed(card, "s1", given, choose("openvino", "cpu"))
    assert np.abs(got - wanted).max() <= 1e-5

    (tmp_path / "run" / export.RUN_CARD).write_text('{"title": ["no text"]}')
    assert export.main([str(path), "--name", "other"]) == 2
    assert "model_card.json: title is" in capsys.readouterr().err


@pytest.mark.parametrize(
    "statistics",
    ["text", {}, {"s1": {}}, {"s1": {"channels": ["VH"], "transform": "ln", "med": ["x"], "qmin": [], "qmax": []}}],
)
def test_wrong_statistics_are_told(statistics: Any) -> None:
    with pytest.raises(ModelError, match=r"x\.ckpt.*statistics"):
        exporting.statistics_of({"statistics": statistics}, "x.ckpt")


def test_export_leaves_the_random_numbers_of_training_alone(store: Path) -> None:
    state = arrays(random_encoder())
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    exporting.export(state, "x", store, title="", licence="", citation="", provenance={})
    assert torch.equal(torch.rand(3), wanted)


def test_graphs_that_differ_from_torch_are_not_exported(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = graphs.temporal_graph
    monkeypatch.setattr(graphs, "MISSING", -0.01)  # padded dates then have a share
    monkeypatch.setattr(modelwriter.graphs, "temporal_graph", lambda *given: original(*given))
    with pytest.raises(ModelError, match="differ from the torch encoder"):
        exporting.export(arrays(random_encoder()), "x", store, title="", licence="", citation="", provenance={})
    assert not list(store.iterdir())


def test_sharp_attentions_round_more_and_are_exported_all_the_same(store: Path) -> None:
    torch.manual_seed(0)
    network = Malice({sensor: len(part.channels) for sensor, part in AUX.items()}, auxiliary=True)
    starting.start(network, "seasons")
    said: list[str] = []
    state = arrays(network.encoder)
    exporting.export(state, "x", store, title="", licence="", citation="", provenance={}, say=said.append)
    told = [float(line.rsplit(" ", 1)[1]) for line in said if "within" in line]
    # More than of other models, and no more than a few roundings.
    assert len(told) == 2
    assert agreement.TOLERANCE < max(told) < 4e-5


def test_what_rounding_explains_is_measured(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blunt attentions: the least bound. Sharp ones: what the last bit changes, four times. Broken ones: a limit."""
    backend = choose("onnxruntime", "cpu")
    given = agreement.sample(3)
    bounds = {}
    for sharp in (1.0, 3.0, 30.0):
        weights = dict(random_weights(3))
        for name in weights:
            if name.endswith("in_proj_weight"):
                weights[name] = weights[name] * np.float32(sharp)
        folder = store / f"sharp{sharp:.0f}"
        folder.mkdir(parents=True)
        fields: dict[str, Any] = {"title": "", "licence": "", "citation": "", "provenance": {}}
        card = modelwriter.write(folder, folder.name, {"s1": weights}, **fields)
        bounds[sharp] = agreement.rounding(card, "s1", given, backend, agreement.embed(card, "s1", given, backend))
        if sharp < 30.0:
            assert agreement.between_runtimes(card)["s1"] <= bounds[sharp]
    assert bounds[1.0] == agreement.TOLERANCE < bounds[3.0] < agreement.WORST_ROUNDING == bounds[30.0]

    embed = agreement.embed
    monkeypatch.setattr(agreement, "embed", lambda c, s, g, b: embed(c, s, g, b) + 2e-5 * (b.runtime == "openvino"))
    with pytest.raises(ModelError, match=r"runtimes differ by 2\S*e-05 on s1"):
        agreement.between_runtimes(cards.read(store / "sharp1"))


class Boom:
    """Pickles as a call of ``print``: stands for code in a checkpoint."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of a pickle ran",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"encoder_s2.x": Boom()}, tmp_path / "state.pt")
    with pytest.raises(ModelError, match="more than tensors"):
        export.read(tmp_path / "state.pt")
    np.savez(tmp_path / "state.npz", x=np.array(Boom(), dtype=object))
    with pytest.raises(ModelError, match=r"state\.npz"):
        export.read(tmp_path / "state.npz")
    assert "ran" not in capsys.readouterr().out


def test_export_refuses_what_is_no_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(state: dict[str, np.ndarray], culprit: str) -> None:
        with pytest.raises(ModelError, match=culprit):
            exporting.export(state, "x", tmp_path / "store", title="", licence="", citation="", provenance={})
        assert not (tmp_path / "store").exists() or not list((tmp_path / "store").iterdir())

    whole = arrays(random_encoder())
    fails({}, "no state of a MALICE encoder")
    fails({**whole, "decoder.x": np.zeros(3, np.float32)}, r"decoder\.x")
    fails({**whole, "encoder_s2.x": np.zeros(3, np.float32)}, r"encoder_s2\.x")
    fails({k: v for k, v in whole.items() if not k.endswith("up.1.running_var")}, r"up\.1\.running_var")
    fails({k: v for k, v in whole.items() if k != "common_temp_proj.Q"}, r"temp_proj\.Q")
    fails({**whole, "common_temp_proj.Q": np.full((2, 10, 64), np.nan, np.float32)}, "NaN")
    assert export.main([str(tmp_path / "none.npz"), "--name", "x"]) == 2
    assert export.main([str(tmp_path / "none.bin"), "--name", "x"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("origin", ["random", "published"])
def test_float16_weights_are_half_the_size_and_computed_in_float32(tmp_path: Path, origin: str) -> None:
    """Float16 weights give in both runtimes what the same rounded weights give as float32."""
    found = read(published("s1")).weights if origin == "published" else random_weights(3)
    given = agreement.sample(3)
    fields: dict[str, Any] = {"title": "", "licence": "", "citation": "", "provenance": {}}
    made = {}
    for name in ("full", "half"):
        (tmp_path / name).mkdir()
        made[name] = modelwriter.write(tmp_path / name, name, {"s1": found}, half=name == "half", **fields)
    sizes = {name: sum(path.stat().st_size for path in (tmp_path / name).glob("*.onnx")) for name in made}
    assert sizes["half"] < 0.55 * sizes["full"]
    embedded = {
        (name, runtime): agreement.embed(card, "s1", given, choose(runtime, "cpu"))
        for name, card in made.items()
        for runtime in ("onnxruntime", "openvino")
    }
    assert np.abs(embedded["half", "openvino"] - embedded["half", "onnxruntime"]).max() <= agreement.TOLERANCE
    difference = np.abs(embedded["half", "openvino"] - embedded["full", "openvino"]).max()
    assert 1e-4 < difference < exporting.HALF_TOLERANCE / 2

    # The same with float32 weights that were rounded beforehand.
    for role in ("spatial", "temporal"):
        path = tmp_path / "full" / f"s1_{role}.onnx"
        model = onnx.load(path)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
                rounded = onnx.numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
        path.write_bytes(model.SerializeToString())
    content = json.loads((tmp_path / "full" / cards.FILE_NAME).read_text())
    for role in ("spatial", "temporal"):
        digest = hashlib.sha256((tmp_path / "full" / f"s1_{role}.onnx").read_bytes()).hexdigest()
        content["modalities"]["s1"][role]["sha256"] = digest
    rounded_card = cards.parse(content, "test", tmp_path / "full")
    for runtime in ("onnxruntime", "openvino"):
        wanted = agreement.embed(rounded_card, "s1", given, choose(runtime, "cpu"))
        np.testing.assert_allclose(embedded["half", runtime], wanted, atol=2e-6)


def test_the_card_says_what_float16_costs(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "state.npz", **arrays(random_encoder(), "model.encoder."))
    assert export.main([str(tmp_path / "state.npz"), "--name", "small", "--float16", "--tag", "demo"]) == 0
    card = models.load("small")
    assert card.provenance["weights"] == "float16 on disk, computed in float32"
    assert "from the torch encoder" in card.provenance["s2_difference"]
    assert card.tags == ("demo",)
    assert models.main(["verify", "small"]) == 0
    assert models.main(["list"]) == 0
    assert "[demo]" in capsys.readouterr().out
    found = states.encoders(arrays(random_encoder()), MALICE, "x")
    with pytest.raises(ModelError, match="try without float16"):
        exporting.with_torch(card, found, 2e-5)


def test_the_default_model(store: Path) -> None:
    """None is an error; a demo model only while there is nothing else; malice before others; several are an error."""
    with pytest.raises(ModelError, match="install malice"):
        models.default()

    def tag(name: str) -> None:
        path = store / name / cards.FILE_NAME
        path.write_text(json.dumps({**json.loads(path.read_text()), "tags": ["demo"]}))

    write_random_model(store, "a-sim", ("s1",))
    tag("a-sim")
    assert models.default().name == "a-sim"
    assert "simulated scenes" in models.caution(models.default())
    assert "install malice for real work" in models.caution(models.default())
    write_random_model(store, "mine", ("s1",))
    assert models.default().name == "mine"
    assert models.caution(models.default()) == ""
    write_random_model(store, "other", ("s1",))
    with pytest.raises(ModelError, match="mine, other"):
        models.default()
    write_random_model(store, "malice", ("s1",))
    assert models.default().name == "malice"
    # Whatever its name: a model for trying out is no default beside another.
    tag("malice")
    with pytest.raises(ModelError, match="mine, other"):
        models.default()


def test_tags_are_no_part_of_the_identity_and_old_cards_have_none(store: Path) -> None:
    card = write_random_model(store, "x", ("s1",))
    content = json.loads((store / "x" / cards.FILE_NAME).read_text())
    assert content.pop("tags") == []
    assert cards.parse(content, "old").identity == card.identity
    assert cards.parse({**content, "tags": ["demo"]}, "new").identity == card.identity
    for wrong in ("demo", [1], ["De mo"]):
        with pytest.raises(ModelError, match="tags"):
            cards.parse({**content, "tags": wrong}, "wrong")


def test_embed_without_a_model_takes_the_default(tmp_path: Path) -> None:
    from malice_core import simulate

    simulate.write(simulate.Spec(height=16, width=16, s2_dates=0, s1_dates=2), tmp_path / "scene")
    write_random_model(tmp_path / "store", "sim", ("s1",))
    path = tmp_path / "store" / "sim" / cards.FILE_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "tags": ["demo"]}))
    script = (
        "import sys\nfrom pathlib import Path\nfrom malice_core import embed, models\n"
        f"models.search_path = lambda: [Path({str(tmp_path / 'store')!r})]\nsys.exit(embed.main())"
    )
    command = [
        sys.executable,
        "-c",
        script,
        "--s1",
        str(tmp_path / "scene" / "S1"),
        "--output",
        str(tmp_path / "e.tif"),
    ]
    done = subprocess.run(
        [*command, "--progress", "json"], capture_output=True, text=True, check=False, env={**os.environ}, cwd=CODE
    )
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    warnings = [event["message"] for event in events if event["event"] == "warning"]
    assert any("simulated scenes" in message for message in warnings)
    assert next(event for event in events if event["event"] == "plan")["plan"]["model"]["name"] == "sim"
    done = subprocess.run(
        [*command, "--overwrite", "--model", ""], capture_output=True, text=True, check=False, cwd=CODE
    )
    assert done.returncode == 2
    assert "--model is empty" in done.stderr
