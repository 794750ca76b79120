"""What is asked of CUDA's driver: here of a stand-in, of the real one where there is a card."""

from __future__ import annotations

import ctypes
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers_gpu import GB

from malice_core import runtime
from malice_core.errors import DeviceError
from malice_core.gpu import driver
from malice_core.gpu.memory import DeviceMemory

REAL = runtime._cuda_problem() is None


@pytest.mark.skipif(REAL, reason="this machine has a card")
def test_a_missing_driver_is_told() -> None:
    with pytest.raises(DeviceError, match=r"^CUDA: the driver's .*use --device cpu"):
        driver.free_bytes()


@pytest.mark.skipif(not REAL, reason="no CUDA device")
def test_the_driver_tells_what_is_free() -> None:
    assert GB // 8 < driver.free_bytes() < 1 << 42


class Driver:
    """The functions of CUDA's driver, of a device whose addresses are none of main memory. What is put into a stream is
    done when that is waited for.

    Attributes:
        codes: what functions fail with, by their name.
        held: memory by address.
    """

    THERE = 1 << 45

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.contexts: list[int] = []
        self.held: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.streams: dict[int, list[Callable[[], object]]] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def called(*given: Any) -> int:
            # What is not told its type is taken for an int of 32 bits.
            assert all(not isinstance(one, int) or one < 8 for one in given)
            if name in self.codes:
                return self.codes[name]
            if not name.startswith(("cuInit", "cuDevice", "cuCtxPush")):
                assert self.contexts, name
            getattr(self, f"do_{name}", lambda *_: None)(*given)
            return 0

        return called

    def _there(self, address: Any) -> int:
        """Where it really is."""
        assert isinstance(address, ctypes.c_uint64)
        (start,) = [one for one, memory in self.held.items() if one <= address.value < one + len(memory)]
        assert start >= self.THERE
        return ctypes.addressof(self.held[start]) + address.value - start

    def _here(self, address: Any) -> int:
        assert isinstance(address, ctypes.c_void_p)
        assert address.value is not None
        assert address.value < self.THERE or address.value > 1 << 46
        return address.value

    def do_cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:  # noqa: N802  the driver's names
        context._obj.value = 77

    def do_cuCtxPushCurrent_v2(self, context: Any) -> None:  # noqa: N802
        self.contexts.append(context.value)

    def do_cuCtxPopCurrent_v2(self, context: Any) -> None:  # noqa: N802
        self.contexts.pop()

    def do_cuStreamCreate(self, stream: Any, flags: int) -> None:  # noqa: N802
        assert flags == 1
        stream._obj.value = 1000 + len(self.streams)
        self.streams[stream._obj.value] = []

    def do_cuStreamSynchronize(self, stream: Any) -> None:  # noqa: N802
        for one in self.streams[stream.value]:
            one()
        self.streams[stream.value].clear()

    def do_cuMemHostAlloc(self, address: Any, size: Any, flags: int) -> None:  # noqa: N802
        assert flags == 1
        memory = ctypes.create_string_buffer(b"\xff" * size.value, size.value)
        address._obj.value = ctypes.addressof(memory)
        self.held[ctypes.addressof(memory)] = memory

    def do_cuMemAlloc_v2(self, address: Any, size: Any) -> None:  # noqa: N802
        address._obj.value = self.THERE + 4096 * len(self.held)
        self.held[address._obj.value] = ctypes.create_string_buffer(b"\xff" * size.value, size.value)

    def do_cuMemFreeHost(self, address: Any) -> None:  # noqa: N802
        del self.held[self._here(address)]

    def do_cuMemFree_v2(self, address: Any) -> None:  # noqa: N802
        self._there(address)
        del self.held[address.value]

    def do_cuMemsetD8Async(self, address: Any, value: Any, size: Any, stream: Any) -> None:  # noqa: N802
        self.streams[stream.value].append(lambda: ctypes.memset(self._there(address), value.value, size.value))

    def do_cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> None:  # noqa: N802
        self.streams[stream.value].append(lambda: ctypes.memmove(self._there(to), self._here(source), size.value))

    def do_cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> None:  # noqa: N802
        self.streams[stream.value].append(lambda: ctypes.memmove(self._here(to), self._there(source), size.value))


