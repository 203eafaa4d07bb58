"""The volume store: a case's voxels, truth, validity and statistics.

<case>.zarr/          OME-NGFF image, attribute ``segflow`` with grid, sources, statistics
  0/image  1/image …  pyramid, (C, Z, Y, X) or (C, Y, X), the source's own dtype
  valid               boolean, (Z, Y, X) or (Y, X); unwritten chunks mean all valid
  labels/truth/0 1 …  truth labelmap, class numbers, 255 (65535) where it says nothing; its
                      levels are plain arrays, which ome-zarr-models demands inside ``labels``
  labels/instances/…  object numbers, 0 where there is none, of masks that tell objects apart
  target/0 1 …        of a regression, in place of labels: the truth's numbers, float32, NaN where
                      it says nothing, levels by mean of what it says; a multiscale image of its
                      own, because OME-NGFF demands whole numbers inside ``labels``
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import StoreError
from pipeline.io import ngff, store
from pipeline.io.pyramid import overview_level
from pipeline.space import Grid, Volume, Window

KIND = "volume"
LABELS = "labels/truth"
INSTANCES = "labels/instances"
TARGET = "target"


def label_dtype(classes: int) -> np.dtype[Any]:
    """Element type of a labelmap: uint8, or uint16 where there are more than 254 classes."""
    return np.dtype("uint8" if classes <= 254 else "uint16")


def no_label(dtype: DTypeLike) -> float:
    """What means no data: a labelmap's largest value, 255 or 65535; NaN among float numbers.

    Example:
        >>> no_label("uint8"), no_label("float32")
        (255, nan)
    """
    if np.issubdtype(dtype, np.floating):
        return float("nan")
    return int(np.iinfo(np.dtype(dtype)).max)


class VolumeStore:
    """A published volume store, read window by window.

    Args:
        path: The store.

    Raises:
        StoreError: It is absent or not complete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = store.open_complete(path, KIND)
        attributes: Any = self.root.attrs["segflow"]
        self.key: str = attributes["key"]
        self.grid = Grid.from_json(attributes["grid"])
        self.channels: tuple[str, ...] = tuple(attributes["channels"])
        self.sources: list[dict[str, Any]] = attributes["sources"]
        self.statistics: dict[str, Any] = attributes["statistics"]
        self._image = store.array_at(self.root, "0/image")
        self._valid = store.array_at(self.root, "valid")
        self.target: str | None = attributes.get("target")
        """What the truth holds the numbers of; None: it holds classes, or there is none."""
        self._truth_path = LABELS if self.target is None else TARGET
        self._truth = self._finest(self._truth_path)
        self._instances = self._finest(INSTANCES)

    def _finest(self, path: str) -> zarr.Array[Any] | None:
        return store.array_at(self.root, f"{path}/0") if f"{path}/0" in self.root else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the voxels."""
        return self._image.dtype

    @property
    def labelled(self) -> bool:
        """Whether the store holds a truth mask."""
        return self._truth is not None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes of the truth, by label; none of a regression, or where there is no truth."""
        if self._truth is None or self.target is not None:
            return ()
        ome: Any = self.root[LABELS].attrs["ome"]
        return tuple(p["class"] for p in ome["image-label"]["properties"])

    def read(self, window: Window) -> Volume:
        """Voxels and validity of a window inside the volume."""
        array = store.read_window(self._image, window)
        valid = self.read_valid(window)
        return Volume(array, self.grid.cropped(window), None if valid.all() else valid)

    def read_level(self, window: Window, level: int, channels: int) -> NDArray[Any]:
        """Voxels of a window of a pyramid level, (C, *S).

        Args:
            window: In voxels of the level.
            level: 0 is the volume itself.
            channels: How many are read, from the first on.
        """
        image = store.array_at(self.root, f"{level}/image")
        return np.asarray(image[(slice(channels), *window.slices)])

    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Where a window holds data, (Z, Y, X) or (Y, X)."""
        return store.read_window(self._valid, window)

    def read_truth(self, window: Window) -> NDArray[Any]:
        """Class numbers of a window, no-label where the truth says nothing or there is no data.

        Of a regression the numbers, float32, NaN where there is none.

        Raises:
            StoreError: The case has no truth.
        """
        if self._truth is None:
            raise StoreError(f"{self.path} holds no truth mask: only labelled cases have one")
        labels = store.read_window(self._truth, window)
        valid = self.read_valid(window)
        if valid.all():
            return labels
        return np.where(valid, labels, np.asarray(no_label(labels.dtype), labels.dtype))

    @property
    def has_instances(self) -> bool:
        """Whether the case's mask tells objects of one class apart."""
        return self._instances is not None

    def read_instances(self, window: Window) -> NDArray[Any]:
        """Object numbers of a window, 0 where there is no object.

        Raises:
            StoreError: The case's mask does not tell objects apart.
        """
        if self._instances is None:
            raise StoreError(f"{self.path} holds no instances: its mask has classes only")
        return store.read_window(self._instances, window)

    def overview(self) -> tuple[NDArray[Any], tuple[int, ...]]:
        """Voxels of a pyramid level small enough to look at, (C, *S), and its downsampling."""
        level = overview_level(self.grid)
        voxels = np.asarray(store.array_at(self.root, f"{level}/image")[...])
        return voxels, ngff.pyramid_factors(self.grid)[level]

    def truth_overview(self) -> NDArray[Any]:
        """Truth at the level of ``overview``, (*S)."""
        level = overview_level(self.grid)
        return np.asarray(store.array_at(self.root, f"{self._truth_path}/{level}")[...])
