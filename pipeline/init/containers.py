"""Files that hold image and mask as arrays inside: .mat, .h5, .npz, .zarr."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import CaseError
from pipeline.init.families import Family, by_case_folder, by_suffix, files_of, gathered, natural
from pipeline.init.found import Found
from pipeline.init.labelled import Proposal, with_masks
from pipeline.init.numbers import holds_numbers
from pipeline.init.tree import Kind, Tree, kind_of, spread
from pipeline.init.values import holds_labels
from pipeline.io.discover import CASE
from pipeline.io.location import fetch, scratch
from pipeline.io.origin import one_file
from pipeline.io.readers import CONTAINERS, Source, format_suffix, open_source
from pipeline.io.readers.containers.contents import array_names

LOOKED_AT = 3
"""Files that are opened: in some the mask may be empty."""


@dataclass(frozen=True)
class Inside:
    """What a container holds for segflow."""

    image: str | None
    """Name of the image in it; empty where the container is the image, None where none is."""
    mask: str | None
    """Name of the mask; None where none fits the image."""
    others: tuple[str, ...]
    """Arrays that would be masks too."""


def is_container(path: Path) -> bool:
    """Whether a file, or a folder that is one, may hold several arrays."""
    return (format_suffix(path) or "").lower() in CONTAINERS


def recognise(tree: Tree) -> Found | None:
    """Containers that hold an image each and its mask; None where none does."""
    family = container_family(tree)
    found = [] if family is None else [inside(path) for path in _sample(family)]
    held = next((f for f in found if f.mask is not None), None)
    if family is None or held is None or held.image is None or held.mask is None:
        return None
    image, mask = _named(family.pattern, held.image), _named(family.pattern, held.mask)
    said = [f"not used: {', '.join(held.others)} (masks too)"] if held.others else []
    notes = {
        "data.masks": ["Of the image's size, and a mask by its name or its few whole numbers."]
    }
    fields = {"layout": "pairs", "images": image}
    what = f"images {image} and masks {mask}"
    return with_masks(tree, Proposal(mask, what, fields, notes, tuple(said)))


def _named(pattern: str, item: str) -> str:
    return f"{pattern}::{item}" if item else pattern


def container_family(tree: Tree) -> Family | None:
    """The largest family of containers: all in one folder, or one in each case's."""
    files = [file for file in files_of(tree) if is_container(file.path)]
    seen = [by_suffix(file) for file in files]
    seen += [seen for file in files for seen in by_case_folder(file)]
    return next(iter(gathered(seen)), None)


def _sample(family: Family) -> list[Path]:
    cases = list(spread(sorted(family.files), LOOKED_AT))
    return [family.files[case] for case in cases]


def named_inside(family: Family, role: Kind) -> str:
    """A family's pattern, with the name of the array where its files hold several."""
    path = next(iter(family.files.values()))
    if not is_container(path):
        return family.pattern
    with scratch() as folder:
        names = _names(fetch(path, folder))
    told = [name for name in names if kind_inside(name) == role]
    if len(names) < 2 or "" in names or not told:
        return family.pattern
    suffix = format_suffix(path) or ""
    place = "" if family.pattern == "." else f"{family.pattern}/"
    pattern = family.pattern if CASE in family.pattern else f"{place}{CASE}{suffix}"
    return _named(pattern, told[0])


def kind_inside(name: str) -> Kind | None:
    """What the name of an array says; the last part that says something counts.

    Example:
        >>> kind_inside("volumes/labels/clefts"), kind_inside("volumes/raw"), kind_inside("data")
        ('mask', 'image', None)
    """
    told = (kind_of(part) for part in reversed(PurePosixPath(name).parts))
    return next((kind for kind in told if kind is not None), None)


def inside(path: Path) -> Inside:
    """The image in a container and the mask of its size, by name, else by content."""
    with scratch() as folder:
        local = fetch(path, folder)
        arrays = _arrays(local)
        images = [name for name in arrays if kind_inside(name) != "mask"]
        first = _image(local, images, arrays)
        if first is None:
            return Inside(None, None, ())
        shape = arrays[first].grid.shape
        fitting = [n for n, a in arrays.items() if n != first and a.grid.shape == shape]
        named = [n for n in fitting if kind_inside(n) == "mask"]
        masks = [n for n in named or fitting if holds_labels(one_file(local, n or None))]
        masks = masks or [n for n in named if holds_numbers(one_file(local, n or None))]
    return Inside(first, masks[0] if masks else None, tuple(masks[1:]))


def _arrays(path: Path) -> dict[str, Source]:
    """The arrays of a container that can be voxels, by name."""
    arrays: dict[str, Source] = {}
    for name in _names(path):
        with suppress(CaseError):
            arrays[name] = open_source(path, "mask", name or None)
    return arrays


def _names(path: Path) -> list[str]:
    try:
        return sorted(array_names(path), key=natural)
    except CaseError:
        return []


def _image(path: Path, names: Sequence[str], arrays: dict[str, Source]) -> str | None:
    """The array that is the image: the one called so, else the first that holds no labels."""
    if "" in names:
        return ""
    called = [name for name in names if kind_inside(name) == "image"]
    if called or len(names) == 1:
        return [*called, *names][0]
    return next((n for n in names if not holds_labels(one_file(path, n))), None)
