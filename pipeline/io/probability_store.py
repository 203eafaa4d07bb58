"""Class probabilities, where they are asked for: eight bits each, beside the masks.

<case>.zarr/                OME-NGFF image, attribute ``segflow`` with provenance
  0/probabilities 1/…       uint8, (C, Z, Y, X) or (C, Y, X), a channel for each class, or region of
                            classes, by name; 255 is certain, rounded by 1/510 at most, levels by
                            mean; all channels 0 where there is no data
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io import ngff, store
from pipeline.io.layout import Boxes, choose_layout
from pipeline.io.mask_store import MaskSpec
from pipeline.io.pyramid import PyramidSpec, build_pyramid, create_pyramid
from pipeline.space import Grid, Window

KIND = "probabilities"
CERTAIN = 255
"""What stands for a probability of 1."""


def probability_path(mask: Path) -> Path:
    """Where the probabilities behind a mask stand: in a folder of their own beside it."""
    return mask.parent / "probabilities" / mask.name


class ProbabilityWriter:
    """Makes a probability store in the hands of many processes, as ``MaskWriter`` does a mask's.

    Args:
        final: Where the store will stand; it must have been created.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self._root = store.open_group(store.partial_path(final), "r+")
        self._array = store.array_at(self._root, "0/probabilities")

    @classmethod
    def create(cls, final: Path, mask: MaskSpec, channels: tuple[str, ...]) -> ProbabilityWriter:
        """Write the metadata of a new store, replacing an earlier attempt.

        Args:
            final: Where it will stand.
            mask: The mask that goes with it: boxes of the one are boxes of the other.
            channels: What each channel is the probability of.
        """
        root, grid = store.create_root(final), mask.grid
        layout = choose_layout(grid.shape, mask.dtype)
        boxes = Boxes(grid.shape, layout.chunks, layout.write)
        about = {"scale": 1 / CERTAIN}
        spec = PyramidSpec(
            "probabilities", grid, "uint8", len(channels), 0, "mean", about, boxes=boxes
        )
        create_pyramid(root, spec)
        scales = ngff.multiscales(final.stem, "probabilities", grid, channels=True)
        root.attrs["ome"] = {"version": ngff.VERSION, "multiscales": [scales]}
        described = {"kind": KIND, "grid": grid.to_json(), "channels": list(channels)}
        store.ready_to_write(root, mask.key, {**described, **mask.provenance})
        return cls(final)

    def write(self, window: Window, probabilities: NDArray[Any]) -> None:
        """Write a box of whole shards of the mask, (C, *S), 0 to 255."""
        store.write_window(self._array, window, probabilities)

    def finish(self) -> None:
        """Build the pyramid and publish the store."""
        build_pyramid(self._root, "probabilities", "mean")
        store.publish(self.final, lambda attributes: attributes)


class ProbabilityStore:
    """A published probability store, read window by window.

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
        self.grid = Grid.from_json(attributes["grid"])
        self.channels: tuple[str, ...] = tuple(attributes["channels"])
        self._array = store.array_at(self.root, "0/probabilities")

    def read(self, window: Window) -> NDArray[np.float32]:
        """Probabilities of a window, (C, *S), 0 to 1."""
        stored = np.asarray(self._array[(slice(None), *window.slices)])
        return stored.astype(np.float32) / np.float32(CERTAIN)
