"""The held-out index: each text's nearest evaluation caption, of up to millions of captions.

A folder of memory-mapped files, shared by worker processes; n captions, m shingles, 30 bands:

| file | content |
|---|---|
| `keys.npy` | of each band, the captions' keys (upper halves), sorted: uint32 [30, n] |
| `captions.npy` | the captions of these keys: uint32 [30, n] |
| `filter.npy` | of each band, one bit for each prefix of a key, set if a caption has it: uint8 [30, b] |
| `sketches.npy` | the captions' sketches: uint64 [3, n] |
| `values.npy`, `offsets.npy` | the captions' distinct shingles: uint32 [m], int64 [n + 1] |
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidlsg.prompts.duplicates.candidates import packed, sorted_distinct, unpacked
from sidlsg.prompts.duplicates.minhash import HASHES, alike, band_keys, signatures, sketches
from sidlsg.prompts.duplicates.shingles import distinct, jaccard, shingles, take
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import atomic_file

BANDS, ROWS = 30, 4
"""Each MinHash is in two bands, once with its neighbours and once with others at equal distances. A caption of
similarity s becomes a candidate with a probability slightly below 1 - (1 - s^4)^30, since overlapping bands are
dependent: 0.9996 at 0.73, 0.9998 at 0.75, 0.99999 at 0.8, but 0.97 at 0.6 and 0.82 at 0.5 (simulated). 20 bands of 3
rows miss a tenth of that at 0.73, but find 4 to 19 times as many unlike captions, whose comparison dominates."""

_FUNCTIONS = np.concatenate([np.arange(HASHES), np.arange(HASHES).reshape(ROWS, -1).T.ravel()])
_PAIRS = 1 << 18  # candidates in memory at a time
_EXACT = 1 << 16  # pairs compared exactly at a time
_LEAST_BITS = 10
_FILES = ("keys", "captions", "filter", "sketches", "values", "offsets")


class HeldOutIndex:
    """Finds near evaluation captions. `write` makes the files once; each process opens them for itself."""

    def __init__(self, folder: Path) -> None:
        """Map the files of an index into memory."""
        try:
            # Plain arrays of the mapped memory: the class memmap slows every small step.
            arrays = [np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in _FILES]
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"held-out index {folder} cannot be read ({error}); run the same command again") from error
        self._keys, self._captions, self._filter, self._sketches, *shingled = arrays
        self._values, self._offsets = shingled

    @staticmethod
    def write(folder: Path, words_keys: pl.Series) -> None:
        """Write the index of one or more captions, given by their words keys, to an existing folder."""
        values, offsets = distinct(*shingles(words_keys))
        minima = signatures(values, offsets)
        keys = np.empty((BANDS, len(words_keys)), np.uint32)
        captions = np.empty_like(keys)
        bits = _filter_bits(len(words_keys))
        filters = np.zeros((BANDS, 1 << bits >> 3), np.uint8)
        for band, key in enumerate(_short_keys(minima)):
            keys[band], captions[band] = unpacked(np.sort(packed(key, np.arange(len(key)))))
            byte, bit = _filter_place(key, bits)
            np.bitwise_or.at(filters[band], byte, bit)
        arrays: list[NDArray[Any]] = [keys, captions, filters, sketches(minima), values, offsets]
        for name, array in zip(_FILES, arrays, strict=True):
            with atomic_file(folder / f"{name}.npy") as file:
                np.save(file, array, allow_pickle=False)

    def matches(self, keys: pl.Series, similarity: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The index of the most similar caption of each text, int64 [n], and its exact similarity, float64 [n].

        Of equally similar captions the first; -1 and 0 where none has at least the Jaccard similarity `similarity`.
        """
        best, found = np.zeros(len(keys)), np.full(len(keys), -1, np.int64)
        if not len(keys):
            return found, best
        texts = shingles(keys)
        for pairs in self._candidates(signatures(*texts), similarity):
            text, caption = unpacked(pairs)
            exact = jaccard(take(*texts, text), take(self._values, self._offsets, caption))
            near = exact >= similarity
            text, caption, exact = text[near], caption[near], exact[near]
            order = np.lexsort((caption, -exact, text))
            order = order[np.diff(text[order], prepend=-1) != 0]
            text, caption, exact = text[order], caption[order], exact[order]
            better = (exact > best[text]) | ((exact == best[text]) & (caption < found[text]))
            found[text[better]], best[text[better]] = caption[better], exact[better]
        return found, best

    def _candidates(self, minima: NDArray[np.uint32], similarity: float) -> Iterator[NDArray[np.uint64]]:
        """Packed pairs (text, caption) to compare exactly, distinct within a block, in blocks of bounded size."""
        own, bits = sketches(minima), _filter_bits(self._keys.shape[1])
        waiting, size = [np.empty(0, np.uint64)], 0
        for band, key in enumerate(_short_keys(minima)):
            byte, bit = _filter_place(key, bits)
            text = np.flatnonzero(self._filter[band].take(byte) & bit)
            # In the order of the keys, each search begins where the last one ended.
            wanted, text = unpacked(np.sort(packed(key[text], text)))
            first = np.searchsorted(self._keys[band], wanted.astype(np.uint32))
            counts = np.searchsorted(self._keys[band], wanted.astype(np.uint32), side="right") - first
            for which, place in _expanded(first, counts):
                caption = self._captions[band].take(place).astype(np.int64)
                pair_text = text[which]
                kept = alike(own, self._sketches, pair_text, caption, similarity)
                waiting.append(packed(pair_text[kept], caption[kept]))
                size += len(kept)
                if size > _PAIRS:
                    yield from _cut(sorted_distinct(np.concatenate(waiting)))
                    waiting, size = [], 0
        yield from _cut(sorted_distinct(np.concatenate([np.empty(0, np.uint64), *waiting])))


def _short_keys(minima: NDArray[np.uint32]) -> Iterator[NDArray[np.uint32]]:
    """The upper halves of each band's keys [n], band after band; the exact comparison resolves their collisions."""
    for band in range(BANDS):
        functions = _FUNCTIONS[band * ROWS : (band + 1) * ROWS]
        # Keys of different bands are never compared, so all are computed as the first band's.
        yield (band_keys(minima.T[functions].T, 1, ROWS)[:, 0] >> np.uint64(32)).astype(np.uint32)


def _filter_bits(captions: int) -> int:
    """Bits of a key's prefix: at least 16 bits of the filter a caption, so that at most 6 of 100 other texts pass."""
    return min(max(captions.bit_length() + 4, _LEAST_BITS), 32)


def _filter_place(keys: NDArray[np.uint32], bits: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """The filter's byte, and the bit in it, for each key."""
    place = keys >> np.uint32(32 - bits)
    return place >> np.uint32(3), np.left_shift(1, place & np.uint32(7), dtype=np.uint8, casting="unsafe")


def _expanded(
    first: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The index of each range that begins at `first`, and each position in it, in blocks of bounded size."""
    ends = np.cumsum(counts)
    starts = ends - counts
    for begin in range(0, int(ends[-1]) if len(ends) else 0, _PAIRS):
        end = min(begin + _PAIRS, int(ends[-1]))
        low, high = np.searchsorted(ends, [begin, end - 1], side="right")
        inside = np.minimum(ends[low : high + 1], end) - np.maximum(starts[low : high + 1], begin)
        which = np.repeat(np.arange(low, high + 1), inside)
        yield which, np.arange(begin, end) + (first - starts)[which]


def _cut(pairs: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
    for begin in range(0, len(pairs), _EXACT):
        yield pairs[begin : begin + _EXACT]
