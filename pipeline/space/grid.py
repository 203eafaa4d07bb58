"""Where an array lies in the world: shape, axes, affine, unit and coordinate reference system."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import GridError
from pipeline.space.window import Shape, Window

Affine = tuple[tuple[float, ...], ...]
Anchor = Literal["center", "corner"]
AXES = {2: ("y", "x"), 3: ("z", "y", "x")}
SYMBOLS = {"millimeter": "mm", "meter": "m", "degree": "°"}
"""How units stand in messages."""
TOWARDS = {2: ("WE", "SN"), 3: ("LR", "PA", "IS")}
"""Letters of the two ends of each world axis, x first: of a scene, of a scan."""


@dataclass(frozen=True)
class Grid:
    """Position of an array's voxels.

    The affine takes an index in array order, (z, y, x) or (y, x), to world coordinates in the
    order of the field: (x, y, z) RAS+ millimetres for a scan, (x, y) of the CRS for a scene.
    """

    shape: Shape
    """Voxels on each spatial axis, (Z, Y, X) or (Y, X)."""
    affine: Affine
    """Homogeneous matrix, index → world, one row and column more than there are axes."""
    unit: str | None = None
    """Unit of the world coordinates: "millimeter", "meter", "degree"; None where unknown."""
    crs: str | None = None
    """Coordinate reference system as WKT; None for scans and plain pictures."""
    anchor: Anchor = "center"
    """What a whole index means: the voxel's centre (scans) or its first corner (scenes)."""

    def __post_init__(self) -> None:
        n = len(self.shape)
        if n not in AXES:
            raise GridError(f"a grid has {n} axes {self.shape}: 2 or 3 are supported")
        if np.shape(self.affine) != (n + 1, n + 1):
            raise GridError(
                f"the affine has shape {np.shape(self.affine)}: {n} axes need {(n + 1, n + 1)}"
            )

    @property
    def axes(self) -> tuple[str, ...]:
        """Axis names in array order."""
        return AXES[len(self.shape)]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as an array of shape (n + 1, n + 1)."""
        return np.asarray(self.affine, dtype=np.float64)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels on each array axis, in ``unit``.

        Millimetres for scans (``spacing_mm``), the CRS's unit for scenes (``resolution_m``).
        """
        lengths = np.linalg.norm(self.matrix[:-1, :-1], axis=0)
        return tuple(float(v) for v in lengths)

    @property
    def rectilinear(self) -> bool:
        """Whether each array axis runs along exactly one world axis."""
        linear = self.matrix[:-1, :-1]
        # Headers carry affines in float32, whose rounding must not turn an axis.
        along = np.abs(linear) > 1e-6 * np.linalg.norm(linear, axis=0)
        return bool(np.all(np.count_nonzero(along, axis=0) == 1))

    @property
    def orientation(self) -> str | None:
        """Where the array's axes run to, x first: RAS for a scan, ES for a north-up scene.

        An oblique axis has the letter of the world axis it is nearest to. None where the place
        is unknown.
        """
        n = len(self.shape)
        linear = self.matrix[:-1, :-1]
        placed = self.crs is not None if n == 2 else self.unit == "millimeter"
        if not placed or not np.isfinite(linear).all():
            return None
        nearest = np.abs(linear).argmax(axis=0)
        ends = [TOWARDS[n][world][int(linear[world, a] > 0)] for a, world in enumerate(nearest)]
        return "".join(reversed(ends))

    def measured(self, *lengths: float) -> str:
        """Lengths with their unit, for a message.

        Example:
            >>> voxel_grid((4, 4)).measured(1.5, 2)
            '1.5 × 2'
        """
        symbol = SYMBOLS.get(self.unit or "", self.unit or "")
        return f"{' × '.join(f'{v:.6g}' for v in lengths)} {symbol}".strip()

    def index_to_world(self, index: ArrayLike) -> NDArray[np.float64]:
        """World coordinates of indices.

        Args:
            index: Indices in array order, shape (..., n); fractions allowed.

        Returns:
            Coordinates in world order, shape (..., n).
        """
        points = np.asarray(index, dtype=np.float64)
        return np.asarray(points @ self.matrix[:-1, :-1].T + self.matrix[:-1, -1], np.float64)

    def world_to_index(self, world: ArrayLike) -> NDArray[np.float64]:
        """Indices, fractions included, of world coordinates; the inverse of index_to_world."""
        offset = np.asarray(world, dtype=np.float64) - self.matrix[:-1, -1]
        index = np.linalg.solve(self.matrix[:-1, :-1], offset[..., None])[..., 0]
        return np.asarray(index, np.float64)

    def cropped(self, window: Window) -> Grid:
        """The grid of a window: same world, its origin at the window's start."""
        matrix = self.matrix.copy()
        matrix[:-1, -1] = self.index_to_world(window.start)
        return Grid(window.shape, as_affine(matrix), self.unit, self.crs, self.anchor)

    @property
    def cornered(self) -> Grid:
        """The same place, a whole index meaning a voxel's first corner."""
        if self.anchor == "corner":
            return self
        matrix = self.matrix.copy()
        matrix[:-1, -1] = self.index_to_world([-0.5] * len(self.shape))
        return Grid(self.shape, as_affine(matrix), self.unit, self.crs, "corner")

    def coarser(self, factors: Shape) -> Grid:
        """The grid of a pyramid level whose voxels cover ``factors`` voxels of this one.

        The last voxel of an axis may reach past the array where its size is no multiple.
        """
        matrix = self.matrix.copy()
        matrix[:-1, :-1] *= np.asarray(factors, dtype=np.float64)
        if self.anchor == "center":
            matrix[:-1, -1] = self.index_to_world([(f - 1) / 2 for f in factors])
        shape = tuple(-(-n // f) for n, f in zip(self.shape, factors, strict=True))
        return Grid(shape, as_affine(matrix), self.unit, self.crs, self.anchor)

    def difference(self, other: Grid, tolerance_voxels: float = 1e-2) -> str | None:
        """What separates two grids, in words; None where they are the same place.

        Args:
            other: The grid to compare.
            tolerance_voxels: How far any corner may lie from its twin. Writers round affines
                to float32 or to a dozen decimals; a hundredth of a voxel is above that and
                below anything a mask can show.
        """
        if self.shape != other.shape:
            return f"shape {other.shape} instead of {self.shape}"
        if (self.crs is None) != (other.crs is None):
            return "one has a coordinate reference system, the other has none"
        corners = np.stack(np.meshgrid(*[(0, n) for n in self.shape], indexing="ij"), -1)
        there = other.index_to_world(corners)
        worst = float(np.max(np.abs(self.world_to_index(there) - corners)))
        if worst <= tolerance_voxels:
            return None
        far = float(np.max(np.linalg.norm(there - self.index_to_world(corners), axis=-1)))
        world = f" ({self.measured(float(f'{far:.3g}'))})" if self.unit else ""
        parts = ", ".join(self._parts_that_differ(other, tolerance_voxels))
        return f"its corners lie up to {worst:.3g} voxels{world} away" + (parts and f": {parts}")

    def _parts_that_differ(self, other: Grid, tolerance_voxels: float) -> Iterator[str]:
        """Spacing, direction and origin, where by itself it moves a corner of the array."""
        mine, theirs = np.asarray(self.spacing), np.asarray(other.spacing)
        size = np.asarray(self.shape)
        if np.any(np.abs(theirs - mine) * size > tolerance_voxels * mine):
            yield (
                f"its spacing is {other.measured(*other.spacing)} instead of "
                f"{self.measured(*self.spacing)}"
            )
        turned = _angles(self.matrix[:-1, :-1], other.matrix[:-1, :-1])
        if self.orientation != other.orientation:
            yield f"its axes run {other.orientation} instead of {self.orientation}"
        elif np.any(turned * size > tolerance_voxels):
            yield f"its axes are turned by {np.rad2deg(turned.max()):.3g}°"
        step = other.matrix[:-1, -1] - self.matrix[:-1, -1]
        if np.max(np.abs(np.linalg.solve(self.matrix[:-1, :-1], step))) > tolerance_voxels:
            yield f"its origin is moved by {self.measured(float(np.linalg.norm(step)))}"

    def to_json(self) -> dict[str, Any]:
        """The grid as JSON values."""
        return {
            "shape": list(self.shape),
            "axes": list(self.axes),
            "affine": [list(row) for row in self.affine],
            "unit": self.unit,
            "crs": self.crs,
            "anchor": self.anchor,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Grid:
        """The grid that ``to_json`` wrote."""
        return cls(
            tuple(value["shape"]),
            as_affine(value["affine"]),
            value["unit"],
            value["crs"],
            value["anchor"],
        )


def _angles(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles between the columns of two matrices, radians."""
    lengths = np.linalg.norm(one, axis=0) * np.linalg.norm(other, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = (one * other).sum(axis=0) / lengths
    return np.asarray(np.arccos(cosines.clip(-1, 1)), np.float64)


def voxel_grid(shape: Shape) -> Grid:
    """The grid of a picture that says nothing of its place: world coordinates are indices.

    World order is (x, y, z), array order (z, y, x), so the affine is the reversed identity.
    """
    n = len(shape)
    matrix = np.eye(n + 1)
    matrix[:n, :n] = np.fliplr(np.eye(n))
    return Grid(tuple(shape), as_affine(matrix))


def as_affine(matrix: ArrayLike) -> Affine:
    """A matrix as nested tuples, so that a grid can be frozen, compared and pickled."""
    return tuple(tuple(float(v) for v in row) for row in np.asarray(matrix, dtype=np.float64))
