"""What the numbers of a regression's truth are like."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.space import Shape
from pipeline.statistics.intensities import Box, Foreground
from pipeline.statistics.moments import Moments, Parts, joined_in_order, measured


class Numbers:
    """Collects the numbers of a case's truth."""

    def __init__(self) -> None:
        self._parts: Parts = {}
        self._low = inf
        self._high = -inf
        self._infinite = 0

    def add(self, start: Shape, truth: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        """Take in a box.

        Args:
            start: Its first voxel in the volume.
            truth: Its numbers, (*S); those that are not finite are none.
            valid: Where it holds data, (*S); None: everywhere.
        """
        infinite = np.isinf(truth)
        self._infinite += int(np.count_nonzero(infinite if valid is None else infinite & valid))
        told = np.isfinite(truth) if valid is None else np.isfinite(truth) & valid
        moments = Moments()
        for values, *_ in Box(truth, told, None, Foreground(0, None)).pieces():
            moments = moments.joined(measured(values))
            self._low = min(self._low, float(values.min()))
            self._high = max(self._high, float(values.max()))
        self._parts[start] = moments

    def merge(self, other: Numbers) -> None:
        """Take in what another collected from other boxes."""
        self._parts |= other._parts
        self._low, self._high = min(self._low, other._low), max(self._high, other._high)
        self._infinite += other._infinite

    def to_json(self) -> dict[str, Any]:
        """Count, mean, std, min and max, null where nothing is counted; and what was infinite."""
        moments = joined_in_order(self._parts)
        figures = dict.fromkeys(("mean", "std", "min", "max"))
        if moments.count:
            ends = (self._low, self._high)
            figures = dict(zip(figures, (moments.mean, moments.std, *ends), strict=True))
        return {"count": moments.count, **figures, "infinite": self._infinite}
