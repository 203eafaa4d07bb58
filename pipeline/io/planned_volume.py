"""A case at the planned spacing: its volume store seen through a resampling, window by window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.volume_store import VolumeStore, no_label
from pipeline.normalise import Scaling, normalise
from pipeline.space import (
    Grid,
    Resampling,
    Shape,
    Volume,
    Window,
    resample_image,
    resample_labels,
    resample_valid,
)


class PlannedVolume:
    """A volume store on its planned grid.

    Reads what a window needs and no more, so memory follows the window and not the volume. Where
    the case has the planned spacing already, every read is the store's own.

    Args:
        store: The case.
        resampling: From its grid to the planned one.
    """

    def __init__(self, store: VolumeStore, resampling: Resampling) -> None:
        self.store = store
        self.resampling = resampling

    @classmethod
    def at_spacing(cls, store: VolumeStore, spacing: Sequence[float]) -> PlannedVolume:
        """The case at a spacing.

        Args:
            store: The case.
            spacing: Distance between voxels on each array axis, in the grid's unit.

        Raises:
            GridError: The spacing does not fit the case's axes.
        """
        return cls(store, Resampling.to_spacing(store.grid, spacing))

    @property
    def grid(self) -> Grid:
        """Where the planned voxels are."""
        return self.resampling.planned

    @property
    def shape(self) -> Shape:
        """Planned voxels on each spatial axis."""
        return self.grid.shape

    def read(self, window: Window) -> Volume:
        """Voxels and validity of a window inside the planned grid.

        In float32; in the store's own type where nothing is resampled.
        """
        native = self.store.read(self._native(window))
        return resample_image(native, self.resampling, window)

    def normalised(self, window: Window, scalings: tuple[Scaling, ...]) -> NDArray[np.float32]:
        """Voxels of a window as the network sees them: normalised, then resampled, as in nnU-Net.

        In this order, clipping takes away the extremes of metal and air before the cubic kernel
        can ring around them.

        Args:
            window: Inside the planned grid.
            scalings: One per channel, of the case as it is stored.

        Returns:
            (C, *window) float32, 0 where there is no data.
        """
        native = self.store.read(self._native(window))
        scaled = Volume(normalise(native, scalings), native.grid, native.valid)
        return np.asarray(resample_image(scaled, self.resampling, window).array, np.float32)

    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Where a window holds data, (Z, Y, X) or (Y, X)."""
        valid = self.store.read_valid(self._native(window))
        return resample_valid(valid, self.resampling, window)

    def read_truth(self, window: Window) -> NDArray[Any]:
        """Class numbers of a window, no-label where the truth says nothing or there is no data.

        Of a regression the numbers, interpolated linearly, float32, NaN where there is none.

        Raises:
            StoreError: The case has no truth.
        """
        if self.store.target is not None:
            return self._read_target(window)
        labels = self.store.read_truth(self._native(window))
        return resample_labels(labels, self.resampling, window, int(no_label(labels.dtype)))

    def _read_target(self, window: Window) -> NDArray[Any]:
        linear = self.resampling.linear
        native = linear.native_window(window)
        numbers = self.store.read_truth(native)
        known = Volume(numbers[None], self.store.grid.cropped(native), np.isfinite(numbers))
        result = resample_image(known, linear, window)
        if result.valid is not None:
            result.array[0][~result.valid] = np.nan
        return np.asarray(result.array[0])

    def _native(self, window: Window) -> Window:
        return self.resampling.native_window(window)
