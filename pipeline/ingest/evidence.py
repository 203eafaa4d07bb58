"""What a case's files are: size, time of change and sha256, to know them again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import CaseError
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import CaseFiles
from pipeline.io.files import digest
from pipeline.io.location import locate, sha256_of, stat_of, walk_all
from pipeline.io.manifest import FileRole, SourceFile
from pipeline.io.opening import companions
from pipeline.io.origin import Origin

VERSION = 4
"""Raised when the same files would give another store."""


def quick_evidence(files: CaseFiles, root: Path) -> tuple[SourceFile, ...]:
    """Sizes and times of change of a case's files, without their sums; nothing is read.

    Raises:
        CaseError: A file does not exist or cannot be looked at.
    """
    return tuple(_described(unit) for unit in _units(files, root))


def full_evidence(
    files: CaseFiles, root: Path, known: Iterable[SourceFile] = ()
) -> tuple[SourceFile, ...]:
    """The same with sha256; files whose size and time are known are not read again.

    Raises:
        CaseError: A file does not exist or cannot be read.
    """
    before = {(s.path, s.role): s for s in known}
    sums: dict[tuple[Path, ...], str] = {}
    evidence = []
    for unit in _units(files, root):
        quick = _described(unit)
        last = before.get((quick.path, quick.role))
        if last is not None and same_files((last,), (quick,)):
            evidence.append(last)
            continue
        if unit.paths not in sums:
            sums[unit.paths] = _summed(unit)
        evidence.append(quick.with_sum(sums[unit.paths]))
    return tuple(evidence)


def same_files(one: Iterable[SourceFile], other: Iterable[SourceFile]) -> bool:
    """Whether two sightings tell of the same, unchanged files, by size and time of change."""
    return [s.sighting for s in one] == [s.sighting for s in other]


def store_key(files: CaseFiles, sources: Iterable[SourceFile], data: DataSettings) -> str:
    """The key of a case's store: of its files' content and of what the settings make of it."""
    told = {"classes", "ignore_values", "nodata", "bands", "mask_grid", "mask_attribute"}
    # Stores of classes keep the keys they had before there was another task.
    told |= {"task", "target"} if data.task == "regression" else set()
    meaning = data.model_dump(include=told, mode="json")
    origins = (files.image, files.mask)
    read_as = [(origin.stack, origin.items) for origin in origins if origin is not None]
    return digest(VERSION, [(s.role, s.sha256) for s in sources], read_as, str(meaning))


class _Unit:
    """Files that are counted as one: a file, or all slices of a series."""

    def __init__(self, name: str, role: FileRole, paths: tuple[Path, ...], ordered: bool) -> None:
        self.name = name
        self.role = role
        self.paths = paths
        self.ordered = ordered
        """Whether the order of the files matters for what they hold."""


def _units(files: CaseFiles, root: Path) -> Iterator[_Unit]:
    yield from _units_of(files.image, "image", root)
    if files.mask is not None:
        yield from _units_of(files.mask, "mask", root)


def _units_of(origin: Origin, role: FileRole, root: Path) -> Iterator[_Unit]:
    if origin.stack in ("slices", "objects"):
        name = origin.label or _name(origin.paths[0].parent, root)
        yield _Unit(name, role, origin.paths, ordered=origin.stack == "objects")
        return
    for path, item in zip(origin.paths, origin.items, strict=True):
        name = _name(path, root) + (f"::{item}" if item else "")
        yield _Unit(name, role, (path, *companions(path)), ordered=True)


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _described(unit: _Unit) -> SourceFile:
    seen = [
        (file.as_posix(), *_stat(file, unit))
        for path in unit.paths
        for file in (walk_all(path) if path.is_dir() else (path,))
    ]
    size = sum(bytes_ for _, bytes_, _ in seen)
    newest = max((changed_ns for _, _, changed_ns in seen), default=0)
    # A slice may be replaced by one of its size and an older time.
    each = digest(sorted(seen)) if len(seen) > 1 else ""
    return SourceFile(unit.name, unit.role, size, newest, "", len(seen), each)


def _stat(path: Path, unit: _Unit) -> tuple[int, int]:
    try:
        return stat_of(path)
    except OSError as error:
        # The error names the file, whose name may name a patient.
        raise _unusable(unit, error) from None


def _unusable(unit: _Unit, error: OSError) -> CaseError:
    gone = isinstance(error, FileNotFoundError)
    met = "does not exist" if gone else f"cannot be opened ({error.strerror or error})"
    return CaseError(f"{unit.name} {met}.", "Restore the file, or remove its case.")


def _summed(unit: _Unit) -> str:
    try:
        sums = [sha256_of(path) for path in unit.paths]
    except OSError as error:
        # The error names the file, whose name may name a patient.
        raise _unusable(unit, error) from None
    if len(sums) == 1:
        return sums[0]
    text = "\n".join(sums if unit.ordered else sorted(sums))
    return hashlib.sha256(text.encode()).hexdigest()


def root_of(data: DataSettings) -> Path:
    """The dataset's folder."""
    return locate(data.root, "data.root")
