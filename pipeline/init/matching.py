"""Which files of a folder are masks and which the images that belong to them, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.init.families import Family, File, natural, spelt
from pipeline.init.images import image_families, shared
from pipeline.init.masks import mask_families
from pipeline.init.scenes import alike, full
from pipeline.init.tree import Tree, kind_of
from pipeline.io.readers import case_id


@dataclass(frozen=True)
class Match:
    """Masks and the images that belong to them."""

    mask: Family
    """The masks, as run.yaml names them."""
    images: list[Family]
    """The files of each image, in the order of its channels."""
    left_out: list[str]
    """What was found beside them and is not used, each with the reason."""
    dtypes: list[str]
    """Element type of each family, where there are several."""


def match_by_name(tree: Tree, files: Sequence[File]) -> Match | None:
    """Masks that are told by a word of their names, with their images; None where none are."""
    masks = mask_families(tree, files)
    tried = [(mask, image_families(tree, mask, files)) for mask in masks]
    fitting = [(mask, images) for mask, images in tried if images]
    if not fitting:
        return None
    # Of those that match as many cases, the one that leaves most of the name to the case.
    mask, images = max(fitting, key=lambda m: (_matched(*m), -len(m[0].pattern)))
    return _chosen(mask, images, masks)


def _matched(mask: Family, images: Sequence[Family]) -> int:
    return len(mask.files.keys() & images[0].files.keys())


def _chosen(mask: Family, images: Sequence[Family], masks: Sequence[Family]) -> Match:
    near = _nearest(mask, images)
    taken, left_out, dtypes = alike(near)
    used = {file for family in (mask, *images) for file in family.files.values()}
    rivals = [
        f"{full(family)} (masks too)"
        for family in masks
        if not used & set(family.files.values()) and 2 * len(family.files) >= len(mask.files)
    ]
    every = [mask, *images]
    # A folder alone names one image; one of several needs its files' names.
    alone = [spelt(f, [other for other in every if other is not f]) for f in taken]
    return Match(
        spelt(mask, images),
        alone if len(taken) == 1 else [spelt(family, every) for family in taken],
        [*dict.fromkeys([*left_out, *rivals])],
        dtypes,
    )


def _nearest(mask: Family, images: Sequence[Family]) -> list[Family]:
    """Images of most cases, in the mask's own part of the tree, those called images first."""
    most = max(len(family.files) for family in images)
    usual = [family for family in images if 2 * len(family.files) >= most]
    nearness = max(shared(family, mask) for family in usual)
    near = [family for family in usual if shared(family, mask) == nearness]
    called = [family for family in near if _is_called_image(family, nearness)]
    return sorted(called or near, key=lambda family: natural(family.pattern))


def _is_called_image(family: Family, nearness: int) -> bool:
    *folders, name = family.parts[nearness:]
    return "image" in {kind_of(p) for p in (*folders, case_id(Path(name)))}
