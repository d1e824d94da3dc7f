"""Candidate pairs: which texts share a band and are compared exactly, and the groups that similar pairs join."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Integers = NDArray[np.int64]
MOST = 32
"""The longest run of texts with one key of which all pairs become candidates: at most 496 pairs."""
NEIGHBOURS = 8
"""In a longer run, each text is paired with so many of the lowest texts and of the next ones."""


def candidate_pairs(keys: NDArray[np.uint64], refs: NDArray[np.uint64], most: int = MOST) -> NDArray[np.uint64]:
    """The pairs of texts that share a key, whatever the order of the input.

    These are all pairs of up to `most` texts with one key. Of more texts, each is paired with the 8 lowest and with the
    next 8 by number: at most 16 pairs a text, where all pairs of a million texts would be half a trillion. A text that
    is near to none of its 16 is then found only through another band or a third text. Long runs are mostly templates,
    whose texts are near to the lowest ones too, so that their groups stay joined.

    Args:
        keys: band keys uint64 [n].
        refs: the texts' numbers uint64 [n]; a text may have many keys.
        most: the longest run of which all pairs are taken.

    Returns:
        uint64 [p, 2], rows (low, high) with low < high, distinct and sorted.
    """
    shared = _shared(keys)
    if not len(shared):
        return np.empty((0, 2), np.uint64)
    # Runs and texts as small numbers: a pair then fits one number, which sorts fast.
    _, run = np.unique(keys[shared], return_inverse=True)
    texts, rank = np.unique(refs[shared], return_inverse=True)
    members = sorted_distinct(packed(run, rank))
    run, rank = unpacked(members)
    starts = np.flatnonzero(np.diff(run, prepend=-1))
    sizes = np.diff(starts, append=len(run))
    small = sizes <= most
    pairs = [*_all_pairs(rank, starts[small], sizes[small]), *_some_pairs(rank, starts[~small], sizes[~small])]
    low, high = unpacked(sorted_distinct(np.concatenate(pairs)))
    return np.stack([texts[low], texts[high]], axis=1)


def _all_pairs(rank: Integers, starts: Integers, sizes: Integers) -> list[NDArray[np.uint64]]:
    """All pairs within each run, the runs of one length at a time."""
    pairs = [np.empty(0, np.uint64)]
    for size in np.unique(sizes):
        low, high = np.triu_indices(size, 1)
        first = starts[sizes == size, None]
        pairs.append(packed(rank[first + low], rank[first + high]).ravel())
    return pairs


def _some_pairs(rank: Integers, starts: Integers, sizes: Integers) -> list[NDArray[np.uint64]]:
    """Each member of each run with the lowest and the next ones."""
    first = np.repeat(starts, sizes)
    ends = np.cumsum(sizes)
    place = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
    left = np.repeat(sizes, sizes) - place
    pairs = []
    for step in range(NEIGHBOURS):
        later, followed = place > step, left > step + 1
        here, there = (first + place)[later], (first + place)[followed]
        pairs.append(packed(rank[first[later] + step], rank[here]))
        pairs.append(packed(rank[there], rank[there + step + 1]))
    return pairs


def _shared(keys: NDArray[np.uint64]) -> Integers:
    """Indices [s], unordered, of all keys that occur more than once, and of a few others.

    An argsort takes five times as long as a sort. So the index replaces the key's last bits. The other bits tell nearly
    all keys apart: of n keys, about n^2 / 2^(64 - log2 n) pairs are equal by chance.
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


def packed(high: NDArray[Any], low: NDArray[Any]) -> NDArray[np.uint64]:
    """Two numbers below 2^32 in one, high << 32 | low."""
    return (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)


def unpacked(both: NDArray[np.uint64]) -> tuple[Integers, Integers]:
    """The inverse of `packed`."""
    return (both >> np.uint64(32)).astype(np.int64), (both & np.uint64(0xFFFFFFFF)).astype(np.int64)


def sorted_distinct(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """`np.unique` in a third of its time."""
    values = np.sort(values)
    return values[np.flatnonzero(np.diff(values, prepend=~values[:1]))]


def connected(edges: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Connected groups of the texts with edges, uint64 [e, 2].

    Returns:
        the texts' numbers [m], rising, and the lowest number of each one's group [m], both uint64.
    """
    if not len(edges):
        return np.empty(0, np.uint64), np.empty(0, np.uint64)
    refs, index = np.unique(edges, return_inverse=True)
    low, high = index.reshape(-1, 2).T
    graph = coo_array((np.ones(len(edges), np.int8), (low, high)), shape=(len(refs), len(refs)))
    _, group = connected_components(graph, directed=False)
    # Texts are sorted, so the first of a group is its lowest.
    _, first = np.unique(group, return_index=True)
    return refs, refs[first[group]]
