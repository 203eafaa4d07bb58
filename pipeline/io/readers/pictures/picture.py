"""PNG, JPEG and BMP: pictures that say nothing of their place.

PNG is decoded by libpng through imagecodecs, which keeps 16 bits in colour; Pillow, which does
not, gives the indices of palettes, and the other formats.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from io import BytesIO
from math import prod
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from pipeline.errors import CaseError
from pipeline.io.files import write_atomic
from pipeline.io.readers.containers.arrays import DEFLATE_RATIO
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Grid, Shape, Volume, Window, voxel_grid

DAMAGE = (OSError, SyntaxError, ValueError, RuntimeError, OverflowError, struct.error, EOFError)
PNG = b"\x89PNG\r\n\x1a\n"
# Image.open counts pixels alone and refuses slides; it would also try formats that run programs.
PLUGINS: dict[bytes, Callable[[Any], ImageFile]] = {
    PNG: PngImageFile,
    b"\xff\xd8\xff": JpegImageFile,
    b"BM": BmpImageFile,
}
"""First bytes of a file → how Pillow opens it."""
MOST_BYTES = 2**32
"""Largest picture that is decoded: none of the formats can be decoded in part."""
JPEG_RATIO = 2**11
"""Samples that JPEG can pack into a byte: a bit for each block of 8 by 8, colours subsampled."""
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""Colour types of PNG."""


class Header(NamedTuple):
    """What a picture says of itself before it is decoded."""

    shape: Shape
    """Rows and columns."""
    channels: int
    """Colours; alpha is none."""
    dtype: np.dtype[Any]
    """Element type."""


class PictureSource:
    """A picture. Decoded whole, once."""

    placed = False
    sequential = False

    def __init__(self, path: Path, role: Role) -> None:
        self.path = path
        self.role = role
        with damage_is_a_case_error(path, *DAMAGE):
            header = read_header(path)
        self.grid: Grid = voxel_grid(header.shape)
        self.block: Shape = header.shape
        self.channels = 1 if role == "mask" else header.channels
        self.dtype = header.dtype
        self._decoded: NDArray[Any] | None = None
        self._lock = Lock()

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Y, X); transparent pixels are not valid."""
        pixels = self._pixels()[window.slices]
        grid = self.grid.cropped(window)
        if self.role == "mask":
            return Volume(np.ascontiguousarray(pixels)[None], grid)
        array = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
        if len(array) == self.channels:
            return Volume(array, grid)
        valid = array[-1] > 0
        return Volume(array[:-1], grid, None if valid.all() else valid)

    def _pixels(self) -> NDArray[Any]:
        """All pixels, (Y, X, C) with alpha as last channel; of a mask its labels, (Y, X)."""
        with self._lock, damage_is_a_case_error(self.path, *DAMAGE):
            if self._decoded is None:
                pixels = decode(self.path.read_bytes(), self.role)
                if pixels.shape[:2] != self.grid.shape or pixels.dtype != self.dtype:
                    raise ValueError(f"{pixels.shape} pixels of {pixels.dtype}")
                if self.role == "mask":
                    pixels = _single(pixels, self.path)
                self._decoded = pixels if self.role == "mask" else np.atleast_3d(pixels)
            return self._decoded


def read_header(path: Path) -> Header:
    """Size and type of a picture, from its first bytes.

    Raises:
        CaseError: It is too large to be decoded.
        ValueError: It is none of the known formats, or claims more than its bytes can hold.
    """
    with path.open("rb") as file:
        start = file.read(33)
        file.seek(0)
        if start.startswith(PNG):
            header, packed = _png_header(start)
            ratio = DEFLATE_RATIO
        else:
            width, height = (image := _plugin(start)(file)).size
            header = Header((height, width), 1 if image.mode in "1L" else 3, np.dtype("uint8"))
            packed, ratio = height * width * header.channels, JPEG_RATIO
    size = path.stat().st_size
    if packed > size * ratio:
        raise ValueError(f"{size} bytes claim to hold {packed}")
    decoded = prod(header.shape) * (header.channels + 1) * header.dtype.itemsize
    if decoded > MOST_BYTES:
        raise CaseError(
            f"{path.name} has {header.shape[0]} rows of {header.shape[1]} pixels: at most "
            f"{MOST_BYTES} bytes are decoded at once.",
            "Save it as a tiled TIFF.",
        )
    return header


def _png_header(start: bytes) -> tuple[Header, int]:
    """Header of a PNG, and bytes of its rows before they are compressed (PNG 11.2.2, 7.2)."""
    length, kind, width, height, depth, colour = struct.unpack(">I4sIIBB", start[8:26])
    samples = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}.get(colour)
    if (length, kind) != (13, b"IHDR") or samples is None or 0 in (width, height):
        raise ValueError("no header")
    channels = 1 if colour in (GREY, GREY_ALPHA) else 3
    dtype = np.dtype("uint16" if depth == 16 else "uint8")
    return Header((height, width), channels, dtype), height * -(-width * samples * depth // 8)


def _plugin(start: bytes) -> Callable[[Any], ImageFile]:
    for magic, plugin in PLUGINS.items():
        if start.startswith(magic):
            return plugin
    raise ValueError("neither PNG, JPEG nor BMP")


def decode(content: bytes, role: Role) -> NDArray[Any]:
    """Pixels of a picture, (Y, X) or (Y, X, C) with alpha as last channel.

    Args:
        content: The file.
        role: A palette's indices are the labels of a mask; in an image its colours count.
    """
    if content.startswith(PNG) and (content[25] != PALETTE or role == "image"):
        pixels: NDArray[Any] = imagecodecs.png_decode(content)
        # libpng spreads the two values of a bit over a byte.
        return pixels // 255 if (content[24], content[25]) == (1, GREY) else pixels
    image = _plugin(content)(BytesIO(content))
    found = np.asarray(image if role == "mask" else _plain(image))
    return found.astype(np.uint8) if found.dtype == np.bool_ else found


def _plain(image: Image.Image) -> Image.Image:
    """The picture with its colours spelt out: no palette, no ink."""
    # The fourth channel of CMYK is black ink, not alpha.
    return image.convert("RGB") if image.mode in ("P", "CMYK") else image


def _single(pixels: NDArray[Any], path: Path) -> NDArray[Any]:
    """A mask's labels, (Y, X), from pixels that may repeat them over colour channels."""
    if pixels.ndim == 2:
        return pixels
    colours = pixels[..., :3] if pixels.shape[-1] in (3, 4) else pixels[..., :1]
    if not (colours == colours[..., :1]).all():
        raise CaseError(
            f"{path.name} is a colour picture: a mask holds one number per pixel.",
            "Save the mask as a grey or palette PNG whose values are the classes.",
        )
    return np.ascontiguousarray(colours[..., 0])


def write_png(path: Path, array: NDArray[Any]) -> None:
    """Write a picture, atomically; the same pixels give the same bytes.

    Args:
        path: The file.
        array: (Y, X) uint8 or uint16, or (C, Y, X) uint8 with 3 or 4 channels, the fourth alpha.
    """
    pixels = array if array.ndim == 2 else np.moveaxis(array, 0, -1)
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG")
    write_atomic(path, buffer.getvalue())


def open_source(path: Path, role: Role) -> PictureSource:
    """Open a picture."""
    return PictureSource(path, role)
