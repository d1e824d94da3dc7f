"""The tasks that settle what is kept: without near duplicates, and balanced over lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from sidlsg.prompts.phases.funnel import Funnel
from sidlsg.prompts.phases.near import DROPS
from sidlsg.prompts.phases.unique import UNIQUE, places_of
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.work import Work


def settle(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Take near duplicates out of a bucket; what is left goes to `kept/BUCKET`.

    Returns:
        The funnel, the counts of each cut, and those of each bin of lengths.
    """
    funnel = Funnel()
    texts = work.get([f"unique/{bucket:04}"], 0, UNIQUE)
    if plan.rules.duplicates.similarity:
        drops = work.get(["drops"], bucket, DROPS)
        keep = np.ones(texts.height, bool)
        keep[places_of(drops["ref"].to_numpy())] = False
        texts = texts.with_columns(_keep=pl.Series(keep))
        texts = funnel.count("near_duplicates", texts, pl.col("_keep")).drop("_keep")
    work.put(f"kept/{bucket:04}", {0: texts})
    bins = texts.group_by(_bin(plan)).len().rows()
    return {"funnel": funnel.to_dict(), "counts": _counts(texts, plan), "bins": {str(key): n for key, n in bins}}


def trim(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Balance a bucket: of each bin of lengths keep what the buckets before it leave room for, in `trimmed/BUCKET`.

    Returns:
        The funnel and the counts of each cut.
    """
    settled = work.done("settle")
    before: dict[str, int] = {}
    for earlier in range(bucket):
        for key, count in settled[earlier]["bins"].items():
            before[key] = before.get(key, 0) + count
    room = {int(key): max(0, plan.rules.balance.maximum_per_bin - count) for key, count in before.items()}
    funnel = Funnel()
    texts = work.get([f"kept/{bucket:04}"], 0, UNIQUE).with_columns(_bin(plan))
    most = pl.lit(plan.rules.balance.maximum_per_bin)
    if room:
        most = pl.col("bin").replace_strict(room, default=most, return_dtype=pl.Int64)
    place = pl.int_range(pl.len()).over("bin")
    texts = funnel.count("balance", texts, place < most, pl.format("{} tokens", pl.col("tokens"))).drop("bin")
    work.put(f"trimmed/{bucket:04}", {0: texts})
    return {"funnel": funnel.to_dict(), "counts": _counts(texts, plan)}


def _bin(plan: Plan) -> pl.Expr:
    return (pl.col("tokens") // plan.rules.balance.bin_tokens).cast(pl.Int64).alias("bin")


def _counts(texts: pl.DataFrame, plan: Plan) -> list[int]:
    return [texts.filter(in_cut(cut)).height for cut in plan.cuts]


def in_cut(cut: float | None) -> pl.Expr:
    """Whether a text belongs to a cut by score; all belong to None."""
    return pl.col("text").is_not_null() if cut is None else pl.col("score") >= pl.lit(cut, pl.Float32)
