"""What lies below a dataset's folder, by name alone: no file is opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, TypeVar

from pipeline.errors import SettingsError
from pipeline.io.discover import CASE, image_files
from pipeline.io.location import entries
from pipeline.io.origin import FOLDERS
from pipeline.io.readers import case_id, format_suffix

Kind = Literal["image", "mask"]
Named = TypeVar("Named", str, tuple[str, ...])

DEPTH = 3
"""Levels of folders below the root: DSB2018 below its parent has three."""
WIDEST = 64
"""Folders looked at in one folder, evenly spread: a folder per case has thousands."""
MOST_FOLDERS = 500
KINDS: dict[Kind, re.Pattern[str]] = {
    "image": re.compile(
        r"((image|img|imaging|input|scan|tile|scene|volume|vol|photo|picture)s?|imagestr|raw)\d*|x"
    ),
    "mask": re.compile(
        r"((mask|label|lbl|annotation|annot|target|seg|segmentation)s?|labelstr|gt"
        r"|(ground)?truth|manual)\d*|y"
    ),
}
"""What a word of a name says of the files."""


STRANGE = ("*", "::", CASE)
"""What means something else in a pattern: names that hold it are passed over."""


@dataclass(frozen=True)
class Folder:
    """A folder and what lies in it."""

    name: str
    """Path under the root; ``.`` for the root itself."""
    files: tuple[Path, ...]
    """Files of known formats, vector labels included."""
    others: tuple[str, ...]
    """Names of other files."""
    inner: tuple[str, ...]
    """Names of its folders."""

    @cached_property
    def by_case(self) -> dict[str, Path]:
        """Files by case id."""
        return {case_id(file): file for file in self.files}

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the folders that lead to it."""
        return () if self.name == "." else tuple(self.name.split("/"))


@dataclass(frozen=True)
class Tree:
    """A dataset's folder."""

    root: Path
    """Where it is."""
    folders: tuple[Folder, ...]
    """It and the folders below it, the nearest first."""

    @cached_property
    def filled(self) -> list[Folder]:
        """The folders that hold files of known formats."""
        return [folder for folder in self.folders if folder.files]

    @cached_property
    def shared(self) -> int:
        """Folders that lead to all the files, which say nothing of any."""
        return len(common_start([folder.parts[:-1] for folder in self.filled]))

    def kind(self, folder: Folder) -> Kind | None:
        """What a folder's name says it holds; the nearest part that says something counts."""
        told = (kind_of(part) for part in reversed(folder.parts[self.shared :]))
        return next((kind for kind in told if kind is not None), None)

    @property
    def inventory(self) -> str:
        """What lies here, by suffix, for an error."""
        near = [folder for folder in self.folders if len(folder.parts) < 2]
        counts: Counter[str] = Counter()
        for folder in near:
            names = [*(file.name for file in folder.files), *folder.others]
            counts.update(_suffix(name) for name in names)
        kinds = [f"{n} {suffix} file{'s' * (n > 1)}" for suffix, n in counts.most_common(4)]
        inner = len(self.folders[0].inner)
        folders = [f"{inner} folder{'s' * (inner > 1)}"] if inner else []
        return ", ".join([*kinds, *folders]) or "nothing"


def _suffix(name: str) -> str:
    path = Path(name)
    return (format_suffix(path) or path.suffix).lower() or "suffix-less"


def look(root: Path) -> Tree:
    """List a folder and those below it; hidden ones are left out.

    Raises:
        SettingsError: A folder cannot be listed.
    """
    found: list[Folder] = []
    ahead = [(root, ".")]
    while ahead and len(found) < MOST_FOLDERS:
        path, name = ahead.pop(0)
        found.append(_listed(path, name))
        if len(found[-1].parts) < DEPTH:
            ahead += [
                (path / inner, inner if name == "." else f"{name}/{inner}")
                for inner in spread(found[-1].inner, WIDEST)
            ]
    return Tree(root, tuple(found))


def _listed(path: Path, name: str) -> Folder:
    try:
        files = tuple(f for f in image_files(path, polygons=True) if not _is_strange(f.name))
        listing = [entry for entry in sorted(entries(path)) if not entry[0].startswith(".")]
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be listed ({error.strerror or error}): give a folder that can be read"
        ) from error
    known = {file.name for file in files}
    others = tuple(n for n, is_folder in listing if not is_folder and n not in known)
    folders = (n for n, is_folder in listing if is_folder and not n.lower().endswith(FOLDERS))
    return Folder(name, files, others, tuple(n for n in folders if not _is_strange(n)))


def _is_strange(name: str) -> bool:
    return any(mark in name for mark in STRANGE)


Item = TypeVar("Item")


def spread(items: Sequence[Item], most: int) -> Iterator[Item]:
    """At most so many of some items, evenly spread.

    Example:
        >>> list(spread(["a", "b", "c", "d", "e"], 3))
        ['a', 'c', 'e']
    """
    yield from items[:: max(1, -(-len(items) // most))]


def common_start(items: Sequence[Named]) -> Named:
    """What some texts, or paths of folders, begin with.

    Example:
        >>> common_start(["p1_mask", "p2_mask"]), common_start([("a", "b"), ("a", "c")])
        ('p', ('a',))
    """
    first, last = min(items), max(items)
    pairs = enumerate(zip(first, last, strict=False))
    length = next((n for n, (a, b) in pairs if a != b), min(len(first), len(last)))
    return first[:length]


def words(text: str) -> list[str]:
    """Words of a name in lower case: at separators, and where a capital begins one.

    Example:
        >>> words("Spain_7370579_LabelHand"), words("JPEGImages"), words("manualFluid1")
        (['spain', '7370579', 'label', 'hand'], ['jpeg', 'images'], ['manual', 'fluid1'])
    """
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text)
    return re.findall(r"[a-z0-9]+", apart.lower())


@cache
def kind_of(text: str) -> Kind | None:
    """What a name says of its files; None where it says nothing, or both.

    Example:
        >>> kind_of("imagesTr"), kind_of("S1OtsuLabelHand"), kind_of("image_masks"), kind_of("y")
        ('image', 'mask', None, 'mask')
    """
    every = {text.lower(), *words(text)}
    kinds: set[Kind] = {kind for kind, names in KINDS.items() if any(map(names.fullmatch, every))}
    return kinds.pop() if len(kinds) == 1 else None
