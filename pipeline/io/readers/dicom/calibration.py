"""From stored values to what they mean: rescaled, higher is brighter, padding set apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.dicom.frames import Frame
from pipeline.io.readers.dicom.header import Header, PixelFormat
from pipeline.io.readers.source import Role

Range = tuple[int, int]
WIDER = (np.dtype(np.int16), np.dtype(np.int32))


def stored_range(form: PixelFormat) -> Range:
    """Least and greatest value that fits the stored bits."""
    half = 1 << (form.bits_stored - 1)
    return (-half, half - 1) if form.signed else (0, 2 * half - 1)


def value_dtype(headers: Sequence[Header]) -> np.dtype[Any]:
    """The type of the values of a volume, the same for all its slices.

    Integers stay integers where every slice is only shifted by a whole number: the stored type
    where it holds what the stored bits can become, else the first of int16 and int32 that does.
    All else becomes float32.

    Raises:
        CaseError: Shifted values do not fit 32 bits.
    """
    if any(header.pixels.kind != "PixelData" or not _shifted(header) for header in headers):
        return np.dtype(np.float32)
    least = min(stored_range(h.format)[0] + int(f.intercept) for h in headers for f in h.frames)
    most = max(stored_range(h.format)[1] + int(f.intercept) for h in headers for f in h.frames)
    widest = max((h.format for h in headers), key=lambda form: form.bits_allocated)
    stored = np.dtype(f"{'i' if widest.signed else 'u'}{widest.bits_allocated // 8}")
    for dtype in (stored, *WIDER):
        if np.iinfo(dtype).min <= least and most <= np.iinfo(dtype).max:
            return dtype
    raise CaseError(
        f"its rescaled values may be {least} to {most}: 32 bits are supported.",
        "Export the series anew with 16-bit voxels.",
    )


def _shifted(header: Header) -> bool:
    return all(f.slope == 1 and f.intercept == int(f.intercept) for f in header.frames)


def calibrated(
    stored: NDArray[Any], header: Header, frame: Frame, dtype: np.dtype[Any], role: Role
) -> NDArray[Any]:
    """Values of a frame, (C, Y, X), of ``dtype``.

    Where MONOCHROME1 says that higher is darker and no rescaling gives the values a meaning of
    their own, they are turned over within the stored range: higher is brighter. Masks hold
    labels, which are never turned over.
    """
    if frame.slope != 1 or frame.intercept != 0:
        if dtype.kind == "f":
            real: NDArray[Any] = stored * np.float64(frame.slope) + frame.intercept
            return real.astype(dtype)
        shifted: NDArray[Any] = stored.astype(dtype) + dtype.type(int(frame.intercept))
        return shifted
    darker = header.format.photometric == "MONOCHROME1" and role == "image"
    if darker and header.pixels.kind == "PixelData":
        # Within the stored bits: the least value and the greatest change places.
        turned = -1 if header.format.signed else stored_range(header.format)[1]
        stored = stored.dtype.type(turned) - stored
    return stored.astype(dtype, copy=False)


def not_padding(stored: NDArray[Any], header: Header) -> NDArray[np.bool_] | None:
    """Where a frame holds data, (Y, X): not the values with which a scanner fills its edges.

    None where the header names no such values.
    """
    if header.padding is None:
        return None
    least, most = header.padding
    padding: NDArray[np.bool_] = np.all((stored >= least) & (stored <= most), axis=0)
    return ~padding
