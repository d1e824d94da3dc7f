"""Scores as a table: one row a generator, one column a score, unlike protocols never in one column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sidlsg.report.columns import Column, Reading
from sidlsg.report.contenders import Contender, Kind, card_contenders
from sidlsg.runtime.formatting import fixed
from sidlsg.storage.records import Scorecard, StyleMean

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


AVERAGES = {"hpsv2/v2.0": "hpsv2_v2_0", "hpsv2/v2.1": "hpsv2_v2_1"}
"""Name of the score that is the average of a protocol's styles."""


@dataclass(frozen=True, kw_only=True)
class StyleCell:
    """One mean."""

    mean: str
    deviation: str
    """Empty where it is not known."""
    best: bool
    """The best of the generated ones."""


@dataclass(frozen=True, kw_only=True)
class StyleRow:
    """One generator."""

    subject: str
    real: bool
    cells: tuple[StyleCell | None, ...]
    """One a style, then the average; None where it was not measured."""


@dataclass(frozen=True, kw_only=True)
class StyleTable:
    """One protocol's styles."""

    protocol: str
    average: Column | None
    """What the averages share; None where there are none."""
    styles: tuple[str, ...]
    rows: tuple[StyleRow, ...]


def style_tables(contenders: Sequence[Contender]) -> tuple[StyleTable, ...]:
    """Every table that the contenders' styles make."""
    tables: dict[tuple[str, Column | None], list[Contender]] = {}
    for one in contenders:
        for protocol in dict.fromkeys(style.protocol for style in one.styles):
            # A style says neither its count nor its prompts, but the average beside it does.
            tables.setdefault((protocol, _average(one, protocol)), []).append(one)
    return tuple(_table(protocol, average, ones) for (protocol, average), ones in tables.items())


def _average(one: Contender, protocol: str) -> Column | None:
    name = AVERAGES.get(protocol)
    return next((column for column in one.readings if (column.name, column.protocol) == (name, protocol)), None)


def _table(protocol: str, average: Column | None, contenders: Sequence[Contender]) -> StyleTable:
    found = [{style.style: style for style in one.styles if style.protocol == protocol} for one in contenders]
    styles = tuple(dict.fromkeys(style for one in found for style in one))
    generated = [i for i, one in enumerate(contenders) if is_generated(one)]
    best = {style: _best([found[i][style].mean for i in generated if style in found[i]]) for style in styles}
    averages = [None if average is None else one.readings[average].value for one in contenders]
    best_average = _best([value for i in generated if (value := averages[i]) is not None])
    rows = []
    for i, one in enumerate(contenders):
        cells = [_style_cell(found[i].get(style), best[style], i in generated) for style in styles]
        value = averages[i]
        if value is not None:
            cells.append(StyleCell(mean=fixed(value, 2), deviation="", best=i in generated and value == best_average))
        rows.append(StyleRow(subject=one.name, real=one.kind == "real", cells=tuple(cells)))
    return StyleTable(protocol=protocol, average=average, styles=styles, rows=tuple(rows))


def _best(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    # The best of one would say nothing.
    return max(finite) if len(finite) > 1 else None


def _style_cell(style: StyleMean | None, best: float | None, generated: bool) -> StyleCell | None:
    if style is None:
        return None
    return StyleCell(
        mean=fixed(style.mean, 2), deviation=fixed(style.deviation, 2), best=generated and style.mean == best
    )
