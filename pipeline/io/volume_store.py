"""The volume store: a case's voxels, truth, validity and statistics.

<case>.zarr/          OME-NGFF image, attribute ``segflow`` with grid, sources, statistics
  0/image  1/image …  pyramid, (C, Z, Y, X) or (C, Y, X), the source's own dtype
  valid               boolean, (Z, Y, X) or (Y, X); unwritten chunks mean all valid
  labels/truth/0 1 …  truth labelmap, class numbers, 255 (65535) where it says nothing; its
                      levels are plain arrays, which ome-zarr-models demands inside ``labels``
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray

from pipeline.errors import StoreError
from pipeline.io import ngff, store
from pipeline.io.ngff import LabelClass
from pipeline.space import Grid, Volume, Window, aligned_windows

KIND = "volume"
TRUTH = "labels/truth/0"


def label_dtype(classes: int) -> np.dtype[Any]:
    """Element type of a labelmap: uint8, or uint16 where there are more than 254 classes."""
    return np.dtype("uint8" if classes <= 254 else "uint16")


def no_label(dtype: DTypeLike) -> int:
    """The label that means no data: the dtype's largest value, 255 or 65535."""
    return int(np.iinfo(np.dtype(dtype)).max)


@dataclass(frozen=True)
class VolumeSpec:
    """What a volume store will hold, known before a voxel is read."""

    grid: Grid
    """Where the voxels are."""
    dtype: str
    """The source's element type."""
    channels: tuple[str, ...]
    """Channel names, in array order."""
    classes: tuple[LabelClass, ...] | None
    """Classes of the truth; None where the case has none."""
    key: str
    """Of sources, settings and code: equal keys, equal stores."""
    sources: tuple[dict[str, Any], ...]
    """Files the case was made from: path, role and sha256."""


class VolumeWriter:
    """Makes a volume store: create, write every window once, finish.

    Args:
        final: Where the store will stand.
        spec: What it will hold.
    """

    def __init__(self, final: Path, spec: VolumeSpec) -> None:
        self.final = final
        self.spec = spec
        self.root = store.create_root(final)
        self._create_image()
        if spec.classes is not None:
            self._create_truth(spec.classes)
        store.ready_to_write(self.root, spec.key, {"kind": KIND})

    def _create_image(self) -> None:
        grid, dtype = self.spec.grid, np.dtype(self.spec.dtype)
        count = len(self.spec.channels)
        pyramid = store.PyramidSpec("image", grid, dtype, count, 0, "mean", {})
        store.create_pyramid(self.root, pyramid)
        scales = ngff.multiscales(self.final.stem, "image", grid, channels=True)
        self.root.attrs["ome"] = {"version": ngff.VERSION, "multiscales": [scales]}
        store.create_array(self.root, "valid", grid.shape, "bool", grid.axes, True)

    def _create_truth(self, classes: Sequence[LabelClass]) -> None:
        dtype = label_dtype(len(classes))
        nodata = no_label(dtype)
        labels = self.root.create_group("labels")
        labels.attrs["ome"] = {"version": ngff.VERSION, "labels": ["truth"]}
        truth = labels.create_group("truth")
        pyramid = store.PyramidSpec(
            None, self.spec.grid, dtype, None, nodata, "mode", {"nodata": nodata}
        )
        store.create_pyramid(truth, pyramid)
        truth.attrs["ome"] = {
            "version": ngff.VERSION,
            "multiscales": [ngff.multiscales("truth", None, self.spec.grid, channels=False)],
            "image-label": ngff.image_label(classes, source="../../"),
        }

    def windows(self) -> list[Window]:
        """The boxes to write, each whole shards of every array: one read serves all."""
        arrays = [store.array_at(self.root, "0/image"), store.array_at(self.root, "valid")]
        if self.spec.classes is not None:
            arrays.append(store.array_at(self.root, TRUTH))
        n = len(self.spec.grid.shape)
        units = [store.write_shape(array)[-n:] for array in arrays]
        step = tuple(max(sizes) for sizes in zip(*units, strict=True))
        return aligned_windows(self.spec.grid.shape, step)

    def write(self, window: Window, volume: Volume, truth: NDArray[Any] | None) -> None:
        """Write a box of voxels, its validity and its labels.

        Args:
            window: One of ``windows()``.
            volume: Voxels and validity of that window.
            truth: Class numbers of that window, (Z, Y, X) or (Y, X); None where there are none.
        """
        store.write_window(store.array_at(self.root, "0/image"), window, volume.array)
        if volume.valid is not None:
            store.write_window(store.array_at(self.root, "valid"), window, volume.valid)
        if truth is not None:
            store.write_window(store.array_at(self.root, TRUTH), window, truth)

    def finish(self, statistics: dict[str, Any]) -> None:
        """Build the pyramids, add statistics and provenance, and publish the store."""
        store.build_pyramid(self.root, "image", "mean")
        if self.spec.classes is not None:
            store.build_pyramid(self._truth(), None, "mode")
        described = {
            "grid": self.spec.grid.to_json(),
            "channels": list(self.spec.channels),
            "sources": list(self.spec.sources),
            "statistics": statistics,
        }
        store.publish(self.final, lambda attributes: {**attributes, **described})

    def _truth(self) -> zarr.Group:
        group = self.root["labels/truth"]
        assert isinstance(group, zarr.Group)
        return group


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
        self._truth = store.array_at(self.root, TRUTH) if "labels" in self.root else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the voxels."""
        return self._image.dtype

    @property
    def labelled(self) -> bool:
        """Whether the store holds a truth mask."""
        return self._truth is not None

    def read(self, window: Window) -> Volume:
        """Voxels and validity of a window inside the volume."""
        array = np.asarray(self._image[(slice(None), *window.slices)])
        valid = self.read_valid(window)
        return Volume(array, self.grid.cropped(window), None if valid.all() else valid)

    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Where a window holds data, (Z, Y, X) or (Y, X)."""
        return np.asarray(self._valid[window.slices], np.bool_)

    def read_truth(self, window: Window) -> NDArray[Any]:
        """Class numbers of a window, no-label where the truth says nothing or there is no data.

        Raises:
            StoreError: The case has no truth.
        """
        if self._truth is None:
            raise StoreError(f"{self.path} holds no truth mask: only labelled cases have one")
        labels = np.asarray(self._truth[window.slices])
        return np.where(
            self.read_valid(window), labels, np.asarray(no_label(labels.dtype), labels.dtype)
        )

    def overview(self) -> tuple[NDArray[Any], tuple[int, ...]]:
        """Voxels of a pyramid level small enough to look at, (C, *S), and its downsampling."""
        level = store.overview_level(self.grid)
        voxels = np.asarray(store.array_at(self.root, f"{level}/image")[...])
        return voxels, ngff.pyramid_factors(self.grid)[level]

    def truth_overview(self) -> NDArray[Any]:
        """Truth at the level of ``overview``, (*S)."""
        level = store.overview_level(self.grid)
        return np.asarray(store.array_at(self.root, f"labels/truth/{level}")[...])
