"""A folder with a dataset.json: Medical Segmentation Decathlon, and nnU-Net's raw data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.init import nnunet
from pipeline.init.found import NO_MASKS, Found, classes_line, counted, data_settings
from pipeline.init.listing import LISTING, Listing, lacking, listing_of, read_json
from pipeline.init.tree import Tree
from pipeline.io.discover import CaseFiles, discover
from pipeline.io.location import entries


def recognise(tree: Tree) -> Found | None:
    """A folder with a dataset.json; None where there is none.

    Raises:
        SettingsError: The dataset.json says too little, or nothing lies where it should.
    """
    path = tree.root / LISTING
    if LISTING not in tree.folders[0].others:
        return None
    content = read_json(path)
    if content is None:
        return None
    numbered = nnunet.numbered_in(tree)
    if numbered and (not content.get("training") or nnunet.lists_no_channel(content, numbered)):
        return nnunet.found_in(tree, listing_of(path, content), numbered)
    if not isinstance(content.get("training"), list):
        raise SettingsError(lacking(path, KeyError("training")))
    return _decathlon(tree, listing_of(path, content))


def _decathlon(tree: Tree, listing: Listing) -> Found:
    data = data_settings(
        root=str(tree.root),
        layout="msd",
        classes=listing.classes,
        ignore_values=listing.ignored,
        modality=listing.modality,
    )
    cases = discover(data)
    labelled = sum(case.mask is not None for case in cases)
    if not cases:
        raise SettingsError(f"{listing.path} lists no case with a label: training needs some")
    notes = {"data.classes": ["Names and values as dataset.json has them."]}
    what = f"Decathlon dataset {listing.name}: {counted(labelled, 'labelled case')}, "
    summary = [f"{what}{len(cases) - labelled} to predict", classes_line(data)]
    if not labelled:
        summary.append(NO_MASKS)
        notes["data.masks"] = [f"{NO_MASKS}."]
    if absent := _absent(cases):
        summary.append(f"{absent} of the files it lists are missing: segflow check names them")
    return Found(data, [files.case for files in cases], summary, notes)


def _absent(cases: Sequence[CaseFiles]) -> int:
    """Files that are listed and not there."""
    paths = [p for c in cases for o in (c.image, c.mask) if o is not None for p in o.paths]
    there: dict[Path, set[str]] = {}
    for folder in {path.parent for path in paths}:
        there[folder] = {name for name, _ in entries(folder)} if folder.is_dir() else set()
    return sum(path.name not in there[path.parent] for path in paths)
