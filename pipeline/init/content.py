"""Which files are masks by what is in them, where no name says so."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import combinations

from pipeline.errors import SettingsError
from pipeline.init.families import Family, File, by_case_folder, by_suffix, gathered, spelt
from pipeline.init.matching import Match
from pipeline.init.scenes import alike
from pipeline.init.tree import Folder, Tree
from pipeline.init.values import holds_labels
from pipeline.io.discover import CASE
from pipeline.io.origin import one_file

LOOKED_AT = 3
"""Files that must hold labels for all of their kind to be taken for masks."""
NUMBER = re.compile(r"(.*[_\-. ])?\d+")
"""A name that ends so is of a case, not of a kind of file."""


def match_by_content(tree: Tree, files: Sequence[File]) -> Match | None:
    """Images and masks of the same names, told apart by what the files hold.

    Raises:
        SettingsError: Two folders share names, and both hold images, or both masks.
    """
    if in_case_folders(tree):
        return _side_by_side(gathered(seen for f in files for seen in by_case_folder(f)))
    pair = _best_pair(tree)
    if pair is None:
        return _side_by_side(gathered(by_suffix(file) for file in files))
    images, masks = _roles(tree, *pair)
    families = [Family("/".join((*f.parts, CASE)), f.by_case) for f in (images, masks)]
    image, mask = (spelt(family, ()) for family in families)
    return Match(mask, [image], [], [])


def in_case_folders(tree: Tree) -> bool:
    """Whether folders hold files of the same names, and the folders are the cases."""
    stems = {frozenset(folder.by_case) for folder in tree.filled}
    if len(tree.filled) < 2 or len(stems) > 1:
        return False
    names = next(iter(stems))
    numbered = any(NUMBER.fullmatch(name) for name in names)
    return not numbered or len(tree.filled) > max(2, len(names))


def _side_by_side(families: Sequence[Family]) -> Match | None:
    """Files of the same cases, of which some hold labels and some do not."""
    most = len(families[0].files) if families else 0
    usual = [family for family in families if 2 * len(family.files) > most]
    cases = set.intersection(*(set(family.files) for family in usual)) if usual else set()
    if len(usual) < 2 or not cases:
        return None
    masks = [family for family in usual if _hold_labels(family, cases)]
    images = [family for family in usual if family not in masks]
    if not masks or not images:
        return None
    taken, left_out, dtypes = alike(images)
    others = [f"{family.pattern} (masks too)" for family in masks[1:]]
    return Match(masks[0], taken, [*left_out, *others], dtypes)


def _hold_labels(family: Family, cases: AbstractSet[str]) -> bool:
    return all(holds_labels(one_file(family.files[case])) for case in sorted(cases)[:LOOKED_AT])


def _best_pair(tree: Tree) -> tuple[Folder, Folder] | None:
    by_case: dict[str, list[int]] = {}
    for number, folder in enumerate(tree.filled):
        for case in folder.by_case:
            by_case.setdefault(case, []).append(number)
    shared = Counter(pair for places in by_case.values() for pair in combinations(places, 2))
    kinds = {pair: {tree.kind(tree.filled[n]) for n in pair} for pair in shared}
    fitting = [pair for pair in shared if kinds[pair] not in ({"image"}, {"mask"})]
    if not fitting:
        return None
    first, second = max(fitting, key=lambda pair: (len(kinds[pair]), shared[pair]))
    return tree.filled[first], tree.filled[second]


def _roles(tree: Tree, one: Folder, other: Folder) -> tuple[Folder, Folder]:
    """Which of two folders holds the images and which the masks: by name, else by content."""
    kinds = tree.kind(one), tree.kind(other)
    if kinds == (None, None):
        both = one.by_case.keys() & other.by_case.keys()
        labels = [_hold_labels(Family("", folder.by_case), both) for folder in (one, other)]
        if labels[0] == labels[1]:
            looks = "masks" if labels[0] else "images"
            raise SettingsError(
                f"{one.name}/ and {other.name}/ in {tree.root} share names, and both look like "
                f"{looks}: name the folders images and masks"
            )
        kinds = ("mask", None) if labels[0] else (None, "mask")
    swap = kinds[0] == "mask" or kinds[1] == "image"
    return (other, one) if swap else (one, other)
