"""HD95, mean surface distance and surface Dice of one object."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.score.surfaces.counted import Counted

ROUNDING = 1e-9
"""Relative error of a distance in float64, and more: 3 · 0.7 is 2.1, within a tolerance of 2.1."""


@dataclass(frozen=True)
class SurfaceDistances:
    """How far apart the surfaces of an object lie in mask and truth, in the unit of the spacing.

    Of an object that only one of them has a surface of, distances are None and ``nsd`` is 0.
    """

    hd95: float | None
    """Larger of the two directed 95th percentiles, mask to truth and truth to mask (MONAI)."""
    hd: float | None
    """Hausdorff distance: the largest distance, in either direction."""
    msd: float | None
    """Mean over the surface voxels of both together (MONAI's symmetric average distance)."""
    nsd: float
    """Normalised surface Dice: share of the surface voxels of both that lie within the tolerance
    of the other surface (Nikolov 2021, counted in voxels)."""
    n_mask: int
    """Surface voxels of the mask."""
    n_truth: int
    """Surface voxels of the truth."""
    reach: float | None
    """How far was looked; None: as far as there is. Larger distances count as this one."""
    n_beyond: int
    """Surface voxels that have none of the other surface within reach."""

    @classmethod
    def of(
        cls,
        to_truth: Counted,
        to_mask: Counted,
        tolerance: float,
        *,
        reach: float | None = None,
        n_beyond: int = 0,
    ) -> SurfaceDistances:
        """Figures of counted distances.

        Args:
            to_truth: From each surface voxel of the mask to the truth's surface.
            to_mask: From each of the truth to the mask's.
            tolerance: Distance up to which a surface voxel is in its place.
            reach: How far was looked; None: as far as there is.
            n_beyond: How many of the distances are ``reach`` for want of a nearer surface.
        """
        sides = (to_truth, to_mask)
        n_mask, n_truth = (side.total for side in sides)
        if not n_mask or not n_truth:
            return cls(None, None, None, 0.0, n_mask, n_truth, reach, n_beyond)
        limit = tolerance * (1 + ROUNDING)
        within = sum(side.up_to(limit) for side in sides)
        # What counts as the reach is farther.
        within -= n_beyond if reach is not None and reach <= limit else 0
        return cls(
            max(side.percentile(95) for side in sides),
            max(float(side.value[-1]) for side in sides),
            (to_truth.sum + to_mask.sum) / (n_mask + n_truth),
            within / (n_mask + n_truth),
            n_mask,
            n_truth,
            reach,
            n_beyond,
        )
