"""The held-out index: which evaluation caption a text is nearest to, for up to millions of captions.

Folder of memory-mapped files, which worker processes share; n captions, m shingles, 30 bands, little-endian:

| file | content |
|---|---|
| `index.json` | the format's version and the sizes; written last |
| `keys.npy` | of each band, the captions' keys (upper halves), sorted: uint32 [30, n] |
| `captions.npy` | and the captions that have them: uint32 [30, n] |
| `filter.npy` | of each band, one bit for each beginning of a key, set where a caption's has it: uint8 [30, b] |
| `sketches.npy` | the captions' sketches: uint64 [3, n] |
| `values.npy`, `offsets.npy` | the captions' distinct shingles: uint32 [m], int64 [n + 1] |
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidlsg.prompts.duplicates.candidates import sorted_distinct
from sidlsg.prompts.duplicates.minhash import HASHES, WORDS, alike, band_keys, signatures, sketches
from sidlsg.prompts.duplicates.shingles import Shingles, distinct, jaccard, shingles, take
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.parsing import parse_json
from sidlsg.storage.files import atomic_file, atomic_write

VERSION = 1
"""The format of the files and of all that their numbers come from: shingles, MinHash, bands and sketches."""

BANDS, ROWS = 30, 4
"""Each MinHash is in two bands, once with its neighbours and once with those at a distance. A caption of similarity s
becomes a candidate with a probability that is a little below 1 - (1 - s^4)^30, for bands that overlap depend on each
other: 0.9996 at 0.73, 0.9998 at 0.75, 0.99999 at 0.8, but 0.97 at 0.6 and 0.82 at 0.5 (simulated). 20 bands of 3 rows
miss a tenth of that at 0.73, but bring 4 to 19 times as many unlike captions, which take longer than all the rest."""

_FUNCTIONS = np.concatenate([np.arange(HASHES), np.arange(HASHES).reshape(ROWS, -1).T.ravel()])
_PAIRS = 1 << 18  # candidates in memory at a time
_EXACT = 1 << 16  # pairs that are compared exactly at a time
_LEAST_BITS = 10


class HeldOutIndex:
    """Finds near evaluation captions. `write` makes the files once; each process opens them for itself."""

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._keys: NDArray[np.uint32] = arrays["keys"]
        self._captions: NDArray[np.uint32] = arrays["captions"]
        self._filter: NDArray[np.uint8] = arrays["filter"]
        self._sketches: NDArray[np.uint64] = arrays["sketches"]
        self._shingles: Shingles = arrays["values"], arrays["offsets"]

    @staticmethod
    def write(folder: Path, words_keys: pl.Series) -> None:
        """Write the index of captions; the same captions in the same order give the same bytes.

        Args:
            folder: that exists, for the files.
            words_keys: of the captions [n].

        Raises:
            InputError: there is no caption.
        """
        if not len(words_keys):
            raise InputError("the held-out list has no caption to index; give one caption or more")
        values, offsets = distinct(*shingles(words_keys))
        minima = signatures(values, offsets)
        keys = np.empty((BANDS, len(words_keys)), np.uint32)
        captions = np.empty_like(keys)
        bits = _filter_bits(len(words_keys))
        filters = np.zeros((BANDS, 1 << bits >> 3), np.uint8)
        for band, key in enumerate(_short_keys(minima)):
            both = (key.astype(np.uint64) << np.uint64(32)) | np.arange(len(key), dtype=np.uint64)
            both.sort()
            keys[band], captions[band] = both >> np.uint64(32), both & np.uint64(0xFFFFFFFF)
            byte, bit = _place(key, bits)
            np.bitwise_or.at(filters[band], byte, bit)
        arrays: dict[str, NDArray[Any]] = {
            "keys": keys,
            "captions": captions,
            "filter": filters,
            "sketches": sketches(minima),
            "values": values,
            "offsets": offsets,
        }
        (folder / "index.json").unlink(missing_ok=True)
        for name, array in arrays.items():
            with atomic_file(folder / f"{name}.npy") as file:
                np.save(file, array, allow_pickle=False)
        header = {"version": VERSION, "captions": len(words_keys), "shingles": len(values)}
        atomic_write(folder / "index.json", json.dumps(header, indent=1) + "\n")

    @classmethod
    def open(cls, folder: Path) -> HeldOutIndex:
        """Map the files of an index into memory.

        Raises:
            InputError: there is none, or its files are of another version, damaged, or do not fit each other.
        """
        advice = "write the index again with this version"
        try:
            header = parse_json((folder / "index.json").read_bytes())
            version = header["version"]
            if version != VERSION:
                raise InputError(f"held-out index {folder} is of version {version!r}, not {VERSION}; {advice}")
            texts, values = int(header["captions"]), int(header["shingles"])
            arrays = {}
            for name, (dtype, shape) in _layout(texts, values).items():
                array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                if array.dtype != np.dtype(dtype) or array.shape != shape:
                    raise InputError(
                        f"held-out index {folder} has {array.dtype} {list(array.shape)} in {name}.npy where "
                        f"{dtype} {list(shape)} belongs; {advice}"
                    )
                # A plain array of the mapped memory: the class memmap makes each small step slower.
                arrays[name] = np.asarray(array)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise InputError(f"held-out index {folder} cannot be read ({error}); {advice}") from error
        if arrays["offsets"][-1] != values:
            raise InputError(f"held-out index {folder} has files that do not belong together; {advice}")
        return cls(arrays)

    def matches(self, keys: pl.Series, similarity: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The most similar caption of each text, of equally similar ones the first.

        Args:
            keys: words keys of the texts [n].
            similarity: the least Jaccard similarity that counts.

        Returns:
            the caption's number int64 [n], -1 where none is so similar, and its exact similarity float64 [n], else 0.
        """
        best, found = np.zeros(len(keys)), np.full(len(keys), -1, np.int64)
        if not len(keys):
            return found, best
        texts = shingles(keys)
        for pairs in self._candidates(signatures(*texts), similarity):
            text, caption = (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)
            exact = jaccard(take(*texts, text), take(*self._shingles, caption))
            near = exact >= similarity
            text, caption, exact = text[near], caption[near], exact[near]
            order = np.lexsort((caption, -exact, text))
            order = order[np.diff(text[order], prepend=-1) != 0]
            text, caption, exact = text[order], caption[order], exact[order]
            better = (exact > best[text]) | ((exact == best[text]) & (caption < found[text]))
            found[text[better]], best[text[better]] = caption[better], exact[better]
        return found, best

    def _candidates(self, minima: NDArray[np.uint32], similarity: float) -> Iterator[NDArray[np.uint64]]:
        """Pairs text << 32 | caption worth an exact comparison, distinct within a block, in blocks of bounded size."""
        own, bits = sketches(minima), _filter_bits(self._keys.shape[1])
        waiting, size = [np.empty(0, np.uint64)], 0
        for band, key in enumerate(_short_keys(minima)):
            byte, bit = _place(key, bits)
            text = np.flatnonzero(self._filter[band].take(byte) & bit)
            # In the order of the keys, each search begins where the last one ended.
            asked = np.sort((key[text].astype(np.uint64) << np.uint64(32)) | text.astype(np.uint64))
            text, key = (asked & np.uint64(0xFFFFFFFF)).astype(np.int64), (asked >> np.uint64(32)).astype(np.uint32)
            first = np.searchsorted(self._keys[band], key)
            counts = np.searchsorted(self._keys[band], key, side="right") - first
            for which, place in _expanded(first, counts):
                caption = self._captions[band].take(place).astype(np.int64)
                pair_text = text[which]
                kept = alike(own, self._sketches, pair_text, caption, similarity, HASHES)
                waiting.append((pair_text[kept].astype(np.uint64) << np.uint64(32)) | caption[kept].astype(np.uint64))
                size += len(kept)
                if size > _PAIRS:
                    yield from _cut(sorted_distinct(np.concatenate(waiting)))
                    waiting, size = [], 0
        yield from _cut(sorted_distinct(np.concatenate([np.empty(0, np.uint64), *waiting])))


