"""The contract between a run and what it makes of embeddings: numbers of a block, and rasters of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from malice_core.runtime import Backend

if TYPE_CHECKING:
    from malice_core.product import Raster


#: The arrays of a block by key: number of bands, and type.
Kinds = Mapping[str, tuple[int, np.dtype[Any]]]


class Numbers(Protocol):
    """Where the numbers of one block go as they are made, from several threads."""

    def put(self, key: str, band: int, start: int, values: NDArray[Any]) -> None:
        """Takes those of some bands and pixels, see ``spool.Spool.put``."""


class Codes(Protocol):
    """What makes the numbers of one block of its embeddings, by modality and pixels, from several threads."""

    def put(self, modality: int, start: int, values: NDArray[np.float32], counts: NDArray[np.uint16]) -> None:
        """Takes the embedding of some pixels, see ``product.BlockCodes.put``."""


class Product(Protocol):
    """What a run makes of embeddings: these themselves (``product.Layout``), or classes (``classes.ClassLayout``)."""

    @property
    def sensors(self) -> tuple[str, ...]:
        """Modalities, in the order in which their embeddings come."""

    @property
    def queries(self) -> tuple[int, ...]:
        """Queries of the embeddings, in order."""

    @property
    def dtype(self) -> str:
        """Name of the number type, for people."""

    @property
    def bands(self) -> int:
        """Of all outputs but the counts."""

    @property
    def storage(self) -> np.dtype[Any]:
        """Type of the numbers in scratch."""

    @property
    def block_bytes(self) -> int:
        """Memory a pixel of a block takes while it is computed."""

    @property
    def kinds(self) -> Kinds:
        """Arrays of a finished block."""

    @property
    def identity(self) -> list[Any]:
        """What tells this product from another one, for the fingerprint of a job."""

    def beside(self, output: Path) -> dict[str, Path]:
        """Files that come with the output, by what asks for them."""

    def opened(self, backend: Backend) -> Callable[[int, Numbers], Codes]:
        """What begins a block: from its number of pixels, and where its numbers go."""

    def rasters(self, output: Path, counts: Path | None, tags: Mapping[str, str]) -> list[Raster]:
        """The rasters to put together; the output itself comes last."""

    def tags(self, output: Path) -> dict[str, str]:
        """What the rasters say of this product."""
