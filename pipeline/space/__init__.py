"""Where voxels are: windows, grids, tilings and blending weights."""

from pipeline.space.blending import gaussian_weights
from pipeline.space.grid import Grid, voxel_grid
from pipeline.space.resample import resample_image, resample_labels, resample_valid
from pipeline.space.resampling import Resampling
from pipeline.space.tiling import HaloTile, aligned_windows, halo_tiles, tile_windows
from pipeline.space.volume import Volume, crop
from pipeline.space.window import Shape, Window

__all__ = [
    "Grid",
    "HaloTile",
    "Resampling",
    "Shape",
    "Volume",
    "Window",
    "aligned_windows",
    "crop",
    "gaussian_weights",
    "halo_tiles",
    "resample_image",
    "resample_labels",
    "resample_valid",
    "tile_windows",
    "voxel_grid",
]
