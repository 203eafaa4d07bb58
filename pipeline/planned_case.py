"""A case as the network meets it: on the planned grid, normalised; and the way back to its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.io.mask_store import mask_windows
from pipeline.io.planned_volume import PlannedVolume
from pipeline.io.volume_store import VolumeStore
from pipeline.native_logits import interpolate_logits
from pipeline.normalise import Scaling
from pipeline.plan_file import Plan
from pipeline.space import HaloTile, Resampling, Shape, Window, aligned_windows
from pipeline.tiled import TiledNetwork, Tiling, seam_mismatch


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


def mask_boxes(case: PlannedCase, plan: Plan, tiling: Tiling) -> list[Window]:
    """Boxes of a case's own grid that cover its mask, each whole shards and about a tile.

    A box smaller than a tile would read the halo more often than it must.
    """
    native, planned = case.resampling.native.shape, case.shape
    tile = tuple(t * n // m for t, n, m in zip(tiling.tile, native, planned, strict=True))
    return mask_windows(native, plan.mask_dtype, about=tile)


def predict_case(
    network: TiledNetwork,
    case: PlannedCase,
    window: Window,
    wanted: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """What the case's mask holds in a box of its own grid.

    Where the planned grid is another, logits are interpolated before they are decided on, in
    pieces of about a tile, since those of all classes are held for a piece.

    Args:
        network: With its decision.
        case: The case.
        window: Box of the case's own grid.
        wanted: Voxels of the box that matter; others may stay 0.

    Returns:
        Class numbers, or values, float32, of the box's shape; whatever else is decided, with its
        axis in front.
    """
    resampling, decide = case.resampling, network.decide
    if resampling.is_identity:
        return network.fill(case.read, case.shape, window, wanted)
    undecided = network.undecided
    made: NDArray[Any] | None = None
    for piece in _parts(case, window, network.tiling):
        if wanted is not None and not wanted[piece.slices].any():
            continue
        native = piece.shifted(window.start)
        planned = resampling.planned_window(native)
        logits = undecided.fill(case.read, case.shape, planned)
        part = decide(interpolate_logits(torch.from_numpy(logits), resampling, native)).numpy()
        if made is None:
            lead = part.shape[: part.ndim - len(window.shape)]
            made = np.zeros((*lead, *window.shape), network.dtype or part.dtype)
        made[(..., *piece.slices)] = part  # type: ignore[index]
    return np.zeros(window.shape, network.dtype or np.uint8) if made is None else made


def tiles_of(case: PlannedCase, window: Window, tiling: Tiling) -> list[HaloTile]:
    """Passes that ``predict_case`` needs for a box of the case's own grid, on the planned one."""
    if case.resampling.is_identity:
        return tiling.tiles(window, case.shape)
    parts = [part.shifted(window.start) for part in _parts(case, window, tiling)]
    planned = [case.resampling.planned_window(part) for part in parts]
    return [tile for box in planned for tile in tiling.tiles(box, case.shape)]


def _parts(case: PlannedCase, window: Window, tiling: Tiling) -> list[Window]:
    """Parts of a box of the case's own grid, from the box's start, that are about a tile."""
    sizes = zip(tiling.tile, case.resampling.native.shape, case.shape, strict=True)
    return aligned_windows(window.shape, tuple(max(1, t * n // m) for t, n, m in sizes))


def self_test(network: TiledNetwork, case: PlannedCase, side: int) -> dict[str, int]:
    """Compare tiles with one whole pass on a case's real voxels; see ``seam_mismatch``."""
    return seam_mismatch(network, case.read, case.shape, side)
