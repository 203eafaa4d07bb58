"""NIfTI-1 and -2, plain and gzip, with nibabel.

NIfTI stores (X, Y, Z[, C]) with an affine to RAS+ millimetres; segflow's arrays are (C, Z, Y, X).
The voxels are transposed, and the affine's columns with them: nothing is resampled or flipped.
"""

from __future__ import annotations

import gzip
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.files import write_atomic
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Grid, Volume, Window
from pipeline.space.grid import as_affine

DAMAGE = (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, OverflowError)
# Millimetres per unit of the header's xyzt_units; unknown is taken for millimetres, as everywhere.
MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}


class NiftiSource:
    """A NIfTI file; uncompressed voxels are memory-mapped."""

    placed = True

    def __init__(self, path: Path) -> None:
        self.path = path
        with damage_is_a_case_error(path, *DAMAGE):
            self._image: Any = nib.load(path)
            shape = tuple(int(n) for n in self._image.shape)
            affine = np.asarray(self._image.affine, dtype=np.float64)
            unit = self._image.header.get_xyzt_units()[0]
        if len(shape) not in (3, 4) or 0 in shape:
            raise CaseError(
                f"{path.name} has shape {shape}: 3-D, or 4-D with channels last, is expected.",
                "Split or convert the file.",
            )
        if not np.all(np.isfinite(affine)) or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise CaseError(
                f"{path.name} has an affine that maps voxels to no place.",
                "Write a valid sform or qform into its header.",
            )
        affine[:3] *= MM.get(unit, 1.0)
        self.channels = shape[3] if len(shape) == 4 else 1
        reordered = affine[:, [2, 1, 0, 3]]
        self.grid = Grid(shape[2::-1], as_affine(reordered), "millimeter")

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The stored type, or float32 where the header scales the values."""
        stored = np.dtype(self._image.get_data_dtype()).newbyteorder("=")
        scaled = (self._image.dataobj.slope, self._image.dataobj.inter) != (1.0, 0.0)
        return np.dtype("float32") if scaled or stored == np.dtype("float64") else stored

    @cached_property
    def _unzipped(self) -> NDArray[Any]:
        # gzip has no way to seek: inflating once beats inflating anew for every window.
        with damage_is_a_case_error(self.path, *DAMAGE):
            return np.asarray(self._image.dataobj)

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Z, Y, X)."""
        zipped = self.path.name.lower().endswith(".gz")
        voxels = self._unzipped if zipped else self._image.dataobj
        with damage_is_a_case_error(self.path, *DAMAGE):
            array = np.asarray(voxels[window.slices[::-1]])
        if array.ndim == 3:
            array = array[..., None]
        ordered = np.ascontiguousarray(array.transpose(3, 2, 1, 0), dtype=self.dtype)
        return Volume(ordered, self.grid.cropped(window))


def write_nifti(path: Path, array: NDArray[Any], grid: Grid) -> None:
    """Write a volume as NIfTI-1, atomically; the same voxels give the same bytes.

    Args:
        path: The file, ``.nii`` or ``.nii.gz``.
        array: (Z, Y, X), or (C, Z, Y, X); booleans are written as uint8.
        grid: Where it lies; NIfTI keeps its affine in float32.
    """
    voxels = array.astype(np.uint8) if array.dtype == np.bool_ else array
    voxels = np.moveaxis(voxels, 0, -1) if array.ndim == 4 else voxels[..., None]
    voxels = voxels.transpose(2, 1, 0, 3)  # (Z, Y, X, C) -> (X, Y, Z, C)
    affine = grid.matrix[:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(
        voxels if array.ndim == 4 else voxels[..., 0], affine, dtype=voxels.dtype
    )
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    zipped = path.name.lower().endswith(".gz")
    # A gzip file notes its time of making, unless it is told another.
    write_atomic(path, gzip.compress(content, 6, mtime=0) if zipped else content)


def open_source(path: Path, role: Role) -> NiftiSource:
    """Open a NIfTI file; images and masks are read alike."""
    return NiftiSource(path)
