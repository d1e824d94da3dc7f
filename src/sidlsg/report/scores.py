"""Scores as a table: one row a generator, one column a score, unlike protocols never in one column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sidlsg.report.columns import Column, Reading
from sidlsg.report.contenders import Contender, Kind, card_contenders
from sidlsg.runtime.formatting import fixed
from sidlsg.storage.records import Scorecard

REFERENCE_SHOWN = 8
"""How many of a reference's digest tell two columns apart."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number."""

    value: str
    interval: str
    best: bool
    """The best of the generated ones."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One generator."""

    subject: str
    note: str
    """What its name may not say; may be empty."""
    reused: bool
    kind: Kind
    cells: tuple[Cell | None, ...]
    """One a column; None where the subject has no such score."""

    @property
    def real(self) -> bool:
        """Whether it is of real images."""
        return self.kind == "real"


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """All scores."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def has_real(self) -> bool:
        """Whether a row is of real images."""
        return any(row.real for row in self.rows)

    @property
    def has_reused(self) -> bool:
        """Whether a row came from the teacher's own scorecard."""
        return any(row.reused for row in self.rows)

    @property
    def has_published(self) -> bool:
        """Whether a row was published by others."""
        return any(row.kind == "published" for row in self.rows)

    def told(self, column: Column) -> str:
        """What tells a column from others of its name; empty where there is none."""
        if sum(other.name == column.name for other in self.columns) == 1:
            return ""
        return f"{column.protocol}, {column.n:,}, {column.reference_digest[:REFERENCE_SHOWN]}"


def score_table(scorecard: Scorecard) -> ScoreTable:
    """Lay the scores out in the scorecard's order."""
    return contender_table(card_contenders(scorecard))


def contender_table(contenders: Sequence[Contender]) -> ScoreTable:
    """Lay the scores out in the given order."""
    columns = columns_of(contenders)
    best = {column: best_of(contenders, column) for column in columns}
    decimals = {column: _decimals(contenders, column) for column in columns}
    rows = [
        Row(
            subject=one.name,
            note=one.note,
            reused=one.reused,
            kind=one.kind,
            cells=tuple(
                _cell(
                    one.readings[column],
                    decimals[column],
                    is_generated(one) and one.readings[column].value == best[column],
                )
                if column in one.readings
                else None
                for column in columns
            ),
        )
        for one in contenders
    ]
    return ScoreTable(columns=columns, rows=tuple(rows))


def columns_of(contenders: Sequence[Contender]) -> tuple[Column, ...]:
    """Every column that one of them has a number in."""
    return tuple(dict.fromkeys(column for one in contenders for column in one.readings))


def is_generated(one: Contender) -> bool:
    """Whether it was generated and measured here: only such are compared."""
    return one.kind in ("student", "teacher")


def best_of(contenders: Sequence[Contender], column: Column) -> float | None:
    """The best of the generated ones in a column; None where there are fewer than two."""
    values = [
        one.readings[column].value
        for one in contenders
        if is_generated(one) and column in one.readings and math.isfinite(one.readings[column].value)
    ]
    # The best of one would say nothing, and a distance below 0 is one of 0 with noise: none is better than another.
    if not column.higher_is_better and values and min(values) < 0:
        return None
    return (max if column.higher_is_better else min)(values) if len(values) > 1 else None


def _decimals(contenders: Sequence[Contender], column: Column) -> int:
    """The same for a whole column, so that its numbers line up.

    Two digits are shown of the narrowest interval, or of the smallest number where there are no intervals.
    """
    readings = [one.readings[column] for one in contenders if one.kind != "published" and column in one.readings]
    sizes = [abs(one.value) for one in readings if one.value and math.isfinite(one.value)]
    if not sizes:
        return 2
    widths = [(one.interval[1] - one.interval[0]) / 2 for one in readings if one.interval is not None]
    least = min([width for width in widths if width > 0] or sizes)
    return min(6, max(2 if max(sizes) > 1 else 3, 1 - math.floor(math.log10(least))))


def _cell(reading: Reading, decimals: int, best: bool) -> Cell:
    interval = "" if reading.interval is None else " to ".join(fixed(end, decimals) for end in reading.interval)
    shown = decimals if reading.decimals is None else reading.decimals
    return Cell(value=fixed(reading.value, shown), interval=interval, best=best)
