"""Statistics gathered box by box do not depend on the boxes, their order or their grouping."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.io.volume_store import no_label
from pipeline.space import Volume, aligned_windows, crop, voxel_grid
from pipeline.statistics import CaseStatistics

shapes = st.sampled_from([((23, 17), (5, 4)), ((9, 8, 7), (2, 4, 3)), ((1, 30), (1, 8))])
dtypes = st.sampled_from(["uint8", "int16", "int32", "uint32", "float32"])
seeds = st.integers(0, 2**32 - 1)


def case(shape, dtype, seed):
    """Give a case with truth and holes."""
    random = np.random.default_rng(seed)
    array = random.normal(90, 20, (2, *shape))
    array[1] = 10.0 ** random.integers(0, 3, shape) if dtype == "uint8" else array[1] ** 3
    array[:, random.random(shape) < 0.2] = 0
    valid = random.random(shape) < 0.9
    valid[(0,) * len(shape)] = True
    truth = random.choice([0, 1, 2, no_label("uint8")], shape).astype(np.uint8)
    return Volume(array.clip(0, 30_000).astype(dtype), voxel_grid(shape), valid), truth


def boxes(shape, chunk, random):
    """Give a cover by whole chunks, of random size and in random order."""
    step = tuple(
        c * int(random.integers(1, 1 + -(-n // c))) for n, c in zip(shape, chunk, strict=True)
    )
    windows = aligned_windows(shape, step)
    return [windows[i] for i in random.permutation(len(windows))]


def gathered(volume, truth, windows, chunk, random):
    """Give the statistics of windows dealt to several collectors, which are merged at last."""
    array = volume.array
    collectors = [
        CaseStatistics(volume.grid.shape, array.dtype, len(array), 3, 0, chunk)
        for _ in range(random.integers(1, 5))
    ]
    for window in windows:
        collector = collectors[random.integers(len(collectors))]
        collector.add(window, crop(volume, window), truth[window.slices])
    first, *others = collectors
    for other in others:
        first.merge(other)
    return first.to_json()


@given(shapes, dtypes, seeds)
def test_order_and_grouping_of_boxes_change_no_bit(kind, dtype, seed):
    shape, chunk = kind
    volume, truth = case(shape, dtype, seed)
    random = np.random.default_rng(seed)
    windows = boxes(shape, chunk, random)
    found = gathered(volume, truth, windows, chunk, random)
    shuffled = [windows[i] for i in random.permutation(len(windows))]
    again = gathered(volume, truth, shuffled, chunk, random)
    assert json.dumps(found) == json.dumps(again)


@given(shapes, dtypes, seeds)
def test_the_size_of_boxes_changes_nothing_but_the_last_digits_of_sums(kind, dtype, seed):
    shape, chunk = kind
    volume, truth = case(shape, dtype, seed)
    random = np.random.default_rng(seed)
    found, again = (
        gathered(volume, truth, boxes(shape, chunk, random), chunk, random) for _ in range(2)
    )
    for of in ("channels", "nonzero", "foreground"):
        for mine, theirs in zip(found[of], again[of], strict=True):
            for key in ("mean", "std"):
                one, other = mine.pop(key), theirs.pop(key)
                # Narrow integers are summed exactly; others in the order of the boxes.
                rtol = 0 if dtype in ("uint8", "int16") else 1e-10
                np.testing.assert_allclose(one, other, rtol=rtol)
    assert json.dumps(found) == json.dumps(again)


@given(seeds)
def test_bins_of_many_values_do_not_depend_on_the_boxes(seed):
    random = np.random.default_rng(seed)
    shape, chunk = (512, 512), (128, 256)
    spread = 10.0 ** random.integers(-3, 4)
    array = random.normal(random.integers(-5, 5), spread, (1, *shape)).astype(np.float32)
    volume, truth = Volume(array, voxel_grid(shape)), (array[0] > 0).astype(np.uint8)
    found, again = (
        gathered(volume, truth, boxes(shape, chunk, random), chunk, random) for _ in range(2)
    )
    for of in ("channels", "foreground"):
        for mine, theirs in zip(found[of], again[of], strict=True):
            assert mine["percentiles"] == theirs["percentiles"]
            assert mine.get("histogram") == theirs.get("histogram")
    assert found["positions"] == again["positions"]
