"""The whole augmentation of one patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.io.patch_store import Patch
from pipeline.plan_file import Plan
from pipeline.space import Shape
from pipeline.training.settings import ElasticSettings, TrainSettings
from pipeline.training.transforms.intensity import intensity_transforms
from pipeline.training.transforms.spatial import SpatialTransform, coarse_axis, mirrored_at_random
from pipeline.training.transforms.tensors import plain


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
        spacing: Voxel spacing of the patches on each axis; None: alike. Slices far apart are
            turned in their plane only.
        bands: Whether channels are bands of a raster, each with a sensor and light of its own.
    """

    def __init__(
        self,
        patch_shape: Shape,
        strength: float,
        mirror: bool,
        no_label: float,
        elastic: ElasticSettings | None = None,
        mirrored: bool = False,
        spacing: Sequence[float] | None = None,
        bands: bool = False,
    ) -> None:
        self._shape = patch_shape
        self._no_label = no_label
        self._mirror = mirror
        self._coarse = coarse_axis(patch_shape, spacing)
        self._spatial = SpatialTransform(patch_shape, strength, elastic, self._coarse, mirrored)
        self._intensity = intensity_transforms(strength, len(patch_shape), self._coarse, bands)

    @classmethod
    def planned(cls, plan: Plan, settings: TrainSettings) -> Self:
        """As a training augments the patches of a plan."""
        return cls(
            plan.patch_shape,
            settings.augmentation,
            settings.mirrors(plan.ndim),
            plan.no_label,
            elastic=settings.elastic,
            mirrored=any(plan.margin),
            spacing=plan.spacing,
            bands=plan.ndim == 2 and len(plan.channels) > 1,
        )

    def __call__(
        self, patch: Patch, seed: int, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """Augment one patch.

        Args:
            patch: As stored.
            seed: Decides everything that is random, on every device alike.
            device: Where the work is done, and the result lies.

        Returns:
            ``image`` (C, *S) float32, ``label`` (*S) int64, or float32 in a regression, and
            ``weight`` (*S) float32 where the patch has weights; S the network's patch.
        """
        random = np.random.RandomState(seed % 2**32)
        movement = self._spatial.draw(random)
        box = self._box(patch.label.shape, movement is not None, random)
        image = torch.from_numpy(patch.image[(slice(None), *box)]).to(device).float()
        truth = self._truth(patch, box).to(device)
        if movement is not None:
            classes = patch.label.dtype.kind != "f"
            image, truth = self._spatial(image, truth, movement, classes=classes)
        for transform in self._intensity:
            # One random state for all: making one for each would cost more than most transforms.
            transform.set_random_state(state=random)
            image = plain(transform(image))
        if self._mirror:
            image, truth = mirrored_at_random(image, truth, random)
        return {"image": image.contiguous(), **self._maps(truth, patch)}

    def batch(
        self, patches: Sequence[Patch], seeds: Sequence[int], device: torch.device | str
    ) -> dict[str, Tensor]:
        """Augment patches, each as by itself: ``image`` (B, C, *S) and so on, on the device."""
        done = [self(patch, seed, device) for patch, seed in zip(patches, seeds, strict=True)]
        return {name: torch.stack([each[name] for each in done]) for name in done[0]}

    def _box(
        self, stored: Sequence[int], moved: bool, random: np.random.RandomState
    ) -> tuple[slice, ...]:
        """The part of the stored patch that is looked at.

        The network's patch somewhere in it; of one that is turned, all on the axes it is turned in.
        """
        box = []
        for axis, (size, length) in enumerate(zip(stored, self._shape, strict=True)):
            start = int(random.randint(size - length + 1))
            whole = moved and axis != self._coarse
            box.append(slice(0, size) if whole else slice(start, start + length))
        return tuple(box)

    def _truth(self, patch: Patch, box: tuple[slice, ...]) -> Tensor:
        """Labels, whether there are any, and maybe weights, as channels, (2 or 3, *P) float32.

        Apart, so that what lies outside, 0, can be told from class 0 after a resampling.
        """
        label: NDArray[np.generic] = patch.label[box]
        known = ~np.isnan(label) if np.isnan(self._no_label) else label != self._no_label
        maps = [label, known] if patch.weight is None else [label, known, patch.weight[box]]
        truth = torch.empty(len(maps), *label.shape)
        for row, values in zip(truth.numpy(), maps, strict=True):
            row[...] = values
        truth[0][truth[1] == 0] = 0
        return truth

    def _maps(self, truth: Tensor, patch: Patch) -> dict[str, Tensor]:
        """What ``_truth`` put together, apart again."""
        label = torch.where(truth[1] > 0.5, truth[0], self._no_label)
        if patch.label.dtype.kind != "f":
            label = label.round().long()
        maps = {"label": label.contiguous()}
        if patch.weight is not None:
            maps["weight"] = truth[2].contiguous()
        return maps
