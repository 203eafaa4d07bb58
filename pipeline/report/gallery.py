"""The cases worth a look: which they are, and what is shown of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.errors import StoreError
from pipeline.io.mask_store import MaskStore
from pipeline.io.volume_store import VolumeStore
from pipeline.report.facts import CaseScore, Evidence
from pipeline.report.planes import planes, read_arrays
from pipeline.report.words import times
from pipeline.space import Grid

UNITS = {"millimeter": " mm", "meter": " m", "degree": "°"}


def gallery(evidence: Evidence, most: int) -> dict[str, Any]:
    """Pictures of the worst, the median and the best held-out cases.

    Args:
        evidence: What is on disk.
        most: How many cases to show.
    """
    ranked = [c for c in evidence.held_out if c.mean is not None]
    chosen = choose_cases(ranked, most) if evidence.classes else []
    shown = [_shown(evidence, case, role, f"case-{i}") for i, (case, role) in enumerate(chosen)]
    return {
        "gallery": shown,
        "no_gallery": _why_none(evidence, most),
        "label_classes": [c for c in evidence.classes if not c.background],
        "shown_at": {case["case"]: case["id"] for case in shown},
        "turned": next((case["turned"] for case in shown if case["turned"]), ""),
    }


def choose_cases(ranked: Sequence[CaseScore], most: int) -> list[tuple[CaseScore, str]]:
    """The worst, the median and the best cases, each with its role in words.

    Args:
        ranked: Cases, worst first.
        most: How many to choose; of each kind a third, the worst and then the best favoured.
    """
    n, most = len(ranked), min(most, len(ranked))
    worst, best = -(-most // 3), (most + 1) // 3
    middle = most - worst - best
    # The middle ones lie around the median, but never among the worst or the best.
    start = min(max((n - middle + 1) // 2, worst), n - best - middle)
    kinds = [(range(worst), "worst"), (range(start, start + middle), "median")]
    kinds.append((range(n - best, n), "best"))
    return [(ranked[i], f"{kind}, {i + 1} of {n}") for span, kind in kinds for i in span]


def _why_none(evidence: Evidence, most: int) -> str:
    if not most:
        return "Left out by the setting report.cases."
    if not evidence.classes:
        return "No pictures: without the model's card the classes are unknown."
    return "No held-out case has a Dice to rank it by."


def _shown(evidence: Evidence, case: CaseScore, role: str, name: str) -> dict[str, Any]:
    """A case of the gallery: its pictures, or why there are none."""
    shown: dict[str, Any] = {
        "id": name,
        "case": case.case,
        "role": role,
        "mean": case.mean,
        "classes": case.classes if len(case.classes) > 1 else {},
    }
    try:
        volume = _volume(evidence, case.case)
    except StoreError as error:
        return shown | {"problem": f"No pictures: {error}", "views": [], "turned": ""}
    mask, problem = _mask(evidence, case.case, volume.grid)
    return shown | {
        "problem": problem,
        "views": planes(read_arrays(volume, mask), evidence.classes, name),
        "grid": _grid_in_words(volume.grid),
        "turned": _turned(volume.grid),
    }


def _volume(evidence: Evidence, case: str) -> VolumeStore:
    """A case's volume.

    Raises:
        StoreError: It is absent, or there is no truth in it.
    """
    folders = {row.id: row.store for row in evidence.manifest}
    volume = VolumeStore(evidence.volumes / folders.get(case, f"{case}.zarr"))
    if not volume.labelled:
        raise StoreError(f"{volume.path} holds no truth.")
    return volume


def _mask(evidence: Evidence, case: str, grid: Grid) -> tuple[MaskStore | None, str]:
    """A case's mask; or None, and why there is none."""
    path = evidence.predictions / str(evidence.scores["model_id"]) / f"{case}.zarr"
    try:
        mask = MaskStore(path)
    except StoreError as error:
        return None, f"Its mask cannot be shown: {error}"
    if difference := grid.difference(mask.grid):
        return None, f"The mask {path} is of another grid: {difference}."
    return mask, ""


def _grid_in_words(grid: Grid) -> str:
    words = f"{times(grid.shape)} voxels ({', '.join(grid.axes)})"
    if grid.unit is None:
        return words
    return f"{words}, {times(grid.spacing, digits=4)}{UNITS.get(grid.unit, f' {grid.unit}')}"


def _turned(grid: Grid) -> str:
    if grid.crs is not None:
        return "North is up."
    if len(grid.shape) == 3 and grid.unit == "millimeter":
        return "Superior or anterior is up, the patient's right is on the right."
    return ""
