"""Groups: which texts are joined, directly or through others, by edges between near ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def connected(edges: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Each text that has an edge, with the lowest text of its connected group.

    Args:
        edges: pairs of texts' numbers, uint64 [e, 2], in any order.

    Returns:
        texts' numbers [m], rising, and the lowest number of each one's group [m], both uint64.
    """
    if not len(edges):
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    refs, index = np.unique(edges, return_inverse=True)
    low, high = index.reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges), np.int8), (low, high)), shape=(len(refs), len(refs)))
    _, group = connected_components(graph, directed=False)
    # Texts rise, so the first one of a group is its lowest.
    _, first = np.unique(group, return_index=True)
    return refs, refs[first[group]]
