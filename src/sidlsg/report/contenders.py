"""Who stands on a scoreboard: students, their teachers and real images, each once however many scorecards have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sidlsg.report.columns import Column, Reading, column_of, reading_of
from sidlsg.runtime.formatting import counted, plain
from sidlsg.storage.records import Published, Scorecard, StyleMean, SubjectScores

Kind = Literal["student", "teacher", "published", "real"]

TEACHER_SHOWN = 8
"""How many of a teacher's digest tell it from another."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A scorecard under the name that the reader gave it."""

    label: str
    card: Scorecard
    folder: Path
    """Holds the card's files."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One row of a scoreboard, and one mark in its planes."""

    name: str
    note: str = ""
    """What its name may not say; may be empty."""
    kind: Kind
    readings: dict[Column, Reading]
    styles: tuple[StyleMean, ...] = ()
    reused: bool = False
    """Whether its numbers came from the teacher's own scorecard."""
    entry: str = ""
    """Label of the entry that it came from."""
    teacher: str = ""
    """Digest of the teacher that it is, or came from."""
    curve: tuple[str, int] | None = None
    """Strategy and steps of a student whose strategy is known."""
    kappas: tuple[float, float, float, float] | None = None


def kind_of(subject: SubjectScores) -> Kind:
    """What a scorecard's subject is."""
    if subject.steps == 0:
        return "real"
    return "teacher" if subject.subject.startswith("teacher") else "student"


def students_of(card: Scorecard) -> list[SubjectScores]:
    """The subjects that are the student, under one or several ways of sampling it."""
    return [subject for subject in card.subjects if kind_of(subject) == "student"]


def card_contenders(card: Scorecard) -> list[Contender]:
    """The subjects of one scorecard, in its order and under its names."""
    return [
        Contender(
            name=subject.subject,
            note=_note(subject),
            kind=kind_of(subject),
            readings={column_of(score): reading_of(score) for score in subject.scores},
            styles=subject.styles,
            reused=subject.subject in card.reused,
            teacher="" if kind_of(subject) == "real" else card.teacher_sha256,
            curve=(card.strategy, subject.steps) if card.strategy and kind_of(subject) == "student" else None,
            kappas=card.kappas,
        )
        for subject in card.subjects
    ]


def contenders(entries: Sequence[Entry]) -> list[Contender]:
    """The subjects of all scorecards: students first, then teachers and real images, each of these once."""
    found = [replace(one, entry=entry.label) for entry in entries for one in card_contenders(entry.card)]
    if len(entries) == 1:
        (entry,) = entries
        named = [replace(one, note=_lone_note(one, entry)) if one.kind == "student" else one for one in found]
        return sorted(named, key=lambda one: one.kind != "student")
    students = []
    for entry, name in zip(entries, student_names(entries), strict=True):
        own = [one for one in found if one.entry == entry.label and one.kind == "student"]
        for one in own:
            steps = f", {one.name.removeprefix('student ')}" if len(own) > 1 else ""
            students.append(replace(one, name=name + steps, note=_student_note(one, entry, name)))
    others = _once([one for kind in ("teacher", "real") for one in found if one.kind == kind])
    if len({one.teacher for one in found if one.teacher}) > 1:
        others = [
            replace(one, name=f"{one.name}, {one.teacher[:TEACHER_SHOWN]}") if one.teacher else one for one in others
        ]
        students = [replace(one, note=f"{one.note} · teacher {one.teacher[:TEACHER_SHOWN]}") for one in students]
    return [*students, *_told_apart(others)]


def student_names(entries: Sequence[Entry]) -> list[str]:
    """What each entry's student is called beside the others: by its guidance where that is known."""
    if len(entries) == 1:
        return [next((student.subject for student in students_of(entries[0].card)), "student")]
    names = [_guidance(entry.card) or entry.label for entry in entries]
    count = Counter(names)
    return [f"{name} ({entry.label})" if count[name] > 1 else name for name, entry in zip(names, entries, strict=True)]


