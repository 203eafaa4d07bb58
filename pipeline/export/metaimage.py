"""MetaImage, .mha: a header of text in LPS millimetres, and the voxels as a zlib stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.export.case import Export
from pipeline.export.scan import ZLIB, lps_of, needs_scan, sizes_of, write_sidecar, write_voxels

SUFFIXES = (".mha",)
TYPES = {"uint8": "MET_UCHAR", "uint16": "MET_USHORT", "float32": "MET_FLOAT"}
UNKNOWN_SIZE = "0" * 20
"""What stands for the stream's size until it is known; numbers may begin with zeros."""


def write(export: Export) -> None:
    """Write a mask as MetaImage, with a sidecar that names its labels.

    Labels are uint8, or uint16 beyond 254 classes; numbers of a regression float32, NaN where there
    is no data.

    Raises:
        CaseError: The mask is a scene.
    """
    needs_scan(export, "MetaImage")
    with export.target.open("wb") as file:
        header = _header(export)
        file.write(header)
        size = write_voxels(export, file, ZLIB)
        file.seek(header.index(UNKNOWN_SIZE.encode()))
        file.write(f"{size:020}".encode())
    write_sidecar(export, SUFFIXES)


def _header(export: Export) -> bytes:
    affine = lps_of(export)
    steps = affine[:3, :3]
    spacing = np.linalg.norm(steps, axis=0)
    lines = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "True",
        "CompressedDataSize": UNKNOWN_SIZE,
        # A row of the file is the direction of one axis.
        "TransformMatrix": _numbers((steps / spacing).T),
        "Offset": _numbers(affine[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "ElementSpacing": _numbers(spacing),
        "DimSize": " ".join(map(str, sizes_of(export))),
        "ElementType": TYPES[export.dtype.name],
        "ElementDataFile": "LOCAL",
    }
    return "".join(f"{key} = {value}\n" for key, value in lines.items()).encode()


def _numbers(values: NDArray[np.float64]) -> str:
    """Numbers in text, to the last digit."""
    return " ".join(repr(float(v)) for v in values.ravel())
