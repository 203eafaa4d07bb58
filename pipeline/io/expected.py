"""What a published store of each kind must hold, as its attributes say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.io import companion_store, mask_store, ngff, patch_store, volume_store
from pipeline.space import Grid, Shape

Node = Mapping[str, Any]
"""The content of a zarr.json."""
COMPANIONS = (companion_store.ProbabilityStore.kind, companion_store.ObjectStore.kind)
KINDS = (volume_store.KIND, mask_store.KIND, patch_store.KIND, *COMPANIONS)


@dataclass(frozen=True)
class Expected:
    """An array that must be there."""

    shape: Shape
    """Its shape, a leading channel axis included."""
    dtype: str | None = None
    """Its element type; None: the array itself decides."""
    labels: tuple[int, ...] | None = None
    """Labels it may hold; None: it holds no labels."""


@dataclass(frozen=True)
class Multiscale:
    """A multiscale image that must be there."""

    group: str
    """Path of its group; empty: the store's root."""
    array: str | None
    """Name of the array inside each level's group; None: a level is the array itself."""
    channels: bool
    """Whether it has a channel axis."""


def expected_arrays(nodes: Mapping[str, Node], grid: Grid | None) -> dict[str, Expected]:
    """Every array of a store, by its path.

    Args:
        nodes: The zarr.json of every group and array, by path; empty path: the root.
        grid: The store's; None of patches, which are nowhere.

    Raises:
        KeyError: The metadata says less than it must.
    """
    about = nodes[""]["attributes"]["segflow"]
    if grid is None:
        return _patch_arrays(nodes)
    found: dict[str, Expected] = {}
    for scale in multiscales(nodes):
        lead, dtype, labels = _content(nodes, scale, about)
        for level, factors in enumerate(ngff.pyramid_factors(grid)):
            coarse = grid.coarser(factors)
            place = _inside(scale.group, ngff.level_path(level, scale.array))
            found[place] = Expected((*lead, *coarse.shape), dtype, labels)
            if scale.array is not None:
                found |= _lines(_inside(scale.group, str(level)), coarse)
    if about["kind"] == volume_store.KIND:
        found["valid"] = Expected(grid.shape, "bool")
    return found


def multiscales(nodes: Mapping[str, Node]) -> list[Multiscale]:
    """The multiscale images that a store of its kind must have."""
    about = nodes[""]["attributes"]["segflow"]
    kind = about["kind"]
    if kind == volume_store.KIND:
        scales = [Multiscale("", "image", True)]
        listed = nodes.get("labels", {}).get("attributes", {}).get("ome", {}).get("labels", [])
        scales += [Multiscale(f"labels/{name}", None, False) for name in listed]
        return scales + [Multiscale(volume_store.TARGET, None, False)] * ("target" in about)
    if kind == patch_store.KIND:
        return []
    return [Multiscale("", kind, "channels" in about)]


def _content(
    nodes: Mapping[str, Node], scale: Multiscale, about: Mapping[str, Any]
) -> tuple[Shape, str | None, tuple[int, ...] | None]:
    """Leading shape, element type and labels of a multiscale's arrays."""
    lead = (len(about["channels"]),) if scale.channels else ()
    if scale.group == volume_store.TARGET or (
        about["kind"] == mask_store.KIND and "target" in about
    ):
        return lead, "float32", None
    if scale.array == mask_store.KIND:
        labels = list(about["classes"].values())
    elif scale.group == volume_store.LABELS:
        drawn = nodes[scale.group]["attributes"]["ome"]["image-label"]
        labels = [entry["label-value"] for entry in drawn["properties"]]
    else:
        return lead, {"probabilities": "uint8", "objects": "uint32"}.get(scale.array or ""), None
    dtype = volume_store.label_dtype(len(labels))
    return lead, str(dtype), (*labels, int(volume_store.no_label(dtype)))


def _lines(group: str, grid: Grid) -> dict[str, Expected]:
    """A level's coordinates and place on Earth."""
    lines = {
        f"{group}/{axis}": Expected(values.shape, "float64")
        for axis, values in ngff.coordinates(grid).items()
    }
    if ngff.spatial_ref(grid) is not None:
        lines[f"{group}/spatial_ref"] = Expected((), "int64")
    return lines


def _patch_arrays(nodes: Mapping[str, Node]) -> dict[str, Expected]:
    """Patches: an image sets the number and the shape of the others."""
    count, _, *shape = nodes["image"]["shape"]
    found = {"image": Expected(tuple(nodes["image"]["shape"]), "float16")}
    found["label"] = Expected((count, *shape))
    if "weight" in nodes:
        found["weight"] = Expected((count, *shape), "float16")
    return found


def _inside(group: str, path: str) -> str:
    return f"{group}/{path}" if group else path
