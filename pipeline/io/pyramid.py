"""A multiscale in a store: its levels created, filled while voxels are written, and completed."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray

from pipeline.io import ngff
from pipeline.io.downsample import Reduce, downsample
from pipeline.io.layout import Boxes, Layout, choose_layout
from pipeline.io.store import CODECS, array_at, create_array, write_shape
from pipeline.space import Grid, Shape, Window, aligned_windows

OVERVIEW_VOXELS = 16 * 2**20


@dataclass(frozen=True)
class PyramidSpec:
    """A multiscale array to create."""

    array: str | None
    """Array name inside each level's group, ``image`` or ``mask``; None: a level is the array
    itself, without coordinates."""
    grid: Grid
    """Grid of the full-size level."""
    dtype: DTypeLike
    """Element type."""
    channels: int | None
    """Size of the leading channel axis; None: there is none."""
    fill_value: float
    """What Zarr returns for voxels never written."""
    reduce: Reduce
    """How a coarser level follows from the finer: mean for intensities, mode for labels."""
    attributes: dict[str, Any]
    """Attributes of each level's array."""
    boxes: Boxes | None = None
    """How the two finest levels are cut; None: as ``choose_layout`` says, like the others."""

    def layout(self, level: int, grid: Grid, factors: Shape) -> Layout:
        """How a level's array is cut."""
        if self.boxes is not None and level < 2:
            return self.boxes.coarser(factors).layout(self.channels, self.dtype)
        lead = () if self.channels is None else (self.channels,)
        return choose_layout((*lead, *grid.shape), self.dtype, channels=self.channels is not None)


def create_pyramid(group: zarr.Group, spec: PyramidSpec) -> None:
    """Write the metadata of every level; no voxel yet.

    Args:
        group: Group that becomes the multiscale; its ``ome`` attribute is the caller's.
        spec: What to create.
    """
    for level, factors in enumerate(ngff.pyramid_factors(spec.grid)):
        grid = spec.grid.coarser(factors)
        layout = spec.layout(level, grid, factors)
        if spec.array is None:
            _create_voxels(group, str(level), spec, grid, layout, {})
        else:
            _create_level(group.create_group(str(level)), spec.array, spec, grid, layout)


def _create_voxels(
    group: zarr.Group,
    name: str,
    spec: PyramidSpec,
    grid: Grid,
    layout: Layout,
    mapping: dict[str, Any],
) -> None:
    lead = () if spec.channels is None else (spec.channels,)
    create_array(
        group,
        name,
        (*lead, *grid.shape),
        spec.dtype,
        grid.axes if spec.channels is None else ("c", *grid.axes),
        spec.fill_value,
        layout,
        attributes={**spec.attributes, **mapping},
    )


def _create_level(
    group: zarr.Group, name: str, spec: PyramidSpec, grid: Grid, layout: Layout
) -> None:
    reference = ngff.spatial_ref(grid)
    mapping = {} if reference is None else {"grid_mapping": "spatial_ref"}
    _create_voxels(group, name, spec, grid, layout, mapping)
    for axis, values in ngff.coordinates(grid).items():
        line = group.create_array(
            axis,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            compressors=CODECS,
            dimension_names=[axis],
            attributes=ngff.coordinate_attributes(grid, axis),
        )
        line[:] = values
    if reference is not None:
        scalar = group.create_array("spatial_ref", shape=(), dtype="int64", dimension_names=[])
        scalar.attrs.update(reference)
        scalar[...] = np.int64(0)


def build_pyramid(group: zarr.Group, array: str | None, reduce: Reduce, first: int = 1) -> None:
    """Fill the coarser levels, shard by shard, each from the one before.

    Args:
        group: The multiscale.
        array: Array name inside each level's group; None: a level is the array itself.
        reduce: How a coarser level follows from the finer.
        first: The finest level to fill.
    """
    level = first
    while str(level) in group:
        fine, coarse = (array_at(group, ngff.level_path(n, array)) for n in (level - 1, level))
        n = sum(name != "c" for name in _axes(coarse))
        for window in aligned_windows(coarse.shape[-n:], write_shape(coarse)[-n:]):
            for channels in _channel_groups(coarse, n):
                values = _reduced(fine, coarse, channels, window, reduce)
                coarse[(*channels, *window.slices)] = values
        level += 1


