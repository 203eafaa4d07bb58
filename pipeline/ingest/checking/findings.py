"""What a check finds: a sentence for people and a code for machines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import CaseError

Level = Literal["refused", "warning", "note"]
NAMED = 3
"""Cases a sentence names; the others are counted."""


@dataclass(frozen=True)
class Finding:
    """Something about a case, or about the dataset as a whole."""

    case: str | None
    """Case id; None where it is the dataset's."""
    code: str
    """What kind of finding it is: a few words with hyphens, which stay the same."""
    level: Level
    """``refused``: ingest quarantines the case. ``warning``: ingest takes it, a person should
    look. ``note``: a fact that explains others."""
    reason: str
    """What was met and what was expected, one sentence."""
    remedy: str
    """What a person does about it, one sentence."""


def refused(case: str, code: str, error: CaseError) -> Finding:
    """The finding of a case that ingest would quarantine."""
    return Finding(case, code, "refused", error.reason, error.remedy)


def named(cases: Sequence[str], most: int = NAMED) -> str:
    """Case ids in a sentence.

    Example:
        >>> named(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    more = f" and {len(cases) - most} more" if len(cases) > most else ""
    return ", ".join(cases[:most]) + more


def of_all(code: str, level: Level, reason: str, remedy: str) -> Finding:
    """A finding about the dataset."""
    return Finding(None, code, level, reason, remedy)


def kinds(of: Iterable[tuple[str, str | None]]) -> str:
    """How many cases are of which kind, the commonest first; empty where all are alike.

    Args:
        of: Case ids, each with its kind; None is of no kind.
    """
    cases: defaultdict[str, list[str]] = defaultdict(list)
    for case, kind in of:
        if kind is not None:
            cases[kind].append(case)
    ordered = sorted(cases.items(), key=lambda item: (-len(item[1]), item[0]))
    return shares(ordered) if len(ordered) > 1 else ""


def shares(ordered: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Kinds with their cases: the first by number, the odd ones by name.

    Example:
        >>> shares([("uint8", ["a", "b"]), ("int16", ["c"])])
        'uint8 in 2 cases, int16 in 1 (c)'
    """
    (usual, most), *rest = ordered
    odd = [f"{kind} in {len(cases)} ({named(cases)})" for kind, cases in rest]
    return ", ".join([f"{usual} in {len(most)} case{'s' * (len(most) > 1)}", *odd])
