"""A box of voxels: start and shape."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import GridError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """A box of voxels in an array's spatial axes.

    Example:
        >>> Window((2, 0), (3, 4)).stop
        (5, 4)
    """

    start: Shape
    """First voxel on each axis, (Z, Y, X) or (Y, X). May be negative: outside the array."""
    shape: Shape
    """Voxels on each axis, same axes. Never negative; 0 is the empty window."""

    def __post_init__(self) -> None:
        if len(self.start) != len(self.shape) or any(n < 0 for n in self.shape):
            raise GridError(
                f"a window starts at {self.start} with shape {self.shape}: both need the same "
                "number of axes and no negative size"
            )

    @classmethod
    def whole(cls, shape: Shape) -> Window:
        """The window that is the whole of an array of this shape."""
        return cls((0,) * len(shape), tuple(shape))

    @classmethod
    def between(cls, start: Shape, stop: Shape) -> Window:
        """The window from ``start`` to ``stop`` (exclusive); empty where they cross."""
        return cls(tuple(start), tuple(max(0, b - a) for a, b in zip(start, stop, strict=True)))

    @property
    def stop(self) -> Shape:
        """One past the last voxel on each axis."""
        return tuple(a + n for a, n in zip(self.start, self.shape, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """Slices that cut the window out of an array; refuse windows that start outside.

        Raises:
            GridError: The window starts before the array's first voxel.
        """
        if any(a < 0 for a in self.start):
            raise GridError(
                f"window {self.start}..{self.stop} starts outside the array: clip it first"
            )
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Voxels in the window."""
        total = 1
        for n in self.shape:
            total *= n
        return total

    def shifted(self, offset: Shape) -> Window:
        """The same box, moved by ``offset`` voxels."""
        return Window(tuple(a + d for a, d in zip(self.start, offset, strict=True)), self.shape)

    def relative_to(self, other: Window) -> Window:
        """This box in the coordinates of an array that was cut with ``other``."""
        return self.shifted(tuple(-a for a in other.start))

    def grown(self, before: Shape, after: Shape | None = None) -> Window:
        """The box with ``before`` voxels more at its start and ``after`` (or the same) at its end.

        Example:
            >>> Window((4,), (2,)).grown((1,))
            Window(start=(3,), shape=(4,))
        """
        after = before if after is None else after
        start = tuple(a - n for a, n in zip(self.start, before, strict=True))
        return Window.between(start, tuple(b + n for b, n in zip(self.stop, after, strict=True)))

    def clipped(self, shape: Shape) -> Window:
        """The part of the box inside an array of ``shape``."""
        return self.intersection(Window.whole(shape))

    def intersection(self, other: Window) -> Window:
        """The voxels in both boxes; empty where they only touch."""
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Window.between(start, stop)

    def contains(self, other: Window) -> bool:
        """Whether every voxel of ``other`` is in this box."""
        return all(a <= b for a, b in zip(self.start, other.start, strict=True)) and all(
            a >= b for a, b in zip(self.stop, other.stop, strict=True)
        )
