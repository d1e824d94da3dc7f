"""Jaccard: the exact similarity of two texts' sets of shingles, |A ∩ B| / |A ∪ B|.

`similarity >= threshold` on these float64 is exact for a threshold of a few decimal digits such as 0.8, so there is no
comparison in integers. Division rounds correctly, so a quotient that equals p/q rounds to the same float64 as the
literal p/q does. Another quotient i/u differs from p/q by at least 1/(u q), which for sets of up to 2^32 shingles and q
up to 10^6 is over 2^-52, more than one step between float64 below 1; rounding keeps its order, and cannot make them
equal. (`i >= 0.8 * u` would be wrong: the product rounds once more.)
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidlsg.prompts.duplicates.shingles import Shingles, blocks, shingles

_BLOCK = 1 << 16  # shingles of both sides that are sorted at a time: 512 KiB, which stay in a core's cache
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
    for first, last in blocks(a_offsets + b_offsets, _BLOCK):
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
