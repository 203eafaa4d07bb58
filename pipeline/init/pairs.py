"""Images and masks as files of their own: in two folders, or in one with a word that tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.init.containers import named_inside
from pipeline.init.content import match_by_content
from pipeline.init.families import files_of
from pipeline.init.found import Found, Notes, place
from pipeline.init.labelled import Proposal, with_masks
from pipeline.init.matching import Match, match_by_name
from pipeline.init.tree import Tree
from pipeline.io.discover import CASE


def recognise(tree: Tree) -> Found | None:
    """Images with masks, told apart by names, else by what is in them; None where none are.

    Raises:
        SettingsError: Names match, but which are the masks cannot be told, or they are none.
    """
    files = files_of(tree)
    match = match_by_name(tree, files) or match_by_content(tree, files)
    return None if match is None else with_masks(tree, propose(match))


def propose(match: Match) -> Proposal:
    """How a match is written into run.yaml, and said to people."""
    patterns = tuple(named_inside(family, "image") for family in match.images)
    mask = named_inside(match.mask, "mask")
    images = patterns[0] if len(patterns) == 1 else patterns
    return Proposal(
        masks=mask,
        what=f"{_images(patterns)} and masks {place(mask)}",
        fields={"layout": "pairs", "images": images},
        notes=_reasons(match, patterns),
        said=tuple(_said(match)),
    )


def _images(patterns: Sequence[str]) -> str:
    if len(patterns) == 1:
        return f"images {place(patterns[0])}"
    return f"images of {len(patterns)} files each ({', '.join(patterns)})"


def _said(match: Match) -> list[str]:
    lines = []
    if len(set(match.dtypes)) > 1:
        types = " and ".join(dict.fromkeys(match.dtypes))
        lines.append(f"their channels are {types}: together they become {_common(match.dtypes)}")
    if match.left_out:
        lines.append(f"not used: {', '.join(match.left_out)}")
    return lines


def _common(dtypes: Sequence[str]) -> str:
    return "float32" if any(d.startswith("float") for d in dtypes) else str(np.result_type(*dtypes))


def _reasons(match: Match, patterns: Sequence[str]) -> Notes:
    notes: Notes = {}
    if len(patterns) > 1:
        notes["data.images"] = [
            f"{len(patterns)} files of each case, whose channels follow each other in this order; "
            "take out a name to leave a file out."
        ]
    first = next(iter(match.images[0].files.values()))
    if first.name.lower().endswith(".dcm"):
        notes["data.images"] = ["Case ids are the files' names: see that these name no patient."]
    if CASE in match.mask.pattern:
        notes["data.masks"] = ["The files whose names say mask, label, seg, gt or the like."]
    return notes
