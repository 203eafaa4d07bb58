"""HDF5 with h5py: a dataset read chunk by chunk. No link, and no dataset, leads out of the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np

from pipeline.errors import CaseError
from pipeline.io.readers.containers.array_rules import plain_axes, scaled_grid, spatial
from pipeline.io.readers.containers.arrays import (
    BLOCK_RATIO,
    ArraySource,
    StoredArray,
    chosen,
    refuse_excess,
)
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Grid, Shape

DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)


def open_container(path: Path, role: Role, item: str | None) -> ArraySource:
    """Open a dataset of an HDF5 file.

    Axes are named by ilastik's ``axistags`` where the dataset has them. ``element_size_um``
    (ilastik, PlantSeg) gives its scale.

    Args:
        path: The file.
        role: Images and masks are read alike.
        item: Path of the dataset in the file; None: the only one with two axes or more.
    """
    with damage_is_a_case_error(path, *DAMAGE):
        dataset = open_dataset(path, item)
        axes = _tagged_axes(dataset) or plain_axes(dataset.shape, dataset.dtype, path)
        grid = _grid(dataset, spatial(dataset.shape, axes))
    stored = StoredArray(
        tuple(dataset.shape), dataset.dtype, axes, dataset.__getitem__, dataset.chunks
    )
    return ArraySource(path, stored, DAMAGE, grid=grid)


def is_array(dataset: Any) -> bool:
    """Whether a dataset can be voxels: real numbers on two axes or more."""
    return dataset.ndim >= 2 and dataset.dtype.kind in "biuf"


def open_dataset(path: Path, item: str | None, usable: Callable[[Any], bool] = is_array) -> Any:
    """A dataset whose elements lie in the file itself, each chunk of a believable size.

    Args:
        path: The file.
        item: Path of the dataset in the file; None: the only usable one.
        usable: Whether a dataset can be voxels.

    Raises:
        CaseError: It is not there, or leads out of the file.
    """
    # Locks fail on some network file systems, and guard nothing for those who only read.
    file = h5py.File(path, "r", locking=False)
    if item is not None:
        item = item.strip("/")
        _refuse_links(path, file, item)
    dataset = file[chosen(path, _names(file, usable), item)]
    if dataset.is_virtual or dataset.external:
        raise CaseError(
            f"{path.name} keeps the voxels of {dataset.name} in other files.",
            "Copy the dataset into one file, with h5repack or h5py.",
        )
    held = dataset.id.get_storage_size()
    if dataset.chunks is not None:
        refuse_excess(path, prod(dataset.chunks) * dataset.dtype.itemsize, held, BLOCK_RATIO)
    elif held > path.stat().st_size:
        raise ValueError(f"{path.stat().st_size} bytes for a dataset of {held}")
    return dataset


def _names(file: Any, usable: Callable[[Any], bool]) -> list[str]:
    """Usable datasets, by hard links alone; private groups (``#refs#``) are left out."""
    found: list[str] = []

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and not name.startswith("#") and usable(node):
            found.append(name)

    file.visititems(note)
    return found


def _refuse_links(path: Path, file: Any, item: str) -> None:
    """Refuse a dataset that is reached by other than hard links, which alone stay in the file."""
    parts = PurePosixPath(item).parts
    for count in range(1, len(parts) + 1):
        link = file.get("/".join(parts[:count]), getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise CaseError(
                f"{path.name} links {item} to another file.", "Copy the dataset into this file."
            )
        if isinstance(link, h5py.SoftLink):
            raise CaseError(
                f"{path.name} links {item} to {link.path}: a dataset is named by its own path.",
                "Name the path where the dataset itself stands.",
            )
        if link is None:
            return


def _tagged_axes(dataset: Any) -> str | None:
    """Axes as ilastik tags them; None where it did not, or where they cannot be ours."""
    tags = dataset.attrs.get("axistags")
    if not isinstance(tags, str):
        return None
    axes = "".join(str(axis["key"]) for axis in json.loads(tags)["axes"])
    sizes = dict(zip(axes, dataset.shape, strict=False))
    if len(sizes) != dataset.ndim or len(axes) != dataset.ndim or not {"x", "y"} <= set(axes):
        return None
    if any(n != 1 for axis, n in sizes.items() if axis not in "czyx"):
        return None
    return axes


def _grid(dataset: Any, shape: Shape) -> Grid:
    """Its scale, micrometres in ``element_size_um``, as millimetres."""
    sizes = np.atleast_1d(np.asarray(dataset.attrs.get("element_size_um", ()), np.float64))
    if sizes.shape not in ((len(shape),), (3,)):
        return scaled_grid(shape, None)
    return scaled_grid(shape, [float(size) / 1000 for size in sizes[-len(shape) :]])
