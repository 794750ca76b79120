"""bfloat16 against float32 on real images, where the processor has it: the same embeddings, worth as much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_embed import Array, embedded, link, write_series
from numpy.typing import NDArray

from malice_core import memory, models, runtime
from malice_core.bfloat16 import rounded
from malice_core.cropping import channels_last
from malice_core.encoder import map_type, suited
from malice_core.errors import DeviceError
from malice_core.evaluation.comparing import compare
from malice_core.grid import BlockGrid, Window
from malice_core.product import Layout
from malice_core.store import agreement

FOLDERS = {"s2": "S2", "s1": "S1_10m"}


def nearest(number: np.float32) -> int:
    """Bits of the bfloat16 that is nearest, of two the even one, found by trying both beside it."""
    below = int(number.view(np.uint32)) >> 16
    values = [float(np.array(bits << 16, np.uint32).view(np.float32)) for bits in (below, below + 1)]
    distances = [abs(value - float(number)) for value in values]
    if distances[0] == distances[1]:
        return below + below % 2
    return below + int(distances[1] < distances[0])


def test_numbers_are_rounded_to_the_nearest() -> None:
    rng = np.random.default_rng(0)
    numbers = (rng.normal(0, 1, 2000) * 10.0 ** rng.integers(-30, 30, 2000)).astype(np.float32)
    halves = np.array([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 1 + 2**-8 + 2**-20, 1 - 2**-9, 2**-133, 0, -0.0, 3e38])
    numbers = np.concatenate([numbers, halves.astype(np.float32)])
    np.testing.assert_array_equal(rounded(numbers), [nearest(number) for number in numbers])


def test_a_spatial_graph_may_return_bfloat16(tiny: str) -> None:
    """Exactly what it returns else, rounded; also on processors that do not compute with it."""
    graph = models.load(tiny).graph_bytes("s2", "spatial")
    images = {"images": np.random.default_rng(0).normal(0, 1, (1, 10, 32, 48)).astype(np.float32)}
    shapes = {name: array.shape for name, array in images.items()}
    backend = runtime.Backend("openvino", "cpu", "float32", 1, 1)
    whole, halves = (backend.open(channels_last(graph, short), shapes).run(images).copy() for short in (False, True))
    assert whole.shape == halves.shape
    np.testing.assert_array_equal(halves.view(np.uint16), rounded(whole))


@pytest.mark.parametrize(("kernel", "kind"), [("", np.float32), ("float32", np.float32), ("bfloat16", np.uint16)])
def test_maps_are_of_one_type_in_all_of_a_run(kernel: str, kind: type, tiny: str) -> None:
    """What the spatial graph returns, what keeps it, and what the plan counts of it."""
    backend = runtime.Backend("openvino", "cpu", "float32", 2, 2, kernel)
    assert map_type(backend) is kind
    card, grid = models.load(tiny), BlockGrid(Window(0, 0, 64, 64), (64, 64), 48, 8)
    layout = Layout.of(card, ("s2",), (0,), "float32")
    work = memory.budget(card, backend, grid, {"s2": 5}, layout).work
    kept = 66 * 66 * 32 * np.dtype(kind).itemsize if kernel else 64 * 64 * 64 * 4
    assert work["spatial features"] == 5 * (kept + 64 * 64 * 4)


@pytest.fixture(scope="module")
def has_bfloat16() -> None:
    try:
        runtime.choose("openvino", "cpu", "bfloat16")
    except DeviceError as error:
        pytest.skip(f"{error}")


@pytest.fixture(scope="module", params=FOLDERS)
def both(
    request: pytest.FixtureRequest,
    has_bfloat16: None,
    testdata: Path,
    published_store: Path,
    tmp_path_factory: pytest.TempPathFactory,
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


@pytest.mark.parametrize("edge", ["mirror", "published"])
def test_edges_and_missing_pixels_are_those_of_float32(
    edge: str, has_bfloat16: None, tiny: str, tmp_path: Path
) -> None:
    images = write_series(tmp_path / "images", (72, 40), 3, missing=0.2)
    given = ["--s2", images, "--model", tiny, "--edge", edge, "--block", 32]
    exact, found = (
        embedded(tmp_path / f"{precision}.tif", *given, "--precision", precision)
        for precision in ("float32", "bfloat16")
    )
    np.testing.assert_array_equal(np.isnan(found), np.isnan(exact))
    assert 1e-5 < np.nanmax(np.abs(found - exact)) < 0.1 * np.nanstd(exact)


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


def test_a_model_is_compared_in_it_too(has_bfloat16: None, tiny: str) -> None:
    card, channels = models.load(tiny), 10
    given = agreement.sample(channels)
    exact, short = (
        agreement.embed(card, "s2", given, suited(runtime.choose("openvino", "cpu", precision), card))
        for precision in ("float32", "bfloat16")
    )
    assert exact.shape == short.shape
    assert 1e-4 < np.sqrt(((short - exact) ** 2).mean()) < 0.05 * np.sqrt((exact**2).mean())
