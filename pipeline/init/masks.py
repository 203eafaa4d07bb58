"""Files that their names say to be masks, seen as cases in every way that the names allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pipeline.init.families import (
    SEPARATOR,
    Family,
    File,
    Seen,
    gathered,
    inside,
    name_without,
    says_mask,
    splits,
)
from pipeline.init.tree import Folder, Tree, common_start
from pipeline.io.discover import CASE

LARGEST = 16
"""Folders of masks, and families of names that say mask, which are tried."""


def mask_families(tree: Tree, files: Sequence[File]) -> list[Family]:
    """Files that names say to be masks, seen in every way their names allow."""
    named = [folder for folder in tree.filled if tree.kind(folder) == "mask"]
    drawn = [folder for folder in tree.filled if any(f.is_vector for f in _in(folder, files))]
    found: list[Family] = []
    for folders, vectors in ((named, False), (drawn, True)):
        for folder in sorted(folders, key=lambda f: -len(f.files))[:LARGEST]:
            inner = [f for f in _in(folder, files) if f.is_vector or not vectors]
            found += _by_folder(inner)
    tagged = (seen for file in files for seen in _tagged(file))
    return [*found, *gathered(tagged)[:LARGEST]]


def _in(folder: Folder, files: Iterable[File]) -> list[File]:
    return [file for file in files if file.folder is folder]


def _by_folder(files: Sequence[File]) -> Iterator[Family]:
    """The files of a folder, with what all their names begin or end with left out of the id."""
    for before, after in affixes([file.stem for file in files]):
        yield from gathered(
            (inside(file.folder.parts, name_without(file, before, after), ""), case, file.path)
            for file in files
            if (case := file.stem[len(before) : len(file.stem) - len(after)])
        )


def _tagged(file: File) -> Iterator[Seen]:
    """A file with a word for mask in its name, or below the folder of its case."""
    for before, case, after in splits(file.stem):
        if case != file.stem and says_mask(before + after) and not says_mask(case):
            name = name_without(file, before, after)
            yield inside(file.folder.parts, name, case), case, file.path
    parts = file.folder.parts
    for place, case in enumerate(parts):
        if any(says_mask(text) for text in (*parts[place + 1 :], file.stem)):
            folders = [*parts[:place], CASE, *parts[place + 1 :]]
            yield "/".join([*folders, file.path.name]), case, file.path


def affixes(stems: Sequence[str]) -> list[tuple[str, str]]:
    """What may stand before or after the case id in all of some names; nothing at first.

    Example:
        >>> affixes(["p1_mask", "p2_mask"]), affixes(["seg-0", "seg-1"])
        ([('', ''), ('', '_mask')], [('', ''), ('seg-', '')])
    """
    first = common_start(stems)
    last = common_start([stem[::-1] for stem in stems])[::-1]
    befores = [(first[: met.end()], "") for met in SEPARATOR.finditer(first)]
    afters = [("", last[met.start() :]) for met in SEPARATOR.finditer(last)]
    fitting = [a for a in befores + afters if all(len(s) > len(a[0] + a[1]) for s in stems)]
    return [("", ""), *fitting]
