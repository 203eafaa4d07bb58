"""At which voxel spacing the network works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipeline.errors import SettingsError
from pipeline.planning.fingerprint import Fingerprint
from pipeline.planning.settings import PlanSettings

SAME = 0.01
"""Spacings closer than this share of each other are one."""
ANISOTROPIC = 3.0
"""Slices so many times further apart than pixels make the coarse axis of an anisotropic set."""
LENGTHS = ("millimeter", "meter")


def plan_spacing(
    found: Fingerprint, settings: PlanSettings, reasons: dict[str, str]
) -> tuple[Fingerprint, bool]:
    """Decide on the spacing, and whether cases are brought to it.

    The rule is nnU-Net's: the median on each axis; but on the coarse axis of an anisotropic set
    the 10th percentile, so that most scans are not thinned out there.

    Returns:
        The dataset as it looks at that spacing, and whether any case changes by it.

    Raises:
        SettingsError: The spacing that is set does not fit the images' axes.
    """
    if not found.spacings or settings.spacing == "native":
        reasons["spacing"] = "set in plan.spacing: each case keeps its own"
        return found, False
    if isinstance(settings.spacing, tuple):
        if len(settings.spacing) != found.ndim:
            raise SettingsError(
                f"plan.spacing {settings.spacing} has {len(settings.spacing)} axes, the images "
                f"{found.ndim}"
            )
        reasons["spacing"] = "set in plan.spacing"
        return _seen_at(found, settings.spacing), True
    spacings = np.array(found.spacings)
    apart = (spacings.max(axis=0) / spacings.min(axis=0) - 1).max()
    if apart <= SAME:
        reasons["spacing"] = "all cases have the same: nothing is resampled"
        return found, False
    if len(found.units) > 1 or found.unit not in LENGTHS:
        reasons["spacing"] = (
            "spacings differ, but are not lengths in one unit: each case keeps its own"
        )
        return found, False
    target, coarse = _target(found)
    reasons["spacing"] = (
        f"spacings differ by up to {apart:.0%}: cases are brought to the median of each axis"
        + ("" if coarse is None else f", on the coarse axis {coarse} to the 10th percentile")
    )
    return _seen_at(found, target), True


def _target(found: Fingerprint) -> tuple[tuple[float, ...], int | None]:
    spacings, shapes = np.array(found.spacings), np.array(found.shapes)
    target, size = np.median(spacings, axis=0), np.median(shapes, axis=0)
    worst = int(target.argmax())
    others = [axis for axis in range(found.ndim) if axis != worst]
    spaced = target[worst] > ANISOTROPIC * target[others].max()
    few = size[worst] * ANISOTROPIC < size[others].min()
    if found.ndim == 3 and spaced and few:
        tenth = float(np.percentile(spacings[:, worst], 10))
        target[worst] = max(tenth, float(target[others].max()))
        return tuple(float(v) for v in target), worst
    return tuple(float(v) for v in target), None


def _seen_at(found: Fingerprint, spacing: tuple[float, ...]) -> Fingerprint:
    sizes = np.array(found.shapes) * np.array(found.spacings) / np.array(spacing)
    median = tuple(max(1, round(float(n))) for n in np.median(sizes, axis=0))
    return replace(found, spacing=spacing, median_shape=median)
