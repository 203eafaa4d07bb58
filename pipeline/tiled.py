"""A network over a volume in tiles, exact or blended: serves validation and prediction.

Exact: a tile is read with a halo as wide as the network's view and only its inside is kept, so
the labels are those of one pass over the whole volume. Blended: for networks that keep statistics
of what they see, overlapping tiles are averaged with Gaussian weights. An unpadded network is
shown what it loses around each tile, mirrored at the volume's border, as Ronneberger et al. 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from models import Decision, Network
from pipeline.flat_windows import FlatResults, flat_value
from pipeline.processor import Processor, forward
from pipeline.space import HaloTile, Shape, Window, gaussian_weights, halo_tiles, tile_windows
from pipeline.surroundings import Read, read_mirrored, read_padded
from pipeline.weighted_sums import WeightedSums


@dataclass(frozen=True)
class Tiling:
    """How a network is laid over volumes."""

    blend: Literal["exact", "gaussian"]
    """Exact tiles with halo, or Gaussian averages of overlapping ones."""
    stride: Shape
    """The network's total stride."""
    halo: Shape
    """Voxels around an output that can change it, multiples of the stride; unused by blending."""
    tile: Shape
    """Largest box a pass fills (exact), or the size of every pass (gaussian)."""
    margin: Shape = ()
    """Voxels that an unpadded network's output lacks on each side; empty for a padded one."""
    least: Shape = ()
    """Smallest output of an unpadded network; others are larger by multiples of the stride."""
    reason: str = ""
    """Why tiles are blended, where the network would allow exact ones; it changes no voxel."""

    def to_json(self) -> dict[str, Any]:
        """The tiling as JSON values, for keys and provenance."""
        sizes = {"tile": list(self.tile), "halo": list(self.halo)}
        if self.margin:
            sizes["margin"] = list(self.margin)
        return {"blend": self.blend, **sizes}

    def fitting(self, shape: Shape) -> Shape:
        """The smallest box that a pass can fill and that is nowhere smaller than ``shape``."""
        least = self.least or (0,) * len(shape)
        return tuple(
            a + max(0, -(-(n - a) // s)) * s
            for n, a, s in zip(shape, least, self.stride, strict=True)
        )

    def tiles(self, write: Window, shape: Shape) -> list[HaloTile]:
        """Passes that fill a box of a volume of this shape."""
        if self.blend == "gaussian":
            # Of the whole volume, whatever box is asked for.
            padded = tuple(max(n, t) for n, t in zip(shape, self.tile, strict=True))
            windows = tile_windows(padded, self.tile, tuple(t // 2 for t in self.tile))
            shared = [HaloTile(window, window.intersection(write)) for window in windows]
            return [tile for tile in shared if tile.write.size]
        # An unpadded network reads its surroundings itself: its tiles need no halo.
        halo = (0,) * len(shape) if self.margin else self.halo
        return halo_tiles(write, shape, self.tile, halo, self.stride)

    def shown_voxels(self, tile: HaloTile) -> int:
        """Voxels that the network is shown for a tile."""
        return prod(self.shown(self.fitting(tile.read.shape)))

    def shown(self, shape: Shape) -> Shape:
        """What the network is shown to fill a box of this shape."""
        margin = self.margin or (0,) * len(shape)
        return tuple(n + 2 * m for n, m in zip(shape, margin, strict=True))


@dataclass(frozen=True, eq=False)
class TiledNetwork:
    """A network that fills any box of a volume; several threads may ask it."""

    model: Network
    """Placed by the processor."""
    tiling: Tiling
    """How it is laid over volumes."""
    processor: Processor
    """Where it runs."""
    decide: Callable[[Tensor], Tensor] = Tensor.float
    """Makes class numbers or values of logits, (K, *S) → (*S), or leaves them."""
    dtype: DTypeLike | None = None
    """Of the result; None: as decided."""
    _flat: FlatResults = field(default_factory=FlatResults, init=False)

    @cached_property
    def undecided(self) -> TiledNetwork:
        """The same, giving logits."""
        return TiledNetwork(self.model, self.tiling, self.processor)

    def fill(
        self,
        read: Read,
        shape: Shape,
        write: Window,
        wanted: NDArray[np.bool_] | None = None,
    ) -> NDArray[Any]:
        """What a mask holds in a box of a volume; neighbours of the box are read as needed.

        Args:
            read: Gives normalised voxels; only ever asked for windows inside the volume.
            shape: The volume's spatial shape.
            write: The box to fill, inside the volume.
            wanted: Voxels of the box that matter: a tile without any is not computed, and
                filled with 0.

        Returns:
            What was decided, of the box's shape; logits with their axis of classes in front.
        """
        if self.tiling.blend == "gaussian":
            return self._blended(read, shape, write, wanted)
        result: NDArray[Any] | None = None
        for tile in self.tiling.tiles(write, shape):
            place = tile.write.relative_to(write).slices
            if wanted is not None and not wanted[place].any():
                continue
            kept = self._tile(read, shape, tile)
            if result is None:
                whole = (*kept.shape[: -len(shape)], *write.shape)
                result = np.zeros(whole, self.dtype or kept.dtype)
            result[(..., *place)] = kept  # type: ignore[index]
        return np.zeros(write.shape, self.dtype or np.uint8) if result is None else result

    def _tile(self, read: Read, shape: Shape, tile: HaloTile) -> NDArray[Any]:
        voxels = self._shown(read, shape, tile.read)
        inside = tile.write.relative_to(tile.read)
        value = flat_value(voxels)
        key = (value, voxels.shape, inside)
        if value is not None and (known := self._flat.find(key)) is not None:
            return known
        logits = forward(self.model, voxels[None], self.processor, inside)[0]
        kept = self.decide(logits).cpu().numpy()
        if self.dtype is not None:
            kept = kept.astype(self.dtype)
        if value is not None:
            self._flat.keep(key, kept, len(shape))
        return kept

    def _shown(self, read: Read, shape: Shape, window: Window) -> NDArray[np.float32]:
        """What the network is shown to fill a window, which starts on a multiple of the stride.

        Its output may go on beyond the window's end.

        Returns:
            (C, *S).
        """
        filled = Window(window.start, self.tiling.fitting(window.shape))
        if self.tiling.margin:
            return read_mirrored(read, filled.grown(self.tiling.margin), shape)
        return read_padded(read, filled, shape)

    def _blended(
        self, read: Read, shape: Shape, write: Window, wanted: NDArray[np.bool_] | None
    ) -> NDArray[Any]:
        """What follows from averaged logits of overlapping tiles.

        The tiles are those of the whole volume, whatever box is asked for, and are added in one
        order, so that any partition of the volume gives the same result. Sums are held of a tile's
        rows only: those above the next tile have met all of theirs.
        """
        tile, device = self.tiling.tile, self.processor.device
        weights = torch.as_tensor(np.array(gaussian_weights(tile)), device=device)
        sums: WeightedSums | None = None
        result: NDArray[Any] | None = None
        for one in self.tiling.tiles(write, shape):
            place = one.write.relative_to(write)
            if wanted is not None and not wanted[place.slices].any():
                continue
            voxels = self._shown(read, shape, one.read)
            logits = forward(self.model, voxels[None], self.processor)[0]
            if sums is None:
                sums = WeightedSums.of(logits, write.shape, tile[0])
            for first, whole in sums.rows_above(place.start[0]):
                result = self._keep(result, whole, first, write.shape)
            inside = one.write.relative_to(one.read).slices
            weighed = weights[inside]
            sums.add(place, logits[(slice(None), *inside)] * weighed, weighed)
        if sums is None:
            return np.zeros(write.shape, self.dtype or np.uint8)
        for first, whole in sums.rows_above(write.shape[0]):
            result = self._keep(result, whole, first, write.shape)
        assert result is not None
        return result

    def _keep(
        self, result: NDArray[Any] | None, logits: Tensor, first: int, shape: Shape
    ) -> NDArray[Any]:
        """Decide on rows of a box of this shape, and put them into its result."""
        kept = self.decide(logits).cpu().numpy()
        if result is None:
            whole = (*kept.shape[: -len(shape)], *shape)
            result = np.zeros(whole, self.dtype or kept.dtype)
        rows = (slice(first, first + logits.shape[1]), *(slice(None) for _ in shape[1:]))
        result[(..., *rows)] = kept  # type: ignore[index]
        return result


TEST_SIDE = {2: 1024, 3: 128}


def seam_mismatch(
    network: TiledNetwork, read: Read, shape: Shape, side: int | None = None
) -> dict[str, int]:
    """Compare tiles with one whole pass, on real voxels.

    The volume (or its first part, where it is large) is labelled twice: at once, and by tiles
    half as large on every axis that has room for two.

    Args:
        network: With its decision.
        read: Gives normalised voxels.
        shape: The volume's spatial shape.
        side: Most voxels on an axis that are compared; None: ``TEST_SIDE``.

    Returns:
        ``voxels`` compared and ``different`` labels among them.
    """
    side, tiling, decide = side or TEST_SIDE[len(shape)], network.tiling, network.decide
    size = tuple(min(n, side) for n in shape)
    padded = tuple(-(-n // s) * s for n, s in zip(size, tiling.stride, strict=True))
    half = tuple(max(s, n // 2 // s * s) for n, s in zip(padded, tiling.stride, strict=True))
    parts = tiling if tiling.blend == "gaussian" else replace(tiling, tile=half)
    laid = [replace(tiling, blend="exact", tile=padded), parts]
    box = Window.whole(size)
    first, second = (replace(network, tiling=one).fill(read, size, box) for one in laid)
    apart = first != second
    if isinstance(decide, Decision) and decide.kind == "linear":
        # Of values, what is no more than rounding in the network's own number format.
        apart = np.abs(first - second) > 0.01 * decide.std
    return {"voxels": box.size, "different": int(np.count_nonzero(apart))}
