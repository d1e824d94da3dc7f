"""A scoreboard: several students, their teachers, real images and what was published, score by score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.report.columns import Column
from sidlsg.report.contenders import (
    Contender,
    Entry,
    Kind,
    contenders,
    published_contenders,
    published_sources,
    student_names,
    students_of,
)
from sidlsg.report.page import PageImage, picture, render, subject_grid
from sidlsg.report.scatter import KINDS, Group, Mark, Quantity, close_up, scatter
from sidlsg.report.scores import ScoreTable, StyleTable, columns_of, contender_table, style_tables
from sidlsg.runtime.errors import InputError
from sidlsg.runtime.formatting import fixed
from sidlsg.storage.files import atomic_write
from sidlsg.storage.records import Extreme, Published, Scorecard

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


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One of the images that fit their prompts best or worst."""

    prompt: str
    seed: int
    value: str
    picture: PageImage


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """Of one entry's student, by one measure."""

    name: str
    measure: str
    best: tuple[Sample, ...]
    worst: tuple[Sample, ...]


@dataclass(frozen=True, kw_only=True)
class Scoreboard:
    """Everything that a page shows of several scorecards, but for grids."""

    several: bool
    """Whether there is more than one student's scorecard."""
    table: ScoreTable
    sources: tuple[str, ...]
    """Of the published rows; none where there are none."""
    planes: tuple[Plane, ...]
    styles: tuple[StyleTable, ...]
    extremes: tuple[Extremes, ...]


def scoreboard(entries: Sequence[Entry], published: Mapping[str, Sequence[Published]]) -> Scoreboard:
    """Lay the scorecards out beside each other, with what was published under the same protocols.

    Args:
        entries: one or more, of unlike labels.
        published: results of others by recipe.
    """
    measured = contenders(entries)
    others = published_contenders(columns_of(measured), published)
    rows = [*measured, *others]
    return Scoreboard(
        several=len(entries) > 1,
        table=contender_table(rows),
        sources=published_sources(published) if others else (),
        planes=planes(rows),
        styles=style_tables(rows),
        extremes=tuple(one for entry, name in _named(entries) for one in _extremes(entry, name)),
    )


def student_grids(entries: Sequence[Entry]) -> list[PageImage]:
    """The grids of each entry's student, under its name on the scoreboard."""
    grids = []
    for entry, name in _named(entries):
        students = students_of(entry.card)
        for student in students:
            steps = f", {student.subject.removeprefix('student ')}" if len(students) > 1 else ""
            grid = subject_grid(entry.card, entry.folder, student.subject, name + steps)
            grids += [] if grid is None else [grid]
    return grids


def _named(entries: Sequence[Entry]) -> list[tuple[Entry, str]]:
    return list(zip(entries, student_names(entries), strict=True))


def _extremes(entry: Entry, name: str) -> list[Extremes]:
    found = entry.card.extremes
    return [
        Extremes(
            name=name,
            measure=measure,
            best=tuple(_sample(one, entry) for one in found if one.best and one.measure == measure),
            worst=tuple(_sample(one, entry) for one in found if not one.best and one.measure == measure),
        )
        for measure in dict.fromkeys(one.measure for one in found)
    ]


def _sample(extreme: Extreme, entry: Entry) -> Sample:
    return Sample(
        prompt=extreme.prompt,
        seed=extreme.seed,
        value=fixed(extreme.value, 3),
        picture=picture(extreme.picture, entry.folder, extreme.prompt),
    )


TEMPLATE = "scoreboard_page.html"


def write_scoreboard(
    entries: Sequence[tuple[str, Path]],
    output: Path,
    title: str,
    published: Mapping[str, Sequence[Published]],
    failures: Sequence[str] = (),
) -> None:
    """Write a page that shows scorecards beside each other.

    Equal inputs give equal bytes.

    Args:
        entries: a label and the folder of a Scorecard each; the labels are unlike.
        output: the HTML file.
        title: the page's.
        published: results of others by recipe, shown where they are of the same protocols.
        failures: what belongs here and has no scorecard, a line each.

    Raises:
        InputError: there is no entry, two have one label, or a scorecard is missing or its files differ from it.
            Nothing is written then.
    """
    if not entries:
        raise InputError("no scorecard given; a scoreboard needs one or more, each with a label")
    labels = [label for label, _ in entries]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"the label {label!r} is given {labels.count(label)} times; name each scorecard otherwise")
    loaded = [Entry(label=label, card=Scorecard.load(folder), folder=_folder(folder)) for label, folder in entries]
    for entry in loaded:
        entry.card.verify(entry.folder)
    shown = {"entries": loaded, "board": scoreboard(loaded, published), "grids": student_grids(loaded)}
    html = render(TEMPLATE, title=title, failures=failures, **shown)
    atomic_write(output, html)


def _folder(place: Path) -> Path:
    return place if place.is_dir() else place.parent
