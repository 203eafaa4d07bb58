"""Vector labels: polygons burnt onto their image's own grid, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from pipeline.errors import CaseError
from pipeline.io.readers.geo.crs import bounds_in, same_crs, to_crs
from pipeline.io.readers.geo.features import AREAS, Features, read_features
from pipeline.io.readers.geo.gdal import placeless
from pipeline.space import Grid, Shape, Volume, Window

TILE = 512
"""Side of what is burnt at once. Tiles start at multiples of it whatever is read, so that an edge
through a pixel's centre falls to the same side for every window."""
SNAP = 2**20
"""Parts of a pixel to which corners are rounded: sums with whole pixels are then exact."""
STEP_PIXELS = 64
"""Longest straight piece of an edge that bends on its way to the image's system. Over as many
pixels of 10 m the Earth curves by a centimetre, over those of 1 km by a twelfth of a pixel."""
MOST_CORNERS = 20_000_000
HEAVY = 1000
"""Corners above which a polygon is cut to the tile before it is burnt."""
FAR = 2**20
"""Pixels beyond which it is cut too: GDAL counts pixels in 32 bits."""
FARTHEST = 2**40
"""Pixels beyond which a corner is a mistake."""


class VectorSource:
    """Polygons as a mask of int32: 0 outside, later polygons over earlier ones.

    A pixel is in a polygon when its centre is; touching does not count.
    """

    placed = True
    channels = 1
    sequential = False

    def __init__(self, polygons: NDArray[Any], values: NDArray[np.int32], grid: Grid) -> None:
        self.grid = grid
        self.dtype = np.dtype(np.int32)
        self.block: Shape = tuple(min(TILE, n) for n in grid.shape)
        self._polygons = polygons  # in pixels, x and y from the image's first corner
        self._values = values
        self._tree = shapely.STRtree(polygons)

    def read(self, window: Window) -> Volume:
        """Class values of a window, (1, Y, X)."""
        array = np.zeros((1, *window.shape), self.dtype)
        for tile in _tiles(window):
            part = tile.intersection(window)
            burnt = self._burnt(tile)[part.relative_to(tile).slices]
            array[0][part.relative_to(window).slices] = burnt
        return Volume(array, self.grid.cropped(window))

    def _burnt(self, tile: Window) -> NDArray[np.int32]:
        (y, x), (y_stop, x_stop) = tile.start, tile.stop
        found = np.sort(self._tree.query(shapely.box(x, y, x_stop, y_stop)))
        polygons = _lightened(self._polygons[found], tile)
        polygons = shapely.transform(polygons, lambda corners: corners - (x, y))
        shapes = [
            (polygon, value)
            for polygon, value in zip(polygons, self._values[found].tolist(), strict=True)
            if not polygon.is_empty
        ]
        if not shapes:
            return np.zeros(tile.shape, np.int32)
        with placeless():
            burnt: NDArray[np.int32] = rasterize(shapes, out_shape=tile.shape, dtype="int32")
        return burnt


def open_labels(path: Path, grid: Grid, attribute: str | None) -> VectorSource:
    """Open vector labels as a mask on an image's grid.

    Args:
        path: GeoJSON or GeoPackage.
        grid: The image's grid.
        attribute: Field that holds the class value, a whole number; None: every polygon is 1.

    Raises:
        CaseError: The file or the image is unusable for it.
    """
    if grid.crs is None:
        raise CaseError(
            f"{path.name} holds polygons on Earth, but its image has no coordinate reference "
            "system.",
            "Write the image's system into its file, with gdal_edit -a_srs for example.",
        )
    features = read_features(path, attribute, lambda crs: bounds_in(grid, crs))
    polygons, index = _in_pixels(path, features, grid)
    return VectorSource(polygons, features.values[index], grid)


def _in_pixels(path: Path, features: Features, grid: Grid) -> tuple[NDArray[Any], NDArray[Any]]:
    """Polygons in the image's pixels, and which feature each is of."""
    polygons, index = features.polygons, np.arange(len(features.polygons))
    if not same_crs(features.crs, str(grid.crs)):
        polygons, index = _bent(path, features, grid)
    corner = 0.0 if grid.anchor == "corner" else 0.5

    def to_pixels(world: NDArray[np.float64]) -> NDArray[np.float64]:
        pixels = (grid.world_to_index(world) + corner)[:, ::-1]
        if not (np.abs(pixels) < FARTHEST).all():
            _refuse_reach(path)
        snapped: NDArray[np.float64] = np.round(pixels * SNAP) / SNAP
        return snapped

    return shapely.transform(polygons, to_pixels), index


def _bent(path: Path, features: Features, grid: Grid) -> tuple[NDArray[Any], NDArray[Any]]:
    """Polygons in the image's system, and which feature each is of.

    An edge is straight in its own system and bent in the image's, so it gets corners on its way;
    what is far from the image is cut off first, because it may not exist there at all.
    """
    polygons, box = features.polygons, bounds_in(grid, features.crs)
    if box is not None:
        polygons = shapely.clip_by_rect(polygons, *box)
    polygons, index = shapely.get_parts(polygons, return_index=True)
    areas = shapely.get_type_id(polygons) == AREAS[0]
    polygons, index = polygons[areas], index[areas]
    if not len(polygons):
        return polygons, index
    step = _step(grid, features.crs)
    if not shapely.length(polygons).sum() <= step * MOST_CORNERS:
        _refuse_reach(path)

    def moved(corners: NDArray[np.float64]) -> NDArray[np.float64]:
        there = to_crs(corners, features.crs, str(grid.crs))
        if not np.isfinite(there).all():
            _refuse_reach(path)
        return there

    return shapely.transform(shapely.segmentize(polygons, step), moved), index


def _step(grid: Grid, crs: str) -> float:
    """Length of ``STEP_PIXELS`` pixels in the middle of a scene, in a system's unit."""
    middle = np.asarray(grid.shape) / 2
    ends = middle + STEP_PIXELS * np.asarray([(0, 0), (1, 0), (0, 1)])
    at = to_crs(grid.index_to_world(ends), str(grid.crs), crs)
    return float(np.linalg.norm(at[1:] - at[0], axis=1).min())


def _refuse_reach(path: Path) -> NoReturn:
    raise CaseError(
        f"{path.name} reaches beyond what its image's coordinate reference system can show.",
        "Save the labels in the image's system, cut to its area.",
    )


def _lightened(polygons: NDArray[Any], tile: Window) -> NDArray[Any]:
    """Polygons, the heavy and the far-reaching ones cut to a tile and two pixels around it."""
    (y, x), (y_stop, x_stop) = tile.start, tile.stop
    far = (np.abs(shapely.bounds(polygons)) > FAR).any(axis=-1)
    heavy = far | (shapely.get_num_coordinates(polygons) > HEAVY)
    if heavy.any():
        cut = shapely.clip_by_rect(polygons[heavy], x - 2, y - 2, x_stop + 2, y_stop + 2)
        polygons = polygons.copy()
        polygons[heavy] = cut
    return polygons


def _tiles(window: Window) -> Iterator[Window]:
    spans = zip(window.start, window.stop, strict=True)
    for start in product(*[range(a // TILE * TILE, b, TILE) for a, b in spans]):
        yield Window(start, (TILE, TILE))
