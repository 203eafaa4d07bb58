"""What the planner knows of a dataset, gathered from the stores' attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.io.manifest import ManifestRow
from pipeline.io.volume_store import VolumeStore
from pipeline.space import Shape


@dataclass(frozen=True)
class Fingerprint:
    """What the stores say of the dataset."""

    ndim: int
    channels: tuple[str, ...]
    median_shape: Shape
    spacing: tuple[float, ...]
    unit: str | None
    scenes: bool
    dtype: str
    cases: int
    statistics: tuple[dict[str, Any], ...]
    shapes: tuple[Shape, ...] = ()
    spacings: tuple[tuple[float, ...], ...] = ()
    units: frozenset[str | None] = frozenset()
    nonzero_share: float = 1.0
    """Of a case's voxels, those in the box around all that are not 0; the median of all cases."""

    @property
    def spacing_range(self) -> tuple[tuple[float, float], ...] | None:
        """Least and greatest spacing on each axis; None where they are not in one unit."""
        if len(self.units) != 1 or None in self.units:
            return None
        return tuple((min(axis), max(axis)) for axis in zip(*self.spacings, strict=True))


def fingerprint(rows: Sequence[ManifestRow], volumes: Path) -> Fingerprint:
    """Gather what the planner needs from the stores' attributes; reads no voxel.

    Args:
        rows: Training cases, of one kind.
        volumes: Folder of their stores.
    """
    stores = [VolumeStore(volumes / row.store) for row in rows]
    first = stores[0]
    return Fingerprint(
        ndim=len(first.grid.shape),
        channels=first.channels,
        median_shape=tuple(int(n) for n in np.median([s.grid.shape for s in stores], axis=0)),
        spacing=tuple(float(v) for v in np.median([s.grid.spacing for s in stores], axis=0)),
        unit=first.grid.unit,
        scenes=first.grid.crs is not None,
        dtype=str(first.dtype),
        cases=len(stores),
        statistics=tuple(s.statistics for s in stores),
        shapes=tuple(s.grid.shape for s in stores),
        spacings=tuple(s.grid.spacing for s in stores),
        units=frozenset(s.grid.unit for s in stores),
        nonzero_share=float(np.median([_nonzero_share(s) for s in stores])),
    )


def _nonzero_share(store: VolumeStore) -> float:
    box = store.statistics["nonzero_box"]
    if box is None:
        return 0.0
    kept: int = prod(b - a for a, b in zip(box["start"], box["stop"], strict=True))
    return kept / prod(store.grid.shape)
