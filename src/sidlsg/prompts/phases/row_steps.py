"""The steps that look at one row at a time, from a raw table to clean texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import polars as pl

from sidlsg.prompts.rules import CurationRules, ImageRule
from sidlsg.prompts.text.cleaning import clean_all
from sidlsg.prompts.text.junk import UnsafeWords, junk_reason
from sidlsg.prompts.text.language import other_language

SAMPLES = 50
"""Dropped rows a rule that are kept for a person to look at: those with the lowest digests of their texts, so that
they are a fair sample and do not depend on the order of the work."""
SHOWN = 300
"""Characters of a sample that are kept."""

NOTHING = pl.lit(None, pl.String)


@dataclass(kw_only=True)
class StepCount:
    """One step's counts and samples."""

    rows_in: int = 0
    rows_out: int = 0
    samples: dict[int, list[str]] = field(default_factory=dict)
    """By digest: the text, and why it was dropped."""


class Funnel:
    """All steps of a part of the work, in their order."""

    def __init__(self) -> None:
        self.steps: dict[str, StepCount] = {}

    def count(self, name: str, table: pl.DataFrame, keep: pl.Expr, why: pl.Expr = NOTHING) -> pl.DataFrame:
        """Apply a step.

        Args:
            name: of the step.
            table: rows with the column `text`.
            keep: Boolean; null drops.
            why: String, what a person should be told of a dropped row; may be null.

        Returns:
            The rows that are kept.
        """
        step = self.steps.setdefault(name, StepCount())
        mask = table.select(keep.fill_null(False)).to_series()
        kept = table.filter(mask)
        step.rows_in += table.height
        step.rows_out += kept.height
        if kept.height < table.height:
            _keep_lowest(step.samples, table.filter(~mask), why)
        return kept

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            name: {"rows_in": s.rows_in, "rows_out": s.rows_out, "samples": {str(k): v for k, v in s.samples.items()}}
            for name, s in self.steps.items()
        }


def merged(parts: Iterable[dict[str, Any]]) -> dict[str, StepCount]:
    """Counts and samples of several parts, in the order in which the steps first appear."""
    steps: dict[str, StepCount] = {}
    for part in parts:
        for name, values in part.items():
            step = steps.setdefault(name, StepCount())
            step.rows_in += values["rows_in"]
            step.rows_out += values["rows_out"]
            both = step.samples | {int(key): value for key, value in values["samples"].items()}
            step.samples = dict(sorted(both.items())[:SAMPLES])
    return steps


def _keep_lowest(samples: dict[int, list[str]], dropped: pl.DataFrame, why: pl.Expr) -> None:
    bound = max(samples) if len(samples) >= SAMPLES else 2**64
    # Null texts are dropped as well, and there is nothing to show of them.
    hashed = dropped.with_columns(_digest=pl.col("text").hash(0)).filter(pl.col("text").is_not_null())
    # One text may be in many rows.
    low = hashed.filter(pl.col("_digest") < bound).unique("_digest", keep="first", maintain_order=True)
    lowest = low.bottom_k(SAMPLES, by="_digest")
    for text, note, digest in lowest.select("text", why.alias("_why"), "_digest").iter_rows():
        samples[digest] = [text[:SHOWN], note or ""]
    for digest in sorted(samples)[SAMPLES:]:
        del samples[digest]


def row_steps(rows: pl.DataFrame, rules: CurationRules, unsafe_words: tuple[str, ...], funnel: Funnel) -> pl.DataFrame:
    """Send rows through the steps that are switched on.

    Args:
        rows: as `read_batches` gives them.
        rules: what a row must have.
        unsafe_words: what no text may contain, where that rule is on.
        funnel: counts them.

    Returns:
        The rows that are left, their texts clean.
    """
    rows = funnel.count("read", rows, pl.col("row").is_not_null())
    text = pl.col("text")
    size = text.str.len_bytes()
    rows = funnel.count("text", rows, size <= rules.text.maximum_bytes, pl.format("{} bytes", size))
    if rules.score.enabled:
        score = pl.col("score").cast(pl.Float32)
        keep = score >= pl.lit(rules.score.minimum, pl.Float32)
        rows = funnel.count("score", rows, keep, _named("score", 3))
    if rules.unsafe.columns:
        rows = _unsafe_columns(rows, rules, funnel)
    if rules.image.enabled:
        rows = funnel.count("image", rows, *_image(rules.image))
    # A person is shown what there was before.
    rows = rows.with_columns(_clean=clean_all(rows["text"]))
    rows = funnel.count("clean", rows, pl.col("_clean") != "").drop("text").rename({"_clean": "text"})
    if rules.language.enabled:
        drop = other_language(rows["text"], rows["language"], rules.language.keep, rules.language.detect)
        rows = _without(rows, "language", drop, funnel, pl.col("language").fill_null("by its letters and words"))
    if rules.unsafe.words:
        found = _matcher(unsafe_words).found(rows["text"])
        rows = _without(rows, "unsafe_words", found.is_not_null(), funnel, found=found)
    if rules.junk.enabled:
        reason = junk_reason(rows["text"], rules.junk)
        rows = _without(rows, "junk", reason.is_not_null(), funnel, found=reason)
    words = text.str.count_matches(" ", literal=True) + 1
    keep = words.is_between(rules.length.minimum_words, rules.length.maximum_words)
    return funnel.count("length", rows, keep, pl.format("{} words", words))


