"""A difference in words that a radiologist reads."""

from __future__ import annotations

from pipeline.comparison.differences import Difference
from pipeline.comparison.figures import Figure

SURE = 0.05
"""Largest p at which a difference is said to be there."""


def sentence(found: Difference, figure: Figure, unit: str = "") -> str:
    """How B compares with A.

    Args:
        found: The difference.
        figure: What it is of.
        unit: The figure's unit.

    Example:
        >>> found = Difference(
        ...     "liver", 20, 0, 0.81, 0.822, 0.012, (0.004, 0.021), 18, 2, 0.003, 0.8
        ... )
        >>> sentence(found, Figure("dice", "Dice"))
        'B is better by 0.0120 Dice (95 % 0.0040 to 0.0210), p = 0.003, in 18 of 20 cases'
    """
    if found.difference is None:
        return f"no case has a {figure.label} in both"
    if not found.better and not found.worse:
        return f"no difference: {figure.label} is the same in {_cases(found.cases)}"
    gain = figure.gain(found.difference)
    word, times = ("better", found.better) if gain >= 0 else ("worse", found.worse)
    by = f"{size(abs(gain))} {_measured(figure, unit)}"
    within = f"in {times} of {_cases(found.cases)}"
    if found.told_p is None:
        return f"B is {word} by {by}, {within}: too few cases for a test"
    told = f"B is {word} by {by}{_interval(found)}, {probability(found.told_p)}, {within}"
    return told if found.told_p < SURE else f"no difference is proven: {told}"


def _measured(figure: Figure, unit: str) -> str:
    return f"{unit} {figure.label}" if unit else figure.label


def _cases(number: int) -> str:
    return "1 case" if number == 1 else f"{number} cases"


def _interval(found: Difference) -> str:
    """The interval of the difference's size, whichever way it goes."""
    if found.interval is None or found.difference is None:
        return ""
    low, high = found.interval
    if found.difference < 0:
        low, high = -high, -low
    return f" (95 % {size(low)} to {size(high)})"


def size(value: float) -> str:
    """A figure or a difference: four decimals of a share, four digits of what is larger.

    Example:
        >>> size(0.01234), size(-0.00001), size(123.456)
        ('0.0123', '0.0000', '123.5')
    """
    text = f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"
    return text.replace("-", "−") if float(text) else text.removeprefix("-")


def probability(p: float | None) -> str:
    """A p-value.

    Example:
        >>> probability(0.0312), probability(0.00002), probability(0.412)
        ('p = 0.031', 'p < 0.001', 'p = 0.41')
    """
    if p is None:
        return "–"
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
