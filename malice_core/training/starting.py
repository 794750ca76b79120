"""Weights before training.

The published start leaves the temporal projector nothing to choose by: attentions are so even that the ten tokens of a
pixel are one and the same average over its dates, the decoder can only repeat that average at every date, and gradients
that could tell tokens apart come from differences between tokens, which training first makes smaller still (they were
noise to the decoder). Long runs on much data get over it; short ones end there.
"""

from __future__ import annotations

import math

import torch

from malice_core.training.malice import Malice
from malice_core.training.temporal import QUERIES, QUERY_HEADS, WIDTH

STARTS = ("random", "seasons")
#: First channel of the sine-cosine pair with a period of 471 days, which the encoder's date encoding (base 10000) and
#: the decoder's (base 1000) share: 10000^(30/64) = 1000^(40/64). Longer than a year: no two of its days look the same.
ENCODER_PAIR, DECODER_PAIR = 30, 40
#: A score at the season asked for lies this much above one half a period away, twice.
SHARPNESS = 6.0
#: Of the transformers' branches: they begin as small corrections of what the U-Net saw.
BRANCH = 0.1


def start(model: Malice, how: str) -> None:
    """Sets the weights that training begins with.

    ``random``: as published; nothing is changed. ``seasons``: token i of a pixel begins as an average over the dates
    around season i of ten, and the decoder by asking for the token of a date's season; what all this rests on is two
    channels of the date encodings that both have. Branches of the transformers begin small (as Goyal et al. 2017,
    arXiv 1706.02677, and Huang et al. 2020, T-Fixup, do), the layers that give the bands at 0, the median. Everything
    is trained on from there.

    Raises:
        ValueError: if ``how`` is not known.
    """
    if how not in STARTS:
        raise ValueError(f"start '{how}' is none of {', '.join(STARTS)}")
    if how == "seasons":
        _seasons(model)


@torch.no_grad()
def _seasons(model: Malice) -> None:
    gain = math.sqrt(math.sqrt(WIDTH) * SHARPNESS)  # of queries and of keys; scores are divided by the root of 64
    phases = torch.arange(QUERIES) * (2 * math.pi / QUERIES)
    clock = gain * torch.stack([phases.sin(), phases.cos()], dim=-1)
    model.encoder.common_temp_proj.Q[:, :, :2] = clock
    attention = model.decoder.meta_decoder.cross_attn
    _listen(attention.fc1_q.weight, DECODER_PAIR, gain)
    _listen(attention.fc1_k.weight, ENCODER_PAIR, gain)
    for name, module in model.named_modules():
        if name.startswith("encoder.common_temp_proj.ca_") and name.endswith(".fc1_k"):
            _listen(module.get_parameter("weight"), ENCODER_PAIR, gain)
        elif name.endswith(("attn.mha.out_proj", "conv_block.block.linear2")):
            module.get_parameter("weight").mul_(BRANCH)
        elif name.startswith("decoder.proj_"):
            module.get_parameter("weight").zero_()
            module.get_parameter("bias").zero_()


def _listen(weight: torch.Tensor, channel: int, gain: float) -> None:
    """The first two outputs of each head become a pair of the date encoding's channels."""
    for head in range(QUERY_HEADS):
        for i in range(2):
            weight[head * WIDTH + i] = 0
            weight[head * WIDTH + i, channel + i] = gain
