"""What plan.json holds: the decisions that patches, training and prediction share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models import Decision, LossSettings, ModelSettings, margins, misfit, output_shape
from models.losses import (
    BCESettings,
    BorderSettings,
    CrossEntropySettings,
    DiceCESettings,
    activation,
    output_channels,
    regions_of,
)
from pipeline.errors import ModelError, SettingsError, StoreError
from pipeline.io.files import digest, read_json, write_json
from pipeline.io.label_order import LabelOrder
from pipeline.io.volume_store import label_dtype, no_label
from pipeline.normalise import Normalisation
from pipeline.space import Grid, Shape
from pipeline.space.grid import SYMBOLS

FAR = 3.0
"""Times a case's voxels may be larger or smaller than any that were learnt from, where it is
brought to the planned spacing: beyond, most of what it is shown is interpolated or left out."""
FAR_UNCHANGED = 1.5
"""The same where cases keep their spacing: objects are as much larger or smaller to the network,
and augmentation shows it no more than that."""


class PlannedClass(BaseModel):
    """A class of the output."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Name in stores, scores and reports."""
    background: bool = False
    """Whether it is the background."""


class PlannedTarget(BaseModel):
    """What a regression predicts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """Name in stores, scores and reports."""
    mean: float
    """Of the training cases' truth: what a network's output of 0 stands for."""
    std: Annotated[float, Field(gt=0)]
    """Of the training cases' truth: what a step of 1 stands for."""


