"""The tasks that find near duplicates: candidates from bands, their texts joined, exact comparison, and groups."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sidlsg.prompts.duplicates.candidates import candidate_pairs, connected, distinct_pairs
from sidlsg.prompts.duplicates.minhash import alike
from sidlsg.prompts.duplicates.shingles import jaccard_of_keys
from sidlsg.prompts.phases.exact_duplicates import BANDS, BATCH, REF_BITS, SKETCHES, bucket_texts, places_of
from sidlsg.prompts.phases.row_steps import SAMPLES, SHOWN
from sidlsg.prompts.phases.scan import spread
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.text.keys import same_words_keys
from sidlsg.prompts.work import Work

PAIRS: dict[str, Any] = {"low": pl.UInt64, "high": pl.UInt64}
LEFT: dict[str, Any] = {**PAIRS, **SKETCHES, "key": pl.String}
EDGES: dict[str, Any] = {**PAIRS, "similarity": pl.Float64}
DROPS: dict[str, Any] = {"ref": pl.UInt64, "root": pl.UInt64, "root_k0": pl.UInt64, "root_k1": pl.UInt64}
DROPPED = pa.schema([("key", pa.binary(16)), ("kept", pa.binary(16))])
DROPPED_GROUP = 1 << 16
LARGEST = 20
"""Largest groups that are reported."""


def pairs(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Find the texts that share a band of one bucket, and store them in `pairs/BUCKET` by the lower text's bucket."""
    found = candidate_pairs(_of_all_buckets(work, plan, "bands", bucket, BANDS))
    _spread_by(work, f"pairs/{bucket:04}", found, "low")
    return {}


