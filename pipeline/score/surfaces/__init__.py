"""Distances between the surfaces of masks and truths that may be larger than memory.

Surface voxels are found box by box (``voxels``) and held as indices; of each the nearest one of
the other surface is looked up (``nearest``); how often each distance occurs (``counted``) says
HD95, mean and surface Dice (``figures``).
"""

from pipeline.score.surfaces.figures import SurfaceDistances
from pipeline.score.surfaces.streaming import surface_distances

__all__ = ["SurfaceDistances", "surface_distances"]
