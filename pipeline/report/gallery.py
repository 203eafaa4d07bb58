"""The cases worth a look: which they are, and what is shown of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.errors import StoreError
from pipeline.io.mask_store import MaskStore
from pipeline.io.volume_store import VolumeStore
from pipeline.report.facts import CaseErrors, Evidence, Scored
from pipeline.report.fields import fields
from pipeline.report.places import place_in_words
from pipeline.report.planes import planes, read_arrays
from pipeline.report.stores import mask_of, readable, volume_of
from pipeline.space import Grid

MOST_CLASSES = 6
"""Classes whose Dice stands beside a case's name."""


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
    classes = list(case.classes.items())
    if len(classes) > MOST_CLASSES:  # the lowest say most
        known = [(value, name) for name, value in classes if value is not None]
        classes = [(name, value) for value, name in sorted(known)[:MOST_CLASSES]]
    return {
        "mean": case.mean,
        "classes": classes if len(case.classes) > 1 else [],
        "hidden_classes": len(case.classes) - len(classes),
    }


def _shown(evidence: Evidence, case: Scored, role: str, name: str) -> dict[str, Any]:
    """A case of the gallery: its pictures, or why there are none."""
    shown = {"id": name, "case": case.case, "role": role, **_figures(case)}
    try:
        return shown | _pictures(evidence, case.case, name)
    except StoreError as error:
        return shown | {"problem": f"No pictures: {error}", "views": [], "turned": ""}


def _pictures(evidence: Evidence, case: str, name: str) -> dict[str, Any]:
    """Pictures of truth and prediction; of the truth alone where the mask cannot be read.

    Raises:
        StoreError: The volume cannot be read.
    """
    volume = volume_of(evidence, case)
    mask, problem = mask_of(evidence, case, volume.grid)
    try:
        drawn = _drawn(evidence, volume, mask, name)
    except StoreError as error:
        # Where it was the volume that cannot be read, this says so too.
        drawn = _drawn(evidence, volume, None, name)
        problem = f"Its mask cannot be shown: {error}"
    place = place_in_words(volume.grid)
    return {"problem": problem, **drawn, "place": place, "turned": _turned(volume.grid)}


def _drawn(
    evidence: Evidence, volume: VolumeStore, mask: MaskStore | None, name: str
) -> dict[str, Any]:
    arrays = readable(volume.path, lambda: read_arrays(volume, mask))
    if evidence.regression:
        return fields(arrays)
    return {"views": planes(arrays, evidence.classes, name)}


def _turned(grid: Grid) -> str:
    if grid.crs is not None:
        return "North is up."
    if len(grid.shape) == 3 and grid.unit == "millimeter":
        return "Superior or anterior is up, the patient's right is on the right."
    return ""
