"""Images and masks that were found: the masks read, what they hold told, what is amiss said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import CaseError
from pipeline.init import numbers
from pipeline.init.classes import valued_classes
from pipeline.init.found import (
    UNNAMED,
    Found,
    Notes,
    classes_line,
    counted,
    data_settings,
    merged,
    place,
)
from pipeline.init.survey import polygon_values, survey
from pipeline.init.tree import Tree
from pipeline.init.values import MOST_VALUES
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import CaseFiles, discover, find
from pipeline.io.location import fetch, scratch
from pipeline.io.opening import open_origin

ATTRIBUTES = ("class", "class_id", "classid", "label", "label_id", "value", "id")
"""Fields of polygons that may hold a class, the likeliest first."""
LOOKED_AT = 3
"""Cases whose headers are read."""
WARPED = "Masks lie on another grid than their images, and are warped onto it by nearest neighbour"


@dataclass(frozen=True)
class Proposal:
    """Where images and masks were found."""

    masks: str
    """As in ``DataSettings``."""
    what: str
    """What was found, without the number of pairs."""
    fields: dict[str, Any]
    """Other fields of ``DataSettings``."""
    notes: Notes = field(default_factory=dict)
    """Comments for run.yaml."""
    said: tuple[str, ...] = ()
    """More lines for the summary."""


def with_masks(tree: Tree, proposal: Proposal) -> Found:
    """A dataset whose masks say what its classes are, or that they hold numbers.

    Raises:
        SettingsError: The masks cannot be read, or are none.
    """
    fields = {"root": str(tree.root), "masks": proposal.masks, **proposal.fields}
    data = data_settings(classes=UNNAMED, **fields)
    cases = discover(data)
    usable = [files for files in cases if files.mask is not None and files.problem is None]
    held = _numbers(usable, proposal.masks) or _classes(usable, proposal.masks)
    fields |= held.fields
    reasons = dict(held.reasons)
    warped = _grids_differ(usable)
    if warped:
        fields["mask_grid"] = "nearest"
        reasons["data.mask_grid"] = [f"{WARPED}."]
    data = data_settings(**fields)
    summary = [f"{proposal.what}: {counted(len(usable), 'pair')} by name"]
    summary.append(held.line or classes_line(data))
    summary += [*proposal.said, *_lone(tree, data, cases), *[WARPED] * warped]
    if held.damaged:
        summary.append(f"{held.damaged} masks could not be read: segflow check says why")
    return Found(data, [c.case for c in cases], summary, merged(proposal.notes, reasons))


@dataclass(frozen=True)
class Held:
    """What masks hold."""

    fields: dict[str, Any]
    """Fields of ``DataSettings`` that say it."""
    reasons: Notes
    """Comments for run.yaml."""
    line: str = ""
    """For the summary; empty: the classes."""
    damaged: int = 0
    """Masks that could not be read."""


def _numbers(usable: Sequence[CaseFiles], masks: str) -> Held | None:
    """What masks of a regression hold; None where they may hold classes."""
    found = numbers.numbers_in(usable)
    if found is None:
        return None
    target = numbers.target_name(masks)
    fields = {"task": "regression", "target": target, "ignore_values": found.marks}
    line = f"regression: {target}, {found.dtype} numbers from {found.low:.6g} to {found.high:.6g}"
    ignored = ", ".join(map(str, found.marks))
    line += f"; ignored: {ignored}" if ignored else ""
    return Held(fields, numbers.reasons(found), line)


def _classes(usable: Sequence[CaseFiles], masks: str) -> Held:
    attribute = _attribute(usable)
    found = survey(usable, attribute)
    classes, ignored, reasons = valued_classes(found, place(masks))
    if attribute is not None:
        reasons["data.mask_attribute"] = ["The field of the polygons that holds whole numbers."]
    fields = {"classes": classes, "ignore_values": ignored, "mask_attribute": attribute}
    return Held(fields, reasons, damaged=found.damaged)


def _lone(tree: Tree, data: DataSettings, cases: Sequence[CaseFiles]) -> list[str]:
    """What has no partner, in words."""
    assert data.masks is not None
    masks = find(tree.root, "masks", data.masks)
    alone = [files for files in cases if files.mask is None]
    no_image = [c for c in alone if c.image.paths[0] in masks.get(c.case, ())]
    no_mask = [c for c in alone if c not in no_image]
    series = data.layout == "dicom"
    images = "series" if series else f"files {place(data.image_patterns[0])}"
    sides = ((no_mask, images, "mask"), (no_image, f"files {place(data.masks)}", "image"))
    lines = []
    for lone, there, what in sides:
        if lone:
            # A file beside a series may be named after the patient.
            shown = "" if series and lone is no_image else f", the first {lone[0].image.name}"
            lines.append(f"{len(lone)} {there} have no {what} and will be quarantined{shown}")
    return lines


def _attribute(cases: Sequence[CaseFiles]) -> str | None:
    """The field of vector labels that holds class values; None where there is none."""
    drawn = [files.mask for files in cases[:LOOKED_AT] if files.mask and files.mask.is_vector]
    if not drawn:
        return None
    spellings = [s for name in ATTRIBUTES for s in (name, name.title(), name.upper())]
    with scratch() as folder:
        paths = [fetch(mask.paths[0], folder) for mask in drawn]
        for name in spellings:
            try:
                values = [polygon_values(path, name) for path in paths]
            except CaseError:
                continue
            if _are_classes(values):
                return name
    return None


def _are_classes(values: Sequence[Sequence[int]]) -> bool:
    """Whether numbers of polygons are of classes: those that all differ are of the polygons."""
    every = {number for numbers in values for number in numbers}
    repeated = any(len(set(numbers)) < len(numbers) for numbers in values)
    return len(every) <= 2 or (repeated and len(every) < MOST_VALUES)


def _grids_differ(cases: Sequence[CaseFiles]) -> bool:
    """Whether masks say that they lie on another grid than their images, judged by a few."""
    differing = []
    for files in cases[:LOOKED_AT]:
        assert files.mask is not None
        if files.mask.is_vector or files.mask.stack == "objects":
            return False
        try:
            with scratch() as folder:
                image = open_origin(files.image, "image", folder)
                mask = open_origin(files.mask, "mask", folder)
        except CaseError:
            continue
        # Of the same shape but elsewhere, a header is likelier wrong than the mask.
        placed = image.placed and mask.placed
        differing.append(placed and image.grid.shape != mask.grid.shape)
    return bool(differing) and all(differing)
