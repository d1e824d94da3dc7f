"""Candidate pairs: which texts share a band, and so are worth an exact comparison."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

MOST = 32
"""The longest run of texts with one key of which all pairs become candidates: at most 496."""

NEIGHBOURS = 8
"""How many of a longer run's lowest texts, and of those that follow, each text of it is paired with."""


def candidate_pairs(keys: NDArray[np.uint64], refs: NDArray[np.uint64], most: int = MOST) -> NDArray[np.uint64]:
    """The pairs of texts that have a key in common; the same ones in whatever order the input is.

    Of a run of up to `most` texts with one key, these are all pairs. Of a longer run, each text is paired with the 8
    lowest and with the 8 that follow it by number: at most 16 pairs a text, where all pairs of a million texts were
    half a trillion. Given up are the other pairs of long runs: a text there that is near to neither of its up to 16 is
    found only through another band, where the run is another one, or through a third text. Long runs are mostly
    templates, whose texts are near to the lowest of them too, so their groups stay joined.

    Args:
        keys: band keys uint64 [n].
        refs: the texts' numbers uint64 [n]; a text may be there with many keys.
        most: the longest run of which all pairs are taken.

    Returns:
        uint64 [p, 2], rows (low, high) with low < high, distinct and sorted.
    """
    shared = _shared(keys)
    if not len(shared):
        return np.empty((0, 2), np.uint64)
    # Runs and texts as small numbers, so that one number holds a pair of them: sorting those is what is fast.
    _, run = np.unique(keys[shared], return_inverse=True)
    texts, rank = np.unique(refs[shared], return_inverse=True)
    members = sorted_distinct(_packed(run, rank))
    run, rank = _unpacked(members)
    starts = np.flatnonzero(np.diff(run, prepend=-1))
    sizes = np.diff(starts, append=len(run))
    small = sizes <= most
    pairs = [*_all_pairs(rank, starts[small], sizes[small]), *_some_pairs(rank, starts[~small], sizes[~small])]
    low, high = _unpacked(sorted_distinct(np.concatenate(pairs)))
    return np.stack([texts[low], texts[high]], axis=1)


def _all_pairs(
    rank: NDArray[np.int64], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> list[NDArray[np.uint64]]:
    """All pairs within each run, the runs of one length at a time."""
    pairs = [np.empty(0, np.uint64)]
    for size in np.unique(sizes):
        low, high = np.triu_indices(size, 1)
        first = starts[sizes == size, None]
        pairs.append(_packed(rank[first + low], rank[first + high]).ravel())
    return pairs


def _some_pairs(
    rank: NDArray[np.int64], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> list[NDArray[np.uint64]]:
    """Of each run, every member with the lowest ones and with the ones that follow it."""
    first = np.repeat(starts, sizes)
    ends = np.cumsum(sizes)
    place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
    left = np.repeat(sizes, sizes) - place
    pairs = []
    for step in range(NEIGHBOURS):
        later, followed = place > step, left > step + 1
        here, there = (first + place)[later], (first + place)[followed]
        pairs.append(_packed(rank[first[later] + step], rank[here]))
        pairs.append(_packed(rank[there], rank[there + step + 1]))
    return pairs


def _shared(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Places [s] in any order of all keys that occur more than once, and of a few others.

    An argsort takes five times as long as a sort. So the place replaces the key's last bits, and what is left of the
    key tells nearly all different keys apart: of n keys, about n^2 / 2^(64 - log2 n) pairs are equal by chance.
    """
    bits = np.uint64(len(keys).bit_length())
    places = (np.uint64(1) << bits) - np.uint64(1)
    both = keys & ~places
    both |= np.arange(len(keys), dtype=np.uint64)
    both.sort()
    equal = (both[1:] ^ both[:-1]) <= places
    found = np.zeros(len(keys), bool)
    found[1:] = equal
    found[:-1] |= equal
    return (both[found] & places).astype(np.int64)


def _packed(high: NDArray[np.int64], low: NDArray[np.int64]) -> NDArray[np.uint64]:
    return (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)


def _unpacked(both: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return (both >> np.uint64(32)).astype(np.int64), (both & np.uint64(0xFFFFFFFF)).astype(np.int64)


def sorted_distinct(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each number once, rising: what `np.unique` gives, in a third of its time."""
    values = np.sort(values)
    return values[np.flatnonzero(np.diff(values, prepend=~values[:1]))]


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
