"""What every reader gives: a header at once, voxels by window."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from pipeline.errors import CaseError
from pipeline.space import Grid, Shape, Volume, Window

Role = Literal["image", "mask"]


class Source(Protocol):
    """An open file of voxels."""

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""

    @property
    def placed(self) -> bool:
        """Whether the file itself says where it lies; a mask that does not takes its image's."""

    @property
    def channels(self) -> int:
        """Size of the channel axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of the voxels that ``read`` gives."""

    @property
    def block(self) -> Shape:
        """What the file decodes at once, one number per spatial axis: a slice is (1, Y, X).

        Windows of whole blocks decode nothing twice; it is a hint, any window can be read.
        """

    @property
    def sequential(self) -> bool:
        """Whether windows are best read once, in order of their first axis, by one reader.

        True for a compressed stream, which has no way to seek; such a source may still read any
        window, at the price of starting again. False: any order, any number of threads.
        """

    def read(self, window: Window) -> Volume:
        """Voxels and validity of a window.

        Raises:
            CaseError: The file is damaged.
        """


@contextmanager
def damage_is_a_case_error(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Turn a library's complaints about a file into a CaseError that names it."""
    try:
        yield
    except errors as error:
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise CaseError(
            f"{path.name} cannot be read: it is truncated or damaged ({said}).",
            "Copy the file again from its source.",
        ) from error
