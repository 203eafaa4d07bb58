"""Where training patches are cut: classes in turn, where there is data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from pathlib import Path

import numpy as np

from pipeline.io.manifest import ManifestRow
from pipeline.io.volume_store import VolumeStore
from pipeline.patches.settings import PatchSettings
from pipeline.plan_file import Plan
from pipeline.planned_case import PlannedCase
from pipeline.space import Shape, Window

MOST_DRAWS = 16
"""Places tried for a patch that holds too little data; of as many the best is taken."""


@dataclass(frozen=True)
class Placement:
    """Where one patch is cut."""

    case: str
    """Case id."""
    store: Path
    """Its volume store."""
    window: Window
    """The box of the planned grid, which may reach past the volume."""


def class_cases(rows: Sequence[ManifestRow], volumes: Path) -> Counter[int]:
    """How many cases have voxels of each class."""
    found: Counter[int] = Counter()
    for row in rows:
        counts = VolumeStore(volumes / row.store).statistics["class_voxels"]
        found.update(label for label, voxels in enumerate(counts) if voxels)
    return found


def place_patches(
    row: ManifestRow,
    volumes: Path,
    plan: Plan,
    settings: PatchSettings,
    shape: Shape,
    cases: Mapping[int, int],
) -> list[Placement]:
    """Place a case's patches; none where it has no labelled voxel.

    Args:
        row: The case.
        volumes: Folder of the stores.
        plan: What the network labels of a patch.
        settings: How patches are placed.
        shape: Voxels of a stored patch.
        cases: How many cases have voxels of each class.
    """
    store = VolumeStore(volumes / row.store)
    counts = np.array(store.statistics["class_voxels"], dtype=np.float64)
    if counts.sum() == 0:
        return []
    positions = store.statistics["positions"]
    random = np.random.default_rng([settings.seed, *_seed(row.id)])
    labels = [int(k) for k in np.flatnonzero(counts)]
    present = [k for k in labels if k != plan.background] or labels
    in_turn = _in_turn({k: 1 / cases[k] for k in present})
    case = PlannedCase.of(store, plan)
    whole = store.statistics["valid_voxels"] == prod(store.grid.shape)
    placements = []
    labelled = tuple(n - 2 * m for n, m in zip(plan.patch_shape, plan.margin, strict=True))
    spared = tuple(n - 2 * m for n, m in zip(shape, plan.margin, strict=True))
    number = settings.per_case or _cover(case.shape, labelled)
    for i in range(number):
        if (i + 0.5) / number < settings.foreground:
            label = next(in_turn)
        else:
            label = int(random.choice(len(counts), p=counts / counts.sum()))
        tried: list[tuple[float, Window]] = []
        for _ in range(MOST_DRAWS):
            voxel = positions[label][random.integers(len(positions[label]))]
            seen = case.resampling.planned_voxel(voxel)
            window = _window_around(seen, spared, labelled, case.shape, random)
            share = 0.0 if whole else _nodata_share(case, _middle(window, labelled))
            tried.append((share, window))
            if share <= settings.max_nodata:
                break
        window = min(tried, key=lambda found: found[0])[1]
        window = window.grown(plan.margin)  # an unpadded network looks past the volume
        placements.append(Placement(row.id, store.path, window))
    return placements


def _in_turn(weights: Mapping[int, float]) -> Iterator[int]:
    """Classes without end, each as often as it weighs (D'Hondt); equal ones take turns.

    A class weighs the more the fewer cases have it: by turns alone, one that a tenth of the cases
    has would be a tenth as often in the patches as the others.
    """
    given = dict.fromkeys(weights, 0)
    while True:
        label = max(weights, key=lambda k: weights[k] / (given[k] + 1))
        given[label] += 1
        yield label


def _middle(window: Window, inner: Shape) -> Window:
    """The part of a window that the network labels."""
    sizes = zip(window.start, window.shape, inner, strict=True)
    return Window(tuple(a + (n - p) // 2 for a, n, p in sizes), inner)


def _nodata_share(case: PlannedCase, window: Window) -> float:
    """Share of a window's voxels inside the volume that hold no data."""
    return 1 - float(case.volume.read_valid(window.clipped(case.shape)).mean())


def _cover(shape: Shape, patch: Shape) -> int:
    return int(min(64, max(4, np.ceil(4 * prod(shape) / prod(patch)))))


def _seed(case: str) -> list[int]:
    return list(sha256(case.encode()).digest()[:8])


def _window_around(
    voxel: Sequence[int], shape: Shape, inner: Shape, volume: Shape, random: np.random.Generator
) -> Window:
    """A window whose middle part, what the network labels of it, holds the voxel somewhere.

    It stays inside the volume where the volume is large enough, and is centred on it where not.
    """
    start = []
    for v, n, p, size in zip(voxel, shape, inner, volume, strict=True):
        margin = (n - p) // 2
        a = v - margin - int(random.integers(p))
        start.append(min(max(a, 0), size - n) if size >= n else -((n - size) // 2))
    return Window(tuple(start), shape)
