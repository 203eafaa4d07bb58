"""Files that belong to one case, by their names: each family is a pattern with ``{case}`` in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.init.tree import Folder, Tree, kind_of, words
from pipeline.io.discover import CASE
from pipeline.io.origin import VECTORS
from pipeline.io.readers import case_id, format_suffix

SEPARATOR = re.compile(r"[_\-. ]+")


@dataclass(frozen=True)
class File:
    """A file of a known format."""

    folder: Folder
    """Where it lies."""
    path: Path
    """It."""

    @cached_property
    def stem(self) -> str:
        """Its name without the suffix of its format."""
        return case_id(self.path)

    @property
    def suffix(self) -> str:
        """The suffix of its format, as written."""
        return self.path.name[len(self.stem) :]

    @property
    def is_vector(self) -> bool:
        """Whether it holds polygons."""
        return self.path.name.lower().endswith(VECTORS)


Seen = tuple[str, str, Path]
"""A pattern that a file fits, the case that it is of then, and the file."""


@dataclass(frozen=True)
class Family:
    """Files that one pattern names, one per case."""

    pattern: str
    """Path under the root, ``{case}`` for the case id."""
    files: dict[str, Path]
    """File by case id."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders of the pattern, then the file's name."""
        return tuple(self.pattern.split("/"))


def files_of(tree: Tree) -> list[File]:
    """Every file of a known format."""
    return [File(folder, path) for folder in tree.filled for path in folder.files]


def by_suffix(file: File) -> Seen:
    """A file as that of the case it is named by."""
    return "/".join((*file.folder.parts, f"{CASE}{file.suffix}")), file.stem, file.path


def by_case_folder(file: File) -> Iterator[Seen]:
    """A file as that of a case which one of its folders is named by."""
    parts = file.folder.parts
    for place, case in enumerate(parts):
        folders = [*parts[:place], CASE, *parts[place + 1 :]]
        yield "/".join([*folders, file.path.name]), case, file.path


def gathered(named: Iterable[Seen]) -> list[Family]:
    """Families of (pattern, case, file), the largest first."""
    families: dict[str, dict[str, Path]] = {}
    for pattern, case, path in named:
        families.setdefault(pattern, {})[case] = path
    ordered = sorted(families.items(), key=lambda item: (-len(item[1]), natural(item[0])))
    return [Family(pattern, files) for pattern, files in ordered]


def spelt(family: Family, others: Iterable[Family]) -> Family:
    """A family as run.yaml names it: by its folder alone, where no other one lies there.

    Args:
        family: One whose pattern may lack the suffix.
        others: Families that take part.
    """
    folder, _, name = family.pattern.rpartition("/")
    if name != CASE:
        return family
    beside = {file.parent for other in others for file in other.files.values()}
    if CASE not in folder and not beside & {file.parent for file in family.files.values()}:
        return Family(folder or ".", family.files)
    suffixes = Counter(format_suffix(file) or "" for file in family.files.values())
    commonest = suffixes.most_common(1)[0][0]
    files = {c: f for c, f in family.files.items() if f.name.endswith(commonest)}
    return Family(f"{family.pattern}{commonest}", files)


def natural(text: str) -> list[tuple[int, str]]:
    """A key that orders names with numbers in them as people do.

    Example:
        >>> sorted(["B10", "B8A", "B09", "B2"], key=natural)
        ['B2', 'B8A', 'B09', 'B10']
    """
    pieces = re.findall(r"\d+|\D+", text)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in pieces]


def inside(parts: Sequence[str], name: str, case: str) -> str:
    """A pattern of folders, the case's own spelt as such, and a file's name."""
    return "/".join([*(CASE if part == case else part for part in parts), name])


def name_without(file: File, before: str, after: str) -> str:
    """A file's name with the case id taken out; the suffix is left out where it tells nothing."""
    plain = not before and not after and len(file.folder.by_case) == len(file.folder.files)
    return f"{before}{CASE}{after}{'' if plain else file.suffix}"


def splits(stem: str) -> Iterator[tuple[str, str, str]]:
    """Ways to see a case id in a name, whole first: what is before, the id, what is after.

    Example:
        >>> list(splits("a_1"))
        [('', 'a_1', ''), ('', 'a', '_1'), ('a_', '1', '')]
    """
    yield "", stem, ""
    for met in SEPARATOR.finditer(stem):
        if met.start() > 0 and met.end() < len(stem):
            yield "", stem[: met.start()], stem[met.start() :]
            yield stem[: met.end()], stem[met.end() :], ""


def says_mask(text: str) -> bool:
    """Whether a word of a name, of more than a letter, says that it is of masks."""
    return any(kind_of(word) == "mask" for word in words(text) if len(word) > 1)