def left(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Join the lower text to the pairs of one bucket, and store them in `left/BUCKET/CHUNK` by the higher one's bucket.

    Returns:
        The number of chunks: low buckets have more pairs than others, since the lower text counts.
    """
    table = distinct_pairs(_of_all_buckets(work, plan, "pairs", bucket, PAIRS))
    texts, sketched = bucket_texts(work, bucket)["text"], _sketches_of(work, bucket)
    chunks = count()
    for batch in table.iter_slices(max(1, plan.rows_collected // 2)):
        places = places_of(batch["low"].to_numpy())
        batch = batch.hstack(sketched[places]).with_columns(key=same_words_keys(texts[places]))
        _spread_by(work, f"left/{bucket:04}/{next(chunks):04}", batch, "high")
    return {"chunks": next(chunks)}


def verify(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Keep the pairs of one bucket that are as similar as the rules require, in `edges/BUCKET`."""
    candidates, least = 0, plan.rules.duplicates.similarity
    sketches = _sketch_words(_sketches_of(work, bucket))
    found = [pl.DataFrame(schema=LEFT)]
    for lower, result in sorted(work.done("left").items()):
        for chunk in range(result["chunks"]):
            table = work.get([f"left/{lower:04}/{chunk:04}"], bucket, LEFT)
            candidates += table.height
            high = places_of(table["high"].to_numpy())
            # Most candidates are far from similar, which sketches show at a fraction of an exact comparison's cost.
            found.append(table[alike(_sketch_words(table), sketches, np.arange(table.height), high, least)])
    table = pl.concat(found)
    texts = bucket_texts(work, bucket)["text"]
    edges = []
    for batch in table.iter_slices(BATCH):
        others = same_words_keys(texts[places_of(batch["high"].to_numpy())])
        scored = batch.select("low", "high", similarity=pl.Series(jaccard_of_keys(batch["key"], others)))
        edges.append(scored.filter(pl.col("similarity") >= least))
    work.put(f"edges/{bucket:04}", {0: pl.concat(edges)} if edges else {})
    return {"candidates": candidates, "compared": table.height}


def _of_all_buckets(work: Work, plan: Plan, folder: str, bucket: int, schema: dict[str, Any]) -> pl.DataFrame:
    """The rows for one bucket that the tasks of all buckets stored in a folder."""
    return work.get([f"{folder}/{each:04}" for each in range(plan.buckets)], bucket, schema)


def _sketches_of(work: Work, bucket: int) -> pl.DataFrame:
    return work.get([f"sketches/{bucket:04}"], 0, SKETCHES)


def _sketch_words(table: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The sketches of a table, [3, n]."""
    return np.stack([table[name].to_numpy() for name in SKETCHES])


def groups(work: Work, plan: Plan, number: int) -> dict[str, Any]:
    """Join similar texts into groups; all but the first text of each are stored in `drops` by bucket.

    Returns:
        Size and first text of the largest groups, and some dropped texts with the first text of their group.
    """
    del number
    edges = _of_all_buckets(work, plan, "edges", 0, EDGES)
    refs, roots = connected(edges.select("low", "high").to_numpy().astype(np.uint64, copy=False))
    drops = pl.DataFrame({"ref": refs, "root": roots}, schema={"ref": pl.UInt64, "root": pl.UInt64})
    sizes = drops.group_by("root").len().sort(["len", "root"], descending=[True, False]).head(LARGEST)
    drops = drops.filter(pl.col("ref") != pl.col("root"))
    # Keys only: the texts of very many groups would not fit into memory.
    keys = [pl.DataFrame(schema=DROPS).drop("ref")]
    for found, rows in _by_bucket(work, drops["root"].unique().sort()):
        keys.append(rows.select(pl.Series("root", found, pl.UInt64), root_k0="k0", root_k1="k1"))
    drops = drops.join(pl.concat(keys), on="root", how="left").sort("ref")
    _spread_by(work, "drops", drops, "ref")
    # References follow the order of digests, so the first ones are a fair sample.
    sample = drops.select("ref", "root").head(SAMPLES)
    shown = pl.concat([sample["ref"], sample["root"], sizes["root"]]).unique().sort()
    text: dict[int, str] = {}
    for found, rows in _by_bucket(work, shown):
        text |= zip(found.tolist(), rows["text"].str.slice(0, SHOWN), strict=True)
    return {
        "largest": [[size, text[root]] for root, size in sizes.select("root", "len").iter_rows()],
        "samples": [[text[ref], text[root]] for ref, root in sample.iter_rows()],
    }


def _by_bucket(work: Work, refs: pl.Series) -> Iterator[tuple[Any, pl.DataFrame]]:
    """Ascending references [n] and their rows, bucket by bucket."""
    values = refs.to_numpy()
    buckets = values >> np.uint64(REF_BITS)
    for bucket in np.unique(buckets):
        mine = values[buckets == bucket]
        yield mine, bucket_texts(work, int(bucket))[places_of(mine)]


def _spread_by(work: Work, folder: str, table: pl.DataFrame, ref: str) -> None:
    spread(work, folder, table, (table[ref].to_numpy() >> np.uint64(REF_BITS)).astype(np.int64))


def write_drops(work: Work, plan: Plan, path: Path) -> None:
    """Write `key` of each near duplicate and `kept` of its group's first text, digests of 16 bytes, sorted by `key`."""
    # Not by `empty_table`, which imports pandas.
    waiting = pa.Table.from_batches([], schema=DROPPED)
    with pq.ParquetWriter(path, DROPPED, compression="zstd") as writer:
        for bucket in range(plan.buckets):
            drops = work.get(["drops"], bucket, DROPS)
            keys = bucket_texts(work, bucket).select("k0", "k1")[places_of(drops["ref"].to_numpy())]
            columns = (keys.to_numpy(), drops.select("root_k0", "root_k1").to_numpy())
            waiting = pa.concat_tables([waiting, pa.table([_as_bytes(column) for column in columns], schema=DROPPED)])
            # Row groups must not depend on the number of buckets.
            whole = len(waiting) - len(waiting) % DROPPED_GROUP
            if whole:
                writer.write_table(waiting.slice(0, whole), row_group_size=DROPPED_GROUP)
                waiting = waiting.slice(whole).combine_chunks()
        writer.write_table(waiting)


def _as_bytes(keys: np.ndarray[Any, Any]) -> pa.Array:
    data = np.ascontiguousarray(keys, dtype=">u8").tobytes()
    return pa.FixedSizeBinaryArray.from_buffers(DROPPED.field(0).type, len(keys), [None, pa.py_buffer(data)])
