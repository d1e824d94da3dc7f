"""The task `unique`: one bucket's equal texts, token counts and evaluation captions, and the bands of what is left."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from sidlsg.prompts.duplicates.held_out_index import HeldOutIndex
from sidlsg.prompts.duplicates.minhash import NEAR_DUPLICATES, WORDS, band_keys, signatures, sketches
from sidlsg.prompts.duplicates.shingles import shingles
from sidlsg.prompts.phases.row_steps import Funnel
from sidlsg.prompts.phases.scan import SCHEMA, bucket_of, spread
from sidlsg.prompts.plan import Plan
from sidlsg.prompts.rules import HeldOutRule
from sidlsg.prompts.text.cleaning import clean_all
from sidlsg.prompts.text.keys import content_words_keys, same_words_keys
from sidlsg.prompts.text.tokens import token_counts
from sidlsg.prompts.work import Work

UNIQUE: dict[str, Any] = {**SCHEMA, "tokens": pl.UInt32, "copies": pl.UInt32}
"""`copies` is the number of rows with the text."""
BANDS: dict[str, Any] = {"band": pl.UInt64, "ref": pl.UInt64}
SKETCHES: dict[str, Any] = dict.fromkeys((f"s{word}" for word in range(WORDS)), pl.UInt64)
"""In the order of the bucket's texts."""
REF_BITS = 40
"""A text's reference is bucket << 40 | index in the bucket: references ascend with keys."""
BATCH = 1 << 17
"""Texts compared with captions, or hashed, at once."""


def unique(work: Work, plan: Plan, bucket: int) -> dict[str, Any]:
    """Store the distinct texts of a bucket as one sorted table, `unique/BUCKET`, and return the funnel.

    Their sketches are stored in `sketches/BUCKET`, and their bands, by which near duplicates are found, in
    `bands/BUCKET` by the band's own bucket.
    """
    funnel = Funnel()
    scanned = work.done("scan")
    bad = {plan.pieces[number].file for number, result in scanned.items() if "bad" in result}
    names = [
        f"scan/{number:06}/{chunk:04}"
        for number, result in sorted(scanned.items())
        if plan.pieces[number].file not in bad
        for chunk in range(result["chunks"])
    ]
    texts = _first_of_equal(work.get(names, bucket, SCHEMA), plan, funnel)
    texts = _by_tokens(texts, plan, funnel)
    texts = texts.with_columns(_words=same_words_keys(texts["text"]))
    texts = _without_held_out(texts, plan, funnel)
    work.put(f"unique/{bucket:04}", {0: texts.select(*UNIQUE)})
    if plan.rules.duplicates.similarity:
        bands, sketched = _bands(texts["_words"], bucket)
        work.put(f"sketches/{bucket:04}", {0: sketched})
        spread(work, f"bands/{bucket:04}", bands, bucket_of(bands["band"].to_numpy(), plan.buckets))
    return {"funnel": funnel.to_dict()}


def bucket_texts(work: Work, bucket: int, folder: str = "unique") -> pl.DataFrame:
    """A bucket's table of `UNIQUE`, in the order of references."""
    return work.get([f"{folder}/{bucket:04}"], 0, UNIQUE)