def test_copies_by_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Driver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    device, values = driver.Device(), np.arange(6, dtype=np.float32).reshape(2, 3)
    there, beside = device.zeros(24), device.zeros(24)
    assert (there.kind, there.size) == ("cuda", 24)
    here = device.locked(24)
    assert here.ctypes.data in fake.held
    device.to_host(here, there.address)
    assert here.tobytes() == bytes(24)
    device.to_device(there.address, values)
    device.to_host(here, there.address)
    assert here.tobytes() == values.tobytes()
    device.to_device(beside.address + 8, values[1])
    device.to_host(here, beside.address)
    assert here.view(np.float32).tolist() == [0, 0, 3, 4, 5, 0]
    part = here[2:4]
    del here
    assert len(fake.held) == 3, "a part of it is in use"
    del part
    assert sorted(fake.held) == [there.address, beside.address]
    del there, beside
    assert not fake.held
    assert not fake.contexts


def test_what_the_driver_refuses(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Driver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    device, values = driver.Device(), np.zeros(6, np.float32)
    monkeypatch.setattr(driver, "device", lambda: device)
    # A system that lets no more be locked: it is slower, no more.
    fake.codes["cuMemHostAlloc"] = 2
    assert device.locked(6).shape == (6,)
    fake.codes["cuMemAlloc_v2"] = 2
    with pytest.raises(
        DeviceError, match=r"^the GPU has no room for 0\.40 GB more: give a smaller --block, or use --device"
    ):
        DeviceMemory.zeros((1000, 100_000))
    fake.codes["cuMemAlloc_v2"] = 700
    with pytest.raises(driver.DriverError, match=r"cuMemAlloc_v2 fails with code 700"):
        DeviceMemory.zeros((1000, 100_000))
    del fake.codes["cuMemAlloc_v2"]
    full, tried = driver.DriverError.of("cuMemAlloc_v2", 2), list[int]()

    def later(*given: Any) -> int:
        tried.append(2 - 2 * len(tried))
        if not tried[-1]:
            fake.do_cuMemAlloc_v2(*given)
        return tried[-1]

    # What an error that was raised still holds is looked for before it is told.
    with monkeypatch.context() as patch:
        patch.setattr(fake, "cuMemAlloc_v2", later, raising=False)
        assert DeviceMemory.zeros((6,)).size == 24
    assert tried == [2, 0]
    # A worker sends it; its client makes it anew.
    assert str(pickle.loads(pickle.dumps(full))) == str(type(full)(f"{full}")) == str(full)  # noqa: S301  ours
    assert pickle.loads(pickle.dumps(full)).code == 2  # noqa: S301
    there = DeviceMemory.zeros((6,))
    fake.codes |= {"cuMemcpyDtoHAsync_v2": 700, "cuMemFree_v2": 700}
    with pytest.raises(DeviceError, match=r"^CUDA: .* cuMemcpyDtoHAsync_v2 fails with code 700; use --device cpu"):
        there.read(values)
    # It was told: freeing adds nothing.
    del there
    assert fake.held
    assert capsys.readouterr().err == ""
    assert not fake.contexts
    fake.codes["cuStreamCreate"] = 3
    with pytest.raises(DeviceError, match="cuStreamCreate fails with code 3"):
        driver.Device()


@pytest.mark.skipif(not REAL, reason="no CUDA device")
def test_copies_to_a_card_and_back() -> None:
    values = np.random.default_rng(3).normal(0, 1, (1000, 333)).astype(np.float32)
    whole, device = DeviceMemory.zeros((values.size + 5,)), driver.device()
    found = device.locked(whole.size).view(np.float32)
    whole.read(found)
    assert not found.any()
    whole.part(5, values.shape).fill(values)
    whole.read(found)
    assert not found[:5].any()
    np.testing.assert_array_equal(found[5:], values.ravel())
