"""Masks of scenes, volumes and pictures as predicting leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rasterio.crs import CRS

from pipeline.export.case import Export
from pipeline.io.companion_store import Companion, CompanionWriter
from pipeline.io.mask_store import MaskSpec, MaskStore, MaskWriter, mask_windows
from pipeline.io.ngff import LabelClass
from pipeline.space import Grid, voxel_grid
from pipeline.space.grid import as_affine

NAMES = ("background", "forest", "water & ice", "town")
PROVENANCE = {
    "run": "amazon",
    "model": {"id": "unet-0123456789", "weights_sha256": "0" * 64},
    "versions": {"segflow": "1.0"},
    "sources": [{"path": "a.tif", "role": "image", "sha256": "1" * 64}],
    "volume": "volume-key",
}


def scene_grid(
    shape: tuple[int, int],
    crs: str = "EPSG:32633",
    origin: tuple[float, float] = (499_980.3, 5_300_040.7),
    step: tuple[float, float] = (10.0, -10.0),
) -> Grid:
    """A north-up scene."""
    (x, y), (dx, dy) = origin, step
    system = CRS.from_string(crs)
    unit = "degree" if system.is_geographic else "meter"
    affine = as_affine([[0, dx, x], [dy, 0, y], [0, 0, 1]])
    return Grid(shape, affine, unit, system.to_wkt(), "corner")


def write_mask(
    path: Path,
    labels: np.ndarray,
    grid: Grid | None = None,
    *,
    names: tuple[str, ...] = NAMES,
    background: bool = True,
    target: str | None = None,
    key: str = "key",
) -> Path:
    """A mask store of labels, or of numbers."""
    classes = tuple(
        LabelClass(label, name, background and label == 0) for label, name in enumerate(names)
    )
    grid = grid or voxel_grid(labels.shape)
    spec = MaskSpec(grid, () if target else classes, key, PROVENANCE, target)
    writer = MaskWriter.create(path, spec)
    for window in mask_windows(labels.shape, spec.dtype):
        writer.write(window, labels[window.slices].astype(spec.dtype))
    writer.finish()
    return path


def write_objects(mask: Path, numbers: np.ndarray) -> None:
    """Object numbers beside a mask."""
    store = MaskStore(mask)
    names = store.attributes["classes"]
    classes = tuple(LabelClass(label, name) for name, label in names.items())
    companion = Companion.objects()
    spec = MaskSpec(store.grid, classes, store.key, {})
    writer = CompanionWriter.create(companion, companion.path(mask), spec)
    for window in mask_windows(numbers.shape, spec.dtype):
        writer.write(window, numbers[window.slices].astype(np.uint32))
    writer.finish()


def export_of(mask: Path, target: Path, **more: object) -> Export:
    """What an exporter is given of a mask."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return Export(MaskStore(mask), target, **more)  # type: ignore[arg-type]


def blobs(shape: tuple[int, ...], classes: int = 4, seed: int = 0, coarse: int = 7) -> np.ndarray:
    """Random regions with some holes, and corners that touch."""
    random = np.random.default_rng(seed)
    small = tuple(-(-n // coarse) for n in shape)
    labels = random.integers(0, classes, small, dtype=np.uint8)
    for axis in range(len(shape)):
        labels = labels.repeat(coarse, axis)
    labels = labels[tuple(slice(0, n) for n in shape)].copy()
    speckles = random.random(shape) < min(0.05, 500 / np.prod(shape))
    labels[speckles] = random.integers(0, classes, int(speckles.sum()), dtype=np.uint8)
    return labels
