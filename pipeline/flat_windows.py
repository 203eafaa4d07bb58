"""Windows of one value, such as the background of a scan: recognised, and computed once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

KEPT_BYTES = 64 * 2**20
"""Most that is kept of what was made of such windows."""


def flat_value(voxels: NDArray[np.float32]) -> bytes | None:
    """The value of each channel, as bytes, where all voxels (C, *S) hold the same; else None."""
    values = voxels.reshape(len(voxels), -1)
    first = values[:, :1]
    # Few voxels tell most windows from flat ones.
    if (values[:, ::4099] == first).all() and (values == first).all():
        return first.tobytes()
    return None


class FlatResults:
    """What was made of windows of one value, by all that it depends on; the latest are kept.

    Inside a volume a result is one value too, for each of its channels, and takes no room; at a
    volume's borders it may not be. Several threads may ask.
    """

    def __init__(self) -> None:
        self._kept: dict[Hashable, NDArray[Any]] = {}

    def find(self, key: Hashable) -> NDArray[Any] | None:
        """What was kept for a key; not to be written to."""
        found = self._kept.pop(key, None)
        if found is not None:
            self._kept[key] = found  # now the latest
        return found

    def keep(self, key: Hashable, made: NDArray[Any], ndim: int) -> None:
        """Keep a result with so many spatial axes, and drop the oldest where there are too many."""
        first = made[(..., *(slice(1),) * ndim)]  # type: ignore[arg-type]
        if (made == first).all():
            made = np.broadcast_to(first.copy(), made.shape)
        self._kept[key] = made
        held = 0
        for old, result in reversed(list(self._kept.items())):
            held += 1024 if 0 in result.strides else result.nbytes
            if held > KEPT_BYTES:
                self._kept.pop(old, None)
