"""The tasks that find near duplicates: candidates from bands, their texts side by side, proof, and groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sidlsg.prompts.duplicates.candidates import candidate_pairs, connected
from sidlsg.prompts.duplicates.minhash import HASHES, alike
from sidlsg.prompts.duplicates.shingles import jaccard_of_keys
from sidlsg.prompts.phases.row_steps import SAMPLES, SHOWN
from sidlsg.prompts.phases.scan import spread
from sidlsg.prompts.phases.unique import BANDS, BATCH, REF_BITS, SKETCHES, UNIQUE, places_of, texts_of
from sidlsg.prompts.plan import Plan, bucket_names
from sidlsg.prompts.text.keys import same_words_keys
from sidlsg.prompts.work import Work

PAIRS: dict[str, Any] = {"low": pl.UInt64, "high": pl.UInt64}
LEFT: dict[str, Any] = {**PAIRS, **SKETCHES, "key": pl.String}
EDGES: dict[str, Any] = {**PAIRS, "similarity": pl.Float64}
DROPS: dict[str, Any] = {"ref": pl.UInt64, "root": pl.UInt64, "root_k0": pl.UInt64, "root_k1": pl.UInt64}
DROPPED = pa.schema([("key", pa.binary(16)), ("kept", pa.binary(16))])
DROPPED_GROUP = 1 << 16
LARGEST = 20
"""Groups that are told by name."""


def pairs(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Find the texts that share a band, among the bands of one bucket; they go to `pairs/BUCKET` by
    the bucket of the lower text."""
    bands = work.get(bucket_names("bands", plan.buckets), bucket, BANDS)
    found = candidate_pairs(bands["band"].to_numpy(), bands["ref"].to_numpy())
    table = pl.DataFrame({"low": found[:, 0], "high": found[:, 1]}, schema=PAIRS)
    _spread_by(work, f"pairs/{bucket:04}", table, "low")
    return {}


