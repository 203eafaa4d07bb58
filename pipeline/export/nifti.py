"""NIfTI on the grid of the source: the same voxel order, and the same qform and sform.

A NIfTI header may place voxels twice: the sform is an affine, the qform a rotation with voxel sizes
that can hold no shear, each with a code for the space it leads to; programs differ in which they
believe. Where the source is NIfTI and can be read, the fields of both are copied as they are. Else
both say the same, code 1 (the scanner's space); under shear the qform says nothing (code 0), so
that no program takes the wrong one. A picture without a place has voxel sizes alone.

https://nifti.nimh.nih.gov/nifti-1/documentation/nifti1fields
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from pipeline.errors import CaseError
from pipeline.export.case import Export
from pipeline.export.scan import (
    GZIP,
    affine_of,
    grid_of,
    needs_scan,
    sizes_of,
    write_sidecar,
    write_voxels,
)
from pipeline.export.source import source_file

SUFFIXES = (".nii.gz", ".nii")
DAMAGE = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError)
SCANNER = 1
"""Code of a place in the scanner's space."""
NIFTI1_MOST = 2**15 - 1
"""Largest axis of NIfTI-1."""
PLACE: tuple[str, ...] = ("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d")
PLACE += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")
"""Fields that place voxels, besides the first four of ``pixdim``. No other is copied: there are
texts among them, which may name the patient."""
MM = {1: 1000.0, 3: 0.001}
"""Millimetres per unit of ``xyzt_units``: metres and micrometres; all others are millimetres."""
NO_EXTENSION = bytes(4)


def write(export: Export) -> None:
    """Write a mask as NIfTI, with a sidecar that names its labels.

    Labels are uint8, or uint16 beyond 254 classes; numbers of a regression float32, NaN where there
    is no data. NIfTI-1, or NIfTI-2 where the source is or an axis is longer than 32767.

    Raises:
        CaseError: The mask is a scene, or the source is on another grid or damaged.
    """
    needs_scan(export, "NIfTI")
    zipped = export.target.name.lower().endswith(".gz")
    header = _header(export)
    with export.target.open("wb") as file:
        write_voxels(export, file, GZIP if zipped else None, header.binaryblock + NO_EXTENSION)
    write_sidecar(export, SUFFIXES)


def _header(export: Export) -> Any:
    """A header of the mask's size and type, in the source's place."""
    path = source_file(export, SUFFIXES)
    source = None if path is None else _source_header(path, export)
    long = max(export.grid.shape) > NIFTI1_MOST
    kind = nib.Nifti2Header if long or isinstance(source, nib.Nifti2Header) else nib.Nifti1Header
    header = kind()
    header.set_data_dtype(export.dtype)
    header.set_data_shape(sizes_of(export))
    header["magic"], header["vox_offset"] = kind.single_magic, kind.single_vox_offset
    header["descrip"] = b"segflow"
    if source is None:
        _place(header, export)
    else:
        _place_as(header, source)
    return header


def _place_as(header: Any, source: Any) -> None:
    """Copy the fields that place voxels."""
    for field in PLACE:
        header[field] = source[field]
    header["pixdim"][:4] = source["pixdim"][:4]
    header["xyzt_units"] = int(source["xyzt_units"]) & 7


def _place(header: Any, export: Export) -> None:
    """Place voxels by the mask's own grid."""
    header.set_zooms([*reversed(export.grid.spacing), 1.0][:3])
    if export.grid.unit is None:
        return
    affine = affine_of(export)
    header.set_xyzt_units("mm")
    header.set_sform(affine, code=SCANNER)
    header.set_qform(affine, code=SCANNER)
    sizes = sizes_of(export)
    if grid_of(header.get_qform(), sizes).difference(grid_of(affine, sizes)) is not None:
        header["qform_code"] = 0


def _source_header(path: Path, export: Export) -> Any:
    """The header of the source.

    Raises:
        CaseError: It is damaged, or on another grid than the mask.
    """
    try:
        header = nib.load(path).header
        sizes = (*header.get_data_shape(), 1, 1, 1)[:3]
        affine = header.get_best_affine()
    except DAMAGE as error:
        raise CaseError(
            f"the source {path.name} cannot be read ({type(error).__name__}).",
            "Copy it again, or export without --source.",
        ) from error
    affine[:3] *= MM.get(int(header["xyzt_units"]) & 7, 1.0)
    mask = grid_of(affine_of(export), sizes_of(export))
    if (far := mask.difference(grid_of(affine, sizes))) is not None:
        raise CaseError(
            f"the source {path.name} is not on the grid of the mask: {far}.",
            "Name with --source the image that the mask was made from.",
        )
    return header
