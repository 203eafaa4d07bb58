"""What is gathered window by window does not depend on the windows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics import class_counts, confusion
from pipeline.space import aligned_windows

shapes = st.sampled_from([(23, 17), (9, 8, 7), (1, 30), (4, 1, 25)])
seeds = st.integers(0, 2**32 - 1)


def cut(shape, seed):
    """Give a random cover in random order."""
    random = np.random.default_rng(seed)
    windows = aligned_windows(shape, tuple(int(random.integers(1, n + 1)) for n in shape))
    return [windows[i] for i in random.permutation(len(windows))]


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
