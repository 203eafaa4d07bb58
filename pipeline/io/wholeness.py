"""Whether a published store is whole: its metadata, its files, and every voxel that is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StoreError
from pipeline.io import ngff
from pipeline.io.expected import KINDS, Expected, Node, expected_arrays, multiscales
from pipeline.io.inventory import CHUNK, file_sizes, inventory
from pipeline.io.store import array_at, open_group
from pipeline.space import Grid

READ_BYTES = 256 * 2**20
"""Decoded bytes one task reads, file after file."""


@dataclass(frozen=True)
class Flaw:
    """Something about a store that is not as it was made."""

    where: str
    """Array or file inside the store; empty: the store."""
    what: str
    """What was met and what was expected."""


@dataclass(frozen=True)
class Stored:
    """Files of one array that are to be read."""

    store: Path
    """The store."""
    array: str
    """Path of the array."""
    places: tuple[tuple[int, ...], ...]
    """Their places in the array's grid of files."""
    labels: tuple[int, ...] | None
    """Labels they may hold; None: they hold no labels."""


@dataclass(frozen=True)
class Examined:
    """What a store's metadata and list of files say."""

    attributes: Mapping[str, Any]
    """Its ``segflow`` attributes; empty where they cannot be read."""
    flaws: tuple[Flaw, ...]
    """What is wrong."""
    stored: tuple[Stored, ...]
    """What is left to read."""
    bytes: int
    """Of all its files."""

    @property
    def kind(self) -> str:
        """What it holds."""
        return str(self.attributes.get("kind", ""))

    @property
    def inventoried(self) -> bool:
        """Whether it says what is stored; those of earlier segflow do not."""
        return "stored" in self.attributes


def examine(store: Path) -> Examined:
    """Look at a store's metadata and its list of files; reads no voxel.

    Raises:
        StoreError: There is no store, or another program has made it.
    """
    sizes = file_sizes(store)
    root = _root(store)
    about: Mapping[str, Any] = root["attributes"]["segflow"]
    total = sum(sizes.values())
    if about.get("status") != "complete":
        met = f"its status is {about.get('status')!r}, not 'complete': it was never finished"
        return Examined(about, (Flaw("", met),), (), total)
    nodes, flaws = _nodes(store, root)
    try:
        grid = Grid.from_json(about["grid"]) if "grid" in about else None
        wanted = expected_arrays(nodes, grid)
        flaws += [*_unlike(nodes, wanted), *_ome_flaws(nodes, grid)]
    except (KeyError, TypeError, ValueError) as error:
        flaws.append(Flaw("", f"its metadata cannot be read ({type(error).__name__}: {error})"))
        return Examined(about, tuple(flaws), (), total)
    flaws += _lost(about.get("stored"), inventory(sizes))
    stored = _files(store, sizes, nodes, wanted)
    return Examined(about, tuple(flaws), tuple(stored), total)


def _root(store: Path) -> Node:
    """The root's metadata.

    Raises:
        StoreError: There is none, or it is of another program.
    """
    try:
        root: Node = json.loads((store / "zarr.json").read_bytes())
        kind = root["attributes"]["segflow"]["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store} is no store of segflow, or its zarr.json is damaged "
            f"({type(error).__name__}: {error})"
        ) from error
    if kind not in KINDS:
        raise StoreError(f"{store} is a {kind} store: {', '.join(KINDS)} are known here")
    return root


def _nodes(store: Path, root: Node) -> tuple[dict[str, Node], list[Flaw]]:
    """The metadata of every group and array, each as its own file and the root's copy have it."""
    nodes: dict[str, Node] = {"": root}
    flaws = []
    copies = (root.get("consolidated_metadata") or {}).get("metadata", {})
    if not copies:
        flaws.append(Flaw("", "its root lacks the copy of all metadata that publishing adds"))
    for path, copy in copies.items():
        name = f"{path}/zarr.json"
        try:
            nodes[path] = json.loads((store / name).read_bytes())
        except (OSError, ValueError) as error:
            flaws.append(Flaw(name, f"it is absent or damaged ({type(error).__name__})"))
            nodes[path] = copy
        if _plain(nodes[path]) != _plain(copy):
            flaws.append(Flaw(name, "it differs from the copy in the store's root"))
    return nodes, flaws


def _plain(node: Node) -> dict[str, Any]:
    """A node without what a copy of a group may hold of the nodes below it."""
    return {key: value for key, value in node.items() if key != "consolidated_metadata"}


