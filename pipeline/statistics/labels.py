"""How many voxels each class has, and where some of them are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GridError
from pipeline.space import Shape, Window, aligned_windows
from pipeline.statistics.positions import Positions

# Up to so many classes are counted fastest one by one.
FEW_CLASSES = 16


class Labels:
    """Collects the labels of a case.

    Args:
        shape: The volume's spatial shape.
        classes: Number of classes; labels above are no class.
        chunk: Size of the blocks in which voxels are drawn.
    """

    def __init__(self, shape: Shape, classes: int, chunk: Shape) -> None:
        self._shape = shape
        self._chunk = chunk
        self._counts = [0] * classes
        self._positions = [Positions() for _ in range(classes)]

    def add(self, window: Window, truth: NDArray[Any], valid: NDArray[np.bool_] | None) -> None:
        """Take in a box of whole chunks.

        Args:
            window: Where it lies in the volume.
            truth: Its labels, (*S).
            valid: Where it holds data, (*S); None: everywhere.

        Raises:
            GridError: The box shares a chunk with another one.
        """
        self._refuse_part_of_a_chunk(window)
        for block in aligned_windows(window.shape, self._chunk):
            labels = np.ascontiguousarray(truth[block.slices])
            if valid is not None:
                # 0 where valid; elsewhere all bits, which is the label that means no data.
                labels = labels | (valid[block.slices].astype(labels.dtype) - 1)
            self._add_block(block.shifted(window.start), labels)

    def _refuse_part_of_a_chunk(self, window: Window) -> None:
        axes = zip(window.start, window.stop, self._chunk, self._shape, strict=True)
        if not all(a % c == 0 and (b % c == 0 or b == n) for a, b, c, n in axes):
            raise GridError(
                f"statistics of {window.start}..{window.stop} in {self._shape}, chunks are "
                f"{self._chunk}: boxes start and end on chunk borders; plan them with "
                "aligned_windows()"
            )

    def _add_block(self, block: Window, labels: NDArray[Any]) -> None:
        place = tuple(a // c for a, c in zip(block.start, self._chunk, strict=True))
        left = labels.size
        for label in self._candidates(labels):
            if left == 0:
                break
            here = labels == label
            count = int(np.count_nonzero(here))
            if count == 0:
                continue
            left -= count
            self._counts[label] += count

            def find(numbers: NDArray[np.int64], here: NDArray[np.bool_] = here) -> Any:
                inside = numbers if here.all() else np.flatnonzero(here)[numbers]
                index = np.unravel_index(inside, block.shape)
                absolute = [i + a for i, a in zip(index, block.start, strict=True)]
                return np.ravel_multi_index(tuple(absolute), self._shape)

            self._positions[label].add(label, place, count, find)

    def _candidates(self, labels: NDArray[Any]) -> list[int]:
        """Classes that a block may hold."""
        classes = len(self._counts)
        if classes <= FEW_CLASSES:
            return list(range(classes))
        return np.flatnonzero(np.bincount(labels.reshape(-1))[:classes]).tolist()

    def merge(self, other: Labels) -> None:
        """Take in what another collected from other boxes."""
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        for mine, theirs in zip(self._positions, other._positions, strict=True):
            mine.merge(theirs)

    def to_json(self) -> dict[str, Any]:
        """``class_voxels``, exact, and ``positions``, indices of a few voxels of each class."""
        return {
            "class_voxels": list(self._counts),
            "positions": [p.to_json(self._shape) for p in self._positions],
        }
