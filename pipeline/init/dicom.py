"""DICOM series, however their folders nest, and masks that lie beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import SettingsError
from pipeline.init.families import Family, by_suffix, files_of, gathered
from pipeline.init.found import Found, counted, without_masks
from pipeline.init.labelled import Proposal, with_masks
from pipeline.init.masks import mask_families
from pipeline.init.tree import Tree
from pipeline.init.values import holds_labels
from pipeline.io.location import is_remote
from pipeline.io.origin import one_file
from pipeline.io.readers import format_suffix
from pipeline.io.readers.dicom.reader import Series, find_series

SUFFIXES = (".dcm", ".ima")
MAGIC = b"DICM"
FOLDERS, FILES = 200, 3
"""Folders that are looked into for DICOM, and files in each."""


@dataclass(frozen=True)
class Scans:
    """The series of a dataset's folder."""

    series: list[Series]
    """All of them, named by modality and hash."""

    @property
    def sound(self) -> list[Series]:
        """Those that make a volume."""
        return [series for series in self.series if series.problem is None]

    @property
    def fields(self) -> dict[str, Any]:
        """Their settings."""
        # A case id is the modality and a hash.
        ct = all(series.case.startswith("ct-") for series in self.sound)
        return {"layout": "dicom", "modality": "ct" if ct else "other"}


def find_scans(tree: Tree) -> Scans | None:
    """The series below a folder; None where it holds none that makes a volume.

    Raises:
        SettingsError: The folder is a URL and holds DICOM.
    """
    if is_remote(tree.root):
        names = (file.name for folder in tree.folders for file in folder.files)
        if any(name.lower().endswith(SUFFIXES) for name in names):
            raise SettingsError(
                f"{tree.root} holds DICOM, whose series are read from local folders: copy it"
            )
        return None
    if not _may_hold_dicom(tree.root):
        return None
    scans = Scans(find_series(tree.root))
    return scans if scans.sound else None


def _may_hold_dicom(root: Path) -> bool:
    """Whether a few files of a few folders show that a search is worth its time."""
    for folder, inner, names in islice(os.walk(root), FOLDERS):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        strange = (name for name in names if not name.startswith(".") and _may_be(Path(name)))
        if any(_is_dicom(Path(folder, name)) for name in islice(strange, FILES)):
            return True
    return False


def _may_be(name: Path) -> bool:
    return name.suffix.lower() in SUFFIXES or format_suffix(name) is None


def _is_dicom(path: Path) -> bool:
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == MAGIC
    except OSError:
        return False


def without_slices(tree: Tree, scans: Scans | None) -> Tree:
    """The tree without the slices of volumes, which are no images of their own."""
    if scans is None:
        return tree
    slices = {path for series in scans.series if len(series.paths) > 1 for path in series.paths}
    folders = (
        replace(folder, files=tuple(file for file in folder.files if file not in slices))
        for folder in tree.folders
    )
    return Tree(tree.root, tuple(folders))


def with_named_masks(tree: Tree, scans: Scans) -> Found | None:
    """Series whose masks are files named by case; None where no mask is.

    Args:
        tree: The folder without the slices.
        scans: Its series.
    """
    masks = _masks(tree)
    if not masks:
        return None
    names: tuple[Literal["series", "folder"], ...] = ("series", "folder")
    for naming in names:
        series = scans.series if naming == "series" else find_series(tree.root, naming)
        cases = {s.case for s in series}
        best = max(masks, key=lambda m: len(cases & m.files.keys()))
        if cases & best.files.keys():
            return _labelled(tree, scans, best, naming)
    return None


def _masks(tree: Tree) -> list[Family]:
    """Files that may be masks of series: called so, or found to hold labels."""
    files = [file for file in files_of(tree) if not _may_be(file.path)]
    plain = gathered(by_suffix(file) for file in files)
    unnamed = [f for f in plain if holds_labels(one_file(next(iter(f.files.values()))))]
    return [*mask_families(tree, files), *unnamed]


def _labelled(tree: Tree, scans: Scans, masks: Family, naming: str) -> Found:
    suffix = format_suffix(next(iter(masks.files.values()))) or ""
    pattern = masks.pattern if masks.pattern.endswith(suffix) else f"{masks.pattern}{suffix}"
    notes = {"data.dicom_case": [f"Masks are named by {naming}."]}
    what = f"DICOM series named by {naming}, and masks {pattern}"
    fields = {**scans.fields, "dicom_case": naming}
    return with_masks(tree, Proposal(pattern, what, fields, notes))


def alone(tree: Tree, scans: Scans) -> Found:
    """Series without masks.

    Args:
        tree: The folder without the slices.
        scans: Its series.
    """
    slices = sum(len(series.paths) for series in scans.sound)
    modalities = sorted({series.case.partition("-")[0] for series in scans.sound})
    what = (
        f"DICOM: {len(scans.sound)} series ({', '.join(modalities)}) in {counted(slices, 'file')}"
    )
    first = scans.sound[0]
    notes = {
        "data.masks": [
            f"Name each mask file by its case, such as {first.case}.nii.gz for the series in "
            f"{first.folder}, put them into a folder masks/ here, and set masks: masks.",
        ],
        "data.dicom_case": [
            "Case ids hold nothing personal. With `folder` they are the names of the folders."
        ],
    }
    cases = [series.case for series in scans.series]
    found = without_masks(what, cases, notes, root=str(tree.root), **scans.fields)
    return replace(found, summary=[*found.summary, *_unsound(scans)])


def _unsound(scans: Scans) -> list[str]:
    broken = len(scans.series) - len(scans.sound)
    return [f"{broken} series make no volume: segflow check says why"] if broken else []
