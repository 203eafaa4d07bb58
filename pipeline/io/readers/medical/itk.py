"""MetaImage and NRRD, the formats that ITK's programs write, as files of raw or deflated voxels.

Both place voxels in LPS millimetres; segflow's affines lead to RAS+. A fourth axis is of channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.readers.containers.arrays import as_voxels, voxel_dtype
from pipeline.io.readers.medical import metaimage, nrrd
from pipeline.io.readers.medical.grid import medical_grid
from pipeline.io.readers.medical.gzip_stream import INFLATE_DAMAGE
from pipeline.io.readers.medical.inflated_voxels import open_voxels
from pipeline.io.readers.medical.itk_header import ItkHeader
from pipeline.io.readers.medical.raw_voxels import RawVoxels, refuse_outside
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Grid, Shape, Volume, Window

DAMAGE = (*INFLATE_DAMAGE, ValueError, KeyError, OverflowError)
HEADERS = {
    ".mha": metaimage.read_header,
    ".mhd": metaimage.read_header,
    ".nrrd": nrrd.read_header,
    ".nhdr": nrrd.read_header,
}


class ItkSource:
    """A MetaImage or NRRD file, with or without its voxels in files of their own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        header = _read_header(path)
        self.placed = header.placed
        self.channels = header.channels
        self.dtype: np.dtype[Any] = voxel_dtype(header.dtype, path)
        self.grid = _grid(header)
        self.block: Shape = (1, *self.grid.shape[1:])
        with damage_is_a_case_error(path, *DAMAGE):
            parts = [open_voxels(layout) for layout in header.layouts()]
        by_channel = header.channels > 1 and not header.interleaved
        self._voxels = parts[0] if len(parts) == 1 else _Listed(parts, by_channel, self.grid.shape)

    @property
    def sequential(self) -> bool:
        """True for a large deflated file whose channels, if any, lie together."""
        return self._voxels.sequential

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Z, Y, X) or (C, Y, X); not to be written to."""
        with damage_is_a_case_error(self.path, *DAMAGE):
            stored = self._voxels.read(window)
        return Volume(as_voxels(stored, self.dtype, self.path), self.grid.cropped(window))


class _Listed:
    """Voxels in several files: one per channel, or one per step of the first spatial axis."""

    sequential = False

    def __init__(self, parts: list[RawVoxels], by_channel: bool, shape: Shape) -> None:
        self._parts = parts
        self._by_channel = by_channel
        self._shape = shape

    def read(self, window: Window) -> NDArray[Any]:
        """Voxels of a window, (C, Z, Y, X) or (C, Y, X)."""
        refuse_outside(window, self._shape)
        if self._by_channel:
            return np.concatenate([part.read(window) for part in self._parts])
        plane = Window((0, *window.start[1:]), (1, *window.shape[1:]))
        wanted = self._parts[window.start[0] : window.stop[0]] or self._parts[:1]
        planes = np.concatenate([part.read(plane) for part in wanted], axis=1)
        return planes[:, : window.shape[0]]


def open_source(path: Path, role: Role) -> ItkSource:
    """Open a MetaImage or NRRD file; images and masks are read alike."""
    return ItkSource(path)


def companions(path: Path) -> tuple[Path, ...]:
    """Files that a header without voxels names: they are part of the source. () for all others.

    Raises:
        CaseError: The header is damaged, or names a file that is absent or outside its folder.
    """
    return _read_header(path).companions if path.suffix.lower() in HEADERS else ()


def _read_header(path: Path) -> ItkHeader:
    with damage_is_a_case_error(path, *DAMAGE):
        return HEADERS[path.suffix.lower()](path)


def _grid(header: ItkHeader) -> Grid:
    """The grid in RAS+: x and y of the world change their signs."""
    count = len(header.shape)
    affine = np.eye(count + 1)
    affine[:count, :count] = header.steps
    affine[:count, count] = header.origin
    affine[:2] *= -1
    return medical_grid(header.path, header.shape, affine)
