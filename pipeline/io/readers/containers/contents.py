"""The names of what a container holds, to choose from."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import zarr
from zarr.errors import ZarrUserWarning

from pipeline.errors import CaseError
from pipeline.io.readers.containers import hdf5, mat5, matlab, numpy_file, zarr_folder
from pipeline.io.readers.pictures.ome import ome_image
from pipeline.io.readers.source import damage_is_a_case_error

DEPTH = 5
"""Groups within groups that are searched."""


def array_names(path: Path) -> list[str]:
    """Names by which ``open_source`` finds the arrays of a container; empty for the image it is.

    Args:
        path: A file or folder of one of the formats in ``CONTAINERS``.

    Raises:
        CaseError: It is damaged.
    """
    names, damage = LISTS[path.suffix.lower()]
    try:
        with damage_is_a_case_error(path, *damage):
            return names(path)
    except RecursionError as error:
        raise CaseError(f"{path.name} nests too deeply.", "Save it again.") from error


def _in_hdf5(path: Path) -> list[str]:
    found: list[str] = []

    def note(name: str, node: Any) -> None:
        # MATLAB gives a number two axes as well.
        if isinstance(node, h5py.Dataset) and sum(n > 1 for n in node.shape or ()) >= 2:
            found.append(name)

    with h5py.File(path, "r", locking=False) as file:
        file.visititems(note)
    return [name for name in found if not name.startswith("#")]


def _in_matlab(path: Path) -> list[str]:
    if h5py.is_hdf5(path):
        return _in_hdf5(path)
    found = mat5.variables(path)
    return [v.name for v in found if v.name and sum(n > 1 for n in v.shape) >= 2]


def _in_numpy(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
    return [name.removesuffix(".npy") for name in members]


def _in_zarr(path: Path) -> list[str]:
    node = zarr.open(path, mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)
        return [""] if isinstance(node, zarr.Array) else list(_below(node, "", DEPTH))


def _below(group: zarr.Group, place: str, depth: int) -> Iterator[str]:
    """Arrays and OME-Zarr images of a group; the levels of an image are no images of their own."""
    image = ome_image(dict(group.attrs)) is not None
    if image:
        yield place
    if depth == 0:
        return
    for name, node in sorted(group.members(), key=lambda member: member[0]):
        inner = f"{place}/{name}".strip("/")
        if isinstance(node, zarr.Group) and (not image or name == "labels"):
            yield from _below(node, inner, depth - 1)
        elif isinstance(node, zarr.Array) and not image and node.ndim >= 2:
            yield inner


LISTS: dict[str, tuple[Callable[[Path], list[str]], Any]] = {
    ".h5": (_in_hdf5, hdf5.DAMAGE),
    ".hdf5": (_in_hdf5, hdf5.DAMAGE),
    ".mat": (_in_matlab, matlab.DAMAGE),
    ".npz": (_in_numpy, numpy_file.DAMAGE),
    ".zarr": (_in_zarr, zarr_folder.DAMAGE),
}
"""How each container is listed, and what its library raises where it is damaged."""
