"""The weights of one modality's encoder: their names, their shapes, and the folding of batch norms.

Canonical names are those of the published Lightning checkpoints relative to the modality's encoder, as far as the
published ONNX files keep them:

- ``ubarn.patch_encoding.hss_encoding.my_model.…``: the U-Net;
- ``ubarn.temporal_encoder.layer_stack.N.…``: the transformer;
- ``ubarn.encoder_meteo.encoder.{0,2,4}`` and ``ubarn.encoder_dem.my_model.…``, of MALICE Aux alone: the weather's
  MLP and the terrain's U-Net;
- ``temp_proj.Q`` (2, 10, 64) and ``temp_proj.fc1_k.weight`` (128, 64): the temporal projector, whose names in a
  checkpoint are ``common_temp_proj.Q`` and ``common_temp_proj.ca_s2.fc1_k.weight``.

Architecture: U-BARN (doi 10.1109/JSTARS.2024.3358066), ALISE (arXiv 2407.08448).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from malice_core.errors import ModelError

#: Weights by canonical name.
Weights = Mapping[str, npt.NDArray[Any]]

#: Channels of every feature map the rest of the network sees, and of an embedding's queries.
WIDTH = 64
#: Channels of the maps that the last convolution of a U-Net makes features of, and pixels around one that it looks at.
LAST_WIDTH, LAST_BORDER = 32, 1
#: Attention heads and layers of the transformer, width of its feed-forward block.
HEADS, LAYERS, HIDDEN = 4, 3, 128
#: Temporal projector: learned queries and heads.
QUERIES, QUERY_HEADS = 10, 2
#: Sides of an image are multiples of this: three halvings.
STRIDE = 8
#: Pixels around an aligned block that its inside depends on: one pixel's reach is 45 to 52 by its phase (measured by
#: perturbation, see tests/test_published.py). The halo is the next multiple of the stride.
REACH, HALO = 46, 48
#: PyTorch's epsilon of batch and layer norms.
EPSILON = 1e-5

#: MALICE Aux: numbers a date that its weather is, and that its MLP makes of them; channels of the terrain.
WEATHER, WEATHER_WIDTH, TERRAIN_CHANNELS = 48, 32, 4

SPATIAL = "ubarn.patch_encoding.hss_encoding.my_model"
METEO, TERRAIN = "ubarn.encoder_meteo.encoder", "ubarn.encoder_dem.my_model"
TEMPORAL = "ubarn.temporal_encoder"
PROJECTOR = "temp_proj"

BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def convolutions(channels: int, unet: str = SPATIAL) -> dict[str, tuple[int, ...]]:
    """Weight shapes of a U-Net's convolutions by name, in the order they run.

    ``up.0`` are transposed convolutions (in, out, 2, 2), all others (out, in, k, k). A batch norm ``….1`` or ``….4``
    follows each.

    Args:
        channels: that go in; of MALICE Aux' images the 32 of the weather among them, the last ones.
        unet: which one, :data:`SPATIAL` or :data:`TERRAIN`.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "in_conv.conv.conv.0": (WIDTH, channels, 3, 3),
        "in_conv.conv.conv.3": (WIDTH, WIDTH, 3, 3),
    }
    for level, width in enumerate((64, 64, 128)):
        shapes[f"down_blocks.{level}.down.conv.0"] = (WIDTH, WIDTH, 2, 2)
        shapes[f"down_blocks.{level}.conv1.conv.0"] = (width, WIDTH, 3, 3)
        shapes[f"down_blocks.{level}.conv2.conv.0"] = (width, width, 3, 3)
    for level, (deep, width) in enumerate(((128, 64), (64, 32), (32, 32))):
        shapes[f"up_blocks.{level}.up.0"] = (deep, width, 2, 2)
        shapes[f"up_blocks.{level}.skip_conv.0"] = (WIDTH, WIDTH, 1, 1)
        shapes[f"up_blocks.{level}.conv1.conv.0"] = (width, width + WIDTH, 3, 3)
        shapes[f"up_blocks.{level}.conv2.conv.0"] = (width, width, 3, 3)
    shapes["out_conv.conv.conv.0"] = (WIDTH, LAST_WIDTH, 3, 3)
    return {f"{unet}.{name}": shape for name, shape in shapes.items()}


