"""Candidate pairs: which texts share a band and are compared exactly, and the groups that similar pairs join."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

MOST = 32
"""The longest run of texts with one key of which all pairs become candidates: at most 496 pairs."""
NEIGHBOURS = 8
"""In a longer run, each text is paired with so many of the lowest texts and of the next ones."""


def candidate_pairs(bands: pl.DataFrame, most: int = MOST) -> pl.DataFrame:
    """The pairs of texts that share a key, whatever the order of the input.

    These are all pairs of up to `most` texts with one key. Of more texts, each is paired with the 8 lowest and with the
    next 8 by number: at most 16 pairs a text, where all pairs of a million texts would be half a trillion. A text that
    is near to none of its 16 is then found only through another band or a third text. Long runs are mostly templates,
    whose texts are near to the lowest ones too, so that their groups stay joined.

    Args:
        bands: keys `band` and numbers of texts `ref`, both UInt64; a text may have many keys.
        most: the longest run of which all pairs are taken.

    Returns:
        Distinct pairs `low` < `high`, sorted.
    """
    band, place, size = pl.col("band"), pl.col("place"), pl.col("size")
    # Few keys occur twice: the rest is dropped before the slower steps.
    runs = bands.sort("band").filter((band == band.shift(1)) | (band == band.shift(-1))).unique().sort("band", "ref")
    runs = runs.with_columns(place=pl.int_range(pl.len()).over("band"), size=pl.len().over("band"))
    pairs = []
    for step in range(1, max(most, NEIGHBOURS + 1)):
        followed = (place + step < size) & ((size <= most) | pl.lit(step <= NEIGHBOURS))
        pairs.append(runs.with_columns(low="ref", high=pl.col("ref").shift(-step)).filter(followed))
    long = runs.filter(size > most)
    lowest = long.filter(place < NEIGHBOURS).select("band", low="ref")
    pairs.append(lowest.join(long.select("band", high="ref"), on="band").filter(pl.col("low") < pl.col("high")))
    return distinct_pairs(pl.concat([found.select("low", "high") for found in pairs]))


def distinct_pairs(pairs: pl.DataFrame) -> pl.DataFrame:
    """The distinct pairs (low, high), sorted."""
    is_new = [pl.col(name).ne_missing(pl.col(name).shift()) for name in ("low", "high")]
    return pairs.sort("low", "high").filter(pl.any_horizontal(is_new))


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
