"""What can be set of prediction."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class PredictSettings(BaseModel):
    """Which cases are predicted, and in what tiles."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    splits: tuple[Literal["train", "val", "test", "unlabelled"], ...] = (
        "train",
        "val",
        "test",
        "unlabelled",
    )
    """Splits whose cases get a mask."""
    tile: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    """Voxels labelled in one pass, rounded up to the network's stride; null: as many as memory
    allows. Any exact tile gives the same mask; blended ones are of the training patch's size."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """What one forward pass may hold; null: an eighth of the machine's memory."""
    blend: Literal["auto", "exact", "gaussian"] = "auto"
    """``exact``: tiles that meet as one pass over the whole volume would; ``gaussian``: averages of
    overlapping tiles, for networks that keep statistics of what they see. ``auto``: exact where
    the network and memory allow it."""
    any_spacing: bool = False
    """Whether cases are predicted too whose voxels are far from the training cases' in size."""
    mirror: bool = False
    """Ask the network about every image flipped along each of its axes too, and average the
    probabilities: four times the work in 2-D, eight times in 3-D. For models that were trained on
    mirrored images."""
    probabilities: bool = False
    """Whether class probabilities are kept beside the masks, in eight bits each:
    ``probabilities/<case>.zarr``. For masks that stand without them, all is computed again."""
    cleanup: bool = True
    """Whether the components of masks are treated as training found to be better on the validation
    cases: holes filled, small ones removed, or only the largest kept."""
    objects: bool = False
    """Whether connected regions of one class are numbered beside the masks:
    ``objects/<case>.zarr``. For masks that stand without them, all is computed again."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the network's arithmetic; ``auto``: bfloat16 where the processor has it,
    but float32 in a regression."""
