"""What can be set of publication."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class PublishSettings(BaseModel):
    """Where versions of the masks stand, and how many of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    folder: str | None = None
    """Folder of the versions; null: ``published`` in the run's folder. On the disk of the run a
    version takes no room for voxels: its files are links to those of ``predictions``."""
    most_removed: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Largest share of the current version's masks that a new version may lack. Beyond it nothing
    is published: a disk that is not mounted looks like a dataset whose files are gone."""
    keep: Annotated[int, Field(ge=1)] = 7
    """Versions that are kept; older ones are removed. The current one always stays."""
