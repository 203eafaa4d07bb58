"""Rotation, scaling, elastic deformation and mirroring of image and truth alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from monai.transforms import AffineGrid, Resample
from torch import Tensor
from torch.nn import functional

from pipeline.space import Shape
from pipeline.space.resampling import ANISOTROPY
from pipeline.training.settings import ElasticSettings
from pipeline.training.transforms.tensors import plain, within_slices

ROTATED, SCALED = 0.2, 0.2
"""Shares of the patches, drawn independently."""
SCALES = (0.7, 1.4)
"""Factors of scaling, one for all axes; a larger one shows more and makes things smaller."""
ANGLE_3D, ANGLE_2D, ANGLE_ELONGATED = np.pi / 6, np.pi, np.pi / 12
"""Most rotation: about each of three axes; in a plane; in a plane much longer than wide, which
turned further would look past what is stored."""
MOST_CLASSES = 8
"""In a patch, up to which their shares of a voxel are compared; else the nearest voxel counts."""
ELONGATED = 1.5
"""Length over width of a patch, from which it is elongated."""


@dataclass(frozen=True)
class Movement:
    """What was drawn for a patch."""

    angles: tuple[float, ...] = ()
    """Radians, about each axis, or one in a plane; none: it is not rotated."""
    scale: float = 1.0
    """Length in the stored patch of a step of one voxel in the result."""
    shifts: Tensor | None = None
    """Elastic deformation, (axes, *S) voxels; None: none."""


class SpatialTransform:
    """Rotates, scales and deforms image and truth alike, about the middle of the stored patch.

    Where there is a coarse axis all happens within its slices (nnU-Net's dummy 2-D), on each slice
    alike; voxels of different slices are never mixed.

    Args:
        patch_shape: Voxels of the result, S.
        strength: 1 is nnU-Net's.
        elastic: Elastic deformation, at its own strength; None: none, as nnU-Net.
        coarse: The axis of slices far apart; None: there is none.
        mirrored: Whether the image outside is its mirror image; else it is 0. Truth is 0 there.
    """

    def __init__(
        self,
        patch_shape: Shape,
        strength: float,
        elastic: ElasticSettings | None,
        coarse: int | None,
        mirrored: bool,
    ) -> None:
        self._shape = tuple(n for axis, n in enumerate(patch_shape) if axis != coarse)
        self._strength = strength
        self._elastic = elastic
        self._coarse = coarse
        self._scales = tuple(factor**strength for factor in SCALES)
        self._angle = min(_most_rotation(self._shape) * strength, np.pi)
        border = "reflection" if mirrored else "zeros"
        # MONAI's own choice, float64, takes up to twice the time.
        self._image = Resample(mode="bilinear", padding_mode=border, dtype=np.float32)
        self._truth = Resample(mode="nearest", padding_mode="zeros", dtype=np.float32)
        self._shares = Resample(mode="bilinear", padding_mode="zeros", dtype=np.float32)

    def draw(self, random: np.random.RandomState) -> Movement | None:
        """What happens to a patch; None: nothing, it can be cut out as it is."""
        rotated, scaled = random.random_sample(2) < np.array([ROTATED, SCALED]) * self._strength
        elastic = self._elastic
        deformed = elastic is not None and random.random_sample() < elastic.probability
        if not (rotated or scaled or deformed):
            return None
        angles: tuple[float, ...] = ()
        if rotated:
            axes = 3 if len(self._shape) == 3 else 1
            angles = tuple(random.uniform(-self._angle, self._angle, axes))
        scale = random.uniform(*self._scales) if scaled else 1.0
        shifts = self._shifts(elastic, random) if deformed and elastic is not None else None
        return Movement(angles, scale, shifts)

    def __call__(
        self, image: Tensor, truth: Tensor, movement: Movement, *, classes: bool
    ) -> tuple[Tensor, Tensor]:
        """Carry a movement out.

        Args:
            image: (C, *P) float32; on the coarse axis, if any, already of the result's size.
            truth: What is learnt, where it is known (1 or 0), and other maps, (M, *P) float32;
                values are not mixed.
            movement: What was drawn.
            classes: Whether what is learnt are classes: a voxel is of the one that has most of it.

        Returns:
            Image (C, *S) and truth (M, *S).
        """
        grid = self._grid(movement, image.device)
        image = within_slices(partial(self._image, grid=grid), image, self._coarse)
        moved = within_slices(partial(self._truth, grid=grid), truth, self._coarse)
        present = _present(truth[0]) if classes else truth.new_empty(0)
        if 1 < len(present) <= MOST_CLASSES:
            values = present.reshape(-1, *(1,) * (truth.ndim - 1))
            shares = ((truth[0] == values) & (truth[1] > 0)).float()
            shares = within_slices(partial(self._shares, grid=grid), shares, self._coarse)
            # max, since argmax over the first axis takes eight times as long.
            moved[0] = present[shares.max(0).indices]
        return image, moved

    def _grid(self, movement: Movement, device: torch.device) -> Tensor:
        """Where each voxel of the result comes from, in voxels from the middle of the patch."""
        affine = AffineGrid(
            rotate_params=movement.angles or None,
            scale_params=(movement.scale,) * len(self._shape),
            device=device,
        )
        grid = plain(affine(self._shape)[0])
        if movement.shifts is not None:
            grid[: len(self._shape)] += movement.shifts.to(device)
        return grid

    def _shifts(self, elastic: ElasticSettings, random: np.random.RandomState) -> Tensor:
        """Movements of some points, interpolated between them, (axes, *S) voxels."""
        ndim = len(self._shape)
        points = random.normal(0, elastic.std, (1, ndim, *(elastic.points,) * ndim))
        return functional.interpolate(
            torch.from_numpy(points).float(),
            size=self._shape,
            mode="bicubic" if ndim == 2 else "trilinear",
            align_corners=True,
        )[0]


def _present(labels: Tensor) -> Tensor:
    """Classes that occur, ascending, as a tensor of the labels' dtype."""
    return labels.long().flatten().bincount().nonzero()[:, 0].to(labels.dtype)


def coarse_axis(patch_shape: Shape, spacing: Sequence[float] | None = None) -> int | None:
    """The axis of slices that a 3-D patch is never turned out of; None: all axes are alike.

    nnU-Net's threshold, a ratio of three: of spacings, or, where these say nothing, of the patch's
    lengths, since a patch so thin would look past its ends.

    Example:
        >>> coarse_axis((12, 192, 192), (5.0, 1.0, 1.0)), coarse_axis((96, 96, 24))
        (0, 2)
        >>> coarse_axis((40, 56, 40), (1.0, 1.0, 1.0)) is None
        True
    """
    if len(patch_shape) != 3:
        return None
    if spacing is not None and max(spacing) > ANISOTROPY * min(spacing):
        widest = [axis for axis, step in enumerate(spacing) if step == max(spacing)]
        if len(widest) == 1:
            return widest[0]
    thin = max(patch_shape) > ANISOTROPY * min(patch_shape)
    return patch_shape.index(min(patch_shape)) if thin else None


def _most_rotation(shape: Shape) -> float:
    """Radians."""
    if len(shape) == 3:
        return ANGLE_3D
    return ANGLE_ELONGATED if max(shape) > ELONGATED * min(shape) else ANGLE_2D


def mirrored_at_random(
    image: Tensor, truth: Tensor, random: np.random.RandomState
) -> tuple[Tensor, Tensor]:
    """Flip each axis of every other patch; in 2-D turn a square one by 90 degrees besides."""
    ndim = image.ndim - 1
    axes = [a + 1 for a in range(ndim) if random.random_sample() < 0.5]
    image, truth = image.flip(axes), truth.flip(axes)
    if ndim == 2 and image.shape[1] == image.shape[2]:
        turns = int(random.randint(4))
        image, truth = image.rot90(turns, (1, 2)), truth.rot90(turns, (1, 2))
    return image, truth
