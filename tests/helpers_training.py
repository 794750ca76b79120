"""Torch encoders for tests; importing this needs torch."""

from __future__ import annotations

import torch

from malice_core.training.malice import MaliceEncoder

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
