"""Images whose channels lie in files of their own: bands of a scene, sequences of a scan."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

from pipeline.errors import CaseError
from pipeline.init.families import Family, File, gathered, natural, spelt, splits
from pipeline.init.values import holds_labels
from pipeline.io.discover import CASE
from pipeline.io.location import scratch
from pipeline.io.opening import open_origin
from pipeline.io.origin import one_file
from pipeline.io.readers import Source, case_id, difference

BAND = re.compile(
    r"(^|[^A-Za-z0-9])(B\d{1,2}A?(_\d+m)?|VV|VH|HH|HV|red|green|blue|nir|swir\d?)$",
    re.IGNORECASE,
)
"""What ends so is a band's name."""
CHANNEL = re.compile(r"_000\d")
"""nnU-Net's number of a channel; of images alone it could number frames as well."""


def is_band(family: Family) -> bool:
    """Whether a family's name is that of a band or channel."""
    stem = _stem(family)
    return BAND.search(stem) is not None or CHANNEL.fullmatch(stem) is not None


def _stem(family: Family) -> str:
    return case_id(Path(family.parts[-1])).replace(CASE, "")


def band_families(files: Sequence[File]) -> list[Family]:
    """Files that are all bands, by their names, in the order of the bands; else none."""
    seen = []
    for file in files:
        name = file.path.name
        if BAND.fullmatch(file.stem) and file.folder.parts:
            *above, case = file.folder.parts
            seen.append(("/".join((*above, CASE, name)), case, file.path))
            continue
        tails = [split for split in splits(file.stem) if split[2] and BAND.fullmatch(split[2])]
        if not tails:
            return []
        _, case, after = min(tails, key=lambda split: len(split[1]))
        folders = [CASE if part == case else part for part in file.folder.parts]
        seen.append(("/".join((*folders, f"{CASE}{after}{file.suffix}")), case, file.path))
    families = sorted(gathered(seen), key=lambda family: natural(family.pattern))
    return families if len(families) > 1 else []


def full(family: Family) -> str:
    """A pattern for people: with the suffix, also where it tells nothing."""
    return spelt(family, [family]).pattern


def alike(families: Sequence[Family]) -> tuple[list[Family], list[str], list[str]]:
    """Families whose files can be channels of one image, judged by one case.

    Returns:
        Those families, what is left out and why, and the element type of each.
    """
    if len(families) == 1:
        return list(families), [], []
    cases = set.intersection(*(set(family.files) for family in families))
    with scratch() as folder:
        opened, left_out = _opened(families, min(cases, default=""), folder)
        if not opened:
            return list(families), [], []
        finest = max((source.grid for _, source in opened), key=lambda grid: prod(grid.shape))
        taken = [(f, str(s.dtype)) for f, s in opened if difference(finest, s.grid) is None]
        kept = {family.pattern for family, _ in taken}
        left_out += [f"{full(f)} (on another grid)" for f, _ in opened if f.pattern not in kept]
    return [family for family, _ in taken], left_out, [dtype for _, dtype in taken]


def _opened(
    families: Sequence[Family], case: str, folder: Path
) -> tuple[list[tuple[Family, Source]], list[str]]:
    """A file of each family, open, and the families that cannot be of images."""
    opened: list[tuple[Family, Source]] = []
    left_out: list[str] = []
    for family in families:
        origin = one_file(family.files.get(case) or next(iter(family.files.values())))
        if not is_band(family) and holds_labels(origin):
            left_out.append(f"{full(family)} (looks like masks)")
            continue
        try:
            opened.append((family, open_origin(origin, "image", folder)))
        except CaseError:
            left_out.append(f"{full(family)} (cannot be read)")
    return opened, left_out
