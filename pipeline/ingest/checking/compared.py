"""The usable cases of a dataset, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.ingest.checking.case import CheckedCase, Header
from pipeline.io.dataset import DataSettings


@dataclass(frozen=True)
class Compared:
    """The usable cases of a dataset."""

    data: DataSettings
    """The dataset."""
    cases: Sequence[CheckedCase]
    """Cases that ingest would take, ordered by id."""
    splits: Mapping[str, str]
    """The split that each case has, or would be dealt."""

    @property
    def headers(self) -> list[tuple[str, Header]]:
        """The cases' headers."""
        return [(c.case, c.header) for c in self.cases if c.header is not None]

    @property
    def labelled(self) -> list[CheckedCase]:
        """The cases that have a mask."""
        return [c for c in self.cases if c.class_voxels is not None]
