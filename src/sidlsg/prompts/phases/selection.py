"""The tasks that select and write: near duplicates dropped, lengths balanced, and shards written."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sidlsg.prompts.phases.exact_duplicates import bucket_texts, places_of
from sidlsg.prompts.phases.near_duplicates import DROPS
from sidlsg.prompts.phases.row_steps import Funnel
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.shards import ORIGINS, SCHEMA, shard_name, write_table
from sidlsg.prompts.work import Work
from sidlsg.storage.files import sha256_file

CUTS = "cuts"
"""The folder of the cuts in the output."""
TOP_WORDS = 2000
"""Most frequent words of a shard that are counted."""
LARGEST_SCORE = 1000.0
"""Bound of the histogram of scores, on either side."""
KEPT_SAMPLES = 50
"""The set's order is that of a digest, so that the first prompts are a fair sample."""


def settle(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Drop near duplicates from a bucket, and store the rest in `kept/BUCKET`.

    Returns:
        The funnel, and the counts of each cut and of each bin of lengths.
    """
    funnel = Funnel()
    texts = bucket_texts(work, bucket)
    if plan.rules.duplicates.similarity:
        keep = np.ones(texts.height, bool)
        keep[places_of(work.get(["drops"], bucket, DROPS)["ref"].to_numpy())] = False
        texts = funnel.count("near_duplicates", texts, pl.Series(keep))
    work.put(f"kept/{bucket:04}", {0: texts})
    bins = texts.group_by(_bin(plan)).len().rows()
    return {
        "funnel": funnel.to_dict(),
        "counts": _counts_by_cut(texts, plan),
        "bins": {str(key): n for key, n in bins},
    }


def trim(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Balance a bucket: of each bin of lengths keep as many as earlier buckets leave room for, in `trimmed/BUCKET`.

    Returns:
        The funnel and the counts of each cut.
    """
    settled = work.done("settle")
    most = plan.rules.balance.maximum_per_bin
    room: dict[int, int] = {}
    for earlier in range(bucket):
        for key, count in settled[earlier]["bins"].items():
            room[int(key)] = max(0, room.get(int(key), most) - count)
    funnel = Funnel()
    texts = bucket_texts(work, bucket, "kept").with_columns(_bin(plan))
    limit = pl.col("bin").replace_strict(room, default=most, return_dtype=pl.Int64) if room else pl.lit(most)
    place = pl.int_range(pl.len()).over("bin")
    texts = funnel.count("balance", texts, place < limit, pl.format("{} tokens", pl.col("tokens"))).drop("bin")
    work.put(f"trimmed/{bucket:04}", {0: texts})
    return {"funnel": funnel.to_dict(), "counts": _counts_by_cut(texts, plan)}


def _bin(plan: Plan) -> pl.Expr:
    return (pl.col("tokens") // plan.rules.balance.bin_tokens).cast(pl.Int64).alias("bin")


def _counts_by_cut(texts: pl.DataFrame, plan: Plan) -> list[int]:
    return [texts.filter(_in_cut(cut)).height for cut in plan.cuts]


def _in_cut(cut: float | None) -> pl.Expr:
    """Whether a text belongs to a cut by score; all belong to None."""
    return pl.col("text").is_not_null() if cut is None else pl.col("score") >= pl.lit(cut, pl.Float32)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard to write."""

    cut: float | None
    number: int
    start: int
    stop: int
    counts: list[int]
    """Texts of the cut in each bucket."""


def cut_folder(cut: float | None) -> str:
    """A cut's folder in the output, such as `cuts/6.25/`; empty for the whole set."""
    return "" if cut is None else f"{CUTS}/{cut:g}/"


def shards_of(work: Work, plan: Plan) -> list[Shard]:
    """All shards to write, once the selection is complete."""
    results = work.done("trim" if plan.rules.balance.maximum_per_bin else "settle")
    shards = []
    for index, cut in enumerate(plan.cuts):
        counts = [results[bucket]["counts"][index] for bucket in range(plan.buckets)]
        for number, start in enumerate(range(0, sum(counts), plan.rows_per_shard)):
            stop = min(start + plan.rows_per_shard, sum(counts))
            shards.append(Shard(cut=cut, number=number, start=start, stop=stop, counts=counts))
    return shards


def write(work: Work, plan: Plan, number: int) -> dict[str, Any]:
    """Write a shard to `output/FOLDER/shards/`, and the origins of its prompts to `output/FOLDER/origins/`.

    Returns:
        Digests and sizes of the files, and for the whole set the statistics of the summary.
    """
    shard = shards_of(work, plan)[number]
    texts = _texts(work, plan, shard).with_columns(id=pl.int_range(shard.start, shard.stop, dtype=pl.Int64))
    labels = pl.Series(plan.labels, dtype=pl.String)
    names = pl.Series([file.name for file in plan.files], dtype=pl.String)
    texts = texts.with_columns(
        source=labels.gather(texts["label"]), file=names.gather(texts["file"]), score=pl.col("score").fill_nan(None)
    )
    result: dict[str, Any] = {"rows": texts.height, "files": {}}
    for folder, schema in (("shards", SCHEMA), ("origins", ORIGINS)):
        name = f"{cut_folder(shard.cut)}{folder}/{shard_name(shard.number)}"
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "table.parquet"
            write_table(texts, schema, path)
            sha256 = sha256_file(path)
            work.store.put(f"output/{name}", path, sha256)
            result["files"][name] = [sha256, path.stat().st_size]
    if shard.cut is None:
        result |= _statistics(texts)
        result["sample"] = texts["text"].head(KEPT_SAMPLES).to_list() if shard.number == 0 else []
    return result


def _texts(work: Work, plan: Plan, shard: Shard) -> pl.DataFrame:
    folder = "trimmed" if plan.rules.balance.maximum_per_bin else "kept"
    parts = []
    for bucket, (count, stop) in enumerate(zip(shard.counts, accumulate(shard.counts), strict=True)):
        first = stop - count
        if first < shard.stop and stop > shard.start:
            table = bucket_texts(work, bucket, folder).filter(_in_cut(shard.cut))
            parts.append(table[max(shard.start - first, 0) : shard.stop - first])
    return pl.concat(parts)


def _statistics(texts: pl.DataFrame) -> dict[str, Any]:
    """Histograms that can be added over shards."""
    words = texts.select(pl.col("text").str.split(" ").alias("word"))
    all_words = words.explode("word").filter(pl.col("word").str.contains(r"[\p{L}\p{N}]"))
    top = all_words.select(pl.col("word").str.to_lowercase().value_counts(sort=True)).head(TOP_WORDS)
    # A score may be any number, and a histogram with millions of empty bars shows nothing.
    tenths = (pl.col("score").cast(pl.Float64).clip(-LARGEST_SCORE, LARGEST_SCORE) * 10).floor().cast(pl.Int64)
    scores = texts.select(tenths.alias("score")).drop_nulls()
    return {
        "tokens": _histogram(texts["tokens"]),
        "words": _histogram(words["word"].list.len()),
        "tenths_of_score": _histogram(scores["score"]),
        "top_words": dict(top.unnest("word").rows()),
        "sources": _histogram(texts["source"]),
    }


def _histogram(values: pl.Series) -> dict[str, int]:
    return {str(value): count for value, count in values.value_counts().sort(values.name).iter_rows()}
