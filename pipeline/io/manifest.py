"""The manifest: one row per case; and the quarantine: one row per refused case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import NothingUsableError, StoreError
from pipeline.io.files import read_jsonl, write_jsonl
from pipeline.io.store import published_key

Split = Literal["train", "val", "test", "unlabelled"]
FileRole = Literal["image", "mask"]


@dataclass(frozen=True)
class SourceFile:
    """A file a case was made from, or files that are counted as one (the slices of a series)."""

    path: str
    """Relative to the dataset's root, where it lies inside it; ``::name`` follows for an array
    inside it."""
    role: FileRole
    """What the file holds."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Time of last change, nanoseconds; with the size the quick test for a change."""
    sha256: str
    """Of the file's bytes; of the sums of several."""
    files: int = 1
    """How many files there are."""
    sizes_and_times: str = ""
    """Digest of name, size and time of each file, where there are several."""

    @property
    def sighting(self) -> tuple[Any, ...]:
        """All that can be seen of it without reading it."""
        return self.path, self.role, self.size, self.mtime_ns, self.files, self.sizes_and_times

    def with_sum(self, sha256: str) -> SourceFile:
        """The same, its content known."""
        return replace(self, sha256=sha256)


@dataclass(frozen=True)
class ManifestRow:
    """A case."""

    id: str
    """Case id: its image's file name without the format's suffix."""
    group: str
    """Cases of one group (a patient, a scene) never part over splits."""
    split: Split
    """Fixed when the case is first seen."""
    fold: int | None
    """Cross-validation fold of a training case; None for held-out ones."""
    status: Literal["complete", "quarantined", "vanished"]
    """Whether the volume store is used: a quarantined case was refused, a vanished one has lost
    its files and keeps its split and store."""
    key: str = ""
    """Of content, settings and code that made the store; other keys derive from it. A quarantined
    case has that of its former store while its image is still the same."""
    store: str = ""
    """Folder name of the volume store in the volumes folder."""
    sources: tuple[SourceFile, ...] = ()
    """Files the case was made from."""
    grid: dict[str, Any] = field(default_factory=dict)
    """Shape, affine, unit and CRS, as Grid.to_json gives."""
    channels: int = 0
    """Channels of the image."""

    @property
    def labelled(self) -> bool:
        """Whether the case has a truth mask."""
        return self.split != "unlabelled"


@dataclass(frozen=True)
class QuarantineRow:
    """A refused case."""

    case: str
    """Case id."""
    stage: str
    """The stage that refused it."""
    reason: str
    """What was met and what was expected."""
    remedy: str
    """What to do."""


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write the manifest, ordered by case id."""
    write_jsonl(path, (asdict(row) for row in sorted(rows, key=lambda row: row.id)))


def read_manifest(path: Path) -> list[ManifestRow]:
    """Rows of the manifest, ordered by case id; empty before the first ingest."""
    return [_row(value) for value in read_jsonl(path)]


def usable_cases(
    path: Path, splits: Iterable[str] | None = None, volumes: Path | None = None
) -> list[ManifestRow]:
    """Rows whose volume store is complete.

    Args:
        path: The manifest.
        splits: Keep cases of these splits only; None keeps all.
        volumes: Folder of the stores, to see that each is there and is what the manifest says;
            None: not looked at.

    Raises:
        NothingUsableError: No case is left.
        StoreError: A store is gone, or another run has rewritten it.
    """
    wanted = None if splits is None else set(splits)
    rows = [
        row
        for row in read_manifest(path)
        if row.status == "complete" and (wanted is None or row.split in wanted)
    ]
    if not rows:
        kind = "" if wanted is None else f" of split {' or '.join(sorted(wanted))}"
        raise NothingUsableError(
            f"{path} lists no usable case{kind}: run `segflow ingest` and see quarantine.jsonl"
        )
    if volumes is None:
        return rows
    for row in rows:
        if published_key(volumes / row.store) != row.key:
            raise StoreError(
                f"the volume store of case {row.id} is gone, or another run has rewritten it: "
                "run `segflow ingest`"
            )
    return rows


def replace_quarantine(path: Path, stage: str, rows: Iterable[QuarantineRow]) -> None:
    """Set the refused cases of one stage; those of other stages stay."""
    kept = [row for row in read_quarantine(path) if row.stage != stage]
    ordered = sorted([*kept, *rows], key=lambda row: (row.case, row.stage))
    write_jsonl(path, (asdict(row) for row in ordered))


def read_quarantine(path: Path) -> list[QuarantineRow]:
    """Refused cases, ordered by case id."""
    return [QuarantineRow(**value) for value in read_jsonl(path)]


def _row(value: dict[str, Any]) -> ManifestRow:
    sources = tuple(SourceFile(**source) for source in value.pop("sources"))
    return ManifestRow(**value, sources=sources)
