"""The steps that process one row at a time, from a raw table to clean texts, and the funnel that counts all steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

import polars as pl

from sidlsg.prompts.rules import CurationRules, ImageRule, UnsafeRule
from sidlsg.prompts.text.cleaning import clean_all
from sidlsg.prompts.text.junk import UnsafeWords, junk_reason
from sidlsg.prompts.text.language import other_language

SAMPLES = 50
"""Dropped rows kept as samples of a step: those with the lowest digests of their texts, a fair sample that does not
depend on the order of the work."""
SHOWN = 300
"""Characters kept of a sample."""
_unsafe_words = cache(UnsafeWords)
NOTHING = pl.lit(None, pl.String)


@dataclass(kw_only=True)
class StepCount:
    """One step's counts and samples."""

    rows_in: int = 0
    rows_out: int = 0
    samples: dict[int, list[str]] = field(default_factory=dict)
    """By digest: a dropped text, and the reason."""


class Funnel:
    """The steps of a part of the work, in order."""

    def __init__(self) -> None:
        self.steps: dict[str, StepCount] = {}

    def count(
        self, name: str, table: pl.DataFrame, keep: pl.Expr | pl.Series, why: pl.Expr | pl.Series = NOTHING
    ) -> pl.DataFrame:
        """Apply a step.

        Args:
            name: of the step.
            table: rows with the column `text`.
            keep: Boolean; null drops.
            why: String, the reason for dropping a row; may be null.
        """
        step = self.steps.setdefault(name, StepCount())
        mask = (table.select(keep).to_series() if isinstance(keep, pl.Expr) else keep).fill_null(False)
        kept = table.filter(mask)
        step.rows_in += table.height
        step.rows_out += kept.height
        if kept.height < table.height:
            reasons = why if isinstance(why, pl.Expr) else why.filter(~mask)
            _keep_lowest(step.samples, table.filter(~mask).with_columns(_why=reasons))
        return kept

    def to_dict(self) -> dict[str, Any]:
        """By the steps' names, in order."""
        return {name: asdict(step) for name, step in self.steps.items()}


def merged(parts: Iterable[dict[str, Any]]) -> dict[str, StepCount]:
    """Counts and samples of several parts, read from JSON, in the order in which the steps first appear."""
    steps: dict[str, StepCount] = {}
    for part in parts:
        for name, values in part.items():
            step = steps.setdefault(name, StepCount())
            step.rows_in += values["rows_in"]
            step.rows_out += values["rows_out"]
            both = step.samples | {int(key): value for key, value in values["samples"].items()}
            step.samples = dict(sorted(both.items())[:SAMPLES])
    return steps


def _keep_lowest(samples: dict[int, list[str]], dropped: pl.DataFrame) -> None:
    bound = max(samples) if len(samples) >= SAMPLES else 2**64
    hashed = dropped.with_columns(_digest=pl.col("text").hash(0)).filter(pl.col("text").is_not_null())
    # One text may be in many rows.
    low = hashed.filter(pl.col("_digest") < bound).unique("_digest", keep="first", maintain_order=True)
    for text, why, digest in low.bottom_k(SAMPLES, by="_digest").select("text", "_why", "_digest").iter_rows():
        samples[digest] = [text[:SHOWN], why or ""]
    for digest in sorted(samples)[SAMPLES:]:
        del samples[digest]


def row_steps(rows: pl.DataFrame, rules: CurationRules, unsafe_words: tuple[str, ...], funnel: Funnel) -> pl.DataFrame:
    """Apply the enabled steps to rows of `read_batches`; the rows that are left have clean texts."""
    rows = funnel.count("read", rows, pl.col("row").is_not_null())
    text = pl.col("text")
    size = text.str.len_bytes()
    rows = funnel.count("text", rows, size <= rules.text.maximum_bytes, pl.format("{} bytes", size))
    if rules.score.enabled:
        keep = pl.col("score").cast(pl.Float32) >= pl.lit(rules.score.minimum, pl.Float32)
        rows = funnel.count("score", rows, keep, _named("score", 3))
    if rules.unsafe.columns:
        rows = funnel.count("unsafe_columns", rows, *_unsafe_columns(rules.unsafe))
    if rules.image.enabled:
        rows = funnel.count("image", rows, *_image(rules.image))
    # Samples show the text before cleaning.
    rows = rows.with_columns(_clean=clean_all(rows["text"]))
    rows = funnel.count("clean", rows, pl.col("_clean") != "").drop("text").rename({"_clean": "text"})
    if rules.language.enabled:
        drop = other_language(rows["text"], rows["language"], rules.language.keep, rules.language.detect)
        rows = funnel.count("language", rows, ~drop, pl.col("language").fill_null("by its letters and words"))
    if rules.unsafe.words:
        found = _unsafe_words(unsafe_words).found(rows["text"])
        rows = funnel.count("unsafe_words", rows, found.is_null(), found)
    if rules.junk.enabled:
        reason = junk_reason(rows["text"], rules.junk)
        rows = funnel.count("junk", rows, reason.is_null(), reason)
    words = text.str.count_matches(" ", literal=True) + 1
    keep = words.is_between(rules.length.minimum_words, rules.length.maximum_words)
    return funnel.count("length", rows, keep, pl.format("{} words", words))


def step_demands(rules: CurationRules) -> dict[str, str]:
    """What each step requires of a row, in words, by its name."""
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


def _unsafe_columns(rule: UnsafeRule) -> tuple[pl.Expr, pl.Expr]:
    tag = pl.col("nsfw").str.strip_chars().str.to_uppercase()
    likely = (pl.col("punsafe") > rule.maximum_punsafe).fill_null(False)
    tagged = tag.is_in([word.strip().upper() for word in rule.tags]).fill_null(False)
    reasons = pl.when(likely).then(_named("punsafe", 3)), pl.when(tagged).then(pl.col("nsfw"))
    return ~(likely | tagged), pl.concat_str(*reasons, separator=", ", ignore_nulls=True)


def _named(number: str, digits: int) -> pl.Expr:
    """A number with its name, for a message."""
    return pl.format(f"{number} {{}}", pl.col(number).round(digits)).fill_null(f"no {number} that is a number")


def _image(rule: ImageRule) -> tuple[pl.Expr, pl.Expr]:
    """Which images are kept, and the values of the others."""
    shorter, longer = pl.min_horizontal("width", "height"), pl.max_horizontal("width", "height")
    keep, values = pl.col("row").is_not_null(), []
    if rule.maximum_watermark < 1:
        keep &= pl.col("watermark") <= rule.maximum_watermark
        values.append(_named("watermark", 3))
    if rule.minimum_similarity > 0:
        keep &= pl.col("similarity") >= rule.minimum_similarity
        values.append(_named("similarity", 3))
    if rule.minimum_side > 0:
        keep &= shorter >= rule.minimum_side
    if rule.maximum_aspect > 0:
        keep &= longer <= rule.maximum_aspect * shorter
    if rule.minimum_side > 0 or rule.maximum_aspect > 0:
        values += [_named("width", 0), _named("height", 0)]
    return keep, pl.concat_str(*values, separator=", ") if values else pl.lit("")
