"""The mask store: what segflow delivers, readable without segflow.

<case>.zarr/        OME-NGFF image-label, attribute ``segflow`` with provenance
  0/mask  1/mask …  labels, (Z, Y, X) or (Y, X), 255 (65535) where there is no data
  0/y 0/x 0/spatial_ref   coordinates and CRS, so that xarray opens a level as a dataset

Of a regression the mask holds numbers: float32, NaN where there is no data, levels by mean. The
store is then a plain OME-NGFF image, because labels are whole numbers there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pipeline.io import ngff, store
from pipeline.io.downsample import Reduce
from pipeline.io.files import remove_tree
from pipeline.io.layout import choose_layout
from pipeline.io.ngff import LabelClass
from pipeline.io.pyramid import PyramidSpec, build_pyramid, create_pyramid, overview_level
from pipeline.io.volume_store import label_dtype, no_label
from pipeline.space import Grid, Shape, Window, aligned_windows

KIND = "mask"
DRAFT = "draft"
FLOAT_NODATA = {"_FillValue": "AAAAAAAA+H8="}
"""NaN as xarray writes and reads it in Zarr attributes: a float64, little-endian, in base64."""


@dataclass(frozen=True)
class MaskSpec:
    """What a mask store will hold."""

    grid: Grid
    """Where the voxels are: the source's own grid."""
    classes: tuple[LabelClass, ...]
    """Classes, by label; none of a regression."""
    key: str
    """Of input, weights, plan, tiling and code: equal keys, equal bytes."""
    provenance: dict[str, Any]
    """Sources, model, plan, tile and halo, versions, run: JSON values, nothing that varies
    between two runs of the same work."""
    target: str | None = None
    """What the mask holds the numbers of; None: it holds classes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the mask."""
        return label_dtype(len(self.classes)) if self.target is None else np.dtype("float32")

    @property
    def content(self) -> dict[str, Any]:
        """What the mask's values are, as the store's attributes say it."""
        if self.target is not None:
            # JSON has no NaN: spelt as Zarr spells a fill value.
            return {"task": "regression", "target": self.target, "nodata": "NaN"}
        classes = {c.name: c.label for c in self.classes}
        return {"classes": classes, "nodata": no_label(self.dtype)}


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
    def create(cls, final: Path, spec: MaskSpec, *, draft: bool = False) -> MaskWriter:
        """Write the metadata of a new store, replacing an earlier attempt.

        Args:
            final: Where it will stand.
            spec: What it will hold.
            draft: Whether it has a draft until it is finished: labels that are looked at as a
                whole before the mask is written.
        """
        root = store.create_root(final)
        dtype, nodata = spec.dtype, no_label(spec.dtype)
        about = {"nodata": nodata} if spec.target is None else FLOAT_NODATA
        pyramid = PyramidSpec("mask", spec.grid, dtype, None, nodata, _reduce(dtype), about)
        create_pyramid(root, pyramid)
        if draft:
            layout = choose_layout(spec.grid.shape, dtype)
            store.create_array(root, DRAFT, spec.grid.shape, dtype, spec.grid.axes, nodata, layout)
        ome: dict[str, Any] = {
            "version": ngff.VERSION,
            "multiscales": [ngff.multiscales(final.stem, "mask", spec.grid, channels=False)],
        }
        if spec.target is None:
            ome["image-label"] = ngff.image_label(spec.classes, source=None)
        root.attrs["ome"] = ome
        described = {"kind": KIND, "grid": spec.grid.to_json(), **spec.content}
        store.ready_to_write(root, spec.key, {**described, **spec.provenance})
        return cls(final)

    def write(self, window: Window, labels: NDArray[Any]) -> None:
        """Write labels, or numbers, of a window of whole shards; see ``store.write_window``."""
        store.write_window(self._mask, window, labels)

    @property
    def has_draft(self) -> bool:
        """Whether the store has a draft."""
        return DRAFT in self._root

    def write_draft(self, window: Window, labels: NDArray[Any]) -> None:
        """Write labels of a window of whole shards of the draft."""
        store.write_window(store.array_at(self._root, DRAFT), window, labels)

    def read_draft(self, window: Window) -> NDArray[Any]:
        """Labels of a window of the draft."""
        return store.read_window(store.array_at(self._root, DRAFT), window)

    def finish(self) -> None:
        """Build the pyramid and publish the store; a draft has served."""
        remove_tree(store.partial_path(self.final) / DRAFT)
        build_pyramid(self._root, "mask", _reduce(self._mask.dtype))
        store.publish(self.final, lambda attributes: attributes)


def _reduce(dtype: np.dtype[Any]) -> Reduce:
    """How a mask's levels follow from each other."""
    return "mean" if dtype.kind == "f" else "mode"


def mask_windows(shape: Shape, dtype: DTypeLike, about: Shape | None = None) -> list[Window]:
    """The boxes in which a mask of this shape and element type is written: whole shards.

    Args:
        shape: The mask's.
        dtype: Its element type.
        about: What a box may hold, where this is more than a shard; boxes are then of about the
            same size.
    """
    unit = choose_layout(shape, dtype).write
    step = []
    for size, side, most in zip(shape, unit, about or unit, strict=True):
        parts = -(-size // max(side, most // side * side))
        step.append(-(-size // (parts * side)) * side)
    return aligned_windows(shape, tuple(step))


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
        self.target: str | None = attributes.get("target")
        """What the mask holds the numbers of; None: it holds classes."""
        self._mask = store.array_at(self.root, "0/mask")

    def read(self, window: Window, level: int = 0) -> NDArray[Any]:
        """Labels of a window inside the mask; numbers of a regression, NaN where no data.

        Args:
            window: In voxels of the level.
            level: Of the pyramid; 0 is the mask itself.
        """
        mask = self._mask if level == 0 else store.array_at(self.root, f"{level}/mask")
        return store.read_window(mask, window)

    def windows(self) -> list[Window]:
        """Boxes that cover the mask, each whole shards: the cheapest way to read it all."""
        return aligned_windows(self.grid.shape, store.write_shape(self._mask))

    def overview(self) -> NDArray[Any]:
        """Labels, or numbers, of a pyramid level small enough to look at, (*S)."""
        level = overview_level(self.grid)
        return np.asarray(store.array_at(self.root, f"{level}/mask")[...])
