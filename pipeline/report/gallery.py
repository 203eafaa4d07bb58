"""The cases worth a look: which they are, and what is shown of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.errors import StoreError
from pipeline.report.facts import CaseErrors, Evidence, Scored
from pipeline.report.fields import fields
from pipeline.report.planes import planes, read_arrays
from pipeline.report.stores import mask_of, volume_of
from pipeline.report.words import times
from pipeline.space import Grid

UNITS = {"millimeter": " mm", "meter": " m", "degree": "°"}


def gallery(evidence: Evidence, most: int) -> dict[str, Any]:
    """Pictures of the worst, the median and the best held-out cases.

    Args:
        evidence: What is on disk.
        most: How many cases to show.
    """
    ranked = [c for c in evidence.held_out if c.rank is not None]
    chosen = choose_cases(ranked, most) if evidence.classes or evidence.regression else []
    shown = [_shown(evidence, case, role, f"case-{i}") for i, (case, role) in enumerate(chosen)]
    return {
        "gallery": shown,
        "no_gallery": _why_none(evidence, most),
        "label_classes": [c for c in evidence.classes if not c.background],
        "shown_at": {case["case"]: case["id"] for case in shown},
        "turned": next((case["turned"] for case in shown if case["turned"]), ""),
    }


def choose_cases(ranked: Sequence[Scored], most: int) -> list[tuple[Scored, str]]:
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
    if evidence.regression:
        return "No held-out case has an error to rank it by."
    if not evidence.classes:
        return "No pictures: without the model's card the classes are unknown."
    return "No held-out case has a Dice to rank it by."


def _figures(case: Scored) -> dict[str, Any]:
    if isinstance(case, CaseErrors):
        return {"mae": case.mae, "rmse": case.rmse, "r2": case.r2}
    return {"mean": case.mean, "classes": case.classes if len(case.classes) > 1 else {}}


def _shown(evidence: Evidence, case: Scored, role: str, name: str) -> dict[str, Any]:
    """A case of the gallery: its pictures, or why there are none."""
    shown = {"id": name, "case": case.case, "role": role, **_figures(case)}
    try:
        volume = volume_of(evidence, case.case)
    except StoreError as error:
        return shown | {"problem": f"No pictures: {error}", "views": [], "turned": ""}
    mask, problem = mask_of(evidence, case.case, volume.grid)
    arrays = read_arrays(volume, mask)
    drawn = (
        fields(arrays) if evidence.regression else {"views": planes(arrays, evidence.classes, name)}
    )
    return shown | {
        "problem": problem,
        **drawn,
        "grid": _grid_in_words(volume.grid),
        "turned": _turned(volume.grid),
    }


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
