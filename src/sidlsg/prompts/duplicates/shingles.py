"""Shingles: the 4-byte windows of a text's words key as 32-bit numbers, and the Jaccard similarity of their sets."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

SHINGLE = 4
"""Bytes of a shingle, those of a uint32: exact, without hash collisions."""

Shingles = tuple[NDArray[np.uint32], NDArray[np.int64]]
"""The shingles [m] of n texts, text after text, and their offsets [n + 1]."""

_PADDING = pl.Series(["\0" * (SHINGLE - size) for size in range(SHINGLE + 1)])
_PAIRS = 1 << 17  # pairs whose shingles are in memory at a time


def shingles(keys: pl.Series) -> Shingles:
    """All windows of four bytes of each words key [n], in order, as little-endian numbers.

    Shorter keys are padded with NUL, which no key has, so that every text has a shingle.
    """
    keys = keys + _PADDING.gather(keys.str.len_bytes().clip(upper_bound=SHINGLE))
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(keys.str.len_bytes().to_numpy(), dtype=np.int64)])
    offsets = ends - (SHINGLE - 1) * np.arange(len(ends))
    if not len(keys):
        return np.empty(0, np.uint32), offsets
    data = b"".join(keys.cast(pl.Binary).to_list())
    windows = np.ndarray(len(data) - SHINGLE + 1, "<u4", data, strides=(1,))
    # Windows that begin in a key's last three bytes reach into the next key.
    inside = np.ones(len(data), bool)
    for back in range(1, SHINGLE):
        inside[ends[1:] - back] = False
    return windows[inside[: len(windows)]].astype(np.uint32, copy=False), offsets


def blocks(offsets: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Cut n texts into blocks (first, last + 1) of about `most` items and at least one text each.

    Args:
        offsets: [n + 1], of each text's items among those of all texts.
        most: items of a block.
    """
    cuts = [0]
    while cuts[-1] < len(offsets) - 1:
        upto = int(np.searchsorted(offsets, offsets[cuts[-1]] + most, side="right")) - 1
        cuts.append(max(upto, cuts[-1] + 1))
    return list(itertools.pairwise(cuts))


def jaccard_of_keys(left: pl.Series, right: pl.Series) -> NDArray[np.float64]:
    """The Jaccard similarity of the words keys left[i] and right[i] for each i, float64 [n], in bounded memory."""
    out = np.empty(len(left), np.float64)
    for first in range(0, len(left), _PAIRS):
        part = slice(first, first + _PAIRS)
        a, b = _lists(left[part]), _lists(right[part])
        intersection = a.list.set_intersection(b).list.len().to_numpy()
        out[part] = intersection / (a.list.n_unique().to_numpy() + b.list.n_unique().to_numpy() - intersection)
    return out


def _lists(keys: pl.Series) -> pl.Series:
    values, offsets = shingles(keys)
    return pl.Series(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values)))