def batch_norm_of(convolution: str) -> str:
    """Name of the batch norm that follows a convolution: its index is one higher."""
    block, index = convolution.rsplit(".", 1)
    return f"{block}.{int(index) + 1}"


def bias_size(convolution: str, shape: tuple[int, ...]) -> int:
    """Output channels of a convolution from its weight's shape."""
    return shape[1] if convolution.endswith(".up.0") else shape[0]


def unets(channels: int, auxiliary: bool) -> dict[str, tuple[int, ...]]:
    """:func:`convolutions` of all U-Nets of one encoder.

    Args:
        channels: of the input images, without the weather's.
        auxiliary: whether it is of MALICE Aux.
    """
    if not auxiliary:
        return convolutions(channels)
    return convolutions(channels + WEATHER_WIDTH) | convolutions(TERRAIN_CHANNELS, TERRAIN)


def shapes(channels: int, auxiliary: bool = False) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights of one encoder by canonical name, batch norms folded.

    Args:
        channels: of the input images (Sentinel-2: 10, Sentinel-1: 3; of MALICE Aux 16 and 4).
        auxiliary: whether it is of MALICE Aux.
    """
    known: dict[str, tuple[int, ...]] = {}
    for name, shape in unets(channels, auxiliary).items():
        known[f"{name}.weight"] = shape
        known[f"{name}.bias"] = (bias_size(name, shape),)
    if auxiliary:
        sizes = (WEATHER, WIDTH, WIDTH, WEATHER_WIDTH)
        for index, (inputs, outputs) in zip((0, 2, 4), itertools.pairwise(sizes), strict=True):
            known[f"{METEO}.{index}.weight"], known[f"{METEO}.{index}.bias"] = (outputs, inputs), (outputs,)
    for layer in range(LAYERS):
        block = f"{TEMPORAL}.layer_stack.{layer}"
        known[f"{block}.attn.mha.in_proj_weight"] = (3 * WIDTH, WIDTH)
        known[f"{block}.attn.mha.in_proj_bias"] = (3 * WIDTH,)
        known[f"{block}.attn.mha.out_proj.weight"] = (WIDTH, WIDTH)
        known[f"{block}.attn.mha.out_proj.bias"] = (WIDTH,)
        known[f"{block}.conv_block.block.linear1.weight"] = (HIDDEN, WIDTH)
        known[f"{block}.conv_block.block.linear1.bias"] = (HIDDEN,)
        known[f"{block}.conv_block.block.linear2.weight"] = (WIDTH, HIDDEN)
        known[f"{block}.conv_block.block.linear2.bias"] = (WIDTH,)
        for norm in ("norm", "norm2"):
            known[f"{block}.{norm}.weight"] = known[f"{block}.{norm}.bias"] = (WIDTH,)
    known[f"{PROJECTOR}.Q"] = (QUERY_HEADS, QUERIES, WIDTH)
    known[f"{PROJECTOR}.fc1_k.weight"] = (QUERY_HEADS * WIDTH, WIDTH)
    return known


def from_state(state: Weights, sensor: str, source: str) -> dict[str, npt.NDArray[Any]]:
    """The canonical weights of one modality out of the state dict of a whole MALICE module.

    Args:
        state: tensors named as in ``training/malice.py`` (``encoder_s2.ubarn.…``, ``common_temp_proj.…``).
        sensor: ``s2`` or ``s1``.
        source: file name for messages.

    Raises:
        ModelError: if a tensor is missing, unknown, of another shape or not finite.
    """
    strangers = [name for name in state if not name.startswith(("encoder_", "common_temp_proj."))]
    if strangers:
        raise ModelError(f"{source}: {len(strangers)} tensors of no MALICE encoder, the first is {min(strangers)}")
    prefix = f"encoder_{sensor}."
    found = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
    for name, origin in (("Q", "Q"), ("fc1_k.weight", f"ca_{sensor}.fc1_k.weight")):
        if f"common_temp_proj.{origin}" in state:
            found[f"{PROJECTOR}.{name}"] = state[f"common_temp_proj.{origin}"]
    return canonical(found, source)


def is_auxiliary(weights: Weights) -> bool:
    """Whether canonical weights are of MALICE Aux: its weather and terrain only come together."""
    return any(name.startswith((f"{METEO}.", f"{TERRAIN}.")) for name in weights)


def canonical(weights: Weights, source: str = "weights") -> dict[str, npt.NDArray[Any]]:
    """The weights of one encoder with batch norms folded into their convolutions, checked.

    Args:
        weights: by canonical name. A convolution may be followed by a batch norm in evaluation mode (all four
            tensors) or already be folded; the counters ``num_batches_tracked`` are ignored.
        source: file name for messages.

    Returns:
        Exactly the names of :func:`shapes`, float32.

    Raises:
        ModelError: naming the weight that is missing, unknown, of another shape or not finite.
    """
    left = {name: array for name, array in weights.items() if not name.endswith(".num_batches_tracked")}
    first = f"{SPATIAL}.in_conv.conv.conv.0.weight"
    if first not in left or left[first].ndim != 4:
        raise ModelError(f"{source}: no weight {first} (64, C, 3, 3): this is no MALICE encoder")
    auxiliary = is_auxiliary(left)
    channels = left[first].shape[1] - (WEATHER_WIDTH if auxiliary else 0)
    if channels < 1:
        raise ModelError(f"{source}: {first} {left[first].shape} has no channel besides those of the weather")
    result: dict[str, npt.NDArray[Any]] = {}
    for name, shape in shapes(channels, auxiliary).items():
        result[name] = _take(left, name, shape, source)
    for name, shape in unets(channels, auxiliary).items():
        norm, size = batch_norm_of(name), bias_size(name, shape)
        if f"{norm}.weight" in left:
            scale, shift, mean, variance = (_take(left, f"{norm}.{part}", (size,), source) for part in BATCH_NORM)
            if variance.min() < 0:
                raise ModelError(f"{source}: {norm}.running_var is negative ({variance.min():g}): damaged weights")
            _fold(result, name, (scale, shift, mean, variance))
    if left:
        raise ModelError(f"{source}: {len(left)} weights of no MALICE encoder, the first is {min(left)}")
    return {name: array.astype(np.float32) for name, array in result.items()}


def _take(left: dict[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...], source: str) -> npt.NDArray[Any]:
    if name not in left:
        raise ModelError(f"{source}: weight {name} {shape} is missing")
    array = left.pop(name)
    if array.shape != shape:
        raise ModelError(f"{source}: weight {name} has shape {array.shape}, must be {shape}")
    if array.dtype.kind != "f":
        raise ModelError(f"{source}: weight {name} is {array.dtype}, must be floating point")
    if not np.isfinite(array).all():
        raise ModelError(f"{source}: weight {name} holds NaN or infinite numbers: damaged or diverged weights")
    return array


def _fold(result: dict[str, npt.NDArray[Any]], name: str, norm: tuple[npt.NDArray[Any], ...]) -> None:
    """Folds a batch norm into the convolution before it, in float64."""
    scale, shift, mean, variance = (part.astype(np.float64) for part in norm)
    factor = scale / np.sqrt(variance + EPSILON)
    # Transposed convolutions have their output channels second.
    along = (1, -1, 1, 1) if name.endswith(".up.0") else (-1, 1, 1, 1)
    result[f"{name}.weight"] = result[f"{name}.weight"].astype(np.float64) * factor.reshape(along)
    result[f"{name}.bias"] = (result[f"{name}.bias"].astype(np.float64) - mean) * factor + shift
