"""The task `scan`: one piece of a source file, sent through all steps that look at one row, spread over buckets."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from sidlsg.prompts.phases.row_steps import Funnel, row_steps
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.source.batches import SCHEMA as ROWS
from sidlsg.prompts.source.batches import read_batches
from sidlsg.prompts.source.local_copy import local_copy
from sidlsg.prompts.text.keys import digests, same_text_keys
from sidlsg.prompts.work import Work
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_file

EXAMPLES = 3
"""Rows with a problem that are kept for a person to look at."""
SCHEMA: dict[str, Any] = {
    "k0": pl.UInt64,
    "k1": pl.UInt64,
    "text": pl.String,
    "score": pl.Float32,
    "label": pl.UInt16,
    "file": pl.UInt32,
    "row": pl.UInt64,
}
"""`k0` and `k1` are the first 16 bytes of the SHA-256 of the text's key: what makes it the same text, and its place in
the set's order. `label`, `file` and `row` say where it came from."""


def scan(work: Work, plan: Plan, number: int) -> dict[str, Any]:
    """Read a piece; its rows that are left go to `scan/PIECE/CHUNK` by bucket.

    Returns:
        How many chunks there are, the funnel, what could not be read, and for a file's first piece its digest. Where
        the file is damaged and such files are skipped, only why.

    Raises:
        InputError: the file cannot be read, and such files are not skipped.
    """
    piece = plan.pieces[number]
    file = plan.files[piece.file]
    label = plan.labels.index(file.label)
    funnel = Funnel()
    chunks = 0
    waiting: list[pl.DataFrame] = []
    rows_read = 0
    misread: dict[str, dict[str, Any]] = {}
    try:
        with local_copy(file) as path:
            for batch in read_batches(path, file, piece, plan.rules):
                if plan.sample_rows:
                    batch = batch.head(plan.sample_rows - rows_read)
                rows_read += batch.height
                _count_misread(batch, misread)
                kept = row_steps(batch, plan.rules, plan.unsafe_words, funnel)
                waiting.append(_keyed(kept, plan.rules.order.seed, label, piece.file))
                if sum(table.height for table in waiting) >= plan.rows_collected:
                    _write(work, f"scan/{number:06}/{chunks:04}", waiting, plan.buckets)
                    waiting = []
                    chunks += 1
                if plan.sample_rows and rows_read >= plan.sample_rows:
                    break
            digest = sha256_file(path) if piece.start == 0 and not plan.sample_rows else ""
    except InputError as error:
        if not plan.skip_bad_files:
            raise
        return {"bad": str(error)}
    if not funnel.steps:
        # A file without rows still goes through every step, so that the funnel shows all of them.
        row_steps(ROWS.to_frame(eager=True), plan.rules, plan.unsafe_words, funnel)
    _write(work, f"scan/{number:06}/{chunks:04}", waiting, plan.buckets)
    return {
        "chunks": chunks + 1,
        "funnel": funnel.to_dict(),
        "rows": rows_read,
        "misread": misread,
        "digest": digest,
    }


def bucket_of(k0: np.ndarray[Any, np.dtype[np.uint64]], buckets: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Which bucket each text belongs to: the first bits of its key, so that buckets follow each other in order."""
    bits = buckets.bit_length() - 1
    return (k0 >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(k0), np.int64)


def spread(work: Work, name: str, table: pl.DataFrame, buckets: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    """Store a table as `NAME`, its rows by bucket."""
    order = np.argsort(buckets, kind="stable")
    rows = table[order]
    found, starts = np.unique(buckets[order], return_index=True)
    ends = np.append(starts, len(order))[1:]
    work.put(name, {int(bucket): rows[int(a) : int(b)] for bucket, a, b in zip(found, starts, ends, strict=True)})


def _count_misread(batch: pl.DataFrame, counts: dict[str, dict[str, Any]]) -> None:
    """Add rows with a problem to its count, and the first of them as examples: the row, and what the file has there."""
    for (problem,), rows in batch.filter(pl.col("problem").is_not_null()).group_by("problem", maintain_order=True):
        count = counts.setdefault(str(problem), {"rows": 0, "examples": []})
        count["rows"] += rows.height
        # JSON has no bytes.
        first = rows.select("row", "given").head(EXAMPLES - len(count["examples"])).rows()
        count["examples"] += [[row, given and given.decode("latin-1")] for row, given in first]


def _keyed(rows: pl.DataFrame, seed: int, label: int, file: int) -> pl.DataFrame:
    keys = digests(same_text_keys(rows["text"]), seed)
    return rows.select(
        pl.Series("k0", keys[:, 0], pl.UInt64),
        pl.Series("k1", keys[:, 1], pl.UInt64),
        "text",
        pl.col("score").cast(pl.Float32),
        pl.lit(label, pl.UInt16).alias("label"),
        pl.lit(file, pl.UInt32).alias("file"),
        "row",
    )


def _write(work: Work, name: str, tables: list[pl.DataFrame], buckets: int) -> None:
    table = pl.concat(tables) if tables else pl.DataFrame(schema=SCHEMA)
    spread(work, name, table, bucket_of(table["k0"].to_numpy(), buckets))
