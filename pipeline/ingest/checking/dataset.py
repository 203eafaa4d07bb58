"""Every case read as ingest would read it, every finding told, and no store written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline.errors import CaseError
from pipeline.execute import Done, ExecuteSettings, Progress, run_tasks, silent
from pipeline.ingest.case import IngestTask
from pipeline.ingest.checking import classes, listing, numbers, places, voxels
from pipeline.ingest.checking.case import CheckedCase, check_case
from pipeline.ingest.checking.compared import Compared
from pipeline.ingest.checking.findings import Finding, named, of_all, refused
from pipeline.ingest.checking.outcome import Checked
from pipeline.ingest.deal import deal
from pipeline.ingest.evidence import quick_evidence, root_of
from pipeline.ingest.ingest import odd_ones_out, plan_ingest
from pipeline.ingest.settings import IngestSettings
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import CaseFiles, discover
from pipeline.io.manifest import ManifestRow, read_manifest

STAGE = "check"
FEW_BYTES = 64 * 2**20
"""Files that are read sooner than workers start."""
LOOKS: tuple[Callable[[Compared], Iterator[Finding]], ...] = (
    voxels.constant,
    voxels.unmarked,
    voxels.duplicates,
    voxels.outliers,
    classes.classes,
    classes.value_gap,
    numbers.infinite,
    numbers.constant,
    numbers.marks,
    numbers.outliers,
    places.crs,
    places.resolution,
    places.orientation,
    places.spacing,
    voxels.dtype,
)
"""What is asked of the usable cases."""


def check(
    data: DataSettings,
    settings: IngestSettings,
    execute: ExecuteSettings,
    *,
    manifest: Path,
    progress: Progress = silent,
) -> Checked:
    """Read every case as ingest would, and write nothing.

    Args:
        data: The dataset.
        settings: Splits, which are dealt as ingest would deal them.
        execute: Where tasks run.
        manifest: File of the last ingest, if there was one.
        progress: Told of every case.

    Raises:
        SettingsError: The dataset is not there, or its groups cannot be dealt.
    """
    cases = discover(data)
    known = read_manifest(manifest)
    splits = {row.id: str(row.split) for row in deal(cases, data, settings, known)}
    tasks = plan_ingest(data, cases, Path("unwritten"), known, execute.cores)
    checked = _odd_refused(_read(tasks, execute, progress))
    found = Compared(data, [case for case in checked if case.refusal is None], splits)
    findings = [
        *(case.refusal for case in checked if case.refusal is not None),
        *(finding for look in LOOKS for finding in look(found)),
        *listing.listing_findings(data, cases),
        *listing.channel_names(data, found.cases),
        *listing.group_hint(data, cases),
        *_vanished(known, cases),
    ]
    return Checked(found, checked, findings)


def _read(
    tasks: Sequence[IngestTask], execute: ExecuteSettings, progress: Progress
) -> list[CheckedCase]:
    checked = []
    place = _place(execute, tasks)
    for number, done in enumerate(run_tasks(check_case, tasks, place), start=1):
        checked.append(_ended(done))
        progress(STAGE, number, len(tasks), done.task.files.case)
    return sorted(checked, key=lambda case: case.case)


def _place(execute: ExecuteSettings, tasks: Sequence[IngestTask]) -> ExecuteSettings:
    if execute.on != "local" or sum(map(_bytes, tasks)) > FEW_BYTES:
        return execute
    return execute.model_copy(update={"on": "serial"})


def _bytes(task: IngestTask) -> int:
    """Bytes of a case's files; 0 where they cannot be seen, which its own task will tell."""
    try:
        return sum(s.size for s in quick_evidence(task.files, root_of(task.data)))
    except CaseError:
        return 0


def _ended(done: Done[IngestTask, CheckedCase]) -> CheckedCase:
    if done.row is not None:
        return done.row
    assert done.error is not None
    case = done.task.files.case
    return CheckedCase(case, refused(case, "unexpected-error", done.error))


def _odd_refused(cases: Sequence[CheckedCase]) -> list[CheckedCase]:
    """The cases, those that are of another kind than most refused."""
    rows = [
        ManifestRow(
            case.case,
            "",
            "train",
            None,
            "complete",
            grid=case.header.grid.to_json(),
            channels=case.header.channels,
        )
        for case in cases
        if case.refusal is None and case.header is not None
    ]
    odd = odd_ones_out(rows)
    return [
        case.refused_for(refused(case.case, "odd-one-out", odd[case.case]))
        if case.case in odd
        else case
        for case in cases
    ]


def _vanished(known: Sequence[ManifestRow], cases: Sequence[CaseFiles]) -> Iterator[Finding]:
    gone = sorted({row.id for row in known} - {files.case for files in cases})
    if gone:
        yield of_all(
            "vanished-cases",
            "warning",
            f"cases of the last ingest that are gone: {len(gone)} ({named(gone)}).",
            "Restore their files; without them the cases are not used.",
        )
