"""PNG and JPEG with Pillow: pictures that say nothing of their place."""

from __future__ import annotations

from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import CaseError
from pipeline.io.files import write_atomic
from pipeline.io.readers.source import Role, damage_is_a_case_error
from pipeline.space import Grid, Volume, Window, crop, voxel_grid

DAMAGE = (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class PictureSource:
    """A PNG or JPEG file. Decoded whole, once: neither format can be read in part."""

    placed = False

    def __init__(self, path: Path, role: Role) -> None:
        self.path = path
        self.role = role
        with damage_is_a_case_error(path, *DAMAGE), Image.open(path) as image:
            width, height = image.size
        self.grid: Grid = voxel_grid((height, width))

    @property
    def channels(self) -> int:
        """1 for grey pictures and masks, 3 for colour; alpha is validity, not a channel."""
        return int(self._decoded.array.shape[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, or what a 16- or 32-bit picture holds."""
        return self._decoded.array.dtype

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Y, X)."""
        return crop(self._decoded, window)

    @cached_property
    def _decoded(self) -> Volume:
        with damage_is_a_case_error(self.path, *DAMAGE), Image.open(self.path) as image:
            if self.role == "mask":
                # A palette's indices are the labels; its colours are decoration.
                return Volume(_single(np.asarray(image), self.path)[None], self.grid)
            return _with_alpha(np.asarray(_plain(image)), self.grid)


def _plain(image: Image.Image) -> Image.Image:
    """The picture with its colours spelt out: no palette, no ink."""
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "CMYK":  # its fourth channel is black ink, not alpha
        return image.convert("RGB")
    return image


def _single(pixels: NDArray[Any], path: Path) -> NDArray[Any]:
    """A mask's labels, (Y, X), from pixels that may repeat them over colour channels."""
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8)
    if pixels.ndim == 2:
        return pixels
    colours = pixels[..., :3] if pixels.shape[-1] in (3, 4) else pixels[..., :1]
    if not (colours == colours[..., :1]).all():
        raise CaseError(
            f"{path.name} is a colour picture: a mask holds one number per pixel.",
            "Save the mask as a grey or palette PNG whose values are the classes.",
        )
    return np.ascontiguousarray(colours[..., 0])


def _with_alpha(pixels: NDArray[Any], grid: Grid) -> Volume:
    """Channel-first voxels; a last channel of alpha becomes validity."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if pixels.ndim == 2:
        return Volume(np.ascontiguousarray(pixels)[None], grid)
    array = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    if array.shape[0] not in (2, 4):
        return Volume(array, grid)
    valid = array[-1] > 0
    return Volume(array[:-1], grid, None if valid.all() else valid)


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
    """Open a PNG or JPEG file."""
    return PictureSource(path, role)
