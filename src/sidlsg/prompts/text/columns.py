"""Columns of texts: replacing rows, and all texts as one string of bytes, which numpy and `bytes` process fast."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

PREFIX = 8
"""Bytes of a word in one uint64."""
_MASKS = np.array([2 ** (8 * size) - 1 for size in range(PREFIX + 1)], np.uint64)


def put(texts: pl.Series, rows: pl.Series, values: pl.Series) -> pl.Series:
    """Replace the values of some rows, given by their indices."""
    if rows.is_empty():
        return texts
    order = np.arange(len(texts), dtype=np.uint32)
    order[rows.to_numpy()] = np.arange(len(texts), len(texts) + len(rows), dtype=np.uint32)
    return pl.concat([texts, values.alias(texts.name)]).gather(order)


def marked(length: int, rows: pl.Series) -> pl.Series:
    """A Boolean column, true at some rows."""
    marks = np.zeros(length, np.bool_)
    marks[rows.to_numpy()] = True
    return pl.Series(marks)


def join_lines(texts: pl.Series) -> bytes:
    """Texts without line breaks and nulls as UTF-8, joined by line breaks."""
    return texts.str.join("\n").cast(pl.Binary).item() or b""


def split_lines(lines: bytes, count: int) -> pl.Series:
    """The inverse of `join_lines` for `count` texts."""
    if not count:
        return pl.Series([], dtype=pl.String)
    return pl.Series([lines], dtype=pl.Binary).cast(pl.String).str.split("\n").explode()


def prefixes(padded: NDArray[np.uint8], starts: NDArray[Any], ends: NDArray[Any]) -> NDArray[np.uint64]:
    """The first 8 bytes of each word `padded[start:end]`, or all of a shorter one, as a little-endian number.

    `padded` has at least 8 bytes after the last start.
    """
    numbers = np.ndarray((len(padded) - PREFIX + 1,), "<u8", padded, strides=(1,))[starts]
    found: NDArray[np.uint64] = numbers & _MASKS[np.minimum(ends - starts, PREFIX)]
    return found
