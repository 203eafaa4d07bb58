"""MATLAB's .mat: v5 to v7, and v7.3, which is HDF5.

MATLAB counts (rows, columns, slices, channels), which are (Y, X, Z, C) here whatever the version
of the file. Only arrays of numbers are read: no object, no function, no table.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.errors import CaseError
from pipeline.io.readers.containers import hdf5, mat5, room
from pipeline.io.readers.containers.arrays import ArraySource, StoredArray, chosen
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Shape

DAMAGE: tuple[type[Exception], ...] = (*hdf5.DAMAGE, *room.DAMAGE, struct.error)
NUMBERS = (
    *("double", "single", "logical", "int8", "uint8"),
    *("int16", "uint16", "int32", "uint32", "int64", "uint64"),
)
"""MATLAB's classes of numbers."""


def open_container(path: Path, role: Role, item: str | None) -> ArraySource:
    """Open a variable of a MATLAB file.

    Args:
        path: The file.
        role: Images and masks are read alike.
        item: Name of the variable; None: the only one that is no scalar and no vector.
    """
    with damage_is_a_case_error(path, *DAMAGE):
        return _open_hdf5(path, item) if h5py.is_hdf5(path) else _open_level5(path, item)


def _open_hdf5(path: Path, item: str | None) -> ArraySource:
    dataset = hdf5.open_dataset(path, item, _is_matrix)
    # MATLAB runs through rows first, HDF5 through the last axis: the axes stand in reverse.
    axes = matlab_axes(dataset.shape[::-1], dataset.dtype, path)[::-1]
    stored = StoredArray(
        tuple(dataset.shape), dataset.dtype, axes, dataset.__getitem__, dataset.chunks
    )
    return ArraySource(path, stored, DAMAGE)


def _is_matrix(dataset: Any) -> bool:
    kind = dataset.attrs.get("MATLAB_class", b"double")
    name = kind.decode() if isinstance(kind, bytes) else str(kind)
    return name in NUMBERS and dataset.dtype.kind in "biuf" and _is_array(dataset.shape)


def _open_level5(path: Path, item: str | None) -> ArraySource:
    found = {v.name: v for v in mat5.variables(path) if v.name and _is_array(v.shape)}
    variable = found[chosen(path, list(found), item)]
    axes = matlab_axes(variable.shape, variable.dtype, path)
    lent = variable.lent()
    # Rows run fastest: in reverse, the axes stand as they lie in the file.
    stored = StoredArray(
        variable.shape[::-1], variable.dtype, axes[::-1], lambda box: lent[box[::-1]].T
    )
    return ArraySource(path, stored, DAMAGE)


def matlab_axes(shape: Shape, dtype: np.dtype[Any], path: Path) -> str:
    """Axes of an array in MATLAB's order.

    Two axes are (Y, X), three (Y, X, Z), or (Y, X, C) where the last is 3 or 4 bytes as pictures
    have, four (Y, X, Z, C).

    Raises:
        CaseError: There are more axes.

    Example:
        >>> matlab_axes((496, 768, 61), np.dtype("float64"), Path("subject_01.mat"))
        'yxz'
    """
    if len(shape) > 4:
        raise CaseError(
            f"{path.name} has an array of shape {shape}: (rows, columns), with slices and "
            "channels behind them, are expected.",
            "Save one array per time point.",
        )
    if len(shape) == 3 and shape[2] in (3, 4) and dtype == np.uint8:
        return "yxc"
    return "yxzc"[: len(shape)]


def _is_array(shape: Shape) -> bool:
    """Whether it is more than a scalar or a vector, which MATLAB gives two axes as well."""
    return sum(n > 1 for n in shape) >= 2