def _unlike(nodes: Mapping[str, Node], wanted: Mapping[str, Expected]) -> Iterator[Flaw]:
    """Arrays that are absent, or of another shape or type than they must be."""
    for path, expected in wanted.items():
        node = nodes.get(path)
        if node is None or node.get("node_type") != "array":
            yield Flaw(path, "the array is absent")
            continue
        if tuple(node["shape"]) != expected.shape:
            met = f"its shape is {tuple(node['shape'])}, expected {expected.shape}"
            yield Flaw(path, met)
        if expected.dtype not in (None, node["data_type"]):
            yield Flaw(path, f"its type is {node['data_type']}, expected {expected.dtype}")


def _ome_flaws(nodes: Mapping[str, Node], grid: Grid | None) -> Iterator[Flaw]:
    """Multiscale images whose OME-NGFF metadata is not that of the store's grid."""
    for scale in multiscales(nodes):
        found = nodes[scale.group]["attributes"]["ome"]
        assert grid is not None
        wanted = ngff.multiscales("", scale.array, grid, channels=scale.channels)
        told = found["multiscales"][0]
        if found.get("version") != ngff.VERSION or any(
            told.get(key) != wanted[key] for key in ("axes", "datasets")
        ):
            yield Flaw(scale.group, "its OME-NGFF metadata does not say what its grid says")


def _lost(then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> Iterator[Flaw]:
    """Arrays whose files are not those that the store was published with."""
    if then is None:
        return
    nothing = {"files": 0, "bytes": 0}
    for array in sorted({*then, *now}):
        was, found = then.get(array, nothing), now.get(array, nothing)
        if was == found:
            continue
        if was["files"] != found["files"]:
            met = f"{found['files']} of its {was['files']} files are there"
        elif was["bytes"] != found["bytes"]:
            met = f"its files hold {found['bytes']} bytes, they were made with {was['bytes']}"
        else:
            met = "its files have other names or sizes than they were made with"
        yield Flaw(array, met)


def _files(
    store: Path,
    sizes: Mapping[str, int],
    nodes: Mapping[str, Node],
    wanted: Mapping[str, Expected],
) -> Iterator[Stored]:
    """The files of every array, in portions for tasks."""
    places: dict[str, list[tuple[int, ...]]] = {}
    for name in sizes:
        if match := CHUNK.fullmatch(name):
            chunk = tuple(int(n) for n in (match["chunk"] or "").split("/") if n)
            places.setdefault(match["array"], []).append(chunk)
    for array, found in sorted(places.items()):
        if array not in nodes or array not in wanted:
            continue
        expected = wanted[array]
        file = prod(_file_shape(nodes[array])) * np.dtype(nodes[array]["data_type"]).itemsize
        step = max(1, READ_BYTES // file)
        ordered = sorted(found)
        for first in range(0, len(ordered), step):
            yield Stored(store, array, tuple(ordered[first : first + step]), expected.labels)


def _file_shape(node: Node) -> tuple[int, ...]:
    return tuple(node["chunk_grid"]["configuration"]["chunk_shape"])


def read_stored(task: Stored) -> list[Flaw]:
    """Decode files of an array, one after the other; what cannot be decoded, or holds odd labels.

    Whoever wrote a file added a checksum to each of its chunks, which the decoder compares.
    """
    try:
        array = array_at(open_group(task.store), task.array)
    except Exception as error:  # damaged metadata raises whatever the library met first
        return [Flaw(task.array, f"it cannot be opened ({_said(error)})")]
    shape = tuple(array.shards or array.chunks)
    flaws = []
    for place in task.places:
        box = tuple(slice(p * n, (p + 1) * n) for p, n in zip(place, shape, strict=True))
        name = "/".join([task.array, "c", *map(str, place)])
        try:
            values = np.asarray(array[box])
        except Exception as error:  # likewise
            flaws.append(Flaw(name, f"it cannot be decoded ({_said(error)})"))
            continue
        if met := _odd(values, task.labels):
            flaws.append(Flaw(name, met))
    return flaws


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _odd(values: NDArray[Any], labels: tuple[int, ...] | None) -> str:
    """A label that no class has; empty where there is none."""
    if labels is None:
        return ""
    strange = np.setdiff1d(np.unique(values), labels)
    return f"it holds label {strange[0]}, which is no class" if len(strange) else ""
