"""One mask file per object, in a folder of each case: the layout of Data Science Bowl 2018."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.init.families import Family, File, files_of, says_mask, spelt
from pipeline.init.found import Found, classes_line, counted, data_settings
from pipeline.init.images import image_families
from pipeline.init.tree import Folder, Tree
from pipeline.io.dataset import ClassSettings
from pipeline.io.discover import CASE, CaseFiles, discover
from pipeline.io.readers import case_id

CLASSES = (
    ClassSettings(name="background", values=(0,), background=True),
    ClassSettings(name="object", values=(1,)),
)
"""Every object is of one class."""


@dataclass(frozen=True)
class Heaps:
    """Folders of one pattern that hold the masks of a case each."""

    pattern: str
    """Path under the root, ``{case}`` for the case id."""
    folders: dict[str, Folder]
    """Folder by case id."""

    @property
    def objects(self) -> int:
        """The most masks of a case."""
        return max(len(folder.files) for folder in self.folders.values())


def recognise(tree: Tree) -> Found | None:
    """Images with a folder of object masks each; None where there are none."""
    files = files_of(tree)
    for heaps in _heaps(tree):
        masks = [f for f in files if f.folder in heaps.folders.values()]
        others = [f for f in files if f.folder not in heaps.folders.values()]
        mask = Family(f"{heaps.pattern}/{CASE}", {c: f.files[0] for c, f in heaps.folders.items()})
        images = image_families(tree, mask, others)
        if len(images) == 1 and heaps.objects > 1:
            return _found(tree, spelt(images[0], (mask,)).pattern, heaps, masks)
    return None


def _heaps(tree: Tree) -> list[Heaps]:
    """Folders of masks below, or named like, a case; the pattern of most cases first."""
    found: dict[str, dict[str, Folder]] = {}
    for folder in tree.filled:
        for pattern, case in _cases(folder):
            found.setdefault(pattern, {})[case] = folder
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    return [Heaps(pattern, folders) for pattern, folders in ordered]


def _cases(folder: Folder) -> Iterator[tuple[str, str]]:
    parts = folder.parts
    for place, case in enumerate(parts):
        others = [*parts[:place], *parts[place + 1 :]]
        if others and says_mask(others[-1]):
            yield "/".join([*parts[:place], CASE, *parts[place + 1 :]]), case


def _found(tree: Tree, images: str, heaps: Heaps, masks: Sequence[File]) -> Found:
    suffix = masks[0].suffix
    data = data_settings(
        root=str(tree.root),
        layout="pairs",
        images=images,
        masks=f"{heaps.pattern}/*{suffix}",
        classes=CLASSES,
    )
    cases = discover(data)
    usable = [c for c in cases if c.mask is not None and c.problem is None]
    objects = sum(len(c.mask.paths) for c in usable if c.mask is not None)
    summary = [
        f"images {images} with one mask per object, {data.masks}: "
        f"{counted(len(usable), 'image')}, {counted(objects, 'object')}",
        classes_line(data),
        *_warnings(cases, usable, heaps),
    ]
    notes = {
        "data.classes": [
            "Every object is of one class: rename it (nucleus, cell). The objects themselves are "
            "kept as instances."
        ],
        "data.masks": [f"Several files of a case, such as {_example(heaps)}: one per object."],
    }
    return Found(data, [c.case for c in cases], summary, notes)


def _example(heaps: Heaps) -> str:
    case, folder = max(heaps.folders.items(), key=lambda item: len(item[1].files))
    return f"{len(folder.files)} of {case[:20]}"


def _warnings(cases: Sequence[CaseFiles], usable: Sequence[CaseFiles], heaps: Heaps) -> list[str]:
    lines = []
    if lone := len(cases) - len(usable):
        lines.append(f"{lone} cases lack their image or masks and will be quarantined")
    names = [{case_id(file) for file in folder.files} for folder in heaps.folders.values()]
    alike = set.intersection(*names)
    if len(names) > 1 and any(not name.isdigit() for name in alike):
        lines.append(
            f"every case has a mask named {min(alike)}: if names are of classes, not of objects, "
            "bring the masks of a case together in one file with a value per class"
        )
    return lines
