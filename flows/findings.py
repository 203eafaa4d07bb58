"""What a check found, for people: a table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.space.grid import SYMBOLS

if TYPE_CHECKING:
    from flows.console import Console
    from pipeline.ingest.checking import Finding

LEVELS = ("refused", "warning", "note")
MOST_ROWS = 50
"""Rows that are printed; all findings stand in check.json."""
NAMED = 3
"""Cases a row names; the others are counted."""


@dataclass(frozen=True)
class Row:
    """Findings that say the same, of one case or of several."""

    level: str
    """How bad it is."""
    cases: tuple[str, ...]
    """Case ids; empty where it is of the dataset."""
    reason: str
    """What was met."""
    remedy: str
    """What to do."""

    @property
    def who(self) -> str:
        """The cases, the first ones by name."""
        return named(self.cases, "cases") if self.cases else "dataset"


def named(names: Sequence[str], what: str) -> str:
    """One name, or how many there are of what, the first ones by name."""
    if len(names) == 1:
        return names[0]
    more = " …" if len(names) > NAMED else ""
    return f"{len(names)} {what} ({', '.join(names[:NAMED])}{more})"


def folded(rows: Iterable[tuple[str, ...]], what: str) -> list[tuple[str, ...]]:
    """Rows that say the same of several, as one, in the order of their first.

    Args:
        rows: Whom a row is of, and what it says.
        what: What they are, in the plural.
    """
    same: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for who, *said in rows:
        same[tuple(said)].append(who)
    return [(named(names, what), *said) for said, names in same.items()]


def rows_of(findings: Iterable[Finding]) -> list[Row]:
    """Findings, equal ones together: the worst first, then the most frequent."""
    same: defaultdict[tuple[str, str, str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        same[(finding.level, finding.code, _without_name(finding), finding.remedy)].append(finding)
    rows = [
        Row(
            level,
            tuple(f.case for f in group if f.case is not None),
            # One case keeps its own words; of several, only what they share.
            group[0].reason if len(group) == 1 else reason,
            remedy,
        )
        for (level, _, reason, remedy), group in same.items()
    ]
    return sorted(rows, key=lambda row: (LEVELS.index(row.level), -len(row.cases)))


def _without_name(finding: Finding) -> str:
    """The reason, the names of the case's own files left open."""
    if finding.case is None:
        return finding.reason
    return re.sub(rf"(?<!\w){re.escape(finding.case)}(?=\.[A-Za-z])", "<case>", finding.reason)


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print what was found; nothing where all is well."""
    rows = rows_of(findings)
    shown = [(row.level, row.who, row.reason, row.remedy) for row in rows[:MOST_ROWS]]
    if console.screen.is_terminal and shown:
        console.table("What was found", ("", "case", "what", "what to do"), shown)
    else:
        for level, who, reason, remedy in shown:
            console.line(f"{level} {who}: {reason} {remedy}")
    if len(rows) > MOST_ROWS:
        console.line(f"and {len(rows) - MOST_ROWS} more, which stand in check.json")


def print_dataset(value: dict[str, Any], console: Console) -> None:
    """Print what the usable cases are, a line each."""
    facts = dataset_facts(value)
    width = max((len(name) for name in facts), default=0)
    for name, fact in facts.items():
        console.line(f"{name:{width}}  {fact}")


def dataset_facts(value: dict[str, Any]) -> dict[str, str]:
    """A dataset in words, by kind of fact; empty where no case is usable."""
    dataset, counts = value["dataset"], value["counts"]
    if not counts["usable"]:
        return {}
    splits = ", ".join(f"{n} {split}" for split, n in sorted(counts["splits"].items()))
    facts = {"cases": f"{counts['usable']} of {counts['cases']} usable: {splits}"}
    facts["shape"] = _range(dataset["shapes"], "d")
    if dataset["units"]:
        units = ", ".join(SYMBOLS.get(unit, unit) for unit in dataset["units"])
        facts["spacing"] = f"{_range(dataset['spacings'], '.3g')} {units}"
    channels = ", ".join(dataset["channels"])
    facts["voxels"] = f"{_counted(dataset['dtypes'])}, {channels} channel{'s' * (channels != '1')}"
    if dataset["crs"]:
        facts["CRS"] = _counted(dataset["crs"])
    if dataset["orientations"]:
        facts["axes"] = _counted(dataset["orientations"])
    labelled = counts["labelled"]
    if labelled and "target" in dataset:
        facts[f"target {dataset['target']['name']}"] = _numbers(dataset["target"])
    for name, found in dataset["classes"].items() if labelled else ():
        share = f"{found['share']:.2%} of voxels"
        facts[f"class {name}"] = f"{share}, in {found['cases']} of {labelled} cases"
    return facts


def _numbers(target: dict[str, Any]) -> str:
    """The numbers of a regression."""
    if not target["count"]:
        return "no number in any mask"
    return (
        f"{target['mean']:.4g} ± {target['std']:.3g}, from {target['min']:.4g} to "
        f"{target['max']:.4g}, in {target['share']:.2%} of voxels with data"
    )


def _range(ends: dict[str, list[float]], form: str) -> str:
    """Sizes on each axis, from the least to the most."""
    axes = zip(ends["min"], ends["max"], strict=True)
    pairs = [(format(least, form), format(most, form)) for least, most in axes]
    return " × ".join(a if a == b else f"{a}–{b}" for a, b in pairs)


def _counted(kinds: dict[str, int]) -> str:
    """Kinds, with their cases where there are several."""
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{kind} ({n})" for kind, n in kinds.items())
