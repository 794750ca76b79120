"""Normalisation and mirror-extension against direct numpy formulas."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from malice_core.cards import Graph, Modality
from malice_core.features import Normaliser, mirror_index, mirror_source
from malice_core.grid import Window
from malice_core.store.statistics import AUX


def modality(
    channels: tuple[str, ...], transform: str, med: list[float], low: list[float], high: list[float]
) -> Modality:
    graph = Graph("a.onnx", "0" * 64)
    return Modality(channels, transform, tuple(med), tuple(low), tuple(high), graph, graph, (0.0,), (1.0,))


def test_s1_is_vh_first_and_in_natural_logarithms() -> None:
    m = modality(("VH", "VV", "VH/VV"), "ln", [-3.7, -2.2, -1.5], [-5.8, -3.8, -3.2], [-2.4, -1.0, -0.2])
    vv, vh = np.float32(0.13), np.float32(0.023)
    values = np.array([vv, vh], np.float32).reshape(2, 1, 1)
    out = Normaliser("s1", m)(values, np.ones((1, 1), bool))
    expected = [(np.log(vh) + 3.7) / 3.4, (np.log(vv) + 2.2) / 2.8, (np.log(vh / vv) + 1.5) / 3.0]
    np.testing.assert_allclose(out.ravel(), expected, atol=1e-6)


def test_values_are_clipped_and_unobserved_pixels_are_zero() -> None:
    m = modality(("B02", "B8A"), "none", [400, 3000], [100, 1000], [4000, 5000])
    values = np.zeros((10, 1, 4), np.float32)
    values[0, 0] = [50, 400, 9000, 400]
    values[7, 0] = [3000, np.nan, 900, 3000]
    out = Normaliser("s2", m)(values, np.array([[True, True, True, False]]))
    np.testing.assert_allclose(out[0, 0], [-300 / 3900, 0, 3600 / 3900, 0], atol=1e-7)
    np.testing.assert_allclose(out[1, 0], [0, 0, -2000 / 4000, 0], atol=1e-7)


def test_zero_backscatter_at_a_missing_pixel_leaves_no_nan() -> None:
    m = modality(("VH", "VV", "VH/VV"), "ln", [-3.7, -2.2, -1.5], [-5.8, -3.8, -3.2], [-2.4, -1.0, -0.2])
    out = Normaliser("s1", m)(np.zeros((2, 3, 3), np.float32), np.zeros((3, 3), bool))
    assert (out == 0).all()


def test_aux_s1_is_vv_first_in_decimal_logarithms_of_clipped_power_and_its_angle_is_as_it_is() -> None:
    statistics = AUX["s1"]
    vv, vh = np.array([0.13, 3.0, 2e-5, 0.13]), np.array([0.023, 0.5, 1e-5, 0.023])
    angles = np.cos(np.radians([38.5])).astype(np.float32)
    observed = np.array([[True, True, True, False]])
    out = Normaliser("s1", statistics)(np.stack([vv, vh]).astype(np.float32)[:, None], observed, angles)
    bands = [np.log10(np.clip(band, 1e-4, 2)) for band in (vv, vh, vh / vv + 1e-5)]
    rows = [*bands, np.full(4, angles[0])]
    for channel, row in enumerate(rows):
        low, high, med = (numbers[channel] for numbers in (statistics.qmin, statistics.qmax, statistics.med))
        expected = np.where(observed[0], (np.clip(row, low, high) - med) / (high - low), 0)
        np.testing.assert_allclose(out[channel, 0], expected, atol=2e-6)


def test_angles_may_differ_from_pixel_to_pixel() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(500, 4000, (10, 2, 3)).astype(np.float32)
    angles = rng.uniform(-1, 1, (6, 2, 3)).astype(np.float32)
    normalise, seen = Normaliser("s2", AUX["s2"]), np.ones((2, 3), bool)
    out = normalise(values, seen, angles)
    for row, col in np.ndindex(2, 3):
        np.testing.assert_array_equal(
            out[:, row, col],
            normalise(values[:, row : row + 1, col : col + 1], seen[:1, :1], angles[:, row, col])[:, 0, 0],
        )


@given(st.integers(2, 20), st.integers(0, 60), st.integers(0, 60))
def test_mirror_is_numpy_reflection(count: int, before: int, after: int) -> None:
    values = np.arange(count)
    index = mirror_index(100 - before, before + count + after, 100, count)
    np.testing.assert_array_equal(values[index], np.pad(values, (before, after), mode="reflect"))


def test_a_source_of_one_pixel_is_constant() -> None:
    assert (mirror_index(-50, 101, 3, 1) == 0).all()


@given(
    st.builds(Window, st.integers(-80, 80), st.integers(-80, 80), st.integers(1, 90), st.integers(1, 90)),
    st.builds(Window, st.integers(-30, 30), st.integers(-30, 30), st.integers(1, 60), st.integers(1, 60)),
)
def test_mirrored_windows_agree_with_padding_the_whole_source(window: Window, extent: Window) -> None:
    source = np.random.default_rng(0).normal(size=extent.shape)
    read, rows, cols = mirror_source(window, extent)
    assert extent.contains(read)
    filled = source[read.slices_in(extent)][rows[:, None], cols]
    assert filled.shape == window.shape
    margin = 200
    mode = [("edge" if side == 1 else "reflect") for side in extent.shape]
    padded = np.pad(source, ((margin, margin), (0, 0)), mode=mode[0])  # type: ignore[call-overload]
    padded = np.pad(padded, ((0, 0), (margin, margin)), mode=mode[1])  # type: ignore[call-overload]
    np.testing.assert_array_equal(filled, padded[window.slices_in(extent.expand(margin))])
