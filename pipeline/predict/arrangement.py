"""How cases are predicted, decided before any voxel is read: by what, where, in what tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from models import FlipMean, outline
from pipeline import network_tiling
from pipeline.errors import SettingsError
from pipeline.execute import ExecuteSettings
from pipeline.io.companion_store import Companion
from pipeline.io.mask_store import mask_windows
from pipeline.io.store import published_key
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import ModelCard
from pipeline.plan_file import Plan
from pipeline.planned_case import PlannedCase
from pipeline.predict.refine import Refinement
from pipeline.predict.settings import PredictSettings
from pipeline.processor import Processor, best_processor
from pipeline.space import Shape, Window
from pipeline.tiled import Tiling

REFINED_BYTES = 24
"""What is held of a voxel while its box is searched for components, and painted; at most."""
IN_HAND = 2
"""Pieces that a process works on at a time: the network is at one, the other read or written."""


@dataclass(frozen=True)
class CaseToPredict:
    """A case and where its mask goes."""

    case: str
    """Case id."""
    store: Path
    """Its volume store."""
    final: Path
    """Its mask store."""


@dataclass(frozen=True)
class Arrangement:
    """How cases are predicted. A plain value: it travels to workers."""

    model: Path
    """Weights."""
    weights_sha256: str
    """Their digest."""
    mirror: bool
    """Whether the network is asked about mirror images too."""
    probabilities: bool
    """Whether probabilities are kept."""
    any_spacing: bool
    """Whether voxels are taken that are unlike the training cases' in size."""
    refinement: Refinement | None
    """What is done to masks when all of them is labelled; None: nothing."""
    processor: Processor
    """Where the network runs."""
    tiling: Tiling
    """How it is laid over volumes."""
    largest: Shape
    """Of the volumes, on each axis of the planned grid."""

    def companions(self, plan: Plan) -> list[Companion]:
        """What is to stand beside each mask."""
        kept = [Companion.probabilities(plan.output_names)] if self.probabilities else []
        numbered = self.refinement is not None and self.refinement.objects
        return kept + ([Companion.objects()] if numbered else [])

    def pass_bytes(self, plan: Plan) -> int:
        """Bytes a forward pass is expected to hold, at most."""
        return network_tiling.pass_bytes(plan, self.tiling, self.largest, self.processor.precision)

    def test_side(self, plan: Plan) -> int:
        """Voxels on each axis that the self-test compares: as many as a pass may hold."""
        limit = self.pass_bytes(plan)
        return network_tiling.test_side(plan, self.tiling, self.processor.precision, limit)

    def box_bytes(self, plan: Plan) -> int:
        """Bytes that the pieces in hand are expected to hold: labels, validity, what is kept."""
        window = max(mask_windows(self.largest, plan.mask_dtype, self.tiling.tile), key=_size)
        kept = len(plan.output_names) if self.probabilities else 0
        refined = 0 if self.refinement is None else REFINED_BYTES
        held = window.size * (2 * plan.mask_dtype.itemsize + 1 + 2 * kept + refined)
        if self.tiling.blend == "gaussian":  # sums of a tile's rows
            rows = min(self.tiling.tile[0], window.shape[0])
            held += 4 * (plan.outputs + 1) * rows * prod(window.shape[1:])
        return IN_HAND * held


def _size(window: Window) -> int:
    return window.size


def arrange(
    cases: Sequence[CaseToPredict],
    settings: PredictSettings,
    execute: ExecuteSettings,
    model: Path,
    card: ModelCard,
) -> Arrangement:
    """Decide where and in what tiles; cases that do not fit the plan are passed over.

    Raises:
        SettingsError: ``settings.tile`` has other axes than the plan, mirror images were never
            trained on, there are no probabilities or objects to keep, exact tiles are asked of a
            network that has none, or no tile fits in ``settings.memory_gb``.
    """
    if settings.mirror:
        _check_mirrors(card)
    if settings.probabilities and card.plan.target is not None:
        raise SettingsError(
            "predict.probabilities is set, but a regression has none: leave it at false"
        )
    if settings.objects and card.plan.target is not None:
        raise SettingsError("predict.objects is set, but a regression has none: leave it at false")
    precision = settings.precision
    if precision == "auto" and card.plan.target is not None:
        precision = "float32"  # rounded to bfloat16, the numbers of a mask would lie in steps
    processor = best_processor(card.plan.ndim, precision=precision)
    largest = _largest(cases, card.plan)
    workers = execute.cores if execute.on == "local" else 1
    tiling = network_tiling.plan_tiling(
        card.plan,
        processor.precision,
        settings.memory_gb,
        settings.tile,
        largest,
        workers,
        settings.blend,
    )
    return Arrangement(
        model=model,
        weights_sha256=card.weights_sha256,
        mirror=settings.mirror,
        probabilities=settings.probabilities,
        any_spacing=settings.any_spacing,
        refinement=Refinement.of(settings, card),
        processor=processor,
        tiling=tiling,
        largest=largest,
    )


def _check_mirrors(card: ModelCard) -> None:
    """Refuse to ask a network about mirror images that cannot answer."""
    if not card.training.get("mirrored", True):
        raise SettingsError(
            "predict.mirror is set, but the model was not trained on mirror images: train it with "
            "train.mirror: all, or leave predict.mirror at false"
        )
    try:
        FlipMean(outline(card.plan.network), card.plan.decision.kind)
    except ValueError as error:
        raise SettingsError(f"predict.mirror: {error}; leave it at false") from error


def _largest(cases: Sequence[CaseToPredict], plan: Plan) -> Shape:
    """The largest planned size on each axis, of the volumes that fit the plan."""
    largest = (1,) * plan.ndim
    for case in cases:
        if published_key(case.store) is None:
            continue
        store = VolumeStore(case.store)
        if plan.misfit(store.grid, len(store.channels)) is None:
            shape = PlannedCase.of(store, plan).shape
            largest = tuple(max(a, b) for a, b in zip(largest, shape, strict=True))
    return largest
