"""Cases → splits and folds, by group, once and for ever."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import sha256

from pipeline.errors import SettingsError
from pipeline.ingest.settings import IngestSettings
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import CaseFiles
from pipeline.io.manifest import ManifestRow, Split


def deal(
    cases: Iterable[CaseFiles],
    data: DataSettings,
    settings: IngestSettings,
    known: Iterable[ManifestRow],
) -> list[ManifestRow]:
    """Give each case its split and fold, by group; cases and groups seen before keep theirs.

    New groups are ranked by a hash of their name. On a first ingest the lowest ranks fill the
    held-out shares exactly; later ones are dealt so that the shares are kept as they grow.
    """
    if data.group is not None:
        _refuse_idle_pattern(data.group, [c.case for c in cases])
    kept = {row.id: row for row in known}
    split_of = _known_splits(kept.values(), data)
    labelled = {c.case for c in cases if c.mask is not None or c.problem is not None}
    groups = {data.group_of(case) for case in labelled} | set(split_of)
    want = {
        "test": _share(groups, settings.test_fraction),
        "val": _share(groups, settings.val_fraction),
    }
    for group in sorted(groups - set(split_of), key=lambda g: _rank(g, settings.seed)):
        split_of[group] = _next_split(split_of, want, settings.folds)
    rows = []
    for files in cases:
        group = data.group_of(files.case)
        split, fold = split_of[group] if files.case in labelled else ("unlabelled", None)
        rows.append(ManifestRow(files.case, group, split, fold, "quarantined"))
    return rows


def _refuse_idle_pattern(pattern: str, cases: Sequence[str]) -> None:
    missed = [case for case in cases if re.search(pattern, case) is None]
    if missed:
        raise SettingsError(
            f"data.group {pattern!r} does not match {len(missed)} of {len(cases)} case ids, "
            f"{missed[0]} among them: each would be a group of its own, and one patient could "
            "stand on both sides of a split"
        )


def _known_splits(
    rows: Iterable[ManifestRow], data: DataSettings
) -> dict[str, tuple[Split, int | None]]:
    """Split and fold of each group dealt before, by today's groups.

    Raises:
        SettingsError: A changed ``data.group`` would put cases of two splits into one group.
    """
    split_of: dict[str, tuple[Split, int | None]] = {}
    for row in rows:
        if not row.labelled:
            continue
        group = data.group_of(row.id)
        before = split_of.setdefault(group, (row.split, row.fold))
        if before[0] != row.split:
            raise SettingsError(
                f"data.group puts {row.id} ({row.split}) into group {group}, which has cases of "
                f"split {before[0]}: splits are fixed; use a new run_dir to deal anew"
            )
    return split_of


def _share(groups: set[str], fraction: float) -> int:
    # At least one group where the share is wanted at all, but one is always left to train on.
    wanted = max(1, round(len(groups) * fraction)) if fraction > 0 else 0
    return min(wanted, max(0, (len(groups) - 1) // 2))


def _next_split(
    split_of: dict[str, tuple[Split, int | None]], want: dict[str, int], folds: int
) -> tuple[Split, int | None]:
    have = [split for split, _ in split_of.values()]
    if have.count("test") < want["test"]:
        return "test", None
    if have.count("val") < want["val"]:
        return "val", None
    return "train", have.count("train") % folds


def _rank(group: str, seed: int) -> str:
    return sha256(f"{seed}:{group}".encode(errors="backslashreplace")).hexdigest()
