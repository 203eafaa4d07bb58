"""What a folder was found to be: settings, a summary, and the reasons behind both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pipeline.errors import SettingsError
from pipeline.io.dataset import ClassSettings, DataSettings
from pipeline.io.discover import CASE

Notes = dict[str, list[str]]
"""Comments for run.yaml, by full key."""

UNNAMED = (
    ClassSettings(name="background", values=(0,), background=True),
    ClassSettings(name="foreground", values=(1,)),
)
"""Classes of masks that are not known."""
NO_MASKS = (
    "NO MASKS: only `segflow ingest`, `segflow check` and `segflow predict` with a model trained "
    "elsewhere are possible until data.masks says where masks are"
)


@dataclass(frozen=True)
class Found:
    """A recognised dataset."""

    data: DataSettings
    """Its settings."""
    cases: list[str]
    """Its case ids."""
    summary: list[str]
    """What was found, a line each."""
    notes: Notes
    """Comments for run.yaml, by full key."""


def data_settings(**fields: Any) -> DataSettings:
    """Settings of a dataset.

    Raises:
        SettingsError: What the dataset says of itself makes no settings.
    """
    try:
        return DataSettings(**fields)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SettingsError(f"the dataset's classes cannot be used: {said}") from error


def classes_line(data: DataSettings) -> str:
    """The classes and what is ignored, for the summary."""
    classes = ", ".join(f"{c.name} ({', '.join(map(str, c.values))})" for c in data.classes)
    ignored = ", ".join(map(str, data.ignore_values))
    return f"classes: {classes}" + (f"; ignored: {ignored}" if ignored else "")


def without_masks(
    what: str, cases: Sequence[str], notes: Notes | None = None, **fields: Any
) -> Found:
    """A dataset of images alone, which can be taken in and predicted.

    Args:
        what: What was found, for the summary.
        cases: Its case ids.
        notes: Comments on what is set.
        fields: Fields of ``DataSettings``.
    """
    data = data_settings(**{"classes": UNNAMED, **fields, "masks": None})
    reasons = {"data.masks": [f"{NO_MASKS}."]}
    if data.classes == UNNAMED:
        reasons["data.classes"] = ["No mask told them: name here the classes of masks you add."]
    return Found(data, list(cases), [what, NO_MASKS], merged(reasons, notes or {}))


def merged(one: Notes, other: Notes) -> Notes:
    """Comments of two origins."""
    keys = [*one, *(key for key in other if key not in one)]
    return {key: [*one.get(key, ()), *other.get(key, ())] for key in keys}


def group_hint(cases: Sequence[str]) -> str | None:
    """A comment where several cases share what stands before their last ``_``; else None.

    Example:
        >>> group_hint(["p1_a", "p1_b", "p2_a", "p2_b"]).split(":")[0]
        '4 cases share 2 beginnings, such as p1'
        >>> group_hint(["liver_1", "liver_2"]) is None
        True
    """
    heads = Counter(case.rpartition("_")[0] for case in cases)
    if "" in heads or not 1 < len(heads) < len(cases):
        return None
    commonest = heads.most_common(1)[0][0]
    return (
        f"{len(cases)} cases share {len(heads)} beginnings, such as {commonest}: if that is a "
        "patient or a scene, set group: '^(.+)_' so that it never stands on both sides of a split."
    )


def counted(number: int, thing: str) -> str:
    """A number of things, in words.

    Example:
        >>> counted(1, "case"), counted(3, "case")
        ('1 case', '3 cases')
    """
    return f"{number} {thing}" + "s" * (number != 1)


def place(pattern: str) -> str:
    """A folder or pattern in a sentence.

    Example:
        >>> place("images"), place("{case}_mask.png")
        ('in images/', 'named {case}_mask.png')
    """
    return f"named {pattern}" if CASE in pattern else f"in {pattern}/"
