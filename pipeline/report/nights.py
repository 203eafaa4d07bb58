"""The nights of a run: what the last one found, in plain words, and those before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report.facts import Evidence
from pipeline.report.words import capital, day, when

LATEST = 14
"""Nights in the table."""
MOST_NAMES = 20
"""Cases named one after the other; the others are counted."""
MOST_LINES = 10
"""Cases with a line of their own; the others are counted, or folded away."""
WHOLE = "the new cases as a whole"

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """Cases that a night has something to say of."""

    label: str
    """What they have in common."""
    cases: Sequence[tuple[str, str]]
    """Their names, and what is said of each."""
    hidden: int
    """How many more there are."""
    in_lines: bool
    """Whether each has a line of its own."""


@dataclass(frozen=True)
class Drifting:
    """A case that does not look like the training cases, or the new cases as a whole."""

    case: str | None
    """The case; None: the new cases as a whole."""
    signs: Sequence[str]
    """Each in a sentence without the case's name; the first says most."""

    @property
    def name(self) -> str:
        """What the sentences are about."""
        return self.case or capital(WHOLE)


def nights(evidence: Evidence) -> dict[str, Any]:
    """The last night and a table of the latest; None where there was none."""
    rows = evidence.nights
    if not rows:
        return {"nights": None}
    latest = rows[: -LATEST - 1 : -1]
    told = {
        "last": _line(rows[-1]),
        "failed": rows[-1]["state"] == "failed",
        "lost": [found for found in _lost(rows[-1]) if found.cases],
        "others": [found for found in _others(rows[-1]) if found.cases],
        "rows": [_line(row) for row in latest],
        "count": len(rows),
        **_drift(_drifted(rows), rows[-1]),
    }
    return {"nights": told}


def _line(row: Row) -> dict[str, str]:
    """A night as the table has it."""
    return {
        "started": row["started"],
        "when": when(row["started"]),
        "version": row["version"] or "–",
        "state": row["state"],
        "sentence": row["sentence"],
    }


def _lost(row: Row) -> list[Found]:
    """Cases that this night has taken from the masks: they need a hand."""
    tonight = [r for r in row["quarantined"] if r["since"] == row["started"]]
    reasons = [(r["case"], f"{r['reason']} {r['remedy']}") for r in tonight]
    # A row also has what the version that stands once removed: only a published one did it now.
    removed = row["removed"] if row["state"] == "published" else {}
    gone = [case for case in row["vanished"] if case not in removed]
    return [
        _lines("Quarantined tonight", reasons),
        _lines("No longer published", removed.items()),
        _names("Files gone", gone),
    ]


def _others(row: Row) -> list[Found]:
    """The cases that are new or others than before, and those long known to be refused."""
    before = [r for r in row["quarantined"] if r["since"] != row["started"]]
    return [
        _names("New", row.get("added") or row["new"]),
        _names("Changed", row["changed"]),
        _names("Quarantined before", [f"{r['case']} (since {day(r['since'])})" for r in before]),
    ]


def _lines(label: str, cases: Iterable[tuple[str, str]]) -> Found:
    shown = list(cases)
    return Found(label, shown[:MOST_LINES], len(shown[MOST_LINES:]), in_lines=True)


def _names(label: str, cases: Sequence[str]) -> Found:
    shown = [(case, "") for case in cases[:MOST_NAMES]]
    return Found(label, shown, len(cases[MOST_NAMES:]), in_lines=False)


def _drifted(rows: Sequence[Row]) -> Row:
    """The night whose signs of drift still matter: the last, or the last that published."""
    published = (row for row in reversed(rows) if row["state"] == "published")
    return rows[-1] if rows[-1]["drift"] else next(published, rows[-1])


def _drift(row: Row, last: Row) -> dict[str, Any]:
    signs: dict[str | None, list[str]] = {}
    for flag in row["drift"]:
        sentence = flag["sentence"].removeprefix(f"{flag['case'] or WHOLE}: ")
        signs.setdefault(flag["case"], []).append(sentence)
    return {
        "drift": [Drifting(case, of) for case, of in signs.items()],
        "signs": len(row["drift"]),
        "drift_of": "" if row is last else when(row["started"]),
        "most_lines": MOST_LINES,
    }
