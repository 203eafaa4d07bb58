"""What may stand beside a mask, on its grid: class probabilities, and the objects it is made of.

probabilities/<case>.zarr   OME-NGFF image, attribute ``segflow`` with provenance
  0/probabilities 1/…       uint8, (C, Z, Y, X) or (C, Y, X), a channel for each class, or region of
                            classes, by name; 255 is certain, rounded by 1/510 at most, levels by
                            mean; all channels 0 where there is no data
objects/<case>.zarr         OME-NGFF image-label, likewise
  0/objects 1/…             uint32, (Z, Y, X) or (Y, X): 1, 2, … in the order of their first voxels,
                            0 for background and no data, levels by mode
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io import ngff, store
from pipeline.io.downsample import Reduce
from pipeline.io.layout import Boxes, choose_layout
from pipeline.io.mask_store import MaskSpec
from pipeline.io.pyramid import PyramidSpec, build_pyramid, create_pyramid
from pipeline.space import Grid, Window

CERTAIN = 255
"""What stands for a probability of 1."""


@dataclass(frozen=True)
class Companion:
    """A kind of store that stands beside masks."""

    name: str
    """Of its folder, its array and its ``kind``."""
    dtype: str
    """Element type; what was never written is 0."""
    reduce: Reduce
    """How a coarser level follows from the finer."""
    channels: tuple[str, ...] | None
    """Of its leading axis; None: it has none."""

    @classmethod
    def probabilities(cls, channels: tuple[str, ...]) -> Companion:
        """Probabilities of classes, or of regions of them."""
        return cls("probabilities", "uint8", "mean", channels)

    @classmethod
    def objects(cls) -> Companion:
        """Object numbers."""
        return cls("objects", "uint32", "mode", None)

    def path(self, mask: Path) -> Path:
        """Where the store beside a mask stands."""
        return mask.parent / self.name / mask.name


class CompanionWriter:
    """Makes such a store in the hands of many processes, as ``MaskWriter`` does a mask's.

    Args:
        companion: Its kind.
        final: Where the store will stand; it must have been created.
    """

    def __init__(self, companion: Companion, final: Path) -> None:
        self.companion = companion
        self.final = final
        self._root = store.open_group(store.partial_path(final), "r+")
        self._array = store.array_at(self._root, f"0/{companion.name}")

    @classmethod
    def create(cls, companion: Companion, final: Path, mask: MaskSpec) -> CompanionWriter:
        """Write the metadata of a new store, replacing an earlier attempt.

        Args:
            companion: Its kind.
            final: Where it will stand.
            mask: The mask that goes with it: boxes of the one are boxes of the other.
        """
        root, grid, name = store.create_root(final), mask.grid, companion.name
        layout = choose_layout(grid.shape, mask.dtype)
        boxes = Boxes(grid.shape, layout.chunks, layout.write)
        channels, many = companion.channels, companion.channels is not None
        spec = PyramidSpec(
            name,
            grid,
            companion.dtype,
            len(channels) if channels is not None else None,
            0,
            companion.reduce,
            {"scale": 1 / CERTAIN} if many else {},
            boxes=boxes,
        )
        create_pyramid(root, spec)
        scales = ngff.multiscales(final.stem, name, grid, channels=many)
        ome: dict[str, Any] = {"version": ngff.VERSION, "multiscales": [scales]}
        root.attrs["ome"] = ome if many else {**ome, "image-label": {}}
        described: dict[str, Any] = {"kind": name, "grid": grid.to_json()}
        if channels is not None:
            described["channels"] = list(channels)
        store.ready_to_write(root, mask.key, {**described, **mask.provenance})
        return cls(companion, final)

    def write(self, window: Window, values: NDArray[Any]) -> None:
        """Write a box of whole shards of the mask, (*S) or (C, *S)."""
        store.write_window(self._array, window, values)

    def finish(self) -> None:
        """Build the pyramid and publish the store."""
        build_pyramid(self._root, self.companion.name, self.companion.reduce)
        store.publish(self.final, lambda attributes: attributes)


class _CompanionStore:
    """A published store of this kind, read window by window.

    Args:
        path: The store.

    Raises:
        StoreError: It is absent or not complete.
    """

    kind: str

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = store.open_complete(path, self.kind)
        attributes: Any = self.root.attrs["segflow"]
        self.attributes: dict[str, Any] = attributes
        self.grid = Grid.from_json(attributes["grid"])
        self._array = store.array_at(self.root, f"0/{self.kind}")


class ProbabilityStore(_CompanionStore):
    """Published probabilities, read window by window; see :class:`_CompanionStore`."""

    kind = "probabilities"

    @property
    def channels(self) -> tuple[str, ...]:
        """What each channel is the probability of."""
        return tuple(self.attributes["channels"])

    def read_stored(self, window: Window) -> NDArray[np.uint8]:
        """Probabilities of a window as they are stored, (C, *S), 0 to ``CERTAIN``."""
        return store.read_window(self._array, window)

    def read(self, window: Window) -> NDArray[np.float32]:
        """Probabilities of a window, (C, *S), 0 to 1."""
        return self.read_stored(window).astype(np.float32) / np.float32(CERTAIN)


class ObjectStore(_CompanionStore):
    """Published object numbers, read window by window; see :class:`_CompanionStore`."""

    kind = "objects"

    def read(self, window: Window) -> NDArray[np.uint32]:
        """Object numbers of a window, (*S); 0 where there is none."""
        return store.read_window(self._array, window)
