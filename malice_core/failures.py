"""What onnxruntime and OpenVINO raise, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from malice_core.errors import MaliceError


def reason(error: BaseException) -> str:
    """The last line of a library's message: what comes before says where in its sources it happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def of_runtime(error: Exception) -> bool:
    """True for what onnxruntime and OpenVINO raise: exceptions of the former share no base class, and with bound
    memory it raises Python's own."""
    return isinstance(error, MemoryError | RuntimeError) or type(error).__module__.startswith("onnxruntime")


@contextmanager
def told(runtime: str, cure: str = "") -> Iterator[None]:
    """A call of a runtime.

    Args:
        cure: what else may help.

    Raises:
        MaliceError: if it fails.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, MaliceError) and of_runtime(error):
            raise MaliceError(
                f"{runtime} failed: {reason(error)}; out of memory? try a smaller --block or --memory{cure}"
            ) from error
        raise
