"""The torch encoder against the two ONNX graphs, and the properties of its masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from helpers_models import published, random_weights

from malice_core import export, graphs, models, weights
from malice_core.errors import ModelError
from malice_core.runtime import choose
from malice_core.store import agreement
from malice_core.store.agreement import Sample
from malice_core.store.published import read

torch = pytest.importorskip("torch")
from malice_core.training.malice import MaliceEncoder  # noqa: E402
from malice_core.training.temporal import DateEncoding  # noqa: E402

CHANNELS = {"s2": 10, "s1": 3}


def random_encoder(seed: int = 0) -> MaliceEncoder:
    """An encoder with random weights and random batch statistics, in evaluation mode."""
    torch.manual_seed(seed)
    encoder = MaliceEncoder(CHANNELS)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.2)
            module.running_var.uniform_(0.3, 2.0)
            torch.nn.init.uniform_(module.weight, 0.7, 1.6)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
    return encoder.eval()


def from_canonical(found: dict[str, np.ndarray], sensor: str) -> MaliceEncoder:
    """A torch encoder with folded weights: its batch norms are set to cancel exactly what they divide by."""
    encoder = MaliceEncoder({sensor: CHANNELS[sensor]})
    state = encoder.state_dict()
    for name, array in found.items():
        if name.startswith("temp_proj."):
            key = {"temp_proj.Q": "common_temp_proj.Q"}.get(name, f"common_temp_proj.ca_{sensor}.fc1_k.weight")
        else:
            key = f"encoder_{sensor}.{name}"
        state[key] = torch.from_numpy(array)
    for name in weights.convolutions(CHANNELS[sensor]):
        # 1 / sqrt(var + eps) is 1 to the last bit with var = 1 - eps rounded to float32.
        key = f"encoder_{sensor}.{weights.batch_norm_of(name)}.running_var"
        state[key] = torch.full_like(state[key], 1.0 - weights.EPSILON)
    encoder.load_state_dict(state)
    return encoder.eval()


def run(encoder: MaliceEncoder, sensor: str, given: Sample, valid: np.ndarray | None = None) -> np.ndarray:
    with torch.no_grad():
        output = encoder(
            sensor,
            torch.from_numpy(given.images)[None],
            torch.from_numpy(given.days)[None],
            torch.from_numpy(given.padded)[None],
            None if valid is None else torch.from_numpy(valid)[None],
        )
    return output[0].numpy()


def test_state_names_are_the_published_ones() -> None:
    names = set(MaliceEncoder(CHANNELS).state_dict())
    hss = "encoder_s2.ubarn.patch_encoding.hss_encoding.my_model"
    for name in (
        *(f"{hss}.in_conv.conv.conv.{i}.weight" for i in (0, 1, 3, 4)),
        f"{hss}.down_blocks.2.down.conv.1.running_var",
        f"{hss}.down_blocks.0.conv1.conv.0.bias",
        f"{hss}.up_blocks.1.up.0.weight",
        f"{hss}.up_blocks.1.skip_conv.1.running_mean",
        f"{hss}.out_conv.conv.conv.0.weight",
        "encoder_s1.ubarn.temporal_encoder.layer_stack.2.attn.mha.in_proj_weight",
        "encoder_s1.ubarn.temporal_encoder.layer_stack.0.conv_block.block.linear2.bias",
        "encoder_s1.ubarn.temporal_encoder.layer_stack.0.norm2.weight",
        "common_temp_proj.Q",
        "common_temp_proj.ca_s1.fc1_k.weight",
    ):
        assert name in names
    # Every name is one the folding knows: nothing is silently left out of a model.
    state = {name: tensor.numpy() for name, tensor in MaliceEncoder(CHANNELS).state_dict().items()}
    for sensor, channels in CHANNELS.items():
        assert weights.from_state(state, sensor, "test").keys() == weights.shapes(channels).keys()


def test_divisors_are_bitwise_those_of_the_graphs() -> None:
    np.testing.assert_array_equal(DateEncoding().divisors.numpy(), graphs.encoding_divisors())
    days = np.arange(0, 5000, 7, dtype=np.float32)
    np.testing.assert_allclose(DateEncoding()(torch.from_numpy(days)).numpy(), graphs.date_encoding(days), atol=3e-7)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors"])
def test_exported_graphs_agree_with_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = random_encoder()
    path = tmp_path / f"state{suffix}"
    if suffix == ".pt":
        torch.save(encoder.state_dict(), path)
    elif suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in encoder.state_dict().items()})
    else:
        save_safetensors(path, {f"encoder.{name}": tensor.numpy() for name, tensor in encoder.state_dict().items()})
    monkeypatch.setenv("MALICE_MODELS", str(tmp_path / "store"))
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


def save_safetensors(path: Path, state: dict[str, np.ndarray]) -> None:
    import json

    header, data = {}, b""
    for name, array in state.items():
        kind = {"float32": "F32", "int64": "I64"}[str(array.dtype)]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


class Boom:
    """Pickles as a call of ``print``: stands for code in a checkpoint."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of a pickle ran",)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"encoder_s2.x": Boom()}, tmp_path / "state.pt")
    with pytest.raises(ModelError, match="more than tensors"):
        export.read_state(tmp_path / "state.pt")
    np.savez(tmp_path / "state.npz", x=np.array(Boom(), dtype=object))
    with pytest.raises(ModelError, match=r"state\.npz"):
        export.read_state(tmp_path / "state.npz")
    assert "ran" not in capsys.readouterr().out


