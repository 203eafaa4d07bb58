"""When a case, or a night, is said to be unlike the training cases."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class DriftSettings(BaseModel):
    """When a case, or a night, is said to be unlike the training cases."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    enabled: bool = True
    """Whether new cases are compared with the training cases at all."""
    margin: Annotated[float, Field(ge=0, le=10)] = 0.5
    """How far beyond the range of the training cases a case may lie before it is flagged, as a
    share of the range's width. Few cases show less than the whole range: it is then taken to be as
    wide as that of three hundred."""
    significance: Annotated[float, Field(gt=0, le=0.5)] = 0.01
    """How often chance alone may flag the new cases as a whole: 0.01 is one night in a hundred."""
    fewest: Annotated[int, Field(ge=2)] = 8
    """New cases below which nothing is said of them as a whole."""
