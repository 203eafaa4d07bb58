"""What is said of drift."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """Where a case, or a night, does not look like the training cases."""

    case: str | None
    """The case; None: the new cases as a whole."""
    quantity: str
    """What was compared."""
    value: float
    """Of the case; of the whole, the median of the new cases."""
    expected: tuple[float, float]
    """Least and greatest figure of the training cases; of the whole, their quartiles."""
    sentence: str
    """The same in plain words."""
