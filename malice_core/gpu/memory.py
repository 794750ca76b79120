"""Memory on a GPU, and what a run has there: the maps of all dates, and what comes and goes beside the graphs."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from malice_core.gpu import driver
from malice_core.gpu.driver import Allocation


class DeviceMemory:
    """An array in the memory of the device that onnxruntime computes on, or a part of one.

    Args:
        owner: the memory, at least as large.
        shape: of the array.
        dtype: of its numbers.
        first: byte of the memory that it begins with.

    Attributes:
        device: as onnxruntime calls it.
        shape, dtype: of the array.
        pointer: address of its first number.
    """

    def __init__(
        self, owner: Allocation, shape: tuple[int, ...], dtype: DTypeLike = np.float32, first: int = 0
    ) -> None:
        self._owner, self._first, self.shape, self.dtype = owner, first, shape, np.dtype(dtype)
        if first + self.size > owner.size:
            raise ValueError(f"an array of {self.size} bytes from byte {first} on in memory of {owner.size}")
        self.device = owner.kind
        self.pointer = owner.address + first

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> DeviceMemory:
        """Zeros of float32.

        Raises:
            DeviceError: if the device has no room for them.
        """
        # Of onnxruntime's own memory there would be up to twice as much: it grows in powers of two.
        return cls(driver.device().zeros(4 * math.prod(shape)), shape)

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def part(self, first: int, shape: tuple[int, ...]) -> DeviceMemory:
        """The numbers from ``first`` on as ``shape``; shares memory."""
        return DeviceMemory(self._owner, shape, self.dtype, self._first + first * self.dtype.itemsize)

    def fill(self, values: NDArray[Any]) -> None:
        """Copies an array of its shape and type from main memory; it is done on return.

        Raises:
            DeviceError: if the driver fails.
        """
        driver.device().to_device(self.pointer, self._alike(values))

    def read(self, into: NDArray[Any]) -> None:
        """Copies to an array of its shape and type in main memory; otherwise as :meth:`fill`."""
        driver.device().to_host(self._alike(into), self.pointer)

    def _alike(self, array: NDArray[Any]) -> NDArray[Any]:
        if array.shape != self.shape or array.dtype != self.dtype or not array.flags.c_contiguous:
            raise ValueError(f"{array.dtype} {array.shape} for {self.dtype} {self.shape}, or not contiguous")
        return array


class _Exchange:
    """Memory on both sides that one thread has for one thing, as large as that has been so far."""

    def __init__(self) -> None:
        self._there: Allocation | None = None
        self._here: NDArray[np.uint8] | None = None

    def of(self, shape: tuple[int, ...], dtype: DTypeLike) -> tuple[DeviceMemory, NDArray[Any]]:
        """An array there, and one here.

        Raises:
            DeviceError: if the device has no room for it.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self._there is None or self._here is None or self._there.size < size:
            # The smaller ones go first.
            self._there = self._here = None
            self._there, self._here = driver.device().zeros(size), driver.device().locked(size)
        return DeviceMemory(self._there, shape, dtype), self._here[:size].view(dtype).reshape(shape)


class Workspace:
    """What the encoders of a run have on a card, used by one modality after the other.

    The maps of all dates stay there. What graphs are given comes, and embeddings go, beside what the card computes for
    other threads: each thread has memory for its own, on the card, and page-locked in main memory.

    Args:
        elements: of the maps.

    Attributes:
        maps: zeros at first; it only ever holds features, so that dates left out are finite.

    Raises:
        DeviceError: if the card has no room for the maps.
    """

    def __init__(self, elements: int) -> None:
        self.maps = DeviceMemory.zeros((elements,))
        self._local = threading.local()

    def put(self, name: str, values: NDArray[Any]) -> DeviceMemory:
        """A copy of an array on the card, valid until this thread puts another one of that name.

        Raises:
            DeviceError: if the card has no room for it, or the driver fails.
        """
        there, here = self._exchange(name).of(values.shape, values.dtype)
        np.copyto(here, values)
        there.fill(here)
        return there

    def room(self, shape: tuple[int, ...]) -> tuple[DeviceMemory, NDArray[np.float32]]:
        """Where this thread has float32 numbers of ``shape`` computed on the card, and where to read them into; both
        are valid until it asks again.

        Raises:
            DeviceError: if the card has no room for it.
        """
        return self._exchange("").of(shape, np.float32)

    def _exchange(self, name: str) -> _Exchange:
        known: dict[str, _Exchange] = self._local.__dict__
        return known.setdefault(name, _Exchange())
