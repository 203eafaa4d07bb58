"""Decisions that can be taken out of the planner's hands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models import LossSettings


class PlanSettings(BaseModel):
    """Decisions taken out of the planner's hands; null leaves them to it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    processor: Literal["auto", "cpu", "cuda"] = "auto"
    """The processor the network is sized for; ``auto``: the one of this machine."""
    spacing: Literal["auto", "native"] | tuple[Annotated[float, Field(gt=0)], ...] = "auto"
    """Voxel spacing that the network works on, in the unit of the images, in array order.
    ``auto``: the dataset's, if cases differ; ``native``: each case keeps its own."""
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    """What a training step may hold, in one process and one part; patches shrink to fit. Null: half
    of the machine's memory, or nine tenths of the GPU's."""
    patch_shape: tuple[Annotated[int, Field(ge=8)], ...] | None = None
    """Voxels of a training patch; rounded up to the network's stride."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Patches per step."""
    base_features: Annotated[int, Field(ge=4)] | None = None
    """Feature maps of the first stage; they double per stage."""
    stages: Annotated[int, Field(ge=2, le=8)] | None = None
    """Resolutions of the network."""
    norm: Literal["batch", "instance", "group", "none"] = "batch"
    """Normalisation in the network; only batch and none give seam-free masks."""
    network: str | None = None
    """A published network by name, as `segflow models` lists them; null: a U-Net planned for the
    dataset."""
    network_options: dict[str, Any] = {}
    """Fields of the network that are not to be as planned or published, for example
    ``{encoder_weights: resnet34.pt}`` or ``{dropout: 0.2}``."""
    loss: LossSettings | None = None
    """What training makes small; null: Dice plus cross-entropy, or smooth L1 in a regression."""
    balance_classes: bool = False
    """Whether cross-entropy weighs each class by the inverse of its share of the voxels."""
    normalisation: Literal["auto", "case", "nonzero", "dataset"] = "auto"
    """Intensities: z-score per case, of all its voxels or of those that are not 0 (which stay 0),
    or one scaling for the dataset."""
