"""One reader per format; each is the only file that knows its library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import CaseError
from pipeline.io.readers import geotiff, nifti, picture
from pipeline.io.readers.source import Role, Source
from pipeline.space import Grid

READERS: dict[str, Callable[[Path, Role], Source]] = {
    ".nii.gz": nifti.open_source,
    ".nii": nifti.open_source,
    ".tif": geotiff.open_source,
    ".tiff": geotiff.open_source,
    ".png": picture.open_source,
    ".jpg": picture.open_source,
    ".jpeg": picture.open_source,
}
"""Format suffix → reader. The longest suffix that fits a name wins."""

__all__ = ["READERS", "Role", "Source", "case_id", "difference", "format_suffix", "open_source"]


def format_suffix(path: Path) -> str | None:
    """The suffix by which a file's format is known, as written; None where no reader knows it.

    Example:
        >>> format_suffix(Path("Amazon_5.tiff_50.tiff")), format_suffix(Path("notes.txt"))
        ('.tiff', None)
    """
    name = path.name
    fitting = [s for s in READERS if name.lower().endswith(s) and len(name) > len(s)]
    return name[-len(max(fitting, key=len)) :] if fitting else None


def case_id(path: Path) -> str:
    """A case's id: the file's name without the suffix of its format.

    Example:
        >>> case_id(Path("scans/liver_7.nii.gz")), case_id(Path("Amazon_5.tiff_50.tiff"))
        ('liver_7', 'Amazon_5.tiff_50')
    """
    suffix = format_suffix(path)
    return path.name if suffix is None else path.name[: -len(suffix)]


def open_source(path: Path, role: Role) -> Source:
    """Open an image or a mask by its suffix; reads the header only.

    Args:
        path: The file.
        role: ``image`` or ``mask``: palette pictures are colours in the one, labels in the other.

    Raises:
        CaseError: The file is absent, of no known format, or damaged.
    """
    suffix = format_suffix(path)
    if suffix is None:
        known = ", ".join(READERS)
        raise CaseError(f"{path.name} is of no known format ({known}).", "Convert or remove it.")
    if not path.is_file():
        raise CaseError(f"{path.name} does not exist.", "Restore the file, or remove its case.")
    return READERS[suffix.lower()](path, role)


def difference(image: Grid, mask: Grid) -> str | None:
    """What separates a mask's place from its image's, in words; None where they are the same.

    ``Grid.difference``, and the coordinate reference systems compared by meaning: two programs
    word the same system differently.
    """
    if image.crs and mask.crs and not geotiff.same_crs(image.crs, mask.crs):
        return "it is in another coordinate reference system"
    return image.difference(mask)
