"""bfloat16 against float32 on real images, where the processor has it: the same embeddings, worth as much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_embed import Array, embedded, link
from numpy.typing import NDArray

from malice_core import runtime
from malice_core.errors import DeviceError
from malice_core.evaluation.comparing import compare

FOLDERS = {"s2": "S2", "s1": "S1_10m"}


@pytest.fixture(scope="module", autouse=True)
def _has_bfloat16() -> None:
    try:
        runtime.choose("openvino", "cpu", "bfloat16")
    except DeviceError as error:
        pytest.skip(f"{error}")


@pytest.fixture(scope="module", params=FOLDERS)
def both(
    request: pytest.FixtureRequest, testdata: Path, published_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Array, Array]:
    """A year of site A in float32 and in bfloat16, (640, 64, 64)."""
    sensor, folder = request.param, tmp_path_factory.mktemp("bfloat16")
    files = sorted((testdata / "data" / "site_a" / FOLDERS[sensor]).glob("*_2018*.tif"))
    arguments = (f"--{sensor}", link(files, folder / "images"), "--model", "malice", "--runtime", "openvino")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALICE_MODELS", f"{published_store}")
        exact, rounded = (
            embedded(folder / f"{precision}.tif", *arguments, "--precision", precision)
            for precision in ("float32", "bfloat16")
        )
    return exact, rounded


def test_it_is_another_computation(both: tuple[Array, Array]) -> None:
    assert 1e-4 < np.abs(both[0] - both[1]).max() < 0.2


def test_embeddings_have_the_same_direction(both: tuple[Array, Array]) -> None:
    """Those of nearly all pixels by the project's bound; of a single query they may differ a little more."""
    assert (cosines(both, 1) >= 0.9999).mean() >= 0.999
    assert cosines(both, 10).min() >= 0.9995


def cosines(both: tuple[Array, Array], parts: int) -> NDArray[np.float64]:
    """(parts, pixels) cosine similarities of embeddings cut into 1 part, or 10, the queries."""
    exact, rounded = (one.reshape(parts, 640 // parts, -1).astype(np.float64) for one in both)
    found: NDArray[np.float64] = (exact * rounded).sum(1)
    return found / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)


def test_they_tell_crops_as_well(both: tuple[Array, Array], testdata: Path) -> None:
    sets = {"float32": both[0], "bfloat16": both[1]}
    found = compare(sets, testdata / "data" / "site_a" / "LABELS_LC_CT.tif", band=2)
    for probe in ("linear", "neighbours"):
        exact, rounded = (getattr(found.scores[name], probe).mean() for name in sets)
        assert exact > 0.3
        assert abs(exact - rounded) <= 0.005, (probe, exact, rounded)
