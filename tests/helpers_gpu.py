"""A GPU where there is none."""

from __future__ import annotations

import pytest

from malice_core import gpu, runtime

GB = 1 << 30


def stand_in(monkeypatch: pytest.MonkeyPatch, free: int = 4 * GB) -> None:
    """The processor for a card with so much free memory."""
    zeros = runtime.DeviceMemory.zeros
    monkeypatch.setattr(runtime, "_cuda_problem", lambda: None)
    monkeypatch.setattr(runtime, "_CUDA_PROVIDERS", ["CPUExecutionProvider"])
    monkeypatch.setattr(runtime.DeviceMemory, "zeros", lambda elements, _device: zeros(elements, "cpu"))
    monkeypatch.setattr(gpu, "free_bytes", lambda: free)
