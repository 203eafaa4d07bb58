"""Scores in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_NAMED = 5
"""Cases a line names."""


def headline(scores: Mapping[str, Any]) -> str:
    """What scores.json says first; empty where no held-out case has a figure.

    Example:
        >>> headline({"mean": {"dice": 0.87512}})
        'mean Dice 0.8751'
        >>> headline({"mean": {"dice": 0.87512}, "unscored": ["liver_3"]})
        'mean Dice 0.8751, without 1 held-out case that has no score: liver_3'
        >>> headline({"task": "regression", "mean": {"mae": 1.23456, "r2": 0.9}})
        'mean absolute error 1.235, R² 0.9000'
    """
    told, missing = _figures(scores), scores.get("unscored", ())
    if not missing:
        return told
    one = len(missing) == 1
    many = "1 held-out case that has" if one else f"{len(missing)} held-out cases that have"
    named = ", ".join(missing[:MOST_NAMED]) + (" …" if len(missing) > MOST_NAMED else "")
    return f"{told or 'no figure'}, without {many} no score: {named}"


def _figures(scores: Mapping[str, Any]) -> str:
    mean = scores["mean"]
    if scores.get("task") != "regression":
        return "" if mean["dice"] is None else f"mean Dice {mean['dice']:.4f}"
    if mean["mae"] is None:
        return ""
    told = f"mean absolute error {mean['mae']:.4g}"
    return told if mean["r2"] is None else f"{told}, R² {mean['r2']:.4f}"
