"""Images without masks of any kind: to take in, and to predict by a model from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import CaseError
from pipeline.init.containers import inside, is_container, named_inside
from pipeline.init.families import (
    Family,
    File,
    by_case_folder,
    files_of,
    gathered,
    says_mask,
    spelt,
)
from pipeline.init.found import UNNAMED, Found, Notes, counted, data_settings, place, without_masks
from pipeline.init.scenes import alike, band_families
from pipeline.init.tree import Tree, spread
from pipeline.init.values import holds_labels
from pipeline.io.discover import CASE, discover
from pipeline.io.location import scratch
from pipeline.io.opening import open_origin
from pipeline.io.origin import one_file

LOOKED_AT = 3
"""Files of which one must open as an image."""


def recognise(tree: Tree) -> Found | None:
    """Images of one pattern, or bands that make them; None where some files may be masks."""
    files = files_of(tree)
    if not files or _may_hold_masks(tree, files):
        return None
    if not any(_is_image(file) for file in spread(files, LOOKED_AT)):
        return None
    bands = band_families(files)
    if bands:
        return _banded(tree, bands)
    family = _one_folder(tree) or _one_pattern(files)
    return None if family is None else _found(tree, named_inside(family, "image"))


def _may_hold_masks(tree: Tree, files: Sequence[File]) -> bool:
    """Whether a folder is called so, or some of the files, or any holds polygons."""
    called = [says_mask(file.stem) for file in files]
    folders = any(tree.kind(folder) == "mask" for folder in tree.filled)
    return folders or any(f.is_vector for f in files) or (any(called) and not all(called))


def _is_image(file: File) -> bool:
    if is_container(file.path):
        return inside(file.path).image is not None
    try:
        with scratch() as folder:
            open_origin(one_file(file.path), "image", folder)
    except CaseError:
        return False
    return not holds_labels(one_file(file.path))


def _one_folder(tree: Tree) -> Family | None:
    if len(tree.filled) != 1:
        return None
    folder = tree.filled[0]
    return spelt(Family("/".join((*folder.parts, CASE)), folder.by_case), ())


def _one_pattern(files: Sequence[File]) -> Family | None:
    """A file of the same name in the folder of each case."""
    families = gathered(seen for file in files for seen in by_case_folder(file))
    return next((f for f in families if len(f.files) == len(files)), None)


def _banded(tree: Tree, bands: Sequence[Family]) -> Found:
    taken, left_out, _ = alike(bands)
    notes = {
        "data.images": [
            "The bands of each case, in this order; take out a name to leave one out.",
        ]
    }
    found = _found(tree, tuple(family.pattern for family in taken), notes)
    if left_out:
        found.summary.append(f"not used: {', '.join(left_out)}")
    return found


def _found(tree: Tree, images: str | tuple[str, ...], notes: Notes | None = None) -> Found:
    patterns = (images,) if isinstance(images, str) else images
    fields = {"root": str(tree.root), "layout": "pairs", "images": images}
    data = data_settings(**fields, masks=None, classes=UNNAMED)
    cases = [files.case for files in discover(data)]
    what = f"images {place(images)}" if isinstance(images, str) else f"images {', '.join(patterns)}"
    return without_masks(f"{what}: {counted(len(cases), 'case')}", cases, notes, **fields)
