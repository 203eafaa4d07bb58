"""The original file of a mask, looked for where the user said that it is."""

from __future__ import annotations

from pathlib import Path

from pipeline.export.case import Export


def source_file(export: Export, suffixes: tuple[str, ...]) -> Path | None:
    """The image's file, by name; None where it is not there, or of another format.

    Args:
        export: The mask; its provenance tells the file's path below the dataset's root.
        suffixes: Of the format looked for.
    """
    place = export.source
    if place is None:
        return None
    images = [s["path"] for s in export.mask.attributes.get("sources", ()) if s["role"] == "image"]
    found = [place] if place.is_file() else [place / path.split("::")[0] for path in images]
    for path in found:
        # A path in a store is no leave to read whatever it leads to.
        inside = path == place or path.resolve().is_relative_to(place.resolve())
        if inside and path.is_file() and path.name.lower().endswith(suffixes):
            return path
    return None
