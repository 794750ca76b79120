"""What happens at each pixel alone: date encoding, transformer, temporal projector.

Source: U-BARN (doi 10.1109/JSTARS.2024.3358066), ALISE (arXiv 2407.08448), MALICE. Module names give the tensor names
of the published checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

WIDTH, HEADS, HIDDEN, LAYERS = 64, 4, 128, 3
QUERIES, QUERY_HEADS = 10, 2
#: Score of a missing date: its share becomes exactly 0, and a pixel without any date stays finite (not NaN).
MISSING = -30000.0
#: Standard deviation of random queries and key layers, as in the published code: scores start between -2 and 2 or so.
SPREAD = (2.0 / WIDTH) ** 0.5
#: Not cuDNN's, which in half precision refuses queries that all pixels share.
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, dropout: float = 0.0) -> Tensor:
    """Scaled dot-product attention.

    Args:
        queries: (P, heads, N, depth).
        keys, values: (P, heads, T, depth); all of one type.
        mask: (P, 1, 1, T), added to the scores.
        dropout: share of the weights that is dropped, from 0 to less than 1.

    Returns:
        (P, heads, N, depth of the values).
    """
    with sdpa_kernel(KERNELS):
        return F.scaled_dot_product_attention(queries, keys, values, mask.to(queries.dtype), dropout)


class DateEncoding(nn.Module):
    """Sine-cosine code of dates.

    Args:
        width: channels.
        base: of the periods; the encoder has 10000.
    """

    divisors: Tensor

    def __init__(self, width: int = WIDTH, base: float = 10000.0) -> None:
        super().__init__()
        # The power in float64, rounded once: bit for bit the published graphs' divisors.
        power = torch.tensor(base, dtype=torch.float64) ** (2.0 * (torch.arange(width) // 2) / width)
        self.register_buffer("divisors", power.float(), persistent=False)

    def forward(self, days: Tensor) -> Tensor:
        """(...) days since 2014-03-03 -> (..., width); channel i is the sine (even i) or cosine (odd i)."""
        # float32 whatever autocast says: bfloat16 cannot tell one day from the next.
        with torch.autocast(days.device.type, enabled=False):
            angles = days.float()[..., None] / self.divisors
            even = torch.arange(angles.shape[-1], device=angles.device) % 2 == 0
            return torch.where(even, angles.sin(), angles.cos())


class Dropout(nn.Module):
    """Dropout whose random numbers are cheap on a CPU, where PyTorch's take a fifth of the transformer's time.

    16 random bits decide on a number; the probability is rounded to 1/65536, and the scale is of the rounded one.

    Args:
        probability: of a number to become 0, in training.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        if not self.training or self.probability == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.probability)
        limit = round(self.probability * 65536)
        # random_ with this range fills all 64 bits: four numbers of 16 bits at a time.
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= limit - 32768
        return x * (kept.to(x.dtype) * (65536 / (65536 - limit)))


class MultiHeadAttention(nn.Module):
    """Self-attention over dates, 4 heads of 16."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        # Holds the packed projections under PyTorch's names; the attention itself is written out below, because
        # nn.MultiheadAttention gives NaN for a pixel without any date.
        self.mha = nn.MultiheadAttention(WIDTH, HEADS, dropout, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(P, T, 64), mask (P, 1, 1, T) added to the scores -> (P, T, 64)"""
        pixels, dates, _ = x.shape
        packed = F.linear(x, self.mha.in_proj_weight, self.mha.in_proj_bias)
        q, k, v = packed.view(pixels, dates, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        dropout = self.mha.dropout if self.training else 0.0
        context = attend(q, k, v, mask, dropout)
        return self.mha.out_proj(context.transpose(1, 2).reshape(pixels, dates, WIDTH))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """The transformer's MLP, 64 -> 128 -> 64."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.block = nn.ModuleDict(
            {
                "linear1": nn.Linear(WIDTH, HIDDEN),
                "relu": nn.ReLU(),
                "dropout": Dropout(dropout),
                "linear2": nn.Linear(HIDDEN, WIDTH),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """(P, T, 64) -> (P, T, 64)"""
        for layer in self.block.values():
            x = layer(x)
        return x


class EncoderLayer(nn.Module):
    """One transformer layer. ``norm`` serves twice, before and after the attention: so the published ones are."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.attn = MultiHeadAttention(dropout)
        self.conv_block = FeedForward(dropout)
        self.norm = nn.LayerNorm(WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(P, T, 64), mask (P, 1, 1, T) -> (P, T, 64)"""
        x = self.norm(x + self.dropout(self.attn(self.norm(x), mask)))
        return self.norm2(x + self.dropout(self.conv_block(x)))  # type: ignore[no-any-return]


class TemporalEncoder(nn.Module):
    """Three layers: (P, T, 64) -> (P, T, 64)."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.layer_stack = nn.ModuleList([EncoderLayer(dropout) for _ in range(LAYERS)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(P, T, 64), mask (P, 1, 1, T) -> (P, T, 64)"""
        for layer in self.layer_stack:
            x = layer(x, mask)
        return x


class KeyLayer(nn.Module):
    """The temporal projector's keys, one such layer for each modality: (P, T, 64) -> (P, 2, T, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1_k = nn.Linear(WIDTH, QUERY_HEADS * WIDTH, bias=False)
        nn.init.normal_(self.fc1_k.weight, std=SPREAD)

    def forward(self, x: Tensor) -> Tensor:
        """(P, T, 64) -> (P, 2, T, 64)"""
        return self.fc1_k(x).view(*x.shape[:2], QUERY_HEADS, WIDTH).transpose(1, 2)  # type: ignore[no-any-return]


class TemporalProjector(nn.Module):
    """Learned queries that sum up any number of dates; the queries are shared by the modalities.

    Args:
        sensors: one key layer ``ca_SENSOR`` for each.
    """

    def __init__(self, sensors: tuple[str, ...]) -> None:
        super().__init__()
        self.Q = nn.Parameter(SPREAD * torch.randn(QUERY_HEADS, QUERIES, WIDTH))
        for sensor in sensors:
            self.add_module(f"ca_{sensor}", KeyLayer())

    def forward(self, x: Tensor, mask: Tensor, sensor: str) -> Tensor:
        """(P, T, 64), mask (P, 1, 1, T) -> (P, 10, 64)"""
        keys = self.get_submodule(f"ca_{sensor}")(x)
        # Values are the features themselves, half of the channels for each head.
        values = x.view(*x.shape[:2], QUERY_HEADS, WIDTH // QUERY_HEADS).transpose(1, 2)
        queries = self.Q.to(keys.dtype).expand(len(x), -1, -1, -1)
        merged = attend(queries, keys, values.to(keys.dtype), mask)
        return merged.transpose(1, 2).flatten(2)


def additive_mask(valid: Tensor) -> Tensor:
    """What attention adds to its scores: (P, T) bool, True where observed -> (P, 1, 1, T) float32."""
    return torch.zeros(valid.shape, device=valid.device).masked_fill(~valid, MISSING)[:, None, None, :]
