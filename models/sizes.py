"""Which input sizes a U-Net takes and what it gives back: arithmetic on settings, no tensors."""

from collections.abc import Iterable, Sequence
from itertools import count

from models.settings import UNetSettings

Shape = tuple[int, ...]


def output_size(settings: UNetSettings, axis: int, size: int) -> int | None:
    """Give the output's size along one axis.

    Args:
        settings: The network.
        axis: Spatial axis, from 0.
        size: Input voxels along it.

    Returns:
        Output voxels along it; None where the input does not divide evenly at every stage, so
        that the way up would not meet the way down.
    """
    if settings.padding == "same":
        return size if size > 0 and size % settings.total_stride[axis] == 0 else None
    bottom = _size_at_bottom(settings, axis, size)
    return None if bottom is None else _size_at_top(settings, axis, bottom)


def _size_at_bottom(settings: UNetSettings, axis: int, size: int) -> int | None:
    strided = settings.downsampling == "strided"
    for kernels, strides in zip(settings.kernels, settings.strides, strict=True):
        kernel, stride = kernels[axis], strides[axis]
        # An unpadded strided convolution gives (size - kernel) / stride + 1.
        whole = size - (kernel - stride if strided else 0)
        unstrided_convs = settings.convs_per_stage - (1 if strided else 0)
        size = whole // stride - (kernel - 1) * unstrided_convs
        if whole % stride or size < 1:
            return None
    return size


def _size_at_top(settings: UNetSettings, axis: int, size: int) -> int | None:
    for kernels, strides in zip(settings.kernels[-2::-1], settings.strides[:0:-1], strict=True):
        size = size * strides[axis] - (kernels[axis] - 1) * settings.convs_per_stage
        if size < 1:
            return None
    return size


def output_shape(settings: UNetSettings, shape: Sequence[int]) -> Shape | None:
    """Give the output's spatial shape for an input's, (Z, Y, X) or (Y, X); None where none fits.

    Example:
        >>> unet = UNetSettings(ndim=2, in_channels=1, out_channels=2, features=(8, 16),
        ...                     strides=((1, 1), (2, 2)), kernels=((3, 3), (3, 3)))
        >>> output_shape(unet, (64, 62)), output_shape(unet, (64, 63))
        ((64, 62), None)
    """
    sizes = [output_size(settings, axis, size) for axis, size in enumerate(shape)]
    fitting = tuple(size for size in sizes if size is not None)
    return fitting if len(fitting) == len(sizes) else None


def fitting_shape(settings: UNetSettings, at_least: Sequence[int]) -> Shape:
    """Give the smallest input shape that fits and is nowhere smaller than ``at_least``."""
    sizes = (_first_fitting(settings, axis, count(size)) for axis, size in enumerate(at_least))
    # count() never ends and sizes that fit recur every total stride, so None cannot come out.
    return tuple(size for size in sizes if size is not None)


def misfit(settings: UNetSettings, shape: Sequence[int]) -> str:
    """Say, for an input shape that does not fit, which shapes do."""
    below = [_first_fitting(settings, axis, range(n, 0, -1)) for axis, n in enumerate(shape)]
    near = [fitting_shape(settings, shape)]
    if None not in below:
        near.insert(0, tuple(size for size in below if size is not None))
    return (
        f"input is {tuple(shape)} voxels; sizes that fit this network grow in steps of its total "
        f"stride {settings.total_stride}: pad or crop to {' or '.join(map(str, near))}"
    )


def _first_fitting(settings: UNetSettings, axis: int, sizes: Iterable[int]) -> int | None:
    return next((n for n in sizes if output_size(settings, axis, n) is not None), None)
