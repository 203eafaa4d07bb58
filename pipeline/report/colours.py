"""Numbers as colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Palette = tuple[tuple[int, int, int], ...]
"""RGB at equal steps from the lower limit to the upper; colours between are mixed of two."""

VIRIDIS: Palette = (
    (68, 1, 84),
    (71, 44, 122),
    (59, 81, 139),
    (44, 113, 142),
    (33, 144, 141),
    (39, 173, 129),
    (92, 200, 99),
    (170, 220, 50),
    (253, 231, 37),
)
"""From dark to bright, as bright on paper as on a screen (Smith and van der Walt 2015)."""
BLUE_RED: Palette = (
    (5, 48, 97),
    (33, 102, 172),
    (67, 147, 195),
    (146, 197, 222),
    (209, 229, 240),
    (247, 247, 247),
    (253, 219, 199),
    (244, 165, 130),
    (214, 96, 77),
    (178, 24, 43),
    (103, 0, 31),
)
"""From too low to too high, white between; told apart by colour-blind eyes (Brewer 2002)."""
NO_NUMBER = (128, 128, 128)


def coloured(
    plane: NDArray[Any], limits: tuple[float, float], palette: Palette
) -> NDArray[np.uint8]:
    """Numbers as a picture.

    Args:
        plane: (H, W); NaN is grey.
        limits: What the first and the last colour stand for; what lies outside has them too.
        palette: The colours.

    Returns:
        RGB, (H, W, 3).
    """
    low, high = limits
    known = np.isfinite(plane)
    share = (np.where(known, plane, low) - low) / (high - low)
    steps = np.linspace(0, 1, len(palette))
    bands = [np.interp(share, steps, band) for band in zip(*palette, strict=True)]
    picture: NDArray[np.uint8] = np.rint(np.stack(bands, axis=-1)).astype(np.uint8)
    picture[~known] = NO_NUMBER
    return picture


def gradient(palette: Palette) -> str:
    """A palette as CSS, from left to right."""
    colours = ", ".join(f"rgb{colour}" for colour in palette)
    return f"linear-gradient(to right, {colours})"
