"""Intensities as the network sees them.

Statistics belong to the case or to the dataset, never to a window: a window's own mean would
draw its border into the mask.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from pipeline.errors import StoreError
from pipeline.space import Volume
from pipeline.statistics.extent import nonzero_voxels


class Scaling(BaseModel):
    """What is done to one channel: clip, subtract, divide; and what is not touched."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    mean: float
    """Subtracted."""
    std: float
    """Divided by; never 0."""
    lower: float | None = None
    """Values below are raised to it first; null: no limit."""
    upper: float | None = None
    """Values above are lowered to it first; null: no limit."""
    keep_zeros: bool = False
    """Whether voxels that are 0 in every channel stay 0."""

    @classmethod
    def z_score(cls, mean: float, std: float, **others: Any) -> Scaling:
        """By mean and standard deviation; values that are all but equal are not divided."""
        # What float32 cannot tell apart differs by rounding alone.
        tiny = abs(mean) * float(np.finfo(np.float32).eps)
        return cls(mean=mean, std=std if std > tiny else 1.0, **others)


class Normalisation(BaseModel):
    """How intensities are made comparable between cases."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["case", "dataset"]
    """``case``: z-score of each case by its own mean and std. ``dataset``: one scaling for all."""
    nonzero: bool = False
    """For kind ``case``: whether mean and std are those of the voxels of which any channel is not
    0, and the others stay 0."""
    channels: tuple[Scaling, ...] = ()
    """Scaling of each channel, for kind ``dataset``."""

    @model_validator(mode="after")
    def _agree(self) -> Normalisation:
        if self.nonzero and self.kind != "case":
            raise ValueError(
                f"nonzero goes with kind case, not {self.kind}, where each of the channels has "
                "keep_zeros"
            )
        return self

    def scalings(self, statistics: dict[str, Any]) -> tuple[Scaling, ...]:
        """The scaling of each channel of a case.

        Args:
            statistics: The case's, as its volume store carries them.

        Raises:
            StoreError: The store was made before they told of voxels that are not 0.
        """
        if self.kind == "dataset":
            return self.channels
        if not self.nonzero:
            return tuple(Scaling.z_score(c["mean"], c["std"]) for c in statistics["channels"])
        if "nonzero" not in statistics:
            raise StoreError(
                "a volume store does not say what its voxels are like that are not 0: "
                "run `segflow ingest` again"
            )
        # A case of zeros alone has no moments, and needs none.
        found = statistics["nonzero"] or [{"mean": 0.0, "std": 1.0}] * len(statistics["channels"])
        return tuple(Scaling.z_score(c["mean"], c["std"], keep_zeros=True) for c in found)

    def out_of_range(self, statistics: dict[str, Any]) -> str | None:
        """Why a case's values are not of the dataset's range; None where some are.

        Args:
            statistics: The case's, as its volume store carries them.
        """
        for number, (scaling, found) in enumerate(
            zip(self.channels, statistics["channels"], strict=False)
        ):
            low, high = (found["percentiles"].get(name) for name in ("1", "99"))
            above = scaling.upper is not None and low is not None and low > scaling.upper
            below = scaling.lower is not None and high is not None and high < scaling.lower
            if above or below:
                limit = f"below {scaling.upper:.6g}" if above else f"above {scaling.lower:.6g}"
                return (
                    f"its values in channel {number} lie between {low:.6g} and {high:.6g} (1st and "
                    f"99th percentile), those of the training cases {limit}: the network would "
                    "see one grey"
                )
        return None


def normalise(volume: Volume, scalings: tuple[Scaling, ...]) -> NDArray[np.float32]:
    """Scale a volume's channels; voxels without data become 0, the mean.

    Args:
        volume: Voxels, (C, *S), any dtype.
        scalings: One per channel; of the whole case or dataset, so that any window of a volume
            becomes what it is in the whole.

    Returns:
        (C, *S) float32.
    """
    result = np.empty(volume.array.shape, np.float32)
    kept = any(scaling.keep_zeros for scaling in scalings)
    zeros = ~nonzero_voxels(volume.array) if kept else None
    for out, channel, scaling in zip(result, volume.array, scalings, strict=True):
        values = channel.astype(np.float32)
        if scaling.lower is not None or scaling.upper is not None:
            values = np.clip(values, scaling.lower, scaling.upper)
        np.subtract(values, np.float32(scaling.mean), out=out)
        out /= np.float32(scaling.std)
        if scaling.keep_zeros:
            out[zeros] = 0
    if volume.valid is not None:
        result[:, ~volume.valid] = 0
    return result
