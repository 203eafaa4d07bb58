"""A small regression: scenes of two bands, and heights that follow from them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from pipeline.io.dataset import DataSettings
from pipeline.io.manifest import read_manifest
from pipeline.io.mask_store import MaskSpec, MaskWriter, mask_windows
from pipeline.io.volume_store import VolumeStore
from pipeline.model_file import read_card
from pipeline.plan_file import Plan
from tests.trained import small_plan, write_model

MARK = -9999.0
"""Stands in the masks where no height was measured."""


def smooth(random: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    noise = gaussian_filter(random.normal(size=shape), sigma)
    return (noise - noise.mean()) / noise.std()


def scene(seed: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Bands, (2, Y, X) uint16, 0 in a corner that was not seen, and heights, (Y, X) float32."""
    random = np.random.default_rng([7, seed])
    a, b = smooth(random, shape, 9), smooth(random, shape, 4)
    heights = 30 + 12 * a + 4 * a * b + 2 * b**2
    noise = random.normal(0, 12, (2, *shape))
    bands = np.clip(np.stack([1500 + 400 * a, 900 + 250 * b]) + noise, 1, 65535)
    if seed % 3 == 0:
        bands[:, : shape[0] // 5, : shape[1] // 5] = 0
    return np.rint(bands).astype(np.uint16), heights.astype(np.float32)


def with_gaps(heights: np.ndarray) -> np.ndarray:
    """Heights with a strip that was not measured, and a few voxels of NaN."""
    gaps = heights.copy()
    gaps[-9:, 5:40] = MARK
    gaps[3, -7:] = np.nan
    return gaps


def make_heights(
    root: Path,
    write_scene: Callable[..., Path],
    cases: int = 6,
    shape: tuple[int, int] = (96, 112),
    **changes: Any,
) -> DataSettings:
    """Write the dataset and give its settings."""
    for number in range(cases):
        bands, heights = scene(number, shape)
        write_scene(root / "images" / f"tile_{number}.tif", bands, nodata=0)
        masks = with_gaps(heights)[None]
        write_scene(root / "heights" / f"tile_{number}.tif", masks, nodata=MARK)
    fields = {"root": str(root), "layout": "pairs", "masks": "heights"}
    return DataSettings(**fields, task="regression", target="height", **changes)


def truth_of(number: int, shape: tuple[int, int] = (96, 112)) -> np.ndarray:
    """What a volume store should hold of a case: heights, NaN where none or no image."""
    bands, heights = scene(number, shape)
    gaps = with_gaps(heights)
    gaps[gaps == MARK] = np.nan
    gaps[(bands == 0).all(axis=0)] = np.nan
    return gaps


def height_plan(channels: int = 2) -> Plan:
    """A plan of a small network that predicts heights."""
    plan = small_plan(2, channels).model_dump()
    plan |= {"classes": (), "target": {"name": "height", "mean": 30.0, "std": 12.0}}
    plan |= {"loss": {"kind": "smooth_l1"}, "network": plan["network"] | {"out_channels": 1}}
    return Plan.model_validate(plan)


def write_heights(final: Path, volume: VolumeStore, values: np.ndarray) -> None:
    """Write a mask of heights as a prediction would be."""
    provenance = {"sources": volume.sources, "volume": volume.key}
    spec = MaskSpec(volume.grid, (), "key", provenance, target="height")
    writer = MaskWriter.create(final, spec)
    for window in mask_windows(values.shape, "float32"):
        writer.write(window, values[window.slices].astype(np.float32))
    writer.finish()


def predicted(root: Path, noise: float = 4.0) -> Path:
    """Masks of all cases of a run: heights where the image has data, wrong by noise."""
    model = write_model(root, height_plan())
    folder = root / "predictions" / read_card(model).model_id
    for row in read_manifest(root / "manifest.jsonl"):
        volume = VolumeStore(root / "volumes" / row.store)
        number = int(row.id.removeprefix("tile_"))
        bands, heights = scene(number, volume.grid.shape)
        random = np.random.default_rng(number)
        # The higher the number the worse, so that cases have an order.
        values = heights + random.normal(0.3, noise * (1 + number), heights.shape)
        values[(bands == 0).all(axis=0)] = np.nan
        write_heights(folder / row.store, volume, values)
    return folder
