"""Made-up tables like LAION-Aesthetics': captions of a skewed vocabulary, dirt, exact and near duplicates, scores."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

ROWS_PER_FILE = 1_000_000
WORDS = 60_000
_DRAWS = 1 << 20
_LETTERS = np.frombuffer(b"etaoinshrdlucmfwypvbgkjqxz", dtype=np.uint8)
_DIRT = (
    "<b>{}</b>",
    "{} &amp; more",
    "{} | www.example.invalid/a",
    "“{}”",
    "{}  ",
    "café {}",
    "{}, “fine” art",
    "ｆｕｌｌ {}",
)
DIRTY = 0.25
EXACT, NEAR = 0.2, 0.1
"""Shares of rows that repeat an earlier row's text, as it is or with a word more."""


def vocabulary(seed: int = 0) -> pl.Series:
    """Words of 2 to 10 letters."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 11, WORDS)
    letters = _LETTERS[np.minimum(rng.geometric(0.09, lengths.sum()) - 1, 25)].tobytes().decode()
    ends = np.cumsum(lengths)
    return pl.Series([letters[end - length : end] for end, length in zip(ends, lengths, strict=True)])


@cache
def _skewed() -> np.ndarray:
    """Numbers of words, the first ones much more often than the last."""
    rng = np.random.default_rng(1)
    return np.minimum(rng.zipf(1.25, _DRAWS) - 1 + rng.integers(0, 40, _DRAWS), WORDS - 1)


def make_table(rows: int, seed: int, words: pl.Series) -> pl.DataFrame:
    """A table of made-up rows; equal arguments give equal tables."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 18, rows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    picks = _skewed()[rng.integers(0, _DRAWS, offsets[-1])]
    listed = pa.LargeListArray.from_arrays(pa.array(offsets), words.gather(picks).to_arrow())
    texts = pl.Series(listed).list.join(" ")
    kind = rng.random(rows)
    earlier = (np.arange(rows) * rng.random(rows)).astype(np.int64)
    repeated = texts.gather(np.where(kind < EXACT + NEAR, earlier, np.arange(rows)))
    near = pl.Series((kind >= EXACT) & (kind < EXACT + NEAR))
    extra = words.gather(rng.integers(0, WORDS, rows))
    dirt = pl.Series(np.where(rng.random(rows) < DIRTY, rng.integers(0, len(_DIRT), rows), -1))
    table = pl.DataFrame({"TEXT": repeated, "extra": extra, "near": near, "dirt": dirt})
    table = table.with_columns(TEXT=pl.when("near").then(pl.concat_str("TEXT", pl.lit(" "), "extra")).otherwise("TEXT"))
    for number, form in enumerate(_DIRT):
        before, _, after = form.partition("{}")
        made = pl.concat_str(pl.lit(before), "TEXT", pl.lit(after))
        table = table.with_columns(TEXT=pl.when(pl.col("dirt") == number).then(made).otherwise("TEXT"))
    return table.select("TEXT").with_columns(
        WIDTH=pl.Series(rng.integers(200, 2000, rows), dtype=pl.Int32),
        HEIGHT=pl.Series(rng.integers(200, 2000, rows), dtype=pl.Int32),
        similarity=pl.Series(rng.normal(0.3, 0.03, rows), dtype=pl.Float32),
        punsafe=pl.Series(rng.beta(0.5, 6, rows), dtype=pl.Float32),
        pwatermark=pl.Series(rng.beta(1, 3, rows), dtype=pl.Float32),
        AESTHETIC_SCORE=pl.Series(rng.normal(5.85, 0.6, rows), dtype=pl.Float32),
    )


def write_tables(folder: Path, rows: int) -> int:
    """Write so many rows as parquet files of a million; files that are there stay.

    Returns:
        Their size in bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = vocabulary()
    size = 0
    for number, start in enumerate(range(0, rows, ROWS_PER_FILE)):
        path = folder / f"{number:05}.parquet"
        if not path.exists():
            temporary = path.with_suffix(".part")
            table = make_table(min(ROWS_PER_FILE, rows - start), number, words)
            table.write_parquet(temporary, row_group_size=ROWS_PER_FILE // 4)
            temporary.rename(path)
        size += path.stat().st_size
    return size
