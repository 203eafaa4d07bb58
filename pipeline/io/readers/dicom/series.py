"""The series below a folder, however it nests: one case each, under names that name nobody."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.errors import CaseError, SettingsError
from pipeline.io.readers.dicom.file import Opened, Unusable, open_file
from pipeline.io.readers.dicom.header import ALLOWED, Header, header_of
from pipeline.io.readers.dicom.identity import HIDDEN, IDENTIFYING, Identity
from pipeline.io.readers.dicom.volume import arrange

Names = Literal["series", "folder", "patient"]
# A coded word, but one that a header may misuse: none other enters a case id.
MODALITIES = re.compile(
    "BI|CR|CT|DG|DX|ES|FA|FS|GM|IO|IVOCT|IVUS|LS|MA|MG|MR|NM|OCT|OP|OPT|OT|PT|PX|RF|RG|RTIMAGE|SM"
    "|SC|TG|US|XA|XC"
)
Key = tuple[str, ...]
DIGITS = 10
MOST_LETTERS = 100


@dataclass(frozen=True)
class Series:
    """A series of slices, or one file of several frames."""

    case: str
    """Case id, unique below the folder searched."""
    paths: tuple[Path, ...] = field(repr=False)
    """Its files; their names may hold the patient's."""
    folder: str
    """Where they lie below the folder searched; parts that name the patient are ``…``."""
    problem: CaseError | None
    """Why they make no volume; None where their headers are sound."""


@dataclass
class _Group:
    """The files of a series, as they are found."""

    headers: list[Header] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    identity: Identity = field(default_factory=Identity)

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(sorted([*(header.path for header in self.headers), *self.damaged]))


def find_series(root: Path, names: Names = "series") -> list[Series]:
    """Find every series of images below a folder.

    Files that are no DICOM or no image (directories, reports, structures, segmentations), hidden
    ones, and links to folders are passed over. A damaged file counts to the series beside it.

    Args:
        root: The folder.
        names: What cases are called: ``series``, the modality and a hash of the series' unique
            id; ``folder``, its folder below ``root``; ``patient``, the patient's id and the
            series' number, which then stand in everything made of the case.

    Returns:
        The series, ordered by case id, those that make no volume with the reason.

    Raises:
        SettingsError: A folder cannot be opened.
    """
    groups = _groups(root)
    cases = _distinct([_candidates(group, root, names) for group in groups])
    found = [
        Series(case, group.paths, "/".join(_place(group, root)) or ".", _problem(group))
        for case, group in zip(cases, groups, strict=True)
    ]
    return sorted(found, key=lambda series: series.case)


# Files to groups


def _groups(root: Path) -> list[_Group]:
    groups: defaultdict[Key, _Group] = defaultdict(_Group)
    series_in: defaultdict[Path, set[Key]] = defaultdict(set)
    damaged: list[Path] = []
    for path in _files(root):
        opened = open_file(path, (*ALLOWED, *IDENTIFYING))
        header = opened if isinstance(opened, Unusable) else header_of(path, opened)
        if header is Unusable.DAMAGED:
            damaged.append(path)
        elif isinstance(header, Header) and isinstance(opened, Opened):
            key = _key(header)
            groups[key].headers.append(header)
            groups[key].identity.add(opened.elements)
            if len(header.frames) == 1:
                series_in[path.parent].add(key)
    for path in damaged:
        beside = series_in[path.parent]
        key = next(iter(beside)) if len(beside) == 1 else ("", str(path.parent), "damaged")
        groups[key].damaged.append(path)
    return [groups[key] for key in sorted(groups)]


def _key(header: Header) -> Key:
    """What files of one volume share; a file of several frames is a volume of its own."""
    if len(header.frames) > 1:
        return header.series_uid, str(header.path)
    return (header.series_uid,) if header.series_uid else ("", str(header.path.parent))


def _files(root: Path) -> Iterator[Path]:
    closed: list[OSError] = []
    for folder, inner, names in os.walk(root, onerror=closed.append):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))
    if closed:
        raise SettingsError(
            f"data.root: {len(closed)} folders in it cannot be opened "
            f"({type(closed[0]).__name__}): make them readable; find them with "
            "`find FOLDER -type d ! -readable`"
        )


def _problem(group: _Group) -> CaseError | None:
    try:
        arrange([*group.headers, *(Unusable.DAMAGED for _ in group.damaged)])
    except CaseError as error:
        # Its traceback would keep every header alive.
        return error.with_traceback(None)
    return None


# Groups to names


def _folder(group: _Group, root: Path) -> Path:
    """The folder of a group below the root, as it is."""
    return Path(os.path.commonpath([path.parent for path in group.paths])).relative_to(root)


def _place(group: _Group, root: Path) -> tuple[str, ...]:
    """The components of a group's folder, without its patient."""
    folder = _folder(group, root)
    if not group.headers:
        # Whose they are cannot be read, so nothing of their path may be shown.
        return tuple(HIDDEN for _ in folder.parts)
    # A name in another encoding than the file system's could not be printed.
    return tuple(part.encode("utf-8", "replace").decode() for part in group.identity.hidden(folder))


def _candidates(group: _Group, root: Path, names: Names) -> list[str]:
    """Case ids for a group, each telling it better from others than the one before."""
    first = group.headers[0] if group.headers else None
    modality = first.modality if first and MODALITIES.fullmatch(first.modality) else "dicom"
    known = (first.series_uid if first else "") or _folder(group, root).as_posix()
    mark = hashlib.sha256(os.fsencode(known)).hexdigest()[:DIGITS]
    number = "" if first is None or first.series_number is None else f"-{first.series_number}"
    by_series = f"{modality.lower()}-{mark}"
    match names:
        case "series":
            return [by_series]
        case "folder":
            name = _safe("-".join(_place(group, root)).replace(HIDDEN, "x"))
            return [name, f"{name}{number}", f"{name}-{mark}"] if name else [by_series]
        case "patient":
            name = _safe(group.identity.patient_id)
            return [f"{name}{number}", f"{name}-{mark}"] if name else [by_series]


def _safe(name: str) -> str:
    """A name for files and URLs."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:MOST_LETTERS].strip("._-")


def _distinct(candidates: Sequence[Sequence[str]]) -> list[str]:
    """One name for each, the first that no other has; the last ones are numbered."""
    names = [options[0] for options in candidates]
    for level in range(1, max(map(len, candidates), default=1)):
        counts = Counter(names)
        names = [
            options[min(level, len(options) - 1)] if counts[name] > 1 else name
            for name, options in zip(names, candidates, strict=True)
        ]
    taken: set[str] = set()
    for at, name in enumerate(names):
        tries = (f"{name}-{n}" if n > 1 else name for n in range(1, len(names) + 2))
        names[at] = next(option for option in tries if option not in taken)
        taken.add(names[at])
    return names
