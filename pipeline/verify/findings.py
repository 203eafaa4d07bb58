"""What was found, a sentence each, with what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["damaged", "warning", "note"]
LEVELS: tuple[Level, ...] = ("damaged", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    level: Level
    """``damaged``: something that was finished is lost or altered; ``warning``: it is whole but
    out of date, or cannot be judged; ``note``: nothing is wrong, yet it should be known."""
    place: str
    """The store or file."""
    reason: str
    """What was met and what was expected."""
    remedy: str
    """What to do."""
