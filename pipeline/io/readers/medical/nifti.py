"""NIfTI-1 and -2, plain and gzip: headers by nibabel, voxels from the file's own bytes.

NIfTI stores (X, Y, Z[, C]) with X fastest, and an affine to RAS+ millimetres. The same bytes are
(C, Z, Y, X) in C order: only the affine's columns are reordered, nothing is resampled or flipped.
"""

from __future__ import annotations

import gzip
import logging
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.files import write_atomic
from pipeline.io.readers.containers.arrays import as_voxels, voxel_dtype
from pipeline.io.readers.medical.grid import medical_grid
from pipeline.io.readers.medical.gzip_stream import INFLATE_DAMAGE, InflateStream
from pipeline.io.readers.medical.inflated_voxels import open_voxels
from pipeline.io.readers.medical.raw_voxels import RawLayout
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Grid, Shape, Volume, Window

DAMAGE = (*INFLATE_DAMAGE, ImageFileError, HeaderDataError, ValueError, OverflowError)
# Millimetres per unit of the header's xyzt_units, its last three bits: metres and micrometres. All
# others, the unknown among them, are taken for millimetres, as everywhere.
MM = {1: 1000.0, 3: 0.001}
ERROR_LEVEL = 40
"""nibabel's severity at which a header is refused; what is below, it mends."""

_quiet = logging.Logger("nibabel headers")
_quiet.addHandler(logging.NullHandler())


class NiftiSource:
    """A NIfTI file.

    Plain voxels are memory-mapped. A large gzip file is read onward, slab by slab; one with
    channels, which lie one behind another, is inflated into a scratch file first.
    """

    placed = True

    def __init__(self, path: Path) -> None:
        self.path = path
        with damage_is_a_case_error(path, *DAMAGE):
            header, skip = _read_header(path)
            shape = tuple(int(n) for n in header.get_data_shape())
            stored = np.dtype(header.get_data_dtype())
            slope, inter = header.get_slope_inter()
        self._slope: float = 1.0 if slope is None else slope
        self._inter: float = 0.0 if slope is None else inter
        self._scaled = (self._slope, self._inter) != (1.0, 0.0)
        self.channels = _channels(path, shape)
        self.grid = medical_grid(path, shape[2::-1], _affine(path, header))
        self.block: Shape = (1, *self.grid.shape[1:])
        unscaled = voxel_dtype(stored, path)
        self.dtype: np.dtype[Any] = np.dtype("float32") if self._scaled else unscaled
        layout = RawLayout(
            path, 0, skip, stored, self.channels, self.grid.shape, deflated=_zipped(path)
        )
        with damage_is_a_case_error(path, *DAMAGE):
            self._voxels = open_voxels(layout)

    @property
    def sequential(self) -> bool:
        """True for a large gzip file of one channel."""
        return self._voxels.sequential

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Z, Y, X); not to be written to."""
        with damage_is_a_case_error(self.path, *DAMAGE):
            stored = self._voxels.read(window)
        if self._scaled:
            array = _rescaled(stored, self._slope, self._inter)
        else:
            array = as_voxels(stored, self.dtype, self.path)
        return Volume(array, self.grid.cropped(window))


def _zipped(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _read_header(path: Path) -> tuple[Any, int]:
    """The header, mended as nibabel mends it, and the byte at which the voxels begin."""
    block = _first_bytes(path, nib.Nifti2Header.sizeof_hdr)
    kinds = [k for k in (nib.Nifti1Header, nib.Nifti2Header) if k.may_contain_header(block)]
    if not kinds:
        raise ImageFileError("it does not begin with a NIfTI header")
    header = kinds[0](block[: kinds[0].sizeof_hdr], check=False)
    header.check_fix(_quiet, ERROR_LEVEL)
    skip = int(header.get_data_offset())
    if header["magic"].item() != header.single_magic or skip < header.single_vox_offset:
        raise ImageFileError("its voxels would lie in its header, or in a file of their own")
    return header, skip


def _first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of the inflated file; all where it is shorter."""
    if not _zipped(path):
        with path.open("rb") as file:
            return file.read(count)
    return InflateStream(path).take(count)


def _channels(path: Path, shape: Shape) -> int:
    """Size of the channel axis: the one behind the third that is no 1."""
    behind = [n for n in shape[3:] if n != 1]
    if len(shape) < 3 or min(shape) < 1 or len(behind) > 1:
        raise CaseError(
            f"{path.name} has shape {shape}: 3-D, or 4-D with channels last, is expected.",
            "Split or convert the file.",
        )
    return prod(behind)


def _affine(path: Path, header: Any) -> NDArray[np.float64]:
    """Affine from (x, y, z) to RAS+ millimetres; the sform goes before the qform."""
    with damage_is_a_case_error(path, *DAMAGE), np.errstate(all="ignore"):
        affine = np.array(header.get_best_affine(), dtype=np.float64)
        affine[:3] *= MM.get(int(header["xyzt_units"]) & 7, 1.0)
    return affine


def _rescaled(stored: NDArray[Any], slope: float, inter: float) -> NDArray[np.float32]:
    """Values in float32, reckoned in double precision as nibabel does."""
    out = np.empty(stored.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        # Plane by plane: a whole window in double precision would take twice its memory.
        for plane in np.ndindex(stored.shape[:-2]):
            out[plane] = stored[plane] * np.float64(slope) + np.float64(inter)
    return out


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
    # A gzip file notes its time of making, unless it is told another.
    write_atomic(path, gzip.compress(content, 6, mtime=0) if _zipped(path) else content)


def open_source(path: Path, role: Role) -> NiftiSource:
    """Open a NIfTI file; images and masks are read alike."""
    return NiftiSource(path)
