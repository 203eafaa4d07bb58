"""From a case's own grid to the planned spacing and back: grids, windows and kernels, no voxels.

**Mapping.** The two grids cover the same box of the world, end on end: nnU-Net's and skimage's
convention. The planned voxels are as near to the wanted spacing as a whole number of them allows.

**Kernel.** Images are interpolated by cubic convolution (Keys 1981, "Cubic convolution
interpolation for digital image processing"): exact for parabolas, third-order accurate, and made
of four voxels per axis. nnU-Net uses cubic B-splines, which follow fine detail better (Thévenaz,
Blu and Unser 2000, "Interpolation revisited"). Measured on waves of up to 0.2 per voxel the error
is 1.5 % by convolution, 0.2 % by spline and 7 % by linear interpolation. But a spline's prefilter
runs along the whole axis: a block could equal the whole volume only nearly, would be read with a
halo of ten voxels instead of two, and what has no data would reach as far. Labels and logits are
interpolated linearly, as in nnU-Net: a kernel that never overshoots.

**Coarse axis.** Where a scan's slices are more than three times further apart than its pixels,
the slice axis takes the nearest slice (nnU-Net's ``order_z`` 0, Isensee et al. 2021): slices so
far apart move against each other, and a mean of two shows an anatomy that neither has.

**Low-pass.** Where voxels become larger the image kernel widens with them, as Pillow's and
torch's ``antialias``. nnU-Net samples instead (``anti_aliasing=False``), which folds detail finer
than the planned voxel into noise. A scanner with larger voxels averages over them: a fine scan
made coarse must look like one taken coarse, or spacing changes the noise the network meets.
Labels are sampled: their borders lie where they lay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import GridError
from pipeline.space.grid import Grid, as_affine
from pipeline.space.interpolation import Order, Taps, axis_taps, nearest_voxels
from pipeline.space.window import Shape, Window

SAME_SPACING = 0.01
"""Spacings closer than this share of each other count as equal: nothing is gained by moving
every voxel by less than the scanner's own error."""
ANISOTROPY = 3.0
"""Slices this many times further apart than pixels are not mixed (nnU-Net's threshold)."""


