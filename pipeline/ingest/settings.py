"""How cases are taken in and split."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class IngestSettings(BaseModel):
    """How cases are taken in and split."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    store: str | None = None
    """Folder of the volume stores, a path or an fsspec URL, to share them between runs; null:
    ``volumes`` in the run."""
    test_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the groups held out: never trained on, the score is theirs."""
    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the groups that choose the best checkpoint during training."""
    folds: Annotated[int, Field(ge=1)] = 5
    """Cross-validation folds into which the training cases are dealt."""
    seed: int = 0
    """Deals the groups to the splits."""
