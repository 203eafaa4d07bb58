"""What follows from a list of classes, wherever one stands: in a dataset or in a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.io.ngff import LabelClass


class _Class(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def background(self) -> bool: ...


class _Listed(Protocol):
    @property
    def classes(self) -> Sequence[_Class]: ...


class LabelOrder:
    """Base of what has ``classes`` in label order: the first is label 0."""

    @property
    def label_classes(self: _Listed) -> tuple[LabelClass, ...]:
        """The classes as stores and reports carry them."""
        return tuple(LabelClass(i, c.name, c.background) for i, c in enumerate(self.classes))

    @property
    def background(self: _Listed) -> int | None:
        """Label of the background; None where every class counts."""
        return next((i for i, c in enumerate(self.classes) if c.background), None)
