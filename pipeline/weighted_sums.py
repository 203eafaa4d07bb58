"""Logits of overlapping tiles, weighted and added up in the rows of a box that tiles still meet."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from pipeline.space import Shape, Window


class WeightedSums:
    """Weighted logits of overlapping tiles, added up in some rows of a box."""

    def __init__(self, total: Tensor, divisor: Tensor, end: int) -> None:
        self._total = total
        self._divisor = divisor
        self._first, self._end = 0, end

    @classmethod
    def of(cls, logits: Tensor, shape: Shape, rows: int) -> WeightedSums:
        """Zeros for a box of this shape, in whose first axis no tile has more than ``rows``."""
        held = (min(rows, shape[0]), *shape[1:])
        return cls(logits.new_zeros((len(logits), *held)), logits.new_zeros(held), shape[0])

    def add(self, place: Window, weighed: Tensor, weights: Tensor) -> None:
        """Add a tile's part in a window of the box, whose rows are held."""
        held = place.shifted((-self._first, *(0 for _ in place.shape[1:]))).slices
        self._total[(slice(None), *held)] += weighed
        self._divisor[held] += weights

    def rows_above(self, row: int) -> Iterator[tuple[int, Tensor]]:
        """The mean logits of held rows that lie above a row, and the first one's number."""
        while self._first < row:
            count = min(row - self._first, len(self._divisor), self._end - self._first)
            yield self._first, self._total[:, :count] / self._divisor[:count]
            for sums in (self._total.transpose(0, 1), self._divisor):
                rest = sums[count:].clone()
                sums[: len(rest)] = rest
                sums[len(rest) :] = 0
            self._first += count
