"""The rows of a scoreboard: students, their teachers and real images, each once, and results published by others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sidlsg.report.charts import Kind
from sidlsg.runtime.formatting import counted, plain
from sidlsg.storage.records import Published, Score, Scorecard, StyleMean, SubjectScores

DIGEST_SHOWN = 8
"""Digits of a digest that tell teachers or references apart."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A score with everything that makes its values comparable: others never share its column or axis."""

    name: str
    protocol: str
    n: int
    reference_digest: str
    higher_is_better: bool

    @classmethod
    def of(cls, score: Score) -> Column:
        """The column of a score."""
        return cls(**{name: getattr(score, name) for name in cls.__dataclass_fields__})

    @property
    def arrow(self) -> str:
        """The direction that is better."""
        return "↑" if self.higher_is_better else "↓"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One value in a column."""

    value: float
    interval: tuple[float, float] | None = None
    decimals: int | None = None
    """As published; None takes the column's."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A scorecard with a label."""

    label: str
    card: Scorecard
    folder: Path
    """The card's files."""

    @property
    def other_values(self) -> str:
        """As JSON, the values of the student's recipe but its guidance: κ may be written in several ways."""
        values = self.card.recipe_values
        return json.dumps({name: values[name] for name in values.keys() - {"strategy", "scales"}}, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One row of a scoreboard, and one marker in its scatter plots."""

    name: str
    note: str = ""
    """What the name does not say."""
    kind: Kind
    readings: dict[Column, Reading]
    styles: tuple[StyleMean, ...] = ()
    reused: bool = False
    """Whether its scores came from the teacher's own scorecard."""
    entry: str = ""
    """Label of its entry."""
    teacher: str = ""
    """Digest of its teacher; a teacher's own digest."""
    strategy: str = ""
    """Guidance of a student; empty if unknown."""
    steps: int = 0
    kappas: tuple[float, float, float, float] | None = None
    other_values: str = ""
    """The entry's."""


def kind_of(subject: SubjectScores) -> Kind:
    """The kind of a scorecard's subject."""
    if subject.steps == 0:
        return "real"
    return "teacher" if subject.subject.startswith("teacher") else "student"


def students_of(card: Scorecard) -> list[SubjectScores]:
    """The student's subjects, one for each way of sampling it."""
    return [subject for subject in card.subjects if kind_of(subject) == "student"]


def contenders(entries: Sequence[Entry]) -> list[Contender]:
    """The subjects of all scorecards: students first, then teachers and real images without repetition."""
    found = [_contender(subject, entry) for entry in entries for subject in entry.card.subjects]
    students, others = [one for one in found if one.kind == "student"], []
    if len(entries) == 1:
        # The name says how the student is sampled; the guidance goes into the note.
        card = entries[0].card
        students = [replace(one, note=_joined(_guidance(card), _images_seen(card), one.note)) for one in students]
        others = [one for one in found if one.kind != "student"]
    else:
        names = dict(zip((entry.label for entry in entries), student_names(entries), strict=True))
        students = [_named_student(one, names[one.entry], entries) for one in students]
        others = _without_repetition([one for kind in ("teacher", "real") for one in found if one.kind == kind])
    if len({one.teacher for one in found if one.teacher}) > 1:
        others = [
            replace(one, name=f"{one.name}, {one.teacher[:DIGEST_SHOWN]}") if one.teacher else one for one in others
        ]
        students = [replace(one, note=f"{one.note} · teacher {one.teacher[:DIGEST_SHOWN]}") for one in students]
    count = Counter(one.name for one in others)
    others = [replace(one, name=f"{one.name} ({one.entry})") if count[one.name] > 1 else one for one in others]
    return [*students, *others]


def student_names(entries: Sequence[Entry]) -> list[str]:
    """The name of each entry's student: its guidance if it is known and all that differs, else the entry's label."""
    if len(entries) == 1:
        return [next((student.subject for student in students_of(entries[0].card)), "student")]
    if len({entry.other_values for entry in entries}) > 1:
        return [entry.label for entry in entries]
    names = [_guidance(entry.card) or entry.label for entry in entries]
    count = Counter(names)
    return [f"{name} ({entry.label})" if count[name] > 1 else name for name, entry in zip(names, entries, strict=True)]


def guidance_name(strategy: str, kappas: tuple[float, float, float, float]) -> str:
    """`lsg κ = 1.5`; for other strategies the κ that differ from 1, as in `short κ2 = κ3 = 0.5`."""
    if strategy == "lsg" and len(set(kappas)) == 1:
        return f"lsg κ = {plain(float(kappas[0]))}"
    names: dict[float, list[str]] = {}
    for index, kappa in enumerate(kappas, 1):
        if kappa != 1:
            names.setdefault(kappa, []).append(f"κ{index}")
    if not names:
        return f"{strategy}, every κ = 1"
    return f"{strategy} " + ", ".join(f"{' = '.join(each)} = {plain(float(kappa))}" for kappa, each in names.items())


def _contender(subject: SubjectScores, entry: Entry) -> Contender:
    card, kind = entry.card, kind_of(subject)
    note = "real-image baseline" if kind == "real" else ""
    # At 1 and below there is no guidance: the pipelines run the conditional pass alone.
    if kind != "real" and subject.guidance_scale > 1:
        note = f"guidance scale {subject.guidance_scale:g}"
    return Contender(
        name=subject.subject,
        note=note,
        kind=kind,
        readings={Column.of(score): Reading(value=score.value, interval=score.interval) for score in subject.scores},
        styles=subject.styles,
        reused=subject.subject in card.reused,
        entry=entry.label,
        teacher="" if kind == "real" else card.teacher_sha256,
        strategy=card.strategy if kind == "student" else "",
        steps=subject.steps,
        kappas=card.kappas,
        other_values=entry.other_values,
    )


def _named_student(one: Contender, name: str, entries: Sequence[Entry]) -> Contender:
    (card,) = (entry.card for entry in entries if entry.label == one.entry)
    steps = f", {one.name.removeprefix('student ')}" if len(students_of(card)) > 1 else ""
    label = one.entry if one.entry not in name else ""
    return replace(one, name=name + steps, note=_joined(label, _images_seen(card), one.note))


def _guidance(card: Scorecard) -> str:
    return guidance_name(card.strategy, card.kappas) if card.strategy and card.kappas is not None else ""


def _images_seen(card: Scorecard) -> str:
    return "" if card.images_seen is None else f"{counted(card.images_seen, 'image', 'images')} seen"


def _joined(*parts: str) -> str:
    return " · ".join(part for part in parts if part)


def _without_repetition(found: Sequence[Contender]) -> list[Contender]:
    """Merge rows of one name, note and teacher whose values agree wherever both have them."""
    kept: list[Contender] = []
    for one in found:
        index = next((i for i, other in enumerate(kept) if _agree(one, other)), None)
        if index is None:
            kept.append(one)
        else:
            other = kept[index]
            kept[index] = replace(
                other,
                readings={**one.readings, **other.readings},
                styles=tuple(dict.fromkeys((*other.styles, *one.styles))),
                reused=other.reused and one.reused,
            )
    return kept


def _agree(one: Contender, other: Contender) -> bool:
    ours, theirs = ({(each.protocol, each.style): each for each in row.styles} for row in (one, other))
    return (
        (one.kind, one.name, one.note, one.teacher) == (other.kind, other.name, other.note, other.teacher)
        and all(one.readings[c].value == other.readings[c].value for c in one.readings.keys() & other.readings.keys())
        and all(ours[style] == theirs[style] for style in ours.keys() & theirs.keys())
    )


IMAGES = 30_000
CLIP = "clip/vit-g-14-photo-depicts"
"""Images and CLIP protocol of every published result."""


def published_contenders(columns: Sequence[Column], published: Mapping[str, Sequence[Published]]) -> list[Contender]:
    """Published results, by recipe, that share a protocol with one of the measured columns."""
    rows = []
    for recipe, results in published.items():
        for result in results:
            readings = {}
            for name, protocol, value, decimals in (
                ("fid", result.protocol, result.fid, 2),
                ("clip", CLIP, result.clip, 3),
            ):
                same = [each for each in columns if (each.name, each.protocol, each.n) == (name, protocol, IMAGES)]
                # With several references, the published one is unknown.
                if len(same) == 1:
                    readings[same[0]] = Reading(value=value, decimals=decimals)
            if readings:
                seen = f"{result.images_seen / 1e6:g} M"
                name = f"{recipe}, {seen}" if len(results) > 1 else recipe
                note = f"published, {seen} images seen"
                rows.append(Contender(name=name, note=note, kind="published", readings=readings))
    return rows
