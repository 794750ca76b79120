"""MALICE Aux: the torch module against itself with explicit maps of weather, and the graphs against the module."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402
from helpers_training import AUX_CHANNELS as CHANNELS  # noqa: E402
from helpers_training import random_encoder  # noqa: E402

from malice_core import graphs, weights  # noqa: E402
from malice_core.errors import ModelError  # noqa: E402
from malice_core.training.malice import Malice, MaliceEncoder  # noqa: E402
from malice_core.training.unet import UNet  # noqa: E402


@pytest.fixture(scope="module")
def encoder() -> MaliceEncoder:
    return random_encoder(0, auxiliary=True)


def inputs(sensor: str, seed: int = 1) -> dict[str, torch.Tensor]:
    """Two places with five dates, of which the second has three."""
    made = torch.Generator().manual_seed(seed)
    padded = torch.zeros(2, 5, dtype=torch.bool)
    padded[1, 3:] = True
    valid = torch.rand(2, 5, 24, 16, generator=made) > 0.2
    return {
        "images": torch.randn(2, 5, CHANNELS[sensor], 24, 16, generator=made),
        "days": torch.tensor([[3000, 3010, 3050, 3111, 3290], [3003, 3100, 3200, 0, 0]]),
        "padded": padded,
        "valid": valid & ~padded[:, :, None, None],
        "weather": torch.randn(2, 5, 48, generator=made),
        "terrain": torch.randn(2, 4, 24, 16, generator=made),
    }


def run(encoder: MaliceEncoder, sensor: str, given: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        around = encoder.surroundings(given["weather"], given["terrain"])
        return encoder(sensor, given["images"], given["days"], given["padded"], given["valid"], around)


def test_constants_are_maps_that_are_the_same_everywhere() -> None:
    torch.manual_seed(1)
    net = UNet(3, constants=5).train()
    images, numbers = torch.randn(4, 3, 16, 24), torch.randn(4, 5)
    whole = UNet(8)
    whole.load_state_dict(net.state_dict())
    maps = torch.cat([images, numbers[:, :, None, None].expand(-1, -1, 16, 24)], dim=1)
    assert torch.allclose(net(images, numbers), whole.train()(maps), atol=2e-5)


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_an_embedding_is_what_the_definition_says(encoder: MaliceEncoder, sensor: str) -> None:
    """One place, step by step: weather as maps beside the image, the terrain as a last token without a date."""
    given = {key: value[:1] for key, value in inputs(sensor).items()}
    ubarn = encoder.get_submodule(f"encoder_{sensor}").ubarn
    plain = UNet(CHANNELS[sensor] + 32).eval()
    plain.load_state_dict(ubarn.patch_encoding.hss_encoding.my_model.state_dict())
    with torch.no_grad():
        tokens = []
        for t in range(5):
            numbers = ubarn.encoder_meteo(given["weather"][0, t])
            maps = torch.cat([given["images"][0, t], numbers[:, None, None].expand(-1, 24, 16)])
            code = ubarn.patch_encoding.pe_encoding(given["days"][0, t])
            tokens.append(plain(maps[None])[0] + code[:, None, None])
        tokens.append(encoder.encoder_s2.ubarn.encoder_dem.my_model(given["terrain"])[0])
        x = torch.stack(tokens).permute(2, 3, 0, 1).flatten(0, 1)
        seen = torch.cat([given["valid"][0], torch.ones(1, 24, 16, dtype=torch.bool)]).flatten(1).T
        mask = torch.where(seen, 0.0, -torch.inf)[:, None, None]
        wanted = encoder.common_temp_proj(ubarn.temporal_encoder(x, mask), mask, sensor)
    got = run(encoder, sensor, given)[0].permute(2, 3, 0, 1).flatten(0, 1)
    assert torch.allclose(got, wanted, atol=2e-5)


def test_padding_changes_nothing_and_surroundings_do(encoder: MaliceEncoder) -> None:
    given = inputs("s2")
    both = run(encoder, "s2", given)
    second = {
        key: value[1:, :3] if value.ndim > 1 and value.shape[1] == 5 else value[1:] for key, value in given.items()
    }
    assert torch.allclose(run(encoder, "s2", second)[0], both[1], atol=2e-5)
    for key in ("weather", "terrain"):
        assert not torch.allclose(run(encoder, "s2", given | {key: given[key].flip(0)}), both, atol=1e-2), key


@pytest.mark.parametrize("sensor", ["s2", "s1"])
def test_the_graphs_compute_what_the_module_does(encoder: MaliceEncoder, sensor: str) -> None:
    given = {key: value[:1] for key, value in inputs(sensor).items()}
    state = {name: tensor.numpy() for name, tensor in encoder.state_dict().items()}
    found = weights.from_state(state, sensor, "test")
    assert found.keys() == weights.shapes(CHANNELS[sensor], auxiliary=True).keys()

    def call(content: bytes, **feeds: np.ndarray) -> np.ndarray:
        result: np.ndarray = onnxruntime.InferenceSession(content).run(None, feeds)[0]
        return result

    bias = call(graphs.weather_graph(found), weather=given["weather"][0].numpy())
    images = given["images"][0].numpy()
    spatial = graphs.spatial_graph(found)
    features = call(spatial, images=images, bias=bias[:, :, None, None])
    # Weather that differs within an image comes as a map.
    maps = np.broadcast_to(bias[:, :, None, None], (5, 64, 24, 16))
    assert np.abs(call(spatial, images=images, bias=np.ascontiguousarray(maps)) - features).max() < 1e-6
    ground = call(graphs.terrain_graph(found), terrain=given["terrain"].numpy())
    tokens = np.concatenate([features, ground]).transpose(2, 3, 0, 1).reshape(-1, 6, 64)
    code = np.concatenate([graphs.date_encoding(given["days"][0].numpy()), np.zeros((1, 64), np.float32)])
    seen = np.concatenate([given["valid"][0].numpy(), np.ones((1, 24, 16), bool)]).reshape(6, -1).T
    got = call(graphs.temporal_graph(found), features=tokens, encoding=code, valid=seen.astype(np.float32))
    wanted = run(encoder, sensor, given)[0].permute(2, 3, 0, 1).flatten(0, 1).numpy()
    assert np.abs(got - wanted).max() < 2e-5


def test_tensors_have_the_published_names_and_the_terrain_is_one_module() -> None:
    network = Malice(CHANNELS, reconstructed={"s2": 10, "s1": 3}, auxiliary=True)
    state = network.state_dict()
    for sensor in CHANNELS:
        for layer, shape in ((0, (64, 48)), (2, (64, 64)), (4, (32, 64))):
            assert state[f"encoder.encoder_{sensor}.ubarn.encoder_meteo.encoder.{layer}.weight"].shape == shape
        first = f"encoder.encoder_{sensor}.ubarn.patch_encoding.hss_encoding.my_model.in_conv.conv.conv.0.weight"
        assert state[first].shape == (64, CHANNELS[sensor] + 32, 3, 3)
    one, other = (
        f"encoder.encoder_{sensor}.ubarn.encoder_dem.my_model.out_conv.conv.conv.0.weight" for sensor in CHANNELS
    )
    assert state[one].data_ptr() == state[other].data_ptr()
    names = [name for name, _ in network.named_parameters()]
    assert one in names
    assert other not in names
    assert network.decoder.proj_s2.weight.shape == (10, 64)


def test_a_network_without_surroundings_refuses_them_and_aux_asks_for_them(encoder: MaliceEncoder) -> None:
    given = inputs("s2")
    with pytest.raises(ValueError, match="surroundings"):
        encoder("s2", given["images"], given["days"], given["padded"])
    with pytest.raises(ValueError, match="no weather"):
        MaliceEncoder({"s2": 10}).surroundings(given["weather"], given["terrain"])


def test_damaged_weights_are_named(encoder: MaliceEncoder) -> None:
    state = {name: tensor.numpy() for name, tensor in encoder.state_dict().items()}
    lost = {
        name: array
        for name, array in state.items()
        if not name.endswith("encoder_s1.ubarn.encoder_meteo.encoder.2.bias")
    }
    with pytest.raises(ModelError, match=r"encoder_meteo\.encoder\.2\.bias \(64,\) is missing"):
        weights.from_state(lost, "s1", "test")
    without = {name: array for name, array in state.items() if "encoder_dem" not in name}
    with pytest.raises(ModelError, match=r"encoder_dem.*is missing"):
        weights.from_state(without, "s2", "test")
