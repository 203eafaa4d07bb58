"""Position travels with voxels."""

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.space import Grid, Volume, Window, crop
from pipeline.space.grid import as_affine

numbers = st.floats(-3, 3).map(lambda v: round(v, 3))


@st.composite
def grids(draw):
    n = draw(st.sampled_from([2, 3]))
    matrix = np.eye(n + 1)
    matrix[:n, :n] = [[draw(numbers) for _ in range(n)] for _ in range(n)]
    matrix[:n, n] = [draw(st.floats(-1e4, 1e4)) for _ in range(n)]
    # An affine that flattens space to a plane is no affine of a volume.
    assume(abs(np.linalg.det(matrix[:n, :n])) > 0.05)
    shape = tuple(draw(st.integers(1, 9)) for _ in range(n))
    return Grid(shape, as_affine(matrix), anchor=draw(st.sampled_from(["center", "corner"])))


@st.composite
def grids_with_windows(draw):
    grid = draw(grids())
    start = tuple(draw(st.integers(0, n - 1)) for n in grid.shape)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape, strict=True))
    return grid, Window.between(start, stop)


@given(grids(), st.integers(0, 2**32 - 1))
def test_index_to_world_to_index_comes_back(grid, seed):
    index = np.random.default_rng(seed).uniform(-5, 15, (20, len(grid.shape)))
    back = grid.world_to_index(grid.index_to_world(index))
    # World coordinates reach 1e4 and the affine's condition 1e3, which leaves 1e-16 * 1e7.
    np.testing.assert_allclose(back, index, atol=1e-7)


@given(grids_with_windows())
def test_a_cropped_voxel_keeps_its_place_and_its_value(case):
    grid, window = case
    array = np.arange(np.prod(grid.shape)).reshape(1, *grid.shape)
    valid = array[0] % 2 == 0
    part = crop(Volume(array, grid, valid), window)
    assert part.grid == grid.cropped(window)
    inside = np.array(part.grid.shape) - 1
    place = inside + np.array(window.start)
    np.testing.assert_allclose(
        part.grid.index_to_world(inside), grid.index_to_world(place), rtol=1e-12, atol=1e-9
    )
    assert part.array[(0, *inside)] == array[(0, *place)]
    assert part.valid[tuple(inside)] == valid[tuple(place)]


@given(grids_with_windows())
def test_cropping_twice_is_cropping_once(case):
    grid, window = case
    inner = Window(tuple(n // 2 for n in window.shape), tuple(n - n // 2 for n in window.shape))
    twice = grid.cropped(window).cropped(inner)
    assert twice.difference(grid.cropped(inner.shifted(window.start))) is None


@given(grids(), st.lists(st.integers(1, 4), min_size=3, max_size=3))
def test_a_coarser_voxel_covers_the_voxels_it_stands_for(grid, factors):
    factors = tuple(factors[: len(grid.shape)])
    coarse = grid.coarser(factors)
    centre = 0.0 if grid.anchor == "center" else 0.5
    index = np.ones(len(factors))
    middle = index * factors + (np.array(factors) - 1) / 2
    np.testing.assert_allclose(
        coarse.index_to_world(index + centre), grid.index_to_world(middle + centre), atol=1e-8
    )
    assert coarse.shape == tuple(-(-n // f) for n, f in zip(grid.shape, factors, strict=True))
    np.testing.assert_allclose(coarse.spacing, np.multiply(grid.spacing, factors))


@given(grids())
def test_a_grid_survives_json(grid):
    assert Grid.from_json(grid.to_json()) == grid


@given(grids(), st.integers(0, 2))
def test_a_shift_by_half_a_voxel_is_a_difference_and_rounding_is_none(grid, axis):
    axis %= len(grid.shape)
    moved = grid.matrix
    moved[:-1, -1] += 0.5 * moved[:-1, axis]
    rounded = grid.matrix.astype(np.float32).astype(np.float64)
    rounded[:-1, -1] = np.round(grid.matrix[:-1, -1], 5)
    assert "0.5 voxels" in (grid.difference(Grid(grid.shape, as_affine(moved))) or "")
    assert grid.difference(Grid(grid.shape, as_affine(rounded))) is None
