"""All statistics of a case, box by box; the same JSON however the boxes were grouped.

Whole numbers of up to 16 bits are counted exactly, and so are their mean, standard deviation and
percentiles. Floats fall into bins of at most about 0.1 %, far less where they are alike; whole
numbers of 32 bits that take more than 65,536 values into bins of a 30,000th of their range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.space import Shape, Volume, Window
from pipeline.statistics.extent import joined, nonzero_voxels, nonzero_window
from pipeline.statistics.intensities import Box, Foreground, Intensities
from pipeline.statistics.labels import Labels
from pipeline.statistics.numbers import Numbers

NO_LABEL = 255


class CaseStatistics:
    """Collects a case's statistics.

    Each part of a case may be collected by itself, on a thread or a machine of its own: merged,
    in any order, the parts say the same as if one had seen all.

    Args:
        shape: The volume's spatial shape.
        dtype: Type of its voxels.
        channels: Number of channels.
        classes: Number of classes; 0 where the case has no truth.
        background: Label of the background, which is left out of the foreground's statistics.
        chunk: Chunk of the store, spatial axes; boxes are whole chunks.
        numbers: Whether the truth holds numbers of a regression; then there are no classes.
    """

    def __init__(
        self,
        shape: Shape,
        dtype: DTypeLike,
        channels: int,
        classes: int,
        background: int | None,
        chunk: Shape,
        *,
        numbers: bool = False,
    ) -> None:
        self.valid_voxels = 0
        """Voxels that hold data."""
        self._foreground = Foreground(classes, background)
        self._nonzero: Window | None = None
        # Voxels that have a number are counted and drawn like those of a class.
        self._labels = Labels(shape, 1 if numbers else classes, chunk)
        self._numbers = Numbers() if numbers else None
        self._channels = [
            Intensities(np.dtype(dtype), channels, labelled=classes > 0) for _ in range(channels)
        ]

    def add(self, window: Window, volume: Volume, truth: NDArray[Any] | None) -> None:
        """Take in one box; every voxel of the volume comes once.

        Args:
            window: Where it lies in the volume: whole chunks.
            volume: Voxels, (C, *S), and validity.
            truth: Labels, or numbers, (*S); None where the case has no truth.

        Raises:
            GridError: The box shares a chunk with another one.
        """
        valid = None if volume.valid is None or volume.valid.all() else volume.valid
        voxels = window.size if valid is None else int(np.count_nonzero(valid))
        if voxels == 0:
            return
        self.valid_voxels += voxels
        nonzero = nonzero_window(volume.array, valid)
        if nonzero is not None:
            self._nonzero = joined(self._nonzero, nonzero.shifted(window.start))
        if truth is not None and self._numbers is not None:
            self._numbers.add(window.start, truth, valid)
            told = np.where(np.isfinite(truth), np.uint8(0), np.uint8(NO_LABEL))
            self._labels.add(window, told, valid)
            truth = None  # of no class
        elif truth is not None:
            self._labels.add(window, truth, valid)
        seen = nonzero_voxels(volume.array)
        zeros = voxels - int(np.count_nonzero(seen if valid is None else seen & valid))
        some = seen if zeros else None
        for intensities, values in zip(self._channels, volume.array, strict=True):
            box = Box(values, valid, truth, self._foreground, some, zeros)
            intensities.add(window.start, box)

    def merge(self, other: CaseStatistics) -> None:
        """Take in what another collected from other boxes of the same case."""
        self.valid_voxels += other.valid_voxels
        self._nonzero = joined(self._nonzero, other._nonzero)
        self._labels.merge(other._labels)
        if self._numbers is not None and other._numbers is not None:
            self._numbers.merge(other._numbers)
        for mine, theirs in zip(self._channels, other._channels, strict=True):
            mine.merge(theirs)

    def to_json(self) -> dict[str, Any]:
        """The statistics as JSON values, once a voxel holds data.

        Returns:
            ``valid_voxels``; ``nonzero_box``: start and stop of the box of all voxels that are not
            zero, or null; ``channels``: mean, std, min, max, percentiles and histogram of each
            channel; ``nonzero``: voxels, mean and std of each channel in the voxels of which any
            channel is not zero, empty where there are none; ``foreground``: voxels, mean, std and
            percentiles of each channel in the voxels of classes other than the background, empty
            where there are none; ``class_voxels``: voxels of each class; ``positions``: indices of
            at most 256 voxels of each class, drawn at random. Of a regression the voxels with a
            number are as those of one class that is no foreground, and ``target`` holds count,
            mean, std, min and max of their numbers (null where there are none), and how many voxels
            were ``infinite``.
        """
        box = self._nonzero
        labelled = self._labels.to_json()
        counts = enumerate(labelled["class_voxels"])
        seen = sum(n for label, n in counts if label != self._foreground.background)
        if self._numbers is not None:
            labelled["target"], seen = self._numbers.to_json(), 0
        return {
            "valid_voxels": self.valid_voxels,
            "nonzero_box": box and {"start": list(box.start), "stop": list(box.stop)},
            "channels": [c.to_json() for c in self._channels],
            "nonzero": [c.nonzero_to_json() for c in self._channels] if box else [],
            "foreground": [c.foreground_to_json() for c in self._channels] if seen else [],
            **labelled,
        }
