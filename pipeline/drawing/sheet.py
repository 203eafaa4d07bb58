"""Pictures laid over and beside each other, with a legend below, as one PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.drawing.views import Size
from pipeline.io.ngff import LabelClass

GAP = 12
LETTERS = 18
"""Height of the legend's letters, in pixels."""
PAPER, INK = (16, 16, 16), (235, 235, 235)


def overlaid(picture: NDArray[np.uint8], over: NDArray[np.uint8]) -> Image.Image:
    """A picture with a transparent one over it.

    Args:
        picture: (H, W) or (H, W, 3), drawn at the other's size.
        over: RGBA, (H, W, 4).
    """
    below = Image.fromarray(np.ascontiguousarray(picture)).convert("RGB")
    above = Image.fromarray(over)
    below = below.resize(above.size, Image.Resampling.BOX)
    below.paste(above, mask=above)
    return below


def sheet(pictures: Sequence[Image.Image], classes: Sequence[LabelClass]) -> bytes:
    """Pictures beside each other, and the classes' colours and names below, as PNG.

    Args:
        pictures: From left to right.
        classes: What is told in the legend.
    """
    width = sum(p.width for p in pictures) + GAP * (len(pictures) - 1)
    height = max(p.height for p in pictures)
    legend = _legend(classes, width)
    page = Image.new("RGB", (width, height + legend.height), PAPER)
    left = 0
    for picture in pictures:
        page.paste(picture, (left, (height - picture.height) // 2))
        left += picture.width + GAP
    page.paste(legend, (0, height))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _legend(classes: Sequence[LabelClass], width: int) -> Image.Image:
    """A square of its colour and its name for each class, in as many lines as it takes."""
    font = ImageFont.load_default(size=LETTERS)
    line = LETTERS + GAP
    placed, (right, top) = list[tuple[Size, LabelClass]](), (GAP, GAP // 2)
    for c in classes:
        wide = 2 * LETTERS + int(font.getlength(c.name)) + GAP
        if right > GAP and right + wide > width:
            right, top = GAP, top + line
        placed.append(((right, top), c))
        right += wide
    page = Image.new("RGB", (width, top + line if placed else 0), PAPER)
    pen = ImageDraw.Draw(page)
    for (x, y), c in placed:
        pen.rectangle((x, y + 2, x + LETTERS - 4, y + LETTERS - 2), fill=c.color)
        pen.text((x + LETTERS + 2, y), c.name, fill=INK, font=font)
    return page
