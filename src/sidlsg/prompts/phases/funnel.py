"""Counts and samples of what each step lets through, added up over pieces and buckets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

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
