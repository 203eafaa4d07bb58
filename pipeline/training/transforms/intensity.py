"""What is done to intensities, in nnU-Net's order."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.layers import gaussian_1d, separable_filtering
from monai.transforms import (
    RandAdjustContrast,
    RandGaussianNoise,
    RandGaussianSmooth,
    Randomizable,
    RandomizableTransform,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
    RandShiftIntensity,
    RandSimulateLowResolution,
)
from torch import Tensor

from pipeline.training.transforms.tensors import plain, within_slices

CHANNELS = 0.5
"""Of a patch that is blurred, or seen at a low resolution: the share of its channels that are."""
JITTERED, JITTER = 0.5, 0.1
"""Share of the patches of a raster whose bands are jittered; most scale off 1, and most shift, in
standard deviations. Ours, not nnU-Net's: sensors and light differ by so much from band to band."""


def intensity_transforms(
    strength: float, ndim: int, coarse: int | None, bands: bool
) -> list[Randomizable]:
    """The transforms of an image (C, *S), one after the other.

    Args:
        strength: 0: none; 1: nnU-Net's.
        ndim: Spatial axes.
        coarse: The axis of slices far apart, whose resolution is never lowered.
        bands: Whether to jitter channels, each by itself.
    """
    if strength == 0:
        return []
    s = strength
    flat = ndim == 2 or coarse is not None
    sigmas = {f"sigma_{axis}": (0.5 * s, 1.0 * s) for axis in "xyz"[:ndim]}
    factors = _around_one(0.75, 1.25, s)
    jitter = [
        RandScaleIntensity(factors=JITTER * s, prob=JITTERED * s, channel_wise=True),
        RandShiftIntensity(offsets=JITTER * s, prob=JITTERED * s, channel_wise=True),
    ]
    low_resolution = RandSimulateLowResolution(
        prob=CHANNELS,
        # The default, "nearest", takes the first voxel of each cell and so moves the image.
        downsample_mode="nearest-exact",
        upsample_mode="bilinear" if flat else "trilinear",
        zoom_range=(0.5**s, 1.0),
    )
    return [
        RandNoise(prob=0.1 * s, std=0.1 * s),
        EachChannel(RandBlur(prob=CHANNELS, **sigmas), prob=0.2 * s),
        RandScaleIntensity(factors=factors, prob=0.15 * s, channel_wise=True),
        RandScaleIntensityFixedMean(
            factors=factors, prob=0.15 * s, preserve_range=True, channel_wise=True
        ),
        *(jitter if bands else []),
        EachChannel(low_resolution, prob=0.25 * s, coarse=coarse),
        EachChannel(RandGamma(0.7**s, 1.5**s, inverted=True), prob=0.1 * s),
        EachChannel(RandGamma(0.7**s, 1.5**s, inverted=False), prob=0.3 * s),
    ]


def _around_one(low: float, high: float, strength: float) -> tuple[float, float]:
    """A range of factors as MONAI takes it, less one."""
    return low**strength - 1, high**strength - 1


class EachChannel(RandomizableTransform):  # type: ignore[misc]
    """A random transform that, in a share of the patches, is drawn for each channel by itself.

    Args:
        transform: Of one channel, (1, *S).
        prob: Share of the patches.
        coarse: The axis of slices to which it is applied one by one; None: to the whole.
    """

    def __init__(
        self, transform: RandomizableTransform, prob: float, coarse: int | None = None
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        self._transform = transform
        self._coarse = coarse

    def __call__(self, image: Tensor) -> Tensor:
        """Transform an image, (C, *S)."""
        self.randomize(None)
        if not self._do_transform:
            return image
        self._transform.set_random_state(state=self.R)
        return torch.cat([within_slices(self._transform, c[None], self._coarse) for c in image])


class RandNoise(RandGaussianNoise):  # type: ignore[misc]
    """MONAI's Gaussian noise, in float32: drawn in float64 it takes six times as long.

    Every voxel of every channel has its own. nnU-Net calls a variance what its code takes as the
    deviation.
    """

    def randomize(self, img: Tensor, mean: float | None = None) -> None:
        """Draw the noise of an image, (C, *S)."""
        RandomizableTransform.randomize(self, None)
        if self._do_transform:
            generator = torch.Generator().manual_seed(int(self.R.randint(2**31)))
            deviation = self.R.uniform(0, self.std)
            self.noise = torch.randn(img.shape, generator=generator) * deviation


class RandBlur(RandGaussianSmooth):  # type: ignore[misc]
    """MONAI's Gaussian blur, but for the border: there the last voxel goes on, and not 0."""

    def __call__(self, img: Tensor, randomize: bool = True) -> Tensor:
        """Blur an image, (C, *S)."""
        if randomize:
            self.randomize()
        if not self._do_transform:
            return img
        sigmas = torch.tensor([self.x, self.y, self.z][: img.ndim - 1])
        kernels = [gaussian_1d(sigma, truncated=4.0, approx=self.approx) for sigma in sigmas]
        return plain(separable_filtering(img[None], kernels, mode="replicate"))[0]


class RandGamma(RandAdjustContrast):  # type: ignore[misc]
    """A gamma curve that keeps mean and deviation; as often below 1 as above.

    Args:
        low: Least gamma, at most 1.
        high: Largest gamma, at least 1.
        inverted: Whether the curve is that of the negative.
    """

    def __init__(self, low: float, high: float, inverted: bool) -> None:
        super().__init__(1.0, (low, high), invert_image=inverted, retain_stats=True)

    def randomize(self, data: Any | None = None) -> None:
        """Draw gamma."""
        RandomizableTransform.randomize(self, None)
        low, high = self.gamma
        down = self.R.random_sample() < 0.5
        self.gamma_value = self.R.uniform(low, 1) if down else self.R.uniform(1, high)
