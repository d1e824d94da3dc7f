"""A scoreboard: several students, their teachers, real images and what was published, score by score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sidlsg.distil.table import RECIPES
from sidlsg.report.contenders import Entry, contenders, student_names, students_of
from sidlsg.report.pictures import Picture, picture, subject_grid
from sidlsg.report.planes import Plane, planes
from sidlsg.report.published import published_contenders, published_sources
from sidlsg.report.scores import ScoreTable, columns_of, contender_table
from sidlsg.report.styles import StyleTable, style_tables
from sidlsg.runtime.formatting import fixed
from sidlsg.storage.records import Extreme


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One of the images that fit their prompts best or worst."""

    prompt: str
    seed: int
    value: str
    picture: Picture


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


def scoreboard(entries: Sequence[Entry]) -> Scoreboard:
    """Lay the scorecards out beside each other, with what was published under the same protocols.

    Args:
        entries: one or more, of unlike labels.
    """
    measured = contenders(entries)
    published = published_contenders(columns_of(measured), RECIPES.values())
    rows = [*measured, *published]
    return Scoreboard(
        several=len(entries) > 1,
        table=contender_table(rows),
        sources=published_sources(RECIPES.values()) if published else (),
        planes=planes(rows),
        styles=style_tables(rows),
        extremes=tuple(one for entry, name in _named(entries) for one in _extremes(entry, name)),
    )


def student_grids(entries: Sequence[Entry]) -> list[Picture]:
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
