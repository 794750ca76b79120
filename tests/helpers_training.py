"""Torch encoders for tests; importing this needs torch."""

from __future__ import annotations

from pathlib import Path

import torch

from malice_core.training.malice import MaliceEncoder

CHANNELS, AUX_CHANNELS = {"s2": 10, "s1": 3}, {"s2": 16, "s1": 4}


def random_encoder(seed: int = 0, auxiliary: bool = False) -> MaliceEncoder:
    """An encoder with random weights and random batch statistics, in evaluation mode; weather matters to MALICE Aux."""
    torch.manual_seed(seed)
    encoder = MaliceEncoder(AUX_CHANNELS if auxiliary else CHANNELS, auxiliary=auxiliary)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0.0, 0.2)
            module.running_var.uniform_(0.3, 2.0)
            torch.nn.init.uniform_(module.weight, 0.7, 1.6)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
    for name, weight in encoder.named_parameters():
        if ".encoder_meteo." in name and weight.ndim == 2:
            torch.nn.init.uniform_(weight, -0.4, 0.4)
    return encoder.eval()


def save_checkpoint(encoder: MaliceEncoder, path: Path) -> Path:
    """The published encoders' names in a file such as Lightning writes."""
    state = {f"model.encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path
