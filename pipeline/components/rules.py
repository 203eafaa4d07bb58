"""What is done to the components of a mask, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ClassRule(BaseModel):
    """What is done to the components of one class."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    largest_only: bool = False
    """Only the largest component is kept; of several of that size, the first in C order."""
    smallest: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """Components of less than this are removed; mm³ of a volume, m² of a scene."""
    fill_holes: bool = False
    """Background that the class encloses becomes the class."""

    @property
    def active(self) -> bool:
        """Whether it does anything."""
        return self.largest_only or self.smallest > 0 or self.fill_holes

    def in_words(self, unit: str) -> str:
        """The rule in words, in the order in which it is done.

        Args:
            unit: That of ``smallest``.

        Example:
            >>> ClassRule(smallest=12.5, fill_holes=True).in_words("mm³")
            'holes filled, components below 12.5 mm³ removed'
        """
        words = ["holes filled"] * self.fill_holes
        words += [f"components below {self.smallest:.4g} {unit} removed"] * (self.smallest > 0)
        words += ["only the largest component kept"] * self.largest_only
        return ", ".join(words) or "left as it is"


class Cleanup(BaseModel):
    """What is done to the components of a mask: holes are filled first, then rules remove."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rules: dict[Annotated[int, Field(ge=0)], ClassRule] = {}
    """Rule of each class by its label; classes that are not named are left as they are, and so
    is the background."""

    @property
    def active(self) -> bool:
        """Whether it does anything."""
        return any(rule.active for rule in self.rules.values())

    def in_words(self, names: Sequence[str], unit: str) -> str:
        """The rules as one sentence.

        Args:
            names: Class names by label.
            unit: That of the rules' ``smallest``.

        Example:
            >>> Cleanup(rules={1: ClassRule(largest_only=True)}).in_words(["air", "lung"], "mm³")
            'The mask is cleaned up: lung: only the largest component kept.'
        """
        told = [
            f"{names[label]}: {rule.in_words(unit)}"
            for label, rule in sorted(self.rules.items())
            if rule.active
        ]
        return f"The mask is cleaned up: {'; '.join(told)}." if told else "The mask is left as is."
