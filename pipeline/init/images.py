"""Files that belong to the cases of some masks and are none themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from pipeline.init.families import (
    Family,
    File,
    Seen,
    gathered,
    inside,
    name_without,
    says_mask,
    splits,
)
from pipeline.init.tree import Tree, common_start, kind_of
from pipeline.io.discover import CASE
from pipeline.io.readers import case_id


def image_families(tree: Tree, mask: Family, files: Sequence[File]) -> list[Family]:
    """Files of a mask's cases that are no masks, the largest families first."""
    masks = set(mask.files.values())
    others = [f for f in files if not f.is_vector and f.path not in masks]
    found = _kept(tree, (seen for f in others for seen in _seen(f, mask.files)))
    # A file alone in its folder needs no name of its own.
    count = Counter(f.folder.name for f in others)
    alone = [f for f in others if count[f.folder.name] == 1]
    starred = _kept(tree, (seen for f in alone for seen in _seen(f, mask.files, star=True)))
    return starred if _most(starred) > _most(found) else found


def _most(families: Sequence[Family]) -> int:
    return len(families[0].files) if families else 0


def _seen(file: File, cases: Collection[str], *, star: bool = False) -> Iterator[Seen]:
    """A file as an image of one of the cases: by its name, else by a folder's."""
    met = [split for split in splits(file.stem) if split[1] in cases]
    if met:
        before, case, after = max(met, key=lambda split: len(split[1]))
        yield inside(file.folder.parts, name_without(file, before, after), case), case, file.path
        return
    for case in {part for part in file.folder.parts if part in cases}:
        name = f"*{file.suffix}" if star else file.path.name
        yield inside(file.folder.parts, name, case), case, file.path


def _kept(tree: Tree, named: Iterable[Seen]) -> list[Family]:
    """Families that neither their own name nor a folder's calls masks."""
    return [
        family
        for family in gathered(named)
        if not says_mask(_stem_words(family))
        and _folder_kind(family.parts[tree.shared : -1]) != "mask"
    ]


def _stem_words(family: Family) -> str:
    return case_id(Path(family.parts[-1])).replace(CASE, " ")


def _folder_kind(parts: Sequence[str]) -> str | None:
    told = (kind_of(part) for part in reversed(parts) if part != CASE)
    return next((kind for kind in told if kind is not None), None)


def shared(one: Family, other: Family) -> int:
    """Folders that lead to both of two families."""
    return len(common_start([one.parts[:-1], other.parts[:-1]]))
