"""Which input sizes a network takes and what it gives back: arithmetic on settings, no tensors."""

from collections.abc import Iterable, Sequence
from itertools import count
from math import prod

from models.base import NetworkSettings, Shape


def output_shape(settings: NetworkSettings, shape: Sequence[int]) -> Shape | None:
    """Give the output's spatial shape for an input's, (Z, Y, X) or (Y, X); None where none fits.

    Example:
        >>> from models.settings import UNetSettings
        >>> unet = UNetSettings(ndim=2, in_channels=1, out_channels=2, features=(8, 16),
        ...                     strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)))
        >>> output_shape(unet, (64, 62)), output_shape(unet, (64, 63))
        ((64, 62), None)
    """
    sizes = [settings.output_size(axis, size) for axis, size in enumerate(shape)]
    fitting = tuple(size for size in sizes if size is not None)
    if len(fitting) < len(sizes) or bottom_voxels(settings, shape) < settings.least_bottom:
        return None
    return fitting


def bottom_voxels(settings: NetworkSettings, shape: Sequence[int]) -> int:
    """Give the voxels of the coarsest feature map for an input's shape; 0 where it does not fit."""
    return prod([settings.bottom_size(axis, size) or 0 for axis, size in enumerate(shape)])


def fitting_shape(settings: NetworkSettings, at_least: Sequence[int]) -> Shape:
    """Give the smallest input shape that fits and is nowhere smaller than ``at_least``.

    Where every axis fits but the coarsest feature map would be too small a sample, the last axis
    grows.
    """
    shape = [_next_fitting(settings, axis, size) for axis, size in enumerate(at_least)]
    while output_shape(settings, shape) is None:
        shape[-1] = _next_fitting(settings, len(shape) - 1, shape[-1] + 1)
    return tuple(shape)


def margins(settings: NetworkSettings) -> Shape:
    """Give the voxels that the output lacks on each side; zeros for a padded network.

    They are the same for every input that fits.

    Example:
        >>> from models.presets import preset
        >>> margins(preset("unet-2015", 2, 1, 2))
        (92, 92)
    """
    least = fitting_shape(settings, (1,) * settings.ndim)
    output = output_shape(settings, least) or least
    return tuple((n - m) // 2 for n, m in zip(least, output, strict=True))


def misfit(settings: NetworkSettings, shape: Sequence[int]) -> str:
    """Say, for an input shape that does not fit, which shapes do."""
    below = [_first_fitting(settings, axis, range(n, 0, -1)) for axis, n in enumerate(shape)]
    near = [fitting_shape(settings, shape)]
    smaller = tuple(size for size in below if size is not None)
    if len(smaller) == len(below) and output_shape(settings, smaller) is not None:
        near.insert(0, smaller)
    return (
        f"input is {tuple(shape)} voxels; sizes that fit this network grow in steps of its total "
        f"stride {settings.total_stride}: pad or crop to {' or '.join(map(str, near))}"
    )


def _next_fitting(settings: NetworkSettings, axis: int, size: int) -> int:
    # count() never ends and sizes that fit recur every total stride.
    return next(n for n in count(size) if settings.output_size(axis, n) is not None)


def _first_fitting(settings: NetworkSettings, axis: int, sizes: Iterable[int]) -> int | None:
    return next((n for n in sizes if settings.output_size(axis, n) is not None), None)