def guidance_name(strategy: str, kappas: tuple[float, float, float, float]) -> str:
    """`lsg κ = 1.5`; of other strategies the κ that differ from 1, as in `short κ2 = κ3 = 0.5`."""
    if strategy == "lsg" and len(set(kappas)) == 1:
        return f"lsg κ = {plain(float(kappas[0]))}"
    places: dict[float, list[str]] = {}
    for place, kappa in enumerate(kappas, 1):
        if kappa != 1:
            places.setdefault(kappa, []).append(f"κ{place}")
    if not places:
        return f"{strategy}, every κ = 1"
    return f"{strategy} " + ", ".join(f"{' = '.join(names)} = {plain(float(kappa))}" for kappa, names in places.items())


def _note(subject: SubjectScores) -> str:
    if subject.steps == 0:
        return "the floor"
    # At 1 and below there is no guidance: the pipelines run the conditional pass alone.
    return f"guidance scale {subject.guidance_scale:g}" if subject.guidance_scale > 1 else ""


def _guidance(card: Scorecard) -> str:
    """Its student's guidance in words; empty where that is not known."""
    return guidance_name(card.strategy, card.kappas) if card.strategy and card.kappas is not None else ""


def _lone_note(one: Contender, entry: Entry) -> str:
    """Of a student with no other beside it: its guidance, too, for its name says only how it is sampled."""
    return _joined(_guidance(entry.card), _seen(entry.card), one.note)


def _student_note(one: Contender, entry: Entry, name: str) -> str:
    return _joined(entry.label if entry.label not in name else "", _seen(entry.card), one.note)


def _seen(card: Scorecard) -> str:
    return "" if card.images_seen is None else f"{counted(card.images_seen, 'image', 'images')} seen"


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def _once(found: Sequence[Contender]) -> list[Contender]:
    """Twins become one: the same files under the same name whose numbers agree wherever both have them."""
    kept: list[Contender] = []
    for one in found:
        place = next((i for i, other in enumerate(kept) if _twins(one, other)), None)
        if place is None:
            kept.append(one)
        else:
            other = kept[place]
            kept[place] = replace(
                other,
                readings={**one.readings, **other.readings},
                styles=tuple(dict.fromkeys((*other.styles, *one.styles))),
                reused=other.reused and one.reused,
            )
    return kept


def _twins(one: Contender, other: Contender) -> bool:
    ours, theirs = ({(each.protocol, each.style): each for each in who.styles} for who in (one, other))
    return (
        (one.kind, one.name, one.note, one.teacher) == (other.kind, other.name, other.note, other.teacher)
        and all(one.readings[c].value == other.readings[c].value for c in one.readings.keys() & other.readings.keys())
        and all(ours[style] == theirs[style] for style in ours.keys() & theirs.keys())
    )


def _told_apart(found: Sequence[Contender]) -> list[Contender]:
    count = Counter(one.name for one in found)
    return [replace(one, name=f"{one.name} ({one.entry})") if count[one.name] > 1 else one for one in found]


IMAGES = 30_000
"""What both protocols are computed on."""
CLIP = "clip/vit-g-14-photo-depicts"
"""The protocol of every published `clip`."""


def published_contenders(columns: Sequence[Column], published: Mapping[str, Sequence[Published]]) -> list[Contender]:
    """The published results that have a column to stand in; none where no protocol is theirs.

    Args:
        columns: those that were measured.
        published: results by recipe.
    """
    rows = []
    for recipe, results in published.items():
        for result in results:
            readings = _readings(columns, result)
            if readings:
                seen = f"{result.images_seen / 1e6:g} M"
                note = f"published, {seen} images seen"
                name = f"{recipe}, {seen}" if len(results) > 1 else recipe
                rows.append(Contender(name=name, note=note, kind="published", readings=readings))
    return rows


def published_sources(published: Mapping[str, Sequence[Published]]) -> tuple[str, ...]:
    """Where the results are from."""
    return tuple(dict.fromkeys(result.source for results in published.values() for result in results))


def _readings(columns: Sequence[Column], result: Published) -> dict[Column, Reading]:
    readings = {}
    for name, protocol, value, decimals in (
        ("fid", result.protocol, result.fid, 2),
        ("clip", CLIP, result.clip, 3),
    ):
        theirs = [column for column in columns if (column.name, column.protocol, column.n) == (name, protocol, IMAGES)]
        # Of several references, which one was theirs is not known.
        if len(theirs) == 1:
            readings[theirs[0]] = Reading(value=value, decimals=decimals)
    return readings
