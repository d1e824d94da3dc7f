"""The task `scan`: apply the row steps to one piece of a source file, and spread what is left over buckets."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from sidlsg.prompts.phases.row_steps import Funnel, row_steps
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.source.batches import SCHEMA as ROWS
from sidlsg.prompts.source.batches import read_batches
from sidlsg.prompts.source.content import local_copy
from sidlsg.prompts.text.keys import digests, same_text_keys
from sidlsg.prompts.work import Work
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import sha256_file

EXAMPLES = 3
"""Rows kept as examples of a problem."""
SCHEMA: dict[str, Any] = {
    "k0": pl.UInt64,
    "k1": pl.UInt64,
    "text": pl.String,
    "score": pl.Float32,
    "label": pl.UInt16,
    "file": pl.UInt32,
    "row": pl.UInt64,
}
"""`k0` and `k1` are the first 16 bytes of the SHA-256 of the text's key, by which texts are equal and ordered. `label`,
`file` and `row` are the text's origin."""


def scan(work: Work, plan: Plan, number: int) -> dict[str, Any]:
    """Read a piece; its rows that are left are stored in `scan/PIECE/CHUNK` by bucket.

    Returns:
        The number of chunks, the funnel, the rows with problems, and for a file's first piece its digest; only the
        reason (`bad`) for a damaged file where such files are skipped.

    Raises:
        InputError: the file cannot be read, and such files are not skipped.
    """
    piece = plan.pieces[number]
    file = plan.files[piece.file]
    funnel = Funnel()
    chunks = rows_read = 0
    waiting: list[pl.DataFrame] = []
    misread: dict[str, dict[str, Any]] = {}

    def store() -> None:
        nonlocal chunks
        table = pl.concat([pl.DataFrame(schema=SCHEMA), *waiting])
        spread(work, f"scan/{number:06}/{chunks:04}", table, bucket_of(table["k0"].to_numpy(), plan.buckets))
        waiting.clear()
        chunks += 1

    try:
        with local_copy(file) as path:
            for batch in read_batches(path, file, piece, plan.rules):
                if plan.sample_rows:
                    batch = batch.head(plan.sample_rows - rows_read)
                rows_read += batch.height
                _count_misread(batch, misread)
                kept = row_steps(batch, plan.rules, plan.unsafe_words, funnel)
                keys = digests(same_text_keys(kept["text"]), plan.rules.order.seed)
                kept = kept.with_columns(
                    k0=pl.Series(keys[:, 0]),
                    k1=pl.Series(keys[:, 1]),
                    label=pl.lit(plan.labels.index(file.label)),
                    file=pl.lit(piece.file),
                )
                waiting.append(kept.select(pl.col(name).cast(type_) for name, type_ in SCHEMA.items()))
                if sum(table.height for table in waiting) >= plan.rows_collected:
                    store()
                if plan.sample_rows and rows_read >= plan.sample_rows:
                    break
            digest = sha256_file(path) if piece.start == 0 and not plan.sample_rows else ""
    except InputError as error:
        if not plan.skip_bad_files:
            raise
        return {"bad": str(error)}
    if not funnel.steps:
        # A file without rows goes through every step as well, so that the funnel has all of them.
        row_steps(ROWS.to_frame(eager=True), plan.rules, plan.unsafe_words, funnel)
    store()
    return {"chunks": chunks, "funnel": funnel.to_dict(), "rows": rows_read, "misread": misread, "digest": digest}


def bucket_of(k0: np.ndarray[Any, np.dtype[np.uint64]], buckets: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Each text's bucket: the first bits of its key, so that the order of buckets is that of keys."""
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
    """Count rows by problem, with the first ones and their content as examples."""
    for (problem,), rows in batch.filter(pl.col("problem").is_not_null()).group_by("problem", maintain_order=True):
        count = counts.setdefault(str(problem), {"rows": 0, "examples": []})
        count["rows"] += rows.height
        # JSON has no bytes.
        first = rows.select("row", "given").head(EXAMPLES - len(count["examples"])).rows()
        count["examples"] += [[row, given and given.decode("latin-1")] for row, given in first]
