"""The mask store: what segflow delivers, readable without segflow.

<case>.zarr/        OME-NGFF image-label, attribute ``segflow`` with provenance
  0/mask  1/mask …  labels, (Z, Y, X) or (Y, X), 255 (65535) where there is no data
  0/y 0/x 0/spatial_ref   coordinates and CRS, so that xarray opens a level as a dataset
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io import ngff, store
from pipeline.io.layout import choose_layout
from pipeline.io.ngff import LabelClass
from pipeline.io.pyramid import PyramidSpec, build_pyramid, create_pyramid, overview_level
from pipeline.io.volume_store import label_dtype, no_label
from pipeline.space import Grid, Shape, Window, aligned_windows

KIND = "mask"


@dataclass(frozen=True)
class MaskSpec:
    """What a mask store will hold."""

    grid: Grid
    """Where the voxels are: the source's own grid."""
    classes: tuple[LabelClass, ...]
    """Classes, by label."""
    key: str
    """Of input, weights, plan, tiling and code: equal keys, equal bytes."""
    provenance: dict[str, Any]
    """Sources, model, plan, tile and halo, versions, run: JSON values, nothing that varies
    between two runs of the same work."""


class MaskWriter:
    """Makes a mask store in the hands of many processes: each attaches and writes whole shards.

    Args:
        final: Where the store will stand; it must have been created.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self._root = store.open_group(store.partial_path(final), "r+")
        self._mask = store.array_at(self._root, "0/mask")

    @classmethod
    def create(cls, final: Path, spec: MaskSpec) -> MaskWriter:
        """Write the metadata of a new store, replacing an earlier attempt."""
        root = store.create_root(final)
        dtype = label_dtype(len(spec.classes))
        nodata = no_label(dtype)
        pyramid = PyramidSpec("mask", spec.grid, dtype, None, nodata, "mode", {"nodata": nodata})
        create_pyramid(root, pyramid)
        root.attrs["ome"] = {
            "version": ngff.VERSION,
            "multiscales": [ngff.multiscales(final.stem, "mask", spec.grid, channels=False)],
            "image-label": ngff.image_label(spec.classes, source=None),
        }
        described = {
            "kind": KIND,
            "grid": spec.grid.to_json(),
            "classes": {c.name: c.label for c in spec.classes},
            "nodata": nodata,
            **spec.provenance,
        }
        store.ready_to_write(root, spec.key, described)
        return cls(final)

    def write(self, window: Window, labels: NDArray[Any]) -> None:
        """Write labels of a window of whole shards; see ``store.write_window``."""
        store.write_window(self._mask, window, labels)

    def finish(self) -> None:
        """Build the pyramid and publish the store."""
        build_pyramid(self._root, "mask", "mode")
        store.publish(self.final, lambda attributes: attributes)


def mask_windows(shape: Shape, classes: int) -> list[Window]:
    """The boxes in which a mask of this shape is written: its shards."""
    layout = choose_layout(shape, label_dtype(classes))
    return aligned_windows(shape, layout.write)


class MaskStore:
    """A published mask store, read window by window.

    Args:
        path: The store.

    Raises:
        StoreError: It is absent or not complete.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = store.open_complete(path, KIND)
        attributes: Any = self.root.attrs["segflow"]
        self.attributes: dict[str, Any] = attributes
        self.key: str = attributes["key"]
        self.grid = Grid.from_json(attributes["grid"])
        self._mask = store.array_at(self.root, "0/mask")

    def read(self, window: Window) -> NDArray[Any]:
        """Labels of a window inside the mask."""
        return np.asarray(self._mask[window.slices])

    def windows(self) -> list[Window]:
        """Boxes that cover the mask, each whole shards: the cheapest way to read it all."""
        return aligned_windows(self.grid.shape, store.write_shape(self._mask))

    def overview(self) -> NDArray[Any]:
        """Labels of a pyramid level small enough to look at, (*S)."""
        level = overview_level(self.grid)
        return np.asarray(store.array_at(self.root, f"{level}/mask")[...])
