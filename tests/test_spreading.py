"""A spatial graph that spreads the biases of cells by itself, against a map of them made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from helpers_models import random_weights

from malice_core import graphs, runtime
from malice_core.cropping import cropped
from malice_core.errors import ModelError
from malice_core.spreading import spread


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("halo", [0, 48])
@pytest.mark.parametrize("half", [False, True])
def test_spread_inside_or_before(name: str, halo: int, half: bool) -> None:
    """Rows and columns go forth and back through the cells, as they do where images are mirrored."""
    graph = graphs.spatial_graph(random_weights(4, auxiliary=True), half)
    inner = cropped(spread(graph), halo) if halo else spread(graph)
    rng = np.random.default_rng(2)
    images = rng.normal(size=(1, 4, 104, 120)).astype(np.float32)
    biases = rng.normal(size=(1, 3, 4, 64)).astype(np.float32)
    rows, cols = np.abs(np.arange(104) - 30) // 32, np.abs(np.arange(120) - 7) // 30
    maps = np.ascontiguousarray(biases[:, rows[:, None], cols].transpose(0, 3, 1, 2))
    backend = runtime.choose(name, "cpu", "float32", 1)
    before = backend.open(graph, {"images": images.shape, "bias": maps.shape}).run({"images": images, "bias": maps})
    feeds: dict[str, runtime.Array] = {"images": images, "bias": biases}
    feeds |= {"rows": rows.astype(np.int32), "cols": cols.astype(np.int32)}
    inside = backend.open(inner, {key: array.shape for key, array in feeds.items()}).run(feeds)
    before = before[:, :, halo : 104 - halo, halo : 120 - halo]
    assert inside.shape == (1, 64, 104 - 2 * halo, 120 - 2 * halo)
    assert np.abs(inside - before).max() < 1e-5 * np.abs(before).max()


def test_a_graph_without_bias_is_refused() -> None:
    with pytest.raises(ModelError, match="takes no bias"):
        spread(graphs.spatial_graph(random_weights(3)))
