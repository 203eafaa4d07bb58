"""What a check found, as check.json holds it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from pipeline.ingest.checking.case import CheckedCase
from pipeline.ingest.checking.classes import cases_with
from pipeline.ingest.checking.compared import Compared
from pipeline.ingest.checking.findings import Finding
from pipeline.ingest.checking.places import crs_name
from pipeline.statistics.moments import Moments, joined

DIGITS = 9
"""Of a share, a spacing or a size."""


@dataclass(frozen=True)
class Checked:
    """What a check found."""

    usable: Compared
    """Cases that ingest would take."""
    cases: Sequence[CheckedCase]
    """All cases, ordered by id."""
    findings: Sequence[Finding]
    """Everything found, of cases and of the dataset."""

    def to_json(self) -> dict[str, Any]:
        """The check as JSON values.

        Returns:
            ``cases``: ``case``, ``status`` (ok, warning, refused), ``split``, ``shape``,
            ``channels``, ``dtype``, ``spacing``, ``unit``, ``crs``, ``class_voxels`` by name,
            ``valid_share`` and ``findings`` of each; ``dataset``: the findings about all of it,
            and what its usable cases are; ``counts`` of cases by status and of findings by code.
            In a regression ``target`` stands for ``class_voxels`` and for the classes: count,
            share of the voxels with data, mean, std, min and max of the numbers.
        """
        by_case: defaultdict[str | None, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            by_case[finding.case].append(finding)
        rows = [self._row(case, by_case[case.case]) for case in self.cases]
        counted = Counter(row["status"] for row in rows)
        counts = {
            "cases": len(rows),
            "usable": len(self.usable.cases),
            **{status: counted[status] for status in ("ok", "warning", "refused")},
            "labelled": len(self.usable.labelled),
            "splits": dict(Counter(self.usable.splits[c.case] for c in self.usable.cases)),
            "findings": dict(Counter(finding.code for finding in self.findings)),
        }
        dataset = {"findings": [asdict(f) for f in by_case[None]], **self._dataset()}
        return {"cases": rows, "dataset": dataset, "counts": counts}

    def _row(self, case: CheckedCase, findings: Sequence[Finding]) -> dict[str, Any]:
        row: dict[str, Any] = {
            "case": case.case,
            "status": _status(findings),
            "split": self.usable.splits[case.case],
            **dict.fromkeys(("shape", "channels", "dtype", "spacing", "unit", "crs")),
            **dict.fromkeys((self._truth_key, "valid_share")),
        }
        if case.header is not None:
            grid = case.header.grid
            row |= {"shape": list(grid.shape), "channels": case.header.channels}
            row |= {"dtype": case.header.dtype, "unit": grid.unit}
            row |= {"spacing": [_rounded(v) for v in grid.spacing]}
            row |= {"crs": None if grid.crs is None else crs_name(grid.crs)}
            if case.valid_voxels:
                row["valid_share"] = _rounded(case.valid_voxels / prod(grid.shape))
        if case.target is not None:
            row["target"] = target_of([case])
        elif case.class_voxels is not None:
            names = [c.name for c in self.usable.data.classes]
            row["class_voxels"] = dict(zip(names, case.class_voxels, strict=True))
        return row | {"findings": [asdict(finding) for finding in findings]}

    @property
    def _truth_key(self) -> str:
        return "target" if self.usable.data.task == "regression" else "class_voxels"

    def _dataset(self) -> dict[str, Any]:
        headers = [header for _, header in self.usable.headers]
        data = self.usable.data
        numbers = {"target": {"name": data.target, **target_of(self.usable.labelled)}}
        return {
            "classes": self._classes(),
            **(numbers if data.task == "regression" else {}),
            "shapes": _range(header.grid.shape for header in headers),
            "spacings": _range(header.grid.spacing for header in headers),
            "units": _counted(header.grid.unit for header in headers),
            "channels": _counted(header.channels for header in headers),
            "dtypes": _counted(header.dtype for header in headers),
            "crs": _counted(h.grid.crs and crs_name(h.grid.crs) for h in headers),
            "orientations": _counted(header.grid.orientation for header in headers),
        }

    def _classes(self) -> dict[str, dict[str, Any]]:
        """Voxels of each class, their share of all that is labelled, and cases that hold it."""
        labelled = self.usable.labelled
        names = [c.name for c in self.usable.data.classes]
        voxels = [
            sum(c.class_voxels[i] for c in labelled if c.class_voxels) for i in range(len(names))
        ]
        whole = sum(voxels) or 1
        return {
            name: {"voxels": n, "share": _rounded(n / whole), "cases": cases_with(labelled, label)}
            for label, (name, n) in enumerate(zip(names, voxels, strict=True))
        }


def target_of(cases: Iterable[CheckedCase]) -> dict[str, Any]:
    """The numbers of cases together: count, share of voxels with data, mean, std, min, max."""
    told = [(c.target, c.valid_voxels) for c in cases if c.target is not None]
    known = [target for target, _ in told if target["count"]]
    count, valid = sum(target["count"] for target in known), sum(voxels for _, voxels in told)
    found: dict[str, Any] = {"count": count, "share": _rounded(count / (valid or 1))}
    if not known:
        return {**found, **dict.fromkeys(("mean", "std", "min", "max"))}
    whole = joined(Moments.of(t["count"], t["mean"], t["std"]) for t in known)
    ends = (min(t["min"] for t in known), max(t["max"] for t in known))
    figures = zip(("mean", "std", "min", "max"), (whole.mean, whole.std, *ends), strict=True)
    return {**found, **{name: _rounded(value) for name, value in figures}}


def _status(findings: Iterable[Finding]) -> str:
    levels = {finding.level for finding in findings}
    return next((level for level in ("refused", "warning") if level in levels), "ok")


def _range(of: Iterable[Sequence[float]]) -> dict[str, list[float]] | None:
    """Least, median and most on each axis; None where there is nothing."""
    table = np.array(list(of), dtype=np.float64)
    if not table.size:
        return None
    ends = {"min": table.min(axis=0), "median": np.median(table, axis=0), "max": table.max(axis=0)}
    return {name: [_rounded(v) for v in values] for name, values in ends.items()}


def _counted(of: Iterable[Any]) -> dict[str, int]:
    """Cases by kind, the commonest first; what is of no kind is left out."""
    return {str(kind): n for kind, n in Counter(k for k in of if k is not None).most_common()}


def _rounded(value: float) -> float | int:
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() else short
