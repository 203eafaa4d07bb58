"""Figures by which two runs can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import SettingsError

Rows = Literal["cases", "object_cases"]


@dataclass(frozen=True)
class Figure:
    """A figure of scores.json that every case has for itself."""

    name: str
    """Its key."""
    label: str
    """What people call it."""
    higher: bool = True
    """Whether more of it is better."""
    rows: Rows = "cases"
    """The list of scores.json that holds it."""
    unit: str | None = None
    """The key of ``units`` that it is measured in or by; None: it is a share, or a value."""

    def gain(self, difference: float) -> float:
        """A difference, B less A, as an improvement: positive is better."""
        return difference if self.higher else -difference


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("dice", "Dice"),
        Figure("iou", "IoU"),
        Figure("precision", "precision"),
        Figure("recall", "recall"),
        Figure("specificity", "specificity"),
        Figure("hd95", "HD95", higher=False, unit="distance"),
        Figure("msd", "mean surface distance", higher=False, unit="distance"),
        Figure("nsd", "surface Dice", unit="tolerance"),
        Figure("pq", "panoptic quality", rows="object_cases"),
        Figure("sq", "segmentation quality", rows="object_cases"),
        Figure("rq", "recognition quality", rows="object_cases"),
        Figure("f1", "object F1", rows="object_cases"),
        Figure("ap", "object AP", rows="object_cases"),
        Figure("mae", "MAE", higher=False),
        Figure("mse", "MSE", higher=False),
        Figure("rmse", "RMSE", higher=False),
        Figure("r2", "R²"),
    )
}


def choose_figure(name: str | None, scores: Mapping[str, Any]) -> Figure:
    """The figure that is asked for, or the first of its task: Dice, or the mean absolute error.

    Raises:
        SettingsError: There is no such figure, or the scores do not hold it.
    """
    if name is None:
        name = "mae" if scores.get("task") == "regression" else "dice"
    figure = FIGURES.get(name)
    if figure is None:
        raise SettingsError(f"--figure {name}: there is no such figure; give {', '.join(FIGURES)}")
    held = {key for row in scores.get(figure.rows) or () for key in row}
    if name not in held:
        can = [f.name for f in FIGURES.values() if f.name in held or _holds(scores, f)]
        raise SettingsError(
            f"--figure {name}: the scores do not hold it; they hold {', '.join(can) or 'none'}. "
            "See score.* in run.yaml for those that are not always computed"
        )
    return figure


def _holds(scores: Mapping[str, Any], figure: Figure) -> bool:
    return any(figure.name in row for row in scores.get(figure.rows) or ())
