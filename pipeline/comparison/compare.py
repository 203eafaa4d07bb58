"""The cases that two runs both held out, paired, with the same truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isclose
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.comparison.differences import Difference, corrected, differ, differ_over_all
from pipeline.comparison.figures import Figure, choose_figure
from pipeline.errors import SettingsError

Scores = Mapping[str, Any]
"""The content of scores.json."""
Rows = Sequence[Mapping[str, Any]]
"""Its rows of one list."""
SHOWN = 5
"""Names a sentence gives of many."""


@dataclass(frozen=True)
class Change:
    """A case's figure of one class in both runs."""

    case: str
    """Case id."""
    name: str
    """Its class, or target."""
    a: float
    """In A."""
    b: float
    """In B."""
    gain: float
    """How much better B is; negative: worse."""


@dataclass(frozen=True)
class Comparison:
    """How run B differs from run A."""

    figure: Figure
    """What is compared."""
    unit: str
    """Its unit; empty: it has none."""
    cases: tuple[str, ...]
    """Case ids that are paired."""
    overall: Difference
    """Over all classes, or the one target."""
    classes: tuple[Difference, ...]
    """Of each class, or target."""
    regions: tuple[Difference, ...]
    """Of each region, where both runs score it."""
    changes: tuple[Change, ...]
    """Every case and class, the greatest gain first."""
    notes: tuple[str, ...]
    """What is not compared, and why: sentences."""

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        value = asdict(self)
        return value | {"figure": self.figure.name, "higher_is_better": self.figure.higher}


def compare(a: Scores, b: Scores, figure_name: str | None = None) -> Comparison:
    """Compare two runs' scores, case by case.

    Cases are compared that both runs held out from training, against the same truth: the same
    number of voxels of every class. A case that one of them may have learnt from proves nothing.

    Args:
        a: scores.json of the run that is there.
        b: Of the run that is to be judged.
        figure_name: A key of ``FIGURES``; None: Dice, or the mean absolute error.

    Raises:
        SettingsError: The runs have no comparable case or class, or not the figure.
    """
    if a.get("task") != b.get("task"):
        raise SettingsError(
            f"A is a {a.get('task', 'segmentation')} run, B is a "
            f"{b.get('task', 'segmentation')} run: compare runs of one task"
        )
    figure = choose_figure(figure_name, a)
    choose_figure(figure.name, b)
    unit = _unit(figure, a, b)
    names, alone = _shared(a["cases"], b["cases"])
    cases, notes = _paired(a, b, names)
    one, other = (_table(scores[figure.rows], cases, names, figure.name) for scores in (a, b))
    classes = [differ(n, one[:, k], other[:, k], figure) for k, n in enumerate(names)]
    what = "mean over classes" if len(names) > 1 else names[0]
    return Comparison(
        figure,
        unit,
        cases,
        differ_over_all(what, one, other, figure),
        corrected(classes),
        _regions(a, b, cases, figure),
        _changes(one, other, cases, names, figure),
        (*alone, *notes),
    )


def _unit(figure: Figure, a: Scores, b: Scores) -> str:
    if figure.unit is None:
        return ""
    ours, theirs = ((s.get("units") or {}).get(figure.unit) for s in (a, b))
    if ours != theirs:
        raise SettingsError(
            f"{figure.label} of A goes by a {figure.unit} of {ours}, that of B of {theirs}: score "
            "both with the same settings"
        )
    return str(ours) if figure.unit == "distance" and ours else ""


def _shared(rows_a: Rows, rows_b: Rows) -> tuple[list[str], list[str]]:
    """Classes of both, in A's order; and what is told of the others.

    Raises:
        SettingsError: There is none.
    """
    ours, theirs = (list(dict.fromkeys(_name(row) for row in rows)) for rows in (rows_a, rows_b))
    both = [name for name in ours if name in theirs]
    if not both:
        raise SettingsError(
            f"A scores {', '.join(ours) or 'nothing'}, B {', '.join(theirs) or 'nothing'}: they "
            "have no class in common"
        )
    alone = (("A", set(ours) - set(theirs)), ("B", set(theirs) - set(ours)))
    return both, [
        f"{who} alone scores {', '.join(sorted(n))}: not compared" for who, n in alone if n
    ]


