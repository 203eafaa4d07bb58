"""How long and by what recipe the network is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.optimisers import AdamWSettings, CosineSchedule, OptimiserSettings, ScheduleSettings


class ElasticSettings(BaseModel):
    """Smooth random deformation (Ronneberger et al. 2015)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    probability: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the patches that are deformed."""
    points: Annotated[int, Field(ge=2)] = 3
    """Points along each axis that are moved; between them the movement is interpolated."""
    std: Annotated[float, Field(gt=0)] = 10.0
    """Standard deviation of the movement of a point along each axis, in voxels."""


class TrainSettings(BaseModel):
    """How long and by what recipe the network is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_minutes: Annotated[float, Field(gt=0)] | None = 30.0
    """Time for training, validation included. The number of steps that fit is measured in the
    first seconds and kept when an interrupted training goes on. Null: no limit of time."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Optimizer updates; with ``max_minutes: null`` two runs give the same weights bit for bit
    on the same CPU. Null: as many as the minutes allow."""
    max_epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the patches. Of several limits the first that is reached ends the training; one
    that is raised later lets a finished training go on."""
    start_from: Path | None = None
    """Weights to begin with, the `checkpoints/best.pt` of another run. What has another shape
    begins anew; outputs of classes of the same name are kept."""
    folds: Literal["all"] | Annotated[tuple[int, ...], Field(min_length=1)] | None = None
    """Cross-validation: a network for each of these folds of ``ingest.folds``, trained on the cases
    of the others and judged on its own; the model is their ensemble. Limits are of each network;
    cases of split val are left aside, and ``ingest.val_fraction: 0`` leaves none.
    Null: one network, trained on all training cases and judged on those of split val."""
    optimiser: OptimiserSettings = AdamWSettings()
    """How weights follow gradients, and the learning rate at its highest."""
    schedule: ScheduleSettings = CosineSchedule()
    """How the learning rate changes after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 40
    """Steps in which the learning rate rises to its highest, a fifth of the training at most;
    a one-cycle schedule rises by itself."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Validations in a row without a better score after which training ends; null: it goes on."""
    augmentation: Annotated[float, Field(ge=0, le=2)] = 1.0
    """Strength of rotation, scaling, noise, contrast and the rest; 0: patches as they are."""
    elastic: ElasticSettings | None = None
    """Elastic deformation, besides; null: none, as nnU-Net today."""
    mirror: Literal["auto", "all", "none"] = "auto"
    """Flips, and 90 degree turns in 2-D. ``auto``: in 2-D only, since a scan's left and right,
    front and back are not alike."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """The model is a running mean of the weights; the share it keeps at each step."""
    validations: Annotated[int, Field(ge=1)] = 8
    """How often the validation cases are predicted whole, evenly over the training."""
    validation_cases: Annotated[int, Field(ge=1)] = 20
    """Most validation cases that are predicted each time."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 1.0
    """Most minutes of work lost when training is killed."""
    processes: Annotated[int, Field(ge=1)] | None = None
    """Training processes on each machine; null: one per GPU, or one."""
    hosts: Annotated[int, Field(ge=1)] = 1
    """Machines that train together, on the same files. `segflow train` is started on each, with
    its ``host``; number 0 may be one of `segflow run`."""
    host: Annotated[int, Field(ge=0)] = 0
    """Which of them this machine is. Number 0 writes the model."""
    meet_at: Annotated[str, Field(pattern=r"^[^:\s]+:\d+$")] | None = None
    """Where they meet: a name or address of number 0, and a free port, ``node0:29500``."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Parts that each process deals its patches of a step into, one after the other: a large batch
    in little memory. The gradient is their mean; batch norm sees a part."""
    loader_workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that prepare patches for each training process; null: one where the network learns
    on the CPU, else as many as it has cores, less one, at most 12."""
    augment_on: Literal["workers", "device"] = "workers"
    """Where patches are augmented: by these processes, or where the network learns, which pays on
    a GPU that few cores feed."""
    timeout_minutes: Annotated[float, Field(gt=0)] = 10.0
    """How long the processes wait for one that hangs before all stop."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the network's arithmetic; ``auto``: bfloat16 where the processor has it."""
    compile: bool = False
    """Whether torch compiles the network, which takes minutes and pays on GPUs; what it cannot
    compile runs as it is."""
    seed: int = 0
    """Of weights, order and augmentation."""
    tensorboard: bool = True
    """Whether `checkpoints/tensorboard` is written beside the log: `tensorboard --logdir runs`."""
    cleanup: bool = True
    """Whether the validation cases are predicted once more at the end, to learn which components of
    masks are better removed, and which holes filled. Prediction follows it."""
    bundle: bool = True
    """Whether the model is written as a MONAI bundle too, ``checkpoints/bundle``: for programs
    that do not have segflow. Takes seconds."""

    @model_validator(mode="after")
    def _bounded(self) -> TrainSettings:
        if self.max_minutes is None and self.max_steps is None and self.max_epochs is None:
            raise ValueError("give max_minutes, max_steps or max_epochs: training needs an end")
        if self.hosts > 1 and self.meet_at is None:
            raise ValueError("give meet_at, as node0:29500: hosts must know where they meet")
        if self.host >= self.hosts:
            raise ValueError(f"host {self.host} is none of {self.hosts} hosts, counted from 0")
        return self

    def mirrors(self, ndim: int) -> bool:
        """Whether patches of so many axes are flipped."""
        return self.mirror == "all" or (self.mirror == "auto" and ndim == 2)
