"""Tables of scores and of HPSv2's styles: one row a generator, one column a score of one protocol and reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sidlsg.report.charts import Kind
from sidlsg.report.contenders import DIGEST_SHOWN, Column, Contender, Reading
from sidlsg.runtime.formatting import fixed


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value, with its interval or deviation."""

    value: str
    spread: str = ""
    best: bool = False
    """Whether it is the best of the generators that were measured here."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One generator, with a cell or None a column."""

    name: str
    note: str = ""
    reused: bool = False
    kind: Kind
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """All scores."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def has(self, kind: Kind) -> bool:
        """Whether a row is of this kind."""
        return any(row.kind == kind for row in self.rows)

    def distinction(self, column: Column) -> str:
        """Protocol, count and reference of a column, if another column has its name."""
        if sum(other.name == column.name for other in self.columns) == 1:
            return ""
        return f"{column.protocol}, {column.n:,}, {column.reference_digest[:DIGEST_SHOWN]}"


@dataclass(frozen=True, kw_only=True)
class StyleTable:
    """The styles of one HPSv2 protocol; a last column has the averages if there are any."""

    protocol: str
    average: Column | None
    styles: tuple[str, ...]
    rows: tuple[Row, ...]


def columns_of(contenders: Sequence[Contender]) -> tuple[Column, ...]:
    """Every column in which one of them has a value."""
    return tuple(dict.fromkeys(column for one in contenders for column in one.readings))


def score_table(contenders: Sequence[Contender]) -> ScoreTable:
    """All scores, in the given order."""
    columns = columns_of(contenders)
    cells = [_column_cells(contenders, column) for column in columns]
    rows = tuple(
        Row(
            name=one.name,
            note=one.note,
            reused=one.reused,
            kind=one.kind,
            cells=tuple(column[i] for column in cells),
        )
        for i, one in enumerate(contenders)
    )
    return ScoreTable(columns=columns, rows=rows)


def _column_cells(contenders: Sequence[Contender], column: Column) -> list[Cell | None]:
    readings = [one.readings.get(column) for one in contenders]
    values = [None if reading is None else reading.value for reading in readings]
    best = _best(contenders, values, column.higher_is_better)
    decimals = _decimals([reading for reading in readings if reading is not None and reading.decimals is None])
    return [
        None
        if reading is None
        else Cell(
            value=fixed(reading.value, decimals if reading.decimals is None else reading.decimals),
            spread=" to ".join(fixed(end, decimals) for end in reading.interval or ()),
            best=one.kind in MEASURED and reading.value == best,
        )
        for one, reading in zip(contenders, readings, strict=True)
    ]


MEASURED = ("student", "teacher")
"""Kinds that were generated and measured here: only these are compared."""


def _best(contenders: Sequence[Contender], values: Sequence[float | None], higher_is_better: bool) -> float | None:
    compared = [
        value
        for one, value in zip(contenders, values, strict=True)
        if one.kind in MEASURED and value is not None and math.isfinite(value)
    ]
    # A distance below 0 is 0 with noise, so no other is worse.
    if len(compared) < 2 or (not higher_is_better and min(compared) < 0):
        return None
    return max(compared) if higher_is_better else min(compared)


def _decimals(readings: Sequence[Reading]) -> int:
    """Decimals of a column: two digits of the narrowest interval, or of the smallest value without intervals."""
    sizes = [abs(one.value) for one in readings if one.value and math.isfinite(one.value)]
    if not sizes:
        return 2
    widths = [(one.interval[1] - one.interval[0]) / 2 for one in readings if one.interval is not None]
    least = min([width for width in widths if width > 0] or sizes)
    return min(6, max(2 if max(sizes) > 1 else 3, 1 - math.floor(math.log10(least))))


AVERAGES = {"hpsv2/v2.0": "hpsv2_v2_0", "hpsv2/v2.1": "hpsv2_v2_1"}
"""The score that averages a protocol's styles."""


def style_tables(contenders: Sequence[Contender]) -> tuple[StyleTable, ...]:
    """One table for each protocol, count and reference of styles."""
    tables: dict[tuple[str, Column | None], list[Contender]] = {}
    for one in contenders:
        for protocol in dict.fromkeys(style.protocol for style in one.styles):
            # A style has no count or reference of its own; the average beside it has.
            found = ((each.name, each.protocol) == (AVERAGES.get(protocol), protocol) for each in one.readings)
            average = next((each for each, is_it in zip(one.readings, found, strict=True) if is_it), None)
            tables.setdefault((protocol, average), []).append(one)
    return tuple(_style_table(protocol, average, ones) for (protocol, average), ones in tables.items())


def _style_table(protocol: str, average: Column | None, contenders: Sequence[Contender]) -> StyleTable:
    found = [{style.style: style for style in one.styles if style.protocol == protocol} for one in contenders]
    styles = tuple(dict.fromkeys(style for one in found for style in one))
    values = [[one[style].mean if style in one else None for one in found] for style in styles]
    if average is not None:
        values.append([one.readings[average].value for one in contenders])
    bests = [_best(contenders, column, higher_is_better=True) for column in values]
    spreads = [[f"± {fixed(one[style].deviation, 2)}" if style in one else "" for one in found] for style in styles]
    spreads.append([""] * len(contenders))
    rows = [
        Row(
            name=one.name,
            kind=one.kind,
            cells=tuple(
                None
                if (value := column[i]) is None
                else Cell(value=fixed(value, 2), spread=spread[i], best=one.kind in MEASURED and value == best)
                for column, spread, best in zip(values, spreads, bests, strict=False)
            ),
        )
        for i, one in enumerate(contenders)
    ]
    return StyleTable(protocol=protocol, average=average, styles=styles, rows=tuple(rows))
