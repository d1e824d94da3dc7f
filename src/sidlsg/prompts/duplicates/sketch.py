"""Sketches: three words for each text that tell nearly all unlike pairs apart, at a fiftieth of an exact comparison."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

WORDS = 3
"""Words of a sketch. Word w holds one bit of each MinHash; where those differ, so do half of the bits."""

_FIRST_BIT = 16  # a minimum's upper bits are nearly always zero, its lower ones depend on few of the shingle's bits
_DEVIATIONS = 3.7  # a text that is just as similar as asked for is lost with a probability of 1e-4 a word


def sketches(signatures: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Bits of the MinHashes, uint64 [3, n], of signatures uint32 [n, up to 64]."""
    out = np.zeros((WORDS, len(signatures)), np.uint64)
    for function in range(signatures.shape[1]):
        minima = signatures[:, function] >> np.uint32(_FIRST_BIT)
        for word in out:
            word |= (minima & np.uint32(1)).astype(np.uint64) << np.uint64(function)
            minima >>= np.uint32(1)
    return out


def alike(
    a: NDArray[np.uint64],
    b: NDArray[np.uint64],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    similarity: float,
    hashes: int,
) -> NDArray[np.int64]:
    """Which of the pairs of a's text i[k] and b's text j[k] may have this similarity: their k [m], rising.

    After w words, a MinHash differs with probability p = (1 - s) (1 - 2^-w) for texts of similarity s. Pairs with more
    than `hashes` p + 3.7 sqrt(`hashes` p (1 - p)) differing ones are left out.

    Args:
        a: sketches uint64 [3, n].
        b: sketches uint64 [3, n'].
        i: texts of a, [p].
        j: texts of b, [p].
        similarity: s, from 0 to 1.
        hashes: how many MinHashes the sketches have.
    """
    kept = np.arange(len(i))
    differ = np.zeros(len(i), np.uint64)
    for word in range(WORDS):
        p = (1 - similarity) * (1 - 0.5 ** (word + 1))
        most = math.floor(hashes * p + _DEVIATIONS * math.sqrt(hashes * p * (1 - p)))
        differ |= a[word].take(i) ^ b[word].take(j)
        few = np.flatnonzero(np.bitwise_count(differ) <= most)
        kept, differ, i, j = kept[few], differ[few], i[few], j[few]
    return kept
