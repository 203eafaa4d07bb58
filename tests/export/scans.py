"""Masks of scans as predicting leaves them, and what exporting makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.export import ExportSettings, export
from pipeline.io.mask_store import MaskSpec, MaskStore, MaskWriter, mask_windows
from pipeline.io.ngff import LabelClass
from pipeline.space import Grid
from pipeline.space.grid import as_affine

NAMES = ("background", "liver", "<script>alert(1)</script>")
TURNED = np.array([[0.8, 0.6, 0.0], [-0.36, 0.48, 0.8], [0.48, -0.64, 0.6]])
"""A rotation without rounding."""


def scan_grid(shape: tuple[int, ...], affine: np.ndarray | None = None) -> Grid:
    """The grid of an array (Z, Y, X) whose affine leads from (x, y, z) to RAS+ millimetres."""
    if affine is None:
        affine = np.eye(4)
        affine[:3, :3] = TURNED * (0.5, 0.75, 2.5)
        affine[:3, 3] = -12.5, 40.25, 7.125
    return Grid(shape, as_affine(affine[:, [2, 1, 0, 3]]), "millimeter")


def labels_of(shape: tuple[int, ...], classes: int = 3, nodata: int = 255) -> np.ndarray:
    """Labels of every class, and a corner without data."""
    labels = np.random.default_rng(5).integers(0, classes, shape).astype(np.uint8)
    labels[0, :2] = nodata
    return labels


def write_mask(
    path: Path,
    values: np.ndarray,
    grid: Grid | None = None,
    *,
    names: tuple[str, ...] = NAMES,
    background: bool = True,
    target: str | None = None,
    **provenance: Any,
) -> Path:
    """A mask store of labels, or of numbers."""
    classes = tuple(LabelClass(n, name, background and n == 0) for n, name in enumerate(names))
    about = {
        "run": "hippo",
        "model": {"id": "unet-0123456789", "weights_sha256": "ab" * 32},
        "versions": {"segflow": "0.1.0"},
        **provenance,
    }
    spec = MaskSpec(
        grid or scan_grid(values.shape), () if target else classes, "key", about, target
    )
    writer = MaskWriter.create(path, spec)
    for window in mask_windows(values.shape, spec.dtype):
        writer.write(window, values[window.slices].astype(spec.dtype))
    writer.finish()
    return path


def exported(mask: Path, out: Path, to: Any, **settings: Any) -> Path:
    """Export one mask in this process; give the file."""
    done = export(mask, out, ExportSettings(to, **settings))
    assert out in done.files and not done.refused
    return out


def grid_of(mask: Path) -> Grid:
    """Where a mask store says that it is."""
    return MaskStore(mask).grid


def some_points(shape: tuple[int, ...], count: int = 50) -> np.ndarray:
    """Random indices of an array, in its own order."""
    return np.random.default_rng(2).integers(0, shape, (count, len(shape)))
