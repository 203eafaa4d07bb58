"""What a verification found, for people and machines."""

from __future__ import annotations

from dataclasses import asdict

from flows.console import COMPLETE, FAILED, QUARANTINED, Console
from flows.findings import folded
from flows.summary import counted
from pipeline.io.location import locate
from pipeline.report.words import memory
from pipeline.verify import Finding, Verified
from pipeline.verify import verify as look

MOST_ROWS = 50
"""Rows that are printed; --json gives all findings."""


def verify(place: str, workers: int | None, quick: bool, console: Console) -> None:
    """Verify a store or a run, print the findings and the verdict."""
    folder = locate(place, "STORE_OR_RUN")
    if folder.name in ("", ".."):  # the folder one is in has a name, too
        folder = folder.absolute().resolve()
    found = look(folder, workers=workers, read=not quick, progress=console.progress)
    console.stop_bars()
    _print(found.findings, console)
    console.result |= {
        "whole": not found.damaged,
        "stores": found.stores,
        "bytes": found.bytes,
        "findings": [asdict(finding) for finding in found.findings],
    }
    console.end(*_verdict(found, place, quick))


def _print(findings: tuple[Finding, ...], console: Console) -> None:
    rows = folded(((f.place, f.level, f.reason, f.remedy) for f in findings), "places")
    shown = [(level, where, *said) for where, level, *said in rows[:MOST_ROWS]]
    if console.screen.is_terminal and shown:
        console.table("What was found", ("", "where", "what", "what to do"), shown)
    else:
        for level, where, *said in shown:
            console.line(f"{level} {where}: {' '.join(said)}")
    if len(rows) > MOST_ROWS:
        console.line(f"and {len(rows) - MOST_ROWS} more: see --json")


def _verdict(found: Verified, place: str, quick: bool) -> tuple[int, str]:
    """Exit code and last line."""
    looked = f"{counted(found.stores, 'store')}, {memory(found.bytes)}"
    looked += ", lists of files alone" if quick else ", every chunk decoded"
    if found.damaged:
        return FAILED, f"failed: {counted(found.damaged, 'place')} damaged, named above; {looked}"
    warned = sum(finding.level == "warning" for finding in found.findings)
    told = f"whole, {counted(warned, 'warning')}: {looked}" if warned else f"whole: {looked}"
    if found.quarantined:
        return QUARANTINED, f"complete, {counted(found.quarantined)} quarantined; {told}"
    return COMPLETE, f"complete: {place} is {told}"
