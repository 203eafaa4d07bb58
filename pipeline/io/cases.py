"""An open case: image and mask read together, window by window, as voxels and truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import CaseFiles
from pipeline.io.location import fetch
from pipeline.io.opening import open_origin
from pipeline.io.origin import Origin
from pipeline.io.readers import Source, difference
from pipeline.io.readers.geo.vector import open_labels
from pipeline.io.readers.geo.warped import WarpedSource
from pipeline.io.readers.objects import ObjectsSource
from pipeline.io.readers.stacked import BandsSource
from pipeline.io.truth import LabelLookup, Numbers, lookup_of
from pipeline.space import Volume, Window


@dataclass(frozen=True)
class Voxels:
    """A window of a case."""

    volume: Volume
    """Voxels and validity."""
    truth: NDArray[Any] | None = None
    """Class numbers, (*S), no-label where the mask says nothing; of a regression its numbers,
    float32, NaN where it says nothing, infinite where it says so. None for a case to predict."""
    instances: NDArray[Any] | None = None
    """Object numbers, (*S), 0 where there is none; None where masks do not tell objects apart."""


@dataclass(frozen=True)
class OpenCase:
    """A case whose headers fit together, ready to be read window by window."""

    image: Source
    """The image."""
    mask: Source | None
    """Its mask; None for a case to predict."""
    lookup: LabelLookup | Numbers
    """From mask values to class numbers, or to numbers of a regression."""
    nodata: float | None
    """Image value that means "no data", from the settings."""

    @property
    def voxel_bytes(self) -> int:
        """Bytes of one voxel of the image, all channels."""
        return self.image.channels * self.image.dtype.itemsize

    @property
    def instances(self) -> bool:
        """Whether the mask tells objects of one class apart."""
        return isinstance(self.mask, ObjectsSource)

    @property
    def sequential(self) -> bool:
        """Whether windows are to be read in order, by one reader; see ``Source.sequential``."""
        return self.image.sequential or (self.mask is not None and self.mask.sequential)

    def read(self, window: Window) -> Voxels:
        """Voxels with validity, and truth, of a window.

        Raises:
            CaseError: A file is damaged, an image value is NaN or infinite, or a mask value is
                of no class.
        """
        volume = self._declared(self.image.read(window))
        if np.issubdtype(volume.array.dtype, np.floating):
            _refuse_not_finite(volume)
        if self.mask is None:
            return Voxels(volume)
        mask = self.mask.read(window)
        told = _both(volume.valid, mask.valid)
        if not self.instances:
            return Voxels(volume, self.lookup.truth(mask.array[0], told))
        marked = (mask.array[0] > 0).astype(np.uint8)
        return Voxels(volume, self.lookup.truth(marked, told), mask.array[0])

    def _declared(self, volume: Volume) -> Volume:
        """The volume without what the settings declare to be no data."""
        if self.nodata is None:
            return volume
        nan = np.isnan(self.nodata)
        hit = np.isnan(volume.array) if nan else volume.array == self.nodata
        missing = hit.any(axis=0) if nan else hit.all(axis=0)
        valid = ~missing if volume.valid is None else volume.valid & ~missing
        return Volume(volume.array, volume.grid, valid)


def _both(
    one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None
) -> NDArray[np.bool_] | None:
    if one is None or other is None:
        return one if other is None else other
    return one & other


def open_case(files: CaseFiles, data: DataSettings, scratch: Path) -> OpenCase:
    """Open a case and check that its headers fit together; reads no voxel.

    Args:
        files: The case's files.
        data: How they are read.
        scratch: Folder for copies of remote files, which lives as long as the open case.

    Raises:
        CaseError: A file is absent or damaged, or mask and image differ in shape or place.
    """
    if files.problem is not None:
        raise files.problem
    image = open_origin(files.image, "image", scratch)
    if data.bands is not None:
        image = BandsSource(image, data.bands)
    mask = None if files.mask is None else _open_mask(files.mask, image, data, scratch)
    return OpenCase(image, mask, lookup_of(data), data.nodata)


def _open_mask(origin: Origin, image: Source, data: DataSettings, scratch: Path) -> Source:
    if origin.is_vector:
        file = fetch(origin.paths[0], scratch)
        return open_labels(file, image.grid, data.mask_attribute)
    mask = open_origin(origin, "mask", scratch)
    if mask.channels != 1:
        raise CaseError(f"its mask has {mask.channels} channels: one is expected.", "Split it.")
    placed = mask.placed and image.placed
    apart = difference(image.grid, mask.grid) if placed else None
    if placed and apart and data.mask_grid == "nearest":
        return WarpedSource(mask, image.grid)
    if mask.grid.shape != image.grid.shape:
        raise CaseError(
            f"its mask has shape {mask.grid.shape}, its image {image.grid.shape}: they must agree.",
            "Draw or export the mask on the image's own grid"
            + (", or set data.mask_grid to nearest." if placed else "."),
        )
    if apart:
        raise CaseError(
            f"its mask lies elsewhere than its image: {apart}.",
            "Correct its header, or set data.mask_grid to nearest to warp it onto the image.",
        )
    return mask


def _refuse_not_finite(volume: Volume) -> None:
    bad = ~np.isfinite(volume.array).all(axis=0)
    if volume.valid is not None:
        bad &= volume.valid
    if bad.any():
        raise CaseError(
            f"its image holds NaN or infinity in {int(bad.sum())} of {bad.size} voxels.",
            "Correct the image, or set data.nodata to .nan if NaN means no data.",
        )
