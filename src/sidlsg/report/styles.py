"""HPSv2 by style as tables: one row a generator, one column a style, one table a version and reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sidlsg.report.columns import Column
from sidlsg.report.contenders import Contender
from sidlsg.report.scores import is_generated
from sidlsg.runtime.formatting import fixed
from sidlsg.storage.records import StyleMean

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
        cells = [_cell(found[i].get(style), best[style], i in generated) for style in styles]
        value = averages[i]
        if value is not None:
            cells.append(StyleCell(mean=fixed(value, 2), deviation="", best=i in generated and value == best_average))
        rows.append(StyleRow(subject=one.name, real=one.kind == "real", cells=tuple(cells)))
    return StyleTable(protocol=protocol, average=average, styles=styles, rows=tuple(rows))


def _best(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    # The best of one would say nothing.
    return max(finite) if len(finite) > 1 else None


def _cell(style: StyleMean | None, best: float | None, generated: bool) -> StyleCell | None:
    if style is None:
        return None
    return StyleCell(
        mean=fixed(style.mean, 2), deviation=fixed(style.deviation, 2), best=generated and style.mean == best
    )
