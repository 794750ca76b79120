"""Memory that learning is said to take, beside what scikit-learn takes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from helpers_embed import Recorder
from helpers_learning import embedding

from malice_core.analysis import learning, memories
from malice_core.analysis.command import Run
from malice_core.analysis.embedding import Embedding
from malice_core.analysis.windows import PROGRAM_BYTES
from malice_core.cancelling import Cancel
from malice_core.errors import InputError


def run_with(memory: int) -> Run:
    return Run(Recorder(), Cancel(), memory, 4, time.monotonic())


@pytest.mark.parametrize("numeric", [False, True])
def test_forests_are_no_larger_than_what_is_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numeric: bool
) -> None:
    """Of labels that are chance, which make the largest trees."""
    monkeypatch.setattr(learning, "TREES", 10)
    source = Embedding.open(embedding(tmp_path / "e.tif"))
    rng = np.random.default_rng(3)
    pixels, classes = 1500, 1 if numeric else 12
    values = rng.normal(size=(pixels, 8))
    targets = rng.normal(size=pixels) if numeric else rng.integers(0, classes, pixels)
    forest = learning.trained("forest", numeric, values, targets, 1).steps[-1][1]
    held = sum(one.tree_.value.nbytes + one.tree_.__getstate__()["nodes"].nbytes for one in forest.estimators_)
    known = memories.forest_bytes(sum(one.tree_.node_count for one in forest.estimators_), classes)
    assert held <= known < 1.2 * held
    # Room for two folds of the linear method, or for so much less of one forest.
    one = memories.COPIES * 8 * pixels * source.kind.features
    fixed = PROGRAM_BYTES + memories.sample_bytes(source, pixels)
    assert memories.workers(run_with(fixed + 2 * one), source, pixels, 5, "linear", classes) == 2
    with pytest.raises(InputError, match="is too little to learn from 1500 pixels"):
        memories.workers(run_with(fixed + one + held), source, pixels, 5, "forest", classes)
    assert memories.workers(run_with(fixed + one + int(1.7 * held)), source, pixels, 5, "forest", classes) == 1
