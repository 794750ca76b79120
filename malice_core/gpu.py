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
        raise DeviceError(
            f"--device cuda: the driver's {LIBRARY} cannot be loaded ({error}); use --device cpu"
        ) from error
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    # The primary context is the one that onnxruntime computes in too; asking in it makes no second one.
    for name, arguments in (
        ("cuInit", (0,)),
        ("cuDeviceGet", (ctypes.byref(handle), device)),
        ("cuDevicePrimaryCtxRetain", (ctypes.byref(context), handle)),
        ("cuCtxPushCurrent_v2", (context,)),
        ("cuMemGetInfo_v2", (ctypes.byref(free), ctypes.byref(total))),
        ("cuCtxPopCurrent_v2", (ctypes.byref(context),)),
    ):
        code = getattr(driver, name)(*arguments)
        if code:
            raise DeviceError(f"--device cuda: the driver's {name} fails with code {code}; use --device cpu")
    return free.value
