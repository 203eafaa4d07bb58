"""The one way to make a Zarr store: metadata first, one writer per shard, published by rename.

A store is built beside its final place under a hidden name, ``.<name>.partial``. Whoever meets
the final name meets a whole store, whose attribute ``segflow.status`` says ``complete``.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec
from zarr.errors import ZarrUserWarning

from pipeline.errors import StoreError
from pipeline.io import ngff
from pipeline.io.files import remove_tree
from pipeline.io.layout import choose_layout
from pipeline.space import Grid, Shape, Window, aligned_windows

CODEC = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")
Reduce = Literal["mean", "mode"]
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


def partial_path(final: Path) -> Path:
    """Where a store is built before it is published."""
    return final.with_name(f".{final.name}.partial")


def create_root(final: Path) -> zarr.Group:
    """An empty store to build, replacing any earlier attempt.

    Args:
        final: Where the store will be published.
    """
    path = partial_path(final)
    remove_tree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return zarr.create_group(path, attributes={"segflow": {"status": "creating"}})


def ready_to_write(root: zarr.Group, key: str, attributes: dict[str, Any]) -> None:
    """Say that a store's metadata is whole: from now on an interrupted writer can go on with it.

    Args:
        root: The store, all its arrays created.
        key: What the store will hold, as a key.
        attributes: Its other ``segflow`` attributes.
    """
    root.attrs["segflow"] = {**attributes, "key": key, "status": "writing"}


def partial_key(final: Path) -> str | None:
    """The key of an unfinished store; None where there is none that a writer can go on with."""
    return _key(partial_path(final), ("writing", "complete"))


def published_key(final: Path) -> str | None:
    """The key of a published store, None where there is none or it is not complete."""
    return _key(final, ("complete",))


def _key(path: Path, states: tuple[str, ...]) -> str | None:
    try:
        attributes = zarr.open_group(path, mode="r").attrs["segflow"]
    except (OSError, KeyError, ValueError):
        return None
    if not isinstance(attributes, dict) or attributes.get("status") not in states:
        return None
    return attributes.get("key")


def create_pyramid(group: zarr.Group, spec: PyramidSpec) -> None:
    """Write the metadata of every level; no voxel yet.

    Args:
        group: Group that becomes the multiscale; its ``ome`` attribute is the caller's.
        spec: What to create.
    """
    for level, factors in enumerate(ngff.pyramid_factors(spec.grid)):
        grid = spec.grid.coarser(factors)
        if spec.array is None:
            _create_voxels(group, str(level), spec, grid, {})
        else:
            _create_level(group.create_group(str(level)), spec.array, spec, grid)


def _create_voxels(
    group: zarr.Group, name: str, spec: PyramidSpec, grid: Grid, mapping: dict[str, Any]
) -> None:
    lead = () if spec.channels is None else (spec.channels,)
    create_array(
        group,
        name,
        (*lead, *grid.shape),
        spec.dtype,
        grid.axes if spec.channels is None else ("c", *grid.axes),
        spec.fill_value,
        attributes={**spec.attributes, **mapping},
        channels=spec.channels is not None,
    )


def _create_level(group: zarr.Group, name: str, spec: PyramidSpec, grid: Grid) -> None:
    reference = ngff.spatial_ref(grid)
    mapping = {} if reference is None else {"grid_mapping": "spatial_ref"}
    _create_voxels(group, name, spec, grid, mapping)
    for axis, values in ngff.coordinates(grid).items():
        line = group.create_array(
            axis,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            dimension_names=[axis],
            attributes=ngff.coordinate_attributes(grid, axis),
        )
        line[:] = values
    if reference is not None:
        scalar = group.create_array("spatial_ref", shape=(), dtype="int64", dimension_names=[])
        scalar.attrs.update(reference)
        scalar[...] = np.int64(0)


def create_array(
    group: zarr.Group,
    name: str,
    shape: Shape,
    dtype: DTypeLike,
    names: tuple[str, ...],
    fill_value: float | bool,
    *,
    attributes: dict[str, Any] | None = None,
    channels: bool = False,
) -> zarr.Array[Any]:
    """An empty array with our codec and the layout its shape and dtype ask for."""
    layout = choose_layout(shape, dtype, channels=channels)
    return group.create_array(
        name,
        shape=shape,
        dtype=np.dtype(dtype),
        chunks=layout.chunks,
        shards=layout.shards,
        compressors=CODEC,
        fill_value=fill_value,
        dimension_names=names,
        attributes=attributes,
    )


def write_shape(array: zarr.Array[Any]) -> Shape:
    """The box one writer owns: the array's shard, or its chunk where it has no shards."""
    return tuple(array.shards or array.chunks)


