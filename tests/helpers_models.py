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
from malice_core.store.statistics import MALICE


def random_weights(channels: int, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Folded weights of one encoder, scaled so that activations keep their size from layer to layer."""
    rng = np.random.default_rng(seed)
    result = {}
    for name, shape in weights.shapes(channels).items():
        # Transposed convolutions (in, out, 2, 2) with stride 2 add up `in` products, others in*k*k.
        fan_in = shape[0] if ".up.0." in name else int(np.prod(shape[1:]))
        # He's variance, less in the U-Net, where every block adds its two convolutions' outputs.
        gain = 1.5 if name.startswith(weights.SPATIAL) else 1.0
        spread = (gain / fan_in) ** 0.5 if len(shape) > 1 else 0.05
        if name.endswith(".Q"):
            spread = 1.0
        offset = 1.0 if ".norm" in name and name.endswith(".weight") else 0.0
        result[name] = (offset + spread * rng.standard_normal(shape)).astype(np.float32)
    return result


def write_random_model(
    folder: Path, name: str = "tiny", sensors: tuple[str, ...] = ("s2", "s1"), seed: int = 0
) -> Card:
    """A complete, valid model ``folder/name`` with random weights; set MALICE_MODELS to ``folder`` to use it."""
    target = folder / name
    target.mkdir(parents=True)
    encoders = {s: random_weights(len(MALICE[s].channels), seed + index) for index, s in enumerate(sensors)}
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
