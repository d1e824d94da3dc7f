"""Shingles: the 4-byte windows of a text's words key, each of them exactly one 32-bit number."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

SHINGLE = 4
"""Bytes of a shingle, as many as a uint32 has: nothing is hashed, so no two shingles are ever taken for one."""

Shingles = tuple[NDArray[np.uint32], NDArray[np.int64]]
"""The shingles [m] of n texts, one text after the other, and where each text's begin [n + 1], the last being m."""

_PADDING = pl.Series(["\0" * (SHINGLE - size) for size in range(SHINGLE + 1)])
_BLOCK = 1 << 17  # shingles that are sorted at a time: 1 MiB, which stays in a core's cache


def shingles(keys: pl.Series) -> Shingles:
    """All windows of four bytes of each key's UTF-8, in the key's order and as often as they occur.

    Keys shorter than a shingle are padded with NUL, which no key has, so that every text has at least one shingle.

    Args:
        keys: words keys [n], strings without nulls.

    Returns:
        values uint32 [m] and offsets int64 [n + 1]. A window is read as a little-endian number.
    """
    sizes = keys.str.len_bytes()
    if (sizes < SHINGLE).any():
        keys = keys + _PADDING.gather(sizes.clip(upper_bound=SHINGLE))
    ends, data = _bytes(keys)
    offsets = ends - (SHINGLE - 1) * np.arange(len(ends))
    if not len(keys):
        return np.empty(0, np.uint32), offsets
    windows = np.ndarray(len(data) - SHINGLE + 1, "<u4", data, strides=(1,))
    # The three windows that begin in a key's last three bytes reach into the next key.
    inside = np.ones(len(data), bool)
    for back in range(1, SHINGLE):
        inside[ends[1:] - back] = False
    return windows[inside[: len(windows)]].astype(np.uint32, copy=False), offsets


def distinct(values: NDArray[np.uint32], offsets: NDArray[np.int64]) -> Shingles:
    """The same texts with each one's shingles [m' <= m] sorted and each of them once."""
    kept, counts = [np.empty(0, np.uint32)], [np.zeros(1, np.int64)]
    for first, last in blocks(offsets, _BLOCK):
        begin, sizes = offsets[first], np.diff(offsets[first : last + 1])
        # One sort for many texts: the text's number in the upper half, the shingle in the lower.
        texts = np.repeat(np.arange(last - first, dtype=np.uint64) << np.uint64(32), sizes)
        both = texts | values[begin : offsets[last]]
        both.sort()
        new = np.ones(len(both), bool)
        np.not_equal(both[1:], both[:-1], out=new[1:])
        kept.append(both[new].astype(np.uint32))
        counts.append(np.add.reduceat(new, offsets[first:last] - begin, dtype=np.int64))
    return np.concatenate(kept), np.cumsum(np.concatenate(counts))


def take(values: NDArray[np.uint32], offsets: NDArray[np.int64], texts: NDArray[np.int64]) -> Shingles:
    """The shingles of the texts with these numbers [k], in their order."""
    sizes = offsets[texts + 1] - offsets[texts]
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return values[np.arange(ends[-1]) + np.repeat(offsets[texts] - ends[:-1], sizes)], ends


def blocks(offsets: NDArray[np.int64], most: int) -> list[tuple[int, int]]:
    """Cut texts into blocks (first, last + 1) of about `most` shingles, at least one text each."""
    cuts = [0]
    while cuts[-1] < len(offsets) - 1:
        upto = int(np.searchsorted(offsets, offsets[cuts[-1]] + most, side="right")) - 1
        cuts.append(max(upto, cuts[-1] + 1))
    return list(itertools.pairwise(cuts))


def _bytes(keys: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Where each key begins, and the last one ends [n + 1], in the bytes of all keys; both begin with 0."""
    if not len(keys):
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    arrow = keys.rechunk().to_arrow().cast(pa.large_string())
    _, ends, data = arrow.buffers()
    # A slice of a longer column has the whole column's buffers.
    places = np.frombuffer(ends, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    return places - places[0], np.frombuffer(data, np.uint8)[places[0] : places[-1]]


_ROWS = 1 << 16  # shingles of both sides that are sorted at a time: 512 KiB, which stay in a core's cache
_PAIRS = 1 << 17  # pairs whose shingles are in memory at a time


def jaccard(a: Shingles, b: Shingles) -> NDArray[np.float64]:
    """The Jaccard similarity of a's and b's text i, for each i; how often a shingle occurs in a text does not count.

    Args:
        a: shingles of n texts, each with one or more.
        b: shingles of n texts, each with one or more.

    Returns:
        float64 [n].
    """
    (a_values, a_offsets), (b_values, b_offsets) = a, b
    if len(a_offsets) != len(b_offsets):
        raise ValueError(f"{len(a_offsets) - 1} texts and {len(b_offsets) - 1} cannot be compared one by one")
    out = np.empty(len(a_offsets) - 1, np.float64)
    for first, last in blocks(a_offsets + b_offsets, _ROWS):
        both = np.concatenate(
            [
                _tagged(a_values, a_offsets[first : last + 1], 0),
                _tagged(b_values, b_offsets[first : last + 1], 1),
            ]
        )
        both.sort()
        both = both[np.diff(both, prepend=~both[:1]) != 0]
        # An element of both sets is there twice, a's just before b's.
        shared = both[:-1][(both[:-1] ^ both[1:]) == 1]
        intersection = np.bincount((shared >> np.uint64(33)).astype(np.int64), minlength=last - first)
        union = np.bincount((both >> np.uint64(33)).astype(np.int64), minlength=last - first) - intersection
        out[first:last] = intersection / union
    return out


def jaccard_of_keys(left: pl.Series, right: pl.Series) -> NDArray[np.float64]:
    """The Jaccard similarity of the words keys left[i] and right[i] for each i, float64 [n], in bounded memory."""
    if len(left) != len(right):
        raise ValueError(f"{len(left)} keys and {len(right)} cannot be compared one by one")
    out = np.empty(len(left), np.float64)
    for first in range(0, len(left), _PAIRS):
        part = slice(first, first + _PAIRS)
        out[part] = jaccard(shingles(left[part]), shingles(right[part]))
    return out


def _tagged(values: NDArray[np.uint32], offsets: NDArray[np.int64], side: int) -> NDArray[np.uint64]:
    """One number a shingle: the text's number within the block, then the shingle, then the side in the last bit."""
    sizes = np.diff(offsets)
    texts = np.repeat((np.arange(len(sizes), dtype=np.uint64) << np.uint64(33)) | np.uint64(side), sizes)
    texts |= values[offsets[0] : offsets[-1]].astype(np.uint64) << np.uint64(1)
    return texts
