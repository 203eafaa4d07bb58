"""A published version: a folder of masks that no later night touches, and its index.

published/
  current -> v0007     changed in one step: a reader sees the one version or the other
  v0007/
    index.json         the run, the model, one entry per mask, and what changed since v0006
    scores.json        of this version's masks, where there is truth
    <case>.zarr        mask stores; probabilities/ and objects/ where they are kept
    <case>.json        STAC items of scenes, and collection.json over them
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.io.files import digest

CURRENT, INDEX = "current", "index.json"
FORMAT = 1
NAME = re.compile(r"v(\d{4,})")


@dataclass(frozen=True)
class PublishedMask:
    """A mask of a version."""

    case: str
    """Case id; its store is ``<case>.zarr``."""
    split: str
    """Of the case."""
    key: str
    """Of the mask, and of all that it follows from, the case's truth included."""
    volume: str
    """Key of the case's volume store that it was made from."""
    class_voxels: tuple[int, ...] | None
    """Voxels of each label, from 0; None of a regression."""
    companions: tuple[str, ...] = ()
    """Folders that hold a store of the same name."""
    kept_from: str = ""
    """The version whose mask stays, because this night could make none; else nothing."""


@dataclass(frozen=True)
class Version:
    """A published version, as its index tells it."""

    number: int
    """From 1."""
    run: str
    """Name of the run."""
    created: str
    """When it was published, ISO 8601."""
    model: dict[str, str]
    """``id`` and ``weights_sha256`` of the model."""
    classes: dict[str, int]
    """Labels by class name; empty of a regression."""
    masks: tuple[PublishedMask, ...]
    """Ordered by case."""
    added: tuple[str, ...] = ()
    """Cases that the version before did not have."""
    changed: tuple[str, ...] = ()
    """Cases whose masks are others than in the version before."""
    removed: dict[str, str] = field(default_factory=dict)
    """Cases that the version before had, and why they are gone."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return version_name(self.number)

    @property
    def key(self) -> str:
        """Of all that its masks and scores follow from."""
        return content_key(self.masks)

    def to_json(self) -> dict[str, Any]:
        """The index as JSON values."""
        return {"format": FORMAT, "key": self.key, **asdict(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Version:
        """What ``to_json`` gave."""
        masks = tuple(
            PublishedMask(
                **{
                    **mask,
                    "class_voxels": mask["class_voxels"] and tuple(mask["class_voxels"]),
                    "companions": tuple(mask["companions"]),
                }
            )
            for mask in value["masks"]
        )
        lists: dict[str, Any] = {name: tuple(value[name]) for name in ("added", "changed")}
        kept = ("number", "run", "created", "model", "classes", "removed")
        return cls(**{name: value[name] for name in kept}, **lists, masks=masks)


def version_name(number: int) -> str:
    """Name of a version's folder.

    Example:
        >>> version_name(7)
        'v0007'
    """
    return f"v{number:04}"


def content_key(masks: Sequence[PublishedMask]) -> str:
    """Key of what masks and scores follow from; equal keys need no new version."""
    return digest([(m.case, m.split, m.key, m.companions, m.kept_from) for m in masks])


def numbers(folder: Path) -> list[int]:
    """Numbers that folders of a folder bear in the manner of versions, ascending."""
    if not folder.is_dir():
        return []
    found = (NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def versions_of(folder: Path, run_name: str) -> list[int]:
    """Numbers of the versions that a run has published in a folder, ascending."""
    return [n for n in numbers(folder) if _is_of(folder / version_name(n), run_name)]


def _is_of(path: Path, run_name: str) -> bool:
    try:
        return read_version(path).run == run_name
    except StoreError:
        return False


def read_version(path: Path) -> Version:
    """Read a version's index.

    Raises:
        StoreError: It is absent, damaged, or of another format.
    """
    try:
        value = json.loads((path / INDEX).read_text())
        if value["format"] == FORMAT:
            return Version.from_json(value)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path / INDEX} is absent or damaged: publish again") from error
    raise StoreError(
        f"{path / INDEX} is of format {value['format']}, this segflow writes format {FORMAT}: "
        f"move {path.parent} away, then publish again"
    )


def current_version(folder: Path) -> Version | None:
    """The version that ``current`` names; None before the first.

    Raises:
        StoreError: ``current`` is no link, or the version's index is damaged.
    """
    pointer = folder / CURRENT
    if not pointer.is_symlink():
        if pointer.exists():
            raise StoreError(
                f"{pointer} is no link, as a backup makes of one: move it away, then publish again"
            )
        return None
    return read_version(folder / pointer.readlink())
