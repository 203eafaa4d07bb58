"""Intensities as the network sees them.

Statistics belong to the case or to the dataset, never to a window: a window's own mean would
draw its border into the mask.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.space import Volume


class Scaling(BaseModel):
    """What is done to one channel: clip, subtract, divide."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mean: float
    """Subtracted."""
    std: float
    """Divided by; never 0."""
    lower: float | None = None
    """Values below are raised to it first; null: no limit."""
    upper: float | None = None
    """Values above are lowered to it first; null: no limit."""


class Normalisation(BaseModel):
    """How intensities are made comparable between cases."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["case", "dataset"]
    """``case``: z-score of each case by its own mean and std. ``dataset``: one scaling for all."""
    channels: tuple[Scaling, ...] = ()
    """Scaling of each channel, for kind ``dataset``."""

    def scalings(self, statistics: dict[str, Any]) -> tuple[Scaling, ...]:
        """The scaling of each channel of a case.

        Args:
            statistics: The case's, as its volume store carries them.
        """
        if self.kind == "dataset":
            return self.channels
        return tuple(Scaling(mean=c["mean"], std=c["std"] or 1.0) for c in statistics["channels"])


def normalise(volume: Volume, scalings: tuple[Scaling, ...]) -> NDArray[np.float32]:
    """Scale a volume's channels; voxels without data become 0, the mean.

    Args:
        volume: Voxels, (C, *S), any dtype.
        scalings: One per channel.

    Returns:
        (C, *S) float32.
    """
    result = np.empty(volume.array.shape, np.float32)
    for out, channel, scaling in zip(result, volume.array, scalings, strict=True):
        values = channel.astype(np.float32)
        if scaling.lower is not None or scaling.upper is not None:
            values = np.clip(values, scaling.lower, scaling.upper)
        np.subtract(values, np.float32(scaling.mean), out=out)
        out /= np.float32(scaling.std)
    if volume.valid is not None:
        result[:, ~volume.valid] = 0
    return result
