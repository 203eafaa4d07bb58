"""Pairs of things that are linked, and the groups they make."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def joined(nodes: int, links: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the groups of linked nodes.

    Args:
        nodes: How many there are.
        links: Pairs of nodes of one group, (m, 2), with or without repeats.

    Returns:
        Group of each node, (nodes,), from 0.

    Example:
        >>> joined(4, np.array([[0, 2], [2, 3]])).tolist()
        [0, 1, 0, 0]
    """
    if not nodes:
        return np.empty(0, np.int64)
    weights = np.ones(len(links), np.bool_)
    graph = coo_array((weights, (links[:, 0], links[:, 1])), shape=(nodes, nodes))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def unique_codes(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers of a list, sorted and each once."""
    # numpy.unique hashes, which is ten times slower for millions of codes of pairs.
    codes = np.sort(codes)
    kept = np.ones(len(codes), np.bool_)
    kept[1:] = codes[1:] != codes[:-1]
    return codes[kept]


def unique_pairs(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of a list of pairs, (m, 2), sorted and each once; numbers are 0 and above."""
    stride = int(pairs.max(initial=0)) + 1
    codes = unique_codes(pairs[:, 0] * stride + pairs[:, 1])
    return np.stack(np.divmod(codes, stride), axis=1)