def places_of(refs: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The indices of references in their buckets."""
    return (refs & np.uint64((1 << REF_BITS) - 1)).astype(np.int64)


def _first_of_equal(rows: pl.DataFrame, plan: Plan, funnel: Funnel) -> pl.DataFrame:
    """Sort rows by key, and keep the best of those with the same key.

    That is the one with the highest score, then the first by text and origin: the order of files does not count.
    """
    is_repeat = pl.all_horizontal(pl.col(key).eq_missing(pl.col(key).shift()) for key in ("k0", "k1"))
    rows = rows.sort("k0", "k1").with_columns(group=(~is_repeat).cum_sum())
    rows = rows.with_columns(copies=pl.len().over("group").cast(pl.UInt32))
    names = pl.Series([file.name for file in plan.files], dtype=pl.String)
    # Only rows with equal keys are compared by their texts, which takes time and memory.
    tied = rows.filter(pl.col("copies") > 1)
    tied = tied.with_columns(name=names.gather(tied["file"])).sort(
        ["group", "score", "text", "label", "name", "row"],
        descending=[False, True, False, False, False, False],
        nulls_last=True,
    )
    rows = pl.concat([rows.filter(pl.col("copies") == 1), tied.drop("name")]).sort("group", maintain_order=True)
    if plan.rules.duplicates.exact:
        first = pl.col("group").ne_missing(pl.col("group").shift())
        rows = funnel.count("duplicates", rows, first, pl.format("{} rows have it", pl.col("copies")))
    return rows.drop("group")


def _by_tokens(texts: pl.DataFrame, plan: Plan, funnel: Funnel) -> pl.DataFrame:
    texts = texts.with_columns(tokens=pl.Series(token_counts(texts["text"]), dtype=pl.UInt32))
    tokens, rule = pl.col("tokens"), plan.rules.length
    keep = (tokens >= rule.minimum_tokens) & ((tokens <= rule.maximum_tokens) if rule.maximum_tokens else pl.lit(True))
    return funnel.count("tokens", texts, keep, pl.format("{} tokens", tokens)).select(*UNIQUE)


def _without_held_out(texts: pl.DataFrame, plan: Plan, funnel: Funnel) -> pl.DataFrame:
    rule = plan.rules.held_out
    if not plan.held_out:
        return texts
    if rule.words or rule.content_words:
        texts = funnel.count("held_out", texts, ~same_as_held_out(texts["text"], texts["_words"], plan.held_out, rule))
    if rule.similarity:
        near = near_held_out(texts["_words"], plan.held_out, rule)
        captions = clean_captions(plan.held_out)
        texts = texts.with_columns(near["similarity"], like=captions.gather(near["caption"]))
        why = pl.format("{} like: {}", pl.col("similarity").round(2), "like")
        texts = funnel.count("held_out_near", texts, pl.col("like").is_null(), why)
    return texts


def same_as_held_out(texts: pl.Series, words: pl.Series, held_out: tuple[str, ...], rule: HeldOutRule) -> pl.Series:
    """Whether each cleaned text, given with its words key, is an evaluation caption in some spelling."""
    found = pl.repeat(False, len(texts), dtype=pl.Boolean, eager=True)
    if rule.words:
        found |= words.is_in(caption_keys(held_out).implode())
    if rule.content_words:
        found |= content_words_keys(texts).is_in(content_words_keys(clean_captions(held_out)).implode())
    return found


def near_held_out(words: pl.Series, held_out: tuple[str, ...], rule: HeldOutRule) -> pl.DataFrame:
    """The nearest evaluation caption of each text, given by its words key: `caption`, its index, and `similarity`."""
    index = _held_out_index(held_out)
    batches = [words[:0], *(words[start : start + BATCH] for start in range(0, len(words), BATCH))]
    return pl.concat([index.matches(batch, rule.similarity) for batch in batches])


@lru_cache(maxsize=1)
def _held_out_index(captions: tuple[str, ...]) -> HeldOutIndex:
    return HeldOutIndex(caption_keys(captions))


def clean_captions(captions: tuple[str, ...]) -> pl.Series:
    """Evaluation captions, cleaned as texts are."""
    return clean_all(pl.Series(captions, dtype=pl.String))


def caption_keys(captions: tuple[str, ...]) -> pl.Series:
    """The words keys of evaluation captions."""
    return same_words_keys(clean_captions(captions))


def _bands(words: pl.Series, bucket: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The bands and the sketches of texts."""
    bands, sketched = [pl.DataFrame(schema=BANDS)], [pl.DataFrame(schema=SKETCHES)]
    for start in range(0, len(words), BATCH):
        batch = words.slice(start, BATCH)
        hashes = signatures(*shingles(batch))
        keys = band_keys(hashes, *NEAR_DUPLICATES)
        first = (bucket << REF_BITS) + start
        refs = np.tile(np.arange(first, first + len(batch), dtype=np.uint64), NEAR_DUPLICATES[0])
        bands.append(pl.DataFrame({"band": keys.T.ravel(), "ref": refs}, schema=BANDS))
        sketched.append(pl.DataFrame(dict(zip(SKETCHES, sketches(hashes), strict=True)), schema=SKETCHES))
    return pl.concat(bands), pl.concat(sketched)