def _paired(a: Scores, b: Scores, names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Cases that both held out and whose truth is the same; and what is told of the others.

    Raises:
        SettingsError: There is none.
    """
    splits_a, splits_b = ({r["case"]: r["split"] for r in s["cases"]} for s in (a, b))
    held_a = {case for case, split in splits_a.items() if split == a["split"]}
    held_b = {case for case, split in splits_b.items() if split == b["split"]}
    both = held_a & held_b
    other = both - _same_truth(a, b, names)
    told = (
        (held_a - splits_b.keys(), "only A has scored {}"),
        (held_b - splits_a.keys(), "only B has scored {}"),
        (held_a & splits_b.keys() - held_b, "A held {} out, B may have learnt from them"),
        (held_b & splits_a.keys() - held_a, "B held {} out, A may have learnt from them"),
        (other, "A and B scored {} against different truths"),
    )
    notes = [f"{why.format(_named(cases))}: not compared" for cases, why in told if cases]
    if both == other:
        why = "; ".join(notes) or "neither has a held-out case"
        raise SettingsError(f"A and B have no case to compare: {why}")
    return tuple(sorted(both - other)), notes


def _named(cases: Iterable[str]) -> str:
    names = sorted(cases)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    counted = "1 case" if len(names) == 1 else f"{len(names)} cases"
    return f"{counted} ({', '.join(names[:SHOWN])}{more})"


def _same_truth(a: Scores, b: Scores, names: Sequence[str]) -> set[str]:
    """Cases whose truth is of the same size in both, in each of these classes."""
    ours, theirs = ({(r["case"], _name(r)): r for r in s["cases"]} for s in (a, b))
    alike = {place: _alike(row, theirs[place]) for place, row in ours.items() if place in theirs}
    return {case for case, _ in alike} - {
        case for (case, name), same in alike.items() if name in names and not same
    }


def _alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    if "tp" in a:
        return a["tp"] + a["fn"] == b["tp"] + b["fn"] and _voxels(a) == _voxels(b)
    if a["count"] != b["count"] or (a["r2"] is None) != (b["r2"] is None):
        return False
    # The truth's variance times 1 - R² is the mean squared error.
    return a["r2"] is None or isclose(
        a["mse"] * (1 - b["r2"]), b["mse"] * (1 - a["r2"]), rel_tol=1e-6, abs_tol=1e-300
    )


def _voxels(row: Mapping[str, Any]) -> int:
    return sum(row[key] for key in ("tp", "fp", "fn", "tn"))


def _name(row: Mapping[str, Any]) -> str:
    return str(next(row[key] for key in ("class", "region", "target") if key in row))


def _table(
    rows: Rows, cases: Sequence[str], names: Sequence[str], figure: str
) -> NDArray[np.float64]:
    """Figures by case and class, (cases, classes), NaN where there is none."""
    held = {(row["case"], _name(row)): row.get(figure) for row in rows}
    found = [[held.get((case, name)) for name in names] for case in cases]
    return np.array(found, np.float64)  # None becomes NaN


def _regions(a: Scores, b: Scores, cases: Sequence[str], figure: Figure) -> tuple[Difference, ...]:
    """Differences of the regions of both; none of a figure that regions do not have."""
    rows = [s.get("region_cases") or [] for s in (a, b)]
    if figure.rows != "cases" or not all(rows):
        return ()
    ours, theirs = ({_name(row) for row in side} for side in rows)
    names = [n for n in dict.fromkeys(_name(row) for row in rows[0]) if n in ours & theirs]
    one, other = (_table(side, cases, names, figure.name) for side in rows)
    return corrected([differ(n, one[:, k], other[:, k], figure) for k, n in enumerate(names)])


def _changes(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    cases: Sequence[str],
    names: Sequence[str],
    figure: Figure,
) -> tuple[Change, ...]:
    both = np.argwhere(~(np.isnan(a) | np.isnan(b)))
    found = [
        Change(cases[i], names[k], float(a[i, k]), float(b[i, k]), figure.gain(b[i, k] - a[i, k]))
        for i, k in both
    ]
    return tuple(sorted(found, key=lambda change: (-change.gain, change.case, change.name)))
