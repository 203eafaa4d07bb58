"""A case as the network meets it: on the planned grid, normalised; and the way back to its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import Decision, Network
from pipeline.io.planned_volume import PlannedVolume
from pipeline.io.volume_store import VolumeStore
from pipeline.native_logits import interpolate_logits
from pipeline.normalise import Scaling
from pipeline.plan_file import Plan
from pipeline.space import Resampling, Shape, Window, aligned_windows
from pipeline.tiled import Processor, Tiling, predict_window, seam_mismatch


@dataclass(frozen=True)
class PlannedCase:
    """A volume store through the eyes of a plan."""

    volume: PlannedVolume
    """Its voxels and truth on the planned grid."""
    scalings: tuple[Scaling, ...]
    """How its channels are normalised."""

    @classmethod
    def of(cls, store: VolumeStore, plan: Plan) -> PlannedCase:
        """See a case as the plan wants it."""
        scalings = plan.normalisation.scalings(store.statistics)
        return cls(PlannedVolume.at_spacing(store, plan.spacing_of(store.grid)), scalings)

    @property
    def store(self) -> VolumeStore:
        """The case itself."""
        return self.volume.store

    @property
    def resampling(self) -> Resampling:
        """From its own grid to the planned one."""
        return self.volume.resampling

    @property
    def shape(self) -> Shape:
        """Planned voxels on each spatial axis."""
        return self.volume.shape

    def read(self, window: Window) -> NDArray[np.float32]:
        """Voxels of a window of the planned grid as the network is shown them, (C, *S)."""
        return self.volume.normalised(window, self.scalings)


def predict_case(
    model: Network,
    case: PlannedCase,
    window: Window,
    tiling: Tiling,
    processor: Processor,
    decide: Decision,
) -> NDArray[Any]:
    """What the case's mask holds in a box of its own grid.

    Where the planned grid is another, logits are interpolated before they are decided on, in
    pieces of about a tile, since those of all classes are held for a piece.

    Args:
        model: Placed by ``processor``.
        case: The case.
        window: Box of the case's own grid.
        tiling: How the network is laid over the planned grid.
        processor: Where it runs.
        decide: Makes class numbers or values of logits.

    Returns:
        Class numbers, int64, or values, float32, of the box's shape.
    """
    resampling = case.resampling
    if resampling.is_identity:
        return predict_window(model, case.read, case.shape, window, tiling, processor, decide)
    sizes = zip(tiling.tile, resampling.native.shape, case.shape, strict=True)
    step = tuple(max(1, t * n // m) for t, n, m in sizes)
    made: NDArray[Any] | None = None
    for piece in aligned_windows(window.shape, step):
        native = piece.shifted(window.start)
        planned = resampling.planned_window(native)
        logits = predict_window(
            model, case.read, case.shape, planned, tiling, processor, lambda kept: kept
        )
        part = decide(interpolate_logits(torch.from_numpy(logits), resampling, native)).numpy()
        if made is None:
            made = np.empty(window.shape, part.dtype)
        made[piece.slices] = part
    assert made is not None
    return made


def self_test(
    model: Network, case: PlannedCase, tiling: Tiling, processor: Processor, decide: Decision
) -> dict[str, int]:
    """Compare tiles with one whole pass on a case's real voxels; see ``seam_mismatch``."""
    return seam_mismatch(model, case.read, case.shape, tiling, processor, decide)
