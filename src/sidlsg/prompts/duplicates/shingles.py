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
_BLOCK = 1 << 17  # shingles sorted at a time: 1 MiB, which fits a core's cache


def shingles(keys: pl.Series) -> Shingles:
    """All windows of four bytes of each words key [n], in order, as little-endian numbers.

    Shorter keys are padded with NUL, which no key has, so that every text has a shingle.
    """
    sizes = keys.str.len_bytes()
    if (sizes < SHINGLE).any():
        keys = keys + _PADDING.gather(sizes.clip(upper_bound=SHINGLE))
    ends, data = _bytes(keys)
    offsets = ends - (SHINGLE - 1) * np.arange(len(ends))
    if not len(keys):
        return np.empty(0, np.uint32), offsets
    windows = np.ndarray(len(data) - SHINGLE + 1, "<u4", data, strides=(1,))
    # Windows that begin in a key's last three bytes reach into the next key.
    inside = np.ones(len(data), bool)
    for back in range(1, SHINGLE):
        inside[ends[1:] - back] = False
    return windows[inside[: len(windows)]].astype(np.uint32, copy=False), offsets


def distinct(values: NDArray[np.uint32], offsets: NDArray[np.int64]) -> Shingles:
    """The distinct shingles of each text [m' <= m], sorted."""
    kept, counts = [np.empty(0, np.uint32)], [np.zeros(1, np.int64)]
    for first, last in blocks(offsets, _BLOCK):
        begin, sizes = offsets[first], np.diff(offsets[first : last + 1])
        # One sort for many texts: the text's index in the upper half, the shingle in the lower.
        texts = np.repeat(np.arange(last - first, dtype=np.uint64) << np.uint64(32), sizes)
        both = texts | values[begin : offsets[last]]
        both.sort()
        new = np.ones(len(both), bool)
        np.not_equal(both[1:], both[:-1], out=new[1:])
        kept.append(both[new].astype(np.uint32))
        counts.append(np.add.reduceat(new, offsets[first:last] - begin, dtype=np.int64))
    return np.concatenate(kept), np.cumsum(np.concatenate(counts))


def take(values: NDArray[np.uint32], offsets: NDArray[np.int64], texts: NDArray[np.int64]) -> Shingles:
    """The shingles of the texts with these indices [k], in their order."""
    sizes = offsets[texts + 1] - offsets[texts]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return values[np.arange(ends[-1]) + np.repeat(offsets[texts] - ends[:-1], sizes)], ends


def blocks(offsets: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Blocks of texts (first, last + 1) with about `most` shingles and at least one text each."""
    cuts = [0]
    while cuts[-1] < len(offsets) - 1:
        upto = int(np.searchsorted(offsets, offsets[cuts[-1]] + most, side="right")) - 1
        cuts.append(max(upto, cuts[-1] + 1))
    return list(itertools.pairwise(cuts))


def _bytes(keys: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Offsets [n + 1] of the keys in the bytes of all keys, and these."""
    if not len(keys):
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    arrow = keys.rechunk().to_arrow().cast(pa.large_string())
    _, ends, data = arrow.buffers()
    # A slice of a column has the whole column's buffers.
    places = np.frombuffer(ends, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    return places - places[0], np.frombuffer(data, np.uint8)[places[0] : places[-1]]


_ROWS = 1 << 16  # shingles of both sides sorted at a time: 512 KiB, which fit a core's cache
_PAIRS = 1 << 17  # pairs whose shingles are in memory at a time


def jaccard(a: Shingles, b: Shingles) -> NDArray[np.float64]:
    """The Jaccard similarity, float64 [n], of the sets of shingles of a's and b's text i, for each of n texts."""
    (a_values, a_offsets), (b_values, b_offsets) = a, b
    out = np.empty(len(a_offsets) - 1, np.float64)
    for first, last in blocks(a_offsets + b_offsets, _ROWS):
        part = slice(first, last + 1)
        both = np.concatenate([_tagged(a_values, a_offsets[part], 0), _tagged(b_values, b_offsets[part], 1)])
        both.sort()
        both = both[np.diff(both, prepend=~both[:1]) != 0]
        # A shingle of both sets occurs twice, a's just before b's.
        shared = both[:-1][(both[:-1] ^ both[1:]) == 1]
        intersection = np.bincount((shared >> np.uint64(33)).astype(np.int64), minlength=last - first)
        union = np.bincount((both >> np.uint64(33)).astype(np.int64), minlength=last - first) - intersection
        out[first:last] = intersection / union
    return out


def jaccard_of_keys(left: pl.Series, right: pl.Series) -> NDArray[np.float64]:
    """The Jaccard similarity of the words keys left[i] and right[i] for each i, float64 [n], in bounded memory."""
    out = np.empty(len(left), np.float64)
    for first in range(0, len(left), _PAIRS):
        part = slice(first, first + _PAIRS)
        out[part] = jaccard(shingles(left[part]), shingles(right[part]))
    return out


def _tagged(values: NDArray[np.uint32], offsets: NDArray[np.int64], side: int) -> NDArray[np.uint64]:
    """One number a shingle: the text's index in the block, then the shingle, then the side in the last bit."""
    sizes = np.diff(offsets)
    texts = np.repeat((np.arange(len(sizes), dtype=np.uint64) << np.uint64(33)) | np.uint64(side), sizes)
    texts |= values[offsets[0] : offsets[-1]].astype(np.uint64) << np.uint64(1)
    return texts
