"""Making a volume store: metadata first, every box once, published whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pipeline.io import ngff, store
from pipeline.io.downsample import Reduce
from pipeline.io.layout import Boxes, volume_boxes
from pipeline.io.ngff import LabelClass
from pipeline.io.pyramid import PyramidSpec, build_pyramid, create_pyramid, next_level
from pipeline.io.volume_store import INSTANCES, KIND, LABELS, TARGET, label_dtype, no_label
from pipeline.space import Grid, Volume, Window, aligned_windows


@dataclass(frozen=True)
class VolumeSpec:
    """What a volume store will hold, known before a voxel is read."""

    grid: Grid
    """Where the voxels are."""
    dtype: str
    """The source's element type."""
    channels: tuple[str, ...]
    """Channel names, in array order."""
    classes: tuple[LabelClass, ...] | None
    """Classes of the truth; None where the case has none, or its truth holds numbers."""
    instances: str | None = None
    """Element type of the object numbers; None where the mask does not tell objects apart."""
    target: str | None = None
    """What a regression's truth holds the numbers of; None: it holds classes, or there is none."""

    @property
    def boxes(self) -> Boxes:
        """How every array of the store is cut."""
        voxel = np.dtype(self.dtype).itemsize * len(self.channels)
        return volume_boxes(self.grid.shape, voxel)


class VolumeWriter:
    """Makes a volume store: create, write every box once, in any order, finish.

    Boxes may be written from several threads.

    Args:
        final: Where the store will stand.
        spec: What it will hold.
    """

    def __init__(self, final: Path, spec: VolumeSpec) -> None:
        self.final = final
        self.spec = spec
        self.root = store.create_root(final)
        self._create_image()
        if spec.classes is not None:
            self._create_labels(spec.classes)
        if spec.target is not None:
            self._create_target(spec.target)
        store.ready_to_write(self.root, "", {"kind": KIND})
        self._image = self._levels(self.root, "image")
        self._valid = store.array_at(self.root, "valid")
        self._truth = {
            path: self._levels(self._group(path), None)
            for path in (LABELS, INSTANCES, TARGET)
            if path in self.root
        }

    def _create_image(self) -> None:
        grid, dtype = self.spec.grid, np.dtype(self.spec.dtype)
        count = len(self.spec.channels)
        spec = PyramidSpec("image", grid, dtype, count, 0, "mean", {}, boxes=self.spec.boxes)
        create_pyramid(self.root, spec)
        scales = ngff.multiscales(self.final.stem, "image", grid, channels=True)
        self.root.attrs["ome"] = {"version": ngff.VERSION, "multiscales": [scales]}
        layout = self.spec.boxes.layout(None, "bool")
        store.create_array(self.root, "valid", grid.shape, "bool", grid.axes, True, layout)

    def _create_labels(self, classes: Sequence[LabelClass]) -> None:
        names = ["truth"] + (["instances"] if self.spec.instances is not None else [])
        listed = {"version": ngff.VERSION, "labels": names}
        labels = self.root.create_group("labels", attributes={"ome": listed})
        dtype = label_dtype(len(classes))
        drawn = ngff.image_label(classes, source="../../")
        self._create_label(labels, "truth", dtype, no_label(dtype), drawn)
        if self.spec.instances is not None:
            about = {"source": {"image": "../../"}}
            self._create_label(labels, "instances", np.dtype(self.spec.instances), 0, about)

    def _create_label(
        self,
        labels: zarr.Group,
        name: str,
        dtype: np.dtype[Any],
        fill: float,
        about: dict[str, Any],
    ) -> None:
        described = {
            "version": ngff.VERSION,
            "multiscales": [ngff.multiscales(name, None, self.spec.grid, channels=False)],
            "image-label": about,
        }
        group = labels.create_group(name, attributes={"ome": described})
        attributes = {"nodata": fill} if name == "truth" else {}
        spec = PyramidSpec(
            None, self.spec.grid, dtype, None, fill, "mode", attributes, boxes=self.spec.boxes
        )
        create_pyramid(group, spec)

    def _create_target(self, name: str) -> None:
        grid, dtype = self.spec.grid, np.dtype("float32")
        scales = ngff.multiscales(name, None, grid, channels=False)
        described = {"version": ngff.VERSION, "multiscales": [scales]}
        group = self.root.create_group(TARGET, attributes={"ome": described})
        spec = PyramidSpec(
            None, grid, dtype, None, no_label(dtype), "mean", {}, boxes=self.spec.boxes
        )
        create_pyramid(group, spec)

    def _levels(self, group: zarr.Group, array: str | None) -> list[zarr.Array[Any]]:
        """The two finest levels of a multiscale, or the one there is."""
        paths = [ngff.level_path(level, array) for level in (0, 1)]
        return [store.array_at(group, path) for path in paths if path in group]

    def windows(self) -> list[Window]:
        """The boxes to write, each whole shards of every array: one read serves all."""
        return aligned_windows(self.spec.grid.shape, self.spec.boxes.box)

    def write(
        self,
        window: Window,
        volume: Volume,
        truth: NDArray[Any] | None = None,
        instances: NDArray[Any] | None = None,
    ) -> None:
        """Write a box of voxels, its validity and its labels, and the next coarser level of each.

        Args:
            window: One of ``windows()``.
            volume: Voxels and validity of that window.
            truth: Class numbers of that window, (Z, Y, X) or (Y, X), or numbers of a regression,
                of which those that are not finite say nothing; None where there are none.
            instances: Object numbers, likewise.
        """
        _write_levels(self._image, window, volume.array, "mean", volume.valid)
        if volume.valid is not None and not volume.valid.all():
            store.write_window(self._valid, window, volume.valid)
        if truth is not None and self.spec.target is not None:
            finite = np.where(np.isfinite(truth), truth, np.float32(np.nan))
            _write_levels(self._truth[TARGET], window, finite, "mean", None)
            return
        for path, labels in ((LABELS, truth), (INSTANCES, instances)):
            if labels is not None:
                _write_levels(self._truth[path], window, labels, "mode", None)

    def finish(
        self, statistics: dict[str, Any], key: str, sources: Sequence[dict[str, Any]]
    ) -> None:
        """Build the coarser levels, add statistics and provenance, and publish the store.

        Args:
            statistics: The case's, as JSON values.
            key: Of sources, settings and code: equal keys, equal stores.
            sources: Files the case was made from: path, role and sha256.
        """
        build_pyramid(self.root, "image", "mean", first=2)
        for path in self._truth:
            reduce: Reduce = "mean" if path == TARGET else "mode"
            build_pyramid(self._group(path), None, reduce, first=2)
        described: dict[str, Any] = {
            "key": key,
            "grid": self.spec.grid.to_json(),
            "channels": list(self.spec.channels),
            "sources": list(sources),
            "statistics": statistics,
        }
        if self.spec.target is not None:
            described["target"] = self.spec.target
        store.publish(self.final, lambda attributes: {**attributes, **described})

    def _group(self, path: str) -> zarr.Group:
        group = self.root[path]
        assert isinstance(group, zarr.Group)
        return group


def _write_levels(
    levels: Sequence[zarr.Array[Any]],
    window: Window,
    values: NDArray[Any],
    reduce: Reduce,
    valid: NDArray[np.bool_] | None,
) -> None:
    store.write_window(levels[0], window, values)
    if len(levels) == 2:
        coarse, reduced = next_level(levels[0], levels[1], window, values, reduce, valid)
        store.write_window(levels[1], coarse, reduced)
