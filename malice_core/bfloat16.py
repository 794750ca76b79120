"""bfloat16, the upper half of a float32, which numpy does not have: as its bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rounded(numbers: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Bits of the nearest bfloat16 of finite numbers, of two as near the even one."""
    bits = numbers.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
