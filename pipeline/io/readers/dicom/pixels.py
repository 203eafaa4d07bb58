"""Frames of a DICOM file, decoded one at a time by pydicom and its plugins."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.uid import UID

from pipeline.io.readers.dicom.encapsulated import (
    Range,
    codestream,
    codestream_size,
    frame_ranges,
)
from pipeline.io.readers.dicom.file import inflated
from pipeline.io.readers.dicom.header import Header
from pipeline.io.readers.dicom.quiet import quiet

# Pillow decodes some syntaxes too, and rounds lossy ones otherwise: the same file must give the
# same voxels on every machine.
PLUGIN = "pylibjpeg"
RLE = "1.2.840.10008.1.2.5"
# Below this, a frame may be compressed as far as it goes; above, no codec has reason to.
ANY_RATIO_BYTES = 2**26
MOST_RATIO = 1000
DEFLATE_RATIO = 1100


def frame_bytes(header: Header) -> int:
    """Bytes of one frame when it is decoded; of one whose colours are subsampled, as stored."""
    form = header.format
    stored = form.rows * form.columns * form.samples * form.bits_allocated // 8
    subsampled = form.photometric == "YBR_FULL_422" and header.pixels.length is not None
    return stored // 3 * 2 if subsampled else stored


def fits_its_file(header: Header) -> bool:
    """Whether a file can hold the frames that its header announces."""
    size, frames, pixels = frame_bytes(header), len(header.frames), header.pixels
    decoder = decoder_of(pixels.syntax)
    if decoder is not None and decoder.is_encapsulated != (pixels.length is None):
        return False
    if pixels.length is None:
        within = size <= max(ANY_RATIO_BYTES, pixels.file_bytes * MOST_RATIO)
        return within and frames * 8 <= pixels.file_bytes
    if pixels.length < size * frames:
        return False
    if pixels.deflated_from is not None:
        return size * frames <= pixels.file_bytes * DEFLATE_RATIO
    return pixels.offset + size * frames <= pixels.file_bytes


@lru_cache(64)
def decoder_of(syntax: str) -> Decoder | None:
    """The decoder of a transfer syntax; None where there is none."""
    try:
        with quiet:
            decoder = get_decoder(UID(syntax))
    except NotImplementedError:
        return None
    return decoder if decoder.is_native or PLUGIN in decoder.available_plugins else None


class FrameReader:
    """The frames of one file."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self._ranges: list[list[Range]] | None = None

    def read(self, index: int) -> NDArray[Any] | None:
        """Stored values of a frame, (C, Y, X), colours as RGB; None where it is damaged."""
        try:
            with self.header.path.open("rb") as file, quiet:
                frame = self._decoded(file, index)
        except MemoryError:
            raise
        # Decoders answer damage with errors of every type, and quote what they met.
        except Exception:
            return None
        except BaseException as error:
            # The RLE decoder, in Rust, ends in a panic: of no type to import, and no Exception.
            if type(error).__name__ != "PanicException":
                raise
            return None
        colours = np.moveaxis(frame, -1, 0) if frame.ndim == 3 else frame[None]
        return colours.astype(frame.dtype.newbyteorder("="), copy=False)

    def _decoded(self, file: BinaryIO, index: int) -> NDArray[Any]:
        pixels = self.header.pixels
        if pixels.length is None:
            return self._decompressed(file, index)
        if pixels.deflated_from is not None:
            size = frame_bytes(self.header)
            file.seek(pixels.deflated_from)
            content = inflated(file, pixels.offset + index * size, size)
            return self._decode(BytesIO(content), 0, 1)
        file.seek(pixels.offset)
        return self._decode(file, index, len(self.header.frames))

    def _decompressed(self, file: BinaryIO, index: int) -> NDArray[Any]:
        if self._ranges is None:
            self._ranges = frame_ranges(file, self.header)
        data = codestream(_joined(file, self._ranges[index]))
        if self.header.pixels.syntax != RLE:
            announced = codestream_size(data)
            form = self.header.format
            if announced != (form.rows, form.columns, form.samples):
                raise ValueError(f"codestream of {announced}")
        return self._decode(encapsulate([data], has_bot=False), 0, 1)

    def _decode(self, source: BinaryIO | bytes, index: int, frames: int) -> NDArray[Any]:
        form, pixels = self.header.format, self.header.pixels
        options: dict[str, Any] = {
            "rows": form.rows,
            "columns": form.columns,
            "samples_per_pixel": form.samples,
            "photometric_interpretation": form.photometric,
            "planar_configuration": form.planar,
            "bits_allocated": form.bits_allocated,
            "bits_stored": form.bits_stored,
            "pixel_representation": int(form.signed),
            "number_of_frames": frames,
            "pixel_keyword": pixels.kind,
            "pixel_vr": pixels.vr,
        }
        decoder = cast(Decoder, decoder_of(pixels.syntax))
        plugin = PLUGIN if pixels.length is None else ""
        return decoder.as_array(source, index=index, decoding_plugin=plugin, **options)[0]


def _joined(file: BinaryIO, ranges: Sequence[Range]) -> bytes:
    parts = []
    for start, length in ranges:
        file.seek(start)
        parts.append(file.read(length))
    return b"".join(parts)
