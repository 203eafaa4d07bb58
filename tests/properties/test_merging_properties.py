"""What is gathered window by window does not depend on the windows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import pipeline.statistics
from pipeline.io.volume_store import no_label
from pipeline.metrics import class_counts, confusion
from pipeline.space import Volume, Window, aligned_windows, crop, voxel_grid
from pipeline.statistics import CaseStatistics, Sample

shapes = st.sampled_from([(23, 17), (9, 8, 7), (1, 30), (4, 1, 25)])
seeds = st.integers(0, 2**32 - 1)


def cut(shape, seed):
    """Give a random cover in random order."""
    random = np.random.default_rng(seed)
    windows = aligned_windows(shape, tuple(int(random.integers(1, n + 1)) for n in shape))
    return [windows[i] for i in random.permutation(len(windows))]


def gathered(volume, truth, windows):
    statistics = CaseStatistics(volume.grid.shape, len(volume.array), 3, background=0)
    for window in windows:
        statistics.add(window, crop(volume, window), truth[window.slices])
    return statistics.to_json()


@given(shapes, seeds)
def test_case_statistics_are_the_same_for_every_cut(shape, seed):
    random = np.random.default_rng(seed)
    array = random.normal(50, 10, (2, *shape)).astype(np.float32)
    valid = random.random(shape) < 0.9
    valid[(0,) * len(shape)] = True
    truth = random.choice([0, 1, 2, no_label("uint8")], shape).astype(np.uint8)
    volume = Volume(array, voxel_grid(shape), valid)
    whole = gathered(volume, truth, [Window.whole(shape)])
    parts = gathered(volume, truth, cut(shape, seed))
    for kind in ("valid_voxels", "class_voxels", "positions", "foreground"):
        assert parts[kind] == whole[kind]
    for mine, theirs in zip(parts["channels"], whole["channels"], strict=True):
        assert (mine["min"], mine["max"]) == (theirs["min"], theirs["max"])
        assert mine["percentiles"] == theirs["percentiles"]
        # Sums of float64 in another order.
        np.testing.assert_allclose(
            (mine["mean"], mine["std"]), (theirs["mean"], theirs["std"]), rtol=1e-10
        )
    values = array[:, valid]
    np.testing.assert_allclose([c["mean"] for c in whole["channels"]], values.mean(1), rtol=1e-5)
    np.testing.assert_allclose([c["std"] for c in whole["channels"]], values.std(1), rtol=1e-5)


@given(st.integers(0, 200), st.integers(1, 50), seeds)
def test_a_sample_holds_the_same_items_however_they_came(count, size, seed):
    random = np.random.default_rng(seed)
    positions = random.choice(10_000, count, replace=False)
    one, other = Sample(size), Sample(size)
    one.add(positions, positions * 2)
    shuffled = random.permutation(positions)
    for part in np.array_split(shuffled, random.integers(1, 6)):
        other.add(part, part * 2)
    np.testing.assert_array_equal(one.items, other.items)
    assert len(one.items) == min(size, count)
    assert set(one.items) <= set(positions * 2)


def test_sampled_positions_are_spread_over_the_volume():
    sample = Sample(2_000)
    sample.add(np.arange(100_000), np.arange(100_000))
    counts = np.histogram(sample.items, 10, (0, 100_000))[0]
    # 200 expected in each tenth, standard deviation 13.
    assert counts.min() > 130 and counts.max() < 270


def test_a_case_gives_as_many_samples_as_the_constants_say():
    shape = (150, 150)
    volume = Volume(np.ones((1, *shape), np.uint8), voxel_grid(shape))
    found = gathered(volume, np.ones(shape, np.uint8), [Window.whole(shape)])
    assert found["foreground"][0]["voxels"] == pipeline.statistics.INTENSITIES
    assert [len(p) for p in found["positions"]] == [0, pipeline.statistics.POSITIONS, 0]


@given(shapes, seeds)
def test_confusion_of_parts_adds_up_to_the_whole(shape, seed):
    random = np.random.default_rng(seed)
    labels = [0, 1, 2, 255]
    mask, truth = (random.choice(labels, shape).astype(np.uint8) for _ in range(2))
    parts = sum(confusion(mask[w.slices], truth[w.slices], 3) for w in cut(shape, seed))
    whole = confusion(mask, truth, 3)
    np.testing.assert_array_equal(parts, whole)
    scored = (mask != 255) & (truth != 255)
    for label, counts in enumerate(class_counts(whole)):
        assert counts.tp == ((mask == label) & (truth == label) & scored).sum()
        assert counts.fp == ((mask == label) & (truth != label) & scored).sum()
        assert counts.fn == ((mask != label) & (truth == label) & scored).sum()
        assert counts.tn == scored.sum() - counts.tp - counts.fp - counts.fn
