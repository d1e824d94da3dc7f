"""Tables of scores and of HPSv2's styles: one row a generator, one column a score of one protocol and reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sidlsg.report.charts import Kind
from sidlsg.report.contenders import DIGEST_SHOWN, Column, Contender, Reading
from sidlsg.runtime.formatting import fixed
from sidlsg.storage.records import StyleMean


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value, with its interval or deviation."""

    value: str
    spread: str = ""
    best: bool = False
    """Whether it is the best of the generators that were measured here."""


Row = tuple[Contender, tuple[Cell | None, ...]]
"""One generator, with a cell or None a column."""


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """All scores."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def has(self, kind: Kind) -> bool:
        """Whether a row is of this kind."""
        return any(one.kind == kind for one, _ in self.rows)

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
    return ScoreTable(columns=columns, rows=_rows(contenders, [_column_cells(contenders, each) for each in columns]))


def _rows(contenders: Sequence[Contender], columns: Sequence[Sequence[Cell | None]]) -> tuple[Row, ...]:
    return tuple((one, tuple(column[i] for column in columns)) for i, one in enumerate(contenders))


def _column_cells(contenders: Sequence[Contender], column: Column) -> list[Cell | None]:
    readings = [one.readings.get(column) for one in contenders]
    decimals = _decimals([reading for reading in readings if reading is not None and reading.decimals is None])
    values = [
        None
        if reading is None
        else (
            reading.value,
            fixed(reading.value, decimals if reading.decimals is None else reading.decimals),
            " to ".join(fixed(end, decimals) for end in reading.interval or ()),
        )
        for reading in readings
    ]
    return _cells(contenders, values, column.higher_is_better)


MEASURED = ("student", "teacher")
"""Kinds that were generated and measured here: only these are compared."""


def _cells(
    contenders: Sequence[Contender], values: Sequence[tuple[float, str, str] | None], higher_is_better: bool
) -> list[Cell | None]:
    """The cells of a column from each contender's value, its text and its spread."""
    compared = [
        value[0]
        for one, value in zip(contenders, values, strict=True)
        if one.kind in MEASURED and value is not None and math.isfinite(value[0])
    ]
    best = None
    # A distance below 0 is 0 with noise, so no other is worse.
    if len(compared) > 1 and (higher_is_better or min(compared) >= 0):
        best = max(compared) if higher_is_better else min(compared)
    return [
        value and Cell(value=value[1], spread=value[2], best=one.kind in MEASURED and value[0] == best)
        for one, value in zip(contenders, values, strict=True)
    ]


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
            # A style has no count or reference; its protocol's average has.
            name = (AVERAGES.get(protocol), protocol)
            average = next((each for each in one.readings if (each.name, each.protocol) == name), None)
            tables.setdefault((protocol, average), []).append(one)
    return tuple(_style_table(protocol, average, ones) for (protocol, average), ones in tables.items())


def _style_table(protocol: str, average: Column | None, contenders: Sequence[Contender]) -> StyleTable:
    found = [{style.style: style for style in one.styles if style.protocol == protocol} for one in contenders]
    styles = tuple(dict.fromkeys(style for one in found for style in one))
    columns = [[_style_value(one.get(style)) for one in found] for style in styles]
    if average is not None:
        means = [one.readings[average].value for one in contenders]
        columns.append([(mean, fixed(mean, 2), "") for mean in means])
    cells = [_cells(contenders, column, higher_is_better=True) for column in columns]
    return StyleTable(protocol=protocol, average=average, styles=styles, rows=_rows(contenders, cells))


def _style_value(style: StyleMean | None) -> tuple[float, str, str] | None:
    return None if style is None else (style.mean, fixed(style.mean, 2), f"± {fixed(style.deviation, 2)}")
