"""What a viewer shows of a volume store and a mask store, and how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.drawing.bands import shown_limits
from pipeline.io.companion_store import ObjectStore, ProbabilityStore
from pipeline.io.mask_store import MaskStore
from pipeline.io.ngff import OME_UNITS
from pipeline.io.volume_store import LABELS, TARGET, VolumeStore
from pipeline.space import Grid

METRES = {"millimeter": 1e-3, "micrometer": 1e-6, "meter": 1.0}
GREY = """#uicontrol invlerp normalized
void main() { emitGrayscale(normalized()); }
"""
RGB = """#uicontrol invlerp red(channel=0)
#uicontrol invlerp green(channel=1)
#uicontrol invlerp blue(channel=2)
void main() { emitRGB(vec3(red(), green(), blue())); }
"""


@dataclass(frozen=True)
class Layer:
    """A multiscale array as one layer of a viewer."""

    name: str
    """What the viewer calls it."""
    path: str
    """Of its multiscale group: the name under which its store is served, and what follows."""
    labels: bool
    """Whether it holds labels, not intensities."""
    grid: Grid
    """Where its voxels are."""
    channels: int | None = None
    """Size of its channel axis; None: it has none."""
    colours: Mapping[int, str] = field(default_factory=dict)
    """Of the labels that are shown, ``#rrggbb``; none: any colour, and all but 0."""
    limits: tuple[tuple[float, float], ...] = ()
    """What is black and what is white, in each band that is shown; none: the viewer decides."""
    visible: bool = True
    """Whether it is shown at first."""

    def neuroglancer(self, address: str) -> dict[str, Any]:
        """The layer as Neuroglancer's state holds it.

        Args:
            address: Of the layer's multiscale group.
        """
        state: dict[str, Any] = {"name": self.name, "source": f"{address}/|zarr3:"}
        if not self.visible:
            state["visible"] = False
        if self.labels:
            shown = {str(label): colour for label, colour in self.colours.items()}
            chosen = {"segments": list(shown), "segmentColors": shown} if shown else {}
            return {"type": "segmentation", **state, **chosen}
        names = ("red", "green", "blue") if len(self.limits) == 3 else ("normalized",)
        controls = {n: {"range": list(pair)} for n, pair in zip(names, self.limits, strict=False)}
        state |= {"shader": RGB if len(self.limits) == 3 else GREY, "shaderControls": controls}
        if len(self.limits) == 3:
            dimensions = {"c^": [1, ""], **dimensions_of(self.grid)}
            state["source"] = {
                "url": state["source"],
                "transform": {"outputDimensions": dimensions},
            }
        return {"type": "image", **state}


def dimensions_of(grid: Grid) -> dict[str, list[Any]]:
    """A grid's axes as Neuroglancer's state names them: size of a voxel, and its unit."""
    known = grid.unit in OME_UNITS
    metres = METRES.get(grid.unit or "", 1.0) if known else 1.0
    sizes = zip(grid.axes, grid.spacing, strict=True)
    return {axis: [size * metres, "m" if known else ""] for axis, size in sizes}


def image_layer(volume: VolumeStore, served: str) -> Layer:
    """The voxels of a volume.

    Args:
        volume: The store.
        served: Name under which it is served.
    """
    limits = tuple(shown_limits(volume))
    return Layer("image", served, False, volume.grid, len(volume.channels), limits=limits)


def truth_layers(volume: VolumeStore, served: str) -> Iterator[Layer]:
    """The truth of a volume, where it has one.

    Args:
        volume: The store.
        served: Name under which it is served.
    """
    if not volume.labelled:
        return
    if volume.target is not None:
        yield Layer("truth", f"{served}/{TARGET}", False, volume.grid)
        return
    about: Any = volume.root[LABELS].attrs["ome"]
    yield Layer("truth", f"{served}/{LABELS}", True, volume.grid, colours=colours_of(about))


def mask_layer(mask: MaskStore, served: str) -> Layer:
    """A mask.

    Args:
        mask: The store.
        served: Name under which it is served.
    """
    if mask.target is not None:
        return Layer("mask", served, False, mask.grid)
    about: Any = mask.root.attrs["ome"]
    return Layer("mask", served, True, mask.grid, colours=colours_of(about))


def companion_layer(store: ObjectStore | ProbabilityStore, served: str) -> Layer:
    """What stands beside a mask; hidden at first.

    Args:
        store: The store.
        served: Name under which it is served.
    """
    if isinstance(store, ObjectStore):
        return Layer("objects", served, True, store.grid, visible=False)
    limits = ((0.0, 255.0),)
    count = len(store.channels)
    return Layer("probabilities", served, False, store.grid, count, limits=limits, visible=False)


def colours_of(ome: Mapping[str, Any]) -> dict[int, str]:
    """Colours of the labels that are not transparent, as the store's own metadata gives them.

    Example:
        >>> colours_of({"image-label": {"colors": [
        ...     {"label-value": 0, "rgba": [128, 128, 128, 0]},
        ...     {"label-value": 1, "rgba": [230, 159, 0, 255]}]}})
        {1: '#e69f00'}
    """
    entries = ome["image-label"]["colors"]
    return {
        entry["label-value"]: "#" + bytes(entry["rgba"][:3]).hex()
        for entry in entries
        if entry["rgba"][3]
    }
