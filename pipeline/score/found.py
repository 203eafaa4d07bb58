"""What was measured of a case, read back from its JSON values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.io.readers.geo.lengths import metric_axes, voxel_size
from pipeline.metrics import ErrorSums
from pipeline.score.membranes import MembraneCounts
from pipeline.score.objects import ObjectCounts
from pipeline.score.tasks import Measure
from pipeline.space import Grid

ML = 1e-3
"""Of a cubic millimetre."""


@dataclass(frozen=True)
class CaseFound:
    """A case and what is known of it."""

    case: str
    """Case id."""
    split: str
    """Its split."""
    grid: Grid
    """Where its voxels are."""
    measured: dict[Measure, dict[str, Any]] = field(default_factory=dict)
    """What each measure gave, as JSON values."""

    @property
    def matrix(self) -> NDArray[np.int64]:
        """Confusion matrix, (K, K), truth by row."""
        return np.asarray(self.measured["voxels"]["matrix"], np.int64)

    @property
    def errors(self) -> ErrorSums:
        """Sums of a regression's errors."""
        return ErrorSums.from_list(self.measured["voxels"]["errors"])

    @property
    def confidence(self) -> NDArray[np.int64] | None:
        """Voxels by the probability of their label, (2, 256); None where none are kept."""
        counts = self.measured["voxels"].get("confidence")
        return None if counts is None else np.asarray(counts, np.int64)

    def surface(self, group: str) -> dict[str, Any]:
        """Distances between the surfaces of a class or region; empty where there are none."""
        return self.measured.get("surfaces", {}).get(group) or {}

    @property
    def objects(self) -> dict[str, ObjectCounts]:
        """Objects and their matches by class; empty where they are not matched."""
        told = self.measured.get("objects", {})
        return {
            name: ObjectCounts(**{**counts, "matched": tuple(counts["matched"])})
            for name, counts in told.items()
        }

    @property
    def membranes(self) -> MembraneCounts | None:
        """Cells that are kept apart; None where it was not asked."""
        counts = self.measured.get("membranes")
        return None if counts is None else MembraneCounts(**counts)

    @property
    def unit(self) -> str | None:
        """Unit of its lengths; None: voxels."""
        return metric_axes(self.grid)[1]

    @property
    def in_ml(self) -> bool:
        """Whether its volumes are told in millilitres."""
        return self.unit == "millimeter" and len(self.grid.shape) == 3

    def volume(self, voxels: int) -> float:
        """Size of so many voxels: in ml of a scan, in m² of a scene."""
        return voxels * voxel_size(self.grid) * (ML if self.in_ml else 1.0)
