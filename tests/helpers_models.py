"""Models for tests: random weights of the full-size architecture, without torch and without the published files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from malice_core import weights
from malice_core.cards import Card
from malice_core.store import modelwriter
from malice_core.store.statistics import AUX, MALICE


def random_weights(channels: int, seed: int = 0, auxiliary: bool = False) -> dict[str, npt.NDArray[Any]]:
    """Folded weights of one encoder, scaled so that activations keep their size from layer to layer."""
    rng, ground = np.random.default_rng(seed), np.random.default_rng(99)
    result = {}
    for name, shape in weights.shapes(channels, auxiliary).items():
        # Transposed convolutions (in, out, 2, 2) with stride 2 add up `in` products, others in*k*k.
        fan_in = shape[0] if ".up.0." in name else int(np.prod(shape[1:]))
        # He's variance, less in the U-Net, where every block adds its two convolutions' outputs.
        gain = 1.5 if name.startswith((weights.SPATIAL, weights.TERRAIN)) else 1.0
        spread = (gain / fan_in) ** 0.5 if len(shape) > 1 else 0.05
        if name.endswith(".Q"):
            spread = 1.0
        offset = 1.0 if ".norm" in name and name.endswith(".weight") else 0.0
        # All sensors have the same terrain.
        drawn = (ground if name.startswith(weights.TERRAIN) else rng).standard_normal(shape)
        result[name] = (offset + spread * drawn).astype(np.float32)
    return result


def write_random_model(
    folder: Path, name: str = "tiny", sensors: tuple[str, ...] = ("s2", "s1"), seed: int = 0, auxiliary: bool = False
) -> Card:
    """A complete, valid model ``folder/name`` with random weights; set MALICE_MODELS to ``folder`` to use it."""
    target = folder / name
    target.mkdir(parents=True)
    known = AUX if auxiliary else MALICE
    encoders = {s: random_weights(len(known[s].channels), seed + i, auxiliary) for i, s in enumerate(sensors)}
    return modelwriter.write(
        target,
        name,
        encoders,
        title="random weights for tests",
        licence="CC0-1.0",
        citation="none",
        provenance={"source": f"random, seed {seed}"},
    )


def published(sensor: str) -> Path:
    """The published ONNX file of one sensor, or a visible skip without MALICE_TESTDATA."""
    folder = os.environ.get("MALICE_TESTDATA")
    if not folder:
        pytest.skip("MALICE_TESTDATA is not set: no published models to compare with")
    return Path(folder) / "models" / f"malice_{sensor}.onnx"