def left(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Put the lower text beside the pairs of one bucket; they go to `left/BUCKET/CHUNK` by the
    bucket of the higher text.

    Returns:
        How many chunks there are: low buckets have more pairs than others, for the lower text is what counts.
    """
    table = _distinct(work.get(bucket_names("pairs", plan.buckets), bucket, PAIRS))
    texts, sketched = texts_of(work, bucket), _sketches_of(work, bucket)
    chunks = 0
    for batch in table.iter_slices(max(1, plan.rows_collected // 2)):
        places = places_of(batch["low"].to_numpy())
        batch = batch.hstack(sketched[places]).with_columns(key=same_words_keys(texts[places]))
        _spread_by(work, f"left/{bucket:04}/{chunks:04}", batch, "high")
        chunks += 1
    return {"chunks": chunks}


def _distinct(pairs: pl.DataFrame) -> pl.DataFrame:
    """Each pair once, sorted."""
    pairs = pairs.sort("low", "high")
    low, high = pairs["low"].to_numpy(), pairs["high"].to_numpy()
    first = np.ones(len(pairs), bool)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return pairs.filter(pl.Series(first))


def verify(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Keep the pairs of one bucket that are as similar as the rules ask, in `edges/BUCKET`."""
    candidates, least = 0, plan.rules.duplicates.similarity
    theirs = _words_of(_sketches_of(work, bucket))
    found = [pl.DataFrame(schema=LEFT)]
    for lower, result in sorted(work.done("left").items()):
        for chunk in range(result["chunks"]):
            table = work.get([f"left/{lower:04}/{chunk:04}"], bucket, LEFT)
            candidates += table.height
            high = places_of(table["high"].to_numpy())
            # Most candidates are far from alike, which sketches tell for a small part of an exact comparison's cost.
            low = np.arange(table.height)
            found.append(table[alike(_words_of(table), theirs, low, high, least, HASHES)])
    table = pl.concat(found)
    texts = texts_of(work, bucket)
    edges = []
    for batch in table.iter_slices(BATCH):
        others = same_words_keys(texts[places_of(batch["high"].to_numpy())])
        similarity = jaccard_of_keys(batch["key"], others)
        scored = batch.select("low", "high", similarity=pl.Series(similarity, dtype=pl.Float64))
        edges.append(scored.filter(pl.col("similarity") >= least))
    work.put(f"edges/{bucket:04}", {0: pl.concat(edges)} if edges else {})
    return {"candidates": candidates, "compared": table.height}


def _sketches_of(work: Work, bucket: int) -> pl.DataFrame:
    return work.get([f"sketches/{bucket:04}"], 0, SKETCHES)


def _words_of(table: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The sketches of a table, [3, n]."""
    return np.stack([table[name].to_numpy() for name in SKETCHES])


def groups(work: Work, plan: Plan, number: int) -> dict[str, Any]:
    """Join what is similar into groups; all but the first text of each go to `drops` by bucket.

    Returns:
        The size and the first text of the largest groups, and some dropped texts with the first one of their group.
    """
    del number
    edges = work.get(bucket_names("edges", plan.buckets), 0, EDGES)
    refs, roots = connected(edges.select("low", "high").to_numpy().astype(np.uint64, copy=False))
    drops = pl.DataFrame({"ref": refs, "root": roots}, schema={"ref": pl.UInt64, "root": pl.UInt64})
    sizes = drops.group_by("root").len().sort(["len", "root"], descending=[True, False]).head(LARGEST)
    drops = drops.filter(pl.col("ref") != pl.col("root"))
    # Their keys alone: the texts of all groups would not fit where there are many.
    keys = _rows_of(work, drops["root"].unique().sort(), ("k0", "k1")).rename({"k0": "root_k0", "k1": "root_k1"})
    drops = drops.join(keys.rename({"ref": "root"}), on="root", how="left").sort("ref")
    _spread_by(work, "drops", drops, "ref")
    # References follow the order of digests, so that the first ones are a fair sample.
    sample = drops.select("ref", "root").head(SAMPLES)
    shown = pl.concat([sample["ref"], sample["root"], sizes["root"]]).unique().sort()
    text = dict(_rows_of(work, shown, ("text",)).iter_rows())
    return {
        "largest": [[size, text[root][:SHOWN]] for root, size in sizes.select("root", "len").iter_rows()],
        "samples": [[text[ref][:SHOWN], text[root][:SHOWN]] for ref, root in sample.iter_rows()],
    }


def _rows_of(work: Work, refs: pl.Series, columns: tuple[str, ...]) -> pl.DataFrame:
    """Some columns of the texts of rising references, beside `ref`."""
    values = refs.to_numpy()
    buckets = values >> np.uint64(REF_BITS)
    tables = [pl.DataFrame(schema={"ref": pl.UInt64, **{name: UNIQUE[name] for name in columns}})]
    for bucket in np.unique(buckets):
        mine = values[buckets == bucket]
        table = work.get([f"unique/{bucket:04}"], 0, UNIQUE).select(columns)
        tables.append(table[places_of(mine)].select(pl.Series("ref", mine, pl.UInt64), *columns))
    return pl.concat(tables)


def _spread_by(work: Work, folder: str, table: pl.DataFrame, ref: str) -> None:
    spread(work, folder, table, (table[ref].to_numpy() >> np.uint64(REF_BITS)).astype(np.int64))


def write_drops(work: Work, plan: Plan, path: Path) -> None:
    """Write which text each near duplicate gave way to: `key` and `kept`, digests of 16 bytes, sorted by `key`."""
    # Not by `empty_table`, which imports pandas.
    waiting = pa.Table.from_batches([], schema=DROPPED)
    with pq.ParquetWriter(path, DROPPED, compression="zstd") as writer:
        for bucket in range(plan.buckets):
            drops = work.get(["drops"], bucket, DROPS)
            keys = work.get([f"unique/{bucket:04}"], 0, UNIQUE).select("k0", "k1")[places_of(drops["ref"].to_numpy())]
            columns = (keys.to_numpy(), drops.select("root_k0", "root_k1").to_numpy())
            more = pa.table([_as_bytes(column) for column in columns], schema=DROPPED)
            waiting = pa.concat_tables([waiting, more])
            # Row groups must not depend on the number of buckets.
            whole = len(waiting) - len(waiting) % DROPPED_GROUP
            if whole:
                writer.write_table(waiting.slice(0, whole), row_group_size=DROPPED_GROUP)
                waiting = waiting.slice(whole).combine_chunks()
        writer.write_table(waiting)


def _as_bytes(keys: np.ndarray[Any, Any]) -> pa.Array:
    data = np.ascontiguousarray(keys, dtype=">u8").tobytes()
    return pa.FixedSizeBinaryArray.from_buffers(DROPPED.field(0).type, len(keys), [None, pa.py_buffer(data)])
