"""Where images lie: systems, resolutions, spacings and directions that differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from pipeline.ingest.checking.compared import Compared
from pipeline.ingest.checking.findings import Finding, kinds, named, of_all, shares
from pipeline.io.readers.geo.crs import same_crs
from pipeline.space import Grid

RESOLUTION_RATIO = 1.25
SPACING_RATIO = 3.0


def crs(found: Compared) -> Iterator[Finding]:
    """Scenes of several coordinate reference systems."""
    scenes: dict[str | None, list[str]] = {}
    for case, header in found.headers:
        crs = header.grid.crs
        same = (k for k in scenes if k == crs or (k and crs and same_crs(k, crs)))
        scenes.setdefault(next(same, crs), []).append(case)
    if len(scenes) < 2:
        return
    ordered = sorted(scenes.items(), key=lambda item: -len(item[1]))
    said = shares([(crs_name(crs), cases) for crs, cases in ordered])
    yield of_all(
        "crs-differs",
        "warning",
        f"the scenes are in {len(scenes)} coordinate reference systems: {said}.",
        "Reproject the odd ones, unless it is meant so (UTM zones).",
    )


def crs_name(crs: str | None) -> str:
    """What a coordinate reference system is called, from its WKT.

    Example:
        >>> crs_name('GEOGCS["WGS 84",DATUM["WGS_1984"]]')
        'WGS 84'
    """
    return "none" if crs is None else crs.split('"')[1] if '"' in crs else crs


def resolution(found: Compared) -> Iterator[Finding]:
    """Scenes finer or coarser than most."""
    by_unit: defaultdict[str | None, list[tuple[str, Grid]]] = defaultdict(list)
    for case, header in found.headers:
        if header.grid.crs is not None:
            by_unit[header.grid.unit].append((case, header.grid))
    for unit, scenes in by_unit.items():
        # Degrees of longitude shrink towards the poles, those of latitude do not.
        sides = slice(1) if unit == "degree" else slice(None)
        sizes = np.array([grid.spacing[sides] for _, grid in scenes])
        usual = np.median(sizes, axis=0)
        ratio = np.maximum(sizes / usual, usual / sizes).max(axis=1)
        odd = [scenes[n] for n in np.flatnonzero(ratio > RESOLUTION_RATIO)]
        if odd:
            one = odd[0][1]
            yield of_all(
                "resolution-differs",
                "warning",
                f"the resolution of {len(odd)} of {len(scenes)} scenes is not that of most, "
                f"{one.measured(*usual)}: {named([case for case, _ in odd])}, the first with "
                f"{one.measured(*one.spacing[sides])}.",
                "Resample the odd ones, or make them a dataset of their own.",
            )


def spacing(found: Compared) -> Iterator[Finding]:
    """Scans of very different spacing."""
    scans = [h.grid for _, h in found.headers if h.grid.unit == "millimeter"]
    if not scans:
        return
    sizes = np.array([grid.spacing for grid in scans])
    low, high = sizes.min(axis=0), sizes.max(axis=0)
    if np.any(high > SPACING_RATIO * low):
        yield of_all(
            "spacing-varies",
            "note",
            f"the spacing of the scans goes from {scans[0].measured(*low)} to "
            f"{scans[0].measured(*high)} (z, y, x).",
            "Keep scans apart that are too coarse to show what is marked.",
        )


def orientation(found: Compared) -> Iterator[Finding]:
    """Arrays whose axes run elsewhere than most."""
    said = kinds((case, header.grid.orientation) for case, header in found.headers)
    if said:
        yield of_all(
            "orientation-differs",
            "warning",
            f"the arrays' axes do not run alike: {said}.",
            "Turn all images and masks the same way: voxels are learnt as they are stored.",
        )
