"""Builders of grids and resamplings, and whole volumes resampled."""

import numpy as np

from pipeline.space import (
    Grid,
    Resampling,
    Volume,
    Window,
    crop,
    resample_image,
    resample_labels,
    voxel_grid,
)
from pipeline.space.grid import as_affine

NO_LABEL = 255


def scan(shape, spacing):
    matrix = np.eye(len(shape) + 1)
    matrix[:-1, :-1] = np.fliplr(np.diag(spacing[::-1]))
    return Grid(shape, as_affine(matrix), "millimeter")


def to_shape(shape, target, orders=None, antialias=False):
    """A resampling of voxels without a place from one shape to another."""
    spacing = tuple(n / m for n, m in zip(shape, target, strict=True))
    made = Resampling.to_spacing(voxel_grid(shape), spacing, orders, antialias)
    assert made.planned.shape == target
    return made


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def image(array, resampling, valid=None):
    """The whole image resampled: voxels and validity."""
    whole = Window.whole(resampling.planned.shape)
    volume = crop(Volume(array, resampling.native, valid), resampling.native_window(whole))
    result = resample_image(volume, resampling, whole)
    return result.array, result.valid


def labels(array, resampling):
    whole = Window.whole(resampling.planned.shape)
    read = array[resampling.native_window(whole).slices]
    return resample_labels(read, resampling, whole, NO_LABEL)
