"""Pictures as data URIs.

The image stands at its own resolution, and over it contours drawn finer than its voxels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from pipeline.drawing.views import Size
from pipeline.io.ngff import LabelClass

NO_LABEL = (128, 128, 128, 150)
DIFFERENCE = (255, 25, 25, 110)
LARGE_PIXELS = 2**16
"""Above this, a colour image is no longer drawn with voxels that the eye can count."""


def greys(plane: NDArray[Any], limits: Sequence[tuple[float, float]]) -> NDArray[np.uint8]:
    """Bands as a picture, black at the lower limit and white at the upper.

    Args:
        plane: One band or three, (C, H, W).
        limits: Lower and upper value of each band.

    Returns:
        (H, W) of one band, (H, W, 3) of three.
    """
    lows, highs = (np.asarray(v, np.float32)[:, None, None] for v in zip(*limits, strict=True))
    scaled = (plane.astype(np.float32) - lows) / np.maximum(highs - lows, 1e-12)
    picture = np.rint(255 * np.nan_to_num(scaled.clip(0, 1))).astype(np.uint8)
    return picture[0] if len(picture) == 1 else np.moveaxis(picture, 0, -1)


def contours(
    labels: NDArray[Any],
    size: Size,
    classes: Sequence[LabelClass],
    *,
    width: int,
    truth: NDArray[Any] | None = None,
) -> NDArray[np.uint8]:
    """Borders of a labelmap as a transparent picture.

    A contour lies inside its class, in the class's colour, along every border with another label.
    The background has none. Voxels without a label are dimmed.

    Args:
        labels: Labelmap, (H, W).
        size: Height and width of the picture.
        classes: What the labels mean.
        width: Of a contour, in pixels.
        truth: A labelmap of the same shape; voxels with another label there are shaded.

    Returns:
        RGBA, (*size, 4).
    """
    fine = enlarged(labels, size)
    known, border = _known(fine, classes), _border(fine, width)
    picture = np.zeros((*size, 4), np.uint8)
    picture[~known] = NO_LABEL
    if truth is not None:
        other = enlarged(truth, size)
        picture[(fine != other) & known & _known(other, classes)] = DIFFERENCE
    for c in classes:
        if not c.background:
            picture[border & (fine == c.label)] = (*c.color, 255)
    return picture


def _known(labels: NDArray[Any], classes: Sequence[LabelClass]) -> NDArray[np.bool_]:
    """Where a labelmap holds one of the classes."""
    return np.isin(labels, [c.label for c in classes])


def _border(labels: NDArray[Any], width: int) -> NDArray[np.bool_]:
    """Pixels with another label no farther than ``width``; the picture's edge is no border."""
    reach = {"size": 2 * width + 1, "mode": "nearest"}
    return np.asarray(minimum_filter(labels, **reach) != maximum_filter(labels, **reach))


def enlarged(labels: NDArray[Any], size: Size) -> NDArray[Any]:
    """A labelmap at another size, each pixel with the label of the voxel it lies in."""
    rows, columns = (
        ((np.arange(wanted) + 0.5) * n / wanted).astype(np.intp)
        for n, wanted in zip(labels.shape, size, strict=True)
    )
    return np.asarray(labels[rows[:, None], columns])


def png(picture: NDArray[np.uint8], size: Size | None = None) -> str:
    """A picture as a PNG data URI.

    Args:
        picture: (H, W), (H, W, 3) or (H, W, 4).
        size: Height and width to reduce it to where it is larger.
    """
    return _data_uri(_reduced(picture, size), "PNG", optimize=True)


def photograph(picture: NDArray[np.uint8], size: Size) -> str:
    """An image as a data URI: large ones in colour as JPEG, a sixth of the bytes; others as PNG.

    Args:
        picture: (H, W) or (H, W, 3).
        size: Height and width to reduce it to where it is larger.
    """
    image = _reduced(picture, size)
    if image.mode == "RGB" and image.width * image.height > LARGE_PIXELS:
        return _data_uri(image, "JPEG", quality=90, subsampling=0, optimize=True)
    return _data_uri(image, "PNG", optimize=True)


def _reduced(picture: NDArray[np.uint8], size: Size | None) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    if size is None or (size[0] >= image.height and size[1] >= image.width):
        return image
    smaller = (min(size[1], image.width), min(size[0], image.height))
    return image.resize(smaller, Image.Resampling.BOX)


def _data_uri(image: Image.Image, kind: Literal["PNG", "JPEG"], **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
