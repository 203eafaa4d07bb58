"""The record of the last prediction in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.report.facts import Evidence
from pipeline.report.words import count, times

BLENDS = {
    "exact": "exact tiles with halo",
    "gaussian": "overlapping tiles, Gaussian weights",
}


def prediction(evidence: Evidence) -> dict[str, Any]:
    """What the last prediction did, and how far it is from one pass over the whole."""
    if evidence.record is None:
        return {"prediction": [], "seam": ""}
    seam = _seam(evidence.record["seam"], evidence.regression)
    return {"prediction": _facts(evidence.record), "seam": seam}


def _facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    layout = "channels last" if record["channels_last"] else "channels first"
    return [
        ("cases", count(record["cases"])),
        ("tiling", BLENDS.get(record["blend"], record["blend"])),
        ("tile", f"{times(record['tile'])} voxels"),
        ("halo", f"{times(record['halo'])} voxels"),
        ("processor", f"{record['device']}, {record['precision']}, {layout}"),
        *([("mirror images", "asked about too")] if record.get("mirrored") else []),
        *([("components", record["cleanup"])] if record.get("cleanup") else []),
    ]


def _seam(seam: Mapping[str, int] | None, regression: bool) -> str:
    if seam is None:
        return "Seams were not measured."
    voxels, different = seam["voxels"], seam["different"]
    what, by = ("values", " by 1 % of the truth's spread") if regression else ("labels", "")
    if not voxels:
        return f"Seams were not measured: no {what[:-1]} was compared."
    if not different:
        equal = "are" if regression else "equal"
        within = " but for 1 % of the truth's spread" if regression else ""
        return (
            f"No seams: all {voxels:,} {what} compared {equal} those of one pass over the whole"
            f"{within}."
        )
    share = 1e6 * different / voxels
    return (
        f"{different:,} of {voxels:,} {what} compared differ{by} from those of one pass over the "
        f"whole ({share:,.3g} in a million)."
    )
