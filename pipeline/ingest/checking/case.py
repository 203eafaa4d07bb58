"""One case, read whole as ingest reads it, and nothing written."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import CaseError
from pipeline.ingest.case import IngestTask, boxes_of, read_through
from pipeline.ingest.checking.findings import Finding, refused
from pipeline.ingest.evidence import full_evidence, quick_evidence, root_of
from pipeline.io.cases import OpenCase, Voxels, open_case
from pipeline.io.location import scratch
from pipeline.io.manifest import SourceFile
from pipeline.space import Grid, Window


@dataclass(frozen=True)
class Header:
    """What an image is, before its voxels are read."""

    grid: Grid
    """Where it lies."""
    channels: int
    """Size of its channel axis."""
    dtype: str
    """Type of its voxels."""

    @classmethod
    def of(cls, case: OpenCase) -> Header:
        """The header of an open case's image."""
        return cls(case.image.grid, case.image.channels, str(case.image.dtype))


@dataclass(frozen=True)
class CheckedCase:
    """What was found of a case."""

    case: str
    """Case id."""
    refusal: Finding | None = None
    """Why ingest would quarantine it; None where it would not."""
    header: Header | None = None
    """Of its image; None where that cannot be opened."""
    valid_voxels: int = 0
    """Voxels that hold data."""
    channels: tuple[dict[str, float], ...] = ()
    """``mean``, ``std``, ``min`` and ``max`` of each channel."""
    class_voxels: tuple[int, ...] | None = None
    """Voxels of each class, or in a regression those that have a number; None: no mask."""
    target: dict[str, Any] | None = None
    """The numbers of a regression, as ``CaseStatistics`` has them; None where there are none."""
    sources: tuple[SourceFile, ...] = ()
    """Its files, with their sums."""

    def refused_for(self, refusal: Finding) -> CheckedCase:
        """The same case, refused."""
        return replace(self, refusal=refusal)


class _Refused(Exception):
    """A CaseError, with the code of what was being done and what was known by then."""

    def __init__(self, code: str, error: CaseError, header: Header | None = None) -> None:
        super().__init__(code, error, header)
        self.code = code
        self.error = error
        self.header = header


def check_case(task: IngestTask) -> CheckedCase:
    """Read one case whole, box by box; ingest refuses what is refused here, and nothing else."""
    try:
        return _checked(task)
    except _Refused as end:
        finding = refused(task.files.case, end.code, end.error)
        return CheckedCase(task.files.case, finding, end.header)


def _checked(task: IngestTask) -> CheckedCase:
    if task.files.problem is not None:
        raise _Refused("unmatched-files", task.files.problem)
    with _refused_as("missing-file"):
        quick_evidence(task.files, root_of(task.data))
    with scratch() as folder:
        case = _opened(task, folder)
        header = Header.of(case)
        with _refused_as("unusable-voxels", header), ThreadPoolExecutor(1) as pool:
            summing = pool.submit(_evidence, task)
            found = read_through(case, task.data, boxes_of(case), task.threads, _drop).to_json()
            sources = summing.result()
        labelled = case.mask is not None
    return CheckedCase(
        case=task.files.case,
        header=header,
        valid_voxels=found["valid_voxels"],
        channels=tuple(_figures(channel) for channel in found["channels"]),
        class_voxels=tuple(found["class_voxels"]) if labelled else None,
        target=found.get("target"),
        sources=sources,
    )


@contextmanager
def _refused_as(code: str, header: Header | None = None) -> Iterator[None]:
    try:
        yield
    except CaseError as error:
        raise _Refused(code, error, header) from error


def _opened(task: IngestTask, folder: Path) -> OpenCase:
    try:
        return open_case(task.files, task.data, folder)
    except CaseError as error:
        header = _image_alone(task, folder)
        code = "unreadable-image" if header is None else "unfit-mask"
        raise _Refused(code, error, header) from error


def _image_alone(task: IngestTask, folder: Path) -> Header | None:
    """The header of an image whose mask stands in the way."""
    try:
        return Header.of(open_case(replace(task.files, mask=None), task.data, folder))
    except CaseError:
        return None


def _evidence(task: IngestTask) -> tuple[SourceFile, ...]:
    known = () if task.known is None else task.known.sources
    return full_evidence(task.files, root_of(task.data), known)


def _figures(channel: dict[str, Any]) -> dict[str, float]:
    return {key: channel[key] for key in ("mean", "std", "min", "max")}


def _drop(window: Window, voxels: Voxels) -> None:
    """Keep nothing of what was read."""
