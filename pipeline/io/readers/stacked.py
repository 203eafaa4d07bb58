"""Channels brought together from several files, and chosen from one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import CaseError
from pipeline.io.readers.geo.crs import difference
from pipeline.io.readers.source import Source
from pipeline.space import Grid, Shape, Volume, Window, aligned_windows

PIECE_BYTES = 64 * 2**20
"""Most that is read of all channels to take some of them."""


class StackedSource:
    """Files of one image, their channels one after another.

    Args:
        sources: The open files, in the order of their channels; at least one.
        names: Their names, for messages.

    Raises:
        CaseError: They differ in shape or place.
    """

    def __init__(self, sources: Sequence[Source], names: Sequence[str]) -> None:
        self._sources = tuple(sources)
        self.placed = any(source.placed for source in sources)
        self.grid: Grid = _common_grid(sources, names)
        self.channels = sum(source.channels for source in sources)
        kept = np.result_type(*(source.dtype for source in sources))
        # Two types of 32 bits meet in one of 64, which no reader keeps.
        self.dtype: np.dtype[Any] = np.dtype("float32") if kept == np.float64 else kept
        blocks = [source.block for source in sources]
        self.block: Shape = tuple(max(sizes) for sizes in zip(*blocks, strict=True))
        self.sequential = any(source.sequential for source in sources)

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Z, Y, X) or (C, Y, X); valid where all files are."""
        parts = [source.read(window) for source in self._sources]
        array = np.concatenate([part.array for part in parts], dtype=self.dtype, casting="unsafe")
        told = [part.valid for part in parts if part.valid is not None]
        valid: NDArray[np.bool_] | None = reduce(np.logical_and, told) if told else None
        return Volume(array, self.grid.cropped(window), valid)


class BandsSource:
    """Chosen channels of a source, in the wanted order.

    Args:
        source: What they are taken from.
        bands: Channels, counted from 1.

    Raises:
        CaseError: The source has no such channel.
    """

    def __init__(self, source: Source, bands: tuple[int, ...]) -> None:
        if wrong := [band for band in bands if not 1 <= band <= source.channels]:
            raise CaseError(
                f"its image has {source.channels} channels: there is no channel {wrong[0]}.",
                "Correct data.bands, which counts channels from 1, or remove the case.",
            )
        self._source = source
        self._places = [band - 1 for band in bands]
        self.grid: Grid = source.grid
        self.placed = source.placed
        self.channels = len(bands)
        self.dtype = source.dtype
        self.block: Shape = source.block
        self.sequential = source.sequential

    def read(self, window: Window) -> Volume:
        """Voxels of a window, (C, Z, Y, X) or (C, Y, X), and the validity of the whole image."""
        array = np.empty((self.channels, *window.shape), self.dtype)
        valid = np.ones(window.shape, bool)
        for piece in aligned_windows(window.shape, self._piece(window.shape)):
            part = self._source.read(piece.shifted(window.start))
            array[(slice(None), *piece.slices)] = part.array[self._places]
            if part.valid is not None:
                valid[piece.slices] = part.valid
        return Volume(array, self.grid.cropped(window), None if valid.all() else valid)

    def _piece(self, shape: Shape) -> Shape:
        """A box of all channels that may be held to take some of them."""
        voxel_bytes = self._source.channels * self.dtype.itemsize
        piece = list(shape)
        # A stream is read plane by plane; halving its first axis keeps the order.
        while prod(piece) * voxel_bytes > PIECE_BYTES and max(piece) > 1:
            axis = 0 if piece[0] > 1 else int(np.argmax(piece))
            piece[axis] = -(-piece[axis] // 2)
        return tuple(piece)


def _common_grid(sources: Sequence[Source], names: Sequence[str]) -> Grid:
    """The place that files share: the first that says one; files that say none follow it."""
    first = next((i for i, source in enumerate(sources) if source.placed), 0)
    grid = sources[first].grid
    for source, name in zip(sources, names, strict=True):
        apart: str | None = None
        if source.grid.shape != grid.shape:
            apart = f"shape {source.grid.shape} instead of {grid.shape}"
        elif source.placed:
            apart = difference(grid, source.grid)
        if apart is not None:
            raise CaseError(
                f"{name} does not fit {names[first]}: {apart}.",
                "Resample the channels of a case to one grid.",
            )
    return grid
