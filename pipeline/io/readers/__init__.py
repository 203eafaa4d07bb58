"""One reader per format; each is the only file that knows its library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import CaseError
from pipeline.io.origin import VECTORS
from pipeline.io.readers.containers import hdf5, matlab, numpy_file, zarr_folder
from pipeline.io.readers.dicom import reader as dicom
from pipeline.io.readers.geo import raster
from pipeline.io.readers.geo.crs import difference
from pipeline.io.readers.medical import itk, nifti
from pipeline.io.readers.pictures import picture, stack
from pipeline.io.readers.source import Role, Source


def _open_tiff(path: Path, role: Role) -> Source:
    """A stack of planes, or a scene: both are TIFF."""
    if stack.is_stack(path):
        return stack.open_source(path, role)
    return raster.open_source(path, role)


READERS: dict[str, Callable[[Path, Role], Source]] = {
    ".nii.gz": nifti.open_source,
    ".nii": nifti.open_source,
    ".dcm": dicom.open_source,
    ".nrrd": itk.open_source,
    ".nhdr": itk.open_source,
    ".mha": itk.open_source,
    ".mhd": itk.open_source,
    ".ome.tif": stack.open_source,
    ".ome.tiff": stack.open_source,
    ".tif": _open_tiff,
    ".tiff": _open_tiff,
    ".vrt": raster.open_source,
    ".jp2": raster.open_source,
    ".png": picture.open_source,
    ".jpg": picture.open_source,
    ".jpeg": picture.open_source,
    ".bmp": picture.open_source,
    ".npy": numpy_file.open_source,
}
"""Format suffix → reader. The longest suffix that fits a name wins."""

CONTAINERS: dict[str, Callable[[Path, Role, str | None], Source]] = {
    ".h5": hdf5.open_container,
    ".hdf5": hdf5.open_container,
    ".mat": matlab.open_container,
    ".npz": numpy_file.open_container,
    ".zarr": zarr_folder.open_container,
}
"""The same for files, and folders, that hold several arrays: the third argument names one."""

__all__ = [
    "CONTAINERS",
    "READERS",
    "Role",
    "Source",
    "case_id",
    "difference",
    "format_suffix",
    "open_source",
]


def format_suffix(path: Path) -> str | None:
    """The suffix by which a file's format is known, as written; None where no reader knows it.

    Example:
        >>> format_suffix(Path("Amazon_5.tiff_50.tiff")), format_suffix(Path("notes.txt"))
        ('.tiff', None)
    """
    name = path.name
    fitting = [
        s
        for s in (*READERS, *CONTAINERS, *VECTORS)
        if name.lower().endswith(s) and len(name) > len(s)
    ]
    return name[-len(max(fitting, key=len)) :] if fitting else None


def case_id(path: Path) -> str:
    """A case's id: the file's name without the suffix of its format.

    Example:
        >>> case_id(Path("scans/liver_7.nii.gz")), case_id(Path("Amazon_5.tiff_50.tiff"))
        ('liver_7', 'Amazon_5.tiff_50')
    """
    suffix = format_suffix(path)
    return path.name if suffix is None else path.name[: -len(suffix)]


def open_source(path: Path, role: Role, item: str | None = None) -> Source:
    """Open an image or a mask by its suffix; reads the header only.

    Args:
        path: The file.
        role: ``image`` or ``mask``: palette pictures are colours in the one, labels in the other.
        item: Name of the array, where a format holds several; None: the only one.

    Raises:
        CaseError: The file is absent, of no known format, damaged, or holds no such array.
    """
    suffix = format_suffix(path)
    if suffix is None or suffix.lower() in VECTORS:
        known = ", ".join([*READERS, *CONTAINERS])
        raise CaseError(f"{path.name} is of no known format ({known}).", "Convert or remove it.")
    kind = suffix.lower()
    if not (path.exists() if kind in CONTAINERS else path.is_file()):
        raise CaseError(f"{path.name} does not exist.", "Restore the file, or remove its case.")
    if kind in CONTAINERS:
        return CONTAINERS[kind](path, role, item)
    if item is not None:
        raise CaseError(
            f"{path.name} is one array: there is no {item} in it.",
            f"Leave ::{item} out of the pattern.",
        )
    return READERS[kind](path, role)