def _channel_groups(array: zarr.Array[Any], n: int) -> list[tuple[slice, ...]]:
    """The channel axis in the steps that one shard holds; one empty index where there is none."""
    if len(array.shape) == n:
        return [()]
    step = write_shape(array)[0]
    return [(slice(c, c + step),) for c in range(0, array.shape[0], step)]


def _axes(array: zarr.Array[Any]) -> tuple[str | None, ...]:
    return getattr(array.metadata, "dimension_names", None) or ()


def _reduced(
    fine: zarr.Array[Any],
    coarse: zarr.Array[Any],
    channels: tuple[slice, ...],
    window: Window,
    reduce: Reduce,
) -> NDArray[Any]:
    """A box of the coarser level, made chunk by chunk: a shard of the finer one is eight boxes."""
    n = len(window.shape)
    factors = _factors(fine, coarse, n)
    lead = [len(range(*c.indices(coarse.shape[0]))) for c in channels]
    result = np.empty((*lead, *window.shape), coarse.dtype)
    for piece in aligned_windows(window.shape, coarse.chunks[-n:]):
        place = piece.shifted(window.start)
        start = tuple(a * f for a, f in zip(place.start, factors, strict=True))
        stop = tuple(b * f for b, f in zip(place.stop, factors, strict=True))
        source = Window.between(start, stop).clipped(fine.shape[-n:])
        values = np.asarray(fine[(*channels, *source.slices)])
        part = result[(slice(None),) * (result.ndim - n) + piece.slices]
        part[...] = downsample(_filled(values, factors), factors, reduce)
    return result


def next_level(
    fine: zarr.Array[Any],
    coarse: zarr.Array[Any],
    window: Window,
    values: NDArray[Any],
    reduce: Reduce,
    valid: NDArray[np.bool_] | None,
) -> tuple[Window, NDArray[Any]]:
    """What a box of a level is on the next coarser one.

    Args:
        fine: The level.
        coarse: The next one.
        window: The box in the fine level; it starts on multiples of the factors.
        values: Its voxels, (..., *S).
        reduce: How the coarser level follows.
        valid: Where the box holds data, (*S); None: everywhere.

    Returns:
        The box in the coarse level, and its voxels.
    """
    factors = _factors(fine, coarse, len(window.shape))
    start = tuple(a // f for a, f in zip(window.start, factors, strict=True))
    stop = tuple(-(-b // f) for b, f in zip(window.stop, factors, strict=True))
    told = None if valid is None else _filled(valid, factors)
    reduced = downsample(_filled(values, factors), factors, reduce, told)
    return Window.between(start, stop), reduced


def _factors(fine: zarr.Array[Any], coarse: zarr.Array[Any], n: int) -> Shape:
    sizes = zip(fine.shape[-n:], coarse.shape[-n:], strict=True)
    return tuple(1 if a == b else 2 for a, b in sizes)


def _filled(values: NDArray[Any], factors: Shape) -> NDArray[Any]:
    """Values whose sizes are multiples of the factors: the last voxel of an axis is repeated."""
    lead = values.ndim - len(factors)
    missing = [(0, -n % f) for n, f in zip(values.shape[lead:], factors, strict=True)]
    if not any(after for _, after in missing):
        return values
    return np.pad(values, [(0, 0)] * lead + missing, mode="edge")


def overview_level(grid: Grid) -> int:
    """The finest pyramid level that a report can read at once; the coarsest if none is small."""
    factors = ngff.pyramid_factors(grid)
    small = [i for i, f in enumerate(factors) if prod(grid.coarser(f).shape) <= OVERVIEW_VOXELS]
    return small[0] if small else len(factors) - 1
