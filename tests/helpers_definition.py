"""MALICE Aux on whole rasters, step by step as its definition says, and its input by formulas; needs torch."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import rasterio
import torch
from helpers_embed import Array

from malice_core.store.statistics import AUX, AUX_TERRAIN, AUX_WEATHER, Statistics
from malice_core.training.malice import MaliceEncoder
from malice_core.training.unet import UNet


class Given(torch.nn.Module):
    """A layer whose result is known already."""

    def __init__(self, result: torch.Tensor) -> None:
        super().__init__()
        self.result = result

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.result


def network(
    encoder: MaliceEncoder, sensor: str, images: Array, days: list[date], weather: Array, terrain: Array, seen: Array
) -> Array:
    """(640, H, W), by the definition.

    Args:
        images: (T, C, H, W) normalised.
        weather: (T, H, W, 48) normalised: each pixel's.
        terrain: (4, H, W) normalised.
        seen: (T, H, W) bool.
    """
    ubarn = encoder.get_submodule(f"encoder_{sensor}").ubarn
    plain = UNet(images.shape[1] + 32).eval()
    with torch.no_grad():
        plain.load_state_dict(ubarn.patch_encoding.hss_encoding.my_model.state_dict())
        first = plain.in_conv.conv.conv[0]
        numbers = ubarn.encoder_meteo(torch.from_numpy(weather)).permute(0, 3, 1, 2)
        maps = torch.nn.functional.pad(torch.from_numpy(images), (1, 1, 1, 1), mode="reflect")
        count = images.shape[1]
        begun = torch.nn.functional.conv2d(maps, first.weight[:, :count], first.bias)
        # A pixel has the weather of its own cell, also beside another cell.
        kernels = first.weight[:, count:].sum((2, 3))[:, :, None, None]
        plain.in_conv.conv.conv[0] = Given(begun + torch.nn.functional.conv2d(numbers, kernels))
        features = plain(torch.from_numpy(images))
        since = torch.tensor([(day - date(2014, 3, 3)).days for day in days])
        tokens = features + ubarn.patch_encoding.pe_encoding(since)[:, :, None, None]
        ground = ubarn.encoder_dem.my_model(torch.from_numpy(terrain)[None])
        x = torch.cat([tokens, ground]).permute(2, 3, 0, 1).flatten(0, 1)
        there = np.concatenate([seen, np.ones((1, *seen.shape[1:]), bool)]).reshape(len(days) + 1, -1).T
        mask = torch.where(torch.from_numpy(there), 0.0, -torch.inf)[:, None, None]
        latent = encoder.common_temp_proj(ubarn.temporal_encoder(x, mask), mask, sensor)
    result: Array = latent.reshape(*images.shape[2:], -1).permute(2, 0, 1).numpy()
    return result


def scaled(values: Array, statistics: Statistics, axis: int = 1) -> Array:
    """Clip, minus median, over the range."""
    shape = [1] * values.ndim
    shape[axis] = -1
    low, high, med = (np.reshape(numbers, shape) for numbers in (statistics.qmin, statistics.qmax, statistics.med))
    return ((np.clip(values, low, high) - med) / (high - low)).astype(np.float32)


def images_of(files: list[Path], sensor: str, angles: Array) -> tuple[Array, Array]:
    """Network channels (T, C, H, W), and where there are observations, of rasters and cosines and sines (T, A, …)."""
    made, seen = [], []
    for path, numbers in zip(files, angles, strict=True):
        with rasterio.open(path) as file:
            values = file.read().astype(np.float64)
        there = ~((values == 0).all(axis=0) | np.isnan(values).any(axis=0))
        if sensor == "s1":
            vv, vh = values
            with np.errstate(all="ignore"):
                values = np.log10(np.clip(np.nan_to_num(np.stack([vv, vh, vh / vv + 1e-5])), 1e-4, 2))
        planes = np.broadcast_to(numbers if numbers.ndim == 3 else numbers[:, None, None], (len(numbers), *there.shape))
        made.append(scaled(np.concatenate([values, planes]), AUX[sensor], 0) * there)
        seen.append(there)
    return np.stack(made).astype(np.float32), np.stack(seen)


def terrain_of(elevation: Array, res: float = 10.0) -> Array:
    """(4, H, W) normalised, by the formulas of the inputs' specification."""
    rows, cols = np.gradient(elevation.astype(np.float64))
    theta = np.degrees(np.arctan2(rows, -cols))
    aspect = np.radians(np.where(theta < 0, 90 - theta, np.where(theta > 90, 450 - theta, 90 - theta)))
    slope = np.arctan(np.hypot(rows, cols) / res)
    return scaled(np.stack([elevation, np.sin(slope), np.cos(aspect), np.sin(aspect)]), AUX_TERRAIN, 0)


def weather_of(values: Array) -> Array:
    """(…, 48) normalised, of numbers as openEO stores them."""
    whole = Statistics(
        AUX_WEATHER.channels,
        "none",
        *(tuple(np.repeat(n, 6)) for n in (AUX_WEATHER.med, AUX_WEATHER.qmin, AUX_WEATHER.qmax)),
    )
    return scaled(values, whole, -1)


def cosines(degrees: Array) -> Array:
    """(T, 6) of sun zenith, sun azimuth, view zenith, view azimuth."""
    sz, sa, vz, va = np.radians(degrees).T
    return np.stack([np.cos(sz), np.cos(sa), np.sin(sa), np.cos(vz), np.cos(va), np.sin(va)], axis=1)
