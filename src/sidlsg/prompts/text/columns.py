"""Columns of texts: rows put in place, and the bytes of all lines at once, which numpy and `bytes` go through fast."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

PREFIX = 8
"""Bytes of a word that one number holds."""
_MASKS = np.array([2 ** (8 * size) - 1 for size in range(PREFIX + 1)], np.uint64)


def put(texts: pl.Series, rows: pl.Series, values: pl.Series) -> pl.Series:
    """The texts with other values at some rows, given by their indices."""
    if rows.is_empty():
        return texts
    order = np.arange(len(texts), dtype=np.uint32)
    order[rows.to_numpy()] = np.arange(len(texts), len(texts) + len(rows), dtype=np.uint32)
    return pl.concat([texts, values.alias(texts.name)]).gather(order)


def marked(length: int, rows: pl.Series) -> pl.Series:
    """A column of Booleans, true at some rows."""
    marks = np.zeros(length, np.bool_)
    marks[rows.to_numpy()] = True
    return pl.Series(marks)


def join_lines(texts: pl.Series) -> bytes:
    """The texts, which hold no line break and no null, as UTF-8 with a line break after each but the last."""
    joined: bytes | None = texts.str.join("\n").cast(pl.Binary).item()
    return joined or b""


def split_lines(lines: bytes, count: int) -> pl.Series:
    """The `count` lines as texts."""
    if not count:
        return pl.Series([], dtype=pl.String)
    return pl.Series([lines], dtype=pl.Binary).cast(pl.String).str.split("\n").explode()


def prefixes(padded: NDArray[np.uint8], starts: NDArray[Any], ends: NDArray[Any]) -> NDArray[np.uint64]:
    """The first 8 bytes of each word, or all of a shorter one, as a little-endian number.

    Args:
        padded: bytes, at least 8 of them behind the last start.
        starts: where each word begins.
        ends: the place behind its last byte.
    """
    numbers = np.ndarray((len(padded) - PREFIX + 1,), "<u8", padded, strides=(1,))[starts]
    found: NDArray[np.uint64] = numbers & _MASKS[np.minimum(ends - starts, PREFIX)]
    return found
