"""Augmentation with MONAI, a pure function of the patch's number and its position in training.

Probabilities follow nnU-Net (Isensee et al. 2021).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffined,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandSimulateLowResolution,
)
from numpy.typing import NDArray
from torch import Tensor

from pipeline.space import Shape

IMAGE, LABEL = "image", "label"


class Augment:
    """Makes a training patch of the network's size out of a larger stored one.

    Args:
        patch_shape: Voxels of the result.
        strength: 0 leaves the patch as it is but for its place; 1 is nnU-Net's.
        mirror: Whether to flip, and in 2-D to turn by 90 degrees.
        no_label: The label that the loss ignores.
    """

    def __init__(self, patch_shape: Shape, strength: float, mirror: bool, no_label: int) -> None:
        self._shape = patch_shape
        self._no_label = no_label
        self._mirror = mirror
        self._affine_probability = 0.3 * min(strength, 1.0)
        ndim = len(patch_shape)
        angle, zoom = np.deg2rad(30 if ndim == 3 else 45) * strength, 0.25 * strength
        self._affine = RandAffined(
            keys=(IMAGE, LABEL),
            prob=1.0,
            rotate_range=[angle] * (3 if ndim == 3 else 1),
            scale_range=[zoom] * ndim,
            spatial_size=patch_shape,
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        )
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

    def __call__(
        self, image: NDArray[Any], label: NDArray[Any], seed: int
    ) -> tuple[Tensor, Tensor]:
        """Augment one patch.

        Args:
            image: (C, *P) stored patch, normalised.
            label: (*P) class numbers.
            seed: Decides everything that is random.

        Returns:
            Image (C, *S) float32 and label (*S) int64, S the network's patch.
        """
        random = np.random.RandomState(seed % 2**32)
        pair = (
            self._warped(image, label, random)
            if random.random() < self._affine_probability
            else self._cropped(image, label, random)
        )
        voxels, classes = self._turned(*pair, random) if self._mirror else pair
        self._intensity.set_random_state(int(random.randint(2**31)))
        voxels = _plain(self._intensity(voxels.contiguous()))
        return voxels.float().contiguous(), classes.long().contiguous()

    def _warped(
        self, image: NDArray[Any], label: NDArray[Any], random: np.random.RandomState
    ) -> tuple[Tensor, Tensor]:
        # Labels are moved up by one, so that what lies outside (0) can be told from class 0.
        raised = np.where(label == self._no_label, 0, label.astype(np.int32) + 1)
        self._affine.set_random_state(int(random.randint(2**31)))
        warped = self._affine(
            {IMAGE: image.astype(np.float32), LABEL: raised[None].astype(np.float32)}
        )
        classes = _plain(warped[LABEL])[0].round().long() - 1
        return _plain(warped[IMAGE]), torch.where(classes < 0, self._no_label, classes)

    def _cropped(
        self, image: NDArray[Any], label: NDArray[Any], random: np.random.RandomState
    ) -> tuple[Tensor, Tensor]:
        spare = [n - s for n, s in zip(label.shape, self._shape, strict=True)]
        start = [int(random.randint(n + 1)) for n in spare]
        box = tuple(slice(a, a + s) for a, s in zip(start, self._shape, strict=True))
        voxels = image[(slice(None), *box)].astype(np.float32)
        return torch.from_numpy(voxels), torch.from_numpy(label[box].astype(np.int64))

    def _turned(
        self, image: Tensor, label: Tensor, random: np.random.RandomState
    ) -> tuple[Tensor, Tensor]:
        axes = [a for a in range(label.ndim) if random.random() < 0.5]
        image, label = image.flip([a + 1 for a in axes]), label.flip(axes)
        if label.ndim == 2 and label.shape[0] == label.shape[1]:
            turns = int(random.randint(4))
            image, label = image.rot90(turns, (1, 2)), label.rot90(turns, (0, 1))
        return image, label


def _sigmas(ndim: int) -> dict[str, tuple[float, float]]:
    return {f"sigma_{axis}": (0.5, 1.0) for axis in "xyz"[:ndim]}


def _plain(value: Any) -> Tensor:
    """A tensor without MONAI's metadata."""
    return value.as_tensor() if hasattr(value, "as_tensor") else torch.as_tensor(value)
