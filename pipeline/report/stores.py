"""A case's stores, or why one cannot be shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline.errors import StoreError
from pipeline.io.mask_store import MaskStore
from pipeline.io.volume_store import VolumeStore
from pipeline.report.facts import Evidence
from pipeline.space import Grid

MOST_SAID = 200
"""Characters of a library's own words."""
Found = TypeVar("Found")


def readable(path: Path, read: Callable[[], Found]) -> Found:
    """What is read of a store; a damaged one fails in many ways, of which one is made.

    Args:
        path: The store.
        read: Reads it.

    Raises:
        StoreError: It cannot be read.
    """
    try:
        return read()
    except StoreError:
        raise
    except Exception as error:
        line = " ".join(str(error).split())[:MOST_SAID]
        met = f"{type(error).__name__}: {line}" if line else type(error).__name__
        raise StoreError(
            f"{path} cannot be read ({met}): see `segflow verify`, and make it anew"
        ) from error


def volume_of(evidence: Evidence, case: str) -> VolumeStore:
    """A case's volume.

    Raises:
        StoreError: It is absent, or there is no truth in it, or one of another task.
    """
    folders = {row.id: row.store for row in evidence.manifest}
    path = evidence.volumes / folders.get(case, f"{case}.zarr")
    volume = readable(path, lambda: VolumeStore(path))
    if not volume.labelled:
        raise StoreError(f"{volume.path} holds no truth.")
    if (volume.target is not None) != evidence.regression:
        raise StoreError(f"the truth in {volume.path} is of another task: see data.task.")
    return volume


def mask_of(evidence: Evidence, case: str, grid: Grid) -> tuple[MaskStore | None, str]:
    """A case's mask; or None, and why there is none."""
    path = evidence.predictions / str(evidence.scores["model_id"]) / f"{case}.zarr"
    try:
        mask = readable(path, lambda: MaskStore(path))
    except StoreError as error:
        return None, f"Its mask cannot be shown: {error}"
    if difference := grid.difference(mask.grid):
        return None, f"The mask {path} is of another grid: {difference}."
    if (mask.target is not None) != evidence.regression:
        return None, f"The mask {path} is of another task."
    return mask, ""
