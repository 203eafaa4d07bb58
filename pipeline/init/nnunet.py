"""nnU-Net's raw data: a file per channel, numbered in its name."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pipeline.init.found import Found, Notes, classes_line, counted, data_settings, without_masks
from pipeline.init.listing import Listing
from pipeline.init.tree import Folder, Tree
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import CASE, discover
from pipeline.io.readers import format_suffix

NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})(?P<suffix>\..+)")
"""nnU-Net's name of an image file: one channel each."""


@dataclass(frozen=True)
class Numbered:
    """nnU-Net's image files."""

    suffix: str
    """Their suffix."""
    cases: dict[str, set[str]]
    """Numbers of the channels of each case."""

    @property
    def usual(self) -> list[str]:
        """Numbers that at least half of the cases have."""
        counts = Counter(number for numbers in self.cases.values() for number in numbers)
        return sorted(n for n, count in counts.items() if 2 * count >= len(self.cases))


def numbered_in(tree: Tree) -> Numbered | None:
    """Image files as nnU-Net names them; None where there are none."""
    folder = next((f for f in tree.folders if f.name == "imagesTr"), None)
    suffixes: Counter[str] = Counter()
    cases: dict[str, dict[str, set[str]]] = {}
    for file in folder.files if folder is not None else ():
        met = NUMBERED.fullmatch(file.name)
        if met is not None and met["suffix"] == format_suffix(file):
            suffixes[met["suffix"]] += 1
            cases.setdefault(met["suffix"], {}).setdefault(met["case"], set()).add(met["channel"])
    if not suffixes:
        return None
    commonest = suffixes.most_common(1)[0][0]
    return Numbered(commonest, cases[commonest])


def lists_no_channel(content: dict[str, Any], numbered: Numbered) -> bool:
    """Whether a list names cases, as nnU-Net's first version has it, and no file that is there."""
    listed = [str(e.get("image")) for e in content["training"] or () if isinstance(e, dict)]
    return any(
        image.rsplit("/", 1)[-1].removesuffix(numbered.suffix) in numbered.cases for image in listed
    )


def found_in(tree: Tree, listing: Listing, numbered: Numbered) -> Found:
    """The dataset of numbered files and what its dataset.json says."""
    # By the files, not by the names of channels: the three of a colour picture are one file.
    images = tuple(f"imagesTr/{CASE}_{n}{numbered.suffix}" for n in numbered.usual)
    fields: dict[str, Any] = {
        "root": str(tree.root),
        "layout": "pairs",
        "images": images[0] if len(images) == 1 else images,
        "classes": listing.classes,
        "ignore_values": listing.ignored,
        "modality": listing.modality,
    }
    channels = ", ".join(listing.channels) or str(len(images))
    notes = {
        "data.images": [f"Channels in this order: {channels}.", *_to_predict(tree)],
        "data.classes": ["Names and values as dataset.json has them."],
    }
    what = f"nnU-Net raw dataset {listing.name}, channels {channels}"
    if not any(folder.name == "labelsTr" and folder.files for folder in tree.folders):
        what = f"{what}: {counted(len(numbered.cases), 'case')}"
        return without_masks(what, sorted(numbered.cases), notes, **fields)
    data = data_settings(masks=f"labelsTr/{CASE}{numbered.suffix}", **fields)
    return _labelled(tree, data, what, notes)


def _labelled(tree: Tree, data: DataSettings, what: str, notes: Notes) -> Found:
    cases = discover(data)
    usable = sum(c.mask is not None and c.problem is None for c in cases)
    summary = [f"{what}: {counted(usable, 'labelled case')}", classes_line(data)]
    if lone := len(cases) - usable:
        summary.append(f"{lone} cases lack a file and will be quarantined: segflow check says why")
    return Found(data, [c.case for c in cases], [*summary, *_to_predict(tree)], notes)


def _to_predict(tree: Tree) -> list[str]:
    """How images without labels are predicted later."""
    test: Folder | None = next((f for f in tree.folders if f.name == "imagesTs"), None)
    if test is None or not test.files:
        return []
    return [
        f"imagesTs/ holds {len(test.files)} more files: `segflow predict run.yaml --input "
        f"{tree.root}/imagesTs`"
    ]
