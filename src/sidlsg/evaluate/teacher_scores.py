"""A teacher's own scores, kept beside its files so that they need not be computed at each evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.storage.records import Record, Score, SubjectScores
from sidlsg.teacher.setting import Setting


class ComparableProtocols(Protocol):
    """Protocols that say which stored scores still hold."""

    @property
    def digests(self) -> Mapping[str, str]:
        """By protocol, the digest of what a score is relative to."""

    def is_comparable(self, score: Score) -> bool:
        """Whether a stored score has this very protocol, count and reference."""


CFG = 3.0
"""The guidance scale of the settings "with CFG"."""
TEACHER_SETTINGS: dict[str, tuple[int, float]] = {
    "teacher 50 steps, CFG": (50, CFG),
    "teacher 50 steps": (50, 1.0),
    "teacher 20 steps, CFG": (20, CFG),
    "teacher 20 steps": (20, 1.0),
    "teacher 4 steps, CFG": (4, CFG),
    "teacher 4 steps": (4, 1.0),
    "teacher 1 step, CFG": (1, CFG),
    "teacher 1 step": (1, 1.0),
}
"""Steps and guidance scale by subject; at scale 1 only the conditional pass runs."""


def setting_of(name: str) -> Setting:
    """How the teacher is sampled in a setting of that name."""
    steps, guidance_scale = TEACHER_SETTINGS[name]
    return Setting(steps=steps, guidance_scale=guidance_scale)


def require_settings(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each of which must be a setting's.

    Raises:
        InputError: one is not; the nearest is suggested.
    """
    for name in names:
        if name not in TEACHER_SETTINGS:
            raise InputError(
                f"the teacher has no setting {name!r}{nearest(name, TEACHER_SETTINGS)}; allowed: "
                f"{'; '.join(TEACHER_SETTINGS)}"
            )
    return tuple(names)


@dataclass(frozen=True, kw_only=True)
class TeacherScores(Record):
    """Scores of a teacher's folder."""

    FILE: ClassVar[str] = "teacher_scores.json"
    teacher_sha256: str
    """Digest of the model files that were scored."""
    subjects: tuple[SubjectScores, ...]


def read_teacher_scores(teacher: Path, teacher_sha256: str, protocols: ComparableProtocols) -> dict[str, SubjectScores]:
    """The stored scores that hold for these files: all protocols, each with this very count and reference.

    Raises:
        InputError: the file of scores is damaged.
    """
    if not (teacher / TeacherScores.FILE).is_file():
        return {}
    stored = TeacherScores.load(teacher)
    if stored.teacher_sha256 != teacher_sha256:
        return {}
    return {subject.subject: subject for subject in stored.subjects if _holds(subject, protocols)}


def _holds(subject: SubjectScores, protocols: ComparableProtocols) -> bool:
    as_now = TEACHER_SETTINGS.get(subject.subject) == (subject.steps, subject.guidance_scale)
    complete = {score.protocol for score in subject.scores} == set(protocols.digests)
    return as_now and complete and all(protocols.is_comparable(score) for score in subject.scores)
