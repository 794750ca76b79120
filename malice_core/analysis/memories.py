"""Memory that learning takes: how many folds may be worked on at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from malice_core.analysis import learning
from malice_core.analysis.windows import PROGRAM_BYTES
from malice_core.errors import InputError

if TYPE_CHECKING:
    from malice_core.analysis.command import Run
    from malice_core.analysis.embedding import Embedding

#: scikit-learn with scipy, measured.
LIBRARY_BYTES = 120 << 20
#: Doubles a number of the sample that one training holds: what is given, standardised, and scikit-learn's own copy.
COPIES = 3
#: Of a tree, a node without its values.
NODE_BYTES = 64


def sample_bytes(embedding: Embedding, pixels: int) -> int:
    """Of the labelled pixels, and of a trained model that holds them (nearest neighbours)."""
    return LIBRARY_BYTES + pixels * embedding.kind.features * (4 + 8)


def forest_bytes(nodes: float, values: int) -> int:
    """Of trees with so many nodes in all, and ``values`` numbers in each: one a class, or one."""
    return int(nodes * (NODE_BYTES + 8 * values))


def workers(run: Run, embedding: Embedding, pixels: int, folds: int, method: str, classes: int) -> int:
    """Folds that may be worked on at once.

    Args:
        method: one of ``learning.METHODS``.
        classes: 1 of numbers.

    Raises:
        InputError: if not even one fits the memory.
    """
    one = COPIES * 8 * pixels * embedding.kind.features
    if method == "forest":
        # A tree sees 63 % of the pixels (drawn with replacement), and has a leaf for each at most, as numbers make it.
        one += forest_bytes(learning.TREES * pixels * 2 * 0.633, classes)
    left = run.memory - PROGRAM_BYTES - sample_bytes(embedding, pixels)
    if left < one:
        needed = (run.memory - left + one) / 1e9
        raise InputError(
            f"--memory {run.memory / 1e9:.2f} GB is too little to learn from {pixels} pixels: {needed:.2f} GB are "
            "needed; give more, or fewer pixels by --per-place or the limit of all"
        )
    return max(1, min(run.threads, folds or 1, left // one))
