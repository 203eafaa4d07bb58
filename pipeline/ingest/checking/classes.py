"""Whether every class is there to be learnt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.ingest.checking.case import CheckedCase
from pipeline.ingest.checking.compared import Compared
from pipeline.ingest.checking.findings import Finding, of_all


def classes(found: Compared) -> Iterator[Finding]:
    """Classes that no mask holds, or none that is learnt from."""
    labelled = found.labelled
    training = [c for c in labelled if found.splits[c.case] == "train"]
    if not labelled:
        return
    for label, name in enumerate(c.name for c in found.data.classes):
        if not cases_with(labelled, label):
            yield of_all(
                "absent-class",
                "warning",
                f"no mask of {len(labelled)} holds the class {name}.",
                "Correct its value in data.classes, or remove the class.",
            )
        elif training and not cases_with(training, label):
            yield of_all(
                "untrained-class",
                "warning",
                f"no training case holds the class {name}, only cases held out do: it would never "
                "be learnt.",
                "Add cases that hold it, or deal anew: another ingest.seed and a new run_dir.",
            )


def cases_with(cases: Sequence[CheckedCase], label: int) -> int:
    """How many cases hold a class."""
    return sum(c.class_voxels is not None and c.class_voxels[label] > 0 for c in cases)


def value_gap(found: Compared) -> Iterator[Finding]:
    """A mask value between those of the classes that no class has."""
    used = {v for c in found.data.classes for v in c.values}
    if not used:
        return
    gap = sorted({*range(min(used), max(used))} - used - set(found.data.ignore_values))
    # 0 and 255, or 10, 20, 30, are a way of writing; 0, 1, 3 is a class that may be forgotten.
    if found.labelled and gap and len(gap) < len(used):
        missing = ", ".join(map(str, gap))
        yield of_all(
            "value-gap",
            "warning",
            f"no class has the mask value {missing}, though they go from {min(used)} to "
            f"{max(used)}; no mask holds it.",
            "Nothing, if no class is forgotten.",
        )
