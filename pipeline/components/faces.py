"""What a block hands on: its part numbers where it meets other blocks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.components.parts import grown_window
from pipeline.space import Shape, Window


@dataclass(frozen=True)
class Face:
    """Part numbers on one side of a block, packed.

    Every voxel of a block's grown layer is another block's own, and lies on that block's lower
    side of the same axis: there the numbers of both meet.
    """

    axis: int
    """The axis it is across."""
    upper: bool
    """Whether it is of the grown layer at the block's end, not the block's own first plane."""
    window: Window
    """Its voxels in the volume, one thick on ``axis``."""
    own: Window
    """Those beside the block itself: ``window`` without what was grown on other axes."""
    packed: bytes
    """Part numbers, int32 in C order, by zlib."""

    @property
    def parts(self) -> NDArray[np.int32]:
        """Part numbers from 1, 0 where there is no data, in the shape of ``window``."""
        return np.frombuffer(zlib.decompress(self.packed), np.int32).reshape(self.window.shape)

    @property
    def awaited(self) -> Window:
        """What the faces it must meet cover: an upper one's voxels, or the blocks behind a lower.

        A lower face meets the grown layers of all blocks behind it, those beside them at lower
        indices included.
        """
        if self.upper:
            return self.window
        before = tuple(int(axis != self.axis) for axis in range(len(self.window.shape)))
        start = tuple(max(0, a - n) for a, n in zip(self.window.start, before, strict=True))
        return Window.between(start, self.window.stop)


def cut_faces(parts: NDArray[np.int32], window: Window, shape: Shape) -> Iterator[Face]:
    """Cut the sides of a block where there are other blocks.

    Args:
        parts: Part numbers in the block's grown window.
        window: The block.
        shape: The volume's size in voxels.
    """
    grown = grown_window(window, shape)
    for axis in range(len(shape)):
        first, end = window.start[axis], window.stop[axis]
        if first > 0:
            lower = _plane(window, axis, first)
            yield Face(axis, False, lower, lower, _packed(parts, lower.relative_to(grown)))
        if end < shape[axis]:
            upper = _plane(grown, axis, end)
            packed = _packed(parts, upper.relative_to(grown))
            yield Face(axis, True, upper, _plane(window, axis, end), packed)


def _plane(box: Window, axis: int, index: int) -> Window:
    start, shape = [*box.start], [*box.shape]
    start[axis], shape[axis] = index, 1
    return Window(tuple(start), tuple(shape))


def _packed(parts: NDArray[np.int32], box: Window) -> bytes:
    return zlib.compress(parts[box.slices].tobytes(), level=1)
