"""A mask as the formats of scans hold it: x fastest, three axes, a place in millimetres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.export.case import Export
from pipeline.io.files import write_json
from pipeline.space import Grid
from pipeline.space.grid import as_affine

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
GZIP, ZLIB = 31, 15
"""Kinds of compressed streams, as zlib's window bits."""
LEVEL = 2
"""ISA-L's for a stream: smaller than its first, and ten times as fast as zlib."""


def needs_scan(export: Export, what: str) -> None:
    """Refuse a scene.

    Args:
        export: The mask.
        what: The format's name, for the message.

    Raises:
        CaseError: Its place is on a map.
    """
    if export.grid.crs is not None:
        raise CaseError(
            f"it is a scene with a coordinate reference system, and {what} places scans "
            "in millimetres.",
            "Export it as cog, geojson or gpkg.",
        )


def sizes_of(export: Export) -> tuple[int, int, int]:
    """Voxels along x, y and z; a picture is one slice."""
    x, y, *z = reversed(export.grid.shape)
    return x, y, z[0] if z else 1


def affine_of(export: Export) -> NDArray[np.float64]:
    """Affine from (x, y, z) to RAS+ millimetres, 4 × 4; a picture lies in the plane z = 0."""
    matrix = export.grid.matrix
    if len(export.grid.shape) == 3:
        return matrix[:, [2, 1, 0, 3]]
    affine = np.eye(4)
    affine[np.ix_([0, 1, 3], [0, 1, 3])] = matrix[:, [1, 0, 2]]
    return affine


def lps_of(export: Export) -> NDArray[np.float64]:
    """Affine from (x, y, z) to LPS+ millimetres, the world of ITK and DICOM, 4 × 4.

    Of what has no place, a plain picture, the affine is ITK's for such a picture.
    """
    affine = affine_of(export)
    return affine if export.grid.unit is None else RAS_TO_LPS @ affine


def grid_of(affine: NDArray[np.float64], sizes: Sequence[int]) -> Grid:
    """A scan's place and size as a grid, to compare with another.

    Args:
        affine: From (x, y, z) to RAS+ millimetres, 4 × 4.
        sizes: Voxels along x, y and z.
    """
    return Grid(tuple(sizes[::-1]), as_affine(affine[:, [2, 1, 0, 3]]), "millimeter")


def write_voxels(export: Export, file: IO[bytes], kind: int | None, before: bytes = b"") -> int:
    """Write all voxels, x fastest, little-endian, slab by slab.

    Args:
        export: The mask.
        file: Where to.
        kind: ``GZIP``, ``ZLIB``, or None: they are not compressed. A gzip stream tells no time,
            so that the same voxels give the same bytes.
        before: What stands before them in the same stream.

    Returns:
        Bytes written.
    """
    begin = file.tell()
    packer = None if kind is None else isal_zlib.compressobj(LEVEL, wbits=kind)
    pack: Callable[[Any], Any] = memoryview if packer is None else packer.compress
    file.write(pack(before))
    for window in export.slabs():
        voxels = export.read(window)
        file.write(pack(np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<"))))
    if packer is not None:
        file.write(packer.flush())
    return file.tell() - begin


def write_sidecar(export: Export, suffixes: tuple[str, ...]) -> None:
    """Write what the format has no words for, ``<name>.mask.json``: names of labels, provenance.

    Args:
        export: The mask.
        suffixes: Of the format's files; the sidecar's name has none of them.
    """
    name = export.target.name
    stem = next((name[: -len(s)] for s in suffixes if name.lower().endswith(s)), name)
    write_json(export.target.with_name(f"{stem}.mask.json"), described(export))


def described(export: Export) -> dict[str, Any]:
    """What the voxels mean and what made them, as JSON values."""
    about = export.mask.attributes
    meaning: dict[str, Any] = {"target": export.mask.target, "nodata": "NaN"}
    if export.mask.target is None:
        meaning = {
            "labels": {c.name: c.label for c in export.classes},
            "colors": {c.name: list(c.color) for c in export.foreground},
            "nodata": export.nodata_label,
        }
    made = {k: about[k] for k in ("run", "model", "plan", "sources", "versions") if k in about}
    return {"case": export.case, **meaning, "made_by": made}