def write_window(array: zarr.Array[Any], window: Window, values: NDArray[Any]) -> None:
    """Write a box of voxels that owns every shard it touches.

    Two writers in one shard lose each other's voxels without an error, so a window that shares a
    shard with its neighbour is refused before anything is written.

    Args:
        array: Array to write to; a leading channel axis is written whole.
        window: Box in the array's spatial axes, (Z, Y, X) or (Y, X).
        values: Voxels, of the window's shape (after the channel axis).

    Raises:
        StoreError: The window does not fall on shard borders, or the values do not fill it.
    """
    n = len(window.shape)
    unit, size = write_shape(array)[-n:], array.shape[-n:]
    starts = all(a % u == 0 for a, u in zip(window.start, unit, strict=True))
    stops = all(b % u == 0 or b == s for b, u, s in zip(window.stop, unit, size, strict=True))
    if not (starts and stops):
        raise StoreError(
            f"write window {window.start}..{window.stop} in {size}, shards are {unit}: write "
            "windows start and end on shard borders; plan them with aligned_windows()"
        )
    if values.shape[-n:] != window.shape:
        raise StoreError(f"{values.shape} values were given for a window of {window.shape}")
    array[(..., *window.slices)] = values  # type: ignore[index]


def build_pyramid(group: zarr.Group, array: str | None, reduce: Reduce) -> None:
    """Fill the coarser levels from the full-size one, shard by shard."""
    level = 1
    while str(level) in group:
        fine, coarse = (array_at(group, ngff.level_path(n, array)) for n in (level - 1, level))
        n = sum(name != "c" for name in _axes(coarse))
        for window in aligned_windows(coarse.shape[-n:], write_shape(coarse)[-n:]):
            write_window(coarse, window, _reduced(fine, coarse, window, reduce))
        level += 1


def _axes(array: zarr.Array[Any]) -> tuple[str | None, ...]:
    return getattr(array.metadata, "dimension_names", None) or ()


def _reduced(
    fine: zarr.Array[Any], coarse: zarr.Array[Any], window: Window, reduce: Reduce
) -> NDArray[Any]:
    n = len(window.shape)
    factors = tuple(
        1 if a == b else 2 for a, b in zip(fine.shape[-n:], coarse.shape[-n:], strict=True)
    )
    start = tuple(a * f for a, f in zip(window.start, factors, strict=True))
    stop = tuple(b * f for b, f in zip(window.stop, factors, strict=True))
    values = np.asarray(
        fine[(..., *Window.between(start, stop).clipped(fine.shape[-n:]).slices)]  # type: ignore[index]
    )
    lead = values.ndim - n
    missing = [
        (0, b * f - m) for b, f, m in zip(window.shape, factors, values.shape[lead:], strict=True)
    ]
    values = np.pad(values, [(0, 0)] * lead + missing, mode="edge")
    return downsample(values, factors, reduce)


