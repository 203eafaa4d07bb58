"""Whether probabilities can be trusted: among voxels given 80 %, are 80 % right?

Stored probabilities are bytes, so that counts by byte are all there is to know: they are integers
and add up in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.companion_store import CERTAIN, ProbabilityStore
from pipeline.space import Window

BINS = 15
"""Of equal width, as in Guo et al. 2017."""


def names_classes(store: ProbabilityStore, names: Sequence[str]) -> bool:
    """Whether a store holds one probability per class: regions that overlap are not calibrated."""
    return store.channels == tuple(names)


def confidence_counts(
    mask: NDArray[Any], truth: NDArray[Any], store: ProbabilityStore, window: Window
) -> NDArray[np.int64]:
    """Count voxels by the probability of the label they were given.

    Args:
        mask: Predicted labels of a window, (*S); labels without a channel are no data.
        truth: True labels, likewise.
        store: Probabilities beside the mask.
        window: Where.

    Returns:
        (2, 256): by stored probability, of voxels given a wrong label and of those given the right.
    """
    stored = store.read_stored(window)
    known = (mask < len(stored)) & (truth < len(stored))
    given = np.take_along_axis(stored, np.where(known, mask, 0)[None], 0)[0][known]
    right = mask[known] == truth[known]
    return np.stack([np.bincount(given[right == side], minlength=256) for side in (False, True)])


def summarise_confidence(counts: NDArray[np.int64]) -> dict[str, Any] | None:
    """Expected calibration error and its bins.

    ECE = Σ over bins of (share of voxels) x |accuracy - mean confidence| (Naeini et al. 2015).

    Args:
        counts: (2, 256), as ``confidence_counts`` gives them, added up.

    Returns:
        ``ece`` and ``bins``; None where nothing was counted.
    """
    if not counts.sum():
        return None
    levels = np.arange(256) / CERTAIN
    of_bin = np.minimum(np.arange(256) * BINS // CERTAIN, BINS - 1)
    bins, error = [], 0.0
    for number in range(BINS):
        here = counts[:, of_bin == number]
        voxels = int(here.sum())
        row = {"low": number / BINS, "high": (number + 1) / BINS, "count": voxels}
        confidence = accuracy = None
        if voxels:
            confidence = float(here.sum(axis=0) @ levels[of_bin == number]) / voxels
            accuracy = int(here[1].sum()) / voxels
            error += voxels * abs(accuracy - confidence)
        bins.append({**row, "confidence": confidence, "accuracy": accuracy})
    return {"ece": error / int(counts.sum()), "bins": bins}
