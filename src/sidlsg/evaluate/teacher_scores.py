"""A teacher's own scores, stored beside its files so that evaluations can reuse them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from sidlsg.runtime.errors import InputError, nearest
from sidlsg.storage.records import Record, Score, SubjectScores
from sidlsg.teacher.setting import Setting


class ComparableProtocols(Protocol):
    """Protocols that can tell which stored scores are still valid."""

    @property
    def digests(self) -> Mapping[str, str]:
        """Reference digest by protocol."""

    def is_comparable(self, score: Score) -> bool:
        """Whether a stored score has the same protocol, count and reference."""


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
    """The setting of a name."""
    steps, guidance_scale = TEACHER_SETTINGS[name]
    return Setting(steps=steps, guidance_scale=guidance_scale)


def require_settings(names: Sequence[str]) -> tuple[str, ...]:
    """Check the names of settings; raises InputError with the nearest name for an unknown one."""
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
    """Digest of the scored model files."""
    subjects: tuple[SubjectScores, ...]


def read_teacher_scores(teacher: Path, teacher_sha256: str, protocols: ComparableProtocols) -> dict[str, SubjectScores]:
    """The stored subjects that are valid for these model files and have a comparable score of every protocol."""
    if not (teacher / TeacherScores.FILE).is_file():
        return {}
    stored = TeacherScores.load(teacher)
    if stored.teacher_sha256 != teacher_sha256:
        return {}
    return {subject.subject: subject for subject in stored.subjects if _is_valid(subject, protocols)}


def _is_valid(subject: SubjectScores, protocols: ComparableProtocols) -> bool:
    as_now = TEACHER_SETTINGS.get(subject.subject) == (subject.steps, subject.guidance_scale)
    complete = {score.protocol for score in subject.scores} == set(protocols.digests)
    return as_now and complete and all(protocols.is_comparable(score) for score in subject.scores)
