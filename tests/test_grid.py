"""Windows, lattices and blocks: whole-number properties."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from malice_core.errors import InputError
from malice_core.grid import BlockGrid, Lattice, Window

windows = st.builds(Window, st.integers(-500, 500), st.integers(-500, 500), st.integers(0, 200), st.integers(0, 200))
areas = st.builds(Window, st.integers(-500, 500), st.integers(-500, 500), st.integers(1, 200), st.integers(1, 200))


def cells(window: Window) -> set[tuple[int, int]]:
    return {(r, c) for r in range(window.row, window.end_row) for c in range(window.col, window.end_col)}


@given(windows, windows)
def test_intersection_is_the_set_of_common_pixels(a: Window, b: Window) -> None:
    common = a.intersect(b)
    rows = set(range(a.row, a.end_row)) & set(range(b.row, b.end_row))
    cols = set(range(a.col, a.end_col)) & set(range(b.col, b.end_col))
    assert common.pixels == len(rows) * len(cols)
    if common.pixels:
        assert (common.row, common.col) == (min(rows), min(cols))
        assert a.contains(common)
        assert b.contains(common)


@given(areas, st.sampled_from([8, 16]), st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_snapping_grows_by_less_than_a_step_to_multiples_from_the_anchor(
    window: Window, step: int, anchor: tuple[int, int]
) -> None:
    grown = window.snap(step, anchor)
    assert grown.contains(window)
    assert (grown.row - anchor[0]) % step == (grown.col - anchor[1]) % step == 0
    assert grown.height % step == grown.width % step == 0
    assert grown.height < window.height + 2 * step
    assert grown.row > window.row - step
    assert grown.end_col < window.end_col + step


@given(areas, st.sampled_from([8, 16, 64, 256]), st.sampled_from([8, 24, 256]))
def test_cores_cover_the_area_once_and_inputs_have_one_shape(area: Window, down: int, right: int) -> None:
    grid = BlockGrid(area, (down, right), halo=48, stride=8)
    blocks = list(grid.blocks())
    seen = np.zeros(area.shape, int)
    for block in blocks:
        seen[block.core.slices_in(area)] += 1
        assert block.input.shape == grid.input_shape
        assert block.input.contains(block.core.snap(8).expand(48))
        assert block.input.row % 8 == block.input.col % 8 == 0
        assert block.core.height <= down
        assert block.core.width <= right
        assert block.core.height <= grid.core_shape[0]
        assert block.core.width <= grid.core_shape[1]
    assert (seen == 1).all()
    assert [block.index for block in blocks] == list(range(grid.count))


@given(
    st.integers(-50, 50),
    st.integers(-50, 50),
    st.integers(2, 40),
    st.integers(2, 40),
    st.sampled_from([8, 24, 64, 256]),
)
def test_clipped_inputs_stay_inside_and_keep_the_halo_up_to_the_edge(
    row: int, col: int, rows: int, cols: int, side: int
) -> None:
    area = Window(row, col, 8 * rows, 8 * cols)
    grid = BlockGrid(area, (side, side), halo=48, stride=8, clip=True)
    for block in grid.blocks():
        assert area.contains(block.input)
        assert block.input.shape == grid.input_shape
        assert block.input.contains(block.core.expand(48).intersect(area))
        assert (block.input.row - row) % 8 == (block.input.col - col) % 8 == 0
    assert grid.core_shape == tuple(max(block.core.shape[axis] for block in grid.blocks()) for axis in (0, 1))
    assert grid.count == len(list(grid.blocks()))


@pytest.mark.parametrize(("height", "width"), [(64, 60), (8, 64), (15, 16)])
def test_published_edges_refuse_sides_the_network_cannot_take(height: int, width: int) -> None:
    with pytest.raises(InputError, match="multiples of 8 and at least 16"):
        BlockGrid(Window(0, 0, height, width), (64, 64), 48, 8, clip=True)


@pytest.mark.parametrize("side", [0, 12, -8])
def test_block_sides_are_multiples_of_the_stride(side: int) -> None:
    with pytest.raises(InputError, match=f"--block {side}"):
        BlockGrid(Window(0, 0, 64, 64), (side, side), 48, 8)


@given(st.integers(-60000, 60000), st.integers(-600000, 600000), st.floats(-0.004, 0.004))
def test_a_pixel_has_one_index_whatever_file_it_is_seen_in(col: int, row: int, rounding: float) -> None:
    lattice = Lattice.anchored("EPSG:32631", 10.0, 500000.0 + rounding, 5600000.0 - rounding)
    other = Lattice.anchored("EPSG:32631", 10.0, col * 10.0, row * 10.0)
    assert (lattice.x0, lattice.y0) == (other.x0, other.y0) == (0.0, 0.0)
    left, bottom, right, top = lattice.bounds(Window(row, col, 3, 5))
    assert (left, top, right, bottom) == (col * 10.0, -row * 10.0, col * 10.0 + 50, -row * 10.0 - 30)
    assert lattice.window(left, bottom, right, top) == Window(row, col, 3, 5)


def test_an_offset_grid_keeps_its_offset() -> None:
    lattice = Lattice.anchored("EPSG:32631", 10.0, 500003.0, 5600007.0)
    window = lattice.window(500003.0, 5599907.0, 500103.0, 5600007.0)
    assert window.shape == (10, 10)
    assert lattice.transform(window) == Affine(10, 0, 500003.0, 0, -10, 5600007.0)
    assert lattice.holds(Affine(10, 0, 500013.0, 0, -10, 5600027.0))
    assert not lattice.holds(Affine(10, 0, 500010.0, 0, -10, 5600027.0))
    assert not lattice.holds(Affine(20, 0, 500003.0, 0, -20, 5600007.0))
    assert not lattice.holds(Affine(10, 0.5, 500003.0, 0.5, -10, 5600007.0))


def test_areas_snap_outwards_and_forgive_rounding() -> None:
    lattice = Lattice("EPSG:32631", 10.0, 0.0, 0.0)
    assert lattice.window(1.0, 1.0, 19.0, 19.0) == Window(-2, 0, 2, 2)
    assert lattice.window(-0.001, -0.001, 20.001, 20.001) == Window(-2, 0, 2, 2)
    # Inside a pixel, and in the thousandth that is forgiven: that pixel.
    assert lattice.window(11.0, 12.0, 13.0, 14.0) == Window(-2, 1, 1, 1)
    assert lattice.window(20.0, 20.0, 20.0001, 20.0001).shape == (1, 1)


@pytest.mark.parametrize("box", [(5, 0, 5, 10), (0, 10, 5, 0), (0, 0, float("nan"), 1)])
def test_empty_areas_are_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="is empty"):
        Lattice("EPSG:32631", 10.0, 0.0, 0.0).window(*box)


@pytest.mark.parametrize("clip", [False, True])
def test_blocks_that_touch_a_window(clip: bool) -> None:
    area = Window(-21, 13, 104, 160)
    for sides in ((8, 8), (24, 40), (56, 16), (512, 512)):
        grid = BlockGrid(area, sides, 48, 8, clip)
        blocks = list(grid.blocks())
        for window in (area, Window(-21, 13, 1, 1), *area.tiles(31), Window(-3, 13, 16, 160), Window(10, 100, 73, 73)):
            touched = [block.index for block in blocks if block.core.intersect(window).pixels]
            assert grid.touching(window) == touched
