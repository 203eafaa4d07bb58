"""A dataset's own words about itself: what dataset.json says, and what its file names tell."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.ingest.checking.case import CheckedCase
from pipeline.ingest.checking.findings import Finding, named
from pipeline.ingest.evidence import root_of
from pipeline.io.dataset import DataSettings
from pipeline.io.discover import CaseFiles, image_files

STEM = r"^(.*?[0-9].*?|[^0-9]+)(?:(?<![0-9])[0-9]+|[^0-9A-Za-z]+[0-9]+)?$"
"""A case id up to a number at its end, where it holds another number before."""
PATTERNS = (r"^(.+)_", r"^(.+)-", STEM)
"""What data.group may be set to; the simplest that does what STEM does is proposed."""
LEAST_STEMS = 4
"""Fewer are parts of a dataset (years, sites), not patients or scenes."""


def listing_findings(data: DataSettings, cases: Sequence[CaseFiles]) -> Iterator[Finding]:
    """Whether dataset.json agrees with itself, with the folders and with the settings."""
    if data.layout != "msd":
        return
    content = json.loads((root_of(data) / "dataset.json").read_text())
    yield from _keys(content, labels=data.task == "segmentation")
    yield from _counts(content)
    if data.task == "segmentation":
        yield from _labels(content, data)
    yield from _unlisted(cases)


def _keys(content: dict[str, Any], *, labels: bool) -> Iterator[Finding]:
    wanted: dict[str, tuple[str, ...]] = {"labels": ("labels",)} if labels else {}
    wanted |= {"modality": ("modality", "channel_names")}
    for key, names in wanted.items():
        if not any(name in content for name in names):
            yield _warning(
                "missing-key",
                f"dataset.json has no key {key}.",
                "Add it, so that others can read the dataset too.",
            )


def _counts(content: dict[str, Any]) -> Iterator[Finding]:
    for key, name in (("numTraining", "training"), ("numTest", "test")):
        said, listed = content.get(key), len(content.get(name, []))
        if said is not None and str(said) != str(listed):
            yield _warning(
                "count-mismatch",
                f"dataset.json says {key} {said}, its list {name} has {listed} entries.",
                "Correct the number, or restore the entries that are missing.",
            )


def _labels(content: dict[str, Any], data: DataSettings) -> Iterator[Finding]:
    """Values that dataset.json names and the settings do not, or the other way round."""
    told = _label_values(content.get("labels"))
    if told is None:
        return
    known = {v for c in data.classes for v in c.values} | set(data.ignore_values)
    for lone, here, there in (
        (told - known, "dataset.json", "data.classes and data.ignore_values"),
        (known - told, "run.yaml", "the labels of dataset.json"),
    ):
        if lone:
            values = ", ".join(map(str, sorted(lone)))
            yield _warning(
                "labels-differ",
                f"{here} names the mask value {values}, {there} do not.",
                "Make both say the same, or run segflow init again.",
            )


def _label_values(labels: Any) -> set[int] | None:
    """The values of ``{"0": name}`` (Decathlon) or ``{name: 0}`` (nnU-Net); None: neither."""
    if not isinstance(labels, dict):
        return None
    by_value = all(re.fullmatch(r"-?\d+", str(key)) for key in labels)
    try:
        return {int(value) for value in (labels.keys() if by_value else labels.values())}
    except (TypeError, ValueError):
        return None


def _unlisted(cases: Sequence[CaseFiles]) -> Iterator[Finding]:
    origins = [o for c in cases for o in (c.image, c.mask) if o is not None]
    listed = {path for origin in origins for path in origin.paths}
    for folder in sorted({path.parent for path in listed}):
        lone = [p.name for p in image_files(folder) if p not in listed] if folder.is_dir() else []
        if lone:
            yield _warning(
                "unlisted-files",
                f"files in {folder.name}/ that dataset.json does not list: {len(lone)} "
                f"({named(lone)}).",
                "List them, or move them away: what is not listed is not read.",
            )


def channel_names(data: DataSettings, usable: Sequence[CheckedCase]) -> Iterator[Finding]:
    """Whether dataset.json names as many channels as images have."""
    if data.layout != "msd" or data.bands is not None or not usable:
        return
    content = json.loads((root_of(data) / "dataset.json").read_text())
    names = content.get("channel_names") or content.get("modality")
    have = Counter(c.header.channels for c in usable if c.header is not None).most_common(1)[0][0]
    if isinstance(names, dict) and len(names) != have:
        yield _warning(
            "channel-names",
            f"dataset.json names {len(names)} channels, the images have {have}.",
            "Correct its modality or channel_names, or see whether channels are missing.",
        )


def group_hint(data: DataSettings, cases: Sequence[CaseFiles]) -> Iterator[Finding]:
    """Cases whose names say that they are of one patient or scene, and no group is set.

    Near-certain ones only: a name of which the part before the last number holds a number of its
    own (``patient07_scan2``, ``Amazon_5.tiff_50``), where several names share that part.
    """
    if data.group is not None:
        return
    stems: defaultdict[str, list[str]] = defaultdict(list)
    for files in cases:
        met = re.match(STEM, files.case)
        stems[met[1] if met else files.case].append(files.case)
    shared = {stem: found for stem, found in stems.items() if len(found) > 1}
    if not shared or len(stems) < LEAST_STEMS:
        return
    pattern = next((p for p in PATTERNS if _parts_alike(p, stems)), STEM)
    stem, found = max(shared.items(), key=lambda item: (len(item[1]), item[0]))
    yield _warning(
        "likely-groups",
        f"{sum(map(len, shared.values()))} of {len(cases)} cases share the beginning of their "
        f"name with others, {stem} with {len(found)} ({named(found)}), and data.group is not set: "
        "each case may go to another split.",
        f"If cases of one such name are of one patient or scene, set data.group to '{pattern}'.",
    )


def _parts_alike(pattern: str, stems: Mapping[str, Sequence[str]]) -> bool:
    """Whether a pattern puts cases into the same groups as their stems do."""
    pairs = [(stem, re.search(pattern, case)) for stem, cases in stems.items() for case in cases]
    if not all(met for _, met in pairs):
        return False
    groups = {(stem, met[1]) for stem, met in pairs if met}
    return len(groups) == len(stems) == len({group for _, group in groups})


def _warning(code: str, reason: str, remedy: str) -> Finding:
    return Finding(None, code, "warning", reason, remedy)