def step_demands(rules: CurationRules) -> dict[str, str]:
    """What each step asks of a row, in words, by its name."""
    return {
        "read": "a row",
        "text": f"a text of at most {rules.text.maximum_bytes:,} bytes of UTF-8",
        "score": f"a score of at least {rules.score.minimum:g}",
        "unsafe_columns": f"punsafe of at most {rules.unsafe.maximum_punsafe:g} and none of the tags "
        f"{', '.join(rules.unsafe.tags)}",
        "image": "an image as the rules of [image] ask",
        "clean": "a text that is not empty after cleaning",
        "language": f"a text in the language {rules.language.keep}",
        "unsafe_words": "a text without words of the list",
        "junk": "a text that describes something",
        "length": f"{rules.length.minimum_words} to {rules.length.maximum_words} words",
        "duplicates": "a text that no better row has",
        "tokens": f"{rules.length.minimum_tokens} to {rules.length.maximum_tokens or 'any number of'} tokens",
        "held_out": "a text that is not on the held-out list",
        "held_out_near": "a text that is not like one on the held-out list",
        "near_duplicates": "a text that is not like an earlier one",
        "balance": f"a place among the {rules.balance.maximum_per_bin:,} of its length",
    }


def _unsafe_columns(rows: pl.DataFrame, rules: CurationRules, funnel: Funnel) -> pl.DataFrame:
    punsafe, tag = pl.col("punsafe"), pl.col("nsfw").str.strip_chars().str.to_uppercase()
    likely = (punsafe > rules.unsafe.maximum_punsafe).fill_null(False)
    tagged = tag.is_in([word.strip().upper() for word in rules.unsafe.tags]).fill_null(False)
    told = pl.when(likely).then(_named("punsafe", 3)), pl.when(tagged).then(pl.col("nsfw"))
    why = pl.concat_str(*told, separator=", ", ignore_nulls=True)
    return funnel.count("unsafe_columns", rows, ~(likely | tagged), why)


def _named(number: str, digits: int) -> pl.Expr:
    """A number with its name, for a person."""
    return pl.format(f"{number} {{}}", pl.col(number).round(digits)).fill_null(f"no {number} that is a number")


def _image(rule: ImageRule) -> tuple[pl.Expr, pl.Expr]:
    """Which images are kept, and what there is to tell of the others."""
    shorter, longer = pl.min_horizontal("width", "height"), pl.max_horizontal("width", "height")
    keep, told = pl.col("row").is_not_null(), []
    if rule.maximum_watermark < 1:
        keep &= pl.col("watermark") <= rule.maximum_watermark
        told.append(_named("watermark", 3))
    if rule.minimum_similarity > 0:
        keep &= pl.col("similarity") >= rule.minimum_similarity
        told.append(_named("similarity", 3))
    if rule.minimum_side > 0:
        keep &= shorter >= rule.minimum_side
    if rule.maximum_aspect > 0:
        keep &= longer <= rule.maximum_aspect * shorter
    if rule.minimum_side > 0 or rule.maximum_aspect > 0:
        told += [_named("width", 0), _named("height", 0)]
    return keep, pl.concat_str(*told, separator=", ") if told else pl.lit("")


def _without(
    rows: pl.DataFrame,
    name: str,
    drop: pl.Series,
    funnel: Funnel,
    why: pl.Expr | None = None,
    found: pl.Series | None = None,
) -> pl.DataFrame:
    """Apply a step whose answer was computed beside the table."""
    extra = {"_drop": drop} if found is None else {"_drop": drop, "_found": found}
    told = pl.col("_found") if found is not None else why
    kept = funnel.count(name, rows.with_columns(**extra), ~pl.col("_drop"), *([] if told is None else [told]))
    return kept.drop(*extra)


@cache
def _matcher(words: tuple[str, ...]) -> UnsafeWords:
    return UnsafeWords(words)
