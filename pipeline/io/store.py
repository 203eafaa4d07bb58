"""The one way to make a Zarr store: metadata first, one writer per shard, published by rename.

A store is built beside its final place under a hidden name, ``.<name>.partial``. Whoever meets
the final name meets a whole store, whose attribute ``segflow.status`` says ``complete``.
"""

from __future__ import annotations

import json
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
from zarr.storage import FsspecStore

from pipeline.errors import StoreError
from pipeline.io import ngff
from pipeline.io.downsample import Reduce as Reduce
from pipeline.io.downsample import downsample as downsample
from pipeline.io.files import remove_tree
from pipeline.io.layout import Boxes, Layout, choose_layout
from pipeline.io.location import filesystem, is_remote
from pipeline.space import Grid, Shape, Window, aligned_windows

CODEC = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")
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
    if not is_remote(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return zarr.create_group(_place(path), attributes={"segflow": {"status": "creating"}})


def open_group(path: Path, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Open a Zarr group at a path or URL."""
    return zarr.open_group(_place(path), mode=mode)


def _place(path: Path) -> Any:
    """A location as Zarr takes it."""
    return FsspecStore.from_url(str(path)) if is_remote(path) else path


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
        # Asked of every case on every run: the file alone is ten times faster than Zarr.
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]["segflow"]
    except (OSError, KeyError, ValueError, TypeError):
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
    layout: Layout,
    *,
    attributes: dict[str, Any] | None = None,
) -> zarr.Array[Any]:
    """An empty array with our codec."""
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


def publish(final: Path, finish: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Give a finished store its final name, replacing an earlier one.

    Args:
        final: Where the store is to stand.
        finish: Receives the store's ``segflow`` attributes and returns them completed; status
            ``complete`` is added here, last.
    """
    path = partial_path(final)
    if not is_remote(path):
        for litter in path.rglob("*.partial"):
            litter.unlink()  # zarr's own temporary files, left by a killed writer
    root = open_group(path, "r+")
    attributes = dict(root.attrs["segflow"])  # type: ignore[arg-type]
    root.attrs["segflow"] = {**finish(attributes), "status": "complete"}
    _consolidate(root)
    if is_remote(path):
        _move_objects(path, final)
        return
    old = final.with_name(f".{final.name}.old")
    remove_tree(old)
    if final.exists():
        os.replace(final, old)
    os.replace(path, final)
    remove_tree(old)


def _move_objects(path: Path, final: Path) -> None:
    """Move a store on an object store, which knows no folders to rename.

    The root's metadata, which says that a store is complete, leaves first and arrives last: in
    between there is no store, and never half of one.
    """
    files, source = filesystem(path)
    target = filesystem(final)[1]
    files.invalidate_cache()
    if files.exists(f"{target}/zarr.json"):
        files.rm_file(f"{target}/zarr.json")
    remove_tree(final)
    names = [name.removeprefix(f"{source}/") for name in files.find(source)]
    names.sort(key=lambda name: name == "zarr.json")
    for name in names:
        files.copy(f"{source}/{name}", f"{target}/{name}")
    files.invalidate_cache()
    remove_tree(path)


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
        root = open_group(path)
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
