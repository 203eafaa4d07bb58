"""Which boxes of a case's mask there are to fill, and what the mask is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CaseError
from pipeline.io.companion_store import Companion
from pipeline.io.files import digest, remove_tree
from pipeline.io.mask_store import MaskSpec
from pipeline.io.store import published_key, sweep
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import ModelCard, versions
from pipeline.plan_file import Plan
from pipeline.planned_case import PlannedCase, mask_boxes
from pipeline.predict.arrangement import Arrangement, CaseToPredict
from pipeline.space import Window

VERSION = 3
"""Raised when the same volume and weights would give another mask."""


@dataclass(frozen=True)
class Piece:
    """A box of one mask: whole shards."""

    final: Path
    """The mask store."""
    store: Path
    """The volume store."""
    window: Window
    """What to fill, on the case's own grid."""

    @property
    def unit(self) -> str:
        """The piece's name in the ledger, ``0-64-0+64-64-32``: its beginning and its shape."""
        start, shape = (
            "-".join(map(str, sizes)) for sizes in (self.window.start, self.window.shape)
        )
        return f"{start}+{shape}"


@dataclass(frozen=True)
class Wanted:
    """What is to be made of a case."""

    case: CaseToPredict
    """The case."""
    spec: MaskSpec
    """Its mask."""
    pieces: Sequence[Piece]
    """All of it."""
    companions: Sequence[Companion]
    """What is to stand beside it."""
    refined: bool
    """Whether something is done to the mask when all of it is labelled."""

    @property
    def is_done(self) -> bool:
        """Whether all of it stands."""
        finals = [self.case.final, *(c.path(self.case.final) for c in self.companions)]
        return all(published_key(final) == self.spec.key for final in finals)

    def tidy(self) -> None:
        """Remove what interrupted writers left, and companions of an earlier mask."""
        for companion in (Companion.probabilities(()), Companion.objects()):
            path = companion.path(self.case.final)
            sweep(path)
            if published_key(path) not in (None, self.spec.key):
                remove_tree(path)
        sweep(self.case.final)

    @property
    def drafted(self) -> bool:
        """Whether pieces are labelled in a draft first: one alone is refined in memory."""
        return self.refined and len(self.pieces) > 1


def plan_predict(
    case: CaseToPredict, card: ModelCard, arranged: Arrangement, run_name: str
) -> Wanted:
    """What is to be made of a case; attributes only, no voxel.

    Raises:
        CaseError: The volume is not like those the network learnt from.
    """
    volume = VolumeStore(case.store)
    plan, tiling, processor = card.plan, arranged.tiling, arranged.processor
    refinement = arranged.refinement
    refuse_unlike(volume, plan, arranged.any_spacing)
    cleanup = {} if refinement is None else refinement.cleanup.model_dump(mode="json")["rules"]
    key = digest(
        VERSION,
        volume.key,
        card.weights_sha256,
        card.plan_key,
        # Exact tiles of any size give the same mask, so their size makes no other one of it.
        tiling.to_json() if tiling.blend == "gaussian" else tiling.blend,
        processor.precision,
        processor.channels_last,
        *(["mirrored"] if arranged.mirror else []),
        *([cleanup] if cleanup else []),
    )
    provenance = {
        "run": run_name,
        "sources": volume.sources,
        "volume": volume.key,
        "model": {"id": card.model_id, "weights_sha256": card.weights_sha256},
        "plan": card.plan_key,
        # Of exact tiles only the halo: their size follows the machine and changes no voxel.
        "tiling": tiling.to_json()
        if tiling.blend == "gaussian"
        else {k: v for k, v in tiling.to_json().items() if k != "tile"},
        "precision": processor.precision,
        "mirrored": arranged.mirror,
        "cleanup": cleanup,
        "versions": versions(),
    }
    target = None if plan.target is None else plan.target.name
    spec = MaskSpec(volume.grid, plan.label_classes, key, provenance, target)
    pieces = [
        Piece(case.final, case.store, window)
        for window in mask_boxes(PlannedCase.of(volume, plan), plan, tiling)
    ]
    return Wanted(case, spec, pieces, arranged.companions(plan), refinement is not None)


def refuse_unlike(volume: VolumeStore, plan: Plan, any_spacing: bool) -> None:
    """Refuse a volume that the network cannot judge.

    Args:
        volume: The case.
        plan: The network's.
        any_spacing: Whether voxels of any size are taken.

    Raises:
        CaseError: It has other axes, channels or units than the plan, values of another range, or
            voxels of quite another size.
    """
    remedy = "Predict it with a model trained on images like it."
    if misfit := plan.misfit(volume.grid, len(volume.channels)):
        raise CaseError(f"{misfit}.", remedy)
    if unlike := plan.normalisation.out_of_range(volume.statistics):
        raise CaseError(f"{unlike}.", f"Bring its values to the training cases' scale. {remedy}")
    if not any_spacing and (far := plan.far_spacing(volume.grid)):
        raise CaseError(
            f"{far}.", f"Correct its header if that is wrong, or set predict.any_spacing. {remedy}"
        )