def test_export_refuses_what_is_no_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(state: dict[str, np.ndarray], culprit: str) -> None:
        with pytest.raises(ModelError, match=culprit):
            export.export(
                state, "x", tmp_path / "store", title="", licence="", citation="", provenance={}, overwrite=False
            )
        assert not (tmp_path / "store").exists() or not list((tmp_path / "store").iterdir())

    whole = {name: tensor.numpy() for name, tensor in random_encoder().state_dict().items()}
    fails({}, "no state of a MALICE encoder")
    fails({**whole, "decoder.x": np.zeros(3, np.float32)}, r"decoder\.x")
    fails({**whole, "encoder_s2.x": np.zeros(3, np.float32)}, "the first is x")
    fails({k: v for k, v in whole.items() if not k.endswith("up.1.running_var")}, r"up\.1\.running_var")
    fails({k: v for k, v in whole.items() if k != "common_temp_proj.Q"}, r"temp_proj\.Q")
    fails({**whole, "common_temp_proj.Q": np.full((2, 10, 64), np.nan, np.float32)}, "NaN")
    assert export.main([str(tmp_path / "none.npz"), "--name", "x"]) == 2
    assert export.main([str(tmp_path / "none.bin"), "--name", "x"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_padded_date_changes_nothing() -> None:
    encoder, given = random_encoder(1), agreement.sample(10)
    without = Sample(given.images[:5], given.days[:5], given.padded[:5])
    np.testing.assert_allclose(run(encoder, "s2", given), run(encoder, "s2", without), atol=2e-6)


def test_a_missing_observation_changes_nothing_at_its_pixel() -> None:
    encoder, given = random_encoder(2), agreement.sample(3)
    rng = np.random.default_rng(3)
    valid = rng.random((6, 24, 32)) > 0.4
    valid[:, 5, 6] = False
    masked = run(encoder, "s1", given, valid)
    assert np.isfinite(masked).all()
    # The spatial features of all dates are as before; only the attentions leave dates out.
    for row, col in ((0, 0), (11, 17), (23, 31)):
        dates = valid[:, row, col] & ~given.padded
        only = Sample(given.images[dates], given.days[dates], given.padded[dates])
        np.testing.assert_allclose(masked[:, :, row, col], run(encoder, "s1", only)[:, :, row, col], atol=2e-6)


def test_one_date_alone_is_its_own_mean() -> None:
    encoder, given = random_encoder(4), agreement.sample(3)
    one = run(encoder, "s1", Sample(given.images[:1], given.days[:1], given.padded[:1]))
    np.testing.assert_allclose(one, np.broadcast_to(one[:1], one.shape), atol=1e-6)


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_torch_agrees_with_the_published_graph(sensor: str) -> None:
    original = read(published(sensor))
    encoder = from_canonical(original.weights, sensor)
    given = agreement.sample(CHANNELS[sensor])
    assert {int(day) // 365 for day in given.days} >= {4, 12}  # dates of 2018 and 2026
    assert np.abs(run(encoder, sensor, given) - agreement.run_published(original, given)).max() <= 1e-5


def test_random_weights_of_the_helper_load_into_torch() -> None:
    encoder = from_canonical(random_weights(3), "s1")
    given = agreement.sample(3)
    session = onnxruntime.InferenceSession(graphs.spatial_graph(random_weights(3)))
    (features,) = session.run(None, {"images": given.images})
    with torch.no_grad():
        network = encoder.get_submodule("encoder_s1.ubarn.patch_encoding.hss_encoding.my_model")
        np.testing.assert_allclose(network(torch.from_numpy(given.images)).numpy(), features, atol=1e-5)
