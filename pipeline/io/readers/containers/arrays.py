"""Arrays that a file lends, as voxels: HDF5, MATLAB, NumPy, Zarr, stacks of pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.containers.array_rules import channel_first, spatial
from pipeline.io.readers.source import damage_is_a_case_error
from pipeline.space import Grid, Shape, Volume, Window, voxel_grid

MOST_VOXELS = 2**40
"""More than any scan or scene has: a header that claims them is damaged."""
SMALL_BYTES = 64 * 2**20
"""A block that a header may always claim, however small its file."""
MOST_BLOCK_BYTES = 2**31
"""Most that a file may make its reader decode at once."""
DEFLATE_RATIO = 1032
"""Most that deflate can pack into a byte (zlib's own documentation)."""
BLOCK_RATIO = 2**15
"""Most that the codecs of chunks reach on constant voxels (zstd packs 128 KiB into 4 bytes)."""

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, in the order in which its library gives it."""

    shape: Shape
    """Size of each axis."""
    dtype: np.dtype[Any]
    """Element type."""
    axes: str
    """One letter per axis: ``z y x`` and ``c`` once each at most; any other has size 1."""
    fetch: Callable[[Slices], Any]
    """Elements of a box, one slice per axis."""
    chunks: Shape | None = None
    """What the file decodes at once, per axis; None: its elements lie in it one after another."""


class ArraySource:
    """A stored array as voxels, (C, Z, Y, X) or (C, Y, X).

    Args:
        path: The file, for messages.
        stored: The array.
        damage: What its library raises where the file is damaged.
        grid: Where it lies; None: it does not say.
        placed: Whether the file itself says where it lies.
        alpha: Whether the last channel is transparency, which is validity here.
        valid: Validity of a window; None: all voxels are data.

    Raises:
        CaseError: Its type is of no number that segflow keeps, or its size is no volume's.
    """

    sequential = False

    def __init__(
        self,
        path: Path,
        stored: StoredArray,
        damage: tuple[type[Exception], ...],
        *,
        grid: Grid | None = None,
        placed: bool = False,
        alpha: bool = False,
        valid: Callable[[Window], NDArray[np.bool_] | None] | None = None,
    ) -> None:
        if 0 in stored.shape or prod(stored.shape) > MOST_VOXELS:
            raise CaseError(
                f"{path.name} has an array of shape {stored.shape}: 1 to {MOST_VOXELS} voxels are "
                "expected.",
                "Write the file again, or split it.",
            )
        self.path = path
        self.placed = placed
        self.dtype = voxel_dtype(stored.dtype, path)
        self.channels = dict(zip(stored.axes, stored.shape, strict=True)).get("c", 1) - alpha
        self.grid = voxel_grid(spatial(stored.shape, stored.axes)) if grid is None else grid
        self.block = _block(stored)
        self._stored, self._damage, self._alpha, self._valid = stored, damage, alpha, valid

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Z, Y, X) or (C, Y, X)."""
        wanted = dict(zip(self.grid.axes, window.slices, strict=True))
        box = tuple(wanted.get(axis, slice(None)) for axis in self._stored.axes)
        with damage_is_a_case_error(self.path, *self._damage):
            found = np.asarray(self._stored.fetch(box))
            valid = None if self._valid is None else self._valid(window)
        ordered = channel_first(found, self._stored.axes)
        voxels = as_voxels(ordered, self.dtype, self.path)
        if self._alpha:
            voxels, valid = voxels[:-1], voxels[-1] > 0
        return Volume(voxels, self.grid.cropped(window), valid)


def voxel_dtype(stored: np.dtype[Any], path: Path) -> np.dtype[Any]:
    """The native type in which voxels are kept.

    Whole numbers of 8 bytes are kept in 4, fractions in float32, truth values in uint8.

    Raises:
        CaseError: It is no type of real numbers.
    """
    if stored.kind == "b":
        return np.dtype("uint8")
    if stored.kind in "iu":
        return np.dtype(f"{stored.kind}{min(stored.itemsize, 4)}")
    if stored.kind == "f":
        return np.dtype("float32")
    raise CaseError(
        f"{path.name} holds elements of type {stored}: real numbers are expected.",
        "Save the voxels as whole numbers or floats.",
    )


def as_voxels(array: NDArray[Any], dtype: np.dtype[Any], path: Path) -> NDArray[Any]:
    """An array as contiguous elements of the type that ``voxel_dtype`` gave.

    Raises:
        CaseError: A whole number does not fit it.
    """
    if dtype.kind in "iu" and array.dtype.itemsize > dtype.itemsize and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise CaseError(
                f"{path.name} holds whole numbers from {array.min()} to {array.max()}: at most "
                f"{dtype.itemsize * 8} bits are kept.",
                "Number the classes anew, or save the image as float32.",
            )
    # What is out of float32's range becomes infinite, which every image is checked for.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=dtype)


def chosen(path: Path, names: Sequence[str], item: str | None) -> str:
    """The array to read of those that a file holds.

    Raises:
        CaseError: There is none, or several and ``item`` names none of them.
    """
    if item is None and len(names) == 1:
        return names[0]
    if item is not None and item.strip("/") in names:
        return item.strip("/")
    listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    if not names:
        raise CaseError(
            f"{path.name} holds no array of numbers with two axes or more.",
            "Save the voxels as an array, or remove the file.",
        )
    met = f"several arrays ({listed})" if item is None else f"no array {item}, but {listed}"
    raise CaseError(
        f"{path.name} holds {met}: one is to be named.",
        f"Name it behind two colons in the pattern, such as *{path.suffix}::{names[0]}.",
    )


def refuse_excess(path: Path, claimed: int, held: int, ratio: int) -> None:
    """Refuse a block whose header claims more than its bytes can hold, before memory is taken.

    Args:
        path: The file.
        claimed: Bytes that the header claims for what is decoded at once.
        held: Bytes of the file that hold them.
        ratio: Most that the codec can pack into a byte.

    Raises:
        CaseError: The claim is not to be believed, or more than memory should hold.
    """
    if claimed > max(SMALL_BYTES, held * ratio) or claimed > MOST_BLOCK_BYTES:
        raise CaseError(
            f"{path.name} claims {claimed} bytes in a block of {held}: it is damaged, or too large "
            "to be decoded at once.",
            "Copy the file again from its source, or save it in chunks.",
        )


def _block(stored: StoredArray) -> Shape:
    if stored.chunks is not None:
        return spatial(stored.chunks, stored.axes)
    # Elements one after another: best read along the axis that runs fastest.
    last = len(stored.shape) - 1
    run = tuple(n if axis == last else 1 for axis, n in enumerate(stored.shape))
    return spatial(run, stored.axes)