def _short_keys(minima: NDArray[np.uint32]) -> Iterator[NDArray[np.uint32]]:
    """The upper halves of each band's keys [n], band after band: what they confuse, the exact comparison sorts out."""
    for band in range(BANDS):
        functions = _FUNCTIONS[band * ROWS : (band + 1) * ROWS]
        # Keys of different bands are never compared, so they may be numbered alike.
        yield (band_keys(minima.T[functions].T, 1, ROWS)[:, 0] >> np.uint64(32)).astype(np.uint32)


def _filter_bits(captions: int) -> int:
    """Bits of a key that the filter knows: at least 16 places a caption, so that at most 6 of 100 other texts pass."""
    return min(max(captions.bit_length() + 4, _LEAST_BITS), 32)


def _place(keys: NDArray[np.uint32], bits: int) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """The filter's byte and the bit therein for each key."""
    place = keys >> np.uint32(32 - bits)
    return place >> np.uint32(3), np.left_shift(1, place & np.uint32(7), dtype=np.uint8, casting="unsafe")


def _expanded(
    first: NDArray[np.int64], counts: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """For ranges that begin at `first`, the range's number and each place in it, in blocks of bounded size."""
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


def _layout(captions: int, values: int) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Each file's type and shape."""
    return {
        "keys": ("uint32", (BANDS, captions)),
        "captions": ("uint32", (BANDS, captions)),
        "filter": ("uint8", (BANDS, 1 << _filter_bits(captions) >> 3)),
        "sketches": ("uint64", (WORDS, captions)),
        "values": ("uint32", (values,)),
        "offsets": ("int64", (captions + 1,)),
    }
