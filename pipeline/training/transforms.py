"""Augmentation with MONAI, a pure function of the patch's number and its position in training.

Probabilities follow nnU-Net (Isensee et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffineGrid,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandSimulateLowResolution,
    Resample,
)
from monai.transforms.utils import create_grid
from torch import Tensor
from torch.nn import functional

from pipeline.io.patch_store import Patch
from pipeline.space import Shape
from pipeline.training.settings import ElasticSettings


class Augment:
    """Makes a training patch of the network's size out of a larger stored one.

    Args:
        patch_shape: Voxels of the result.
        strength: 0 leaves the patch as it is but for its place; 1 is nnU-Net's.
        mirror: Whether to flip, and in 2-D to turn by 90 degrees.
        no_label: What stands where the loss must not look: a label, or NaN.
        elastic: Elastic deformation; None: none.
        mirrored: Whether the image goes on as its mirror image where a turned patch looks past
            the stored one; else it is 0 there. There is no label there in either case.
    """

    def __init__(
        self,
        patch_shape: Shape,
        strength: float,
        mirror: bool,
        no_label: float,
        elastic: ElasticSettings | None = None,
        mirrored: bool = False,
    ) -> None:
        self._shape = patch_shape
        self._no_label = no_label
        self._mirror = mirror
        self._elastic = elastic
        self._affine_probability = 0.3 * min(strength, 1.0)
        ndim = len(patch_shape)
        angle, zoom = np.deg2rad(30 if ndim == 3 else 45) * strength, 0.25 * strength
        self._affine = RandAffineGrid(
            rotate_range=[angle] * (3 if ndim == 3 else 1), scale_range=[zoom] * ndim
        )
        border = "reflection" if mirrored else "zeros"
        self._resample_image = Resample(mode="bilinear", padding_mode=border)
        self._resample_label = Resample(mode="nearest", padding_mode="zeros")
        self._intensity = Compose(
            [
                RandGaussianNoise(prob=0.1 * strength, std=0.3 * strength),
                RandGaussianSmooth(prob=0.1 * strength, **_sigmas(ndim)),
                RandScaleIntensity(prob=0.15 * strength, factors=0.25 * strength),
                RandAdjustContrast(
                    prob=0.3 * strength, gamma=(0.7, 1.5), retain_stats=True, invert_image=False
                ),
                RandSimulateLowResolution(
                    prob=0.1 * strength,
                    zoom_range=(0.5, 1.0),
                    upsample_mode="trilinear" if ndim == 3 else "bilinear",
                ),
            ]
            if strength > 0
            else []
        )

    def __call__(self, patch: Patch, seed: int) -> dict[str, Tensor]:
        """Augment one patch.

        Args:
            patch: As stored.
            seed: Decides everything that is random.

        Returns:
            ``image`` (C, *S) float32, ``label`` (*S) int64, or float32 in a regression, and
            ``weight`` (*S) float32 where the patch has weights; S the network's patch.
        """
        random = np.random.RandomState(seed % 2**32)
        image, truth = torch.from_numpy(patch.image.astype(np.float32)), self._truth(patch)
        affine = random.random() < self._affine_probability
        elastic = self._elastic is not None and random.random() < self._elastic.probability
        if affine or elastic:
            grid = self._grid(affine, self._elastic if elastic else None, random)
            image = _plain(self._resample_image(image, grid=grid))
            truth = _plain(self._resample_label(truth, grid=grid))
        else:
            box = self._box(truth.shape[1:], random)
            image, truth = image[(slice(None), *box)], truth[(slice(None), *box)]
        if self._mirror:
            image, truth = _turned(image, truth, random)
        self._intensity.set_random_state(int(random.randint(2**31)))
        image = _plain(self._intensity(image.contiguous())).float().contiguous()
        return {"image": image, **self._maps(truth, patch)}

    def _truth(self, patch: Patch) -> Tensor:
        """Labels, whether there are any, and maybe weights, as channels, (2 or 3, *P) float32.

        Apart, so that what lies outside, 0, can be told from class 0 after a resampling.
        """
        nan = np.isnan(self._no_label)
        known = ~np.isnan(patch.label) if nan else patch.label != self._no_label
        maps = [np.where(known, patch.label, 0), known]
        if patch.weight is not None:
            maps.append(patch.weight)
        return torch.from_numpy(np.stack([m.astype(np.float32) for m in maps]))

    def _maps(self, truth: Tensor, patch: Patch) -> dict[str, Tensor]:
        """What ``_truth`` put together, apart again."""
        label = torch.where(truth[1] > 0.5, truth[0], self._no_label)
        if patch.label.dtype.kind != "f":
            label = label.round().long()
        maps = {"label": label.contiguous()}
        if patch.weight is not None:
            maps["weight"] = truth[2].contiguous()
        return maps

    def _grid(
        self, affine: bool, elastic: ElasticSettings | None, random: np.random.RandomState
    ) -> Tensor:
        """Where each voxel of the result comes from, in voxels from the middle of the patch."""
        self._affine.set_random_state(int(random.randint(2**31)))
        grid = (
            _plain(self._affine(spatial_size=self._shape))
            if affine
            else torch.as_tensor(create_grid(self._shape, backend="torch"))
        )
        if elastic is not None:
            ndim = len(self._shape)
            points = random.normal(0, elastic.std, (1, ndim, *(elastic.points,) * ndim))
            moved = functional.interpolate(
                torch.from_numpy(points).to(grid.dtype),
                size=self._shape,
                mode="bicubic" if ndim == 2 else "trilinear",
                align_corners=True,
            )
            grid[:ndim] += moved[0]
        return grid

    def _box(self, stored: Sequence[int], random: np.random.RandomState) -> tuple[slice, ...]:
        """The network's patch somewhere in the stored one."""
        spare = [n - s for n, s in zip(stored, self._shape, strict=True)]
        start = [int(random.randint(n + 1)) for n in spare]
        return tuple(slice(a, a + s) for a, s in zip(start, self._shape, strict=True))


def _turned(image: Tensor, truth: Tensor, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
    ndim = image.ndim - 1
    axes = [a + 1 for a in range(ndim) if random.random() < 0.5]
    image, truth = image.flip(axes), truth.flip(axes)
    if ndim == 2 and image.shape[1] == image.shape[2]:
        turns = int(random.randint(4))
        image, truth = image.rot90(turns, (1, 2)), truth.rot90(turns, (1, 2))
    return image, truth


def _sigmas(ndim: int) -> dict[str, tuple[float, float]]:
    return {f"sigma_{axis}": (0.5, 1.0) for axis in "xyz"[:ndim]}


def _plain(value: Any) -> Tensor:
    """A tensor without MONAI's metadata."""
    return value.as_tensor() if hasattr(value, "as_tensor") else torch.as_tensor(value)
