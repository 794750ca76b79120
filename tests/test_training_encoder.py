"""The torch encoder against the two ONNX graphs, and the properties of its masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from helpers_models import published, random_weights

from malice_core import graphs, weights
from malice_core.store import agreement
from malice_core.store.agreement import Sample
from malice_core.store.published import read

torch = pytest.importorskip("torch")
from helpers_training import CHANNELS, random_encoder  # noqa: E402

from malice_core.training.malice import MaliceEncoder  # noqa: E402
from malice_core.training.temporal import DateEncoding  # noqa: E402


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


def test_a_padded_date_changes_nothing() -> None:
    encoder, given = random_encoder(1), agreement.sample(10)
    without = replace(given, images=given.images[:5], days=given.days[:5], padded=given.padded[:5])
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
        only = replace(given, images=given.images[dates], days=given.days[dates], padded=given.padded[dates])
        np.testing.assert_allclose(masked[:, :, row, col], run(encoder, "s1", only)[:, :, row, col], atol=2e-6)


def test_one_date_alone_is_its_own_mean() -> None:
    encoder, given = random_encoder(4), agreement.sample(3)
    one = run(encoder, "s1", replace(given, images=given.images[:1], days=given.days[:1], padded=given.padded[:1]))
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


def test_attention_leaves_out_the_kernel_that_refuses_shared_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN's fails in half precision: "the stride for the last dimension ... should be 1" (torch 2.11, H100)."""
    seen = []
    original = torch.nn.functional.scaled_dot_product_attention

    def record(*given: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return original(*given)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    run(random_encoder(), "s2", agreement.sample(10))
    assert seen == [False] * 4  # three layers and the projector


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gpu_computes_and_trains(dtype: torch.dtype) -> None:
    encoder, given = random_encoder(), agreement.sample(10)
    wanted = run(encoder, "s2", given)
    encoder.cuda()
    parts = (torch.from_numpy(part)[None].cuda() for part in (given.images, given.days, given.padded))
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        got = encoder("s2", *parts)[0]
        got.float().square().mean().backward()
    assert np.abs(got.detach().float().cpu().numpy() - wanted).max() < (1e-3 if dtype == torch.float32 else 0.3)
    gradients = [parameter.grad for parameter in encoder.encoder_s2.parameters()]
    assert all(one is not None and one.isfinite().all() for one in gradients)