@dataclass(frozen=True)
class Resampling:
    """A case's own grid, its planned grid, and how voxels pass between them."""

    native: Grid
    """The grid the case came with, on which its mask is returned."""
    planned: Grid
    """The same box of the world at the planned spacing."""
    orders: tuple[Order, ...]
    """Kernel of the image on each axis; labels and logits use at most 1."""
    antialias: bool = True
    """Whether the image's kernel widens where voxels become larger."""

    @classmethod
    def to_spacing(
        cls,
        grid: Grid,
        spacing: Sequence[float],
        orders: tuple[Order, ...] | None = None,
        antialias: bool = True,
    ) -> Resampling:
        """The resampling of a grid to a spacing.

        An axis whose spacing is within 1 % of the wanted one stays as it is.

        Args:
            grid: The case's own.
            spacing: Wanted distance between voxels on each array axis, in the grid's unit.
            orders: Kernel on each axis; None: 3, but 0 along the one coarse axis of a scan.
            antialias: Whether the image's kernel widens where voxels become larger.

        Raises:
            GridError: ``spacing`` or ``orders`` has not one value for each axis, or a spacing is
                not a positive number.
        """
        chosen = tuple(orders or default_orders(grid.spacing, spacing))
        if not len(spacing) == len(chosen) == len(grid.shape):
            raise GridError(
                f"a spacing of {tuple(spacing)} and orders {chosen} do not fit a grid of "
                f"{grid.shape}: give one of each for every axis"
            )
        if not all(0 < v < float("inf") for v in (*spacing, *grid.spacing)):
            raise GridError(
                f"a grid with spacing {grid.spacing} cannot be resampled to {tuple(spacing)}: "
                "every spacing must be a positive number"
            )
        axes = zip(grid.shape, grid.spacing, spacing, strict=True)
        return cls(grid, resized(grid, tuple(_length(*axis) for axis in axes)), chosen, antialias)

    @property
    def is_identity(self) -> bool:
        """Whether the planned grid is the native one: no voxel needs to be touched."""
        return self.native.shape == self.planned.shape

    @property
    def linear(self) -> Resampling:
        """The same grids with kernels of order 1 at most: for numbers that must not overshoot."""
        orders: tuple[Order, ...] = tuple(0 if order == 0 else 1 for order in self.orders)
        return replace(self, orders=orders, antialias=False)

    def native_window(self, window: Window) -> Window:
        """The native voxels a planned window is made of: those of its image, labels, validity.

        Args:
            window: Inside the planned grid.

        Raises:
            GridError: It reaches outside.
        """
        return _spanned(self.image_taps(window))

    def planned_window(self, window: Window) -> Window:
        """The planned voxels whose logits a native window is made of.

        Args:
            window: Inside the native grid.

        Raises:
            GridError: It reaches outside.
        """
        return _spanned(self.logit_taps(window))

    def planned_voxel(self, voxel: Sequence[int]) -> Shape:
        """The planned voxel in which a native voxel's centre lies."""
        sizes = zip(voxel, self.native.shape, self.planned.shape, strict=True)
        return tuple((2 * int(v) + 1) * m // (2 * n) for v, n, m in sizes)

    def image_taps(self, window: Window) -> tuple[Taps, ...]:
        """What the image of a planned window is made of, axis by axis."""
        return self._taps(self.native, self.planned, window, 3, self.antialias)

    def label_taps(self, window: Window) -> tuple[Taps, ...]:
        """What the labels of a planned window are made of, axis by axis."""
        return self._taps(self.native, self.planned, window, 1, False)

    def logit_taps(self, window: Window) -> tuple[Taps, ...]:
        """What the logits of a native window are made of, axis by axis."""
        return self._taps(self.planned, self.native, window, 1, False)

    def nearest(self, window: Window) -> tuple[NDArray[np.int64], ...]:
        """The native voxels nearest to those of a planned window, axis by axis."""
        _refuse_outside(window, self.planned)
        bounds = zip(self.native.shape, self.planned.shape, window.start, window.stop, strict=True)
        return tuple(nearest_voxels(*axis) for axis in bounds)

    def _taps(
        self, source: Grid, target: Grid, window: Window, most: Order, antialias: bool
    ) -> tuple[Taps, ...]:
        _refuse_outside(window, target)
        axes = zip(source.shape, target.shape, window.start, window.stop, self.orders, strict=True)
        return tuple(
            axis_taps(n, m, start, stop, order if order < most else most, antialias)
            for n, m, start, stop, order in axes
        )


def default_orders(native: Sequence[float], planned: Sequence[float]) -> tuple[Order, ...]:
    """Cubic, but the nearest slice along the one coarse axis of a scan.

    Args:
        native: Spacing of the case, on each axis.
        planned: Spacing of the plan, which counts where the case itself has no coarse axis.

    Example:
        >>> default_orders((5.0, 0.8, 0.8), (4.0, 1.0, 1.0))
        (0, 3, 3)
    """
    coarse = _coarse_axis(native)
    if coarse is None:
        coarse = _coarse_axis(planned)
    return tuple(0 if axis == coarse else 3 for axis in range(len(native)))


def _coarse_axis(spacing: Sequence[float]) -> int | None:
    """The axis of a volume's slices; None where there is no such axis, or not one alone."""
    largest = max(spacing)
    axes = [axis for axis, v in enumerate(spacing) if v == largest]
    anisotropic = len(spacing) == 3 and largest > ANISOTROPY * min(spacing)
    return axes[0] if anisotropic and len(axes) == 1 else None


def _length(size: int, native: float, planned: float) -> int:
    """Voxels an axis has at the planned spacing."""
    if abs(native - planned) < SAME_SPACING * planned:
        return size
    return max(1, round(native / planned * size))


def resized(grid: Grid, shape: Shape) -> Grid:
    """The grid that covers the same box of the world with another number of voxels."""
    if shape == grid.shape:
        return grid
    ratio = np.divide(grid.shape, shape)
    matrix = grid.matrix.copy()
    matrix[:-1, :-1] *= ratio
    if grid.anchor == "center":
        matrix[:-1, -1] = grid.index_to_world((ratio - 1) / 2)
    return Grid(shape, as_affine(matrix), grid.unit, grid.crs, grid.anchor)


def changed_axes(source: Shape, target: Shape) -> list[int]:
    """The axes that change their length, the one that shrinks most first: least work.

    Example:
        >>> changed_axes((10, 10, 10), (10, 20, 5))
        [2, 1]
    """
    changed = [axis for axis, n in enumerate(source) if n != target[axis]]
    # Of equal ones the last first, whose voxels are the dearest to pick.
    return sorted(changed, key=lambda axis: (target[axis] / source[axis], -axis))


def _spanned(taps: Sequence[Taps]) -> Window:
    spans = [t.span for t in taps]
    return Window.between(tuple(a for a, _ in spans), tuple(b for _, b in spans))


def _refuse_outside(window: Window, grid: Grid) -> None:
    if not Window.whole(grid.shape).contains(window):
        raise GridError(
            f"window {window.start}..{window.stop} reaches outside {grid.shape}: "
            "clip it with Window.clipped()"
        )
