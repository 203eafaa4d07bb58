"""How training patches are cut."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class PatchSettings(BaseModel):
    """How training patches are cut."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    per_case: Annotated[int, Field(ge=1)] | None = None
    """Patches of each case; null: as many as see each voxel about four times, 4 to 64."""
    foreground: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of patches placed on a voxel of a class other than the background, classes in turn,
    one that few cases have more often in those; the rest lie anywhere."""
    max_nodata: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Most of what the network labels of a patch that may be without data, as the rim of a scene
    is; where a case has no place with less, the best of 16."""
    margin: Annotated[float, Field(ge=1, le=2)] = 1.25
    """Patches are cut larger than the network's by this factor, so that rotating and scaling
    them brings in real neighbours."""
    seed: int = 0
    """Places the patches."""
