"""Large files of plausible content, made in slabs."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import rasterio
from isal import igzip
from PIL import Image

PLANE = 1024
"""Side of a plane of the large volumes and scenes' blocks, voxels."""


def slab(depth: int, seed: int) -> np.ndarray:
    """Smooth shapes and 12-bit noise, (depth, PLANE, PLANE) int16: compresses like a CT scan."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:PLANE, :PLANE] / PLANE
    shape = 800 * np.sin(7 * x + seed) * np.cos(5 * y)
    noise = random.integers(-40, 40, (PLANE, PLANE), dtype=np.int16)
    body = np.where((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.2, shape, -1000).astype(np.int16)
    return np.stack([body + np.roll(noise, 37 * z, axis=1) for z in range(depth)])


def write_nifti(path: Path, gib: float, *, zipped: bool) -> Path:
    """An int16 volume of about ``gib`` GiB, planes of 1024 x 1024."""
    depth = round(gib * 2**30 / (2 * PLANE**2))
    header = nib.Nifti1Header()
    header.set_data_shape((PLANE, PLANE, depth))
    header.set_data_dtype(np.int16)
    header.set_sform(np.diag([0.5, 0.5, 0.5, 1]), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    with igzip.open(path, "wb", compresslevel=1) if zipped else path.open("wb") as file:
        file.write(header.binaryblock + bytes(4))
        for first in range(0, depth, 64):
            file.write(slab(min(64, depth - first), first).tobytes())
    return path


def write_scene(path: Path, gib: float) -> Path:
    """A tiled, deflated GeoTIFF of two int16 bands, about ``gib`` GiB of pixels."""
    width = 16 * PLANE
    height = round(gib * 2**30 / (4 * width) / PLANE) * PLANE
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
    tiles = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
    size = {"width": width, "height": height, "count": 2, "dtype": "int16", "zlevel": 1}
    with rasterio.open(
        path, "w", driver="GTiff", num_threads=2, **size, **tiles, **place
    ) as raster:
        for row in range(0, height, PLANE):
            strip = slab(16, row).transpose(1, 0, 2).reshape(PLANE, width)
            window = rasterio.windows.Window(0, row, width, PLANE)
            raster.write(np.stack([strip, strip[:, ::-1]]), window=window)
    return path


def write_pictures(root: Path, count: int) -> Path:
    """Pairs of 128 x 128 pictures and masks."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (64, 128, 128), dtype=np.uint8)
    for number in range(count):
        image = np.roll(pixels[number % 64], number, axis=0)
        Image.fromarray(image).save(root / "images" / f"{number:05}.png")
        Image.fromarray((image > 127).astype(np.uint8)).save(root / "masks" / f"{number:05}.png")
    return root
