"""Masks to find components in, ways to cut them, and whole-array answers."""

import numpy as np
from scipy import ndimage

from pipeline.components import apply, block_parts, grown_window, merge
from pipeline.space import aligned_windows

NO_LABEL = 255


def blobs(shape, classes=4, seed=0, smooth=1.0, nodata=0.0):
    """Noise, smoothed and thresholded: many components of many sizes."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=shape), smooth)
    levels = np.quantile(noise, np.linspace(0.55, 0.95, classes - 1))
    mask = np.digitize(noise, levels).astype(np.uint8)
    rim = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    mask[rim > np.quantile(rim, 1 - nodata)] = NO_LABEL
    return mask


def snake(shape):
    """A path one voxel wide that winds through the whole of the last two axes."""
    mask = np.zeros(shape, np.uint8)
    mask[..., ::2, :] = 1
    mask[..., 1::4, -1] = mask[..., 3::4, 0] = 1
    return mask


def hollow(shape):
    """A ball with a hole that holds a smaller ball with a hole; no block is likely to hold one."""
    places = np.indices(shape) - (np.array(shape).reshape(-1, *[1] * len(shape)) - 1) / 2
    radius = np.sqrt((places**2).sum(axis=0))
    rings = np.floor(radius * 8 / min(shape)).astype(int)
    return np.isin(rings, (0, 2)).astype(np.uint8)


def diagonal(shape):
    """Single voxels that meet by corners alone, and others that do not meet."""
    mask = np.zeros(shape, np.uint8)
    places = np.arange(min(shape))
    mask[(places,) * len(shape)] = 1
    mask[(places[::-1], *[places] * (len(shape) - 1))] = 2
    return mask


def brick_windows(shape, step):
    """Boxes of which every other row along the first axis is moved by half a step on the last."""
    windows, half = [], min(step[-1] // 2, shape[-1])
    for row, start in enumerate(range(0, shape[0], step[0])):
        inner = (min(step[0], shape[0] - start), *shape[1:])
        for box in aligned_windows(inner, step):
            moved = box.shifted((start, *(0,) * (len(shape) - 2), row % 2 * half))
            windows.append(moved.clipped(shape))
        if row % 2:
            for box in aligned_windows((*inner[:-1], half), step):
                windows.append(box.shifted((start, *(0,) * (len(shape) - 1))))
    return [box for box in windows if box.size]


def cut(mask, windows, background=0, truth=None, classes=4):
    """The parts of all blocks of a mask."""
    for window in windows:
        yield block_parts(
            mask[grown_window(window, mask.shape).slices],
            window,
            mask.shape,
            background=background,
            no_label=NO_LABEL,
            truth=None if truth is None else truth[window.slices],
            classes=classes,
        )


def found(mask, step=None, background=0, truth=None, classes=4):
    """The components of a mask cut into blocks of ``step``, or not cut."""
    windows = aligned_windows(mask.shape, step or mask.shape)
    return merge(mask.shape, cut(mask, windows, background, truth, classes))


def painted(mask, components, table, fill=None):
    """A whole volume of values of components."""
    table = np.asarray(table)
    whole = np.full(mask.shape, 77, table.dtype)
    for window in components.blocks:
        labels = mask[grown_window(window, mask.shape).slices]
        block = components.values(window, table)
        whole[window.slices] = apply(labels, block, no_label=NO_LABEL, fill=fill)
    return whole


def numbered(mask, background=0):
    """Component of each voxel by scipy on the whole array, -1 of no data."""
    whole, total = np.full(mask.shape, -1, np.int64), 0
    for label in np.unique(mask[mask != NO_LABEL]):
        reach = 1 if label == background else mask.ndim
        structure = ndimage.generate_binary_structure(mask.ndim, reach)
        parts, count = ndimage.label(mask == label, structure)
        whole[parts > 0] = parts[parts > 0] - 1 + total
        total += count
    held = whole >= 0
    present, first = np.unique(whole[held], return_index=True)
    rank = np.empty(total, np.int64)
    rank[present[np.argsort(first)]] = np.arange(total)
    whole[held] = rank[whole[held]]
    return whole


def is_outside(mask, region):
    """Whether a region reaches the array's border or voxels of no data, over faces."""
    around = np.pad(mask, 1, constant_values=NO_LABEL) == NO_LABEL
    return bool((ndimage.binary_dilation(np.pad(region, 1)) & around).any())
