"""Planes of a scoreboard: two qualities that are bought with one another, each generator a mark between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sidlsg.report.closeup import close_up
from sidlsg.report.columns import Column
from sidlsg.report.contenders import Contender, Kind
from sidlsg.report.scatter import KINDS, Group, Mark, Quantity, scatter
from sidlsg.report.scores import columns_of

TEXT_FIT = (("clip", "fid"), ("attributes", "fid_judge"))
"""Names of the scores along x and y: the first pair that was measured is drawn."""
COVERAGE = (("recall", "precision"), ("recall_judge", "precision_judge"))
CURVES = {"lsg": 0, "long": 3}
"""Strategies whose students are joined, and which of the four κ orders them."""


@dataclass(frozen=True, kw_only=True)
class Plane:
    """One chart with what its caption says."""

    title: str
    x: Column
    y: Column
    kinds: tuple[Kind, ...]
    """Those that have a mark, for the legend."""
    joined: tuple[str, ...]
    """Strategies that have a line."""
    svg: str
    near: str
    """The students' part once more; empty where they have room in the first."""


def planes(contenders: Sequence[Contender]) -> tuple[Plane, ...]:
    """Distance against text fit, and precision against recall, as far as they were measured."""
    return (
        *_first("Distance against text fit", TEXT_FIT, contenders),
        *_first("Precision against recall", COVERAGE, contenders),
    )


def _first(title: str, pairs: Sequence[tuple[str, str]], contenders: Sequence[Contender]) -> list[Plane]:
    columns = columns_of(contenders)
    for x_name, y_name in pairs:
        # Unlike protocols, counts or references never share an axis: each pair of columns has its own plane.
        found = [
            _plane(title, x, y, [one for one in contenders if x in one.readings and y in one.readings])
            for x in columns
            for y in columns
            if (x.name, y.name) == (x_name, y_name)
            and any(x in one.readings and y in one.readings for one in contenders)
        ]
        if found:
            return found
    return []


def _plane(title: str, x: Column, y: Column, contenders: Sequence[Contender]) -> Plane:
    curves: dict[tuple[str, int, str], list[Contender]] = {}
    for one in contenders:
        if one.curve is not None and one.curve[0] in CURVES and one.kappas is not None:
            curves.setdefault((*one.curve, one.teacher), []).append(one)
    lines = {key: sorted(ones, key=_kappa) for key, ones in curves.items() if len(ones) > 1}
    joined = [one for ones in lines.values() for one in ones]
    groups = [Group(kind="student", marks=_marks(ones, x, y), joined=True) for ones in lines.values()]
    for kind in KINDS:
        alone = [one for one in contenders if one.kind == kind and one not in joined]
        groups.append(Group(kind=kind, marks=_marks(alone, x, y)))
    near = close_up(groups)
    about, x_quantity, y_quantity = f"{title}: {y.name} against {x.name}", _quantity(x), _quantity(y)
    return Plane(
        title=title,
        x=x,
        y=y,
        kinds=tuple(kind for kind in KINDS if any(group.kind == kind and group.marks for group in groups)),
        joined=tuple(dict.fromkeys(strategy for strategy, _, _ in lines)),
        svg=scatter(about, x_quantity, y_quantity, groups)
        if near is None
        else scatter(about, x_quantity, y_quantity, near.overview, near.frame),
        near="" if near is None else scatter(f"{about}, close up", x_quantity, y_quantity, near.near),
    )


def _kappa(one: Contender) -> float:
    return math.nan if one.curve is None or one.kappas is None else one.kappas[CURVES[one.curve[0]]]


def _marks(contenders: Sequence[Contender], x: Column, y: Column) -> tuple[Mark, ...]:
    return tuple(
        Mark(
            label=one.name,
            x=one.readings[x].value,
            y=one.readings[y].value,
            x_interval=one.readings[x].interval,
            y_interval=one.readings[y].interval,
        )
        for one in contenders
    )


def _quantity(column: Column) -> Quantity:
    return Quantity(name=column.name, higher_is_better=column.higher_is_better)
