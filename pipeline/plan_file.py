"""What plan.json holds: the decisions that patches, training and prediction share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models import ModelSettings
from pipeline.errors import ModelError, SettingsError, StoreError
from pipeline.io.files import digest, read_json, write_json
from pipeline.io.ngff import LabelClass
from pipeline.normalise import Normalisation
from pipeline.space import Grid


class PlannedClass(BaseModel):
    """A class of the output."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Name in stores, scores and reports."""
    background: bool = False
    """Whether it is the background."""


class Plan(BaseModel):
    """Everything training and prediction must agree on. Editable by hand; edits are respected."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """Of the statistics and settings the plan was made from; a new key makes a new plan."""
    ndim: Literal[2, 3]
    """Spatial axes."""
    channels: tuple[str, ...]
    """Channel names, in array order."""
    classes: tuple[PlannedClass, ...]
    """Classes in label order."""
    spacing: tuple[float, ...]
    """Median voxel spacing of the dataset, in the unit of its grids, in array order."""
    unit: str | None
    """Unit of the spacing; null: unknown."""
    normalisation: Normalisation
    """How intensities are scaled."""
    patch_shape: tuple[Annotated[int, Field(ge=1)], ...]
    """Voxels of a training patch as the network sees it; multiples of the total stride."""
    batch_size: Annotated[int, Field(ge=1)]
    """Patches per step, over all processes."""
    network: ModelSettings
    """The network."""
    reasons: dict[str, str]
    """Why, in words, for each decision."""

    @model_validator(mode="after")
    def _agree(self) -> Plan:
        strides = self.network.total_stride
        if self.network.ndim != self.ndim or len(self.patch_shape) != self.ndim:
            raise ValueError(f"ndim is {self.ndim}: network and patch_shape need as many axes")
        if any(n % s for n, s in zip(self.patch_shape, strides, strict=True)):
            raise ValueError(
                f"patch_shape {self.patch_shape} is no multiple of the network's stride {strides}"
            )
        return self

    @property
    def label_classes(self) -> tuple[LabelClass, ...]:
        """The classes as stores and reports carry them."""
        return tuple(LabelClass(i, c.name, c.background) for i, c in enumerate(self.classes))

    @property
    def background(self) -> int | None:
        """Label of the background; None where every class counts."""
        return next((i for i, c in enumerate(self.classes) if c.background), None)

    @property
    def content_key(self) -> str:
        """Key of the decisions themselves, reasons left out: what later stages depend on."""
        return digest(self.model_dump(mode="json", exclude={"key", "reasons"}))

    def misfit(self, grid: Grid, channels: int) -> str | None:
        """Why a volume cannot be predicted with this plan; None where it can."""
        if len(grid.shape) != self.ndim:
            return f"it has {len(grid.shape)} spatial axes, the plan {self.ndim}"
        if channels != len(self.channels):
            return f"it has {channels} channels, the plan {len(self.channels)}"
        return None


def read_plan(path: Path) -> Plan:
    """Read plan.json.

    Raises:
        ModelError: It is absent.
        SettingsError: An edit made it invalid; the message names the field.
    """
    if not path.exists():
        raise ModelError(f"there is no plan at {path} yet: run `segflow plan` first")
    try:
        value = read_json(path)
    except StoreError as error:
        raise SettingsError(
            f"{path} is no JSON any more: undo the edit, or delete the file to plan anew"
        ) from error
    try:
        return Plan.model_validate(value)
    except ValidationError as error:
        first: Any = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])
        raise SettingsError(
            f"{path}: {place or 'plan'}: {first['msg']}; undo the edit, or delete the file "
            "to plan anew"
        ) from error


def write_plan(path: Path, plan: Plan) -> None:
    """Write plan.json, atomically."""
    write_json(path, plan.model_dump(mode="json"))
