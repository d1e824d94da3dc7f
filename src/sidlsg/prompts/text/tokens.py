"""Token counts: how many tokens of CLIP's byte-pair encoding each text has, its start and end not counted."""

from __future__ import annotations

from functools import cache

import instant_clip_tokenizer
import numpy as np
import polars as pl
from numpy.typing import NDArray

_SLOTS = 2**20
"""Cached words, 12 MiB."""


def token_counts(texts: pl.Series) -> NDArray[np.int32]:
    """Tokens of each cleaned text, not limited to 77; 0 for null.

    A token never spans a space, so a text's count is the sum of its words', most of which are cached.
    """
    if not len(texts):
        return np.zeros(0, np.int32)
    words = texts.fill_null("").str.split(" ")
    sizes = words.list.len().to_numpy().astype(np.int64)
    per_word = _cache().counts(words.explode())
    found: NDArray[np.int32] = np.add.reduceat(per_word, np.cumsum(sizes) - sizes, dtype=np.int32)
    return found


class _CountCache:
    """Token counts of words, each in the one slot of its hash; a new word replaces the earlier one."""

    def __init__(self) -> None:
        self.encode = instant_clip_tokenizer.Tokenizer().encode
        self.hashes = np.zeros(_SLOTS, np.uint64)
        self.known = np.zeros(_SLOTS, np.int32)

    def counts(self, words: pl.Series) -> NDArray[np.int32]:
        hashes = words.hash().to_numpy()
        slots = hashes & np.uint64(_SLOTS - 1)
        counts: NDArray[np.int32] = self.known[slots]
        # Two words with one 64-bit hash would share a count: of a million cached, once in 10¹³ look-ups.
        new = np.flatnonzero((self.hashes[slots] != hashes) | (hashes == 0))
        if len(new):
            missing, first, place = np.unique(hashes[new], return_index=True, return_inverse=True)
            fresh = np.fromiter(map(len, map(self.encode, words.gather(new[first]).to_list())), np.int32, len(missing))
            counts[new] = fresh[place]
            slots = missing & np.uint64(_SLOTS - 1)
            self.hashes[slots], self.known[slots] = missing, fresh
        return counts


@cache
def _cache() -> _CountCache:
    return _CountCache()
