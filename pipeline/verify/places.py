"""What lies in a folder: stores, and what interrupted writers have left."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.verify.findings import Finding

LEFTOVERS = (".partial", ".old")
"""Ends of the hidden names under which stores, versions and files are written, or make room."""


@dataclass(frozen=True)
class Places:
    """Stores and leftovers below a folder, in order of name."""

    stores: tuple[Path, ...]
    """Folders that bear the name of a finished store."""
    leftovers: tuple[Path, ...]
    """What is being written now, or was when a run was killed."""


def look_below(folder: Path) -> Places:
    """Stores and leftovers of a folder; looks into no store, and follows no link."""
    stores, leftovers = [], []
    for place, folders, files in os.walk(folder):
        for name in list(folders):
            if name.startswith(".") and name.endswith(LEFTOVERS):
                leftovers.append(Path(place, name))
            elif name.endswith(".zarr"):
                stores.append(Path(place, name))
            else:
                continue
            folders.remove(name)
        leftovers += [Path(place, n) for n in files if n.startswith(".") and n.endswith(LEFTOVERS)]
    return Places(tuple(sorted(stores)), tuple(sorted(leftovers)))


def unfinished(leftover: Path) -> Finding:
    """A leftover as a finding."""
    return Finding(
        "note",
        str(leftover),
        "it is unfinished: being written now, or left by a run that was killed.",
        "Run the same command again, which goes on with it or replaces it.",
    )
