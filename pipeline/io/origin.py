"""The files that hold one array of a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

VECTORS = (".geojson", ".gpkg")
"""Suffixes of vector labels."""
FOLDERS = (".zarr",)
"""Suffixes of folders that are one file to people."""
Stack = Literal["file", "channels", "slices", "objects"]


@dataclass(frozen=True)
class Origin:
    """An image or a mask, as the files it is read from."""

    paths: tuple[Path, ...]
    """Its files; a Zarr store is one, though it is a folder."""
    items: tuple[str | None, ...]
    """For each file the array inside it, where a file holds several; else None."""
    stack: Stack = "file"
    """What several files are of one array: ``channels`` follow each other on the channel axis,
    ``slices`` are a DICOM series, ``objects`` mark one object each."""
    label: str = ""
    """What people call it, where that is not the file's name."""

    @property
    def name(self) -> str:
        """The array in a message."""
        item = f"::{self.items[0]}" if self.items[0] else ""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return self.label or f"{self.paths[0].name}{item}{more}"

    @property
    def is_vector(self) -> bool:
        """Whether it is a file of polygons, which takes its grid from an image."""
        return self.paths[0].name.lower().endswith(VECTORS)


def one_file(path: Path, item: str | None = None) -> Origin:
    """An array that is a file's."""
    return Origin((path,), (item,))


def several(paths: Sequence[Path], stack: Stack, label: str = "") -> Origin:
    """An array of several files."""
    return Origin(tuple(paths), (None,) * len(paths), stack, label)
