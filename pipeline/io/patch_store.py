"""The patch store: training patches, many per shard.

    patches.zarr/
      image   (N, C, *P) float16, normalised
      label   (N, *P)    class numbers, 255 (65535) where the loss must not look; of a regression
                         standardised values, float32, NaN there
      weight  (N, *P)    float16, weights of voxels in the loss, where it takes any

A chunk is one patch, so that training reads patches one by one in any order; a shard holds as
many as keep it below about 32 MiB, and is written by one task.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.io import store
from pipeline.io.layout import SHARD_BYTES
from pipeline.io.volume_store import no_label
from pipeline.space import Shape

KIND = "patches"


@dataclass(frozen=True)
class PatchSpec:
    """What a patch store will hold."""

    count: int
    """Patches, N."""
    channels: int
    """Channels, C."""
    shape: Shape
    """Voxels of a patch, P."""
    label_dtype: str
    """Element type of labels: uint8, uint16, or float32 in a regression."""
    weighted: bool
    """Whether voxels have weights."""
    key: str
    """Of cases, plan, settings and code."""

    @property
    def per_shard(self) -> int:
        """Patches in a shard."""
        return min(
            self.count, max(1, SHARD_BYTES // (2 * self.channels * int(np.prod(self.shape))))
        )

    @property
    def shards(self) -> list[range]:
        """Patch numbers of each shard."""
        step = self.per_shard
        return [range(a, min(a + step, self.count)) for a in range(0, self.count, step)]


def create_patches(final: Path, spec: PatchSpec) -> None:
    """Write the metadata of a new patch store, replacing an earlier attempt."""
    root = store.create_root(final)
    lead, axes = (spec.per_shard,), ("z", "y", "x")[-len(spec.shape) :]
    root.create_array(
        "image",
        shape=(spec.count, spec.channels, *spec.shape),
        dtype="float16",
        chunks=(1, spec.channels, *spec.shape),
        shards=(*lead, spec.channels, *spec.shape),
        compressors=store.CODECS,
        fill_value=0,
        dimension_names=("n", "c", *axes),
    )
    maps = {"label": (spec.label_dtype, no_label(spec.label_dtype))}
    if spec.weighted:
        maps["weight"] = ("float16", 0)
    for name, (dtype, fill) in maps.items():
        root.create_array(
            name,
            shape=(spec.count, *spec.shape),
            dtype=dtype,
            chunks=(1, *spec.shape),
            shards=(*lead, *spec.shape),
            compressors=store.CODECS,
            fill_value=fill,
            dimension_names=("n", *axes),
        )
    store.ready_to_write(root, spec.key, {"kind": KIND})


@dataclass(frozen=True)
class Patch:
    """One patch, or with a leading axis several."""

    image: NDArray[np.float16]
    """(C, *P), normalised."""
    label: NDArray[Any]
    """(*P), class numbers or standardised values."""
    weight: NDArray[np.float16] | None = None
    """(*P), weights of voxels in the loss; None: all weigh one."""


def write_patches(final: Path, numbers: range, patches: Sequence[Patch]) -> None:
    """Write one shard of patches.

    Args:
        final: Where the store will stand.
        numbers: The shard's patch numbers, one of ``PatchSpec.shards``.
        patches: One for each number.

    Raises:
        StoreError: The numbers are not one whole shard.
    """
    root = store.open_group(store.partial_path(final), "r+")
    images = store.array_at(root, "image")
    step = store.write_shape(images)[0]
    if numbers.start % step or (numbers.stop % step and numbers.stop != images.shape[0]):
        raise StoreError(
            f"patches {numbers.start}..{numbers.stop} are not whole shards of {step}: "
            "plan them with PatchSpec.shards"
        )
    for name in ("image", "label", "weight"):
        if name in root:
            values = np.stack([getattr(patch, name) for patch in patches])
            store.array_at(root, name)[numbers.start : numbers.stop] = values


def publish_patches(final: Path, attributes: dict[str, Any]) -> None:
    """Give a finished patch store its final name."""
    store.publish(final, lambda known: {**known, **attributes})


class PatchStore:
    """A published patch store.

    Args:
        path: The store.

    Raises:
        StoreError: It is absent or not complete.
    """

    def __init__(self, path: Path) -> None:
        root = store.open_complete(path, KIND)
        attributes: Any = root.attrs["segflow"]
        self.attributes: dict[str, Any] = attributes
        self.key: str = attributes["key"]
        self._image = store.array_at(root, "image")
        self._label = store.array_at(root, "label")
        self._weight = store.array_at(root, "weight") if "weight" in root else None

    def __len__(self) -> int:
        return int(self._image.shape[0])

    def numbers(self, left_out: Collection[str]) -> NDArray[np.int64]:
        """Numbers of the patches that are not of these cases, ascending."""
        if not left_out:
            return np.arange(len(self))
        unwanted = frozenset(left_out)
        return np.flatnonzero([case not in unwanted for case in self.attributes["cases"]])

    def read(self, number: int) -> Patch:
        """A patch."""
        weight = None if self._weight is None else np.asarray(self._weight[number])
        return Patch(np.asarray(self._image[number]), np.asarray(self._label[number]), weight)
