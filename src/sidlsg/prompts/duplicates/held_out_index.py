"""The held-out index: each text's nearest evaluation caption."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sidlsg.prompts.duplicates.minhash import HASHES, alike, band_keys, signatures, sketches
from sidlsg.prompts.duplicates.shingles import blocks, jaccard_of_keys, shingles

BANDS, ROWS = 30, 4
"""Each MinHash is in two bands, once with its neighbours and once with others at equal distances. A caption of
similarity s becomes a candidate with a probability slightly below 1 - (1 - s^4)^30, since overlapping bands are
dependent: 0.9996 at 0.73, 0.9998 at 0.75, 0.99999 at 0.8, but 0.97 at 0.6 and 0.82 at 0.5 (simulated). 20 bands of 3
rows miss a tenth of that at 0.73, but find 4 to 19 times as many unlike captions, whose comparison dominates."""

_FUNCTIONS = np.concatenate([np.arange(HASHES), np.arange(HASHES).reshape(ROWS, -1).T.ravel()])
_PAIRS = 1 << 18  # candidates in memory at a time
_MATCHES = pl.Schema({"text": pl.UInt32, "caption": pl.UInt32, "similarity": pl.Float64})


class HeldOutIndex:
    """Finds near evaluation captions, with about 260 bytes of memory a caption."""

    def __init__(self, keys: pl.Series) -> None:
        """Index captions, given by their words keys."""
        self._captions = keys
        minima = signatures(*shingles(keys))
        self._sketches = sketches(minima)
        orders = ((key, np.argsort(key, kind="stable").astype(np.uint32)) for key in _short_keys(minima))
        self._bands = [(key[order], order) for key, order in orders]
        """Of each band, the captions' keys, sorted, and the captions of these keys."""

    def matches(self, keys: pl.Series, similarity: float) -> pl.DataFrame:
        """The most similar caption of each text, the first of equally similar ones, and its exact Jaccard similarity.

        Args:
            keys: of the texts.
            similarity: least similarity; a text with none as similar gets nulls.

        Returns:
            `caption`, its index, and `similarity`, a row for each text.
        """
        best = pl.DataFrame(schema=_MATCHES)
        for pairs in self._candidates(signatures(*shingles(keys)), similarity):
            exact = jaccard_of_keys(keys.gather(pairs["text"]), self._captions.gather(pairs["caption"]))
            near = pairs.with_columns(similarity=pl.Series(exact)).filter(pl.col("similarity") >= similarity)
            ordered = pl.concat([best, near]).sort("text", "similarity", "caption", descending=[False, True, False])
            best = ordered.unique("text", keep="first", maintain_order=True)
        texts = pl.DataFrame({"text": pl.arange(len(keys), dtype=pl.UInt32, eager=True)})
        return texts.join(best, on="text", how="left", maintain_order="left").drop("text")

    def _candidates(self, minima: NDArray[np.uint32], similarity: float) -> Iterator[pl.DataFrame]:
        """Pairs of a text and a caption to compare exactly, distinct within a block, in blocks of bounded size."""
        own = sketches(minima)
        waiting = [pl.DataFrame(schema=_MATCHES).drop("similarity")]
        for key, (known, captions) in zip(_short_keys(minima), self._bands, strict=True):
            # Most texts share no key with a caption.
            texts = pl.Series(key).is_in(pl.Series(known).implode()).arg_true().to_numpy()
            first = np.searchsorted(known, key[texts])
            counts = np.searchsorted(known, key[texts], side="right") - first
            offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
            for begin, end in blocks(offsets, _PAIRS):
                part = slice(begin, end)
                text = np.repeat(texts[part], counts[part])
                skipped = np.repeat(first[part] - offsets[part], counts[part])
                caption = captions[np.arange(offsets[begin], offsets[end]) + skipped]
                kept = alike(own, self._sketches, text, caption, similarity)
                waiting.append(pl.DataFrame({"text": text[kept], "caption": caption[kept]}, schema=waiting[0].schema))
                if sum(map(len, waiting)) > _PAIRS:
                    yield pl.concat(waiting).unique()
                    waiting = waiting[:1]
        yield pl.concat(waiting).unique()


def _short_keys(minima: NDArray[np.uint32]) -> Iterator[NDArray[np.uint32]]:
    """The upper halves of each band's keys [n], band after band; the exact comparison resolves their collisions."""
    for band in range(BANDS):
        functions = _FUNCTIONS[band * ROWS : (band + 1) * ROWS]
        # Keys of different bands are never compared, so all are computed as the first band's.
        yield (band_keys(minima.T[functions].T, 1, ROWS)[:, 0] >> np.uint64(32)).astype(np.uint32)
