"""Which bands of an image are shown, and what is black and what is white in them."""

from __future__ import annotations

import numpy as np

from pipeline.io.volume_store import VolumeStore

Limits = list[tuple[float, float]]
"""Of each band shown, the value that is black and the one that is white."""


def shown_limits(volume: VolumeStore) -> Limits:
    """What is black and what is white in each band shown: the 1st and the 99th percentile.

    Three bands are red, green and blue, as are the first three of a scene with more; of other
    images the first is shown. Colour photographs are shown as they are.
    """
    bands = 3 if len(volume.channels) == 3 or (volume.grid.crs and len(volume.channels) > 3) else 1
    if bands == 3 and volume.dtype == np.uint8 and volume.grid.crs is None:
        return [(0.0, 255.0)] * 3
    found = [c["percentiles"] for c in volume.statistics["channels"][:bands]]
    return [(p["1"], p["99"]) for p in found]
