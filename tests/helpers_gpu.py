"""A GPU where there is none."""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from malice_core import runtime
from malice_core.gpu import driver

GB = 1 << 30
#: Bytes.
GUARD = 4096


class Device:
    """As ``driver.Device``, of one that shares main memory. Beyond each allocation lies what nobody may change.

    Attributes:
        held: allocations that are not freed, with their memory.
    """

    def __init__(self) -> None:
        self.held: weakref.WeakKeyDictionary[driver.Allocation, NDArray[np.uint8]] = weakref.WeakKeyDictionary()

    def zeros(self, size: int) -> driver.Allocation:
        array = np.zeros(size + GUARD, np.uint8)
        array[size:] = 0xA5
        found = driver.Allocation(array.ctypes.data, size, "cpu")
        self.held[found] = array
        return found

    def locked(self, size: int) -> NDArray[np.uint8]:
        return np.full(size, 0xFF, np.uint8)

    def to_device(self, address: int, values: NDArray[Any]) -> None:
        assert values.flags.c_contiguous
        self._require_inside(address, values.nbytes)
        ctypes.memmove(address, values.ctypes.data, values.nbytes)

    def to_host(self, values: NDArray[Any], address: int) -> None:
        assert values.flags.c_contiguous
        self._require_inside(address, values.nbytes)
        ctypes.memmove(values.ctypes.data, address, values.nbytes)

    def _require_inside(self, address: int, size: int) -> None:
        known = dict(self.held)
        assert any(one.address <= address and address + size <= one.address + one.size for one in known)
        for one, array in known.items():
            assert (array[one.size :] == 0xA5).all(), "written beyond its end"


def stand_in(monkeypatch: pytest.MonkeyPatch, free: int = 4 * GB) -> Device:
    """The processor for a card with so much free memory."""
    device = Device()
    monkeypatch.setattr(runtime, "_cuda_problem", lambda: None)
    monkeypatch.setattr(runtime, "_CUDA_PROVIDERS", ["CPUExecutionProvider"])
    monkeypatch.setattr(driver, "device", lambda: device)
    monkeypatch.setattr(driver, "free_bytes", lambda: free)
    return device
