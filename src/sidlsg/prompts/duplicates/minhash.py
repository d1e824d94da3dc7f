"""MinHash: 60 numbers a text, of which two texts share about the fraction that is their Jaccard similarity."""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

from sidlsg.prompts.duplicates.shingles import blocks

HASHES = 60
"""Hash functions. The standard error of an estimated similarity is at most 0.065."""
NEAR_DUPLICATES = (10, 6)
"""Bands × rows for near duplicates. Texts of similarity s become candidates with probability 1 - (1 - s^6)^10: 0.952
at 0.8, 0.991 at 0.85, 0.9995 at 0.9, but 0.146 at 0.5 and 0.007 at 0.3, so that few pairs are compared in vain even
among hundreds of millions of texts."""

_BLOCK = 1 << 16  # shingles at a time: with their products 512 KiB, which fit a core's cache


def _numbers(count: int) -> NDArray[np.uint32]:
    """Fixed pseudo-random numbers [count]: the first four bytes, little-endian, of SHA-256 of `sidlsg minhash <i>`."""
    digests = (hashlib.sha256(f"sidlsg minhash {number}".encode()).digest() for number in range(count))
    return np.array([int.from_bytes(digest[:4], "little") for digest in digests], np.uint32)


_RANDOM = _numbers(2 * HASHES)
_MULTIPLIERS = _RANDOM[:HASHES] | np.uint32(1)
_ADDENDS = _RANDOM[HASHES:]


def signatures(values: NDArray[np.uint32], offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The MinHash of each text: h_i(text) = min over its shingles x of (a_i * mix(x) + b_i) mod 2^32, for 60 i.

    With a_i odd, each function permutes the 32-bit numbers, so that two different shingles never share the minimum:
    P[h_i(A) = h_i(B)] = |A ∩ B| / |A ∪ B|, up to the functions' small departure from random permutations.

    Args:
        values: shingles uint32 [m].
        offsets: int64 [n + 1], strictly increasing: each text has a shingle.

    Returns:
        uint32 [n, 60] in Fortran order, as bands read it.
    """
    texts = len(offsets) - 1
    out = np.empty((HASHES, texts), np.uint32)
    for first, last in blocks(offsets, _BLOCK):
        x = _mix32(values[offsets[first] : offsets[last]])
        starts = offsets[first:last] - offsets[first]
        y = np.empty_like(x)
        for function, (a, b) in enumerate(zip(_MULTIPLIERS, _ADDENDS, strict=True)):
            np.multiply(x, a, out=y)
            y += b
            np.minimum.reduceat(y, starts, out=out[function, first:last])
    return out.T


def band_keys(signatures: NDArray[np.uint32], bands: int, rows: int) -> NDArray[np.uint64]:
    """A hash of each band of each text, uint64 [n, bands]; band j has `rows` functions from j * rows on."""
    out = np.empty((bands, len(signatures)), np.uint64)
    for band, key in enumerate(out):
        key[:] = band + 1
        for row in range(band * rows, (band + 1) * rows):
            key ^= signatures[:, row]
            _mix64(key)
    return out.T


def _mix32(x: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MurmurHash3's 32-bit finaliser, a permutation: neighbouring shingles become unrelated numbers."""
    x = x ^ (x >> np.uint32(16))
    x *= np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x *= np.uint32(0xC2B2AE35)
    x ^= x >> np.uint32(16)
    return x


def _mix64(x: NDArray[np.uint64]) -> None:
    """MurmurHash3's 64-bit finaliser, a permutation, in place."""
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xFF51AFD7ED558CCD)
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xC4CEB9FE1A85EC53)
    x ^= x >> np.uint64(33)


WORDS = 3
"""Words of a sketch. Word w holds one bit of each MinHash; half of the bits differ where the MinHashes do."""

_FIRST_BIT = 16  # a minimum's upper bits are nearly always zero, and its lowest depend on few of the shingle's bits
_DEVIATIONS = 3.7  # a text of just the required similarity is lost with a probability of 1e-4 a word


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
) -> NDArray[np.int64]:
    """Indices [m] of the pairs (a's text i[k], b's text j[k]) that may have a similarity s of at least `similarity`.

    After w words, a MinHash differs with probability p = (1 - s) (1 - 2^-w). Pairs with more than
    60 p + 3.7 sqrt(60 p (1 - p)) differing MinHashes are dropped.

    Args:
        a: sketches uint64 [3, n].
        b: sketches uint64 [3, n'].
        i: texts of a, [p].
        j: texts of b, [p].
        similarity: from 0 to 1.
    """
    kept = np.arange(len(i))
    differ = np.zeros(len(i), np.uint64)
    for word in range(WORDS):
        p = (1 - similarity) * (1 - 0.5 ** (word + 1))
        most = math.floor(HASHES * p + _DEVIATIONS * math.sqrt(HASHES * p * (1 - p)))
        differ |= a[word].take(i) ^ b[word].take(j)
        few = np.flatnonzero(np.bitwise_count(differ) <= most)
        kept, differ, i, j = kept[few], differ[few], i[few], j[few]
    return kept
