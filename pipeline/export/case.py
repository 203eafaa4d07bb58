"""What an exporter is given: a mask, where its voxels are, and what else is known of its case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.export.codes import Meaning
from pipeline.io.companion_store import ObjectStore
from pipeline.io.layout import choose_layout
from pipeline.io.mask_store import MaskStore
from pipeline.io.ngff import LabelClass
from pipeline.io.volume_store import VolumeStore, label_dtype
from pipeline.space import Grid, Window

NoData = Literal["background", "keep"]
SLAB_BYTES = 64 * 2**20
"""Most that a slab of a mask holds, where it is more than one plane."""


@dataclass(frozen=True)
class Export:
    """A mask to export, and what is known of its case."""

    mask: MaskStore
    """Labels; numbers where ``mask.target`` is not None."""
    target: Path
    """The file to write, under its final name in a folder of its own: whatever an exporter writes
    beside it (sidecars) is moved to the final folder with it, when all is whole."""
    volume: VolumeStore | None = None
    """The case's volume store, where it was found."""
    objects: ObjectStore | None = None
    """Object numbers beside the mask, where they are kept."""
    source: Path | None = None
    """Where the original files are: the image, a series' folder, or the dataset's root."""
    nodata: NoData = "background"
    """What becomes of voxels without data; see ``nodata_label``."""
    codes: Mapping[str, Meaning] = field(default_factory=dict)
    """What classes are in DICOM's terms, by name."""

    @property
    def case(self) -> str:
        """Case id."""
        return self.mask.path.name.removesuffix(".zarr")

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        return self.mask.grid

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """Classes by label, the background among them; none of a regression."""
        if self.mask.target is not None:
            return ()
        label = self.mask.root.attrs["ome"]["image-label"]  # type: ignore[index,call-overload]
        # The background is what is shown transparent.
        clear = {c["label-value"] for c in label["colors"] if c["rgba"][3] == 0}  # type: ignore[union-attr,index,call-overload]
        named = sorted((int(n), str(name)) for name, n in self.mask.attributes["classes"].items())
        return tuple(LabelClass(n, name, n in clear) for n, name in named)

    @property
    def foreground(self) -> tuple[LabelClass, ...]:
        """Classes by label, without the background."""
        return tuple(c for c in self.classes if not c.background)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the voxels that ``read`` gives."""
        if self.mask.target is not None:
            return np.dtype(np.float32)
        return label_dtype(len(self.classes))

    @property
    def nodata_label(self) -> int | None:
        """The label that means no data in what ``read`` gives; None: there is none, or a NaN.

        Most tools know no such label, so it becomes the background; where no class is the
        background it stays, because every other label would say something that is not known.
        """
        if self.mask.target is not None:
            return None
        told = any(c.background for c in self.classes) and self.nodata == "background"
        return None if told else int(self.mask.attributes["nodata"])

    def read(self, window: Window, level: int = 0) -> NDArray[Any]:
        """Labels of a window, without data as ``nodata`` says; of a regression numbers and NaN.

        Args:
            window: In voxels of the level.
            level: Of the pyramid; 0 is the mask itself.
        """
        values = self.mask.read(window, level)
        if self.mask.target is None and self.nodata_label is None:
            background = next(c.label for c in self.classes if c.background)
            values[values == int(self.mask.attributes["nodata"])] = background
        return values

    def slabs(self, most_bytes: int = SLAB_BYTES) -> Iterator[Window]:
        """Boxes that cover the mask in file order: whole planes (rows of a scene), few at a time.

        Memory is that of a slab; its depth is the store's chunks' where that fits.
        """
        shape = self.grid.shape
        plane = prod(shape[1:]) * self.dtype.itemsize
        depth = choose_layout(shape, self.dtype).chunks[0]
        depth = max(1, min(depth, most_bytes // plane))
        for start in range(0, shape[0], depth):
            size = min(depth, shape[0] - start)
            yield Window((start, *(0 for _ in shape[1:])), (size, *shape[1:]))

    def needs_volume(self) -> VolumeStore:
        """The case's volume store.

        Raises:
            CaseError: It was not found.
        """
        if self.volume is None:
            raise CaseError(
                "it has no volume store beside its run that the mask was made from.",
                "Name the folder of the volume stores with --volumes.",
            )
        return self.volume

    def needs_labels(self, what: str) -> None:
        """Refuse a regression.

        Args:
            what: The format's name, for the message.

        Raises:
            CaseError: The mask holds numbers.
        """
        if self.mask.target is not None:
            raise CaseError(
                f"it holds numbers ({self.mask.target}), and {what} holds classes.",
                "Export it as nifti, mha, nrrd, cog or ometiff.",
            )
