"""What is asked of a CUDA device's driver itself: what is free, memory, and copies. No package is needed for that.

Source: NVIDIA, CUDA Driver API (device, primary context, memory and stream management).
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from malice_core.errors import DeviceError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
#: CU_STREAM_NON_BLOCKING: nothing is waited for that is done in others.
BESIDE = 1
#: CU_MEMHOSTALLOC_PORTABLE: for all contexts.
PORTABLE = 1
#: CUDA_ERROR_OUT_OF_MEMORY.
FULL = 2
#: What helps where a card does not.
CURE = "use --device cpu --precision float32"


class DriverError(DeviceError):
    """A function of the driver failed, with a ``code`` of CUresult."""

    #: 0 of one that another process has told.
    code = 0

    @classmethod
    def of(cls, name: str, code: int) -> DriverError:
        """Of a function of the driver."""
        error = cls(f"CUDA: the driver's {name} fails with code {code}; {CURE}")
        error.code = code
        return error


class Context:
    """The primary context of a device: the one that onnxruntime computes in too, so that using it makes no second one.

    Raises:
        DeviceError: if the driver is missing or refuses.
    """

    def __init__(self, device: int = 0) -> None:
        try:
            self._driver = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise DeviceError(f"CUDA: the driver's {LIBRARY} cannot be loaded ({error}); {CURE}") from error
        self._device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(self._device), device)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)

    def close(self) -> None:
        """Gives it back; onnxruntime may still have it.

        Raises:
            DriverError: if that fails.
        """
        self.call("cuDevicePrimaryCtxRelease_v2", self._device)

    def call(self, name: str, *arguments: object) -> None:
        """Calls one of the driver's functions; addresses and sizes must be of their types of ctypes.

        Raises:
            DeviceError: if the driver lacks it.
            DriverError: if it fails.
        """
        try:
            code = getattr(self._driver, name)(*arguments)
        except AttributeError as error:
            raise DeviceError(f"CUDA: the driver's {LIBRARY} has no {name}, it is too old; {CURE}") from error
        if code:
            raise DriverError.of(name, code)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Functions that this thread calls are of this device.

        Raises:
            DriverError: if that fails.
        """
        self.call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


def free_bytes(device: int = 0) -> int:
    """Free memory of a device.

    Raises:
        DeviceError: if the driver is missing or refuses.
    """
    gc.collect()  # as in Device._take
    context = Context(device)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    try:
        with context.current():
            context.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    finally:
        context.close()
    return free.value


class Allocation:
    """Memory on a device, which is freed when nobody has this any more.

    Attributes:
        address: of the first byte, there.
        size: bytes.
        kind: of device, as onnxruntime calls it.
    """

    def __init__(self, address: int, size: int, kind: str) -> None:
        self.address, self.size, self.kind = address, size, kind


class Device:
    """Memory of a device, and copies between it and main memory while it computes: each way has a stream of its own.

    Raises:
        DeviceError: if the driver is missing or refuses.
    """

    def __init__(self, number: int = 0) -> None:
        # Kept as long as the process: memory may be let go at any time.
        self._context = Context(number)
        self._there, self._back = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            with self._context.current():
                for stream in (self._there, self._back):
                    self._context.call("cuStreamCreate", ctypes.byref(stream), BESIDE)
        except DeviceError:
            self._context.close()
            raise

    def zeros(self, size: int) -> Allocation:
        """``size`` bytes of zeros on the device.

        Raises:
            DeviceError: if it has no room for them.
        """
        address = ctypes.c_uint64()
        with self._context.current():
            self._take(address, size)
            found = Allocation(address.value, size, "cuda")
            self._at_last(found, "cuMemFree_v2", address)
            self._context.call("cuMemsetD8Async", address, ctypes.c_ubyte(0), ctypes.c_size_t(size), self._there)
            self._context.call("cuStreamSynchronize", self._there)
        return found

    def _take(self, address: ctypes.c_uint64, size: int) -> None:
        for last in (False, True):
            try:
                self._context.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
            except DriverError as error:
                if error.code != FULL:
                    raise
                if last:
                    raise DeviceError(
                        f"the GPU has no room for {size / 1e9:.2f} GB more: give a smaller --block, or {CURE}"
                    ) from error
                # An error that was raised holds what it was raised in, and memory there, until this looks for it.
                gc.collect()
            else:
                return

    def locked(self, size: int) -> NDArray[np.uint8]:
        """(size,) bytes of main memory that the device reads and writes itself, with anything in them; ordinary memory,
        which takes longer to copy, if the system does not let so much of it be locked."""
        address = ctypes.c_void_p()
        try:
            with self._context.current():
                self._context.call("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(size), PORTABLE)
        except DriverError:
            return np.empty(size, np.uint8)
        assert address.value is not None
        memory = (ctypes.c_char * size).from_address(address.value)
        self._at_last(memory, "cuMemFreeHost", address)
        # Of the buffer's type as numpy's annotations want it.
        return np.frombuffer(memoryview(memory).cast("B"), np.uint8)

    def to_device(self, address: int, values: NDArray[Any]) -> None:
        """Copies all bytes of an array to an address on the device; it is done on return.

        Args:
            values: contiguous.

        Raises:
            DriverError: if that fails.
        """
        where = ctypes.c_uint64(address), ctypes.c_void_p(values.ctypes.data)
        self._copy("cuMemcpyHtoDAsync_v2", *where, values.nbytes, self._there)

    def to_host(self, values: NDArray[Any], address: int) -> None:
        """Copies to all bytes of an array from an address on the device; otherwise as :meth:`to_device`."""
        where = ctypes.c_void_p(values.ctypes.data), ctypes.c_uint64(address)
        self._copy("cuMemcpyDtoHAsync_v2", *where, values.nbytes, self._back)

    def _copy(self, name: str, to: object, source: object, size: int, stream: ctypes.c_void_p) -> None:
        with self._context.current():
            self._context.call(name, to, source, ctypes.c_size_t(size), stream)
            self._context.call("cuStreamSynchronize", stream)

    def _at_last(self, owner: object, name: str, address: object) -> None:
        """Frees memory when its owner, and all arrays in it, are gone."""

        def free() -> None:
            # What made the device unusable was told where it happened.
            with suppress(DeviceError), self._context.current():
                self._context.call(name, address)

        # At the end of the process the driver may be gone before.
        weakref.finalize(owner, free).atexit = False


_lock = threading.Lock()
_device: Device | None = None


def device() -> Device:
    """The one that this process computes on.

    Raises:
        DeviceError: if the driver is missing or refuses.
    """
    global _device
    with _lock:
        if _device is None:
            _device = Device()
        return _device
