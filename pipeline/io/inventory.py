"""What lies in a store's arrays: written down when it is published, compared by ``verify``.

A chunk that equals its fill value is not stored, so an absent file says nothing by itself: lost,
or never there? Number, bytes and digest of an array's files can tell.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.io.location import filesystem, is_remote

CHUNK = re.compile(r"(?P<array>.+)/c(?:/(?P<chunk>[0-9/]+))?")
"""A file with voxels, as Zarr names it: ``0/mask/c/1/0/2``, or ``0/spatial_ref/c`` of a scalar."""


def file_sizes(store: Path) -> dict[str, int]:
    """Bytes of every file of a store, by its name inside it; no content is read."""
    if is_remote(store):
        files, root = filesystem(store)
        files.invalidate_cache()
        found = files.find(root, detail=True).items()
        return {name.removeprefix(f"{root}/"): int(facts["size"]) for name, facts in found}
    sizes = {}
    for folder, _, names in os.walk(store):
        for name in names:
            path = Path(folder, name)
            sizes[path.relative_to(store).as_posix()] = path.lstat().st_size
    return sizes


def inventory(sizes: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Number, bytes and digest of the files of every array, by its path in the store.

    Args:
        sizes: As ``file_sizes`` gives them.

    Example:
        >>> inventory({"zarr.json": 9, "valid/zarr.json": 7, "valid/c/0/0": 5, "valid/c/0/1": 6})
        {'valid': {'files': 2, 'bytes': 11, 'digest': '2c4babbe2a238127'}}
    """
    arrays: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name, size in sizes.items():
        if match := CHUNK.fullmatch(name):
            arrays[match["array"]][name] = size
    return {array: _summary(files) for array, files in sorted(arrays.items())}


def _summary(files: Mapping[str, int]) -> dict[str, Any]:
    listed = "".join(f"{name} {size}\n" for name, size in sorted(files.items()))
    digest = hashlib.sha256(listed.encode()).hexdigest()[:16]
    return {"files": len(files), "bytes": sum(files.values()), "digest": digest}