def downsample(values: NDArray[Any], factors: Shape, reduce: Reduce) -> NDArray[Any]:
    """Make blocks of voxels into one.

    Args:
        values: (..., *S), spatial sizes multiples of ``factors``.
        factors: Block size on each spatial axis.
        reduce: ``mean`` (missing values left out, integers rounded) or ``mode`` (the commonest
            label; of equally common ones the one met first).

    Returns:
        (..., *S / factors), same dtype.
    """
    lead = values.ndim - len(factors)
    split: list[int] = list(values.shape[:lead])
    for n, f in zip(values.shape[lead:], factors, strict=True):
        split += [n // f, f]
    blocks = values.reshape(split)
    inner = [lead + 2 * i + 1 for i in range(len(factors))]
    stack = np.moveaxis(blocks, inner, range(len(inner)))
    stack = stack.reshape(-1, *stack.shape[len(inner) :])  # (block voxels, ..., *S / factors)
    if reduce == "mode":
        # A block has 8 voxels at most: uint8 counts them in an eighth of the default's memory.
        votes = np.stack([(stack == voxel).sum(axis=0, dtype=np.uint8) for voxel in stack])
        chosen: NDArray[Any] = np.take_along_axis(stack, votes.argmax(axis=0)[None], axis=0)[0]
        return chosen
    if np.issubdtype(values.dtype, np.floating):
        present = np.isfinite(stack)
        total = np.where(present, stack, 0).sum(axis=0, dtype=np.float64)
        count = present.sum(axis=0)
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    else:
        mean = np.rint(stack.mean(axis=0, dtype=np.float64))
    result: NDArray[Any] = mean.astype(values.dtype)
    return result


def publish(final: Path, finish: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Give a finished store its final name, replacing an earlier one.

    Args:
        final: Where the store is to stand.
        finish: Receives the store's ``segflow`` attributes and returns them completed; status
            ``complete`` is added here, last.
    """
    path = partial_path(final)
    for litter in path.rglob("*.partial"):
        litter.unlink()  # zarr's own temporary files, left by a killed writer
    root = zarr.open_group(path, mode="r+")
    attributes = dict(root.attrs["segflow"])  # type: ignore[arg-type]
    root.attrs["segflow"] = {**finish(attributes), "status": "complete"}
    _consolidate(root)
    old = final.with_name(f".{final.name}.old")
    remove_tree(old)
    if final.exists():
        os.replace(final, old)
    os.replace(path, final)
    remove_tree(old)


def _consolidate(root: zarr.Group) -> None:
    """Copy all metadata into the root's, where xarray looks first and warns if it finds none.

    Last, because a copy hides what is added after it.
    """
    with warnings.catch_warnings():
        # Zarr says that other implementations may not know the copy: they then read the originals.
        warnings.filterwarnings("ignore", "Consolidated metadata", ZarrUserWarning)
        zarr.consolidate_metadata(root.store)


def overview_level(grid: Grid) -> int:
    """The finest pyramid level that a report can read at once; the coarsest if none is small."""
    factors = ngff.pyramid_factors(grid)
    small = [i for i, f in enumerate(factors) if prod(grid.coarser(f).shape) <= OVERVIEW_VOXELS]
    return small[0] if small else len(factors) - 1


def open_complete(path: Path, kind: str) -> zarr.Group:
    """Open a published store for reading.

    Args:
        path: The store.
        kind: ``volume``, ``mask`` or ``patches``: what it must hold.

    Raises:
        StoreError: There is no store, it is not complete, or it holds something else.
    """
    try:
        root = zarr.open_group(path, mode="r")
    except (OSError, ValueError) as error:
        raise StoreError(f"there is no store at {path}: run the stage that makes it") from error
    attributes: Any = root.attrs.get("segflow", {})
    if attributes.get("status") != "complete" or attributes.get("kind") != kind:
        raise StoreError(
            f"{path} is a {attributes.get('kind', 'foreign')} store with status "
            f"{attributes.get('status', 'unknown')!r}: expected a complete {kind} store"
        )
    return root


def array_at(group: zarr.Group, path: str) -> zarr.Array[Any]:
    """The array at a path inside a group.

    Raises:
        StoreError: There is a group, not an array.
    """
    array = group[path]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{group.path}/{path} is a group where an array was expected")
    return array
