"""Zarr v2 and v3 folders: arrays, OME-Zarr images and segflow's own stores, read in place."""

from __future__ import annotations

import lzma
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import BaseZarrError, ZarrUserWarning

from pipeline.errors import CaseError
from pipeline.io.readers.containers.array_rules import plain_axes, spatial
from pipeline.io.readers.containers.arrays import ArraySource, chosen
from pipeline.io.readers.containers.zarr_array import refuse_empty, stored_array
from pipeline.io.readers.pictures.ome import OmeImage, ome_grid, ome_image
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Grid, Window

DAMAGE = (
    BaseZarrError,
    OSError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
)
DEPTH = 5
"""Groups within groups that are searched for arrays."""
AXES = {
    "c": "c",
    "channel": "c",
    "band": "c",
    "z": "z",
    "y": "y",
    "lat": "y",
    "latitude": "y",
    "x": "x",
    "lon": "x",
    "longitude": "x",
    "t": "t",
    "time": "t",
}
"""Names of dimensions, and the axes they are."""


def open_container(path: Path, role: Role, item: str | None) -> ArraySource:
    """Open an array of a Zarr folder.

    Args:
        path: The folder.
        role: An image must hold something; a mask may be empty.
        item: Path of the array, or of an OME-Zarr image, in the folder; None: the image that the
            folder is, or the only array in it.
    """
    place = item or ""
    with damage_is_a_case_error(path, *DAMAGE):
        node = _open(path, place)
        if isinstance(node, zarr.Group) and not _is_image(node):
            place = f"{place}/{chosen(path, list(_names(node)), None)}"
            node = _open(path, place)
        if isinstance(node, zarr.Array):
            return _plain(path, node, _folder(path, place), role)
        if "segflow" in node.attrs:
            return _store(path, node)
        return _ome(path, node, place, role)


def _folder(path: Path, item: str) -> Path:
    return path.joinpath(*(part for part in PurePosixPath(item).parts if part != "/"))


def _open(path: Path, item: str) -> zarr.Group | zarr.Array[Any]:
    folder = _folder(path, item)
    if ".." in folder.parts[len(path.parts) :] or not folder.resolve().is_relative_to(
        path.resolve()
    ):
        raise CaseError(
            f"{path.name} names {item}, which lies outside of it.",
            "Copy the array into the folder, or remove the case.",
        )
    if not path.is_dir():
        raise CaseError(f"{path.name} is no folder.", "Unpack it, or convert it.")
    if not folder.is_dir():
        raise CaseError(
            f"{path.name} holds nothing named {item}.",
            "Name the array by its path in the folder.",
        )
    return zarr.open(folder, mode="r")


def _is_image(group: zarr.Group) -> bool:
    return "segflow" in group.attrs or ome_image(dict(group.attrs)) is not None


def _names(group: zarr.Group, depth: int = DEPTH) -> Iterator[str]:
    """Arrays of numbers with two axes or more, and OME-Zarr images, below a group."""
    with warnings.catch_warnings():
        # Other files in the folder, such as a desktop's, are nobody's business.
        warnings.simplefilter("ignore", ZarrUserWarning)
        members = sorted(group.members(), key=lambda member: member[0])
    for name, node in members:
        if isinstance(node, zarr.Array):
            if node.ndim >= 2 and node.dtype.kind in "biuf":
                yield name
        elif _is_image(node):
            yield name
        elif depth > 1:
            yield from (f"{name}/{inner}" for inner in _names(node, depth - 1))


def _plain(path: Path, array: zarr.Array[Any], folder: Path, role: Role) -> ArraySource:
    if role == "image":
        refuse_empty(path, folder)
    axes = _named_axes(array) or plain_axes(array.shape, array.dtype, path)
    return ArraySource(path, stored_array(path, folder, array, axes), DAMAGE)


def _named_axes(array: zarr.Array[Any]) -> str | None:
    """Axes by the names of their dimensions; None where they have none, or none that is ours."""
    names: Any = getattr(array.metadata, "dimension_names", None)
    names = names or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    axes = "".join(AXES.get(str(name).lower(), "?") for name in names)
    whole = len(axes) == array.ndim and len(set(axes)) == len(axes) and {"y", "x"} <= set(axes)
    if not whole or "?" in axes:
        return None
    sizes = dict(zip(axes, array.shape, strict=True))
    return None if sizes.get("t", 1) > 1 else axes


def _ome(path: Path, group: zarr.Group, place: str, role: Role) -> ArraySource:
    image = ome_image(dict(group.attrs))
    assert isinstance(image, OmeImage)
    array, folder = _array(path, f"{place}/{image.path}")
    if role == "image":
        refuse_empty(path, folder)
    sizes = dict(zip(image.axes, array.shape, strict=True))
    if late := {axis: n for axis, n in sizes.items() if axis not in "czyx" and n > 1}:
        raise CaseError(
            f"{path.name} has {max(late.values())} entries on its axis {min(late)}: one volume is "
            "expected.",
            "Save each time point as an image of its own.",
        )
    grid, placed = ome_grid(image, spatial(array.shape, image.axes))
    stored = stored_array(path, folder, array, image.axes)
    return ArraySource(path, stored, DAMAGE, grid=grid, placed=placed)


def _store(path: Path, group: zarr.Group) -> ArraySource:
    """A segflow volume store, or a mask store."""
    known: Any = group.attrs["segflow"]
    if known.get("status") != "complete":
        raise CaseError(
            f"{path.name} is a segflow store that is not complete.",
            "Run the stage that writes it again.",
        )
    if known["kind"] not in ("volume", "mask"):
        raise CaseError(
            f"{path.name} is a segflow store of {known['kind']}, not of images or masks.",
            "Give the volume store, or the mask store.",
        )
    grid = Grid.from_json(known["grid"])
    volume = known["kind"] == "volume"
    array, folder = _array(path, "0/image" if volume else "0/mask")
    axes = ("c" if volume else "") + "".join(grid.axes)
    mask = _array(path, "valid")[0] if volume else array
    missing = False if volume else known["nodata"]

    def valid(window: Window) -> NDArray[np.bool_] | None:
        told = np.asarray(mask[window.slices]) != missing
        return None if told.all() else told

    return ArraySource(
        path,
        stored_array(path, folder, array, axes),
        DAMAGE,
        grid=grid,
        placed=grid.unit is not None,
        valid=valid,
    )


def _array(path: Path, item: str) -> tuple[zarr.Array[Any], Path]:
    """An array, and its folder."""
    node = _open(path, item)
    if not isinstance(node, zarr.Array):
        raise ValueError(f"{item} is no array")
    return node, _folder(path, item)
