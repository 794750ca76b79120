"""What a CUDA device has free, asked of the driver itself: no package of Python's is needed for that."""

from __future__ import annotations

import ctypes
import sys

from malice_core.errors import DeviceError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def free_bytes(device: int = 0) -> int:
    """Free memory of a device.

    Raises:
        DeviceError: if the driver is missing or refuses.
    """
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise DeviceError(f"CUDA: the driver's {LIBRARY} cannot be loaded ({error}); use --device cpu") from error

    def call(name: str, *arguments: object) -> None:
        try:
            code = getattr(driver, name)(*arguments)
        except AttributeError as error:
            raise DeviceError(f"CUDA: the driver's {LIBRARY} has no {name}, it is too old; use --device cpu") from error
        if code:
            raise DeviceError(f"CUDA: the driver's {name} fails with code {code}; use --device cpu")

    handle, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(handle), device)
    # The primary context is the one that onnxruntime computes in too; asking in it makes no second one.
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
    try:
        call("cuCtxPushCurrent_v2", context)
        try:
            call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        finally:
            call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))
    finally:
        call("cuDevicePrimaryCtxRelease_v2", handle)
    return free.value
