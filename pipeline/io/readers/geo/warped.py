"""A mask that lies on another grid, seen on its image's grid by nearest neighbour."""

from __future__ import annotations

import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.geo.crs import bounds_in, same_crs, to_crs, turns_round
from pipeline.io.readers.source import Source
from pipeline.space import Grid, Shape, Volume, Window

TILES: dict[int, Shape] = {2: (256, 256), 3: (64, 64, 64)}
"""Voxels worked out together, by number of axes. Tiles start at multiples of their size whatever
is read: PROJ chooses between datum shifts by the mean of the points that it is given at once."""
READ_VOXELS = 2**24
"""Most voxels of the mask that are held at once."""
SLAB_BYTES = 2**24
TIE_VOXELS = 1e-8
"""A centre this close below the border of two mask voxels belongs to the upper one, as one on the
border does: rounding must not decide."""


class WarpedSource:
    """A mask on another grid. What lies outside the mask is not valid.

    Args:
        mask: The mask, on its own grid.
        grid: The image's grid.

    Raises:
        CaseError: The two have no world in common.
    """

    placed = True
    sequential = False

    def __init__(self, mask: Source, grid: Grid) -> None:
        self._mask: Source | _Unrolled = _Unrolled(mask) if mask.sequential else mask
        self._from = mask.grid
        self._reprojected = _reprojected(mask.grid, grid)
        self._reach = _reach(mask.grid, grid)
        self.grid = grid
        self.channels = mask.channels
        self.dtype = mask.dtype
        self.block: Shape = tuple(
            min(t, n) for t, n in zip(TILES[len(grid.shape)], grid.shape, strict=True)
        )

    def read(self, window: Window) -> Volume:
        """Labels and validity of a window; 0 where not valid."""
        array = np.zeros((self.channels, *window.shape), self.dtype)
        valid = np.zeros(window.shape, bool)
        for tile in _tiles(window.intersection(self._reach), self._reach):
            part = tile.intersection(window)
            index = self._nearest(tile)[(slice(None), *part.relative_to(tile).slices)]
            here = part.relative_to(window).slices
            self._pick(index, array[(slice(None), *here)], valid[here])
        return Volume(array, self.grid.cropped(window), valid)

    def _nearest(self, tile: Window) -> NDArray[np.int64]:
        """Index of the mask voxel that holds each centre, (n, *S); -1 where none does."""
        corner = 0.5 if self.grid.anchor == "corner" else 0.0
        lines = [np.arange(a, b) + corner for a, b in zip(tile.start, tile.stop, strict=True)]
        centres = np.meshgrid(*lines, indexing="ij", sparse=True)
        linear, origin = self.grid.matrix[:-1, :-1], self.grid.matrix[:-1, -1]
        into = np.linalg.inv(self._from.matrix[:-1, :-1])
        if self._reprojected is None:
            start = into @ (origin - self._from.matrix[:-1, -1])
            place = _affine(into @ linear, start, centres)
        else:
            world = _affine(linear, origin, centres).reshape(2, -1)
            moved = to_crs(world.T, *self._reprojected).T - self._from.matrix[:-1, -1:]
            place = _affine(into, np.zeros(2), tuple(moved)).reshape(2, *tile.shape)
        return self._voxel_at(place)

    def _voxel_at(self, place: NDArray[np.float64]) -> NDArray[np.int64]:
        rounded = np.floor(place + (0.0 if self._from.anchor == "corner" else 0.5) + TIE_VOXELS)
        sizes = np.reshape(self._from.shape, (-1, *[1] * (place.ndim - 1)))
        # NaN is nowhere: it is neither at least 0 nor less than the size.
        inside = ((rounded >= 0) & (rounded < sizes)).all(axis=0)
        return np.where(inside, rounded, -1.0).astype(np.int64)

    def _pick(
        self, index: NDArray[np.int64], array: NDArray[Any], valid: NDArray[np.bool_]
    ) -> None:
        """Fill views of the result from the smallest box of the mask that holds what is wanted."""
        inside = index[0] >= 0
        wanted = index[:, inside]
        if not wanted.size:
            return
        low, high = wanted.min(axis=1), wanted.max(axis=1) + 1
        if np.prod(high - low) > READ_VOXELS and inside.size > 1:
            axis = int(np.argmax(inside.shape))
            for half in (
                slice(None, inside.shape[axis] // 2),
                slice(inside.shape[axis] // 2, None),
            ):
                cut = (*[slice(None)] * axis, half)
                self._pick(index[(slice(None), *cut)], array[(slice(None), *cut)], valid[cut])
            return
        box = Window.between(tuple(low.tolist()), tuple(high.tolist()))
        volume = self._mask.read(box)
        at = tuple(wanted - low[:, None])
        array[:, inside] = volume.array[(slice(None), *at)]
        valid[inside] = True if volume.valid is None else volume.valid[at]


class _Unrolled:
    """A source that has no way to seek, written once to a temporary file, which has."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._files: tuple[IO[bytes], IO[bytes]] | None = None

    def read(self, window: Window) -> Volume:
        """Voxels and validity of a window."""
        with self._lock:
            self._files = self._files or self._unroll()
        labels, told = self._files
        first, *rest = self._source.grid.shape
        shape = (first, self._source.channels, *rest)
        # Mapped anew for each read: pages of a standing map would count as this process's memory.
        array = np.memmap(labels, self._source.dtype, "r", shape=shape)
        valid = np.memmap(told, np.bool_, "r", shape=(first, *rest))
        z, *slices = window.slices
        part = np.array(array[(z, slice(None), *slices)].swapaxes(0, 1))
        return Volume(part, self._source.grid.cropped(window), np.array(valid[window.slices]))

    def _unroll(self) -> tuple[IO[bytes], IO[bytes]]:
        # As TMPDIR says; the system removes them with the process, however it ends.
        labels, told = (tempfile.TemporaryFile(prefix="segflow-") for _ in range(2))  # noqa: SIM115
        for file in (labels, told):
            weakref.finalize(self, file.close)
        for slab in self._slabs():
            volume = self._source.read(slab)
            valid = np.ones(slab.shape, bool) if volume.valid is None else volume.valid
            labels.write(volume.array.swapaxes(0, 1).tobytes())
            told.write(valid.tobytes())
        for file in (labels, told):
            file.flush()
        return labels, told

    def _slabs(self) -> Iterator[Window]:
        depth, *rest = self._source.grid.shape
        plane = prod(rest) * self._source.channels * self._source.dtype.itemsize
        thick = max(self._source.block[0], SLAB_BYTES // max(plane, 1), 1)
        for z in range(0, depth, thick):
            yield Window((z, *[0] * len(rest)), (min(thick, depth - z), *rest))


def _reprojected(mask: Grid, grid: Grid) -> tuple[str, str] | None:
    """The systems to go from and to; None where image and mask share one, or need none."""
    if len(mask.shape) != len(grid.shape):
        raise CaseError(
            f"its mask has {len(mask.shape)} axes, its image {len(grid.shape)}.",
            "Draw or export the mask on the image's own grid.",
        )
    if (mask.crs is None) != (grid.crs is None):
        bare = "mask" if mask.crs is None else "image"
        raise CaseError(
            f"its {bare} has no coordinate reference system, so that the mask cannot be warped.",
            f"Write the {bare}'s system into its file, with gdal_edit -a_srs for example.",
        )
    if mask.crs is None or grid.crs is None or same_crs(mask.crs, grid.crs):
        return None
    return grid.crs, mask.crs


def _affine(
    linear: NDArray[Any], offset: NDArray[Any], points: Sequence[NDArray[Any]]
) -> NDArray[np.float64]:
    """An affine map of coordinates that are given by axis, (n, *S).

    Term by term, because a matrix product may round one point differently among others.
    """
    rows = [sum((a * p for a, p in zip(row, points, strict=True)), 0.0) for row in linear]
    shape = np.broadcast_shapes(*[p.shape for p in points])
    return np.stack([np.broadcast_to(r + o, shape) for r, o in zip(rows, offset, strict=True)])


def _reach(mask: Grid, grid: Grid) -> Window:
    """The part of an image that its mask may cover: far from it a projection is slow or absent."""
    box = None if grid.crs is None or turns_round(grid) else bounds_in(mask, grid.crs)
    if box is None:
        return Window.whole(grid.shape)
    left, bottom, right, top = box
    corners = grid.world_to_index([(x, y) for x in (left, right) for y in (bottom, top)])
    low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    reach = Window.between(tuple(int(v) for v in low), tuple(int(v) for v in high))
    return reach.clipped(grid.shape)


def _tiles(window: Window, whole: Window) -> Iterator[Window]:
    sides = TILES[len(window.shape)]
    spans = zip(window.start, window.stop, sides, strict=True)
    for start in product(*[range(a // s * s, b, s) for a, b, s in spans]):
        yield Window(start, sides).intersection(whole)
