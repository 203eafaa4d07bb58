"""What is scored."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class ScoreSettings(BaseModel):
    """What is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    held_out: Literal["test", "val", "train"] = "test"
    """The split whose mean is the run's score; every labelled case is listed all the same."""
