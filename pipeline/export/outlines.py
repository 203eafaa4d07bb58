"""Outlines of a mask's regions, traced block by block: no seams, whatever the blocks.

A region is all pixels of one class that are connected over edges (4 neighbours): it has one outer
ring, and every other ring of it is a hole. Blocks hand on the corners they see. Regions that reach
no further are traced and given away; what is held is those still open, and a line of pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.components.graph import joined
from pipeline.export.rings import Corners, Rings, find_corners, join_corners
from pipeline.space import Shape, Window, aligned_windows

SIDE = 1024
"""Of a block, in pixels."""


@dataclass(frozen=True, eq=False)
class Block:
    """Pixels of a mask."""

    labels: NDArray[Any]
    """Classes, (Y, X), counted from 1; 0 for what is not traced."""
    areas: NDArray[np.float64]
    """Of each pixel, in a shape that broadcasts to (Y, X)."""
    objects: NDArray[Any]
    """Number of the object of each, in a shape that broadcasts to (Y, X)."""


@dataclass(frozen=True, eq=False)
class Regions:
    """What is known of regions."""

    label: NDArray[np.int64]
    """Class of each, (n,)."""
    pixels: NDArray[np.int64]
    """Pixels of each, (n,)."""
    area: NDArray[np.float64]
    """Area of each, (n,)."""
    object: NDArray[np.int64]
    """Object that each is of, (n,)."""

    @classmethod
    def together(cls, regions: list[Regions]) -> Regions:
        """Regions of several lists, one list after the other."""
        rows = [(r.label, r.pixels, r.area, r.object) for r in regions]
        return cls(*(np.concatenate(column) for column in zip(*rows, strict=True)))

    def merged(self, group: NDArray[np.int64], groups: int) -> Regions:
        """Those of one group as one region."""
        label, number, pixels = np.zeros((3, groups), np.int64)
        label[group], number[group] = self.label, self.object
        np.add.at(pixels, group, self.pixels)
        area = np.bincount(group, self.area, groups).astype(np.float64)
        return Regions(label, pixels, area, number)

    def chosen(self, which: NDArray[Any]) -> Regions:
        """Some of them."""
        counted = self.label[which], self.pixels[which]
        return Regions(*counted, self.area[which], self.object[which])


@dataclass(frozen=True, eq=False)
class Outlines:
    """Regions that are whole."""

    regions: Regions
    """What is known of them."""
    rings: Rings
    """Their outlines, in corners of pixels."""


def trace(shape: Shape, read: Callable[[Window], Block], side: int = SIDE) -> Iterator[Outlines]:
    """Trace the regions of a mask.

    Args:
        shape: Of the mask, (Y, X).
        read: Gives the pixels of a window.
        side: Of the blocks; any gives the same outlines, in another order.

    Yields:
        The regions that end in each row of blocks.
    """
    tracer = _Tracer(shape)
    windows = aligned_windows(shape, (side, side))
    for _, row in groupby(windows, key=lambda window: window.start[0]):
        for window in row:
            tracer.add(window, read(window.grown((1, 1), (0, 0)).clipped(shape)))
        yield tracer.end_row(last=window.stop[0] == shape[0])


class _Tracer:
    """What is known after some of the blocks, which come row by row.

    Nodes are regions as far as one block, or what came before it, knows them. They count from 1; 0
    is what is not traced.
    """

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        none = np.zeros(0, np.int64)
        self._regions = [Regions(none, none, np.zeros(0), none)]
        self._corners = [Corners(none, none, none, none.astype(np.int8))]
        self._links = [np.zeros((0, 2), np.int64)]
        self._count = 0
        # Nodes of the last pixels of the blocks above, of those being added, and on the left.
        self._above = np.zeros(shape[1], np.int64)
        self._below = np.zeros(shape[1], np.int64)
        self._left = np.zeros(0, np.int64)

    def add(self, window: Window, block: Block) -> None:
        """Take in the next block, with a line of pixels of the blocks above and on the left."""
        before = tuple(int(a > 0) for a in window.start)
        own = tuple(slice(n, None) for n in before)
        nodes, label = _numbered(block.labels, self._count)
        self._regions.append(_counted(block, nodes, label, self._count, own))
        self._corners.append(self._found(window, block.labels, nodes, before))
        (_, left), (_, right) = window.start, window.stop
        if before[0]:
            self._link(nodes[0], self._above[left - before[1] : right])
        if before[1]:
            self._link(nodes[before[0] :, 0], self._left)
        self._left = nodes[before[0] :, -1].copy()
        self._below[left:right] = nodes[-1, before[1] :]
        self._count += len(label)

    def _link(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
        """Note that nodes of the same pixels are of the same region."""
        pairs = np.stack([one, other], axis=1)[one > 0]
        # Neighbours mostly say the same.
        new = np.ones(len(pairs), bool)
        new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
        self._links.append(pairs[new])

    def _found(
        self, window: Window, labels: NDArray[Any], nodes: NDArray[np.int64], before: Shape
    ) -> Corners:
        """Corners above and left of the block's pixels, and at the mask's end."""
        ends = zip(before, window.stop, self._shape, strict=True)
        frame = [(1 - known, int(stop == size)) for known, stop, size in ends]
        return find_corners(np.pad(labels, frame), np.pad(nodes, frame), *window.start)

    def end_row(self, *, last: bool) -> Outlines:
        """Give the regions that the next row of blocks does not meet.

        Args:
            last: Whether there is none.
        """
        group = joined(self._count + 1, np.concatenate(self._links))
        going_on = np.zeros(int(group.max()) + 1, bool)
        if not last:
            going_on[group[self._below]] = True
        going_on[group[0]] = False
        ended = ~going_on
        ended[group[0]] = False
        regions = Regions.together(self._regions).merged(group[1:], len(ended))
        corners = Corners.together(self._corners)
        corners = corners.of(group[corners.region])
        # What goes on is numbered anew, from 1.
        node = np.cumsum(going_on) * going_on
        self._regions = [regions.chosen(going_on)]
        held = _those(corners, going_on)
        self._corners = [held.of(node[held.region])]
        self._links = [np.zeros((0, 2), np.int64)]
        self._count = int(going_on.sum())
        self._above, self._below = node[group[self._below]], np.zeros_like(self._below)
        number = np.cumsum(ended) - 1
        whole = _those(corners, ended)
        rings = join_corners(whole.of(number[whole.region]), int(ended.sum()))
        return Outlines(regions.chosen(ended), rings)


def _those(corners: Corners, regions: NDArray[np.bool_]) -> Corners:
    """The corners of some regions."""
    return corners.chosen(regions[corners.region])


def _numbered(labels: NDArray[Any], before: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Node of each pixel, counted on from ``before``; and the class of each node."""
    nodes, held = np.zeros(labels.shape, np.int64), [np.zeros(0, np.int64)]
    for label in np.flatnonzero(np.bincount(labels.ravel())):
        if label > 0:
            parts, count = ndimage.label(labels == label)
            np.add(parts, before, out=nodes, where=parts > 0)
            held.append(np.full(count, label))
            before += count
    return nodes, np.concatenate(held)


def _counted(
    block: Block,
    nodes: NDArray[np.int64],
    label: NDArray[np.int64],
    before: int,
    own: tuple[slice, ...],
) -> Regions:
    """What a block's own pixels say of its nodes, those that count on from ``before``."""
    part = np.maximum(nodes - before, 0)
    number = np.zeros(len(label) + 1, np.int64)
    number[part] = block.objects
    mine = part[own].ravel()
    areas = np.broadcast_to(block.areas, nodes.shape)[own]
    area = np.bincount(mine, areas.ravel(), len(label) + 1)
    pixels = np.bincount(mine, minlength=len(label) + 1).astype(np.int64)
    return Regions(label, pixels[1:], area[1:].astype(np.float64), number[1:])
