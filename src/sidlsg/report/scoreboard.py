"""A scoreboard: several students, their teachers, real images and published results, score by score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sidlsg.report.charts import Point, scatter_plot
from sidlsg.report.contenders import (
    Column,
    Contender,
    Entry,
    contenders,
    published_contenders,
    student_names,
    students_of,
)
from sidlsg.report.page import PageImage, page_image, render, subject_grid
from sidlsg.report.score_table import ScoreTable, StyleTable, columns_of, score_table, style_tables
from sidlsg.runtime.errors import InputError
from sidlsg.storage.files import atomic_write
from sidlsg.storage.records import Extreme, Published, Scorecard

PLOTS = {
    "Distance against text fit": (("clip", "fid"), ("attributes", "fid_judge")),
    "Precision against recall": (("recall", "precision"), ("recall_judge", "precision_judge")),
}
"""Names of the scores along x and y; of each list, the first pair that was measured is plotted."""
CURVES = {"lsg": 0, "long": 3}
"""Strategies whose students are joined by a line, and the κ that orders them."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A scatter plot of two scores."""

    title: str
    x: Column
    y: Column
    svg: str


def plots(rows: Sequence[Contender]) -> tuple[Plot, ...]:
    """The scatter plots of all pairs of scores that were measured."""
    found: list[Plot] = []
    columns = columns_of(rows)
    for title, pairs in PLOTS.items():
        for names in pairs:
            # Values of other protocols, counts or references never share an axis: each pair of columns has its plot.
            both = [
                (x, y, [one for one in rows if x in one.readings and y in one.readings])
                for x in columns
                for y in columns
                if (x.name, y.name) == names
            ]
            measured = [_plot(title, x, y, ones) for x, y, ones in both if ones]
            if measured:
                found += measured
                break
    return tuple(found)


def _plot(title: str, x: Column, y: Column, rows: Sequence[Contender]) -> Plot:
    points = [
        Point(
            label=one.name,
            kind=one.kind,
            x=one.readings[x].value,
            y=one.readings[y].value,
            x_interval=one.readings[x].interval,
            y_interval=one.readings[y].interval,
        )
        for one in rows
    ]
    students: dict[tuple[str, int, str, str], list[tuple[float, str, Point]]] = {}
    for one, point in zip(rows, points, strict=True):
        if one.strategy in CURVES and one.kappas is not None:
            key = (one.strategy, one.steps, one.teacher, one.other_values)
            students.setdefault(key, []).append((one.kappas[CURVES[one.strategy]], one.entry, point))
    curves = [
        (
            f"{_shared_words(strategy, [entry for _, entry, _ in ones])}, in order of κ",
            [point for _, _, point in sorted(ones, key=lambda each: each[0])],
        )
        for (strategy, *_), ones in students.items()
        if len(ones) > 1
    ]
    about = f"{title}: {y.name} against {x.name}"
    return Plot(title=title, x=x, y=y, svg=scatter_plot(about, _axis_label(x), _axis_label(y), points, curves))


def _shared_words(strategy: str, labels: Sequence[str]) -> str:
    """The words that all labels have, as `lsg steps=4` of a sweep's settings; the strategy if it is not among them."""
    first, *others = (label.split() for label in labels)
    shared = [word for word in first if all(word in other for other in others)]
    return " ".join(shared) if strategy in shared else strategy


def _axis_label(column: Column) -> str:
    return f"{column.name} {column.arrow} {'higher' if column.higher_is_better else 'lower'} is better"


@dataclass(frozen=True, kw_only=True)
class Extremes:
    """The best and worst images of one student by one measure."""

    name: str
    measure: str
    best: tuple[tuple[Extreme, PageImage], ...]
    worst: tuple[tuple[Extreme, PageImage], ...]


@dataclass(frozen=True, kw_only=True)
class Scoreboard:
    """The content of a page of scorecards, without grids."""

    several: bool
    """Whether there is more than one scorecard."""
    table: ScoreTable
    sources: tuple[str, ...]
    """Sources of the published rows."""
    plots: tuple[Plot, ...]
    styles: tuple[StyleTable, ...]
    extremes: tuple[Extremes, ...]


def scoreboard(entries: Sequence[Entry], published: Mapping[str, Sequence[Published]]) -> Scoreboard:
    """Compare scorecards of different labels with each other and with published results, which are given by recipe."""
    measured = contenders(entries)
    others = published_contenders(columns_of(measured), published)
    rows = [*measured, *others]
    sources = dict.fromkeys(result.source for results in published.values() for result in results)
    return Scoreboard(
        several=len(entries) > 1,
        table=score_table(rows),
        sources=tuple(sources) if others else (),
        plots=plots(rows),
        styles=style_tables(rows),
        extremes=tuple(
            one for entry, name in zip(entries, student_names(entries), strict=True) for one in _extremes(entry, name)
        ),
    )


def student_grids(entries: Sequence[Entry]) -> list[PageImage]:
    """The grids of each entry's student, under its name on the scoreboard."""
    grids = []
    for entry, name in zip(entries, student_names(entries), strict=True):
        students = students_of(entry.card)
        for student in students:
            steps = f", {student.subject.removeprefix('student ')}" if len(students) > 1 else ""
            grids.append(subject_grid(entry.card, entry.folder, student.subject, name + steps))
    return [grid for grid in grids if grid is not None]


def _extremes(entry: Entry, name: str) -> list[Extremes]:
    shown = [(one, page_image(one.picture, entry.folder, one.prompt)) for one in entry.card.extremes]
    return [
        Extremes(
            name=name,
            measure=measure,
            best=tuple(pair for pair in shown if pair[0].measure == measure and pair[0].best),
            worst=tuple(pair for pair in shown if pair[0].measure == measure and not pair[0].best),
        )
        for measure in dict.fromkeys(one.measure for one in entry.card.extremes)
    ]


def write_scoreboard(
    entries: Sequence[tuple[str, Path]],
    output: Path,
    title: str,
    published: Mapping[str, Sequence[Published]],
    failures: Sequence[str] = (),
) -> None:
    """Write one HTML page that compares scorecards; equal inputs give equal bytes.

    Args:
        entries: unique labels, each with the folder of a Scorecard or a file in it.
        output: the HTML file.
        title: of the page.
        published: published results by recipe, shown where they share a protocol.
        failures: runs without a scorecard, a line each.

    Raises:
        InputError: there are no entries, two share a label, or a scorecard is missing or its files differ from it.
            Nothing is written then.
    """
    if not entries:
        raise InputError("no scorecard given; a scoreboard needs one or more, each with a label")
    for label, count in Counter(label for label, _ in entries).items():
        if count > 1:
            raise InputError(f"the label {label!r} is given {count} times; give each scorecard its own label")
    loaded = [
        Entry(label=label, card=Scorecard.load(path), folder=path if path.is_dir() else path.parent)
        for label, path in entries
    ]
    for entry in loaded:
        entry.card.verify(entry.folder)
    html = render(
        "scoreboard_page.html",
        title=title,
        failures=failures,
        entries=loaded,
        board=scoreboard(loaded, published),
        grids=student_grids(loaded),
    )
    atomic_write(output, html)
