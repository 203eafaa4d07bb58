"""A figure of a case, and how such figures are compared."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log


@dataclass(frozen=True)
class Scale:
    """How the figures of a quantity are compared and written."""

    slack: float
    """Difference that makes none to a network: in the quantity's own unit, or, of ratios, the
    natural logarithm of a factor."""
    unit: str = ""
    """What stands behind the number in a sentence; ``%`` of a share, which is from 0 to 1."""
    ratios: bool = False
    """Whether figures differ by factors, as those that live on many scales do; none is negative,
    and 0 means that there is nothing to measure."""

    def place(self, value: float) -> float:
        """Where a figure stands on the axis on which differences are taken."""
        if not self.ratios:
            return value
        return log(value) if value > 0 else -inf

    def number(self, value: float) -> str:
        """A figure as a sentence has it, without its unit.

        Example:
            >>> Scale(0.1, "%").number(0.25), Scale(0.1).number(12345.6), Scale(0.1).number(0.98)
            ('25', '12346', '0.98')
        """
        shown = 100 * value if self.unit == "%" else value
        # The shortest of four digits writes 12346 as 1.235e+04.
        return f"{shown:.0f}" if 1e4 <= abs(shown) < 1e9 else f"{shown:.4g}"

    def written(self, value: float) -> str:
        """A figure as a sentence has it, with its unit.

        Example:
            >>> Scale(0.1, "%").written(0.25), Scale(0.1, "mm").written(0.98)
            ('25 %', '0.98 mm')
        """
        return f"{self.number(value)} {self.unit}".rstrip()


@dataclass(frozen=True)
class Quantity:
    """A figure of a case."""

    value: float
    """The figure: a share from 0 to 1, else in the scale's unit."""
    scale: Scale
    """How it is compared."""