class Plan(LabelOrder, BaseModel):
    """Everything training and prediction must agree on. Editable by hand; edits are respected."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    key: str
    """Of the statistics and settings the plan was made from; a new key makes a new plan."""
    ndim: Literal[2, 3]
    """Spatial axes."""
    channels: tuple[str, ...]
    """Channel names, in array order."""
    classes: tuple[PlannedClass, ...] = ()
    """Classes in label order; none in a regression."""
    target: PlannedTarget | None = None
    """What a regression predicts; null: a segmentation."""
    spacing: tuple[float, ...]
    """Voxel spacing that the network works on, in the unit of the grids, in array order."""
    resample: bool = False
    """Whether cases of another spacing are brought to it; masks keep the case's own grid."""
    trained_spacings: tuple[tuple[float, float], ...] | None = None
    """Least and greatest voxel spacing of the training cases on each axis: cases far from them are
    refused. null: any is taken."""
    unit: str | None
    """Unit of the spacing; null: unknown."""
    normalisation: Normalisation
    """How intensities are scaled."""
    patch_shape: tuple[Annotated[int, Field(ge=1)], ...]
    """Voxels of a training patch as the network sees it; a size that fits the network."""
    batch_size: Annotated[int, Field(ge=1)]
    """Patches per step, over all processes."""
    network: ModelSettings
    """The network."""
    loss: LossSettings = DiceCESettings()
    """What training makes small; it also says what the network's output means."""
    reasons: dict[str, str]
    """Why, in words, for each decision."""

    @model_validator(mode="after")
    def _agree(self) -> Plan:
        if self.network.ndim != self.ndim or len(self.patch_shape) != self.ndim:
            raise ValueError(f"ndim is {self.ndim}: network and patch_shape need as many axes")
        if output_shape(self.network, self.patch_shape) is None:
            raise ValueError(f"patch_shape: {misfit(self.network, self.patch_shape)}")
        if bool(self.classes) == (self.target is not None):
            raise ValueError("give classes, for a segmentation, or a target, for a regression")
        if (activation(self.loss) == "linear") != (self.target is not None):
            raise ValueError(
                f"loss: {self.loss.kind} does not go with a {self.task}: regressions take mse, mae "
                "or smooth_l1, segmentations the others"
            )
        if self.network.out_channels != self.outputs:
            raise ValueError(
                f"network.out_channels is {self.network.out_channels}, loss {self.loss.kind} over "
                f"{len(self.classes) or 1} classes or targets needs {self.outputs}"
            )
        self.decision  # noqa: B018  refuses regions that do not tell classes apart
        return self

    @property
    def task(self) -> Literal["segmentation", "regression"]:
        """What the network is for."""
        return "segmentation" if self.target is None else "regression"

    @property
    def outputs(self) -> int:
        """Channels of the network's output."""
        classes, background = len(self.classes) or 1, self.background is None
        return output_channels(self.loss, classes=classes, background=background)

    @property
    def decision(self) -> Decision:
        """How the network's output becomes what a mask holds."""
        background = self.background is None
        if self.target is None:
            return Decision.of(self.loss, classes=len(self.classes), background=background)
        return Decision("linear", mean=self.target.mean, std=self.target.std)

    @property
    def output_names(self) -> tuple[str, ...]:
        """What each channel of the network's output speaks of: a class, or classes together."""
        if self.target is not None:
            return (self.target.name,)
        names = [c.name for c in self.classes]
        if not isinstance(self.loss, BCESettings):
            return tuple(names)
        background = self.background is None
        regions = regions_of(self.loss, classes=len(names), background=background)
        return tuple("+".join(names[label] for label in region) for region in regions)

    @property
    def size_unit(self) -> str:
        """Unit of an object's size: mm³, m², or voxels where the spacing has no unit."""
        if self.unit is None:
            return "voxels" if self.ndim == 3 else "pixels"
        return f"{SYMBOLS.get(self.unit, self.unit)}{'³' if self.ndim == 3 else '²'}"

    @property
    def score_name(self) -> str:
        """What a validation gives: of a segmentation the Dice, of a regression R²."""
        return "Dice" if self.target is None else "R²"

    @property
    def margin(self) -> Shape:
        """Voxels that an unpadded network's output lacks on each side; zeros of a padded one."""
        return margins(self.network)

    @property
    def mask_dtype(self) -> np.dtype[Any]:
        """Element type of masks and truth: of labels, or float32 in a regression."""
        return label_dtype(len(self.classes)) if self.target is None else np.dtype("float32")

    @property
    def no_label(self) -> float:
        """What stands in masks and truth where there is no data: a label, or NaN."""
        return no_label(self.mask_dtype)

    @property
    def content_key(self) -> str:
        """Key of the decisions themselves, reasons left out: what later stages depend on."""
        return digest(self.model_dump(mode="json", exclude={"key", "reasons", "trained_spacings"}))

    def spacing_of(self, grid: Grid) -> tuple[float, ...]:
        """The spacing at which a case is seen: the planned one, or its own."""
        return self.spacing if self.resample else grid.spacing

    @property
    def patch_key(self) -> str:
        """Key of the decisions that training patches rest on."""
        decided = {"patch_shape", "normalisation", "channels", "classes", "target", "resample"}
        decided |= {"spacing"} if self.resample else set()
        border = self.border and self.loss.model_dump(mode="json")
        return digest(self.model_dump(mode="json", include=decided), self.margin, border)

    @property
    def border(self) -> BorderSettings | None:
        """The weight map of the loss, made when patches are cut; None: voxels weigh alike."""
        return self.loss.border if isinstance(self.loss, CrossEntropySettings) else None

    def misfit(self, grid: Grid, channels: int) -> str | None:
        """Why a volume cannot be predicted with this plan; None where it can."""
        if len(grid.shape) != self.ndim:
            return f"it has {len(grid.shape)} spatial axes, the plan {self.ndim}"
        if channels != len(self.channels):
            return f"it has {channels} channels, the plan {len(self.channels)}"
        if self.resample and grid.unit != self.unit:
            return f"its voxels are measured in {grid.unit}, the plan's in {self.unit}"
        return None

    def far_spacing(self, grid: Grid) -> str | None:
        """Why a volume's voxels are too unlike those that were learnt from; None where not."""
        if self.trained_spacings is None or grid.unit is None or grid.unit != self.unit:
            return None
        most = FAR if self.resample else FAR_UNCHANGED
        for axis, size, (least, greatest) in zip(
            grid.axes, grid.spacing, self.trained_spacings, strict=True
        ):
            if not least / most <= size <= greatest * most:
                unit = SYMBOLS.get(self.unit, self.unit)
                learnt = f"{least:.4g}" + (f" to {greatest:.4g}" if greatest > least else "")
                kept = "" if self.resample else ", and the plan brings no case to another spacing"
                return (
                    f"its voxels measure {size:.4g} {unit} along {axis}, those of the training "
                    f"cases {learnt} {unit}{kept}"
                )
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
