"""The one way to make a Zarr store: metadata first, one writer per shard, published by rename.

A store is built beside its final place under a hidden name, ``.<name>.partial``. Whoever meets
the final name meets a whole store, whose attribute ``segflow.status`` says ``complete``.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.errors import ZarrUserWarning
from zarr.storage import FsspecStore

from pipeline.errors import StoreError
from pipeline.io.files import remove_tree
from pipeline.io.inventory import file_sizes, inventory
from pipeline.io.layout import Layout
from pipeline.io.location import filesystem, is_remote
from pipeline.io.shards import Shards
from pipeline.space import Shape, Window

# The checksum lets every reader, whoever's it is, refuse a chunk that the disk has damaged.
CODECS = (BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), Crc32cCodec())


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


def published_attributes(final: Path) -> dict[str, Any]:
    """The ``segflow`` attributes of a published store, empty where there is none."""
    return _attributes(final, ("complete",))


def _key(path: Path, states: tuple[str, ...]) -> str | None:
    return _attributes(path, states).get("key")


def _attributes(path: Path, states: tuple[str, ...]) -> dict[str, Any]:
    try:
        # Asked of every case on every run: the file alone is ten times faster than Zarr.
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]["segflow"]
    except (OSError, KeyError, ValueError, TypeError):
        return {}
    if not isinstance(attributes, dict) or attributes.get("status") not in states:
        return {}
    return attributes


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
    """An empty array with our codecs."""
    return group.create_array(
        name,
        shape=shape,
        dtype=np.dtype(dtype),
        chunks=layout.chunks,
        shards=layout.shards,
        compressors=CODECS,
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


def read_window(array: zarr.Array[Any], window: Window) -> NDArray[Any]:
    """Read a box of voxels.

    Args:
        array: Array to read from; axes before the spatial ones are read whole.
        window: Box in the array's spatial axes, (Z, Y, X) or (Y, X), inside it.

    Raises:
        ValueError: A chunk is damaged.
        OSError: A file cannot be read.
    """
    files = Shards.of(array)
    if files is None:
        return np.asarray(array[(..., *window.slices)])  # type: ignore[index]
    others = array.shape[: array.ndim - len(window.shape)]
    return files.read((0,) * len(others) + window.start, others + window.stop)


def publish(final: Path, finish: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Give a finished store its final name, replacing an earlier one.

    Args:
        final: Where the store is to stand.
        finish: Receives the store's ``segflow`` attributes and returns them completed; what is
            ``stored``, and status ``complete``, are added here, last.
    """
    path = partial_path(final)
    if not is_remote(path):
        for litter in path.rglob("*.partial"):
            litter.unlink()  # zarr's own temporary files, left by a killed writer
    root = open_group(path, "r+")
    attributes = dict(root.attrs["segflow"])  # type: ignore[arg-type]
    stored = inventory(file_sizes(path))
    root.attrs["segflow"] = {**finish(attributes), "stored": stored, "status": "complete"}
    _consolidate(root)
    if is_remote(path):
        _move_objects(path, final)
        return
    old = _old_path(final)
    remove_tree(old)
    if final.exists():
        os.replace(final, old)
    os.replace(path, final)
    remove_tree(old)


def _old_path(final: Path) -> Path:
    """Where the store before stands for the moment in which it is replaced."""
    return final.with_name(f".{final.name}.old")


def sweep(final: Path) -> None:
    """Remove what interrupted writers left beside a published store."""
    for litter in (partial_path(final), _old_path(final)):
        if litter.exists():
            remove_tree(litter)


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


def open_complete(path: Path, kind: str) -> zarr.Group:
    """Open a published store for reading.

    Args:
        path: The store.
        kind: ``volume``, ``mask``, ``patches``, ``probabilities`` or ``objects``: what it must
            hold.

    Raises:
        StoreError: There is no store, it is not complete, or it holds something else.
    """
    try:
        root = open_group(path)
    except (OSError, ValueError) as error:
        if not is_remote(path) and (path / "zarr.json").exists():
            raise StoreError(f"{path}/zarr.json is damaged: run the stage that makes it") from error
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
